"""hpskit's own text layouts: `rankings.jsonl` and `pairs.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from hpskit.dataset.formats import (
    Count,
    Entries,
    ImageName,
    Images,
    Layout,
    Loss,
    PartialRanks,
    Text,
    Texts,
    check_lengths,
    check_meta,
    distinct_images,
    lose_of_pairs,
)
from hpskit.dataset.group import Group, Judgement, compared
from hpskit.errors import InputError, RecordError, shown
from hpskit.rows import Report
from hpskit.schema import Expected

_CURE = "give it another group, or repeat what the first line says"


class PairRow(Layout):
    """A line of `pairs.jsonl`: two images made for one prompt, and how people judged them."""

    layout = "pairs"
    folders = ("images",)

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

    def to_group(self, place: str) -> Group:
        return Group(place=place, prompt=self.prompt, images=(self.first, self.second), judgements=votes_of(self))


class RankingRow(Layout):
    """A line of `rankings.jsonl`: the order that one person, or several who agreed, gave to a group."""

    layout = "rankings"
    folders = ("images",)

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

    @classmethod
    def read(cls, entries: Entries, report: Report) -> Iterator[Group]:
        """Read groups, whose lines follow one another."""
        place, lines = "", list[RankingRow]()
        seen = set[str | int]()
        for here, value in entries:
            try:
                line = cls.of(value, here)
                same = bool(lines) and lines[0].group == line.group
                if same:
                    line.check_with(here, lines)
                elif line.group in seen:
                    found = f"is of group {line.group!r}, which ended before"
                    cure = "sort the lines by group, or give another group another name"
                    raise RecordError(here, found, expected="the lines of a group together", cure=cure)  # noqa: TRY301
            except RecordError as error:
                report(error)
                continue
            if not same:
                if lines:
                    yield cls.merged(place, lines)
                place, lines = here, []
                seen.add(line.group)
            lines.append(line)
        if lines:
            yield cls.merged(place, lines)

    def check_with(self, place: str, lines: list[RankingRow]) -> None:
        """See that it goes with the other lines of its group."""
        for name in ("prompt", "images", "sources", "category", "meta"):
            if getattr(self, name) != getattr(lines[0], name):
                found = f"is not as in the first line of group {self.group!r}"
                raise RecordError(f"{place}: {name}", found, cure=_CURE)
        if self.ranks is None or lines[0].ranks is None:
            found = f"is null in one of the lines of group {self.group!r}"
            raise RecordError(f"{place}: ranks", found, expected="that in a group of one line only", cure=_CURE)
        if self.published and any(other.published for other in lines):
            found = f"is true in two lines of group {self.group!r}"
            raise RecordError(f"{place}: published", found, expected="one published order", cure="remove one")

    @staticmethod
    def merged(place: str, lines: list[RankingRow]) -> Group:
        """Make a group of its lines."""
        first = lines[0]
        published = next((line.ranks for line in lines if line.published), None)
        return Group(
            place=place,
            id=first.group if isinstance(first.group, str) else None,
            prompt=first.prompt,
            images=first.images,
            judgements=tuple(
                Judgement(ranks=line.ranks, annotator=line.annotator, votes=line.votes)
                for line in lines
                if line.ranks is not None and not line.published
            ),
            rank=None if published is None else tuple(rank for rank in published if rank is not None),
            sources=first.sources,
            category=first.category,
            meta=first.meta,
        )


def votes_of(pair: PairRow) -> tuple[Judgement, ...]:
    """Return the votes behind a share, with as few ties among them as it allows."""
    halves = round(2 * pair.first_share * pair.votes)
    first, tied = divmod(halves, 2)
    votes = {(1, 2): first, (1, 1): tied, (2, 1): pair.votes - first - tied}
    return tuple(Judgement(ranks=ranks, votes=n) for ranks, n in votes.items() if n)


def pair_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """Write a group as lines of `pairs.jsonl`."""
    lose_of_pairs(group, lose)
    pairs = [*compared(group)]
    if any(ties > 1 for *_, ties in pairs):
        lose("how many votes are ties (their half votes are written)")
    for one, other, wins, losses, ties in pairs:
        votes = wins + losses + ties
        row = PairRow(
            prompt=group.prompt,
            first=group.images[one],
            second=group.images[other],
            first_share=(wins + ties / 2) / votes,
            votes=votes,
        )
        yield row.model_dump()


class RankingRows:
    """Writes groups as lines of `rankings.jsonl`, where one name is one group, and a number is a group without."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._groups = 0

    def __call__(self, group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
        """Write a group."""
        self._groups += 1
        name: str | int = self._groups if group.id is None else group.id
        if name in self._names:
            lose("names that an earlier group has (written as a number)")
            name = self._groups
        elif isinstance(name, str):
            self._names.add(name)

        def line(**judgement: Any) -> dict[str, Any]:
            record = RankingRow(
                group=name,
                prompt=group.prompt,
                images=group.images,
                sources=group.sources,
                category=group.category,
                meta=dict(group.meta),
                **judgement,
            )
            return record.model_dump(exclude_defaults=True)

        if group.rank is not None:
            yield line(ranks=group.rank, published=True)
        for j in group.judgements:
            yield line(ranks=j.ranks, annotator=j.annotator, votes=j.votes)
        if group.rank is None and not group.judgements:
            yield line(ranks=None)
