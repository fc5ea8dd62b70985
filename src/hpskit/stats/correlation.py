"""Rank correlations of scores with people's ranks, group by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hpskit.stats.blocks import Floats, equal_blocks, pair_indices, read_groups

__all__ = ["kendall_tau_b", "spearman"]


def kendall_tau_b(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> Floats:
    """Kendall's tau-b of each group: concordant less discordant pairs, corrected for ties on both sides.

    Args:
        scores: one array (n,) for each group, n > 1; higher is better.
        ranks: one array (n,) for each group; lower is better; NaN was not ranked, that image is left out.

    Returns:
        (groups,), -1 to 1; 1 where scores and people order the images alike. NaN where fewer than two images were
        ranked, or all their scores or all their ranks are equal.

    Raises:
        InputError: shapes differ or a score is not finite.

    Source: Kendall 1945, The treatment of ties in ranking problems.
    """
    return _by_group(scores, ranks, _tau_b)


def spearman(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> Floats:
    """Spearman's rho of each group: the correlation of the ranks; tied images share the mean of their ranks.

    Arguments, result, NaN and errors are those of `kendall_tau_b`.
    """
    return _by_group(scores, ranks, _rho)


def _by_group(
    scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], measure: Callable[[Floats, Floats], Floats]
) -> Floats:
    given, expected = read_groups(scores, ranks)
    result = np.empty(len(given.shapes))
    for groups in equal_blocks(given):
        result[groups] = measure(given.stacked(groups), -expected.stacked(groups))
    return result


def _tau_b(first: Floats, second: Floats) -> Floats:
    one, other = pair_indices(first.shape[1])
    ahead = np.sign(second[:, one] - second[:, other])
    ranked = ~np.isnan(ahead)
    preferred = np.where(ranked, ahead, 0)
    decided = np.sign(first[:, one] - first[:, other]) * ranked
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
