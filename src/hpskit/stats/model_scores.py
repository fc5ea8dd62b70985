"""Scores of several models for the same prompts: means, their errors, resamples, and how many prompts are needed.

*Distinct* prompts are drawn: the images of one text are no more independent than the same people asked twice. The
influence of a distinct prompt on a mean is what its images add to the mean's deviation. A standard error is the root of
the sum of squared influences, and a resample adds those drawn. All models meet the same resampled prompts, so every
difference of means is a paired one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index, cluster_labels, pair_indices, read_model_scores, require
from hpskit.stats.intervals import check_settings, times_drawn

GROUP_SIZE = 80
"""Images in one of the consecutive groups over which the benchmark takes its deviation."""

_NUMBERS_AT_ONCE = 2**20
"""Weights drawn at once: keeps temporary arrays under some 30 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleResult:
    """Figures of one style in the table of the paper."""

    mean: float
    """Mean of the group means."""
    deviation: float
    """Population standard deviation (ddof 0) of the group means: not an error of the mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelMeans:
    """Means of several models over the prompts that all of them have, and what each prompt adds to their errors."""

    means: Floats
    """(models,): over all rows, so a prompt that stands twice counts twice."""
    influences: Floats
    """(models, distinct prompts): the root of the sum of their squares is the standard error."""
    parts: tuple[Floats, ...]
    """For each category (models, distinct prompts in it): influences of its rows alone."""
    prompts: int
    """Rows that every model has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptCountPoint:
    """Evidence that a number of prompts gives about the models."""

    prompts: int
    """How many are drawn."""
    standard_error: float
    """Standard error of one model's mean, in points of the score: root mean square over the models."""
    difference_error: float
    """Standard error of a paired difference of two models: root mean square over the pairs of models."""
    wrong_order: float
    """Probability that two models come out in another order than with all prompts: mean over the pairs."""
    worst_pair: float
    """Same probability for the pair of models that is hardest to tell apart."""
    any_wrong: float
    """Probability that at least one pair comes out in another order than with all prompts."""
    disagreement: float
    """Probability that two such samples order two models differently: mean over the pairs."""


