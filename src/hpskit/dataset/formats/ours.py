"""hpskit's own text layouts: `rankings.jsonl` and `pairs.jsonl`, lines of the records `Ranking` and `Pair`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpskit.dataset.formats import Entries, Format, Loss, lose_of_pairs
from hpskit.dataset.group import Group, Judgement, orders, pairs
from hpskit.errors import RecordError
from hpskit.records import Pair, Ranking, parse_row
from hpskit.rows import Report

__all__ = ["PAIRS", "RANKINGS", "RankingRows", "pair_rows"]

_CURE = "give it another group, or repeat what the first line says"


def _rankings(entries: Entries, report: Report) -> Iterator[Group]:
    place, lines = "", list[Ranking]()
    seen = set[str | int]()
    for here, value in entries:
        try:
            line = parse_row(Ranking, value, here)
            if lines and lines[0].group == line.group:
                _check_same_group(lines, line, here)
                lines.append(line)
                continue
            if line.group in seen:
                found = f"is of group {line.group!r}, which ended before"
                cure = "sort the lines by group, or give another group another name"
                raise RecordError(here, found, expected="the lines of a group together", cure=cure)  # noqa: TRY301
        except RecordError as error:
            report(error)
            continue
        if lines:
            yield _merged(place, lines)
        place, lines = here, [line]
        seen.add(line.group)
    if lines:
        yield _merged(place, lines)


def _check_same_group(lines: list[Ranking], line: Ranking, place: str) -> None:
    for name in ("prompt", "images", "sources", "category", "meta"):
        if getattr(line, name) != getattr(lines[0], name):
            raise RecordError(f"{place}: {name}", f"is not as in the first line of group {line.group!r}", cure=_CURE)
    if line.ranks is None or lines[0].ranks is None:
        found = f"is null in one of the lines of group {line.group!r}"
        raise RecordError(f"{place}: ranks", found, expected="that in a group of one line only", cure=_CURE)
    if line.published and any(other.published for other in lines):
        found = f"is true in two lines of group {line.group!r}"
        raise RecordError(f"{place}: published", found, expected="one published order", cure="remove one")


def _merged(place: str, lines: list[Ranking]) -> Group:
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


def _pairs(entries: Entries, report: Report) -> Iterator[Group]:
    for place, value in entries:
        try:
            pair = parse_row(Pair, value, place)
        except RecordError as error:
            report(error)
        else:
            yield Group(place=place, prompt=pair.prompt, images=(pair.first, pair.second), judgements=_votes(pair))


def _votes(pair: Pair) -> tuple[Judgement, ...]:
    """Return the votes behind a share, with as few ties among them as it allows."""
    halves = round(2 * pair.first_share * pair.votes)
    first, tied = divmod(halves, 2)
    votes = {(1, 2): first, (1, 1): tied, (2, 1): pair.votes - first - tied}
    return tuple(Judgement(ranks=ranks, votes=n) for ranks, n in votes.items() if n)


def pair_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """Write a group as lines of `pairs.jsonl`."""
    lose_of_pairs(group, lose)
    written = [*pairs(group)]
    if any(_ties(pair, group) != sum(j.votes for j in _votes(pair) if j.ranks == (1, 1)) for pair in written):
        lose("how many votes are ties (their half votes are written)")
    yield from (pair.to_json() for pair in written)


def _ties(pair: Pair, group: Group) -> int:
    first, second = group.images.index(pair.first), group.images.index(pair.second)
    tied = (j.votes for j in orders(group) if j.ranks[first] is not None and j.ranks[first] == j.ranks[second])
    return sum(tied)


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
            record = Ranking(
                group=name,
                prompt=group.prompt,
                images=group.images,
                sources=group.sources,
                category=group.category,
                meta=dict(group.meta),
                **judgement,
            )
            return record.to_json()

        if group.rank is not None:
            yield line(ranks=group.rank, published=True)
        for j in group.judgements:
            yield line(ranks=j.ranks, annotator=j.annotator, votes=j.votes)
        if group.rank is None and not group.judgements:
            yield line(ranks=None)


RANKINGS = Format(
    name="rankings",
    needs=frozenset({"group", "prompt", "images", "ranks"}),
    read=_rankings,
    folders=("images",),
)
PAIRS = Format(
    name="pairs",
    needs=frozenset({"prompt", "first", "second", "first_share", "votes"}),
    read=_pairs,
    folders=("images",),
)
