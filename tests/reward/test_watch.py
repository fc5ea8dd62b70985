"""The watch: planted hacks are found, honest runs are left alone; the log, the page, the worst images."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import Cli
from error_fields import at
from hacked_images import blurred, collapsed, grid, noisy, saturated, scenes, seamed
from hpskit.errors import InputError
from hpskit.pixels import to_image
from hpskit.reward import Reward
from hpskit.reward.sighting import SIGNS
from hpskit.reward.signs import measure
from hpskit.reward.watch import Watch
from hpskit.scoring.scorer import load_scorer


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small images on many threads mostly wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(watch: Watch, steps: int, seed: int, hack: Any = None, rise: float = 0.05, begin: int = 24) -> int | None:
    """The first step with an alarm; the hack grows and the reward rises from `begin` on."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    for step in range(1, steps + 1):
        later = max(0, step - begin)
        images = scenes(chance, 16)
        if hack is not None:
            images = hack(images, min(1.0, later / 40)).clamp(0, 1)
        prompts = [f"prompt {k // 4}" for k in range(16)]
        rewards = [chance.gauss(0, 1) + rise * later for _ in range(16)]
        if watch.see(images, prompts, rewards, step=step).alarm:
            return step
    return None


@pytest.mark.parametrize("hack", [grid, saturated, noisy, blurred, seamed, collapsed])
def test_a_hack_is_found_before_it_is_half_grown(hack: Any) -> None:
    found = run(Watch(one_in=4), 64, 1, hack)
    assert found is not None
    assert 24 < found <= 24 + 20


def test_an_honest_rise_is_no_alarm() -> None:
    assert run(Watch(), 120, 2, rise=0.05) is None


def test_a_hack_without_a_rising_reward_is_no_alarm() -> None:
    """Statistics change when a trainer changes its prompts: that alone is information."""
    watch = Watch(one_in=4)
    assert run(watch, 64, 3, saturated, rise=0) is None


class Held:
    """A held-out scorer whose score is the brightness."""

    def score(self, images: Any, prompts: Any) -> Tensor:
        return torch.tensor([float(image.mean()) for image in images])


def test_a_falling_held_out_score_is_evidence(tmp_path: Path) -> None:
    def darker(x: Tensor, s: float) -> Tensor:
        return x - 0.02 * s

    held = Watch(one_in=1, held_out=Held())  # type: ignore[arg-type]
    chance = random.Random(5)
    seen = []
    for step in range(60):
        images = scenes(chance, 16) if step < 20 else scenes(chance, 16) * 0.7
        seen.append(held.see(images, [f"p{k // 4}" for k in range(16)], [chance.gauss(0, 1) + (step > 20) * 3] * 16))
    assert any(one.falls for one in seen[20:])
    assert not any(one.falls for one in seen[:20])


def test_a_fall_of_scores_with_long_tails_is_found_in_seven_steps() -> None:
    """Few of them are far away; all fall by 0.8 of their deviation, 2.2 of a step's error: 1.2 sum up a step."""
    scores: list[float] = []

    class Given:
        def score(self, images: Any, prompts: Any) -> Tensor:
            return torch.tensor(scores)

    watch = Watch(one_in=1, held_out=Given())  # type: ignore[arg-type]
    images, prompts = torch.rand(16, 3, 16, 16), [f"p{k // 4}" for k in range(16)]
    seen = []
    for step in range(26):
        rare = {3: 4.0, 7: -4.0, 11: 4.0, 15: -4.0}.get(step, 0.0)
        scores[:] = [rare * (k < 4) - 0.8 * (step >= 16) for k in range(16)]
        seen.append(watch.see(images, prompts, [0.0] * 16))
    assert [one.falls for one in seen].index(True) == 16 + 6


