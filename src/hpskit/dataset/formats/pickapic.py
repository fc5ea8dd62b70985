"""Pick-a-Pic (Kirstain et al. 2023, arXiv 2305.01569), v1 and v2: parquet files with the bytes of two images a row.

Images are named after their uid, `UID.jpg`. In a row whose two images are the same one, the second is `UID-1.jpg`.
A row without a label (`has_label` false) is a group that nobody has judged, whatever its labels say. All other columns
are kept in `meta`.
"""

from __future__ import annotations

import datetime
import math
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from hpskit.dataset.formats import LABELS, Layout, Text
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError
from hpskit.schema import Expected

_KEPT = {
    "are_different",
    "best_image_uid",
    "created_at",
    "image_0_url",
    "image_1_url",
    "num_example_per_prompt",
    "index_level_0",
    "ranking_id",
}


def known(value: Any) -> Any:
    """Return None for NaN, which is how pandas saves that there is no value."""
    return None if isinstance(value, float) and math.isnan(value) else value


def whole(value: Any) -> Any:
    """Return the whole number that pandas saves as a float in a column with gaps."""
    value = known(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    value = known(value)
    return value.isoformat() if isinstance(value, datetime.date) else value


Number = Annotated[int | None, BeforeValidator(whole), Expected("a whole number, or null")]
Label = Annotated[float | None, BeforeValidator(known), Expected("1, 0 or 0.5")]
Image = Annotated[bytes | None, Expected("the bytes of an image, or null")]
Kept = Annotated[
    str | bool | int | float | None,
    BeforeValidator(plain),
    Expected("a text, a finite number, a time, true, false or null"),
]


Uid = Annotated[str, StringConstraints(pattern=r"\A[^\x00]*[^\x00\s][^\x00]*\z"), Expected("an id, without NUL")]
"""Becomes the name of a file."""


class ChoiceRow(Layout):
    """A row of any of its files."""

    layout = "pickapic"
    carries = frozenset({"jpg_0", "jpg_1"})

    caption: Text
    image_0_uid: Uid
    image_1_uid: Uid
    label_0: Label
    label_1: Label
    has_label: Annotated[bool, Expected("true or false")] = True
    jpg_0: Image = None
    jpg_1: Image = None
    model_0: Text | None = None
    model_1: Text | None = None
    user_id: Number = None
    are_different: Kept = None
    best_image_uid: Kept = None
    created_at: Kept = None
    image_0_url: Kept = None
    image_1_url: Kept = None
    num_example_per_prompt: Kept = None
    index_level_0: Kept = Field(default=None, alias="__index_level_0__")
    ranking_id: Number = None

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the labels mean something."""
        if self.has_label and (self.label_0, self.label_1) not in LABELS:
            expected = "1 and 0, 0 and 1, 0.5 and 0.5 for a tie, or has_label false"
            raise InputError("label_0 and label_1", f"are {self.label_0} and {self.label_1}", expected=expected)
        return self

    def to_group(self, place: str) -> Group:
        names = (f"{self.image_0_uid}.jpg", f"{self.image_1_uid}{'-1' * (self.image_0_uid == self.image_1_uid)}.jpg")
        sources, models = None, {"model_0": self.model_0, "model_1": self.model_1}
        if self.model_0 is not None and self.model_1 is not None:
            sources, models = (self.model_0, self.model_1), {}
        annotator = None if self.user_id is None else str(self.user_id)
        ranks = LABELS[self.label_0, self.label_1] if self.has_label else None
        meta = {**self.model_dump(include=_KEPT, by_alias=True), **models}
        return Group(
            place=place,
            prompt=self.caption,
            images=names,
            judgements=() if ranks is None else (Judgement(ranks=ranks, annotator=annotator),),
            sources=sources,
            embedded={
                name: data for name, data in zip(names, (self.jpg_0, self.jpg_1), strict=True) if data is not None
            },
            meta={name: value for name, value in meta.items() if value is not None},
        )
