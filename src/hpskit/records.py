"""The records that stages hand to one another: frozen, with units and ranges, to and from JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NoReturn

from hpskit.errors import RecordError, shown

__all__ = ["Item", "Pair", "RankedImage", "Ranking", "Row", "ScorerInfo"]

_LARGEST = 1_000_000
"""Of ranks and votes: more is a slip of the pen, and votes are counted out one by one."""
_HPSKIT_VERSION = re.compile(r"\bhpskit \d[\w.+]*")
_UNFIT = re.compile(r"[\0\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image to be scored for one prompt, and where the request stands."""

    row: int
    """Number of the row in its file, from 1 (a CSV header and blank lines are not counted)."""
    image: str
    """The image as the file names it."""
    prompt: str
    """Not empty."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """All other columns of the row; they are handed on to the output unchanged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerInfo:
    """Who gave a score. Two scores may be compared only if their identities are equal."""

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

    @property
    def identity(self) -> str:
        """The part that decides whether two scores may be compared, on one line."""
        digest = self.weight_hash[: len("sha256:") + 16]
        who = "local" if self.version == "local" else f"{self.name} {self.version}"  # a file may be renamed
        return f"{who} {self.architecture} {digest} {self.preprocessing} {self.precision} {self.package}"

    @property
    def lasting_identity(self) -> str:
        """The identity without the version of hpskit: known answers hold every version to the same scores, so results
        of two versions may stand side by side as long as a reader is told."""
        return _HPSKIT_VERSION.sub("hpskit", self.identity)

    def to_json(self) -> dict[str, Any]:
        """All fields and the identity, ready for `json.dumps`."""
        return {**asdict(self), "identity": self.identity}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> ScorerInfo:
        """Read what `to_json` wrote; `place` is named in errors.

        Raises:
            RecordError: a field is missing or not a string.
        """
        names = [f.name for f in fields(cls)]
        for name in names:
            if not isinstance(value.get(name), str):
                where = f"{place}: {name}" if place else name
                raise RecordError(where, f"is {shown(value.get(name))}", expected="a text")
        return cls(**{name: value[name] for name in names})


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """How one person, or several who agreed, ordered the images of a group: one line of `rankings.jsonl`."""

    group: str | int
    """The same in all lines of a group, which follow one another. A number is a group without a name of its own."""
    prompt: str
    """Not empty; the same in all lines of a group, as are `images`, `sources`, `category` and `meta`."""
    images: tuple[str, ...]
    """At least two, all different: paths that start from the folder `images` beside the file, or else from its own."""
    ranks: tuple[int | None, ...] | None
    """One for each image: 1 is best, equal ranks are a tie, None was not ranked. None for all: nobody judged it yet."""
    annotator: str | None = None
    """The same word for the same person throughout; None if it is not known who it was."""
    votes: int = 1
    """How many people gave exactly this ranking, at least 1."""
    published: bool = False
    """True if this is no vote, but the order that the data set publishes for all its annotators together."""
    sources: tuple[str, ...] | None = None
    """Which generator made each image, if it is known."""
    category: str | None = None
    """Style or kind of the prompt, if it is known."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that JSON can hold."""

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`; what may be left out and has its default value is left out."""
        value = {f.name: getattr(self, f.name) for f in fields(self)}
        defaults: dict[str, Any] = {
            "annotator": None,
            "votes": 1,
            "published": False,
            "sources": None,
            "category": None,
            "meta": {},
        }
        return {name: v for name, v in value.items() if name not in defaults or v != defaults[name]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> Ranking:
        """Read what `to_json` wrote; `place` is named in errors.

        Raises:
            RecordError: a field is missing, unknown, or not what it should be.
        """
        row = Row(place, value, _RANKING_FIELDS)
        group, published, meta = value.get("group"), value.get("published", False), value.get("meta", {})
        if isinstance(group, str):
            group = row.text("group")
        elif type(group) is not int:
            row.fail("group", "a name or a number, the same in all lines of the group")
        if not isinstance(published, bool):
            row.fail("published", "true or false")
        images = row.images("images")
        annotator = row.optional_text("annotator")
        return cls(
            group=group,
            prompt=row.text("prompt"),
            images=images,
            ranks=_ranking_ranks(row, len(images), published, annotator),
            annotator=annotator,
            votes=row.count("votes", 1),
            published=published,
            sources=None if value.get("sources") is None else row.texts("sources", len(images)),
            category=row.optional_text("category"),
            meta=row.meta("meta", meta) if meta != {} else {},
        )


def _ranking_ranks(row: Row, length: int, published: bool, annotator: str | None) -> tuple[int | None, ...] | None:
    if published:
        if annotator is not None or row.value.get("votes", 1) != 1:
            row.fail("published", "false, or neither annotator nor votes: a published order is nobody's vote")
        return row.ranks("ranks", length)
    if "ranks" in row.value and row.value["ranks"] is None:
        if annotator is not None or row.value.get("votes", 1) != 1:
            row.fail("ranks", "the ranks that the annotator gave; null is for groups that nobody has judged")
        return None
    return row.partial_ranks("ranks", length)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two images made for one prompt, and how people judged them: one line of `pairs.jsonl`."""

    prompt: str
    """Not empty."""
    first: str
    """Path, from the folder `images` beside the file, or else from its own."""
    second: str
    """Likewise; another image than `first`."""
    first_share: float
    """Share of votes for the first image, 0 to 1; a tie counts one half to each."""
    votes: int
    """How many people judged the pair, at least 1. `first_share` is a multiple of one half vote."""

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> Pair:
        """Read what `to_json` wrote; `place` is named in errors.

        Raises:
            RecordError: a field is missing, unknown, or not what it should be.
        """
        row = Row(place, value, _PAIR_FIELDS)
        first, second = row.text("first"), row.text("second")
        row.check_images("second", [first, second])
        votes, share = row.count("votes", 0), value.get("first_share")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            row.fail("first_share", "a number from 0 to 1")
        halves = 2 * share * votes
        if abs(halves - round(halves)) > 1e-3:
            row.fail("first_share", f"a whole number of halves of {votes} votes")
        return cls(prompt=row.text("prompt"), first=first, second=second, first_share=float(share), votes=votes)


_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE = "text of whole characters"
_HALF = "one half of a surrogate pair cannot be written anywhere; correct it or remove the row"
_RANKING_FIELDS = frozenset(f.name for f in fields(Ranking))
_PAIR_FIELDS = frozenset(f.name for f in fields(Pair))


class Row:
    """A JSON object on its way to become a record: each method reads a field, or says what is wrong with it."""

    __slots__ = ("place", "value")

    def __init__(self, place: str, value: Mapping[str, Any], known: frozenset[str]) -> None:
        """`known` are all fields that it may have.

        Raises:
            RecordError: it has another one.
        """
        if not known >= value.keys():
            unknown, expected = (
                ", ".join(repr(name) for name in sorted(names)) for names in (value.keys() - known, known)
            )
            raise RecordError(f"{place}: field {unknown} is unknown, expected {expected}; rename or remove it")
        self.place = place
        self.value = value

    def fail(self, field: str, expected: str, cure: str = "correct it or remove the row") -> NoReturn:
        """Raise the error of a field."""
        if field not in self.value:
            raise RecordError(
                f"{self.place}: field {field!r} is missing, expected {expected}; add it or remove the row"
            )
        raise RecordError(f"{self.place}: field {field!r} is {_short(self.value[field])}, expected {expected}; {cure}")

    def text(self, field: str) -> str:
        """A string with something in it."""
        value = self.value.get(field)
        if not isinstance(value, str):
            self.fail(field, "a text", "put it in quotes or remove the row")
        if not value or value.isspace():
            self.fail(field, "a text that is not empty", "fill it in or remove the row")
        if not value.isascii() and _SURROGATE.search(value):
            self.fail(field, _WHOLE, _HALF)
        return value

    def optional_text(self, field: str) -> str | None:
        return None if self.value.get(field) is None else self.text(field)

    def count(self, field: str, default: int) -> int:
        """A whole number from 1 to a million."""
        value = self.value.get(field, default)
        if type(value) is not int or not 0 < value <= _LARGEST:
            self.fail(field, f"a whole number from 1 to {_LARGEST:,}")
        return value

    def texts(self, field: str, length: int) -> tuple[str, ...]:
        """A list of strings, none empty, one for each image."""
        value = self.value.get(field)
        if not isinstance(value, list) or len(value) != length or not all(isinstance(v, str) and v for v in value):
            self.fail(field, f"a list of {length} texts, one for each image")
        if any(_SURROGATE.search(v) for v in value):
            self.fail(field, _WHOLE, _HALF)
        return tuple(value)

    def meta(self, field: str, value: Any) -> dict[str, Any]:
        """An object of anything that JSON can hold and that can be written again; `value` is what was read of it."""
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self.fail(field, "an object {…} with finite numbers, whole characters and not too many levels")
        return value

    def images(self, field: str) -> tuple[str, ...]:
        """The file names of a group: at least two, all different."""
        names = self.value.get(field)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.fail(field, "a list of file names")
        self.check_images(field, names)
        return tuple(names)

    def check_images(self, field: str, names: list[str]) -> None:
        """See that names can be the images of one group.

        Raises:
            RecordError: fewer than two, an empty one, or the same twice.
        """
        if len(names) < 2:
            self.fail(field, "at least two images to compare", "add one or remove the row")
        if not all(names) or any(_UNFIT.search(name) for name in names):
            expected = "file names that are not empty and hold no NUL and no half of a surrogate pair"
            self.fail(field, expected, "rename the image or remove the row")
        if len(set(names)) < len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise RecordError(
                f"{self.place}: field {field!r} names {twice!r} twice, expected each image once; "
                "remove one with its rank"
            )

    def ranks(self, field: str, length: int) -> tuple[int, ...]:
        """One whole number of at least 1 for each image; equal ones are a tie."""
        ranks = self._ranks(field, length)
        if not all(type(rank) is int and 0 < rank <= _LARGEST for rank in ranks):
            self.fail(field, f"whole numbers from 1 to {_LARGEST:,} (1 is best, equal ranks are a tie)")
        return tuple(ranks)

    def partial_ranks(self, field: str, length: int) -> tuple[int | None, ...]:
        """As `ranks`; null is an image that was not ranked."""
        ranks = self._ranks(field, length)
        if not all(rank is None or (type(rank) is int and 0 < rank <= _LARGEST) for rank in ranks):
            self.fail(
                field, f"whole numbers from 1 to {_LARGEST:,} (1 is best, equal ranks are a tie), null for not ranked"
            )
        return tuple(ranks)

    def _ranks(self, field: str, length: int) -> list[Any]:
        ranks = self.value.get(field)
        if not isinstance(ranks, list):
            self.fail(field, f"a list of {length} ranks, one for each image")
        if len(ranks) != length:
            raise RecordError(
                f"{self.place}: field {field!r} has {len(ranks)} ranks for {length} images, expected one for each; "
                "add or remove ranks or images"
            )
        return ranks

    def inner(self, field: str, number: int, value: Any, known: frozenset[str]) -> Row:
        """An object in the list `field`, as a row of its own; `number` counts from 1."""
        place = f"{self.place}: {field} {number}"
        if not isinstance(value, dict):
            raise RecordError(f"{place} is {_short(value)}, expected an object {{…}}; correct it or remove it")
        return Row(place, value, known)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