def test_the_five_worst_images_are_named() -> None:
    watch = Watch(one_in=1, reference=64)
    chance = random.Random(1)
    prompts = [f"p{k // 4}" for k in range(16)]
    for _ in range(10):
        watch.see(scenes(chance, 16), prompts, [chance.gauss(0, 1) for _ in range(16)])
    for step in range(20):
        images = scenes(chance, 16)
        images[3] = grid(saturated(images[3:4], 1), 1).clamp(0, 1)[0]
        images[9] = grid(saturated(images[9:10], 1), 1).clamp(0, 1)[0]
        names = [f"step{step}/{k}.png" for k in range(16)]
        seen = watch.see(images, prompts, [chance.gauss(5, 1) for _ in range(16)], names=names)
    assert seen.alarm
    assert len(seen.worst) == 5
    assert {f"step{19}/3.png", f"step{19}/9.png"} == set(seen.worst[:2])


def test_groups_without_difference_are_named() -> None:
    seen = Watch(one_in=1).see(torch.rand(4, 3, 32, 32), ["a", "a", "b", "b"], [1.0, 1.0, 1.0, 2.0])
    assert seen.same == ["a"]


@pytest.mark.parametrize("count", [5, 7, 8, 16])
def test_every_place_is_looked_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of the batch: by the mark that each image of it carries in its brightness."""
    looked: list[float] = []
    monkeypatch.setattr("hpskit.reward.watch.measure", lambda x: (looked.append(float(x.max())), measure(x))[1])
    images = (torch.arange(count) / 16).view(count, 1, 1, 1).expand(count, 3, 16, 16)
    watch = Watch()
    for _ in range(8):
        watch.see(images, ["a"] * count, [1.0] * count)
    assert set(looked) == {k / 16 for k in range(count)}


def test_the_reference_has_eight_steps_even_if_a_small_one_ends_it() -> None:
    watch = Watch(reference=16)
    steps = [watch.see(torch.rand(n, 3, 16, 16), ["a"] * n, torch.rand(n)) for n in (64, *[1] * 9)]
    assert [bool(seen.z) for seen in steps] == [False] * 8 + [True] * 2


def test_groups_by_a_tensor_are_those_of_its_values() -> None:
    images, rewards = torch.rand(4, 3, 16, 16), [1.0, 1, 1, 2]
    found = [Watch(one_in=1).see(images, list("abcd"), rewards, group_ids=ids) for ids in TWO_GROUPS]
    assert found[0].same == ["0"]
    assert found[0] == found[1]


TWO_GROUPS: list[Any] = [[0, 0, 1, 1], torch.tensor([0, 0, 1, 1])]


def test_threads_see_each_step_once(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "log.jsonl")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            pool.submit(watch.see, torch.rand(4, 3, 16, 16), list("aabb"), [1.0, 2, 3, 4])
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))


def test_a_log_without_a_comparison_is_no_all_clear(tmp_path: Path, cli: Cli) -> None:
    watch = Watch(tmp_path / "short.jsonl")
    for _ in range(3):
        watch.see(torch.rand(4, 3, 16, 16), list("aabb"), [1.0, 2, 3, 4])
    shown = cli("reward", "watch", tmp_path / "short.jsonl")
    assert shown.returncode == 0, shown.stderr
    assert "no alarm" not in shown.stdout
    assert "nothing was compared" in shown.stdout
    page = (tmp_path / "short.html").read_text()
    assert "Nothing compared yet" in page
    assert "Signs of hacking" not in page, "charts of nothing"
    assert "No alarm" not in page


def test_log_and_page(tmp_path: Path, cli: Cli) -> None:
    log = tmp_path / "watch.jsonl"
    found = run(Watch(log, one_in=4), 60, 1, saturated)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == found
    assert set(lines[0]["signs"]) >= set(SIGNS)
    assert lines[0]["z"] == {}
    shown = cli("reward", "watch", log, "--out", tmp_path / "watch.html")
    assert shown.returncode == 1, shown.stderr
    assert f"step {found}" in shown.stdout
    page = (tmp_path / "watch.html").read_text()
    assert f"Alarm at step {found}" in page
    assert "saturation of the colours" in page


def test_a_reward_lets_its_watch_look(tmp_path: Path) -> None:
    """At every kind of image that it takes, decoded to the same pixels."""
    images, prompts = scenes(random.Random(1), 4, side=32), ["a", "a", "b", "b"]
    pictures = [to_image(image) for image in images]
    shown = (255 * images).round() / 255
    lines = []
    for given, options in (
        (pictures, {}),
        (shown, {"value_range": (0, 1)}),
        ([*(2 * shown - 1)], {"value_range": (-1, 1)}),
        ((255 * shown).round().byte(), {}),
    ):
        log = tmp_path / f"{len(lines)}.jsonl"
        reward = Reward(load_scorer("random", device="cpu"), watch=Watch(log, one_in=1))
        reward(given, prompts, step=7, **options)
        lines.append(json.loads(log.read_text()))
    assert {line["step"] for line in lines} == {7}
    for line in lines[1:]:
        assert line["signs"] == pytest.approx(lines[0]["signs"], abs=1e-4)


def test_a_reward_says_that_an_alarm_begins(tmp_path: Path) -> None:
    """Once, not at each step; the watch itself gives it to who calls it."""
    chance, watch = random.Random(1), Watch(one_in=1, reference=64)
    (tmp_path / "red.py").write_text(
        "class Red:\n    def score(self, images, prompts):\n"
        "        return [10.0 * image.getpixel((0, 0))[0] for image in images]\n"
    )
    reward = Reward(f"{tmp_path / 'red.py'}:Red", watch=watch)
    said = []
    for step in range(40):
        images = scenes(chance, 16)
        if step >= 12:
            images = grid(saturated(images, 1), 1).clamp(0, 1)
        images[:, :, 0, 0] = chance.random() + (step >= 12)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reward(images / 2, [f"p{k // 4}" for k in range(16)], value_range=(0, 1), step=step)
        said += [str(one.message) for one in caught]
    (alarm,) = said
    assert "the reward had risen" in alarm
    assert "had left their range; look at step" in alarm


def test_tensorboard(tmp_path: Path) -> None:
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(tmp_path)
    Watch(board=writer).see(torch.rand(4, 3, 32, 32), list("abcd"), [1.0, 2, 3, 4], step=7)
    writer.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (point,) = events.Scalars("watch/reward")
    assert (point.step, point.value) == (7, 2.5)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"rewards": [1.0, float("nan")]}, "rewards[1]"),
        ({"rewards": [1.0]}, "images"),
        ({"prompts": ["a"]}, "prompts"),
        ({"group_ids": ["a"]}, "group_ids"),
        ({"names": ["a"]}, "names"),
        ({"embeddings": torch.rand(3, 8)}, "embeddings"),
        ({"embeddings": torch.rand(2)}, "embeddings"),
    ],
)
def test_bad_input(change: dict[str, Any], place: str) -> None:
    given = {"images": torch.rand(2, 3, 32, 32), "prompts": ["a", "b"], "rewards": [1.0, 2.0]} | change
    with pytest.raises(InputError, check=at(place)):
        Watch().see(**given)


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (16, 16), (257, 300)])
def test_signs_of_any_size_are_finite(size: tuple[int, int]) -> None:
    for images in (torch.rand(1, 3, *size), torch.zeros(1, 3, *size), torch.ones(1, 3, *size)):
        found = measure(images)
        assert found.shape == (1, len(SIGNS))
        assert bool(found.isfinite().all())


def test_each_sign_moves_with_what_it_names() -> None:
    images = scenes(random.Random(7), 6, side=256)
    clean = measure(images).median(0).values
    moved = {
        "saturation": saturated(images, 0.5),
        "brightness": images * 0.5 + 0.5,
        "contrast": (images - 0.5) * 0.5 + 0.5,
        "noise": noisy(images, 0.3),
        "periodic": grid(images, 0.3),
        "seam": seamed(images, 0.5),
        "clipped": images * 2,
        "red_green": images + torch.tensor([0.1, -0.1, 0]).view(3, 1, 1),
        "yellow_blue": images + torch.tensor([0.1, 0.1, -0.1]).view(3, 1, 1),
        "sharpness": blurred(images, 1),
        "high_band": noisy(images, 0.3),
        "slope": noisy(images, 0.3),
        "edges": noisy(images, 0.3),
    }
    upward = {"contrast": False, "sharpness": False}
    for k, name in enumerate(SIGNS):
        change = measure(moved[name].clamp(0, 1)).median(0).values[k] - clean[k]
        assert (change > 0) == upward.get(name, True), name
        assert abs(change) > 0.01, name
