"""Pick-a-Pic (Kirstain et al. 2023, arXiv 2305.01569), v1 and v2: parquet files with the bytes of two images a row.

Images are named after their uid, `UID.jpg`. In a row whose two images are the same one, the second is `UID-1.jpg`.
A row without a label (`has_label` false) is a group that nobody has judged, whatever its labels say. All other columns
are kept in `meta`.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

from hpskit.dataset.formats.contract import Format, label_ranks, row_by_row
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import RecordError
from hpskit.records import Row

__all__ = ["PICKAPIC"]

_NEEDS = frozenset({"caption", "image_0_uid", "image_1_uid", "label_0", "label_1"})
_READ = ("has_label", "jpg_0", "jpg_1", "model_0", "model_1", "ranking_id", "user_id")
_KEPT = (
    "are_different",
    "best_image_uid",
    "created_at",
    "image_0_url",
    "image_1_url",
    "num_example_per_prompt",
    "__index_level_0__",
)


def _parse(row: Row) -> Group:
    first, second = row.text("image_0_uid"), row.text("image_1_uid")
    names = (f"{first}.jpg", f"{second}{'-1' if first == second else ''}.jpg")
    meta = {name: value for name in _KEPT if (value := _kept(row, name)) is not None}
    sources = None
    if row.value.get("model_0") is not None and row.value.get("model_1") is not None:
        sources = (row.text("model_0"), row.text("model_1"))
    else:
        meta |= {name: row.text(name) for name in ("model_0", "model_1") if row.value.get(name) is not None}
    ranking = _number(row, "ranking_id")
    return Group(
        place=row.place,
        prompt=row.text("caption"),
        images=names,
        judgements=_judgements(row),
        sources=sources,
        embedded={
            name: data
            for name, field in zip(names, ("jpg_0", "jpg_1"), strict=True)
            if (data := _jpg(row, field)) is not None
        },
        meta=meta if ranking is None else {**meta, "ranking_id": ranking},
    )


def _judgements(row: Row) -> tuple[Judgement, ...]:
    has_label = row.value.get("has_label", True)
    if not isinstance(has_label, bool):
        row.fail("has_label", "true or false")
    if not has_label:
        return ()
    labels = row.value.get("label_0"), row.value.get("label_1")
    ranks = label_ranks(*labels)
    if ranks is None:
        expected = "1 and 0, 0 and 1, 0.5 and 0.5 for a tie, or has_label false; correct them or remove the row"
        raise RecordError(f"{row.place}: label_0 and label_1 are {labels[0]} and {labels[1]}, expected {expected}")
    user = _number(row, "user_id")
    return (Judgement(ranks=ranks, annotator=None if user is None else str(user)),)


def _jpg(row: Row, field: str) -> bytes | None:
    data = row.value.get(field)
    if data is not None and not isinstance(data, bytes):
        row.fail(field, "the bytes of an image, or null")
    return data


def _number(row: Row, field: str) -> int | None:
    value = _known(row.value.get(field))
    if isinstance(value, float) and value.is_integer():  # a column with gaps is saved as floats
        value = int(value)
    if value is not None and type(value) is not int:
        row.fail(field, "a whole number, or null")
    return value


def _kept(row: Row, field: str) -> Any:
    value = _known(row.value.get(field))
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str) and not value.isascii():
        return row.text(field)
    if not isinstance(value, str | bool | int | float | None) or value in (math.inf, -math.inf):
        row.fail(field, "a text, a finite number, a time, true, false or null")
    return value


def _known(value: Any) -> Any:
    """None for NaN, which is how pandas saves that there is no value."""
    return None if isinstance(value, float) and math.isnan(value) else value


PICKAPIC = Format(
    name="pickapic",
    summary="Pick-a-Pic, parquet: pairs with the bytes of their images",
    needs=_NEEDS,
    read=row_by_row(_parse, _NEEDS | {*_KEPT, *_READ}),
    carries=frozenset({"jpg_0", "jpg_1"}),
)
