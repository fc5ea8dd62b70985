"""The promises of everything that scores images, and a scorer with its label in tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

from hpskit.errors import InputError
from hpskit.records import ScorerInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from hpskit.models.training_record import TrainingRecord
    from hpskit.pixels import Encoded

ImageLike: TypeAlias = Union[str, os.PathLike[str], "Image.Image", "Tensor", "NDArray[Any]", "Encoded"]
"""A path, a PIL image, a tensor or array (3, H, W) or (H, W, 3), or the bytes of a file that was read already."""
Images: TypeAlias = ImageLike | Iterable[ImageLike]
"""One image or several; a tensor or array may hold N of them."""


@runtime_checkable
class Scorer(Protocol):
    """Scores images for prompts; knows nothing about files, HTTP or benchmarks."""

    @property
    def info(self) -> ScorerInfo:
        """Identity of the scores."""
        ...

    @property
    def reads_prompt(self) -> bool:
        """True if the score depends on the prompt."""
        ...

    @property
    def log_odds_per_point(self) -> float | None:
        """Log-odds of being preferred, for each point by which an image is ahead of another of its prompt.

        None if nothing says so; 0 if the scorer's probabilities say nothing.
        """
        ...

    def score(self, images: ImageLike | Sequence[ImageLike], prompts: str | Sequence[str]) -> Tensor:
        """Score N images for N prompts (or one for all): (N,) float32, higher is better."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A scorer under its label, and what is known of its training."""

    label: str
    """Name in tables and pages; different for each."""
    scorer: Scorer
    training: TrainingRecord | None = None
    """None if its makers left no record of what it was trained on."""


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """See that scorers can be told apart.

    Raises:
        InputError: two have the same label or the same identity.
    """
    labels = [candidate.label for candidate in candidates]
    identities = [candidate.scorer.info.identity for candidate in candidates]
    for names, found in ((labels, "names {!r} twice"), (identities, "has two that are {!r}")):
        for name in names:
            if names.count(name) > 1:
                raise InputError("scorers", found.format(name), cure="name each scorer once")
