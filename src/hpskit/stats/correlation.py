"""Rank correlations of scores with people's ranks, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hpskit.stats.blocks import Floats, equal_blocks, pair_indices, read_groups
from hpskit.stats.judgements import ballots
from hpskit.stats.rules import signs

__all__ = ["kendall_tau_b", "spearman"]


def kendall_tau_b(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> Floats:
    """Kendall's tau-b of each group: concordant less discordant pairs, corrected for ties on both sides.

    Args:
        scores: one array (n,) for each group, n > 1; higher is better.
        ranks: as for `pair_accuracy`; over the pairs that somebody compared.

    Returns:
        (groups,), -1 to 1; 1 where scores and people order the images alike. NaN where no two images were compared,
        or all that were have equal scores or are tied by people.

    Raises:
        InputError: shapes differ or a score is not finite.

    Source: Kendall 1945, The treatment of ties in ranking problems.
    """
    given, expected = read_groups(scores, ranks)
    result = np.full(len(given.shapes), np.nan)
    for part in ballots(expected):
        result[part.groups] = _tau_b(given.stacked(part.groups), part.lead())
    return result


def spearman(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> Floats:
    """Spearman's rho of each group: the correlation of the ranks; tied images share the mean of their ranks.

    Arguments, result and errors are those of `kendall_tau_b`. It needs one order of the images, which mean ranks are
    only if all judgements rank the same images: NaN also where they do not.
    """
    given, expected = read_groups(scores, ranks)
    result = np.full(len(given.shapes), np.nan)
    for groups in equal_blocks(expected):
        result[groups] = _rho(given.stacked(groups), -_mean_ranks(expected.stacked(groups)))
    return result


def _mean_ranks(ranks: Floats) -> Floats:
    """(groups, judgements, n) -> (groups, n): NaN is not ranked; all are where judgements rank different images."""
    ranked = ~np.isnan(ranks)
    ranked &= ranked.sum(axis=2, keepdims=True) > 1  # one image alone is compared with nothing
    counts = ranked.sum(axis=1)
    comparable = ((counts == 0) | (counts == counts.max(axis=1, keepdims=True))).all(axis=1, keepdims=True)
    comparable &= counts.max(axis=1, keepdims=True) == ranked.any(axis=2).sum(axis=1, keepdims=True)
    means = np.where(ranked, ranks, 0).sum(axis=1) / np.maximum(counts, 1)
    return np.where(comparable & (counts > 0), means, np.nan)


def _tau_b(scores: Floats, lead: Floats) -> Floats:
    first, second = pair_indices(scores.shape[1])
    compared = ~np.isnan(lead)
    preferred = signs(np.where(compared, lead, 0)).astype(np.float64)
    decided = np.sign(scores[:, first] - scores[:, second]) * compared
    return _ratio((decided * preferred).sum(axis=1), (decided**2).sum(axis=1), (preferred**2).sum(axis=1))


def _rho(first: Floats, second: Floats) -> Floats:
    from scipy.stats import rankdata

    missing = np.isnan(second)
    places = [rankdata(np.where(missing, np.nan, side), axis=1, nan_policy="omit") for side in (first, second)]
    present = np.maximum((~missing).sum(axis=1, keepdims=True), 1)
    x, y = (np.where(missing, 0, place - np.nansum(place, axis=1, keepdims=True) / present) for place in places)
    return _ratio((x * y).sum(axis=1), (x**2).sum(axis=1), (y**2).sum(axis=1))


def _ratio(product: Floats, first: Floats, second: Floats) -> Floats:
    """product / sqrt(first * second), NaN where one side does not vary."""
    scale = np.sqrt(first * second)
    return np.divide(product, scale, out=np.full_like(scale, np.nan), where=scale > 0)
