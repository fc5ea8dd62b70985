"""ImageReward's annotations (Xu et al. 2023, arXiv 2304.05977): groups ranked once, with ties.

`test.json` of the code repository has a group in each row. ImageRewardDB on the hub has an image in each row, in
`metadata-test.parquet` or the JSON files of its archives; the images of a prompt are a group.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import model_validator

from hpskit.dataset.formats import Count, Entries, ImageName, Images, Layout, Ranks, Text, check_lengths, check_meta
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import RecordError, shown
from hpskit.rows import Report

_RATINGS = ("overall_rating", "image_text_alignment_rating", "fidelity_rating")


class RankedRow(Layout):
    """A row of `test.json`."""

    layout = "imagereward"
    folders = ("test_images",)

    id: Text
    prompt: Text
    generations: Images
    ranking: Ranks

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the fields fit one another."""
        check_lengths(self.generations, ranking=self.ranking)
        return self

    def to_group(self, place: str) -> Group:
        judgements = (Judgement(ranks=self.ranking),)
        return Group(place=place, id=self.id, prompt=self.prompt, images=self.generations, judgements=judgements)


class PromptImage(Layout):
    """Base of rows that have one image each; those of a prompt are a group."""

    same: ClassVar[tuple[str, ...]]
    """Fields that are the same in all rows of a prompt."""

    image_path: ImageName
    prompt_id: Text
    prompt: Text

    @classmethod
    def read(cls, entries: Entries, report: Report) -> Iterator[Group]:
        """Read groups. Their rows need not follow one another, so all, some 60,000, are held until the last is read."""
        prompts: dict[str, dict[str, tuple[str, Any]]] = {}
        for place, value in entries:
            try:
                row = cls.of(value, place)
                images = prompts.setdefault(row.prompt_id, {})
                row.check_with(place, images)
            except RecordError as error:
                report(error)
            else:
                images[row.image_path] = place, row
        for name, images in prompts.items():
            if len(images) > 1:
                yield cls.merged([*images.values()])
            for place, _ in images.values() if len(images) == 1 else ():
                found = f"is the only image of prompt {name!r}"
                cure = "bring the rows that are missing or remove this one"
                report(RecordError(place, found, expected="at least two", cure=cure))

    def check_with(self, place: str, images: Mapping[str, tuple[str, Any]]) -> None:
        """See that it says the same of its prompt as the first row, and names another image than those before."""
        if self.image_path in images:
            found, cure = f"names {self.image_path!r} twice", "remove one with its rank"
            raise RecordError(f"{place}: image_path", found, expected="each image once", cure=cure)
        for before, first in itertools.islice(images.values(), 1):
            for name in self.same:
                if (own := getattr(self, name)) != getattr(first, name):
                    expected, cure = f"the same as in {before}, which has the same prompt_id", "correct it"
                    raise RecordError(f"{place}: {name}", f"is {shown(own)}", expected=expected, cure=cure)

    @staticmethod
    def merged(found: list[tuple[str, Any]]) -> Group:
        """Make a group of the images of a prompt, given as place and row."""
        raise NotImplementedError


class ImageRow(PromptImage):
    """A row of ImageRewardDB: one image of a prompt."""

    layout = "imagerewarddb"
    same = ("prompt", "classification", "image_amount_in_total")

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

    @staticmethod
    def merged(found: list[tuple[str, ImageRow]]) -> Group:
        """Make a group of the images of a prompt."""
        place, first = found[0]
        rows = [row for _, row in found]
        ratings = {field: [getattr(row, field) for row in rows] for field in _RATINGS}
        meta = {field: values for field, values in ratings.items() if any(value is not None for value in values)}
        return Group(
            place=place,
            id=first.prompt_id,
            prompt=first.prompt,
            images=tuple(row.image_path for row in rows),
            judgements=(Judgement(ranks=tuple(row.rank for row in rows)),),
            category=first.classification,
            meta={"image_amount_in_total": first.image_amount_in_total, **meta},
        )
