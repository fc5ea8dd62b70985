"""What everything that scores images promises to those who use scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, Union, runtime_checkable

from hpskit.records import ScorerInfo

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

__all__ = ["ImageLike", "Scorer"]

ImageLike: TypeAlias = Union[str, os.PathLike[str], "Image.Image", "Tensor"]
"""A path, a PIL image, or a float tensor (3, H, W) in [0, 1]."""


@runtime_checkable
class Scorer(Protocol):
    """Scores images for prompts; knows nothing about files, HTTP or benchmarks."""

    @property
    def info(self) -> ScorerInfo:
        """Identity of the scores."""
        ...

    def score(self, images: ImageLike | Sequence[ImageLike], prompts: str | Sequence[str]) -> Tensor:
        """N images and N prompts (or one for all) -> (N,) float32, higher is better."""
        ...
