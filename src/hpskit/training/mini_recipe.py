"""The settings of a linear fit on fixed features, in one frozen record."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from hpskit.errors import InputError
from hpskit.training.recipes import Settings

__all__ = ["MiniRecipe"]

Penalty = Annotated[float, Field(gt=0)]


class MiniRecipe(Settings):
    """What decides the weights and the figures, beside the data. The defaults are those of the embedded model."""

    version: str = "local"
    """Of the weights; part of their identity."""
    licence: str = "Apache-2.0 (network), unknown (data)"
    """Of the weights."""
    data_name: str = ""
    """What the record of training calls the data; empty is the name of their folder and file."""
    penalties: Annotated[tuple[Penalty, ...], Field(strict=False, min_length=1)] = (1.0, 0.3, 0.1)
    """Of the squared weights, from large to small; one is chosen by cross-validation inside every training fold."""
    shrinkage: float = Field(default=0.5, ge=0, le=1)
    """How far the votes of a pair move towards the average votes for its two generators, 0 to 1; 0 if these are not
    known."""
    cross_weight: float = Field(default=0.5, ge=0, le=100)
    """Weight of all pairs of images of different prompts, judged by the averages of their generators; 1 is the weight
    of all pairs that people compared. There are none if the generators are not known."""
    copy_weight: float = Field(default=0.3, ge=0, le=100)
    """Weight of all pairs of an image and a spoilt copy of it, likewise."""
    folds: int = Field(default=10, ge=2, le=1000)
    """Parts of the prompts, each held out once; as many as there are prompts if they are fewer."""
    repeats: int = Field(default=3, ge=1, le=100)
    """How often they are parted anew."""

    @model_validator(mode="after")
    def fields_fit(self) -> Self:
        """Refuse penalties that are not in order."""
        if list(self.penalties) != sorted(set(self.penalties), reverse=True):
            found = f"is {list(self.penalties)}"
            raise InputError("penalties", found, expected="each number once, from large to small")
        return self
