"""Shares of variance, groups without a difference, floors, failures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import HpskitError, ImageError, InputError, ModelError
from hpskit.reward import Calibration, Mixture, Reward, advantages
from hpskit.reward.mixing import Reference, budgeted
from hpskit.scoring.scorer import load_scorer


def correlated(seed: int, count: int, k: int, rho: float) -> dict[str, torch.Tensor]:
    """Scores of very different scale that share a part."""
    random = np.random.default_rng(seed)
    common = random.normal(size=count)
    parts = {}
    for n in range(k):
        sign = -1 if n % 2 and rho < 0 else 1
        own = random.normal(size=count)
        parts[f"s{n}"] = torch.tensor(
            10.0 ** (n - 1) * (sign * math.sqrt(abs(rho)) * common + math.sqrt(1 - abs(rho)) * own) + 5 * n
        )
    return parts


@given(
    seed=st.integers(0, 1000),
    rho=st.floats(-0.6, 0.95),
    weights=st.lists(st.floats(0.05, 1), min_size=2, max_size=4),
)
def test_each_component_has_its_weight_in_the_variance(seed: int, rho: float, weights: list[float]) -> None:
    parts = correlated(seed, 96, len(weights), rho)
    named = dict(zip(parts, weights, strict=True))
    found = advantages(parts, named, group_ids=[k // 8 for k in range(96)])
    for name, weight in named.items():
        assert found.shares[name] == pytest.approx(weight / sum(weights), abs=0.01)
    # What the shares mean, by their definition and from outside: the covariance with the sum.
    for start in range(0, 96, 8):
        assert float(found.values[start : start + 8].mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.values.std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_two_uncorrelated_parts_of_equal_weight_are_added_as_they_are() -> None:
    assert budgeted(np.eye(2), [1, 1]) == pytest.approx(np.array([1, 1]) / math.sqrt(2), abs=1e-5)
    assert budgeted(np.eye(2), [0.8, 0.2]) == pytest.approx(np.sqrt([0.8, 0.2]), abs=1e-5)


def test_opposites_and_parts_without_variance_stay_finite() -> None:
    assert np.isfinite(budgeted(np.array([[1, -1], [-1, 1]]), [0.5, 0.5])).all()
    assert budgeted(np.array([[0, 0], [0, 4]]), [0.5, 0.5]) == pytest.approx([0, 0.5], abs=1e-5)
    assert budgeted(np.zeros((2, 2)), [0.5, 0.5]).tolist() == [0, 0]


@given(
    seed=st.integers(0, 10_000),
    logs=st.lists(st.floats(-4, 0), min_size=2, max_size=5),
)
@example(seed=-1, logs=[math.log10(0.95), math.log10(0.05)])
def test_multipliers_are_above_0_with_any_weights(seed: int, logs: list[float]) -> None:
    k = len(logs)
    if seed < 0:
        matrix = np.array([[1, 0.7], [0.7, 1]])
    else:
        some = np.random.default_rng(seed).normal(size=(k, 3 * k))
        matrix = np.corrcoef(some + 2 * some[0])
    weights = 10.0 ** np.array(logs)
    found = budgeted(matrix, weights.tolist())
    assert (found > 0).all()
    assert found * (matrix @ found) == pytest.approx(weights / weights.sum(), abs=1e-3)


def test_a_group_without_difference_is_named_and_teaches_nothing() -> None:
    scores = torch.tensor([1.0, 2, 3, 7, 7, 7, 4, 5, 9])
    found = advantages({"a": scores}, {"a": 1}, group_ids=["x"] * 3 + ["y"] * 3 + ["z"] * 3)
    assert found.without_difference == {"a": ["y"]}
    assert found.values[3:6].tolist() == [0, 0, 0]
    assert float(found.values[:3].abs().sum()) > 1


def test_tiny_differences_are_not_enlarged_beyond_the_floor() -> None:
    """NeMo-RL #4161: advantages of thousands from a deviation near 0."""
    noise = torch.tensor([0, 1e-7, -1e-7, 0])
    scores = torch.cat([torch.tensor([1.0, 2, 3, 4]), 5 + noise])
    found = advantages({"a": scores}, {"a": 1}, group_ids=[0] * 4 + [1] * 4)
    assert float(found.values[4:].abs().max()) < 1e-3
    explicit = advantages({"a": scores}, {"a": 1}, group_ids=[0] * 4 + [1] * 4, floors={"a": 10.0})
    assert float(explicit.values[:4].abs().max()) > float(explicit.values[4:].abs().max()) * 100


