"""The layouts of data sets, one in each module, as models of their rows that one loop reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from hpskit.dataset.group import Group, compared_pairs, orders
from hpskit.errors import InputError, RecordError, shown
from hpskit.rows import Report
from hpskit.schema import Expected, Strict, parse

Entries: TypeAlias = Iterator[tuple[str, dict[str, Any]]]
"""Place in words and content of each row."""
Loss: TypeAlias = Callable[[str], None]
"""Is told, in words, of anything that a layout has no place for."""

LABELS: dict[tuple[float | None, float | None], tuple[int, int]] = {(1, 0): (1, 2), (0, 1): (2, 1), (0.5, 0.5): (1, 1)}
"""Labels of two images -> their ranks."""


def distinct_images(images: tuple[str, ...], *, field: str = "") -> tuple[str, ...]:
    """Return the images of a group, if all are different.

    Raises:
        InputError: one is there twice.
    """
    if len(set(images)) < len(images):
        twice = next(name for number, name in enumerate(images) if name in images[:number])
        raise InputError(field, f"names {twice!r} twice", expected="each image once", cure="remove one with its rank")
    return images


Text = Annotated[str, StringConstraints(pattern=r"\S"), Expected("a text that is not blank, of whole characters")]
"""No half of a surrogate pair is in a text, because it could be written nowhere."""
ImageName = Annotated[str, StringConstraints(pattern=r"\A[^\x00]+\z"), Expected("a file name, without NUL")]
"""A path or a label; not empty."""
Images = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"\A[^\x00]+\z")], ...],
    Field(strict=False, min_length=2),
    Expected("a list of at least two file names, without NUL"),
    AfterValidator(distinct_images),
]
"""The images of a group, all different."""
_LARGEST = 1_000_000
Count = Annotated[int, Field(ge=1, le=_LARGEST), Expected(f"a whole number from 1 to {_LARGEST:,}")]
"""Votes: more is a slip of the pen, and votes are counted out one by one."""
_Rank = Annotated[int, Field(ge=1, le=_LARGEST)]
_RANKS = f"whole numbers from 1 to {_LARGEST:,}, one for each image (1 is best, equal ranks are a tie)"
Ranks = Annotated[tuple[_Rank, ...], Field(strict=False), Expected(_RANKS)]
PartialRanks = Annotated[tuple[_Rank | None, ...], Field(strict=False), Expected(f"{_RANKS}, null for not ranked")]
Texts = Annotated[tuple[Text, ...], Field(strict=False), Expected("a list of texts, one for each image")]


def _content(value: object) -> object:
    """Return the bytes of an image as `datasets` saves it, with a path of the machine where it was."""
    return value["bytes"] if isinstance(value, dict) and value.keys() == {"bytes", "path"} else value


ImageBytes = Annotated[
    bytes | None, BeforeValidator(_content), Expected("the bytes of an image, a struct of `bytes` and `path`, or null")
]


def pair_in_row(place: str, prompt: str, sides: Mapping[str, bytes | None], **more: Any) -> Group:
    """Make the group of a row that carries its two images; they are named after file, row and side."""
    file, _, row = place.rpartition(": ")
    names = {f"{Path(file).stem}-{row.split()[1]}-{side}.jpg": data for side, data in sides.items()}
    embedded = {name: data for name, data in names.items() if data is not None}
    return Group(place=place, prompt=prompt, images=tuple(names), embedded=embedded, **more)


def check_lengths(images: Sequence[str], **fields: Sequence[object] | None) -> None:
    """See that fields hold a value for every image, if they are there.

    Raises:
        InputError: there are fewer or more.
    """
    for field, values in fields.items():
        if values is not None and len(values) != len(images):
            found = f"has {len(values)} values for {len(images)} images"
            raise InputError(field, found, expected="one for each", cure="add or remove values or images")


def check_meta(field: str, meta: Mapping[str, Any]) -> None:
    """See that an object can be written as JSON in UTF-8.

    Raises:
        InputError: it has a number without end, half of a surrogate pair, or too many levels.
    """
    try:
        if meta:
            json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        expected = "an object {…} with finite numbers, whole characters and not too many levels"
        raise InputError(field, f"is {shown(meta)}", expected=expected) from None


class Layout(Strict):
    """Base of the rows of a layout. A row is a group, unless `read` says otherwise."""

    layout: ClassVar[str]
    """Its name."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Folders beside the file of which the first that exists holds the images; if none exists it is the file's own."""
    carries: ClassVar[frozenset[str]] = frozenset()
    """Fields that may hold the bytes of images. Each row of such a layout is a group by itself."""

    @classmethod
    def needs(cls) -> frozenset[str]:
        """Name the fields that every row has; by them the layout is known."""
        return frozenset(f.alias or name for name, f in cls.model_fields.items() if f.is_required())

    @classmethod
    def of(cls, value: object, place: str) -> Self:
        """Make a row of what was read; see `hpskit.schema.parse`.

        Raises:
            RecordError: a field is missing, unknown, or not what it should be.
        """
        return parse(cls, value, place, error=RecordError, cure="correct it or remove the row")

    @classmethod
    def read(cls, entries: Entries, report: Report) -> Iterator[Group]:
        """Read all rows, in order. `report` receives the error of a broken row, and the next one is read."""
        for place, value in entries:
            try:
                row = cls.of(value, place)
            except RecordError as error:
                report(error)
            else:
                yield row.to_group(place)

    def to_group(self, place: str) -> Group:
        """Return the group that the row describes."""
        raise NotImplementedError


def lose_description(group: Group, lose: Loss) -> None:
    """Tell of everything in a group that neither compares images nor names them."""
    for what, value in (("names of groups", group.id), ("sources", group.sources), ("categories", group.category)):
        if value is not None:
            lose(what)
    for name in group.meta:
        lose(f"field {name}")


def lose_of_pairs(group: Group, lose: Loss) -> None:
    """Tell of everything in a group that its pairs do not hold, whatever is written of each."""
    lose_description(group, lose)
    judgements = orders(group)
    if group.rank is not None:
        lose("published orders" if group.judgements else "that orders are published ones (written as one vote)")
    if any(j.annotator is not None for j in judgements):
        lose("annotators")
    if len(group.images) > 2:
        lose("groups of more than two images (written as pairs)")
    elif any(None not in j.ranks and j.ranks not in LABELS.values() for j in judgements):
        lose("ranks other than 1 and 2 (their order is written)")
    if any(None in j.ranks for j in judgements):
        lose("partial rankings (the images left out are in no pair)")
    if not compared_pairs(group):
        lose("groups that nobody judged (left out)")
