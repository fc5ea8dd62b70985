"""Several scorers over the same images: each image is decoded once, and preprocessed once for all scorers that agree
on how."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from hpskit.errors import ImageError, InputError
from hpskit.pixels import Preprocessing, open_image, to_tensor
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import PreferenceScorer

__all__ = ["stream_together"]

_BATCH = 8  # where no scorer says otherwise
_DECODED_AHEAD = 2  # batches

Outcome = list[float] | ImageError
"""One score for each scorer, or why the image cannot be scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """An image that was decoded once."""

    image: Image.Image
    pixels: Mapping[Preprocessing, Tensor]


def stream_together(
    scorers: Sequence[Scorer],
    images: Iterable[str | os.PathLike[str] | Image.Image],
    prompts: Iterable[str],
) -> Iterator[list[Outcome]]:
    """Score pairs of image and prompt by every scorer, a batch at a time, while the next images are being decoded.

    Args:
        scorers: at least one. Those of hpskit share decoding and preprocessing; others get the decoded PIL image.
        images: paths or PIL images, read as they are needed.
        prompts: one for each image.

    Yields:
        For each pair in order one score per scorer, the same as `scorer.score` gives; an image that cannot be used
        comes out as its error, in its place.

    Raises:
        InputError: there are no scorers, or a prompt is not usable.
    """
    if not scorers:
        raise InputError("scorers: there are none, expected at least one")
    own = [scorer for scorer in scorers if isinstance(scorer, PreferenceScorer)]
    kinds = list(dict.fromkeys(scorer.preprocessing for scorer in own))
    size = min((scorer.batch_size for scorer in own), default=_BATCH)
    pairs = iter(zip(images, prompts, strict=True))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hpskit-decode") as pool:
        queue: deque[list[tuple[Future[_Ready | ImageError], str]]] = deque()
        try:
            while batch := list(itertools.islice(pairs, size)):
                queue.append([(pool.submit(_ready, image, kinds), prompt) for image, prompt in batch])
                if len(queue) > _DECODED_AHEAD:
                    yield _score(scorers, queue.popleft())
            while queue:
                yield _score(scorers, queue.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _ready(image: str | os.PathLike[str] | Image.Image, kinds: Sequence[Preprocessing]) -> _Ready | ImageError:
    try:
        opened = open_image(image if isinstance(image, Image.Image) else Path(image))
        with torch.inference_mode():
            tensor = to_tensor(opened) if kinds else torch.empty(0)
            return _Ready(image=opened, pixels={kind: kind(tensor) for kind in kinds})
    except ImageError as error:
        return error


def _score(scorers: Sequence[Scorer], batch: list[tuple[Future[_Ready | ImageError], str]]) -> list[Outcome]:
    outcomes = [future.result() for future, _ in batch]
    usable = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, _Ready)]
    results: list[Outcome] = [outcome if isinstance(outcome, ImageError) else [] for outcome in outcomes]
    if usable:
        ready = [outcome for outcome in outcomes if isinstance(outcome, _Ready)]
        prompts = [batch[i][1] for i in usable]
        columns = [_scores_of(scorer, ready, prompts) for scorer in scorers]
        for i, scores in zip(usable, zip(*columns, strict=True), strict=True):
            results[i] = list(scores)
    return results


def _scores_of(scorer: Scorer, ready: Sequence[_Ready], prompts: Sequence[str]) -> list[float]:
    if isinstance(scorer, PreferenceScorer):
        pixels = torch.stack([image.pixels[scorer.preprocessing] for image in ready])
        scores = scorer.score_preprocessed(pixels, prompts)
    else:
        scores = scorer.score([image.image for image in ready], prompts)
    return [float(score) for score in scores]
