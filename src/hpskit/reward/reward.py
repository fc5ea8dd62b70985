"""One scorer as a reward: images or video of any kind in, float32 (B,) out, with a gradient only if it is asked for."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hpskit.errors import InputError, shown
from hpskit.pixels import Layout, as_pixels
from hpskit.reward.watch import Decoded, Watch
from hpskit.scoring.contract import Images
from hpskit.scoring.scorer import PreferenceScorer, load_scorer, one_by_one

Frames = Literal["first", "middle", "last", "all"]
"""Which frames of a video count; the reward is the mean of theirs. A whole number n is n frames at equal distances."""
VideoLayout = Literal["NCTHW", "NTCHW", "NTHWC"]

_A_PATH = re.compile(
    r"(?:[./~\\]|[A-Za-z]:\\|https?://|s3://)?\S+\.(?:png|jpe?g|webp|bmp|gif|avif|tiff?)", re.IGNORECASE
)

_shared: dict[tuple[object, ...], PreferenceScorer] = {}
_loading = threading.RLock()  # a scorer of code may make rewards of its own


class Rewarding(Protocol):
    """Whatever adapters can work with: a `Reward` or a `Mixture`."""

    def __call__(self, images: Images, prompts: str | Sequence[str], *args: Any, **options: Any) -> Tensor:
        """B images or videos and B prompts -> (B,) float32; options as `Reward.__call__` has them, by keyword."""
        ...

    def components(self, images: Images, prompts: str | Sequence[str], **options: Any) -> dict[str, Tensor]:
        """Name of each scorer -> (B,) scores on its own scale."""
        ...

    def total(self, components: Mapping[str, Tensor]) -> Tensor:
        """Turn what `components` gave into what `__call__` gives."""
        ...


class Reward:
    """A reward by one scorer. Safe to use from several threads.

    Rewards of one name and the same options share one copy of the weights in a process: one for training, one for
    evaluation and one in each thread cost no more than one.
    """

    def __init__(
        self,
        scorer: str | os.PathLike[str] | PreferenceScorer = "hps-v2.1",
        *,
        precision: str = "auto",
        device: str = "auto",
        batch_size: int | None = None,
        frames: Frames | int = "middle",
        watch: Watch | None = None,
    ) -> None:
        """Load a scorer, or take one that is loaded.

        Args:
            scorer: name or file as `load_scorer` takes it, or what that returned.
            precision, device, batch_size: as `load_scorer` takes them; for a scorer by name. A gradient needs `fp32`,
                or a device other than the CPU.
            frames: which frames of a video count.
            watch: looks at every call without a gradient; a warning says that an alarm begins.

        Raises:
            ModelError: the scorer cannot be loaded.
            InputError: an option is impossible.
        """
        if isinstance(frames, bool) or not (frames in get_args(Frames) or (isinstance(frames, int) and frames >= 1)):
            expected = f"one of {', '.join(get_args(Frames))}, or a number of frames"
            raise InputError("frames", f"is {frames!r}", expected=expected)
        if isinstance(scorer, PreferenceScorer):
            self.scorer = scorer
        else:
            self.scorer = _one_copy(scorer, precision=precision, device=device, batch_size=batch_size)
        self.frames = frames
        self.watch = watch
        self._alarmed = False

    @property
    def name(self) -> str:
        """Name of the scorer."""
        return self.scorer.info.name

    def __repr__(self) -> str:
        return f"<Reward {self.scorer.info.identity}>"

    def __call__(
        self,
        images: Images,
        prompts: str | Sequence[str],
        *,
        value_range: tuple[float, float] | None = None,
        layout: Layout | VideoLayout | None = None,
        grad: bool = False,
        group_ids: Sequence[Hashable] | None = None,
        step: int | None = None,
    ) -> Tensor:
        """Score B images, or B videos, each for its prompt.

        Args:
            images: as `PreferenceScorer.score` takes them; or a tensor or array of five axes, B videos.
            prompts: one for each, or one for all.
            value_range: what black and white are in floats, (0, 1) or (-1, 1). Needed for floats: a range that is
                guessed from the data changes from batch to batch.
            layout: where the channels are, if the shape leaves that open.
            grad: keep the gradient to the pixels, which must be one tensor of floats. Each micro-batch of
                `batch_size` is computed again in the backward pass, so that memory does not grow with B.
            group_ids, step: for the watch.

        Returns:
            (B,) float32, higher is better; where the tensor lives, otherwise on the CPU.

        Raises:
            ImageError: an image is broken, or has values outside its range (NaN among them).
            InputError: lengths differ, a prompt looks like a path, the range is missing.
        """
        check_prompts(prompts)
        if not isinstance(images, torch.Tensor | np.ndarray) or images.ndim < 4:
            several = with_range(one_by_one(images), value_range)
            rewards = self.scorer.score(several, prompts, value_range=value_range or (0, 1), layout=layout, grad=grad)  # type: ignore[arg-type]
            if self.watch is not None:
                decoded = Decoded(several, value_range=value_range or (0, 1), layout=layout)
                self._look(decoded, prompts, rewards, group_ids, step)
            return rewards
        given = with_range(images, value_range)
        if isinstance(given, Tensor) and given.requires_grad and torch.is_grad_enabled() and not grad:
            warnings.warn("images require a gradient, and none comes from the reward: say grad=True", stacklevel=2)
        videos = _frames(given, layout, self.frames) if given.ndim == 5 else None
        pixels = as_pixels(
            given if videos is None else videos.flatten(0, 1),
            dimensions=4,
            value_range=value_range or (0, 1),
            layout=layout if videos is None else "NCHW",  # type: ignore[arg-type]
        )
        each = 1 if videos is None else videos.shape[1]
        texts = prompts if isinstance(prompts, str) else [text for text in prompts for _ in range(each)]
        scores = self._with_gradient(pixels, texts) if grad else self.scorer.score(pixels, texts)
        rewards = scores.view(-1, each).mean(dim=1)
        if self.watch is not None and not grad:
            self._look(Decoded([*pixels[::each]], layout="NCHW"), prompts, rewards, group_ids, step)
        return rewards

    def components(self, images: Images, prompts: str | Sequence[str], **options: Any) -> dict[str, Tensor]:
        """Name of the scorer -> its scores; see `__call__`."""
        return {self.name: self(images, prompts, **options)}

    def total(self, components: Mapping[str, Tensor]) -> Tensor:
        """Return the scores of the one component."""
        return components[self.name]

    def _look(
        self,
        images: Tensor | Sequence[Tensor],
        prompts: str | Sequence[str],
        rewards: Tensor,
        group_ids: Sequence[Hashable] | None,
        step: int | None,
    ) -> None:
        assert self.watch is not None
        texts = [prompts] * len(rewards) if isinstance(prompts, str) else list(prompts)
        seen = self.watch.see(images, texts, rewards, step=step, group_ids=group_ids)
        if seen.alarm and not self._alarmed:
            worst = f"; look at {', '.join(seen.worst)}" if seen.worst else ""
            warnings.warn(f"alarm at step {seen.step:,}: {seen.why()}{worst}", stacklevel=3)
        self._alarmed = seen.alarm

    def _with_gradient(self, pixels: Tensor, prompts: str | list[str]) -> Tensor:
        texts = [prompts] * len(pixels) if isinstance(prompts, str) else prompts
        size = self.scorer.batch_size

        def part(some: Tensor, start: int) -> Tensor:
            return self.scorer.score(some, texts[start : start + len(some)], grad=True)

        if len(texts) != len(pixels) or len(pixels) <= size:
            return self.scorer.score(pixels, prompts, grad=True)
        parts = [
            checkpoint(part, some, k * size, use_reentrant=False, preserve_rng_state=False)
            for k, some in enumerate(torch.split(pixels, size))
        ]
        return torch.cat(parts)


def _one_copy(name: str | os.PathLike[str], **options: object) -> PreferenceScorer:
    key = (*_origin(os.fspath(name)), *sorted((k, str(v)) for k, v in options.items()))
    with _loading:  # two threads that ask at once must not load twice
        if key not in _shared:
            _shared[key] = load_scorer(name, **options)  # type: ignore[arg-type]
        return _shared[key]


def _origin(name: str) -> tuple[object, ...]:
    """Tell a name, a file and the code in a file apart, also from what stood there before."""
    for file in (name, name.rpartition(":")[0]):
        if os.path.exists(file):
            state = Path(file).stat()
            return os.path.realpath(file), name[len(file) :], state.st_mtime_ns, state.st_size
    return (name,)


def check_prompts(prompts: str | Sequence[str]) -> None:
    for index, text in enumerate([prompts] if isinstance(prompts, str) else prompts):
        if isinstance(text, str) and _A_PATH.fullmatch(text.strip()):
            cure = "images come first: reward(images, prompts)"
            raise InputError(f"prompts[{index}]", f"looks like a file, {shown(text)}", expected="a text", cure=cure)


def is_float(image: object) -> bool:
    """Tell whether an image is a tensor or an array of floats."""
    if isinstance(image, Tensor):
        return image.is_floating_point()
    return isinstance(image, np.ndarray) and image.dtype.kind == "f"


def with_range(images: Any, value_range: tuple[float, float] | None) -> Any:
    """Return the images; floats without a range are an error."""
    several = isinstance(images, list | tuple)
    for index, image in enumerate(images if several else [images]):
        if value_range is None and is_float(image):
            place = f"images[{index}]" if several else "images"
            cure = "say value_range=(0, 1) or value_range=(-1, 1)"
            raise InputError(place, "hold floats, whose range nobody has said", cure=cure)
    return images


_VIDEO_AXES: dict[VideoLayout, tuple[int, ...]] = {
    "NCTHW": (0, 2, 1, 3, 4),
    "NTCHW": (0, 1, 2, 3, 4),
    "NTHWC": (0, 1, 4, 2, 3),
}
"""How the axes become (B, T, 3, H, W)."""


def _frames(videos: Tensor | np.ndarray[Any, Any], layout: str | None, frames: Frames | int) -> Tensor:
    """Turn videos of five axes into (B, F, 3, H, W), the F frames that count."""
    shape = tuple(videos.shape)
    fitting = [name for name, axes in _VIDEO_AXES.items() if shape[axes[2]] == 3 and layout in (None, name)]
    if not fitting:
        expected = layout or "(B, 3, T, H, W), (B, T, 3, H, W) or (B, T, H, W, 3)"
        raise InputError("video", f"has shape {shape}", expected=expected, cure="pass RGB")
    if len(fitting) > 1:
        cure = " or ".join(f"layout={name!r}" for name in fitting)
        raise InputError("video", f"has shape {shape}, which may be {' or '.join(fitting)}", cure=f"say {cure}")
    given = torch.from_numpy(videos) if isinstance(videos, np.ndarray) else videos
    moved = given.permute(_VIDEO_AXES[fitting[0]])
    count = moved.shape[1]
    if not count:
        raise InputError("video", "has no frames")
    if frames == "all":
        return moved
    if isinstance(frames, int):
        if frames > count:
            raise InputError("frames", f"are {frames}, but the video has {count}", cure="ask for fewer, or for 'all'")
        chosen = [(2 * k + 1) * count // (2 * frames) for k in range(frames)]
    else:
        chosen = [{"first": 0, "middle": count // 2, "last": count - 1}[frames]]
    return moved[:, chosen]