def style_result(scores: ArrayLike, group_size: int = GROUP_SIZE) -> StyleResult:
    """Mean and deviation over consecutive groups, as the official `evaluate` prints them.

    `scores` are (N,) in the order of the prompts; the last group may be shorter. NaN is a prompt without a score: the
    groups stay where they are (in the official code they move), and one without any score drops out.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).all():
        raise InputError("scores", f"have shape {values.shape}", expected="(N,) with at least one score")
    groups = (values[start : start + group_size] for start in range(0, values.size, group_size))
    means = [group[~np.isnan(group)].mean() for group in groups if not np.isnan(group).all()]
    return StyleResult(mean=float(np.mean(means)), deviation=float(np.std(means)))


def model_means(
    scores: ArrayLike, categories: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> ModelMeans:
    """Means over the prompts for which every model has a score, and their errors."""
    table = read_model_scores(scores)
    labels = cluster_labels(clusters, table.shape[1])
    names = np.zeros(table.shape[1]) if categories is None else np.asarray(categories)
    if names.shape != labels.shape:
        expected = f"one for each of {table.shape[1]} prompts"
        raise InputError("categories", f"have shape {names.shape}", expected=expected)
    common = ~np.isnan(table).any(axis=0)
    if len(np.unique(labels[common])) < 2:
        missing = np.isnan(table).sum(axis=1)
        cure = f"leave out what lacks most, such as model {missing.argmax()} with {missing.max()} missing"
        found = f"of every model are there for {common.sum()} of {table.shape[1]} prompts"
        raise InputError("scores", found, expected="at least 2 different prompts", cure=cure)
    table, labels, names = table[:, common], labels[common], names[common]
    rows = table.shape[1]
    centred = np.empty_like(table)
    parts = []
    for name in np.unique(names):
        inside = names == name
        distinct = len(np.unique(labels[inside]))
        if distinct < 2:
            found, cure = f"has {distinct} prompts with a score of every model", "put it with another"
            raise InputError(f"categories: {str(name)!r}", found, expected="at least 2", cure=cure)
        own = table[:, inside]
        centred[:, inside] = (own - own.mean(axis=1, keepdims=True)) * np.sqrt(distinct / (distinct - 1)) / rows
        parts.append(summed_by_prompt(centred[:, inside], labels[inside]))
    influences = summed_by_prompt(centred, labels)
    return ModelMeans(means=table.mean(axis=1), influences=influences, parts=tuple(parts), prompts=rows)


def summed_by_prompt(rows: Floats, labels: Index) -> Floats:
    """Sum over equal labels, in their order: (rows, prompts), (prompts,) -> (rows, distinct prompts)."""
    if (np.diff(labels, prepend=-1) == 1).all():  # all of them different and in order
        return np.ascontiguousarray(rows)
    order = labels.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    if len(starts) == len(labels):
        return np.ascontiguousarray(rows[:, order])
    return np.add.reduceat(rows[:, order], starts, axis=1)


def averaged_by_prompt(scores: ArrayLike, clusters: ArrayLike | None) -> Floats:
    """Average scores over distinct prompts, (models, distinct prompts); NaN where none is known."""
    table = read_model_scores(scores)
    labels = cluster_labels(clusters, table.shape[1])
    present = ~np.isnan(table)
    sums, counts = (summed_by_prompt(rows, labels) for rows in (np.nan_to_num(table), present.astype(np.float64)))
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def resampled_sums(rows: Floats, resamples: int, seed: int, size: int | None = None) -> Floats:
    """Sum each row over `size` distinct prompts (default: all) drawn with replacement, the same for all rows.

    (rows, distinct prompts) without NaN -> (resamples, rows).
    """
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, len(rows)))
    step = max(1, _NUMBERS_AT_ONCE // max(rows.shape[1], size or 0))
    for start in range(0, resamples, step):
        part = sums[start : start + step]
        part[:] = times_drawn(rng, len(part), rows.shape[1], size) @ rows.T
    return sums


def wrong_order_curve(
    scores: ArrayLike,
    counts: Sequence[int],
    *,
    categories: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    resamples: int = 1_000,
    seed: int = 0,
) -> list[PromptCountPoint]:
    """Tell how sure the order of models is with each of several numbers of prompts, `counts`.

    For each count, that many prompts are drawn *with replacement* from those that every model has, `resamples` times.
    So the suite is a sample of a larger kind of prompts, and the curve says what *other* prompts of that kind would
    show, also for counts beyond those of the suite. Each score has seen one seed of its generator.

    The differences in the suite stand for the true ones, but hold noise of their own, so close models look further
    apart than they are: with as many prompts as the suite has, two truly equal models get 1/4 on average instead of
    1/2. Where `rank_intervals` does not decide, trust the standard errors, which are computed, and `prompts_needed`.
    Pairs of models with equal means do not take part; a tie in a sample counts one half.

    Source: the prompt number study of Wu et al. 2023, arXiv 2306.09341; Efron & Tibshirani 1993, chapter 6.
    """
    require(resamples >= 2, "resamples", resamples, "at least 2")
    require(min(counts, default=1) >= 1, "counts", counts, "at least 1 each")
    found = model_means(scores, categories, clusters)
    means, influences = found.means, found.influences
    one, other = pair_indices(len(means))
    error, difference_error = (
        float(np.sqrt((_deviations(rows) ** 2).mean())) for rows in (influences, influences[one] - influences[other])
    )
    differ = means[one] != means[other]
    if not differ.any():
        raise InputError("scores", f"have the same mean {means[0]} for all {len(means)} models", expected="others")
    better, worse = np.where(means[one] > means[other], (one, other), (other, one))[:, differ]
    points = []
    for count in counts:
        drawn = means + resampled_sums(influences, resamples, seed, count) * (influences.shape[1] / count)
        wrong = (1 - np.sign(drawn[:, better] - drawn[:, worse])) / 2
        chance = wrong.mean(axis=0)
        points.append(
            PromptCountPoint(
                prompts=count,
                standard_error=error / sqrt(count),
                difference_error=difference_error / sqrt(count),
                wrong_order=float(chance.mean()),
                worst_pair=float(chance.max()),
                any_wrong=float((wrong > 0).any(axis=1).mean()),
                disagreement=float((2 * chance * (1 - chance)).mean() * resamples / (resamples - 1)),
            )
        )
    return points


def difference_deviations(
    scores: ArrayLike, *, categories: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> Floats:
    """Standard deviations (ddof 1) over prompts of the difference of two models, within categories if there are any.

    (pairs,) in the order of `numpy.triu_indices(models, k=1)`; divided by the root of a number of prompts they are the
    standard error of the difference.
    """
    influences = model_means(scores, categories, clusters).influences
    first, second = pair_indices(len(influences))
    return _deviations(influences[second] - influences[first])


def prompts_needed(deviation: float, resolution: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Number of prompts with which a paired difference of `resolution` is found significant with that power.

    n = ((z(1 - (1 - level) / 2) + z(power)) deviation / resolution)^2, rounded up: the normal approximation, about two
    prompts too few for a t-test. `deviation` is that of `PairedDifference`. For several comparisons give a higher
    level. Never fewer than a sign-flip test needs to reach 1 - level at all, 2^(1 - n) <= 1 - level: 6 prompts at 95 %.

    Source: Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2.
    """
    require(0 < resolution < np.inf, "resolution", resolution, "a difference above 0")
    spread = _spread(deviation, level, power)
    finest = spread / 1e6
    require(resolution >= finest, "resolution", resolution, f"at least {finest:.2g}, which takes 10^12 prompts")
    least = ceil(1 - log2(1 - level) - 1e-9)
    return max(least, ceil((spread / resolution) ** 2 - 1e-9))


def detectable_difference(deviation: float, prompts: int, *, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest difference that so many prompts find with that power: `prompts_needed` solved for the resolution."""
    require(prompts >= 1, "prompts", prompts, "at least 1")
    return _spread(deviation, level, power) / sqrt(prompts)


def _spread(deviation: float, level: float, power: float) -> float:
    check_settings(1, level)
    require(0 < power < 1, "power", power, "a chance between 0 and 1, such as 0.8")
    require(0 <= deviation < np.inf, "deviation", deviation, "a standard deviation of 0 or more")
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * deviation


def _deviations(influences: Floats) -> Floats:
    """(rows, distinct prompts) -> (rows,): standard deviations over prompts."""
    deviations: Floats = np.sqrt(influences.shape[1] * (influences**2).sum(axis=1))
    return deviations
