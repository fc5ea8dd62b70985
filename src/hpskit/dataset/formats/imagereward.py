"""ImageReward's annotations (Xu et al. 2023, arXiv 2304.05977): groups ranked once, with ties.

`test.json` of the code repository has a group in each row. ImageRewardDB on the hub has an image in each row, in
`metadata-test.parquet` or the JSON files of its archives; the images of a prompt are a group.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Self

from pydantic import model_validator

from hpskit.dataset.formats import Entries, Format, GroupRow, group_rows
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import RecordError, shown
from hpskit.records import Count, ImageName, Images, Ranks, Text, check_images, check_length, check_meta, parse_row
from hpskit.rows import Report

__all__ = ["DATABASE", "IMAGEREWARD"]

_RATINGS = ("overall_rating", "image_text_alignment_rating", "fidelity_rating")
_OF_THE_PROMPT = ("prompt", "classification", "image_amount_in_total")


class RankedRow(GroupRow):
    """A row of `test.json`."""

    id: Text
    prompt: Text
    generations: Images
    ranking: Ranks

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the fields fit one another."""
        check_images("generations", self.generations)
        check_length("ranking", self.ranking, self.generations)
        return self

    def group(self, place: str) -> Group:
        """Return the group with its one judgement."""
        judgements = (Judgement(ranks=self.ranking),)
        return Group(place=place, id=self.id, prompt=self.prompt, images=self.generations, judgements=judgements)


class ImageRow(GroupRow):
    """A row of ImageRewardDB: one image of a prompt."""

    image_path: ImageName
    prompt_id: Text
    prompt: Text
    rank: Count
    image_amount_in_total: Count
    classification: Text | None = None
    overall_rating: Any = None
    image_text_alignment_rating: Any = None
    fidelity_rating: Any = None

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the ratings can be kept."""
        for name in _RATINGS:
            check_meta(name, {name: getattr(self, name)})
        return self


def _images(entries: Entries, report: Report) -> Iterator[Group]:
    """Nothing says that the rows of a prompt follow one another, so all 62,600 are held until the last is read."""
    prompts: dict[str, dict[str, tuple[str, ImageRow]]] = {}
    for place, value in entries:
        try:
            row = parse_row(ImageRow, value, place)
            images = prompts.setdefault(row.prompt_id, {})
            _check_image(place, row, images)
        except RecordError as error:
            report(error)
        else:
            images[row.image_path] = place, row
    for name, images in prompts.items():
        places, rows = [place for place, _ in images.values()], [row for _, row in images.values()]
        if len(rows) > 1:
            yield _group(name, places[0], rows)
        elif rows:
            found = f"is the only image of prompt {name!r}"
            cure = "bring the rows that are missing or remove this one"
            report(RecordError(places[0], found, expected="at least two", cure=cure))


def _check_image(place: str, row: ImageRow, images: dict[str, tuple[str, ImageRow]]) -> None:
    """See that a row says the same of its prompt as the first one, and names another image than those before."""
    if row.image_path in images:
        found, cure = f"names {row.image_path!r} twice", "remove one with its rank"
        raise RecordError(f"{place}: image_path", found, expected="each image once", cure=cure)
    for before, other in itertools.islice(images.values(), 1):
        for name in _OF_THE_PROMPT:
            if getattr(row, name) != getattr(other, name):
                expected = f"the same as in {before}, which has the same prompt_id"
                found = f"is {shown(getattr(row, name))}"
                raise RecordError(f"{place}: {name}", found, expected=expected, cure="correct it or remove the row")


def _group(name: str, place: str, rows: list[ImageRow]) -> Group:
    first = rows[0]
    ratings = {field: [getattr(row, field) for row in rows] for field in _RATINGS}
    return Group(
        place=place,
        id=name,
        prompt=first.prompt,
        images=tuple(row.image_path for row in rows),
        judgements=(Judgement(ranks=tuple(row.rank for row in rows)),),
        category=first.classification,
        meta={
            "image_amount_in_total": first.image_amount_in_total,
            **{field: values for field, values in ratings.items() if any(value is not None for value in values)},
        },
    )


IMAGEREWARD = Format(
    name="imagereward",
    needs=RankedRow.needs(),
    read=group_rows(RankedRow),
    folders=("test_images",),
)
DATABASE = Format(
    name="imagerewarddb",
    needs=ImageRow.needs(),
    read=_images,
)
