"""A reward: what goes in, where a gradient is kept, one copy of the weights, threads."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import TINY
from error_fields import at
from hpskit.errors import HpskitError, ImageError, InputError
from hpskit.reward import Reward
from hpskit.scoring.scorer import load_scorer

PROMPTS = ["a temple", "a flower", "snow", "a boat", "a cat", "a dog", "rain"]


@pytest.fixture(scope="module")
def reward(tiny_checkpoint: Path) -> Reward:
    return Reward(load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu", batch_size=3))


@pytest.fixture(scope="module")
def levels() -> Tensor:
    return torch.randint(0, 256, (7, 3, 48, 40), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def direct(reward: Reward, levels: Tensor) -> Tensor:
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in levels]
    return reward.scorer.score(pictures, PROMPTS)


def test_every_kind_of_image(reward: Reward, levels: Tensor, direct: Tensor, tmp_path: Path) -> None:
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in levels]
    paths = [tmp_path / f"{k}.png" for k in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    floats: dict[str, Any] = {"value_range": (0, 1)}
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (pictures, {}),
        (paths, {}),
        (levels, {}),
        (levels.permute(0, 2, 3, 1), {}),
        (levels.permute(0, 2, 3, 1).numpy(), {}),
        (levels / 255, floats),
        ((levels / 255).half(), floats),
        ((levels / 255).numpy(), floats),
        (levels / 127.5 - 1, {"value_range": (-1, 1)}),
        ([*(levels / 255)], floats),
    ]
    for images, options in kinds:
        found = reward(images, PROMPTS, **options)
        assert found.dtype == torch.float32
        assert torch.allclose(found, direct, atol=0.05 if getattr(images, "dtype", None) == torch.float16 else 1e-4)


@pytest.mark.parametrize(
    ("frames", "chosen"), [("first", [0]), ("middle", [2]), ("last", [3]), ("all", [0, 1, 2, 3]), (2, [1, 3])]
)
@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW", "NTHWC"])
def test_frames_of_a_video_by_name(reward: Reward, levels: Tensor, frames: Any, chosen: list[int], layout: str) -> None:
    videos = torch.stack([levels, levels.flip(0), levels.flip(2), levels.flip(3)], dim=1)  # (7, 4, 3, H, W)
    axes = {"NCTHW": (0, 2, 1, 3, 4), "NTCHW": (0, 1, 2, 3, 4), "NTHWC": (0, 1, 3, 4, 2)}[layout]
    found = Reward(reward.scorer, frames=frames)(videos.permute(axes), PROMPTS)
    wanted = torch.stack([reward(videos[:, k], PROMPTS) for k in chosen]).mean(dim=0)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_a_video_of_three_frames_must_say_which_axis_is_time(reward: Reward) -> None:
    video = torch.zeros(1, 3, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(InputError, check=at("video", cure="layout='NCTHW'")):
        reward(video, ["a cat"])
    assert reward(video, ["a cat"], layout="NCTHW").shape == (1,)


@pytest.mark.parametrize(
    ("images", "prompts", "options", "place"),
    [
        (torch.rand(2, 3, 8, 8), ["a", "b"], {}, "images"),
        ([torch.rand(3, 8, 8)], ["a"], {}, "images[0]"),
        (np.random.default_rng(0).random((2, 8, 8, 3)), ["a", "b"], {}, "images"),
        (torch.rand(2, 3, 8, 8), ["a"], {"value_range": (0, 1)}, "prompts"),
        (torch.rand(2, 3, 8, 8), ["a", "b", "c"], {"value_range": (0, 1), "grad": True}, "prompts"),
        (torch.rand(2, 3, 8, 8), ["a", "b.png"], {"value_range": (0, 1)}, "prompts[1]"),
        (torch.rand(2, 3, 8, 8), ["a", "out/b.JPG"], {"value_range": (0, 1)}, "prompts[1]"),
        (torch.rand(2, 3, 8, 8), ["a", ""], {"value_range": (0, 1)}, "prompts[1]"),
        (torch.rand(2, 3, 8, 8) * 2 - 1, ["a", "b"], {"value_range": (0, 1)}, "image"),
        (torch.rand(2, 3, 8, 8) * 255, ["a", "b"], {"value_range": (0, 1)}, "image"),
        (torch.full((2, 3, 8, 8), torch.nan), ["a", "b"], {"value_range": (0, 1)}, "image"),
        (torch.rand(2, 3, 8, 8), ["a", "b"], {"value_range": (0, 2)}, "value_range"),
        (torch.zeros(1, 4, 5, 8, 8, dtype=torch.uint8), ["a"], {}, "video"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ["a", "b"], {"grad": True}, "images"),
    ],
)
def test_bad_input(reward: Reward, images: Any, prompts: list[str], options: dict[str, Any], place: str) -> None:
    with pytest.raises(HpskitError, check=at(place)):
        reward(images, prompts, **options)


def test_ordinary_prompts_with_a_dot_are_no_paths(reward: Reward, levels: Tensor) -> None:
    prompts = ["a logo that says hello.png in blue", "St. Peter's", "v1.5", "photo.", "a.b.c", "3.jpeg files", "x"]
    assert reward(levels, prompts).shape == (7,)


def test_the_gradient_is_that_of_the_plain_route(reward: Reward, levels: Tensor) -> None:
    """Micro-batches of three, computed again in the backward pass, against one plain batch."""
    pixels = (levels / 255).double().float()
    own, plain = pixels.clone().requires_grad_(), pixels.clone().requires_grad_()
    scores = reward(own, PROMPTS, value_range=(0, 1), grad=True)
    scores.square().sum().backward()
    network = reward.scorer._network  # type: ignore[attr-defined]
    wanted = network.compare(network.encode_images(network.preprocessing(plain)), network.encode_prompts(PROMPTS))
    wanted.square().sum().backward()
    assert torch.allclose(scores, wanted, atol=1e-4)
    assert own.grad is not None
    assert plain.grad is not None
    assert float((own.grad - plain.grad).norm() / plain.grad.norm()) < 1e-4


def test_the_gradient_is_the_slope(reward: Reward, levels: Tensor) -> None:
    """Against differences of the score along random directions."""
    pixels = (levels[:2] / 255 * 0.9 + 0.05).requires_grad_()
    reward(pixels, PROMPTS[:2], value_range=(0, 1), grad=True).sum().backward()
    assert pixels.grad is not None
    slope = pixels.grad
    for seed in range(3):
        way = torch.randn(slope.shape, generator=torch.Generator().manual_seed(seed))
        way = way + 20 * slope / slope.norm() * way.norm() / 20  # so that the difference is not all rounding
        step = 2e-3 * way
        with torch.no_grad():
            ends = [
                reward((pixels + side * step).clamp(0, 1), PROMPTS[:2], value_range=(0, 1)).double().sum()
                for side in (1, -1)
            ]
        assert float(ends[0] - ends[1]) / 2 == pytest.approx(float((slope * step).sum()), rel=0.05)


def test_no_graph_is_kept_unless_it_is_asked_for(reward: Reward, levels: Tensor) -> None:
    """HPSv3 #8: graphs that nobody wanted filled the memory of trainers."""
    pixels = (levels / 255).requires_grad_()
    with pytest.warns(UserWarning, match="say grad=True"):
        assert not reward(pixels, PROMPTS, value_range=(0, 1)).requires_grad
    kept = weakref.ref(pixels)
    with pytest.warns(UserWarning, match="say grad=True"):
        scores = reward(pixels, PROMPTS, value_range=(0, 1))
    del pixels
    gc.collect()
    assert kept() is None, "the scores hold the pixels"
    assert scores.shape == (7,)


