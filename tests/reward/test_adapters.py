"""Each adapter as its trainer calls it: its shapes, its names of arguments, its threads, what it does with the result.

The calls follow the sources that docs/reward.md names. What must come out is the score that the scorer gives directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import TINY
from error_fields import at
from hpskit.errors import InputError
from hpskit.reward import (
    Reward,
    as_callable,
    as_ddpo,
    as_flow_factory,
    as_flow_grpo,
    as_loss,
    as_mixgrpo,
    as_paths,
    as_unirl,
    as_verl_omni,
    as_video,
)
from hpskit.scoring.scorer import load_scorer

PROMPTS = ("a temple", "a flower in the sun", "snow", "a temple")


@pytest.fixture(scope="module")
def reward(tiny_checkpoint: Path) -> Reward:
    return Reward(load_scorer(tiny_checkpoint, arch=TINY, precision="fp32", device="cpu", batch_size=3))


@pytest.fixture(scope="module")
def levels() -> Tensor:
    """(4, 3, 48, 40) uint8."""
    return torch.randint(0, 256, (4, 3, 48, 40), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def pictures(levels: Tensor) -> list[Image.Image]:
    return [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in levels]


@pytest.fixture(scope="module")
def direct(reward: Reward, pictures: list[Image.Image]) -> Tensor:
    return reward.scorer.score(pictures, PROMPTS)


def same(found: Any, wanted: Tensor) -> bool:
    return bool((torch.as_tensor(found).double() - wanted.double()).abs().max() <= 1e-5)


def test_flow_grpo_scores_from_its_pool_of_threads(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    """`executor.submit(reward_fn, images, prompts, metadata, only_strict=True)`, then each value as a tensor."""
    reward_fn = as_flow_grpo(reward)
    with ThreadPoolExecutor(max_workers=8) as executor:
        futures = [executor.submit(reward_fn, levels / 255, PROMPTS, [{}] * 4, only_strict=True) for _ in range(8)] + [
            executor.submit(reward_fn, levels.permute(0, 2, 3, 1).numpy(), PROMPTS, [{}] * 4, ref_images=None)
        ]
        for future in futures:
            rewards, metadata = future.result()
            assert metadata == {}
            assert set(rewards) == {"avg", reward.name}
            rewards = {key: torch.as_tensor(value, device="cpu").float() for key, value in rewards.items()}
            assert all(same(value, direct) for value in rewards.values())


def test_flow_grpo_scores_videos_of_its_layout(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    video = torch.stack([torch.zeros_like(levels), levels, torch.zeros_like(levels)], dim=1) / 255  # (B, T, C, H, W)
    rewards, _ = as_flow_grpo(reward)(video, PROMPTS, [{}] * 4, only_strict=True)
    assert same(rewards["avg"], direct)


def test_ddpo_trainer(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    """`reward, reward_metadata = self.reward_fn(images, prompts, prompt_metadata)`."""
    rewards, metadata = as_ddpo(reward)(levels / 255, PROMPTS, ({},) * 4)
    assert same(rewards, direct)
    assert metadata == {}


@pytest.mark.parametrize("video", [False, True])
def test_fastvideo_checks_the_shape(reward: Reward, levels: Tensor, direct: Tensor, video: bool) -> None:
    media = levels / 255
    media = torch.stack([media * 0, media, media * 0], dim=2) if video else media  # (B, C, T, H, W)
    scores = as_callable(reward)(media, list(PROMPTS)).detach().float()
    assert scores.ndim == 1
    assert int(scores.shape[0]) == len(PROMPTS)
    assert same(scores, direct)


def test_imscore_keeps_the_gradient(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    pixels = (levels / 255).requires_grad_()
    scores = as_callable(reward, grad=True)(pixels, list(PROMPTS))
    scores.sum().backward()
    assert same(scores.detach(), direct)
    assert pixels.grad is not None
    assert all(bool(one.abs().sum() > 0) for one in pixels.grad)


def test_alignprop_trains_on_the_loss(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    """`loss, rewards = self.loss_fn(im_pix, prompts)` with pixels in [-1, 1], then `loss.mean().backward()`."""
    im_pix = (levels / 127.5 - 1).requires_grad_()
    loss, rewards = as_loss(reward, value_range=(-1, 1), target=1, scale=0.01)(im_pix, PROMPTS)
    loss.mean().backward()
    assert same(rewards, direct / 100)
    assert same(loss.detach(), 1 - direct / 100)
    assert im_pix.grad is not None
    assert float(im_pix.grad.abs().sum()) > 0
    assert not rewards.requires_grad


def test_a_hinge_has_no_gradient_beyond_its_target(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    target = float(direct.sort().values[1:3].mean())
    pixels = (levels / 255).requires_grad_()
    loss, _ = as_loss(reward, value_range=(0, 1), target=target, hinge=True)(pixels, PROMPTS)
    loss.sum().backward()
    assert pixels.grad is not None
    assert [bool(one.abs().sum() > 0) for one in pixels.grad] == (direct < target).tolist()


def test_videox_fun(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    """`reward_loss, reward = reward_fn(decoded_frames, prompts)` and `get_reward`, frames (B, C, T, H, W)."""
    frames = (levels / 255)[:, :, None].repeat(1, 1, 2, 1, 1).requires_grad_()
    reward_fn = as_video(reward)
    loss, mean = reward_fn(frames, list(PROMPTS))
    loss.backward()
    assert same(mean.detach(), direct.mean() / 100)
    assert same(loss.detach(), (direct / 100 - 1).abs().mean())
    assert frames.grad is not None
    assert same(reward_fn.get_reward(frames.detach(), list(PROMPTS)), direct / 100)


def test_mixgrpo(reward: Reward, pictures: list[Image.Image], direct: Tensor) -> None:
    found = as_mixgrpo(reward)(pictures, list(PROMPTS))
    assert isinstance(found, list)
    assert same(found, direct)


def test_paths_are_by_keyword(reward: Reward, pictures: list[Image.Image], direct: Tensor, tmp_path: Path) -> None:
    """`rewards = inferencer.reward(…)`, then `[reward[0].item() for reward in rewards]`."""
    paths = [str(tmp_path / f"{k}.png") for k in range(4)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    score = as_paths(reward)
    rewards = score(image_paths=paths, prompts=list(PROMPTS))
    assert same([row[0].item() for row in rewards], direct)
    with pytest.raises(TypeError):
        score(paths, list(PROMPTS))
    with pytest.raises(InputError, check=at("prompts[0]", found="0.png")):
        score(image_paths=list(PROMPTS), prompts=paths)


def test_flow_factory(reward: Reward, levels: Tensor, pictures: list[Image.Image], direct: Tensor) -> None:
    model = as_flow_factory(reward)
    output = model(
        prompt=list(PROMPTS), image=pictures, video=None, audio=None, condition_images=None, metadata=["{}"] * 4
    )
    assert same(output.rewards, direct)
    assert output.extra_info == {}
    assert same(model(prompt=list(PROMPTS), image=[*(levels / 255)]).rewards, direct)
    clips = [[picture] * 3 for picture in pictures]
    assert same(model(prompt=list(PROMPTS), video=clips).rewards, direct)
    assert same(model(prompt=list(PROMPTS), video=[torch.stack([one / 255] * 2) for one in levels]).rewards, direct)
    with pytest.raises(InputError):
        model(prompt=list(PROMPTS))


@dataclass
class Request:
    """As UniRL's `RewardRequest`, as far as a backend reads it."""

    images: Sequence[Any] | None
    prompts: Sequence[str]


