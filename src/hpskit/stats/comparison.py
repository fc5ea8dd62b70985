"""Whether one model is better than another, from their scores for the same prompts.

All comparisons are paired: both models answer the easy and the hard prompts, so the difference is far surer than either
mean. Prompts are taken as a random sample; the seeds of the generators are not resampled. A prompt that stands several
times is one of the sample, and so it is in all counts and tests here; only means weigh it as often as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index, cluster_labels, pair_indices
from hpskit.stats.bootstrap import check_settings, percentiles
from hpskit.stats.model_scores import read_model_scores, resampled_sums, summed_by_prompt
from hpskit.stats.sample_size import detectable_difference

__all__ = ["PairedDifference", "holm", "paired_difference", "paired_differences"]

_EXACT_FLIPS = 16
"""Up to so many prompts that differ, all 2^16 signs are tried."""

_NUMBERS_AT_ONCE = 2**22
"""Resampled means, or differences, held at once: 32 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """A second model less a first one, prompt by prompt."""

    value: float
    """Mean over prompts of second - first, in points of the score: above 0 the second is better."""
    low: float
    """Lower end of its bootstrap interval over prompts: percentiles, expanded for few prompts."""
    high: float
    """Upper end."""
    prompts: int
    """Different prompts for which both have a score."""
    wins: int
    """Prompts on which the second scores higher, by the mean of a prompt that stands several times."""
    ties: int
    """Prompts on which both score exactly the same."""
    losses: int
    """Prompts on which the first scores higher."""
    win_rate: float
    """(wins + ties / 2) / prompts, 0 to 1."""
    win_low: float
    """Lower end of the score interval of the win rate, for the share of ties as it is (Wilson's without ties)."""
    win_high: float
    """Upper end."""
    sign_p: float
    """Two-sided exact sign test that wins and losses are equally likely; ties are left out."""
    permutation_p: float
    """Two-sided test that differences are as likely up as down, by flipping their signs: of all sign patterns if at
    most 16 prompts differ, else of as many random ones as there are resamples, by (hits + 1) / (resamples + 1)."""
    deviation: float
    """Standard deviation (ddof 1) of the differences over different prompts; deviation / sqrt(prompts) is the standard
    error of `value`."""
    detectable: float
    """The smallest true difference that this number of prompts finds with 80 % power at 1 - level two-sided."""
    level: float
    """Nominal coverage of both intervals, 0 to 1."""


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Is the second model better than the first?

    If all scores are equal, as for a copy of the same images, the value and its interval are exactly 0, the win rate is
    1/2 and both p-values are 1.

    In simulations of 95 % intervals, 94 to 95 % held the true difference from 8 prompts on where differences were
    normal, and from 50 prompts on where they were as skewed as an exponential (90 % with 10 such).

    Args:
        first: (prompts,) scores of one scorer, higher is better; NaN is missing.
        second: (prompts,) of the same prompts.
        clusters: (prompts,) labels, equal for prompts with one text, which are then drawn, flipped and counted
            together; each is its own if not given.
        resamples: of the interval, and random sign flips where there are too many for all.
        level: nominal coverage, 0 to 1.
        seed: same seed, same result.

    Raises:
        InputError: shapes differ, a score is infinite, fewer than two different prompts have both, or a setting has an
            impossible value.

    Source: Fisher 1935, The Design of Experiments, section 21 (sign flips); Wilson 1927 (score interval); Hesterberg
    2015, What Teachers Should Know About the Bootstrap, The American Statistician 69 (expanded percentile interval).
    """
    one, other = (np.asarray(side, dtype=np.float64) for side in (first, second))
    if one.shape != other.shape or one.ndim != 1:
        raise InputError(f"scores: shapes are {one.shape} and {other.shape}, expected the same (prompts,)")
    pair = np.stack([one, other])
    return paired_differences(pair, clusters=clusters, resamples=resamples, level=level, seed=seed)[0]


def paired_differences(
    scores: ArrayLike,
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    clusters: ArrayLike | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[PairedDifference]:
    """`paired_difference` for every pair of models, with the same resamples for all: much faster than one by one.

    Args:
        scores: (models, prompts); NaN is missing, each pair is compared on the prompts that both have.
        pairs: numbers of the first and the second model of each; all pairs if not given, in the order of
            `numpy.triu_indices(models, k=1)`: (0, 1), (0, 2), …, (1, 2), …
        clusters: as for `paired_difference`.
        resamples: as for `paired_difference`.
        level: as for `paired_difference`; not corrected for the number of pairs, use `holm` on the p-values. Random
            flips show no p-value below 1 / (resamples + 1): with 10,000 and more than 500 pairs (32 models) none can
            stay below 0.05 after `holm`. Take more, or decide by `rank_intervals`.
        seed: same seed, same result.

    Returns:
        One for each pair, in their order.

    Raises:
        InputError: as `paired_difference`.
    """
    check_settings(resamples, level)
    table = read_model_scores(scores)
    labels = cluster_labels(clusters, table.shape[1])
    wanted = np.stack(pair_indices(len(table)), axis=1) if pairs is None else np.array(pairs, dtype=np.intp)
    first, second = wanted.reshape(-1, 2).T
    step = max(1, _NUMBERS_AT_ONCE // max(resamples, table.shape[1]))
    result = []
    for start in range(0, len(first), step):
        one, other = first[start : start + step], second[start : start + step]
        differences = table[other] - table[one]
        present = ~np.isnan(differences)
        counts = summed_by_prompt(present.astype(np.float64), labels)
        few = np.flatnonzero((counts > 0).sum(axis=1) < 2)
        if few.size:
            pair = f"models {one[few[0]]} and {other[few[0]]}"
            raise InputError(f"scores: {pair} have fewer than 2 prompts in common, expected at least 2 different ones")
        totals = summed_by_prompt(np.where(present, differences, 0), labels)
        used = counts.any(axis=0)  # the others are no part of the sample
        result += _summaries(totals[:, used], counts[:, used], resamples, level, seed)
    return result


def holm(p_values: ArrayLike) -> Floats:
    """p-values adjusted for their number: those below a show differences with at most chance a of any false one.

    Args:
        p_values: (tests,), 0 to 1; in any order, dependent or not.

    Returns:
        (tests,), each at least the p-value itself and at most 1.

    Raises:
        InputError: one is not between 0 and 1.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise InputError(f"p_values: are {given.tolist()}, expected (tests,) numbers from 0 to 1")
    order = given.argsort(kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return adjusted


def _summaries(totals: Floats, counts: Floats, resamples: int, level: float, seed: int) -> list[PairedDifference]:
    """Sums of differences and how many they are, (pairs, prompts) each -> one summary for each pair."""
    rows = counts.sum(axis=1, keepdims=True)
    values = totals.sum(axis=1, keepdims=True) / rows
    influences = (totals - values * counts) / rows
    means = _resampled_means(totals, counts, resamples, seed)
    flips = _flip_p_values(totals, resamples, seed)
    return [
        _summary(value, row[used > 0], own, column, p_value, level)
        for value, row, used, own, column, p_value in zip(
            values[:, 0].tolist(), totals, counts, influences, means.T, flips.tolist(), strict=True
        )
    ]


def _resampled_means(totals: Floats, counts: Floats, resamples: int, seed: int) -> Floats:
    """(resamples, pairs); NaN where nothing of a pair was drawn."""
    if (counts == 1).all():
        return resampled_sums(totals / len(totals.T), resamples, seed)
    sums, drawn = np.split(resampled_sums(np.concatenate([totals, counts]), resamples, seed), 2, axis=1)
    means: Floats = np.divide(sums, drawn, out=np.full_like(sums, np.nan), where=drawn > 0)
    return means


def _summary(
    value: float, totals: Floats, influences: Floats, means: Floats, permutation_p: float, level: float
) -> PairedDifference:
    prompts = len(totals)
    low, high, _ = percentiles(means, _expanded(level, prompts))
    wins, losses = int((totals > 0).sum()), int((totals < 0).sum())
    ties = prompts - wins - losses
    win_low, win_high = _win_interval(wins, ties, prompts, level)
    deviation = float(prompts * np.sqrt((influences**2).sum() / (prompts - 1)))
    return PairedDifference(
        value=value,
        low=low,
        high=high,
        prompts=prompts,
        wins=wins,
        ties=ties,
        losses=losses,
        win_rate=(wins + ties / 2) / prompts,
        win_low=win_low,
        win_high=win_high,
        sign_p=_sign_p(wins, losses),
        permutation_p=permutation_p,
        deviation=deviation,
        detectable=detectable_difference(deviation, prompts, level=level),
        level=level,
    )


def _expanded(level: float, prompts: int) -> float:
    """The level of percentiles whose interval is as wide as that of a t-test: 0.974 instead of 0.95 for 10 prompts."""
    from scipy.special import ndtr, stdtrit

    limit = stdtrit(prompts - 1, (1 + level) / 2) * sqrt(prompts / (prompts - 1))
    return float(1 - 2 * ndtr(-limit))


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


def _sign_p(wins: int, losses: int) -> float:
    if wins == losses:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue)


