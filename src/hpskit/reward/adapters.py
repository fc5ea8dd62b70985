"""A reward, or a mixture, as the callable that a trainer expects. One line in the trainer; the scores stay the same.

Each adapter is written for the caller's side: its shapes, ranges, names of arguments and what it does with the result.
Scores are hpskit's own, 100 x cosine for HPS v2; `scale=0.01` gives cosines where a trainer's settings were made for
them (a factor cancels in GRPO, where advantages are divided by a deviation, but not in a loss).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from hpskit.errors import InputError
from hpskit.reward.reward import Rewarding, is_float
from hpskit.scoring.streaming import by_halves

_FLOW_GRPO_VIDEO = {True: "NTCHW", False: "NTHWC"}
"""Its layout of videos, of tensors and of arrays."""


def as_flow_grpo(reward: Rewarding, *, scale: float = 1.0) -> Callable[..., tuple[dict[str, Tensor], dict[str, Any]]]:
    """For flow_grpo and its kin (DiffusionNFT, GARDO, TempFlow-GRPO …), in place of `multi_score(device, {…})`.

    The function takes `(images, prompts, metadata=None, *, ref_images=None, only_strict=True)`: floats (B, 3, H, W) in
    [0, 1] or uint8 (B, H, W, 3), or videos of five axes. It returns `({name: (B,), …, "avg": (B,)}, {})`. Metadata and
    reference images are not read. A mixture without a calibration has no "avg" and is refused.
    """

    def score(
        images: Any,
        prompts: Sequence[str],
        metadata: object = None,  # noqa: ARG001  # the caller's
        ref_images: object = None,  # noqa: ARG001
        only_strict: bool = True,  # noqa: ARG001
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        layout = _FLOW_GRPO_VIDEO[isinstance(images, Tensor)] if getattr(images, "ndim", 4) == 5 else None
        total, found = _both(reward, images, list(prompts), value_range=_unit(images), layout=layout)
        named = {name: scale * scores for name, scores in found.items()}
        return named | {"avg": scale * total}, {}

    return score


def as_ddpo(reward: Rewarding, *, scale: float = 1.0) -> Callable[..., tuple[Tensor, dict[str, Any]]]:
    """For `DDPOTrainer` of trl before September 2025, which then removed it: `(images, prompts, metadata)` ->
    `((B,), {})`, images as floats (B, 3, H, W) in [0, 1]."""

    def score(images: Any, prompts: Sequence[str], metadata: object = None) -> tuple[Tensor, dict[str, Any]]:  # noqa: ARG001
        return scale * reward(images, list(prompts), value_range=_unit(images)), {}

    return score


def as_callable(
    reward: Rewarding, *, grad: bool = False, scale: float = 1.0
) -> Callable[[Tensor, Sequence[str]], Tensor]:
    """For FastVideo (`RewardScorer`) and code written for imscore: `(media, prompts)` -> (B,) float32.

    Media are floats (B, 3, H, W) or (B, 3, T, H, W) in [0, 1].
    """

    def score(media: Tensor, prompts: Sequence[str]) -> Tensor:
        layout: Any = "NCTHW" if _tensor("media", media).ndim == 5 else "NCHW"
        return scale * reward(media, list(prompts), value_range=_unit(media), layout=layout, grad=grad)

    return score


def as_loss(
    reward: Rewarding,
    *,
    value_range: tuple[float, float],
    target: float = 0.0,
    scale: float = 1.0,
    hinge: bool = False,
) -> Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]:
    """For training by gradient: `(images, prompts)` -> `(loss, reward)`, both (B,), the loss with a gradient.

    The loss is `target - scale * score`, with `hinge` not below 0. AlignProp: `value_range=(-1, 1), target=1,
    scale=0.01`. ReFL: `value_range=(0, 1), target=2, hinge=True` with ImageReward, times 1e-3. SRPO: `target=0.7,
    scale=0.01, hinge=True`.
    """

    def loss(images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        given = _tensor("images", images)
        scores = scale * reward(given, list(prompts), value_range=value_range, layout="NCHW", grad=True)
        missing = target - scores
        return missing.relu() if hinge else missing, scores.detach()

    return loss


class VideoReward:
    """The object that VideoX-Fun calls; made by `as_video`."""

    def __init__(self, reward: Rewarding, *, target: float | None, scale: float, loss_scale: float) -> None:
        self._reward, self._target, self._scale, self._loss_scale = reward, target, scale, loss_scale

    def get_reward(self, batch_frames: Tensor, batch_prompt: Sequence[str]) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B,), with a gradient if the frames have one."""
        grad = batch_frames.requires_grad and torch.is_grad_enabled()
        prompts = list(batch_prompt)
        return self._scale * self._reward(batch_frames, prompts, value_range=(0, 1), layout="NCTHW", grad=grad)

    def __call__(self, batch_frames: Tensor, batch_prompt: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the means of loss and reward."""
        rewards = self.get_reward(batch_frames, batch_prompt)
        losses = -rewards if self._target is None else (rewards - self._target).abs()
        return self._loss_scale * losses.mean(), rewards.mean()


def as_video(
    reward: Rewarding, *, target: float | None = 1.0, scale: float = 0.01, loss_scale: float = 1.0
) -> VideoReward:
    """For `train_reward_lora.py` of VideoX-Fun, in place of its `HPSReward`: `target` and `loss_scale` are its
    `max_reward` and `loss_scale`; by `scale` scores are cosines there. Its own class squashes frames to a square, in
    fp16; this one keeps their proportions, so figures differ."""
    return VideoReward(reward, target=target, scale=scale, loss_scale=loss_scale)


def as_mixgrpo(reward: Rewarding, *, scale: float = 1.0) -> Callable[[Sequence[Any], Sequence[str]], list[float]]:
    """For `compute_reward` of MixGRPO: `(images, texts)`, a list of PIL images -> a list of numbers."""

    def score(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
        return [scale * value for value in reward(list(images), list(texts)).tolist()]

    return score


def as_paths(reward: Rewarding, *, scale: float = 1.0) -> Callable[..., Tensor]:
    """For trainers that keep images as files (Pref-GRPO; HPSv3's `reward`): `(*, image_paths, prompts)` -> (B, 1).

    By keyword only: the original's order of arguments changed between its releases.
    """

    def score(*, image_paths: Sequence[str], prompts: Sequence[str]) -> Tensor:
        return scale * reward(list(image_paths), list(prompts))[:, None]

    return score


class FlowFactoryOutput(NamedTuple):
    """Has the members of Flow-Factory's `RewardModelOutput`."""

    rewards: Tensor
    extra_info: dict[str, Any]


def as_flow_factory(reward: Rewarding, *, scale: float = 1.0) -> Callable[..., FlowFactoryOutput]:
    """For `__call__` of a `PointwiseRewardModel` of Flow-Factory: keywords `prompt`, and `image` or `video`.

    Images are PIL images or floats (3, H, W) in [0, 1]; a video is a list of PIL images or a tensor (T, 3, H, W), of
    which the reward's frames count. Other keywords are not read.
    """

    def score(*, prompt: Sequence[str], image: Any = None, video: Any = None, **_: object) -> FlowFactoryOutput:
        if (image is None) == (video is None):
            raise InputError("image and video", "are both given, or neither", expected="one of them")
        if image is not None:
            images = list(image)
            scores = reward(images, list(prompt), value_range=_unit(*images))
        else:
            scores = torch.cat([_of_video(reward, frames, text) for frames, text in zip(video, prompt, strict=True)])
        return FlowFactoryOutput(scale * scores, {})

    return score


class UniRLResponse(NamedTuple):
    """Has the members of UniRL's `RewardResponse`."""

    rewards: list[float]
    component_rewards: dict[str, list[float]]
    successes: list[bool]
    errors: list[str | None]
    compute_time: float


class _UniRLRequest(Protocol):
    images: Sequence[Any] | None
    prompts: Sequence[str]


def as_unirl(reward: Rewarding, *, scale: float = 1.0) -> Callable[[_UniRLRequest], UniRLResponse]:
    """For `RewardBackend.compute_rewards` of UniRL: a request with `images` and `prompts` -> a response.

    An image that is broken has `successes` False and its reason, and its reward is NaN, never 0.
    """
    import time

    def ask(images: list[Any], prompts: list[str]) -> list[tuple[float, dict[str, float]]]:
        total, found = _both(reward, images, prompts, value_range=_unit(*images))
        names, parts = list(found), (scores.tolist() for scores in found.values())
        return [(value, dict(zip(names, own, strict=True))) for value, *own in zip(total.tolist(), *parts, strict=True)]

    def compute(request: _UniRLRequest) -> UniRLResponse:
        began = time.perf_counter()
        images, prompts = list(request.images or ()), list(request.prompts)
        if len(images) != len(prompts):
            raise InputError("images", f"are {len(images)} for {len(prompts)} prompts", expected="one for each")
        found = by_halves(ask, images, prompts)
        failed = [isinstance(row, Exception) for row in found]
        rows = [(math.nan, {}) if isinstance(row, Exception) else row for row in found]
        names = {name: None for _, parts in rows for name in parts}
        return UniRLResponse(
            rewards=[scale * value for value, _ in rows],
            component_rewards={name: [scale * parts.get(name, math.nan) for _, parts in rows] for name in names},
            successes=[not bad for bad in failed],
            errors=[str(row) if isinstance(row, Exception) else None for row in found],
            compute_time=time.perf_counter() - began,
        )

    return compute


class _Batches:
    """Scores calls that wait at the same time as one batch, in a thread of its own."""

    def __init__(self, reward: Rewarding, size: int) -> None:
        self._reward, self._size = reward, size
        self._waiting: list[tuple[Any, str, asyncio.Future[float]]] = []
        self._task: asyncio.Task[None] | None = None

    async def score(self, image: Any, prompt: str) -> float:
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((image, prompt, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        await asyncio.sleep(0)  # let those that were started together come in
        while self._waiting:
            items = self._waiting[: self._size]
            del self._waiting[: self._size]
            images, prompts = [image for image, _, _ in items], [prompt for _, prompt, _ in items]
            values = await asyncio.to_thread(by_halves, self._ask, images, prompts)
            for (_, _, future), value in zip(items, values, strict=True):
                if not future.done():
                    future.set_exception(value) if isinstance(value, Exception) else future.set_result(value)

    def _ask(self, images: list[Any], prompts: list[str]) -> list[float]:
        found: list[float] = self._reward(images, prompts, value_range=_unit(*images)).tolist()
        return found


def as_verl_omni(
    reward: Rewarding, *, scale: float = 1.0, batch_size: int = 16
) -> Callable[..., Awaitable[dict[str, float]]]:
    """For verl-omni's `compute_score`: `await score(data_source=, solution_image=, ground_truth=, extra_info=)`.

    One sample a call: a PIL image, or uint8 or floats in [0, 1], (3, H, W), (H, W, 3), or a video (T, 3, H, W). The
    prompt is `ground_truth`. Calls that wait at the same time are scored as one batch; the event loop is never held.
    """
    batches = WeakKeyDictionary[asyncio.AbstractEventLoop, _Batches]()  # futures belong to the loop of their thread

    async def score(
        *,
        data_source: str = "",  # noqa: ARG001  # the caller's
        solution_image: Any,
        ground_truth: str,
        extra_info: Mapping[str, Any] | None = None,  # noqa: ARG001
        **_: object,
    ) -> dict[str, float]:
        if getattr(solution_image, "ndim", 3) == 4:
            value = float((await asyncio.to_thread(_of_video, reward, solution_image, ground_truth))[0])
        else:
            own = batches.setdefault(asyncio.get_running_loop(), _Batches(reward, batch_size))
            value = await own.score(solution_image, ground_truth)
        return {"score": scale * value}

    return score


def _tensor(place: str, images: object) -> Tensor:
    if not isinstance(images, Tensor):
        found, cure = f"are of type {type(images).__name__}", "stack them; images come first, prompts second"
        raise InputError(place, found, expected="one tensor of floats, (B, 3, H, W)", cure=cure)
    return images


def _both(reward: Rewarding, images: Any, prompts: Sequence[str], **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Total and parts, computed once."""
    found = reward.components(images, prompts, **options)
    return reward.total(found), found


def _unit(*images: Any) -> tuple[float, float] | None:
    """The range of floats where a caller's convention has fixed it; None where there are none."""
    return (0, 1) if any(map(is_float, images)) else None


def _of_video(reward: Rewarding, frames: Any, prompt: str) -> Tensor:
    """Score one video: a tensor or array (T, 3, H, W) or (T, H, W, 3), or PIL images."""
    if not isinstance(frames, Tensor | np.ndarray):
        frames = np.stack([np.asarray(frame.convert("RGB")) for frame in frames])
    video = torch.as_tensor(frames)
    layout: Any = "NTCHW" if video.shape[1] == 3 else "NTHWC"
    return reward(video[None], [prompt], value_range=_unit(video), layout=layout)
