"""Groups of different sizes as a few large arrays: all measures work on groups of equal size, stacked.

Knows nothing of accuracies or people. A data set of 800,000 pairs is one block instead of 800,000 small arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpskit.errors import InputError

__all__ = [
    "Flags",
    "Floats",
    "Index",
    "Rows",
    "cluster_labels",
    "equal_blocks",
    "pair_indices",
    "read_groups",
    "read_scores",
    "read_votes",
]

Floats: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]
Flags: TypeAlias = NDArray[np.bool_]

_NUMBERS_AT_ONCE = 2**20
"""In one temporary array: 8 MB as float64, which keeps the peak of memory small and the cache warm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Arrays of different shapes, one for each group, end to end."""

    flat: Floats
    """All numbers of all groups."""
    shapes: NDArray[np.int64]
    """(groups, axes)."""
    starts: NDArray[np.int64]
    """(groups,): where the numbers of each group begin."""

    def stacked(self, groups: Index) -> Floats:
        """(len(groups), \\*shape) for groups of one shape."""
        shape = self.shapes[groups[0]]
        size = int(shape.prod())
        first = self.starts[groups[0]]
        if (np.diff(groups) == 1).all():  # neighbours: no copy
            numbers = self.flat[first : first + len(groups) * size]
        else:
            numbers = self.flat[self.starts[groups][:, None] + np.arange(size)]
        return numbers.reshape(len(groups), *shape)


def read_groups(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> tuple[Rows, Rows]:
    """Scores and ranks of the same groups, checked; the ranks as (judgements, images), one order is one judgement.

    Raises:
        InputError: numbers of groups or of images differ, a group has fewer than two images, a score is NaN or
            infinite, a rank is infinite.
    """
    given = read_scores(scores)
    return given, _read_ranks(_judgements(ranks), "ranks", given)


def read_scores(scores: Sequence[ArrayLike]) -> Rows:
    """Scores of groups of at least two images, checked.

    Raises:
        InputError: there are no groups, one has fewer than two images, or a score is NaN or infinite.
    """
    rows = _read(scores, "scores", axes=1)
    _check_numbers(rows, lambda numbers: ~np.isfinite(numbers), "scores", "a finite number")
    return rows


def read_votes(votes: Sequence[ArrayLike], scores: Rows | None = None) -> Rows:
    """Judgements of groups of at least two images, checked; there may be groups without any.

    Raises:
        InputError: there are no groups, an array is not (judgements, images), a rank is infinite, or the groups or
            images are not those of `scores`.
    """
    return _read_ranks(votes, "votes", scores)


def equal_blocks(rows: Rows, numbers: int = 1) -> Iterator[Index]:
    """All groups once, in parts of equal shape, none so large that memory suffers.

    Args:
        rows: the groups.
        numbers: how many numbers are computed at once for each pair of images.
    """
    images = rows.shapes[:, -1]
    judgements = rows.shapes[:, :-1].prod(axis=1)
    keys = judgements * (images.max() + 1) + images  # one integer for a shape: np.unique over rows is slow
    for key in np.unique(keys):
        groups = np.flatnonzero(keys == key)
        pairs = int(images[groups[0]] * (images[groups[0]] - 1) // 2)
        step = max(1, _NUMBERS_AT_ONCE // (pairs * max(1, int(judgements[groups[0]])) * numbers))
        for start in range(0, len(groups), step):
            yield groups[start : start + step]


def pair_indices(images: int) -> tuple[Index, Index]:
    """All pairs of images of a group once, the earlier image first."""
    return np.triu_indices(images, k=1)


def cluster_labels(clusters: ArrayLike | None, groups: int) -> Index:
    """(groups,): the number of each group's prompt, from 0 without gaps.

    Raises:
        InputError: there is not one label for each group.
    """
    if clusters is None:
        return np.arange(groups)
    given = np.asarray(clusters)
    if given.shape != (groups,):
        raise InputError(f"clusters: shape is {given.shape}, expected one label for each of {groups} groups")
    labels: Index = np.unique(given, return_inverse=True)[1]
    return labels


def _judgements(ranks: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
    """(n,) -> (1, n) wherever a group has one order instead of judgements."""
    if isinstance(ranks, np.ndarray) and ranks.ndim == 2:
        return ranks[:, None]
    arrays = [np.asarray(row, dtype=np.float64) for row in ranks]
    return [array[None] if array.ndim == 1 else array for array in arrays]


def _read_ranks(ranks: Sequence[ArrayLike], name: str, scores: Rows | None) -> Rows:
    rows = _read(ranks, name, axes=2)
    _check_numbers(rows, np.isinf, name, "a number, or NaN for an image that was not ranked")
    if scores is not None:
        _check_same_images(scores, rows, name)
    return rows


def _read(rows: Sequence[ArrayLike], name: str, axes: int) -> Rows:
    if isinstance(rows, np.ndarray) and rows.ndim == axes + 1 and rows.size:
        shapes = np.tile(_shapes([rows[0]], name, axes), (len(rows), 1))
        flat = np.asarray(rows, dtype=np.float64).reshape(-1)
    else:
        arrays = [np.asarray(row, dtype=np.float64) for row in rows]
        shapes = _shapes(arrays, name, axes)
        flat = np.concatenate(arrays if axes == 1 else [array.reshape(-1) for array in arrays])
    ends = np.cumsum(shapes.prod(axis=1))
    return Rows(flat=flat, shapes=shapes, starts=np.concatenate(([0], ends[:-1])))


def _shapes(arrays: Sequence[NDArray[Any]], name: str, axes: int) -> NDArray[np.int64]:
    if not arrays:
        raise InputError(f"{name}: there are 0 groups, expected at least one")
    for group, array in enumerate(arrays):
        if array.ndim != axes or array.shape[-1] < 2:
            expected = "(n,), n > 1" if axes == 1 else "(judgements, n), n > 1"
            raise InputError(f"{name}: group {group}: shape is {array.shape}, expected {expected}")
    lengths = (length for array in arrays for length in array.shape)
    return np.fromiter(lengths, dtype=np.int64, count=axes * len(arrays)).reshape(-1, axes)


def _check_same_images(scores: Rows, others: Rows, name: str) -> None:
    if len(scores.shapes) != len(others.shapes):
        counts = f"{len(scores.shapes)} groups of scores and {len(others.shapes)} of {name}"
        raise InputError(f"{name}: there are {counts}, expected as many")
    different = np.flatnonzero(scores.shapes[:, -1] != others.shapes[:, -1])
    if different.size:
        group = different[0]
        images = f"{scores.shapes[group, -1]} scores and {name} of {others.shapes[group, -1]} images"
        raise InputError(f"{name}: group {group}: there are {images}, expected as many")


def _check_numbers(rows: Rows, wrong: Callable[[Floats], Flags], name: str, expected: str) -> None:
    bad = np.flatnonzero(wrong(rows.flat))
    if bad.size:
        group = int(np.searchsorted(rows.starts, bad[0], side="right")) - 1
        raise InputError(f"{name}: group {group}: there is {rows.flat[bad[0]]}, expected {expected}")
