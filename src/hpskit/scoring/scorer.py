"""The scorer: batches, decoding beside the network, one encoding per distinct prompt."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from hpskit.errors import ImageError, InputError, ModelError
from hpskit.models.loading import load_network
from hpskit.models.network import Network
from hpskit.models.registry import DEFAULT_MODEL
from hpskit.pixels import Preprocessing, check_tensor, open_image, to_tensor
from hpskit.records import RankedImage, ScorerInfo
from hpskit.scoring.contract import ImageLike

__all__ = ["PreferenceScorer", "load_scorer"]

_CACHED_PROMPTS = 10_000
_DECODED_AHEAD = 2  # batches
_LARGEST_BATCH = 65_536


def load_scorer(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    arch: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    antialias: bool | None = None,
) -> PreferenceScorer:
    """Load a preference model, once; keep the result and use it for every score.

    Args:
        name_or_path: `mini`, `hps-v2.0`, `hps-v2.1`, or a checkpoint file (`.pt` with a state dict, `.safetensors`).
        arch: open_clip architecture of a local checkpoint; ViT-H-14 if not given.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: the fastest that the hardware has. Scores are float32 in every
            case; see docs/scoring.md for how far they move.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`.
        batch_size: images per step of the network; if not given 8 on a CPU, 64 elsewhere. Changes no score in fp32;
            in lower precision by less than the precision itself does (docs/scoring.md).
        antialias: False resizes as torchvision did before 0.17, when the published tables were computed. True is
            what the official code does today, and the default.

    Raises:
        ModelError: unknown name, no such file, another architecture, damaged, or not on this machine and offline.
        InputError: an option has an impossible value.
    """
    _check_batch_size(batch_size)  # before gigabytes are read
    network, info = load_network(name_or_path, arch=arch, precision=precision, device=device, antialias=antialias)
    return PreferenceScorer(network, info, batch_size=batch_size)


class PreferenceScorer:
    """Scores images for prompts with one network, which it keeps loaded. Safe to use from several threads."""

    def __init__(self, network: Network, info: ScorerInfo, *, batch_size: int | None = None) -> None:
        """Use `load_scorer`; this is for networks of your own."""
        _check_batch_size(batch_size)
        self._network = network
        self._info = info
        self._batch_size = batch_size or (8 if network.device.type == "cpu" else 64)
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    def __repr__(self) -> str:
        return f"<PreferenceScorer {self.info.identity}>"

    @property
    def info(self) -> ScorerInfo:
        """Who gives these scores: model, version, weight hash, preprocessing, precision, package version."""
        return self._info

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self._network.preprocessing

    @property
    def batch_size(self) -> int:
        """Images per step of the network; does not change scores."""
        return self._batch_size

    @property
    def reads_prompt(self) -> bool:
        """Whether the score depends on the prompt."""
        return self._network.reads_prompt

    @property
    def log_odds_per_point(self) -> float:
        """Log-odds of being preferred, for each point by which an image is ahead of another of its prompt."""
        return self._network.log_odds_per_point

    def score(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        *,
        grad: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Score N images, each for its prompt.

        Args:
            images: paths, PIL images or float tensors (3, H, W) in [0, 1], mixed as you like; or one of them; or a
                float tensor (N, 3, H, W).
            prompts: one for each image, or one for all.
            grad: keep the gradient from the scores to the pixels; images must be a tensor (N, 3, H, W).
            progress: called with the number of images scored so far; not for a tensor (N, 3, H, W).

        Returns:
            (N,) float32 on the benchmark scale, higher is better; comparable only among images of one prompt and
            between scorers of equal `info.identity`. On the CPU, or where the input tensor lives.

        Raises:
            ImageError: an image is missing, broken or of the wrong shape or range; nothing is skipped.
            InputError: lengths differ, a prompt is empty or not a string.
            ModelError: a score is not finite.
        """
        if isinstance(images, torch.Tensor) and images.ndim == 4:
            check_tensor(images, dimensions=4)
            texts = _aligned(prompts, len(images))
            return self._score_tensor(images, texts, grad=grad)
        if grad:
            raise InputError("grad: is True, but images are not one float tensor (N, 3, H, W); stack them")
        listed = [images] if isinstance(images, str | os.PathLike | Image.Image | torch.Tensor) else list(images)
        texts = _aligned(prompts, len(listed))
        scores: list[float] = []
        for batch in self.stream(listed, texts):
            for outcome in batch:
                if isinstance(outcome, ImageError):
                    index = len(scores)
                    named = isinstance(listed[index], str | os.PathLike)
                    raise outcome if named else ImageError(f"images[{index}]: {outcome}")
                scores.append(outcome)
            if progress is not None:
                progress(len(scores))
        return torch.tensor(scores, dtype=torch.float32)

    def rank(
        self, prompt: str, images: Sequence[ImageLike], *, progress: Callable[[int], None] | None = None
    ) -> list[RankedImage]:
        """Images made for one prompt, best first; equal scores keep the order given. See `score` for the arguments.

        The probability is the softmax of the scores in log-odds: the modelled chance that people like this one best.
        """
        scores = self.score(list(images), prompt, progress=progress).double()
        probabilities = (scores * self.log_odds_per_point).softmax(dim=0).tolist()
        values = scores.tolist()
        order = sorted(range(len(values)), key=lambda i: -values[i])
        labels = [str(Path(i)) if isinstance(i, str | os.PathLike) else f"images[{n}]" for n, i in enumerate(images)]
        return [
            RankedImage(
                rank=1 + sum(other > values[i] for other in values),
                image=labels[i],
                score=values[i],
                probability=probabilities[i],
            )
            for i in order
        ]

    def win_probability(self, prompt: str, first: ImageLike, second: ImageLike) -> float:
        """Modelled probability, 0 to 1, that a person prefers `first` to `second` for this prompt.

        The logistic function of the difference of the scores in log-odds, as in the training loss (HPS v2, section 4);
        of a baseline, as `info.scale` says.
        """
        scores = self.score([first, second], prompt).double()
        return float(torch.sigmoid((scores[0] - scores[1]) * self.log_odds_per_point))

    def stream(self, images: Iterable[ImageLike], prompts: Iterable[str]) -> Iterator[list[float | ImageError]]:
        """Score pairs in order, a batch at a time, while the next images are being decoded.

        An image that cannot be used comes out as its error, in its place.

        Raises:
            InputError: a prompt is empty or not a string.
        """
        checked = (_check_prompt(f"prompts[{index}]", prompt) for index, prompt in enumerate(prompts))
        pairs = zip(images, checked, strict=True)
        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers, thread_name_prefix="hpskit-decode") as pool:
            queue: deque[list[tuple[Future[Tensor | ImageError], str]]] = deque()
            try:
                for batch in _chunks(pairs, self._batch_size):
                    queue.append([(pool.submit(self._prepare, image), prompt) for image, prompt in batch])
                    if len(queue) > _DECODED_AHEAD:
                        yield self._score_batch(queue.popleft())
                while queue:
                    yield self._score_batch(queue.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, image: ImageLike) -> Tensor | ImageError:
        try:
            if isinstance(image, Image.Image):
                with self._opening:  # Pillow loads lazily, and two threads may have been given the same image
                    image = open_image(image)
            with torch.inference_mode():
                return self._network.preprocessing(to_tensor(image))
        except ImageError as error:
            return error

    def _score_batch(self, batch: list[tuple[Future[Tensor | ImageError], str]]) -> list[float | ImageError]:
        outcomes = [future.result() for future, _ in batch]
        usable = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, torch.Tensor)]
        results: list[float | ImageError] = [o if isinstance(o, ImageError) else 0.0 for o in outcomes]
        if usable:
            pixels = torch.stack([outcomes[i] for i in usable])  # type: ignore[misc]
            scores = self.score_preprocessed(pixels, [batch[i][1] for i in usable])
            for i, score in zip(usable, scores.tolist(), strict=True):
                results[i] = score
        return results

    def score_preprocessed(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score one batch of what `preprocessing` has made: (N, 3, S, S) and N prompts -> (N,), no gradient.

        For those who prepare images once for several scorers; see `hpskit.scoring.several`.
        """
        with torch.inference_mode():
            texts = self._encode_prompts(prompts)
            images = self._network.encode_images(pixels.to(self._network.device))
            return self._finite(self._network.compare(images, texts))

    def _finite(self, scores: Tensor) -> Tensor:
        """The scores, if all are numbers: a NaN would come out as a rank like any other."""
        if not bool(scores.detach().isfinite().all()):
            cure = "check the weights with `hpskit models verify`" + (
                "" if self.info.precision == "fp32" else ", or score with precision fp32"
            )
            raise ModelError(f"{self.info.name}: gives a score that is not finite, in {self.info.precision}; {cure}")
        return scores

    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool) -> Tensor:
        network = self._network
        if grad and not network.differentiable:
            cure = "load the scorer with precision='fp32'" if self.info.precision != "fp32" else "score without it"
            raise InputError(f"grad: is True, but {self.info.name} in {self.info.precision} has no gradient; {cure}")
        if not prompts:
            return images.new_zeros(0, dtype=torch.float32)
        with torch.no_grad():
            texts = self._encode_prompts(prompts)
        parts = []
        with torch.set_grad_enabled(grad):
            for start in range(0, len(prompts), self._batch_size):
                stop = start + self._batch_size
                pixels = network.preprocessing(images[start:stop].float().to(network.device))
                parts.append(network.compare(network.encode_images(pixels), texts[start:stop]))
            return self._finite(torch.cat(parts)).to(images.device)

    def _encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """(N, E): each distinct prompt is encoded once and remembered."""
        with self._lock:
            known = {prompt: self._prompts[prompt] for prompt in set(prompts) & self._prompts.keys()}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        for start in range(0, len(new), 64):
            part = new[start : start + 64]
            with torch.no_grad():
                known |= dict(zip(part, self._network.encode_prompts(part), strict=True))
        with self._lock:
            for prompt, encoded in known.items():
                self._prompts[prompt] = encoded
                self._prompts.move_to_end(prompt)
            while len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return torch.stack([known[prompt] for prompt in prompts])


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and not 1 <= batch_size <= _LARGEST_BATCH:
        raise InputError(f"batch_size: is {batch_size}, expected 1 to {_LARGEST_BATCH:,}")


def _check_prompt(place: str, text: object) -> str:
    if not isinstance(text, str):
        raise InputError(f"{place}: is of type {type(text).__name__}, expected a string")
    if not text.strip():
        raise InputError(f"{place}: is empty, expected the text that the image was made for")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: is not Unicode text ({error}); mend its encoding") from error
    return text


def _aligned(prompts: str | Sequence[str], count: int) -> list[str]:
    """One prompt for each of `count` images, checked."""
    if not isinstance(prompts, str | Sequence):
        raise InputError(f"prompts: are of type {type(prompts).__name__}, expected a string or one for each image")
    texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
    if len(texts) != count:
        raise InputError(f"prompts: there are {len(texts)} for {count} images, expected one for each, or one string")
    return [_check_prompt(f"prompts[{index}]", text) for index, text in enumerate(texts)]


_T = TypeVar("_T")


def _chunks(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(values)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
