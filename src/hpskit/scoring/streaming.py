"""Images through scorers, a batch at a time, while the next ones are being decoded.

Each image is decoded once, and preprocessed once for all scorers that agree on how.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union

from PIL import Image

from hpskit.errors import ImageError
from hpskit.pixels import Encoded, Preprocessing, as_float, as_pixels, opened, to_image
from hpskit.scoring.contract import ImageLike

if TYPE_CHECKING:
    from torch import Tensor

    from hpskit.scoring.scorer import PreferenceScorer

T = TypeVar("T")

_DECODED_AHEAD = 2  # batches

Prepared: TypeAlias = Union["Tensor", Image.Image]
"""The result of a preprocessing, (3, S, S); for a scorer without one the decoded image itself, in mode RGB."""

Outcome = list[float] | ImageError
"""One score for each scorer, or why the image cannot be scored by all of them."""


def stream(
    scorers: Sequence[PreferenceScorer],
    images: Iterable[Any],
    prompts: Iterable[str],
    *,
    bring: Callable[[Any], ImageLike] = lambda image: image,
    threads: int = min(4, os.cpu_count() or 1),
) -> Iterator[list[Outcome]]:
    """Score pairs of image and prompt by every scorer. Batches are as large as the smallest that a scorer wants.

    Args:
        scorers: at least one.
        images: read as they are needed.
        prompts: one for each image, checked.
        bring: makes an image of what stands for one; it may wait, and raise an ImageError.
        threads: bring, decode and preprocess.

    Yields:
        Outcomes in the order of the images; one that cannot be used comes out as its error, in its place.
    """
    kinds = {scorer.preprocessing for scorer in scorers}
    size = min(scorer.batch_size for scorer in scorers)
    pairs = iter(zip(images, prompts, strict=True))
    with ThreadPoolExecutor(threads, thread_name_prefix="hpskit-decode") as pool:
        queue: deque[list[tuple[Future[Ready | ImageError], str]]] = deque()
        try:
            while batch := list(itertools.islice(pairs, size)):
                queue.append([(pool.submit(prepare, image, kinds, bring), prompt) for image, prompt in batch])
                if len(queue) > _DECODED_AHEAD:
                    yield _score(scorers, queue.popleft())
            while queue:
                yield _score(scorers, queue.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


Ready: TypeAlias = Mapping[Preprocessing | None, Prepared]
"""One image, prepared in several ways."""


def prepare(
    image: Any, kinds: Collection[Preprocessing | None], bring: Callable[[Any], ImageLike] = lambda image: image
) -> Ready | ImageError:
    """Decode an image once and preprocess it in each of these ways; or return why that cannot be done."""
    import torch

    try:
        with torch.inference_mode():
            image = bring(image)
            if not isinstance(image, str | os.PathLike | Encoded | Image.Image):
                pixels = as_float(as_pixels(image, dimensions=3, layout="NCHW"))
                return {kind: kind(pixels) if kind else to_image(pixels) for kind in kinds}
            with opened(image) as decoded:
                return {kind: kind(decoded) if kind else decoded for kind in kinds}
    except ImageError as error:
        return error.alone()


def by_halves(
    ask: Callable[[list[Any], list[str]], list[T]], images: list[Any], prompts: list[str]
) -> list[T | Exception]:
    """Return what `ask` gives for each image, or its error: halves are asked again, so a broken one spoils none."""
    try:
        return [*ask(images, prompts)]
    except Exception as error:  # noqa: BLE001  # whoever asked gets it
        if len(images) < 2:
            return [error] * len(images)
        half = len(images) // 2
        return [*by_halves(ask, images[:half], prompts[:half]), *by_halves(ask, images[half:], prompts[half:])]


def _score(scorers: Sequence[PreferenceScorer], batch: list[tuple[Future[Ready | ImageError], str]]) -> list[Outcome]:
    outcomes = [(future.result(), prompt) for future, prompt in batch]
    ready = [(outcome, prompt) for outcome, prompt in outcomes if not isinstance(outcome, ImageError)]
    if not ready:
        return [outcome for outcome, _ in outcomes if isinstance(outcome, ImageError)]
    prompts = [prompt for _, prompt in ready]
    columns = [
        scorer.outcomes([prepared[scorer.preprocessing] for prepared, _ in ready], prompts) for scorer in scorers
    ]
    rows = map(_together, zip(*columns, strict=True))
    return [outcome if isinstance(outcome, ImageError) else next(rows) for outcome, _ in outcomes]


def _together(row: tuple[float | ImageError, ...]) -> Outcome:
    """Return what all scorers say of an image, or the first that cannot say anything."""
    scores = [score for score in row if not isinstance(score, ImageError)]
    return scores if len(scores) == len(row) else next(error for error in row if isinstance(error, ImageError))
