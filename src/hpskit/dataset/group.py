"""The one form in which all data sets are seen: images made for one prompt, and how people judged them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The order that one person, or several who agreed, gave to the images of a group."""

    ranks: tuple[int | None, ...]
    """A rank for each image: 1 is best, equal ranks are a tie, None was not ranked."""
    annotator: str | None = None
    """The same word for the same person throughout the data set; None if the data set does not say."""
    votes: int = 1
    """The number of people who gave exactly this judgement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Images made for one prompt with all judgements of them. A pair is a group of two images."""

    place: str
    """File and row, as errors name it, for example `test.json: entry 17 (line 301)`."""
    prompt: str
    images: tuple[str, ...]
    """At least two, all different: paths as the file names them, or names of embedded images."""
    judgements: tuple[Judgement, ...] = ()
    """Empty if nobody has judged the group, or if the data set only publishes the order of all annotators."""
    id: str | None = None
    """The name of the group in its data set, if it has one."""
    rank: tuple[int, ...] | None = None
    """The order that the data set publishes for all its annotators together, if it does; 1 is best."""
    sources: tuple[str, ...] | None = None
    """The generator of each image, if it is known."""
    category: str | None = None
    """Style or kind of the prompt, if it is known."""
    embedded: Mapping[str, bytes] = field(default_factory=dict)
    """Image name -> bytes of the encoded image, where the data set carries its images itself."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Known fields of the format that nothing here interprets; kept so that a conversion loses nothing."""

    def ranks(self) -> NDArray[np.float64]:
        """Return (judgements, images): each judgement once for each of its votes; NaN was not ranked."""
        rows = [j.ranks for j in self.judgements for _ in range(j.votes)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.images))

    def verdicts(self) -> NDArray[np.float64]:
        """Return (1 or judgements, images): what decides the pairs, the published order or every judgement.

        A pair of images that no row ranks both of was compared by nobody.
        """
        return self.ranks() if self.rank is None else np.array([self.rank], dtype=np.float64)

    def consensus(self) -> NDArray[np.float64]:
        """Return (images,): the published rank, else the mean rank over the votes; lower is better.

        NaN is an image that nobody ranked. Means of partial rankings are comparable only if the annotators left out
        images at random; use pairs of single judgements where they did not.
        """
        if self.rank is not None:
            return np.array(self.rank, dtype=np.float64)
        return mean_ranks(self.ranks())


def mean_ranks(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(judgements, images) -> (images,): the mean rank of each image over those who ranked it; NaN if nobody did."""
    counts = (~np.isnan(ranks)).sum(axis=0)
    return np.where(counts > 0, np.nansum(ranks, axis=0) / np.maximum(counts, 1), np.nan)


def orders(group: Group) -> tuple[Judgement, ...]:
    """Return the judgements of a group; where only the published order is known, that one as a single vote."""
    if group.rank is not None and not group.judgements:
        return (Judgement(ranks=group.rank),)
    return group.judgements


Pair: TypeAlias = tuple[int, int, int, int, int]
"""Numbers of the first and the second image, votes for the first, for the second, and for neither."""


def compared(group: Group) -> Iterator[Pair]:
    """Compare every two images of a group that somebody compared."""
    judgements = orders(group)
    for one, other in itertools.combinations(range(len(group.images)), 2):
        wins, losses, ties = 0, 0, 0
        for judgement in judgements:
            first, second = judgement.ranks[one], judgement.ranks[other]
            if first is not None and second is not None:
                wins += judgement.votes * (first < second)
                losses += judgement.votes * (first > second)
                ties += judgement.votes * (first == second)
        if wins or losses or ties:
            yield one, other, wins, losses, ties


def compared_pairs(group: Group) -> int:
    """Count the pairs of images that somebody compared."""
    if any(None not in judgement.ranks for judgement in orders(group)):
        return math.comb(len(group.images), 2)
    return sum(1 for _ in compared(group))
