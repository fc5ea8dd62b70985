"""How many prompts a comparison of models needs, and what a given number of them can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index, pair_indices
from hpskit.stats.bootstrap import check_settings
from hpskit.stats.model_scores import ModelMeans, model_means, resampled_sums

__all__ = [
    "PromptCountPoint",
    "detectable_difference",
    "difference_deviations",
    "prompts_needed",
    "wrong_order_curve",
]

_MOST = 10**12
"""Prompts that it makes sense to ask for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptCountPoint:
    """What so many prompts can say about the models."""

    prompts: int
    """How many are drawn."""
    standard_error: float
    """Of the mean of one model, in points of the score: root mean square over the models."""
    difference_error: float
    """Standard error of a paired difference of two models: root mean square over the pairs of models."""
    wrong_order: float
    """Chance that two models come out in another order than with all prompts, 0 to 1: mean over the pairs."""
    worst_pair: float
    """The same chance for the pair of models that is hardest to tell apart."""
    any_wrong: float
    """Chance that at least one pair comes out in another order than with all prompts, 0 to 1."""
    disagreement: float
    """Chance that two such samples order two models differently, 0 to 1: mean over the pairs."""


def wrong_order_curve(
    scores: ArrayLike,
    counts: Sequence[int],
    *,
    categories: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    resamples: int = 1_000,
    seed: int = 0,
) -> list[PromptCountPoint]:
    """How sure the order of models is as a function of the number of prompts.

    For each count, that many prompts are drawn *with replacement* from those for which every model has a score, the
    same for all models, `resamples` times. So the prompts of the suite are taken as a random sample of a larger kind of
    prompts, and the curve says what *other* prompts of that kind would show: the chance of a wrong order does not
    become 0 where as many are drawn as there are, and counts beyond that say what a larger suite would do. Nothing else
    is resampled: each score has seen one seed of its generator.

    The differences that the suite shows stand for the true ones. They hold noise of their own, by which close models
    look further apart than they are, and the chances come out too low for these: with as many prompts as the suite has,
    two models that are truly equal get 1/4 on average instead of 1/2. Where `rank_intervals` does not decide, trust the
    standard errors and `prompts_needed` instead. These errors are computed, not simulated.

    Pairs of models with exactly equal means have no order and do not take part; a tie in a sample counts one half.

    Args:
        scores: (models, prompts), higher is better; prompts with NaN for any model are left out.
        counts: numbers of prompts, each at least 1.
        categories: (prompts,) names; then the categories' shares of the means are fixed, and what differs between
            categories is no error. Without them all prompts are drawn alike.
        clusters: (prompts,) labels, equal for prompts with one text: these are one prompt that weighs as often as it
            stands. Each is its own if not given.
        resamples: draws for each count, at least 2.
        seed: same seed, same curve; each count is drawn anew and does not depend on the others.

    Raises:
        InputError: wrong shapes, fewer than two different prompts with all scores, of all or of a category, no two
            models with different means, or an impossible count.

    Source: the prompt number study of Wu et al. 2023, arXiv 2306.09341; Efron & Tibshirani 1993, chapter 6.
    """
    if resamples < 2:
        raise InputError(f"resamples: is {resamples!r}, expected at least 2")
    for count in counts:
        if count < 1:
            raise InputError(f"counts: there is {count!r}, expected at least 1")
    found = model_means(scores, categories, clusters)
    pairs = _ordered_pairs(found.means)
    return [_point(found, pairs, count, resamples, seed) for count in counts]


