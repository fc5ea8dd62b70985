"""Scores of several models for the same prompts: checked, and resampled by prompt for all models at once.

A resample is a row of weights, one for each prompt, and its means are one product of matrices. All models meet the
same resampled prompts, so every difference taken from those means is a paired one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index

__all__ = ["complete_scores", "prompts_with_pairs", "read_model_scores", "resampled_means", "standard_errors"]

_NUMBERS_AT_ONCE = 2**20
"""Weights drawn at once: keeps temporary arrays under some 30 MB whatever the size of the data."""


def read_model_scores(scores: ArrayLike) -> Floats:
    """(models, prompts) as float64, checked; NaN is a missing score.

    Raises:
        InputError: the shape is another, there are fewer than two models, or a score is infinite.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise InputError(f"scores: shape is {table.shape}, expected (models, prompts) with at least two models")
    infinite = np.argwhere(np.isinf(table))
    if len(infinite):
        model, prompt = infinite[0]
        value = table[model, prompt]
        raise InputError(f"scores: model {model}, prompt {prompt}: is {value}, expected a number, or NaN if missing")
    return table


def complete_scores(scores: ArrayLike, categories: ArrayLike | None = None) -> tuple[Floats, list[Index]]:
    """The prompts for which every model has a score.

    Args:
        scores: (models, prompts); NaN is missing.
        categories: (prompts,) names; one category for all if not given.

    Returns:
        (models, common prompts), and the numbers of these prompts that belong to each category.

    Raises:
        InputError: as `read_model_scores`, there is not one category for each prompt, or fewer than two prompts, of all
            or of a category, have a score of every model.
    """
    table = read_model_scores(scores)
    common = ~np.isnan(table).any(axis=0)
    if common.sum() < 2:
        missing = np.isnan(table).sum(axis=1)
        raise InputError(
            f"scores: {common.sum()} of {table.shape[1]} prompts have a score of every model, expected at least 2; "
            f"leave out what lacks most, such as model {missing.argmax()} with {missing.max()} missing"
        )
    names = np.zeros(table.shape[1]) if categories is None else np.asarray(categories)
    if names.shape != common.shape:
        raise InputError(f"categories: shape is {names.shape}, expected one for each of {table.shape[1]} prompts")
    members = [np.flatnonzero(names[common] == name) for name in np.unique(names)]
    for name, numbers in zip(np.unique(names), members, strict=True):
        if len(numbers) < 2:
            raise InputError(
                f"categories: {str(name)!r} has {len(numbers)} prompts with a score of every model, expected at least "
                "2 to see how they vary; put it with another, or give no categories"
            )
    return table[:, common], members


def standard_errors(rows: Floats, members: Sequence[Index], sizes: Sequence[int] | None = None) -> Floats:
    """(rows, prompts) without NaN -> (rows,): standard errors of the means that `resampled_means` draws.

    The variance within a category has ddof 1: each has at least two prompts.
    """
    drawn = [len(numbers) for numbers in members] if sizes is None else sizes
    total = np.zeros(len(rows))
    for numbers, size in zip(members, drawn, strict=True):
        variance = rows[:, numbers].var(axis=1, ddof=1)
        total += (len(numbers) / rows.shape[1]) ** 2 * variance / size
    errors: Floats = np.sqrt(total)
    return errors


def prompts_with_pairs(rows: Floats) -> Floats:
    """The columns in which something is a number: the others are no part of the sample."""
    used = ~np.isnan(rows).all(axis=0)
    return rows if used.all() else rows[:, used]


def resampled_means(
    rows: Floats, members: Sequence[Index], resamples: int, seed: int, sizes: Sequence[int] | None = None
) -> Floats:
    """Means over prompts drawn with replacement, the same prompts for every row.

    Args:
        rows: (rows, prompts); NaN is missing and takes no part.
        members: prompts of each category; drawn within categories, whose shares of the mean stay what they are.
        resamples: how many.
        seed: same seed and sizes, same resamples.
        sizes: prompts to draw of each category; as many as it has if not given.

    Returns:
        (resamples, rows); NaN where a resample has no number of that row.
    """
    rng = np.random.default_rng(seed)
    prompts = rows.shape[1]
    drawn = [len(numbers) for numbers in members] if sizes is None else sizes
    present = ~np.isnan(rows)
    values = np.where(present, rows, 0).T
    whole = bool(present.all())
    means = np.empty((resamples, len(rows)))
    step = max(1, _NUMBERS_AT_ONCE // max(prompts, *drawn))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        weights = np.zeros((part.stop - start, prompts))
        for numbers, size in zip(members, drawn, strict=True):
            weights[:, numbers] = _times_drawn(rng, len(weights), len(numbers), size) * (len(numbers) / prompts / size)
        means[part] = weights @ values
        if not whole:
            with np.errstate(invalid="ignore"):  # 0 / 0: nothing of that row was drawn
                means[part] /= weights @ present.T
    return means


def _times_drawn(rng: np.random.Generator, draws: int, things: int, size: int) -> Floats:
    """(draws, things): how often each thing comes up among `size` drawn with replacement."""
    drawn = rng.integers(things, size=(draws, size)) + np.arange(draws)[:, None] * things
    return np.bincount(drawn.reshape(-1), minlength=draws * things).reshape(draws, things).astype(np.float64)
