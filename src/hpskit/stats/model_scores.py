"""Scores of several models for the same prompts: checked, and resampled by prompt for all models at once.

What is drawn is *distinct* prompts: a suite may ask for one text several times, and the images of one text are no more
independent than the same people asked twice. Each distinct prompt has an influence on a mean, which is what its images
add to the mean's deviation; an error is the root of the sum of their squares, and a resample adds those drawn. All
models meet the same resampled prompts, so every difference taken from those means is a paired one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index, cluster_labels
from hpskit.stats.draws import times_drawn

__all__ = [
    "ModelMeans",
    "averaged_by_prompt",
    "model_means",
    "read_model_scores",
    "resampled_sums",
    "summed_by_prompt",
]

_NUMBERS_AT_ONCE = 2**20
"""Weights drawn at once: keeps temporary arrays under some 30 MB whatever the size of the data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelMeans:
    """Means of several models over the prompts that all of them have, and what each prompt adds to their errors."""

    means: Floats
    """(models,): over all rows, so a prompt that stands twice counts twice."""
    influences: Floats
    """(models, distinct prompts): scaled so that the root of the sum of their squares is the standard error."""
    parts: tuple[Floats, ...]
    """Of each category: (models, distinct prompts in it), the influences of its rows alone."""
    prompts: int
    """Rows that every model has."""

    @property
    def distinct(self) -> int:
        """Distinct prompts among them."""
        return len(self.influences.T)


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


def model_means(
    scores: ArrayLike, categories: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> ModelMeans:
    """Means over the prompts for which every model has a score, and their errors.

    Args:
        scores: (models, prompts); NaN is missing.
        categories: (prompts,) names; their shares of the mean are fixed, so what differs between them is no error. One
            category for all if not given.
        clusters: (prompts,) labels, equal for prompts with one text; each is its own if not given.

    Raises:
        InputError: as `read_model_scores`, there is not one category or label for each prompt, or fewer than two
            distinct prompts, of all or of a category, have a score of every model.
    """
    table = read_model_scores(scores)
    labels = cluster_labels(clusters, table.shape[1])
    names = np.zeros(table.shape[1]) if categories is None else np.asarray(categories)
    if names.shape != labels.shape:
        raise InputError(f"categories: shape is {names.shape}, expected one for each of {table.shape[1]} prompts")
    common = ~np.isnan(table).any(axis=0)
    if len(np.unique(labels[common])) < 2:
        missing = np.isnan(table).sum(axis=1)
        raise InputError(
            f"scores: {common.sum()} of {table.shape[1]} prompts have a score of every model, expected at least 2 "
            f"different ones; leave out what lacks most, such as model {missing.argmax()} with {missing.max()} missing"
        )
    table, labels, names = table[:, common], labels[common], names[common]
    rows = table.shape[1]
    centred = np.empty_like(table)
    parts = []
    for name in np.unique(names):
        inside = names == name
        distinct = len(np.unique(labels[inside]))
        if distinct < 2:
            raise InputError(
                f"categories: {str(name)!r} has {distinct} prompts with a score of every model, expected at least 2 "
                "to see how they vary; put it with another, or give no categories"
            )
        own = table[:, inside]
        centred[:, inside] = (own - own.mean(axis=1, keepdims=True)) * np.sqrt(distinct / (distinct - 1)) / rows
        parts.append(summed_by_prompt(centred[:, inside], labels[inside]))
    influences = summed_by_prompt(centred, labels)
    return ModelMeans(means=table.mean(axis=1), influences=influences, parts=tuple(parts), prompts=rows)


def summed_by_prompt(rows: Floats, labels: Index) -> Floats:
    """(rows, prompts), (prompts,) labels -> (rows, distinct prompts): sums over equal labels, in their order."""
    order = labels.argsort(kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    if len(starts) == len(labels):
        return np.ascontiguousarray(rows[:, order])
    return np.add.reduceat(rows[:, order], starts, axis=1)


def averaged_by_prompt(rows: Floats, labels: Index) -> Floats:
    """The same of means over what is not NaN; NaN where nothing is."""
    present = ~np.isnan(rows)
    sums, counts = summed_by_prompt(np.where(present, rows, 0), labels), summed_by_prompt(present.astype(float), labels)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def resampled_sums(rows: Floats, resamples: int, seed: int, size: int | None = None) -> Floats:
    """Sums over distinct prompts drawn with replacement, the same for every row.

    Args:
        rows: (rows, distinct prompts) without NaN.
        resamples: how many.
        seed: same seed and size, same resamples.
        size: prompts to draw; as many as there are if not given.

    Returns:
        (resamples, rows).
    """
    rng = np.random.default_rng(seed)
    prompts = rows.shape[1]
    sums = np.empty((resamples, len(rows)))
    step = max(1, _NUMBERS_AT_ONCE // max(prompts, size or 0))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        sums[part] = times_drawn(rng, part.stop - start, prompts, size) @ rows.T
    return sums
