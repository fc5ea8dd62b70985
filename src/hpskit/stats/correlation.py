"""Rank correlations of scores with people's ranks, group by group, and of two scorers over models.

`scipy.stats.kendalltau` and `spearmanr` give the same, but take one group at a time: 6 to 55 times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, ballots, equal_blocks, pair_indices, read_groups, read_model_scores


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerAgreement:
    """Spearman's rank correlations of two scorers over the same images, -1 to 1; 1 where they order all alike."""

    of_means: float
    """Correlation of the models' means; NaN for fewer than three models that have every prompt, or equal means."""
    of_differences: float
    """Correlation over prompts of the difference of two models, mean over the pairs of models; NaN if there is none."""
    low: float
    """Least of these over the pairs."""
    high: float
    """Greatest of these."""
    pairs: int
    """Pairs of models whose differences have an order by both scorers."""


def kendall_tau_b(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> Floats:
    """Kendall's tau-b of each group, (groups,): concordant less discordant pairs, corrected for ties on both sides.

    It is -1 to 1; 1 where scores and people order the images alike. NaN where no two images were compared, or all that
    were have equal scores or are tied by people.

    Source: Kendall 1945, The treatment of ties in ranking problems.
    """
    given, expected = read_groups(scores, ranks)
    result = np.full(len(given.shapes), np.nan)
    for part in ballots(expected):
        own, lead = given.stacked(part.groups), part.lead()
        first, second = pair_indices(part.images)
        preferred = np.sign(np.nan_to_num(lead))
        decided = np.sign(own[:, first] - own[:, second]) * ~np.isnan(lead)
        result[part.groups] = _ratio(decided, preferred)
    return result


def spearman(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> Floats:
    """Spearman's rho of each group, (groups,): the correlation of the ranks; tied images share the mean of theirs.

    NaN as for `kendall_tau_b`, and where not all judgements rank the same images: then mean ranks are no order.
    """
    from scipy.stats import rankdata

    given, expected = read_groups(scores, ranks)
    result = np.full(len(given.shapes), np.nan)
    for groups in equal_blocks(expected):
        means = -_mean_ranks(expected.stacked(groups))
        missing = np.isnan(means)
        present = np.maximum((~missing).sum(axis=1, keepdims=True), 1)
        centred = []
        for side in (given.stacked(groups), means):
            places = rankdata(np.where(missing, np.nan, side), axis=1, nan_policy="omit")
            centred.append(np.where(missing, 0, places - np.nansum(places, axis=1, keepdims=True) / present))
        result[groups] = _ratio(*centred)
    return result


def scorer_agreement(first: ArrayLike, second: ArrayLike) -> ScorerAgreement:
    """Measure how far two scorers order models alike, from (models, prompts) scores each.

    Two scorers can agree on the means and still prefer different images for most prompts, which matters where the score
    picks the best of several images. Scales do not matter. Means are compared of models that have every prompt, since
    others answer other questions; differences on the prompts that both models have.
    """
    one, other = read_model_scores(first), read_model_scores(second)
    if one.shape != other.shape:
        raise InputError("scores", f"have shapes {one.shape} and {other.shape}", expected="the same (models, prompts)")
    whole = ~np.isnan(one + other).any(axis=1)
    of_means = np.nan
    if whole.sum() > 2:
        of_means = float(spearman([one[whole].mean(axis=1)], [-other[whole].mean(axis=1)])[0])
    a, b = pair_indices(len(one))
    rows = zip(one[b] - one[a], other[b] - other[a], strict=True)
    pairs = [(x[~np.isnan(x + y)], -y[~np.isnan(x + y)]) for x, y in rows]
    pairs = [pair for pair in pairs if len(pair[0]) > 1]
    found = spearman([x for x, _ in pairs], [y for _, y in pairs]) if pairs else np.empty(0)
    found = found[~np.isnan(found)]
    mean, low, high = (found.mean(), found.min(), found.max()) if found.size else [np.nan] * 3
    return ScorerAgreement(
        of_means=of_means, of_differences=float(mean), low=float(low), high=float(high), pairs=len(found)
    )


def _mean_ranks(ranks: Floats) -> Floats:
    """(groups, judgements, n) -> (groups, n): NaN is not ranked; all are where judgements rank different images."""
    ranked = ~np.isnan(ranks)
    ranked &= ranked.sum(axis=2, keepdims=True) > 1  # one image alone is compared with nothing
    counts = ranked.sum(axis=1)
    comparable = ((counts == 0) | (counts == counts.max(axis=1, keepdims=True))).all(axis=1, keepdims=True)
    comparable &= counts.max(axis=1, keepdims=True) == ranked.any(axis=2).sum(axis=1, keepdims=True)
    means = np.where(ranked, ranks, 0).sum(axis=1) / np.maximum(counts, 1)
    return np.where(comparable & (counts > 0), means, np.nan)


def _ratio(x: Floats, y: Floats) -> Floats:
    """Correlation of each row of two centred arrays; NaN where one side does not vary."""
    scale: Floats = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    ratio: Floats = np.divide((x * y).sum(axis=1), scale, out=np.full_like(scale, np.nan), where=scale > 0)
    return ratio
