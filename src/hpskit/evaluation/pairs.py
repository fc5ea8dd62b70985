"""All pairs of images that people compared, as flat arrays: what breakdowns, calibration and examples are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group

__all__ = ["Pairs", "pair_up"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """P pairs, each once, of images that both have a place in the people's ranking."""

    group: Integers
    """(P,): number of the group."""
    first: Integers
    """(P,): number of the first image in its group."""
    second: Integers
    share: Floats
    """(P,): share of the votes for the first image, 0 to 1; a tie counts one half to each. Where a data set has no
    single judgements, 1, 0 or 0.5 as its published order says."""
    votes: Floats
    """(P,): judgements that rank both images; 1 where a data set has only a published order."""
    gap: Floats
    """(P,): difference of the two mean ranks, 0 or more."""

    def __len__(self) -> int:
        return len(self.group)

    def differences(self, scores: Sequence[Floats]) -> Floats:
        """(P,): score of the first image minus score of the second; `scores` has one (n,) for each group."""
        flat = np.concatenate(scores)
        starts = np.cumsum([0, *(len(own) for own in scores)])[self.group]
        return np.asarray(flat[starts + self.first] - flat[starts + self.second])


def pair_up(groups: Sequence[Group], ranks: Sequence[Floats]) -> Pairs:
    """Every pair of ranked images within each group; `ranks` are the consensus of the groups."""
    parts = [_of_group(number, *both) for number, both in enumerate(zip(groups, ranks, strict=True))]
    group, first, second, share, votes, gap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pairs(
        group=group.astype(np.int64),
        first=first.astype(np.int64),
        second=second.astype(np.int64),
        share=share,
        votes=votes,
        gap=gap,
    )


def _of_group(number: int, group: Group, consensus: Floats) -> tuple[Floats, ...]:
    people = group.ranks()
    i, j = np.triu_indices(len(group.images), k=1)
    ranked = ~np.isnan(consensus[i]) & ~np.isnan(consensus[j])
    i, j = i[ranked], j[ranked]
    share, votes = _shares(people, i, j)
    judged = votes > 0
    published = np.where(consensus[i] < consensus[j], 1.0, np.where(consensus[i] > consensus[j], 0.0, 0.5))
    mean = _mean_ranks(people, consensus)
    return (
        np.full(len(i), float(number)),
        i.astype(np.float64),
        j.astype(np.float64),
        np.where(judged, share, published),
        np.where(judged, votes, 1.0),
        np.abs(mean[i] - mean[j]),
    )


def _shares(ranks: Floats, i: Integers, j: Integers) -> tuple[Floats, Floats]:
    """Share of the judgements for the first image of each pair, and how many judgements rank both."""
    a, b = ranks[:, i], ranks[:, j]
    both = ~np.isnan(a) & ~np.isnan(b)
    votes = both.sum(axis=0).astype(np.float64)
    won = ((a < b) + 0.5 * (a == b)).sum(axis=0)
    return won / np.maximum(votes, 1), votes


def _mean_ranks(ranks: Floats, consensus: Floats) -> Floats:
    """Mean rank of each image over the judgements; the published rank where nobody's is known."""
    counts = (~np.isnan(ranks)).sum(axis=0)
    return np.where(counts > 0, np.nansum(ranks, axis=0) / np.maximum(counts, 1), consensus)
