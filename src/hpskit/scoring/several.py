"""Several scorers over the same images, of hpskit or of anybody: each image is decoded once, and preprocessed once for
all scorers that agree on how."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image

from hpskit.errors import InputError
from hpskit.scoring.contract import Scorer
from hpskit.scoring.plain import PlainScorer
from hpskit.scoring.preference import PreferenceScorer
from hpskit.scoring.streaming import Outcome, stream

__all__ = ["stream_together"]


def stream_together(
    scorers: Sequence[Scorer],
    images: Iterable[str | os.PathLike[str] | Image.Image],
    prompts: Iterable[str],
) -> Iterator[list[Outcome]]:
    """Score pairs of image and prompt by every scorer, a batch at a time, while the next images are being decoded.

    Args:
        scorers: at least one. Those that are not hpskit's get batches of decoded images, as a `PlainScorer` does.
        images: paths or PIL images, read as they are needed.
        prompts: one for each image.

    Yields:
        For each pair in order one score per scorer, the same as `scorer.score` gives; an image that cannot be used
        comes out as its error, in its place.

    Raises:
        InputError: there are no scorers.
        ModelError: a scorer does not return one number for each image.
    """
    if not scorers:
        raise InputError("scorers: there are none, expected at least one")
    streamed = [s if isinstance(s, PreferenceScorer) else PlainScorer(s, s.info) for s in scorers]
    return stream(streamed, images, prompts)
