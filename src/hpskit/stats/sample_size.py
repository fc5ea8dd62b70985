"""How many prompts a comparison of models needs, and what a given number of them can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index, pair_indices
from hpskit.stats.bootstrap import check_settings
from hpskit.stats.model_scores import complete_scores, resampled_means, standard_errors

__all__ = ["PromptCountPoint", "detectable_difference", "prompts_needed", "wrong_order_curve"]


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
        counts: numbers of prompts, each at least 1 (with categories enough for one of each).
        categories: (prompts,) names; then prompts are drawn within categories, in proportion to their sizes, and the
            means keep the categories' shares. Without them all prompts are drawn alike.
        resamples: draws for each count, at least 2.
        seed: same seed, same curve; each count is drawn anew and does not depend on the others.

    Raises:
        InputError: wrong shapes, fewer than two prompts with all scores, no two models with different means, or an
            impossible count.

    Source: the prompt number study of Wu et al. 2023, arXiv 2306.09341; Efron & Tibshirani 1993, chapter 6.
    """
    if resamples < 2:
        raise InputError(f"resamples: is {resamples!r}, expected at least 2")
    table, members = complete_scores(scores, categories)
    first, second = _ordered_pairs(table)
    return [_point(table, members, first, second, _allocation(members, count), resamples, seed) for count in counts]


def prompts_needed(deviation: float, resolution: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Number of prompts with which a paired difference of `resolution` is found significant with that power.

    n = ((z(1 - (1 - level) / 2) + z(power)) deviation / resolution)^2, rounded up: the normal approximation, about two
    prompts too few for a t-test. No correction for several comparisons: give a higher level for those.

    Args:
        deviation: standard deviation over prompts of the difference of two models (`PairedDifference.deviation`).
        resolution: true difference of the means to be found, in the same unit.
        level: 1 less the two-sided chance of a false alarm.
        power: chance to find the difference.

    Raises:
        InputError: deviation is negative, resolution is not positive, or level or power are not between 0 and 1.

    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2.
    """
    if not 0 < resolution < np.inf:
        raise InputError(f"resolution: is {resolution!r}, expected a difference above 0")
    return max(1, ceil((_spread(deviation, level, power) / resolution) ** 2 - 1e-9))


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


def _ordered_pairs(table: Floats) -> tuple[Index, Index]:
    """All pairs of models with different means, the better one first."""
    means = table.mean(axis=1)
    one, other = pair_indices(len(means))
    differ = means[one] != means[other]
    if not differ.any():
        raise InputError(f"scores: the means of all {len(means)} models are {means[0]}, expected some that differ")
    one, other = one[differ], other[differ]
    ahead = means[one] > means[other]
    return np.where(ahead, one, other), np.where(ahead, other, one)


def _allocation(members: Sequence[Index], count: int) -> list[int]:
    """Prompts of each category, in proportion to their sizes, the largest remainders rounded up."""
    sizes = np.array([len(numbers) for numbers in members])
    exact = count * sizes / sizes.sum()
    result = np.floor(exact).astype(int)
    result[np.argsort(result - exact, kind="stable")[: count - result.sum()]] += 1
    if count < 1 or (result < 1).any():
        least = "1" if len(sizes) == 1 else f"enough for one prompt of each of {len(sizes)} categories"
        raise InputError(f"counts: there is {count!r}, expected at least {least}")
    return [int(size) for size in result]


def _point(
    table: Floats, members: list[Index], first: Index, second: Index, sizes: list[int], resamples: int, seed: int
) -> PromptCountPoint:
    means = resampled_means(table, members, resamples, seed, sizes)
    wrong = (1 - np.sign(means[:, first] - means[:, second])) / 2
    chance = wrong.mean(axis=0)
    one, other = pair_indices(len(table))
    return PromptCountPoint(
        prompts=sum(sizes),
        standard_error=_root_mean_square(standard_errors(table, members, sizes)),
        difference_error=_root_mean_square(standard_errors(table[one] - table[other], members, sizes)),
        wrong_order=float(chance.mean()),
        worst_pair=float(chance.max()),
        any_wrong=float((wrong > 0).any(axis=1).mean()),
        disagreement=float((2 * chance * (1 - chance)).mean() * resamples / (resamples - 1)),
    )


def _root_mean_square(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))
