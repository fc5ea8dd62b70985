"""A model's rank as a range where the data do not decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.stats.blocks import Flags, Floats, Index
from hpskit.stats.bootstrap import check_settings
from hpskit.stats.model_scores import ModelMeans, model_means, resampled_sums

__all__ = ["RankIntervals", "rank_intervals"]

_ROUNDING = 1e-12
"""Differences below this share of the largest score are rounding."""

_FEW = 30
"""Degrees of freedom below which a bootstrap cannot be trusted with the tails of many comparisons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankIntervals:
    """The rank of each model by its mean score, and the ranks it may have; 1 is the best."""

    rank: Index
    """(models,): 1 + number of models with a higher mean; equal means share a rank."""
    low: Index
    """(models,): the best rank it may have: 1 + number of models that are significantly better."""
    high: Index
    """(models,): the worst: number of models less those that are significantly worse."""
    better: Flags
    """(models, models): whether the row's model is significantly better than the column's."""
    prompts: int
    """Prompts used: those for which every model has a score. One that stands twice counts twice."""
    level: float
    """Chance, 0 to 1, that all ranges hold the true ranks at once."""


def rank_intervals(
    scores: ArrayLike,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    categories: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> RankIntervals:
    """Which ranks each model may have, all models at once.

    Every two models are compared paired by prompt. A difference is significant if it exceeds, in standard errors, what
    the largest of all (still undecided) differences exceeds by chance in 1 - level of the resamples; differences found
    are then set aside and the rest is tested again. So the chance that any of the statements "i is better than j" is
    wrong is at most 1 - level, and a range leaves out the true rank of any model no more often. The limit is widened as
    that of a t-test for few prompts, and with fewer than 30 degrees of freedom it is at least that of t-tests
    corrected by Bonferroni: resamples of few prompts do not know how far a mean of them can lie out. Of 5 to 20 truly
    equal models with normal scores some were told apart in 2 to 6 % of the simulations with 2 to 28 prompts, and in 4
    to 7 % with 33 to 200. Two models with the same difference on every prompt are told apart if the prompts are enough
    for a sign test of all pairs.

    Args:
        scores: (models, prompts), higher is better; prompts with NaN for any model are left out.
        resamples: of the distinct prompts, with replacement, the same for all models.
        level: chance that all ranges are right, 0 to 1.
        seed: same seed, same ranges.
        categories: (prompts,) names; then what differs between categories is no error, which fits a suite whose mixture
            of categories is fixed. With fewer than about ten prompts in a category that varies much more than the
            others, models are told apart too often: leave categories out then.
        clusters: (prompts,) labels, equal for prompts with one text, which are then drawn together; each is its own if
            not given.

    Raises:
        InputError: wrong shapes, an infinite score, fewer than two different prompts with all scores, of all or of a
            category, or a setting has an impossible value.

    Source: Mogstad, Romano, Shaikh & Wilhelm 2024, Inference for Ranks, Review of Economic Studies 91; Romano & Wolf
    2005 for the steps.
    """
    check_settings(resamples, level)
    found = model_means(scores, categories, clusters)
    means = found.means
    errors = np.sqrt(_variances(found.influences))
    errors[errors <= _ROUNDING * np.nanmax(np.abs(np.asarray(scores, dtype=np.float64)))] = 0
    deviations = resampled_sums(found.influences, resamples, seed)
    better = _better(means, errors, deviations, level, found.distinct, _freedom(found))
    return RankIntervals(
        rank=1 + (means[None] > means[:, None]).sum(axis=1),
        low=1 + better.sum(axis=0),
        high=len(means) - better.sum(axis=1),
        better=better,
        prompts=found.prompts,
        level=level,
    )


def _variances(influences: Floats) -> Floats:
    """(models, distinct prompts) -> (models, models): squared standard errors of the differences."""
    squares: Floats = np.stack([((one - influences) ** 2).sum(axis=1) for one in influences])
    return squares


def _freedom(found: ModelMeans) -> Floats:
    """(models, models): degrees of freedom of the errors; few where small categories vary most.

    Source: Welch 1947, The generalization of Student's problem, in the form that is right on average.
    """
    parts = [_variances(part) for part in found.parts]
    squares = np.sum([own**2 / (part.shape[1] + 1) for own, part in zip(parts, found.parts, strict=True)], axis=0)
    total = np.sum(parts, axis=0)
    welch = np.divide(total**2, squares, out=np.full_like(total, np.inf), where=squares > 0) - 2
    freedom: Floats = np.clip(welch, 1, found.distinct - 1)
    return freedom


def _better(means: Floats, errors: Floats, deviations: Floats, level: float, prompts: int, freedom: Floats) -> Flags:
    """(models,), (models, models), (resamples, models) -> (models, models)."""
    gaps = means[:, None] - means
    gaps[np.abs(gaps) <= _ROUNDING * np.abs(means).max()] = 0
    certain = errors == 0  # the same difference on every prompt, 0 of a model with itself or its copy
    scale = np.where(certain, 1, errors)
    pairs = len(means) * (len(means) - 1) / 2
    better: Flags = certain & (gaps > 0) & (pairs * 2.0 ** (1 - prompts) <= 1 - level)
    while True:
        limit = _limit(deviations, scale, ~(better | certain), level, freedom)
        found = better | (~certain & (gaps > 0) & (gaps > limit * scale))
        if (found == better).all():
            return better
        better = found


def _limit(deviations: Floats, scale: Floats, tested: Flags, level: float, freedom: Floats) -> Floats:
    """(models, models): standard errors that the largest of the tested differences exceeds in 1 - level of samples."""
    from scipy.special import ndtr, stdtrit

    drawn = np.quantile(_largest(deviations, scale, tested), level)
    chance = ndtr(-drawn)  # errors are estimated: as far out in t as it is in the normal curve
    corrected = min(chance, (1 - level) / max(1, tested.sum()))
    limit: Floats = -stdtrit(freedom, np.where(freedom < _FEW, corrected, chance))
    return limit


def _largest(deviations: Floats, scale: Floats, tested: Flags) -> Floats:
    """(resamples,): the largest of the tested differences in each resample, in standard errors; at least 0."""
    largest = np.zeros(len(deviations))
    for one, others in enumerate(tested):
        if others.any():
            gaps = (deviations[:, [one]] - deviations[:, others]) / scale[one, others]
            np.maximum(largest, gaps.max(axis=1), out=largest)
    return largest
