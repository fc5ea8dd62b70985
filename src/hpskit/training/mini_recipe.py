"""The settings of a linear fit on fixed features, in one frozen record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hpskit.errors import InputError
from hpskit.training.settings import Settings

__all__ = ["MiniRecipe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniRecipe(Settings):
    """What decides the weights and the figures, beside the data. The defaults are those of the embedded model."""

    KIND: ClassVar[str] = "the recipe mini"
    EXAMPLE: ClassVar[str] = "repeats=1"
    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "shrinkage": (0, 1),
        "cross_weight": (0, 100),
        "copy_weight": (0, 100),
        "folds": (2, 1000),
        "repeats": (1, 100),
    }
    MAY_BE_EMPTY: ClassVar[frozenset[str]] = frozenset({"data_name"})

    version: str = "local"
    """Of the weights; part of their identity."""
    licence: str = "Apache-2.0 (network), unknown (data)"
    """Of the weights."""
    data_name: str = ""
    """What the record of training calls the data; empty is the name of their folder and file."""
    penalties: tuple[float, ...] = (1.0, 0.3, 0.1)
    """Of the squared weights, from large to small; one is chosen by cross-validation inside every training fold."""
    shrinkage: float = 0.5
    """How far the votes of a pair move towards the average votes for its two generators, 0 to 1; 0 if these are not
    known."""
    cross_weight: float = 0.5
    """Weight of all pairs of images of different prompts, judged by the averages of their generators; 1 is the weight
    of all pairs that people compared. There are none if the generators are not known."""
    copy_weight: float = 0.3
    """Weight of all pairs of an image and a spoilt copy of it, likewise."""
    folds: int = 10
    """Parts of the prompts, each held out once; as many as there are prompts if they are fewer."""
    repeats: int = 3
    """How often they are parted anew."""

    def _check_together(self) -> None:
        if any(not 0 < penalty < math.inf for penalty in self.penalties):
            raise InputError(f"penalties: is {list(self.penalties)}, expected numbers above 0, such as [1.0, 0.3, 0.1]")
        if list(self.penalties) != sorted(set(self.penalties), reverse=True):
            raise InputError(f"penalties: is {list(self.penalties)}, expected each once, from large to small")
