"""ImageReward's annotations (Xu et al. 2023, arXiv 2304.05977): groups ranked once, with ties.

`test.json` of the code repository has a group in each row. ImageRewardDB on the hub has an image in each row, in
`metadata-test.parquet` or the JSON files of its archives; the images of a prompt are a group.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpskit.dataset.formats.contract import Entries, Format, row_by_row
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import RecordError
from hpskit.records import Row
from hpskit.rows import Report

__all__ = ["DATABASE", "IMAGEREWARD"]

_NEEDS = frozenset({"id", "prompt", "generations", "ranking"})
_IMAGE_NEEDS = frozenset({"image_path", "prompt_id", "prompt", "rank", "image_amount_in_total"})
_RATINGS = ("overall_rating", "image_text_alignment_rating", "fidelity_rating")


def _parse(row: Row) -> Group:
    images = row.images("generations")
    return Group(
        place=row.place,
        id=row.text("id"),
        prompt=row.text("prompt"),
        images=images,
        judgements=(Judgement(ranks=row.ranks("ranking", len(images))),),
    )


def _images(entries: Entries, report: Report) -> Iterator[Group]:
    """Nothing says that the rows of a prompt follow one another, so all 62,600 are held until the last is read."""
    prompts: dict[str, list[Row]] = {}
    for place, value in entries:
        try:
            row = Row(place, value, _IMAGE_NEEDS | {"classification", *_RATINGS})
            rows = prompts.setdefault(row.text("prompt_id"), [])
            _check_image(row, rows)
        except RecordError as error:
            report(error)
        else:
            rows.append(row)
    for name, rows in prompts.items():
        try:
            if rows:
                yield _group(name, rows)
        except RecordError as error:
            report(error)


def _check_image(row: Row, others: list[Row]) -> None:
    """See that an image is one of a prompt's, and another one than those before."""
    for name in ("prompt", "classification", "image_amount_in_total"):
        if others and row.value.get(name) != others[0].value.get(name):
            row.fail(name, f"the same as in {others[0].place}, which has the same prompt_id")
    names = [other.text("image_path") for other in (*others, row)]
    if others:
        row.check_images("image_path", names)
    row.text("prompt")
    row.optional_text("classification")
    row.count("rank", 0)
    row.count("image_amount_in_total", 0)


def _group(name: str, rows: list[Row]) -> Group:
    first = rows[0]
    if len(rows) == 1:
        cure = "bring the rows that are missing or remove this one"
        raise RecordError(f"{first.place}: is the only image of prompt {name!r}, expected at least two; {cure}")
    ratings = {field: [row.value.get(field) for row in rows] for field in _RATINGS}
    known = {field: values for field, values in ratings.items() if any(value is not None for value in values)}
    return Group(
        place=first.place,
        id=name,
        prompt=first.text("prompt"),
        images=tuple(row.text("image_path") for row in rows),
        judgements=(Judgement(ranks=tuple(row.count("rank", 0) for row in rows)),),
        category=first.optional_text("classification"),
        meta={"image_amount_in_total": first.value["image_amount_in_total"], **first.meta(_RATINGS[0], known)},
    )


IMAGEREWARD = Format(
    name="imagereward",
    summary="ImageReward, test.json: groups ranked with ties",
    needs=_NEEDS,
    read=row_by_row(_parse, _NEEDS),
    folders=("test_images",),
)
DATABASE = Format(
    name="imagerewarddb",
    summary="ImageRewardDB, metadata-*.parquet: an image in each row",
    needs=_IMAGE_NEEDS,
    read=_images,
)