def test_a_batch_of_noise_is_not_enlarged() -> None:
    noise = 1e-6 * torch.randn(64, generator=torch.Generator().manual_seed(1))
    groups = [k // 4 for k in range(64)]
    floors = {"a": 1e-3, "b": 1e-3}
    found = advantages({"a": noise, "b": noise.flip(0)}, {"a": 1, "b": 1}, group_ids=groups, floors=floors)
    assert float(found.values.abs().max()) < 0.01


def test_one_group_with_a_difference_does_not_count_for_all() -> None:
    few, all_ = torch.zeros(64), torch.randn(64, generator=torch.Generator().manual_seed(2))
    few[:4] = torch.tensor([1.0, 2, 3, 4])
    groups = [k // 4 for k in range(64)]
    alone = advantages({"a": few}, {"a": 1}, group_ids=groups)
    assert float(alone.values[:4].std(correction=0)) == pytest.approx(1, abs=1e-5)
    both = advantages({"a": few, "b": all_}, {"a": 1, "b": 1}, group_ids=groups)
    assert float(both.values.abs().max()) < 2.5


@given(value=st.floats(-100, 100), size=st.integers(2, 12))
@example(value=0.1, size=6)
def test_equal_scores_differ_by_no_rounding(value: float, size: int) -> None:
    scores = torch.full((size,), value, dtype=torch.float64)
    found = advantages({"a": scores}, {"a": 1}, group_ids=[0] * size)
    assert found.values.tolist() == [0] * size
    assert found.without_difference == {"a": ["0"]}


@pytest.mark.parametrize("make", [torch.tensor, np.array, lambda ids: [torch.tensor(one) for one in ids]])
def test_marks_are_compared_by_value(make: Any) -> None:
    scores, ids = torch.tensor([1.0, 2, 3, 5]), [7, 7, 8, 8]
    wanted = advantages({"a": scores}, {"a": 1}, group_ids=ids)
    assert torch.equal(advantages({"a": scores}, {"a": 1}, group_ids=make(ids)).values, wanted.values)


@pytest.mark.parametrize(
    ("parts", "groups", "place"),
    [
        ({"a": [1.0, 2.0]}, [0], "group_ids"),
        ({"a": [1.0, 2.0]}, [0, 1], "group_ids"),
        ({"a": [1.0, math.nan]}, [0, 0], "scores of a"),
        ({"a": [1.0, math.inf]}, [0, 0], "scores of a"),
        ({"b": [1.0, 2.0]}, [0, 0], "weights"),
        ({"a": [1.0, 2.0]}, [[0], [0]], "group_ids[0]"),
        ({"a": [math.nan, math.nan]}, [0, 0], "components"),
    ],
)
def test_bad_input(parts: dict[str, list[float]], groups: list[int], place: str) -> None:
    with pytest.raises(InputError, check=at(place)):
        advantages({name: torch.tensor(values) for name, values in parts.items()}, {"a": 1.0}, group_ids=groups)


PIXELS = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(3))
PROMPTS = ["a cat"] * 4 + ["a dog"] * 4


@pytest.fixture(scope="module")
def mini() -> Reward:
    return Reward(load_scorer("mini", precision="fp32", device="cpu"))


@pytest.fixture(scope="module")
def chance() -> Reward:
    return Reward(load_scorer("random", device="cpu"))


def calibration(mini: Reward, chance: Reward) -> Calibration:
    return Calibration(
        images=8,
        prompts=2,
        data="test",
        scorers={
            "mini": Reference(identity=mini.scorer.info.identity, mean=1.0, deviation=2.0),
            "random": Reference(identity=chance.scorer.info.identity, mean=0.0, deviation=0.5),
        },
        correlation={"mini": {"mini": 1.0, "random": 0.0}, "random": {"mini": 0.0, "random": 1.0}},
    )


def test_a_mixture_is_the_sum_of_calibrated_scores(mini: Reward, chance: Reward, tmp_path: Path) -> None:
    made = calibration(mini, chance)
    (tmp_path / "calibration.json").write_text(made.model_dump_json())
    mixed = Mixture({"mini": (mini, 3), "random": (chance, 1)}, calibration=tmp_path / "calibration.json")
    parts = mixed.components(PIXELS, PROMPTS, value_range=(0, 1))
    by_hand = math.sqrt(0.75) * (parts["mini"] - 1) / 2 + math.sqrt(0.25) * parts["random"] / 0.5
    assert torch.allclose(mixed(PIXELS, PROMPTS, value_range=(0, 1)), by_hand, atol=1e-4)
    found = mixed.advantages(PIXELS, PROMPTS, group_ids=PROMPTS, value_range=(0, 1))
    assert found.shares == pytest.approx({"mini": 0.75, "random": 0.25}, abs=0.01)
    assert set(found.components) == {"mini", "random"}


def test_calibration_must_be_of_the_same_scorers(mini: Reward, chance: Reward) -> None:
    made = calibration(mini, chance)
    with pytest.raises(InputError, check=at("calibration", found="'third'")):
        Mixture({"third": (mini, 1)}, calibration=made)
    made.scorers["mini"] = Reference(identity="another", mean=0, deviation=1)
    with pytest.raises(InputError, check=at("calibration of mini", found="another")):
        Mixture({"mini": (mini, 1)}, calibration=made)
    with pytest.raises(InputError, check=at("mixture", cure="hpskit reward calibrate")):
        Mixture({"mini": (mini, 1)})(PIXELS, PROMPTS, value_range=(0, 1))


class _Failing(Reward):
    def __call__(self, *_: object, **__: object) -> torch.Tensor:
        raise ModelError("the other machine", "does not answer")


def test_what_fails_is_no_zero(mini: Reward, chance: Reward) -> None:
    """UniRL #232: a component for monitoring must not end the run; flow_grpo #18: and must not count as 0."""
    failing = _Failing(chance.scorer)
    with pytest.raises(ModelError):
        Mixture({"mini": (mini, 1), "dead": (failing, 1)}).components(PIXELS, PROMPTS, value_range=(0, 1))
    mixed = Mixture({"mini": (mini, 1), "dead": (failing, 1)}, required={"dead": False})
    with pytest.warns(UserWarning, match="dead failed"):
        found = mixed.advantages(PIXELS, PROMPTS, group_ids=PROMPTS, value_range=(0, 1))
    assert bool(found.components["dead"].isnan().all())
    assert found.shares == pytest.approx({"mini": 1.0})
    alone = Mixture({"dead": (failing, 1)}, required=False)
    with pytest.warns(UserWarning, match="dead"), pytest.raises(InputError, check=at("rewards")):
        alone.components(PIXELS, PROMPTS, value_range=(0, 1))


class _Refusing(Reward):
    """A judge whose server is down, or that refuses an image."""

    error: HpskitError = InputError("server", "does not answer")

    def __call__(self, *_: object, **__: object) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize("error", [InputError("server", "does not answer"), ImageError("image 3", "is refused")])
def test_a_judge_that_does_not_answer_ends_no_run(mini: Reward, chance: Reward, error: HpskitError) -> None:
    judge = _Refusing(chance.scorer)
    judge.error = error
    mixed = Mixture({"mini": (mini, 1), "judge": (judge, 1)}, required={"judge": False})
    with pytest.warns(UserWarning, match="judge failed"):
        found = mixed.components(PIXELS, PROMPTS, value_range=(0, 1))
    assert bool(found["judge"].isnan().all())
    assert bool(found["mini"].isfinite().all())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"prompts": PROMPTS[:3]}, "prompts"),
        ({"prompts": ["a.png"] * 8}, "prompts[0]"),
        ({"value_range": None}, "images"),
        ({"value_range": (0, 255)}, "value_range"),
    ],
)
def test_wrong_arguments_are_no_failure_of_a_component(mini: Reward, change: dict[str, Any], place: str) -> None:
    given = {"images": PIXELS, "prompts": PROMPTS, "value_range": (0, 1)} | change
    with pytest.raises(InputError, check=at(place)):
        Mixture({"mini": (mini, 1)}, required=False).components(**given)


