"""Decide which models are better, from their scores for the same prompts.

All comparisons are paired: both models answer the easy and the hard prompts, so the difference is far surer than either
mean. A prompt that stands several times is one in all counts and tests; only means weigh it as often as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import sqrt
from statistics import NormalDist
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Flags, Floats, Index, cluster_labels, pair_indices, read_model_scores
from hpskit.stats.intervals import Resampling, check_settings, percentiles
from hpskit.stats.model_scores import (
    ModelMeans,
    detectable_difference,
    model_means,
    resampled_sums,
    summed_by_prompt,
)

_EXACT_FLIPS = 16
"""Up to so many prompts that differ, all 2^16 signs are tried."""

_NUMBERS_AT_ONCE = 2**22
"""Resampled means, or differences, held at once: 32 MB."""

_IN_CACHE = 2**17
"""Numbers that stay in the cache of a processor while they are worked on: 1 MB."""

_ROUNDING = 1e-12
"""Differences below this share of the largest score are rounding."""

_FEW = 30
"""Degrees of freedom below which a bootstrap cannot be trusted with the tails of many comparisons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """A second model less a first one, prompt by prompt."""

    value: float
    """Mean over prompts of second - first, in points of the score: above 0 the second is better."""
    low: float
    """Lower end of its bootstrap interval over prompts: percentiles, expanded for few prompts."""
    high: float
    prompts: int
    """Different prompts for which both have a score."""
    wins: int
    """Prompts on which the second scores higher; `ties`: exactly the same; `losses`: lower."""
    ties: int
    losses: int
    win_rate: float
    """(wins + ties / 2) / prompts, 0 to 1."""
    win_low: float
    """Lower end of the score interval of the win rate, for the share of ties as it is (Wilson's without ties)."""
    win_high: float
    sign_p: float
    """Two-sided exact sign test that wins and losses are equally likely; ties are left out."""
    permutation_p: float
    """Two-sided test that differences are as likely up as down, by flipping their signs: of all sign patterns if at
    most 16 prompts differ, else of as many random ones as there are resamples, by (hits + 1) / (resamples + 1)."""
    deviation: float
    """Standard deviation (ddof 1) of the differences over different prompts; deviation / sqrt(prompts) is the standard
    error of `value`."""
    detectable: float
    """Smallest true difference that this number of prompts finds with 80 % power at 1 - level two-sided."""
    level: float
    """Nominal coverage of both intervals, 0 to 1."""

    def to_json(self) -> dict[str, float]:
        """Return all fields: a tenth of the time of `asdict`, which copies what it finds; there may be 100,000."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class RankIntervals:
    """The rank of each model by its mean score, and the ranks it may have; 1 is the best."""

    rank: Index
    """(models,): 1 + number of models with a higher mean; equal means share a rank."""
    low: Index
    """(models,): best rank it may have: 1 + number of models that are significantly better."""
    high: Index
    """(models,): worst rank it may have: number of models less those that are significantly worse."""
    better: Flags
    """(models, models): whether the row's model is significantly better than the column's."""
    prompts: int
    """Prompts used: those for which every model has a score. One that stands twice counts twice."""
    level: float
    """Chance, 0 to 1, that all ranges hold the true ranks at once."""


def paired_difference(first: ArrayLike, second: ArrayLike, **options: Unpack[Resampling]) -> PairedDifference:
    """Compare two models by their scores for the same prompts, (prompts,) each.

    If all scores are equal, as for a copy of the same images, the value and its interval are exactly 0, the win rate is
    1/2 and both p-values are 1. In simulations 95 % intervals held the true difference in 94 to 95 % of the cases from
    8 prompts on for normal differences, from 50 on for ones as skewed as an exponential (90 % with 10 such).

    Source: Fisher 1935, The Design of Experiments, section 21 (sign flips); Wilson 1927 (score interval); Hesterberg
    2015, What Teachers Should Know About the Bootstrap, The American Statistician 69 (expanded percentiles).
    """
    one, other = (np.asarray(side, dtype=np.float64) for side in (first, second))
    if one.shape != other.shape or one.ndim != 1:
        raise InputError("scores", f"have shapes {one.shape} and {other.shape}", expected="the same (prompts,)")
    return paired_differences(np.stack([one, other]), **options)[0]


def paired_differences(
    scores: ArrayLike,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[PairedDifference]:
    """Compare every pair of models with the same resamples: much faster than one by one.

    Each pair is compared on the prompts that both have. `pairs` are numbers of the first and the second model; by
    default (0, 1), (0, 2), …, (1, 2), … Nothing is corrected for their number: use `holm` on the p-values. Random flips
    show none below 1 / (resamples + 1); with 10,000 and more than 500 pairs (32 models) none can stay below 0.05 after
    `holm`. Take more resamples then, or decide by `rank_intervals`.
    """
    check_settings(resamples, level)
    table = read_model_scores(scores)
    labels = cluster_labels(clusters, table.shape[1])
    wanted = np.stack(pair_indices(len(table)), axis=1) if pairs is None else np.array(pairs, dtype=np.intp)
    first, second = wanted.reshape(-1, 2).T
    complete = np.asarray(np.isfinite(table).all(axis=1), dtype=np.bool_)
    alike = complete[first] & complete[second]
    whole = _Whole.of(table, complete, labels, resamples, seed) if alike.sum() > 2 * len(table) else None
    alike &= whole is not None
    result: dict[int, PairedDifference] = {}
    for numbers in chain(
        _portions(alike, _IN_CACHE // max(resamples, table.shape[1])),
        _portions(~alike, _NUMBERS_AT_ONCE // max(resamples, table.shape[1])),  # each draws anew
    ):
        one, other = first[numbers], second[numbers]
        differences = table[other] - table[one]
        present = ~np.isnan(differences)
        counts = summed_by_prompt(present.astype(np.float64), labels)
        for few in np.flatnonzero((counts > 0).sum(axis=1) < 2)[:1]:
            found = f"of models {one[few]} and {other[few]} have fewer than 2 prompts in common"
            raise InputError("scores", found, expected="at least 2 different ones")
        totals = summed_by_prompt(np.where(present, differences, 0), labels)
        used = counts.any(axis=0)  # the others are no part of the sample
        totals, counts = totals[:, used], counts[:, used]
        flipped = None
        if whole is not None and alike[numbers[0]]:
            means, flipped = _gaps(whole.means, one, other), _gaps(whole.flipped, one, other)
            means[(totals == 0).all(axis=1)] = 0
        elif (counts == 1).all():
            means = resampled_sums(totals / len(totals.T), resamples, seed).T
        else:
            sums, drawn = np.split(resampled_sums(np.concatenate([totals, counts]), resamples, seed), 2, axis=1)
            means = np.divide(sums, drawn, out=np.full_like(sums, np.nan), where=drawn > 0).T
        flips = _flip_p_values(totals, resamples, seed, flipped)
        result |= zip(numbers.tolist(), _summaries(totals, counts, means, flips, level), strict=True)
    return [result[number] for number in range(len(first))]


def rank_intervals(
    scores: ArrayLike,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    categories: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> RankIntervals:
    """Ranges of ranks that hold for all models at once, over the prompts that all of them have.

    A paired difference is significant if it exceeds, in standard errors, what the largest of all undecided ones exceeds
    by chance in 1 - level of the resamples; those found are set aside and the rest is tested again. So the chance that
    any statement "i is better than j" is wrong, or that any range leaves out a true rank, is at most 1 - level. The
    limit is widened as that of a t-test; below 30 degrees of freedom it is at least that of t-tests corrected by
    Bonferroni. Of 5 to 20 truly equal models with normal scores some were told apart in 2 to 6 % of the simulations
    with 2 to 28 prompts, and in 4 to 7 % with 33 to 200. Two models with the same difference on every prompt are told
    apart if the prompts are enough for a sign test of all pairs.

    `categories` fit a suite with a fixed mixture. Leave them out if one that varies much more than the others has fewer
    than about ten prompts: models would be told apart too often.

    Source: Mogstad, Romano, Shaikh & Wilhelm 2024, Inference for Ranks, Review of Economic Studies 91; Romano & Wolf
    2005 for the steps.
    """
    check_settings(resamples, level)
    found = model_means(scores, categories, clusters)
    means, distinct = found.means, found.influences.shape[1]
    errors = np.sqrt(_variances(found.influences))
    errors[errors <= _ROUNDING * np.nanmax(np.abs(np.asarray(scores, dtype=np.float64)))] = 0
    deviations = resampled_sums(found.influences, resamples, seed)
    gaps = means[:, None] - means
    gaps[np.abs(gaps) <= _ROUNDING * np.abs(means).max()] = 0
    certain = errors == 0  # the same difference on every prompt, 0 of a model with itself or its copy
    scale = np.where(certain, 1, errors)
    pairs = len(means) * (len(means) - 1) / 2
    better: Flags = certain & (gaps > 0) & (pairs * 2.0 ** (1 - distinct) <= 1 - level)
    freedom = _freedom(found)
    while True:
        limit = _limit(deviations, scale, ~(better | certain), level, freedom)
        more = better | (~certain & (gaps > 0) & (gaps > limit * scale))
        if (more == better).all():
            break
        better = more
    return RankIntervals(
        rank=1 + (means[None] > means[:, None]).sum(axis=1),
        low=1 + better.sum(axis=0),
        high=len(means) - better.sum(axis=1),
        better=better,
        prompts=found.prompts,
        level=level,
    )


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values, (tests,), for their number; dependent tests are allowed.

    Those below a are differences with at most chance a of any false one.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise InputError("p_values", f"are {given.tolist()}", expected="(tests,) numbers from 0 to 1")
    order = given.argsort(kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return adjusted


def _portions(wanted: Flags, size: int) -> Iterator[Index]:
    """Yield the numbers of what is wanted, `size` at a time."""
    numbers, step = np.flatnonzero(wanted), max(1, size)
    for start in range(0, len(numbers), step):
        yield numbers[start : start + step]


def _summaries(
    totals: Floats, counts: Floats, means: Floats, permutation_p: Floats, level: float
) -> Iterator[PairedDifference]:
    """Summarise pairs: differences summed by prompt and how many they are, (pairs, prompts), resampled means, (pairs,
    resamples), and p-values.
    """
    from scipy.special import bdtr, ndtr, stdtrit

    rows, prompts = counts.sum(axis=1, keepdims=True), (counts > 0).sum(axis=1)
    values = totals.sum(axis=1, keepdims=True) / rows
    deviations = prompts * np.sqrt((((totals - values * counts) / rows) ** 2).sum(axis=1) / (prompts - 1))
    limits = stdtrit(prompts - 1, (1 + level) / 2) * np.sqrt(prompts / (prompts - 1))
    widths = 1 - 2 * ndtr(-limits)  # as wide as the interval of a t-test
    wins, losses = (totals > 0).sum(axis=1), (totals < 0).sum(axis=1)
    signs = np.minimum(1, 2 * bdtr(np.minimum(wins, losses), wins + losses, 0.5))  # nothing but ties: 1
    columns = (values[:, 0], prompts, deviations, widths, wins, losses, signs, permutation_p)
    for own, *figures in zip(means, *(column.tolist() for column in columns), strict=True):
        value, count, deviation, width, won, lost, sign_p, flip_p = figures
        low, high, _ = percentiles(own, width)
        ties = count - won - lost
        win_low, win_high = _win_interval(won, ties, count, level)
        yield PairedDifference(
            value=value,
            low=low,
            high=high,
            prompts=count,
            wins=won,
            ties=ties,
            losses=lost,
            win_rate=(won + ties / 2) / count,
            win_low=win_low,
            win_high=win_high,
            sign_p=sign_p,
            permutation_p=flip_p,
            deviation=deviation,
            detectable=detectable_difference(deviation, count, level=level),
            level=level,
        )


def _win_interval(wins: int, ties: int, prompts: int, level: float) -> tuple[float, float]:
    """All p with (rate - p)^2 <= z^2 (p (1 - p) - tied / 4) / prompts: the variance of an outcome of 0, 1/2 or 1.

    The bootstrap would call a rate of ten wins in ten certain.
    """
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    rate, tied = (wins + ties / 2) / prompts, ties / prompts
    middle = (2 * prompts * rate + z2) / 2
    root = sqrt(max(0.0, z2 * (4 * prompts * rate * (1 - rate) + z2 - tied * (prompts + z2)))) / 2
    low, high = (middle - root) / (prompts + z2), (middle + root) / (prompts + z2)
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))  # rounding aside, the rate lies between them


@dataclass(frozen=True, slots=True)
class _Whole:
    """Resamples of models without gaps. A mean of differences is the difference of two means, so that what is drawn
    once for each model serves all pairs, of which there are many more. Rows of other models mean nothing."""

    means: Floats
    """(models, resamples): of the scores less the mean of these models."""
    flipped: Floats
    """(models, resamples): sums of the same under random signs."""

    @classmethod
    def of(cls, table: Floats, complete: Flags, labels: Index, resamples: int, seed: int) -> _Whole:
        rows = summed_by_prompt(np.nan_to_num(table - table[complete].mean(axis=0)), labels)
        counts = summed_by_prompt(np.ones((1, len(labels))), labels)
        sums = resampled_sums(np.concatenate([rows, counts]), resamples, seed).T
        return cls(sums[:-1] / sums[-1], np.concatenate(list(_flipped_sums(rows, resamples, seed)), axis=1))


def _gaps(rows: Floats, first: Index, second: Index) -> Floats:
    """(rows, numbers) -> (pairs, numbers): second less first, without a copy of either."""
    gaps = np.empty((len(first), rows.shape[1]))
    for gap, one, other in zip(gaps, first, second, strict=True):
        np.subtract(rows[other], rows[one], out=gap)
    return gaps


def _flipped_sums(rows: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """(rows, prompts) -> parts of (rows, resamples): sums over prompts, each with a random sign for all rows."""
    rng = np.random.default_rng(seed)
    prompts, totals = rows.shape[1], rows.sum(axis=1, keepdims=True)
    step = max(1, _NUMBERS_AT_ONCE // (4 * max(rows.shape)))
    for start in range(0, resamples, step):
        packed = rng.integers(256, size=(min(step, resamples - start), (prompts + 7) // 8), dtype=np.uint8)
        flipped = np.unpackbits(packed, axis=1, count=prompts).astype(np.float64)
        yield totals - 2 * (rows @ flipped.T)


def _flip_p_values(differences: Floats, resamples: int, seed: int, sums: Floats | None) -> Floats:
    """(pairs, prompts) -> (pairs,): share of sign patterns with a sum as far from 0 as the one found.

    `sums`, (pairs, resamples), are those under random signs if they are known.
    """
    exact = np.count_nonzero(differences, axis=1) <= _EXACT_FLIPS
    result = np.empty(len(differences))
    for number in np.flatnonzero(exact):
        values = differences[number][differences[number] != 0]
        own = values[:1]  # its sign stays: the other half of the patterns mirrors this one
        for value in values[1:]:
            own = np.concatenate([own + value, own - value])
        result[number] = _as_far(own[None], values[None])[0] / len(own) if len(values) else 1
    if exact.all():
        return result
    others = differences[~exact] if exact.any() else differences
    drawn = _flipped_sums(others, resamples, seed) if sums is None else [sums[~exact] if exact.any() else sums]
    result[~exact] = (sum(_as_far(part, others) for part in drawn) + 1) / (resamples + 1)
    return result


def _as_far(sums: Floats, differences: Floats) -> Index:
    """(pairs, draws), (pairs, prompts) -> (pairs,): sums at least as far from 0 as the true one, rounding aside."""
    observed = np.abs(differences.sum(axis=1)) - 1e-12 * np.abs(differences).sum(axis=1)
    hits = np.count_nonzero(np.abs(sums) >= observed[:, None], axis=1)
    return np.asarray(hits, dtype=np.intp)


def _variances(influences: Floats) -> Floats:
    """(models, distinct prompts) -> (models, models): squared standard errors of the differences."""
    squares = np.zeros((len(influences), len(influences)))
    for one, own in enumerate(influences):
        gaps = own - influences[one + 1 :]
        squares[one, one + 1 :] = squares[one + 1 :, one] = np.einsum("mp,mp->m", gaps, gaps)
    return squares


def _freedom(found: ModelMeans) -> Floats:
    """(models, models): degrees of freedom of the errors; few where small categories vary most.

    Source: Welch 1947, The generalization of Student's problem, in the form that is right on average.
    """
    parts = [_variances(part) for part in found.parts]
    squares = np.sum([own**2 / (part.shape[1] + 1) for own, part in zip(parts, found.parts, strict=True)], axis=0)
    total = np.sum(parts, axis=0)
    welch = np.divide(total**2, squares, out=np.full_like(total, np.inf), where=squares > 0) - 2
    freedom: Floats = np.clip(welch, 1, found.influences.shape[1] - 1)
    return freedom


def _limit(deviations: Floats, scale: Floats, tested: Flags, level: float, freedom: Floats) -> Floats:
    """(models, models): standard errors that the largest of the tested differences exceeds in 1 - level of samples."""
    from scipy.special import ndtr, stdtrit

    largest, models = np.zeros(len(deviations)), len(scale)
    later = ~np.tri(models, dtype=bool)  # each two once, in the ways in which they are tested: mostly both
    ways = ((tested & tested.T & later, True), (tested & ~tested.T, False))
    plan = [
        (one, others, both)
        for flags, both in ways
        for one in range(models)
        if len(others := np.flatnonzero(flags[one]))
    ]
    step = max(1, _IN_CACHE // models)
    for start in range(0, len(deviations), step):
        drawn, highest = deviations[start : start + step].T.copy(), largest[start : start + step]
        for one, others, both in plan:
            gaps = drawn[one] - drawn[others]
            gaps /= scale[one, others, None]
            if both:
                np.abs(gaps, out=gaps)
            np.maximum(highest, gaps.max(axis=0), out=highest)
    chance = ndtr(-np.quantile(largest, level))  # errors are estimated: as far out in t as in the normal curve
    corrected = min(chance, (1 - level) / max(1, tested.sum()))
    limit: Floats = -stdtrit(freedom, np.where(freedom < _FEW, corrected, chance))
    return limit