def _flip_p_values(differences: Floats, resamples: int, seed: int) -> Floats:
    """(pairs, prompts) -> (pairs,): share of sign patterns with a sum as far from 0 as the one found."""
    exact = (differences != 0).sum(axis=1) <= _EXACT_FLIPS
    result = np.empty(len(differences))
    result[exact] = [_all_flips(row[row != 0]) for row in differences[exact]]
    if not exact.all():
        result[~exact] = _random_flips(differences[~exact], resamples, seed)
    return result


def _all_flips(values: Floats) -> float:
    sums = values[:1]  # its sign stays: the other half of the patterns mirrors this one
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(_as_far(sums[:, None], values[None])[0]) / len(sums) if len(values) else 1.0


def _random_flips(differences: Floats, resamples: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    prompts = differences.shape[1]
    totals = differences.sum(axis=1)
    hits = np.zeros(len(differences))
    step = max(1, _NUMBERS_AT_ONCE // (4 * max(differences.shape)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        packed = rng.integers(256, size=(size, (prompts + 7) // 8), dtype=np.uint8)
        flipped = np.unpackbits(packed, axis=1, count=prompts).astype(np.float64)
        hits += _as_far(totals - 2 * (flipped @ differences.T), differences)
    return (hits + 1) / (resamples + 1)


def _as_far(sums: Floats, differences: Floats) -> Index:
    """(draws, pairs), (pairs, prompts) -> (pairs,): sums at least as far from 0 as the true one, rounding aside."""
    observed = np.abs(differences.sum(axis=1)) - 1e-12 * np.abs(differences).sum(axis=1)
    hits: Index = (np.abs(sums) >= observed).sum(axis=0)
    return hits
