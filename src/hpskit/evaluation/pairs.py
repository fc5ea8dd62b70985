"""All pairs of images that people compared, as flat arrays: what breakdowns, calibration and examples are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hpskit.dataset.group import Group
from hpskit.stats import PairVotes, pair_votes

__all__ = ["pair_up"]


def pair_up(groups: Sequence[Group]) -> PairVotes:
    """The pairs that accuracy counts, in the same order, with the votes of the single judgements.

    Where a data set publishes an order, that decides which pairs there are. Its word is taken as one vote for pairs
    that no single judgement compares.

    Raises:
        InputError: nobody compared anything.
    """
    pairs = pair_votes([group.verdicts() for group in groups])
    if not any(group.rank is not None and _compares(group) for group in groups):
        return pairs
    judged = pair_votes([group.ranks() for group in groups])
    images = max(len(group.images) for group in groups)
    place = np.searchsorted(_keys(pairs, images), _keys(judged, images))
    own = {name: getattr(pairs, name).copy() for name in ("share", "votes", "gap")}
    for name, values in own.items():
        values[place] = getattr(judged, name)
    return replace(pairs, **own)


def _compares(group: Group) -> bool:
    return any(sum(rank is not None for rank in judgement.ranks) > 1 for judgement in group.judgements)


def _keys(pairs: PairVotes, images: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """One number for each pair, rising."""
    return (pairs.group * images + pairs.first) * images + pairs.second