def test_what_cannot_be_mixed(mini: Reward, chance: Reward, tmp_path: Path) -> None:
    both = {"mini": (mini, 1.0), "random": (chance, 1.0)}
    made = calibration(mini, chance).model_dump() | {"correlation": {}}
    with pytest.raises(InputError, check=at("calibration: correlation of mini and random")):
        Mixture(both, calibration=Calibration(**made))
    with pytest.raises(InputError, check=at("required: randm", cure="'random'")):
        Mixture(both, required={"randm": False})
    with pytest.raises(InputError, check=at("components")):
        advantages({}, {}, group_ids=[0, 0])
    dead = {"mini": torch.full((8,), math.nan), "random": torch.full((8,), math.nan)}
    with pytest.raises(InputError, check=at("components")):
        Mixture(both, calibration=calibration(mini, chance)).total(dead)
    (tmp_path / "other.json").write_text(json.dumps(made | {"format": "hpskit calibration 9"}))
    with pytest.raises(InputError, check=at(f"{tmp_path / 'other.json'}: format")):
        Calibration.read(tmp_path / "other.json")


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, "1"])
def test_weights_are_positive_numbers(mini: Reward, weight: float) -> None:
    with pytest.raises(InputError, check=at("weight of mini")):
        Mixture({"mini": (mini, weight)})


def test_scorers_are_mixed_by_name() -> None:
    found = Mixture({"mini": 3, "chance": ("random", 1.0)})
    assert {name: reward.name for name, reward in found.rewards.items()} == {"mini": "mini", "chance": "random"}
    assert found.weights == {"mini": 0.75, "chance": 0.25}
    assert found.rewards["mini"].scorer is Reward("mini").scorer


def test_each_watch_is_told_the_groups(mini: Reward) -> None:
    """Without them one image each of many prompts would look like a group that has collapsed."""
    told: list[Any] = []

    class Listening(Reward):
        def __call__(self, *args: Any, **options: Any) -> torch.Tensor:
            told.append(options["group_ids"])
            return super().__call__(*args, **options)

    mixture = Mixture({"mini": (Listening(mini.scorer), 1.0)})
    mixture.advantages(PIXELS, PROMPTS, group_ids=[0, 0, 0, 0, 1, 1, 1, 1], value_range=(0, 1))
    assert told == [[0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("both", [(7, 0.7), Reward, (0.7,), "mini"])
def test_what_is_no_reward_with_a_weight_is_named(both: Any) -> None:
    with pytest.raises(InputError, check=at("components: mine", expected="a weight, or a reward and its weight")):
        Mixture({"mine": both})
