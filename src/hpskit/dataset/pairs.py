"""The comparisons that rankings imply, and what of a group they do not hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from hpskit.dataset.group import Group, Judgement
from hpskit.records import Pair

__all__ = ["Loss", "compared_pairs", "lose_description", "lose_of_pairs", "orders", "pairs"]

Loss = Callable[[str], None]
"""What is told, in words, of anything that a layout has no place for."""


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


def compared_pairs(group: Group) -> int:
    """How many pairs of the images of a group somebody compared."""
    if any(None not in judgement.ranks for judgement in orders(group)):
        return math.comb(len(group.images), 2)
    return sum(1 for _ in pairs(group))


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
    elif any(None not in j.ranks and j.ranks not in {(1, 2), (2, 1), (1, 1)} for j in judgements):
        lose("ranks other than 1 and 2 (their order is written)")
    if any(None in j.ranks for j in judgements):
        lose("partial rankings (the images left out are in no pair)")
    if next(pairs(group), None) is None:
        lose("groups that nobody judged (left out)")
