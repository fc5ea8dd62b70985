"""The gate: where it opens, what it takes off, and the gradient behind it. What it is worth: benchmarks/gate.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from conftest import TINY
from error_fields import at
from hpskit.errors import InputError
from hpskit.reward import Calibration, Gate, Reward, as_flow_grpo
from hpskit.reward.mixing import Reference
from hpskit.scoring.scorer import load_scorer

PROMPTS = ["a cat"] * 4 + ["a dog"] * 4


@pytest.fixture(scope="module")
def proxy(tiny_checkpoint: Path) -> Reward:
    return Reward(load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu"))


@pytest.fixture(scope="module")
def other(proxy: Reward, tmp_path_factory: pytest.TempPathFactory) -> Reward:
    """The same kind of network with other weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("other") / "other.pt"
    torch.save({"state_dict": open_clip.create_model(TINY, load_weights=False).state_dict()}, path)
    return Reward(load_scorer(path, arch=TINY, precision="fp32", device="cpu"))


@pytest.fixture(scope="module")
def calibration(proxy: Reward, other: Reward) -> Calibration:
    """By which some of these images please the proxy more than the other, and some less."""
    scores = {reward.name: reward.scorer.score(pixels(), PROMPTS) for reward in (proxy, other)}
    return Calibration(
        images=8,
        prompts=2,
        data="noise",
        scorers={
            reward.name: Reference(
                identity=reward.scorer.info.identity,
                mean=float(scores[reward.name].mean()),
                deviation=float(scores[reward.name].std()),
            )
            for reward in (proxy, other)
        },
        correlation={},
    )


def pixels() -> Tensor:
    return torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def test_the_lead_of_the_proxy_counts_less(proxy: Reward, other: Reward, calibration: Calibration) -> None:
    gate = Gate(proxy, {"other": other}, calibration=calibration, margin=0.2, strength=0.7)
    parts = gate.components(pixels(), PROMPTS, value_range=(0, 1))
    own, seen = ((parts[name] - calibration.scorers[name].mean) / calibration.scorers[name].deviation for name in parts)
    wanted = torch.where(own - seen > 0.2, own - 0.7 * (own - seen - 0.2), own)
    assert 0 < int((own - seen > 0.2).sum()) < 8
    assert torch.allclose(gate(pixels(), PROMPTS, value_range=(0, 1)), wanted, atol=1e-5)
    named, _ = as_flow_grpo(gate)(pixels(), PROMPTS)
    assert torch.allclose(named["avg"], wanted, atol=1e-5)
    found = gate.advantages(pixels(), PROMPTS, group_ids=PROMPTS, value_range=(0, 1))
    assert float(found.values[:4].mean()) == pytest.approx(0, abs=1e-5)
    assert set(found.components) == {proxy.name, "other"}


def test_with_groups_the_offsets_of_prompts_do_not_matter(
    proxy: Reward, other: Reward, calibration: Calibration
) -> None:
    """A prompt that the proxy likes better than the other does is not held back as a whole."""

    class Shifted(Reward):
        by = 0.0

        def __call__(self, *args: Any, **options: Any) -> Tensor:
            return super().__call__(*args, **options) + self.by * torch.tensor([1.0] * 4 + [-1.0] * 4)

    values, means = [], []
    for by in (0.0, 50.0):
        shifted = Shifted(proxy.scorer)
        shifted.by = by
        gate = Gate(shifted, {"other": other}, calibration=calibration)
        values.append(gate.advantages(pixels(), PROMPTS, group_ids=PROMPTS, value_range=(0, 1)).values)
        means.append(gate(pixels(), PROMPTS, group_ids=PROMPTS, value_range=(0, 1)).view(2, 4))
    assert torch.allclose(values[0], values[1], atol=1e-3)
    centred = [own - own.mean(dim=1, keepdim=True) for own in means]
    assert torch.allclose(*centred, atol=1e-3)
    alone = gate(pixels(), PROMPTS, group_ids=range(8), value_range=(0, 1))
    assert torch.equal(alone, gate(pixels(), PROMPTS, value_range=(0, 1)))


def test_its_gradient_is_that_of_both_where_the_proxy_leads(
    proxy: Reward, other: Reward, calibration: Calibration
) -> None:
    def slope(reward: Any) -> Tensor:
        images = pixels().requires_grad_()
        reward(images, PROMPTS, value_range=(0, 1), grad=True).sum().backward()
        assert images.grad is not None
        return images.grad

    gate = Gate(proxy, {"other": other}, calibration=calibration, strength=0.25)
    own, seen = (slope(reward) / calibration.scorers[reward.name].deviation for reward in (proxy, other))
    scores = {r.name: r(pixels(), PROMPTS, value_range=(0, 1)) for r in (proxy, other)}
    z = [(scores[n] - calibration.scorers[n].mean) / calibration.scorers[n].deviation for n in scores]
    leads = (z[0] > z[1])[:, None, None, None]
    wanted = torch.where(leads, 0.75 * own + 0.25 * seen, own)
    assert float((slope(gate) - wanted).norm() / wanted.norm()) < 1e-3


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"strength": 0.0}, "strength"),
        ({"strength": 1.5}, "strength"),
        ({"auxiliaries": {}}, "auxiliaries"),
        ({"auxiliaries": {"third": None}}, "calibration"),
    ],
)
def test_bad_options(
    proxy: Reward, other: Reward, calibration: Calibration, change: dict[str, Any], place: str
) -> None:
    given = {"auxiliaries": {"other": other}, "calibration": calibration} | change
    given["auxiliaries"] = {name: reward or other for name, reward in given["auxiliaries"].items()}
    with pytest.raises(InputError, check=at(place)):
        Gate(proxy, **given)