def test_whole_numbers_stay_so_until_their_batch(
    reward: Reward, levels: Tensor, direct: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl-omni #402: 512 videos in float32 did not fit into the host's memory."""
    network, seen = reward.scorer._network, []  # type: ignore[attr-defined]
    prepare = network.preprocessing
    monkeypatch.setattr(network, "preprocessing", lambda pixels: seen.append(len(pixels)) or prepare(pixels))
    videos = levels[:, None].repeat(1, 2, 1, 1, 1)
    assert torch.allclose(Reward(reward.scorer, frames="all")(videos, PROMPTS), direct, atol=1e-4)
    assert sum(seen) == 14
    assert max(seen) == 3


def test_training_and_evaluation_share_one_copy(tiny_checkpoint: Path) -> None:
    """flow_grpo builds two scorers on each device."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Reward("mini", device="cpu", precision="fp32"), range(16)))
    assert len({id(one.scorer) for one in made}) == 1
    assert Reward("mini", device="cpu", precision="fp32", batch_size=2).scorer is not made[0].scorer


def test_eight_threads_give_the_bits_of_a_serial_run(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    serial = reward(levels, PROMPTS)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: reward(levels, PROMPTS), range(32)))
    assert all(torch.equal(one, serial) for one in found)


@pytest.mark.parametrize("frames", ["center", 0, -1, True, None])
def test_frames_are_checked_before_a_model_is_loaded(frames: Any) -> None:
    with pytest.raises(InputError, check=at("frames")):
        Reward("no such model", frames=frames)


def test_a_missing_image_is_an_error(reward: Reward, tmp_path: Path) -> None:
    with pytest.raises(ImageError, check=at(str(tmp_path / "no.png"))):
        reward([tmp_path / "no.png"], ["a cat"])


def test_images_in_anything_need_their_range(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    floats = [*(levels / 255)]
    column = np.empty(len(floats), dtype=object)
    column[:] = floats
    for images in (iter(floats), deque(floats), column):
        with pytest.raises(InputError, check=at("images[0]", found="hold floats")):
            reward(images, PROMPTS)
    assert torch.allclose(reward(deque(floats), PROMPTS, value_range=(0, 1)), direct, atol=1e-4)


def test_a_scorer_that_has_changed_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from hpskit.reward import Reward\nclass S:\n    def __init__(self):\n        Reward('random')\n"
    code += "    def score(self, images, prompts):\n        return [{}] * len(images)\n"
    found = []
    for folder, value in (("a", 1), ("b", 2), ("b", 33)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "own.py").write_text(code.format(value))
        monkeypatch.chdir(tmp_path / folder)
        found.append(float(Reward("own.py:S")([Image.new("RGB", (8, 8))], ["a cat"])))
    assert found == [1, 2, 33]
