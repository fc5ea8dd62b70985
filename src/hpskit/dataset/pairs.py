"""The comparisons that rankings imply."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hpskit.dataset.group import Group, Judgement
from hpskit.records import Pair

__all__ = ["orders", "pairs"]


def orders(group: Group) -> tuple[Judgement, ...]:
    """The judgements of a group; where only the published order is known, that one as a single vote."""
    if group.rank is not None and not group.judgements:
        return (Judgement(ranks=group.rank),)
    return group.judgements


def pairs(group: Group) -> Iterator[Pair]:
    """Every two images of a group that somebody compared, with the votes of those who ranked both."""
    for one, other in itertools.combinations(range(len(group.images)), 2):
        votes, halves = 0, 0
        for judgement in orders(group):
            first, second = judgement.ranks[one], judgement.ranks[other]
            if first is not None and second is not None:
                votes += judgement.votes
                halves += judgement.votes * (1 + (first < second) - (first > second))
        if votes:
            yield Pair(
                prompt=group.prompt,
                first=group.images[one],
                second=group.images[other],
                first_share=halves / (2 * votes),
                votes=votes,
            )