def difference_deviations(
    scores: ArrayLike, *, categories: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> Floats:
    """How much the difference of two models varies from prompt to prompt, for every pair.

    Args:
        scores: as for `wrong_order_curve`.
        categories: as for `wrong_order_curve`: then it is the deviation within them.
        clusters: as for `wrong_order_curve`.

    Returns:
        (pairs,) standard deviations (ddof 1), in the order of `numpy.triu_indices(models, k=1)`; divided by the root of
        a number of prompts they are the standard error of the difference with so many.

    Raises:
        InputError: as `wrong_order_curve`, but models may be equal.
    """
    influences = model_means(scores, categories, clusters).influences
    first, second = pair_indices(len(influences))
    return _deviations(influences[second] - influences[first])


def prompts_needed(deviation: float, resolution: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Number of prompts with which a paired difference of `resolution` is found significant with that power.

    n = ((z(1 - (1 - level) / 2) + z(power)) deviation / resolution)^2, rounded up: the normal approximation, about two
    prompts too few for a t-test. No correction for several comparisons: give a higher level for those. Never fewer than
    a sign-flip test needs to reach 1 - level at all, 2^(1 - n) <= 1 - level: 6 prompts at 95 %.

    Args:
        deviation: standard deviation over prompts of the difference of two models (`PairedDifference.deviation`).
        resolution: true difference of the means to be found, in the same unit.
        level: 1 less the two-sided chance of a false alarm.
        power: chance to find the difference.

    Raises:
        InputError: deviation is negative, resolution is not positive or so small that it takes more than 10^12 prompts,
            or level or power are not between 0 and 1.

    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2.
    """
    if not 0 < resolution < np.inf:
        raise InputError(f"resolution: is {resolution!r}, expected a difference above 0")
    spread = _spread(deviation, level, power)
    finest = spread / sqrt(_MOST)
    if resolution < finest:
        raise InputError(f"resolution: is {resolution!r}, expected at least {finest:.2g}, which takes 10^12 prompts")
    least = ceil(1 - log2(1 - level) - 1e-9)
    return max(least, ceil((spread / resolution) ** 2 - 1e-9))


def detectable_difference(deviation: float, prompts: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest difference that so many prompts find with that power: `prompts_needed` solved for the resolution.

    Raises:
        InputError: as `prompts_needed`, or there are no prompts.
    """
    if prompts < 1:
        raise InputError(f"prompts: is {prompts!r}, expected at least 1")
    return _spread(deviation, level, power) / sqrt(prompts)


def _spread(deviation: float, level: float, power: float) -> float:
    check_settings(1, level)
    if not 0 < power < 1:
        raise InputError(f"power: is {power!r}, expected a chance between 0 and 1, such as 0.8")
    if not 0 <= deviation < np.inf:
        raise InputError(f"deviation: is {deviation!r}, expected a standard deviation of 0 or more")
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * deviation


def _ordered_pairs(means: Floats) -> tuple[Index, Index]:
    """All pairs of models with different means, the better one first."""
    one, other = pair_indices(len(means))
    differ = means[one] != means[other]
    if not differ.any():
        raise InputError(f"scores: the means of all {len(means)} models are {means[0]}, expected some that differ")
    one, other = one[differ], other[differ]
    ahead = means[one] > means[other]
    return np.where(ahead, one, other), np.where(ahead, other, one)


def _point(sample: ModelMeans, pairs: tuple[Index, Index], count: int, resamples: int, seed: int) -> PromptCountPoint:
    first, second = pairs
    drawn = resampled_sums(sample.influences, resamples, seed, count) * (sample.distinct / count)
    means = sample.means + drawn
    wrong = (1 - np.sign(means[:, first] - means[:, second])) / 2
    chance = wrong.mean(axis=0)
    one, other = pair_indices(len(sample.means))
    return PromptCountPoint(
        prompts=count,
        standard_error=_root_mean_square(_deviations(sample.influences)) / sqrt(count),
        difference_error=_root_mean_square(_deviations(sample.influences[one] - sample.influences[other]))
        / sqrt(count),
        wrong_order=float(chance.mean()),
        worst_pair=float(chance.max()),
        any_wrong=float((wrong > 0).any(axis=1).mean()),
        disagreement=float((2 * chance * (1 - chance)).mean() * resamples / (resamples - 1)),
    )


def _deviations(influences: Floats) -> Floats:
    """(rows, distinct prompts) -> (rows,): standard deviations over prompts."""
    deviations: Floats = np.sqrt(influences.shape[1] * (influences**2).sum(axis=1))
    return deviations


def _root_mean_square(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
