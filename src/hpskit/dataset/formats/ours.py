"""hpskit's own text layouts: `rankings.jsonl` and `pairs.jsonl`, lines of the records `Ranking` and `Pair`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hpskit.dataset.formats.contract import Entries, Format
from hpskit.dataset.group import Group, Judgement
from hpskit.dataset.pairs import Loss, lose_of_pairs, orders, pairs
from hpskit.errors import RecordError
from hpskit.records import Pair, Ranking
from hpskit.rows import Report

__all__ = ["PAIRS", "RANKINGS", "pair_rows", "ranking_lines"]


def _rankings(entries: Entries, report: Report) -> Iterator[Group]:
    place, lines = "", list[Ranking]()
    seen = set[str | int]()
    for here, value in entries:
        try:
            line = Ranking.from_json(value, here)
            if lines and lines[0].group == line.group:
                _check_same_group(lines, line, here)
                lines.append(line)
                continue
            if line.group in seen:
                cure = "sort the lines by group, or give another group another name"
                raise RecordError(f"{here}: group {line.group!r} ended before, expected its lines together; {cure}")  # noqa: TRY301
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
            cure = "give it another group, or repeat what the first line says"
            raise RecordError(f"{place}: {name} is not as in the first line of group {line.group!r}; {cure}")
    if line.ranks is None or lines[0].ranks is None:
        raise RecordError(f"{place}: group {line.group!r} has a line without ranks, expected that to be its only one")
    if line.published and any(other.published for other in lines):
        raise RecordError(f"{place}: group {line.group!r} has a second published order, expected one; remove one")


def _merged(place: str, lines: list[Ranking]) -> Group:
    first = lines[0]
    judgements = tuple(
        Judgement(ranks=line.ranks, annotator=line.annotator, votes=line.votes)
        for line in lines
        if line.ranks is not None and not line.published
    )
    published = next((line.ranks for line in lines if line.published), None)
    return Group(
        place=place,
        id=first.group if isinstance(first.group, str) else None,
        prompt=first.prompt,
        images=first.images,
        judgements=judgements,
        rank=None if published is None else tuple(rank for rank in published if rank is not None),
        sources=first.sources,
        category=first.category,
        meta=first.meta,
    )


def _pairs(entries: Entries, report: Report) -> Iterator[Group]:
    for place, value in entries:
        try:
            pair = Pair.from_json(value, place)
        except RecordError as error:
            report(error)
        else:
            images = (pair.first, pair.second)
            yield Group(place=place, prompt=pair.prompt, images=images, judgements=_votes(pair))


def _votes(pair: Pair) -> tuple[Judgement, ...]:
    """The votes behind a share, with as few ties among them as it allows."""
    halves = round(2 * pair.first_share * pair.votes)
    first, tied = divmod(halves, 2)
    votes = {(1, 2): first, (1, 1): tied, (2, 1): pair.votes - first - tied}
    return tuple(Judgement(ranks=ranks, votes=n) for ranks, n in votes.items() if n)


def pair_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """A group as lines of `pairs.jsonl`."""
    lose_of_pairs(group, lose)
    written = [*pairs(group)]
    if any(_ties(pair, group) != sum(j.votes for j in _votes(pair) if j.ranks == (1, 1)) for pair in written):
        lose("how many votes are ties (their half votes are written)")
    yield from (pair.to_json() for pair in written)


def _ties(pair: Pair, group: Group) -> int:
    first, second = group.images.index(pair.first), group.images.index(pair.second)
    tied = (j.votes for j in orders(group) if j.ranks[first] is not None and j.ranks[first] == j.ranks[second])
    return sum(tied)


def ranking_lines(group: Group, number: int) -> Iterator[Ranking]:
    """A group as lines of `rankings.jsonl`; `number` stands for a group without a name."""
    line = Ranking(
        group=number if group.id is None else group.id,
        prompt=group.prompt,
        images=group.images,
        ranks=None,
        sources=group.sources,
        category=group.category,
        meta=group.meta,
    )
    if group.rank is not None:
        yield replace(line, ranks=group.rank, published=True)
    for judgement in group.judgements:
        yield replace(line, ranks=judgement.ranks, annotator=judgement.annotator, votes=judgement.votes)
    if group.rank is None and not group.judgements:
        yield line


RANKINGS = Format(
    name="rankings",
    summary="hpskit's rankings.jsonl: one judgement in each line",
    needs=frozenset({"group", "prompt", "images", "ranks"}),
    read=_rankings,
    folders=("images",),
)
PAIRS = Format(
    name="pairs",
    summary="hpskit's pairs.jsonl: shares of votes",
    needs=frozenset({"prompt", "first", "second", "first_share", "votes"}),
    read=_pairs,
    folders=("images",),
)
