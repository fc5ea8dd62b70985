"""The records that stages hand to one another: frozen, with units and ranges, to and from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, computed_field, model_validator

from hpskit.errors import InputError, RecordError, shown
from hpskit.schema import Expected, Strict, parse

__all__ = [
    "Count",
    "ImageName",
    "Images",
    "Pair",
    "PartialRanks",
    "RankedImage",
    "Ranking",
    "Ranks",
    "ScorerInfo",
    "Text",
    "Texts",
    "check_lengths",
    "check_meta",
    "distinct_images",
    "parse_row",
]

M = TypeVar("M", bound=Strict)
_HPSKIT_VERSION = re.compile(r"\bhpskit \d[\w.+]*")


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


def parse_row(model: type[M], value: object, place: str) -> M:
    """Make a record of a row; see `hpskit.schema.parse`.

    Raises:
        RecordError: a field is missing, unknown, or not what it should be.
    """
    return parse(model, value, place, error=RecordError, cure="correct it or remove the row")


class ScorerInfo(Strict):
    """The scorer that gave a score. Two scores may be compared only if their identities are equal."""

    model_config = ConfigDict(extra="ignore")  # the identity that `to_json` writes

    name: str
    """Model name, for example `hps-v2.1`, or the stem of a local checkpoint."""
    version: str
    """Version of the weights, or `local`."""
    architecture: str
    """open_clip's name of the network, or `mini`."""
    weight_hash: str
    """`sha256:` and 64 hex digits over all tensors (name, type, shape, bytes), whatever file holds them. Here and below
    `unstated` if the author of a scorer does not say it."""
    preprocessing: str
    """For example `letterbox-224-bicubic-antialias`; see `hpskit.pixels.Preprocessing.name`."""
    precision: str
    """`fp32`, `bf16` or `fp16`: the arithmetic of the network. Scores are float32 in every case."""
    scale: str
    """Unit of the score, in words."""
    licence: str
    """Licence of the weights, as far as it is known."""
    package: str
    """`hpskit` and its version; of a scorer of another package also that, and the hash of its source file."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def identity(self) -> str:
        """The part that decides whether two scores may be compared, on one line."""
        digest = self.weight_hash[: len("sha256:") + 16]
        who = "local" if self.version == "local" else f"{self.name} {self.version}"  # a file may be renamed
        return f"{who} {self.architecture} {digest} {self.preprocessing} {self.precision} {self.package}"

    @property
    def lasting_identity(self) -> str:
        """The identity without the version of hpskit.

        Known answers hold every version to the same scores, so results of two versions may stand side by side as long
        as a reader is told.
        """
        return _HPSKIT_VERSION.sub("hpskit", self.identity)

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the identity, ready for `json.dumps`."""
        return self.model_dump()

    @classmethod
    def from_json(cls, value: object, place: str) -> Self:
        """Read what `to_json` wrote; `place` is named in errors.

        Raises:
            RecordError: a field is missing or not a string.
        """
        return parse_row(cls, value, place)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedImage:
    """One line of a ranking of images made for one prompt."""

    rank: int
    """1 is best; equal scores share the better rank."""
    image: str
    """Path or label of the image."""
    score: float
    """On the scorer's scale, higher is better. What a difference of 1 means depends on the scorer: for HPS it is one
    unit of log-odds, for others another number of them, or it is not known."""
    probability: float | None
    """Modelled probability, 0 to 1, that people prefer this image to all the others listed; None if nothing says what
    the scores are in log-odds."""


class Ranking(Strict):
    """The order that one person, or several who agreed, gave to a group: one line of `rankings.jsonl`."""

    group: Annotated[Text | int, Expected("a name or a number, the same in all lines of the group")]
    """The same in all lines of a group, which follow one another. A number is a group without a name of its own."""
    prompt: Text
    """The same in all lines of a group, as are `images`, `sources`, `category` and `meta`."""
    images: Images
    """All different: paths that start from the folder `images` beside the file, or else from its own."""
    ranks: PartialRanks | None
    """A rank for each image: 1 is best, equal ranks are a tie, None was not ranked. None for all: nobody judged yet."""
    annotator: Text | None = None
    """The same word for the same person throughout; None if it is not known who it was."""
    votes: Count = 1
    """The number of people who gave exactly this ranking."""
    published: bool = False
    """True if this is no vote, but the order that the data set publishes for all its annotators together."""
    sources: Texts | None = None
    """The generator of each image, if it is known."""
    category: Text | None = None
    """Style or kind of the prompt, if it is known."""
    meta: dict[str, Any] = Field(default_factory=dict)
    """Anything else that JSON can hold."""

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the fields fit one another."""
        check_lengths(self.images, ranks=self.ranks, sources=self.sources)
        check_meta("meta", self.meta)
        if self.published and (self.ranks is None or None in self.ranks):
            raise InputError("ranks", f"is {shown(self.ranks)}", expected="a rank of every image in a published order")
        if (self.published or self.ranks is None) and (self.annotator is not None or self.votes != 1):
            what = "a published order is nobody's vote" if self.published else "without ranks nobody has judged it"
            raise InputError("published" if self.published else "ranks", f"goes with a vote, but {what}")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` writes; fields that have their default value are left out."""
        return self.model_dump(exclude_defaults=True)


class Pair(Strict):
    """Two images made for one prompt, and how people judged them: one line of `pairs.jsonl`."""

    prompt: Text
    first: ImageName
    """Path, from the folder `images` beside the file, or else from its own."""
    second: ImageName
    """Path; another image than `first`."""
    first_share: Annotated[float, Field(ge=0, le=1), Expected("a number from 0 to 1")]
    """Share of votes for the first image; a tie counts one half to each."""
    votes: Count
    """The number of people who judged the pair. `first_share` is a multiple of one half vote."""

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the fields fit one another."""
        distinct_images((self.first, self.second), field="second")
        halves = 2 * self.first_share * self.votes
        if abs(halves - round(halves)) > 1e-3:
            expected = f"a whole number of halves of {self.votes} votes"
            raise InputError("first_share", f"is {self.first_share}", expected=expected)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return all fields, ready for `json.dumps`."""
        return self.model_dump()
