"""Bradley-Terry strengths of models from how often their images beat each other.

The chance that model i beats j is 1 / (1 + exp(strength j - strength i)). Every prompt is a match of every two models
that have a score for it, equal scores half a win for each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, pair_indices, require
from hpskit.stats.intervals import check_settings, times_drawn
from hpskit.stats.model_scores import averaged_by_prompt

_STEPS = 200
_PRECISION = 1e-9
"""Largest last step, in units of strength (natural logarithm of the odds)."""

_NUMBERS_AT_ONCE, _IN_CACHE = 2**22, 2**17
"""Numbers worked on at once: 32 MB, and 1 MB, which stays in the cache, where they are worked on again and again."""


def win_counts(scores: ArrayLike, *, clusters: ArrayLike | None = None) -> Floats:
    """Count the prompts on which each row's model scores higher than each column's, (models, models).

    Equal scores are one half; the diagonal is 0.
    """
    table = averaged_by_prompt(scores, clusters)
    counts = np.stack([(row > table).sum(axis=1) + (row == table).sum(axis=1) / 2 for row in table])
    np.fill_diagonal(counts, 0)
    return counts


def win_matrix(scores: ArrayLike, *, clusters: ArrayLike | None = None) -> Floats:
    """Share of common prompts on which each row's model scores higher than each column's, (models, models).

    The two shares of a pair add up to 1. NaN on the diagonal and without a common prompt.
    """
    counts = win_counts(scores, clusters=clusters)
    matches = counts + counts.T
    return np.divide(counts, matches, out=np.full_like(counts, np.nan), where=matches > 0)


def bradley_terry(wins: ArrayLike, *, prior: float = 0.5) -> Floats:
    """Strengths of models, (models,), by maximum likelihood, with `prior` wins added on both sides of each pair.

    A strength is the natural logarithm of the odds; the mean is 0, and the difference of two is the log-odds of a win.
    A model that wins every match has no finite strength. Half a win each way, as for a share in small samples, gives it
    one that grows with the number of its matches. It is not felt once there are some hundreds: with 2,000 wins in 3,200
    it changes the log-odds of 0.511 by 0.0002. A prior of 0 is plain maximum likelihood.

    `wins` are (models, models), of the row over the column, a tie half a win for each; the diagonal is not used. Models
    that were never compared, not even through others, are an error, and with prior 0 those that win or lose everything.

    Source: Bradley & Terry 1952; Ford 1957 for when a solution exists; Newton's method with the damped step of Sun &
    Tran-Dinh 2019, Generalized self-concordant functions, which cannot overshoot.
    """
    counts = np.asarray(wins, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(counts) < 2:
        raise InputError("wins", f"have shape {counts.shape}", expected="(models, models) with at least two models")
    require(0 <= prior < np.inf, "prior", prior, "a number of wins of 0 or more, such as 0.5")
    counts = counts * (1 - np.eye(len(counts)))
    if not ((counts >= 0) & np.isfinite(counts)).all():
        raise InputError("wins", "have a count that is negative or not finite", expected="numbers of wins")
    strengths: Floats = _strengths(counts[None], prior)[0]
    return strengths


def bradley_terry_interval(
    scores: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    prior: float = 0.5,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Floats, Floats, Floats]:
    """Strengths, lower and upper ends over prompts, (models,) each, by percentiles for each model by itself.

    A strength is relative to the mean of the models at hand, and so is its interval: it says how sure a model stands in
    this field. Whether two models differ is the business of `paired_differences`. With few common prompts or prior 0 a
    resample may have no strengths, which is an error.
    """
    check_settings(resamples, level)
    table = averaged_by_prompt(scores, clusters)
    counts = win_counts(table)
    strengths = bradley_terry(counts, prior=prior)
    near = strengths, _inverse_curvature(counts, prior, strengths)
    first, second = pair_indices(len(table))
    table = table[:, (~np.isnan(table)).sum(axis=0) > 1]  # the other prompts are no part of the sample
    rng, drawn = np.random.default_rng(seed), np.empty((resamples, table.shape[1]), dtype=np.float32)
    step = max(1, _NUMBERS_AT_ONCE // table.shape[1])
    for start in range(0, resamples, step):  # whole numbers and halves: their sums are exact
        drawn[start : start + step] = times_drawn(rng, min(step, resamples - start), table.shape[1])
    wins = np.empty((resamples, len(first)), dtype=np.float32)
    matches, gaps = np.broadcast_to(np.float32(table.shape[1]), wins.shape), bool(np.isnan(table).any())
    matches = matches.copy() if gaps else matches  # the same for all if none is missing
    step = max(1, _NUMBERS_AT_ONCE // table.shape[1])
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        signs = np.sign(table[first[part]] - table[second[part]]).astype(np.float32)
        if gaps:
            matches[:, part] = drawn @ np.isfinite(signs).astype(np.float32).T
            signs = np.nan_to_num(signs)
        wins[:, part] = (matches[:, part] + drawn @ signs.T) / 2
    found = np.empty((resamples, len(table)))
    step = max(1, _IN_CACHE // len(table) ** 2)
    for start in range(0, resamples, step):
        rows = slice(start, start + step)
        counts = np.zeros((len(wins[rows]), len(table), len(table)))
        counts[:, first, second], counts[:, second, first] = wins[rows], matches[rows] - wins[rows]
        found[rows] = _strengths(counts, prior, near)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return strengths, low, high


def _strengths(wins: Floats, prior: float, near: tuple[Floats, Floats] | None = None) -> Floats:
    """(sets, models, models) -> (sets, models).

    Sets are resamples of one sample, whose strengths and `_inverse_curvature` are `near`, so they are alike: all go by
    that curvature. A system of equations for each set and step is many times the work, and from 100 models on OpenBLAS
    starts threads for every one of them, which wait for one another where processors are shared.
    """
    from scipy.sparse.csgraph import connected_components

    counts = wins + prior * (wins + wins.transpose(0, 2, 1) > 0)
    linked = (counts > 0) | np.eye(counts.shape[1], dtype=bool)
    for own in linked[~linked.all(axis=(1, 2))]:
        parts, labels = connected_components(own, connection="strong")
        if parts > 1:
            found = f"give models {np.flatnonzero(labels == labels[0]).tolist()} and the others no finite difference"
            cure = "compare them on common prompts, with a prior above 0"
            raise InputError("wins", found, expected="a chain of wins from each model to each other one", cure=cure)
    if near is None:
        return _by_newton(counts, np.zeros(counts.shape[:2]))
    strengths, shared = np.repeat(near[0][None], len(counts), axis=0), near[1]
    matches, won, shares = counts + counts.transpose(0, 2, 1), counts.sum(axis=2), np.empty_like(counts)
    with np.errstate(all="ignore"):  # what comes to nothing here is left to Newton's method
        for _ in range(_STEPS // 4):
            odds = np.exp(strengths)
            np.add(odds[:, :, None], odds[:, None, :], out=shares)
            np.divide(matches, shares, out=shares)
            slope = won - odds * shares.sum(axis=2)
            step, reach = _damped(np.einsum("si,ij->sj", slope, shared))  # small: threads of BLAS would only wait
            strengths += step
            if reach.max() < _PRECISION:
                break
        late = ~(reach[:, 0] < _PRECISION)
    if late.any():  # their curvature is another, as it may be with few prompts
        strengths[late] = _by_newton(counts[late], np.zeros((int(late.sum()), counts.shape[1])))
    return np.asarray(strengths - strengths.mean(axis=1, keepdims=True))


def _by_newton(counts: Floats, strengths: Floats) -> Floats:
    """(sets, models, models), (sets, models) to begin with -> (sets, models)."""
    for _ in range(_STEPS):
        slope, curvature = _slope_and_curvature(counts, strengths)
        step, reach = _damped(np.asarray(np.linalg.solve(curvature, slope[:, :, None])[:, :, 0], dtype=np.float64))
        strengths = strengths + step
        if reach.max() < _PRECISION:
            return np.asarray(strengths - strengths.mean(axis=1, keepdims=True))
    raise InputError("wins", f"give no strengths in {_STEPS} steps", expected="counts of comparable size")


def _inverse_curvature(wins: Floats, prior: float, strengths: Floats) -> Floats:
    """Inverse, (models, models), of the curvature of one set of wins at its strengths."""
    counts = wins + prior * (wins + wins.T > 0)
    return np.asarray(np.linalg.inv(_slope_and_curvature(counts[None], strengths[None])[1][0]), dtype=np.float64)


def _slope_and_curvature(counts: Floats, strengths: Floats) -> tuple[Floats, Floats]:
    """First and negative second derivative of the likelihood, (sets, models) and (sets, models, models)."""
    models = counts.shape[1]
    chance = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
    reverse = chance.transpose(0, 2, 1)  # exact where 1 - chance would be rounded to 0
    slope = (counts * reverse - counts.transpose(0, 2, 1) * chance).sum(axis=2)
    weights = (counts + counts.transpose(0, 2, 1)) * chance * reverse
    curvature = weights.sum(axis=2)[:, :, None] * np.eye(models) - weights
    scale = np.trace(curvature, axis1=1, axis2=2)[:, None, None] / models**2  # a constant added to all is free
    return slope, curvature + scale


def _damped(step: Floats) -> tuple[Floats, Floats]:
    """The step, shortened so that it cannot overshoot, and how far it would have reached, (sets, 1)."""
    reach = step.max(axis=1, keepdims=True) - step.min(axis=1, keepdims=True)
    return step * np.where(reach > 0, np.log1p(reach) / np.where(reach > 0, reach, 1), 1), reach