def test_unirl(reward: Reward, pictures: list[Image.Image], direct: Tensor) -> None:
    response = as_unirl(reward)(Request(pictures, list(PROMPTS)))
    assert same(response.rewards, direct)
    assert same(response.component_rewards[reward.name], direct)
    assert response.successes == [True] * 4
    assert response.errors == [None] * 4


def test_unirl_is_told_which_image_is_broken(reward: Reward, levels: Tensor, direct: Tensor) -> None:
    images: list[Any] = [*(levels / 255)]
    images[1] = torch.full((3, 48, 40), float("nan"))
    response = as_unirl(reward)(Request(images, list(PROMPTS)))
    assert response.successes == [True, False, True, True]
    assert "nan" in str(response.errors[1])
    assert np.isnan(response.rewards[1])
    assert same([response.rewards[k] for k in (0, 2, 3)], direct[[0, 2, 3]])


def test_unirl_asks_halves_again_and_not_each_image(reward: Reward, levels: Tensor) -> None:
    sizes = []

    class Counting(Reward):
        def __call__(self, images: Any, *args: Any, **options: Any) -> Tensor:
            sizes.append(len(images))
            return super().__call__(images, *args, **options)

    images: list[Any] = [*levels] * 4
    images[5] = torch.zeros(3, 0, 4, dtype=torch.uint8)
    response = as_unirl(Counting(reward.scorer))(Request(images, list(PROMPTS) * 4))
    assert response.successes == [k != 5 for k in range(16)]
    assert sizes == [16, 8, 4, 4, 2, 1, 1, 2, 8]


@pytest.mark.parametrize("make", [as_callable, lambda reward: as_loss(reward, value_range=(0, 1))])
def test_images_and_prompts_in_the_wrong_order_are_told(reward: Reward, levels: Tensor, make: Any) -> None:
    with pytest.raises(InputError, check=at(cure="images come first")):
        make(reward)(list(PROMPTS), levels / 255)


def test_verl_omni_waits_for_many_at_once(
    reward: Reward, levels: Tensor, pictures: list[Image.Image], direct: Tensor
) -> None:
    compute_score = as_verl_omni(reward)

    async def all_at_once(images: Sequence[Any]) -> list[Any]:
        return await asyncio.gather(
            *(
                compute_score(data_source="test", solution_image=image, ground_truth=prompt, extra_info={}, step=3)
                for image, prompt in zip(images, PROMPTS, strict=True)
            ),
            return_exceptions=True,
        )

    for images in (pictures, [*levels], [*(levels / 255)], [one.repeat(2, 1, 1, 1) for one in levels]):
        found = asyncio.run(all_at_once(images))
        assert same([one["score"] for one in found], direct)
    videos = [np.stack([one.permute(1, 2, 0).numpy()] * 2) for one in levels]
    with ThreadPoolExecutor(2) as pool:  # two loops in two threads share the function
        several = list(pool.map(lambda images: asyncio.run(all_at_once(images)), [pictures, videos, pictures]))
    assert all(same([one["score"] for one in found], direct) for found in several)
    broken = asyncio.run(all_at_once([pictures[0], torch.zeros(3, 0, 4), *pictures[2:]]))
    assert isinstance(broken[1], InputError)
    assert same([broken[k]["score"] for k in (0, 2, 3)], direct[[0, 2, 3]])
