"""Whether two scorers order models alike: by their means, and prompt by prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import pair_indices
from hpskit.stats.correlation import spearman
from hpskit.stats.model_scores import read_model_scores

__all__ = ["ScorerAgreement", "scorer_agreement"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerAgreement:
    """Spearman's rank correlations of two scorers over the same images, -1 to 1; 1 where they order all alike."""

    of_means: float
    """Of the models' means; NaN for fewer than three models that have every prompt, or if all means are equal."""
    of_differences: float
    """Of the differences between two models over the prompts, mean over the pairs of models; NaN if there is none."""
    low: float
    """The least of these over the pairs."""
    high: float
    """The greatest."""
    pairs: int
    """Pairs of models whose differences have an order by both scorers."""


def scorer_agreement(first: ArrayLike, second: ArrayLike) -> ScorerAgreement:
    """Agreement of two scorers on models.

    Two scorers can agree on the means and still prefer different images for most prompts, which matters where the
    score picks the best of several images. Their scales do not matter.

    Args:
        first: (models, prompts) scores of one scorer, higher is better; NaN is missing. Means are compared of models
            that have every prompt, for others answer other questions; differences on the prompts that both models have.
        second: (models, prompts) scores of the other for the same images.

    Raises:
        InputError: shapes differ, there are fewer than two models, or a score is infinite.
    """
    one, other = read_model_scores(first), read_model_scores(second)
    if one.shape != other.shape:
        raise InputError(f"scores: shapes are {one.shape} and {other.shape}, expected the same (models, prompts)")
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
    if not found.size:
        return ScorerAgreement(of_means=of_means, of_differences=np.nan, low=np.nan, high=np.nan, pairs=0)
    return ScorerAgreement(
        of_means=of_means,
        of_differences=float(found.mean()),
        low=float(found.min()),
        high=float(found.max()),
        pairs=len(found),
    )
