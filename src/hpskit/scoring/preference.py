"""What every scorer of hpskit can do with images and prompts, whatever gives the numbers."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from hpskit.errors import ImageError, InputError, ModelError
from hpskit.models.network import choose_device
from hpskit.pixels import Preprocessing, check_tensor
from hpskit.records import RankedImage, ScorerInfo
from hpskit.scoring.contract import ImageLike
from hpskit.scoring.streaming import Prepared, stream

__all__ = ["PreferenceScorer", "check_batch_size"]

_LARGEST_BATCH = 65_536


class PreferenceScorer(ABC):
    """Scores, ranks and compares images for prompts. Safe to use from several threads."""

    def __init__(
        self,
        info: ScorerInfo,
        *,
        preprocessing: Preprocessing | None,
        log_odds_per_point: float | None,
        reads_prompt: bool,
        batch_size: int | None,
    ) -> None:
        check_batch_size(batch_size)
        self._info = info
        self._preprocessing = preprocessing
        self._log_odds_per_point = log_odds_per_point
        self._reads_prompt = reads_prompt
        self._batch_size = batch_size or (8 if choose_device("auto").type == "cpu" else 64)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info.identity}>"

    @property
    def info(self) -> ScorerInfo:
        """Who gives these scores: model, version, weight hash, preprocessing, precision, package version."""
        return self._info

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How an image becomes the input; None if the scorer takes decoded images and does the rest itself."""
        return self._preprocessing

    @property
    def batch_size(self) -> int:
        """Images per step."""
        return self._batch_size

    @property
    def reads_prompt(self) -> bool:
        """Whether the score depends on the prompt."""
        return self._reads_prompt

    @property
    def log_odds_per_point(self) -> float | None:
        """Log-odds of being preferred, for each point by which an image is ahead of another of its prompt; None if
        nothing says so."""
        return self._log_odds_per_point

    @abstractmethod
    def score_prepared(self, images: Sequence[Prepared], prompts: Sequence[str]) -> Tensor:
        """Score one batch of what `preprocessing` has made: N images and N prompts -> (N,) float32, no gradient."""

    @abstractmethod
    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool) -> Tensor:
        """Checked (N, 3, H, W) and N prompts -> (N,) where the images live."""

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
        It is None if nothing says what the scores are in log-odds.
        """
        scores = self.score(list(images), prompt, progress=progress).double()
        factor = self.log_odds_per_point
        values = scores.tolist()
        probabilities = [None] * len(values) if factor is None else (scores * factor).softmax(dim=0).tolist()
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

        Raises:
            InputError: nothing says what the scores of this model are in log-odds.
        """
        if self.log_odds_per_point is None:
            cure = "compare the scores, or state log_odds_per_point if you know it"
            raise InputError(f"win_probability: the scores of {self.info.name} are not log-odds; {cure}")
        scores = self.score([first, second], prompt).double()
        return float(torch.sigmoid((scores[0] - scores[1]) * self.log_odds_per_point))

    def stream(self, images: Iterable[ImageLike], prompts: Iterable[str]) -> Iterator[list[float | ImageError]]:
        """Score pairs in order, a batch at a time, while the next images are being decoded.

        An image that cannot be used comes out as its error, in its place.

        Raises:
            InputError: a prompt is empty or not a string.
            ModelError: a score is not finite.
        """
        checked = (_check_prompt(f"prompts[{index}]", prompt) for index, prompt in enumerate(prompts))
        for batch in stream([self], images, checked):
            yield [outcome if isinstance(outcome, ImageError) else self._finite(outcome[0]) for outcome in batch]

    def _finite(self, score: float) -> float:
        """The score, if it is a number: a NaN would come out as a rank like any other."""
        if not math.isfinite(score):
            raise ModelError(f"{self.info.name}: gives the score {score}, expected a number; mend the scorer")
        return score


def check_batch_size(batch_size: int | None) -> None:
    """See that it is one, or None.

    Raises:
        InputError: it is not.
    """
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
