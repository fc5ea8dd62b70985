"""Groups of different sizes as a few large arrays, and what people say about each pair of images.

Measures work on groups of equal size, stacked: 800,000 pairs are one block instead of 800,000 arrays. A pair of images
is compared if somebody ranked *both*. People prefer the image with the lower rank in the mean over those who did. So no
image is punished for who happened to see it, and no two images are ordered that nobody compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpskit.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]
Flags: TypeAlias = NDArray[np.bool_]

_NUMBERS_AT_ONCE = 2**20
"""Numbers in one temporary array: 8 MB of float64, which stays in the cache."""


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Raise an `InputError` that shows the value of an argument unless a condition holds."""
    if not holds:
        raise InputError(name, f"is {value!r}", expected=expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Arrays of different shapes end to end, with the shape and the start of each group."""

    flat: Floats
    shapes: Index
    starts: Index

    def stacked(self, groups: Index) -> Floats:
        """(len(groups), *shape) for groups of one shape."""
        shape = self.shapes[groups[0]]
        size = int(shape.prod())
        first = self.starts[groups[0]]
        if (np.diff(groups) == 1).all():  # neighbours: no copy
            numbers = self.flat[first : first + len(groups) * size]
        else:
            numbers = self.flat[self.starts[groups][:, None] + np.arange(size)]
        return numbers.reshape(len(groups), *shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballots:
    """Judgements of groups with equally many images and judgements, pair by pair."""

    groups: Index
    """(groups,): their numbers."""
    ahead: Floats
    """(groups, judgements, pairs): rank of the second image minus rank of the first. Above 0 the first is preferred;
    0 is a tie or unranked."""
    ranked: Flags
    """(groups, judgements, pairs): whether both images were ranked."""
    images: int
    """Images in each group."""

    def lead(self) -> Floats:
        """(groups, pairs): mean difference of rank by which people prefer the first image; NaN if nobody compared."""
        seen = self.ranked.sum(axis=1)
        return np.where(seen > 0, self.ahead.sum(axis=1) / np.maximum(seen, 1), np.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedPairs:
    """Pairs of images that people compared, each once, in the order of groups and images.

    Arrays are (pairs,): the number of the group, of the earlier and of the later image in it, from 0.
    """

    group: Index
    first: Index
    second: Index

    def __len__(self) -> int:
        return len(self.group)


def read_groups(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> tuple[Rows, Rows]:
    """Check scores and ranks of the same groups; an order (n,) becomes one judgement (1, n)."""
    given = read_scores(scores)
    if not (isinstance(ranks, np.ndarray) and ranks.ndim == 3):
        arrays = [np.asarray(row, dtype=np.float64) for row in ranks]
        ranks = [array[None] if array.ndim == 1 else array for array in arrays]
    return given, read_votes(ranks, given, "ranks")


def read_scores(scores: Sequence[ArrayLike]) -> Rows:
    """Check that scores are there, finite, and of two images or more in each group."""
    rows = _read(scores, "scores", "(n,), n > 1", axes=1)
    _refuse(rows, ~np.isfinite(rows.flat), "scores", "a finite number")
    return rows


def read_votes(votes: Sequence[ArrayLike], scores: Rows | None = None, name: str = "votes") -> Rows:
    """Check that votes are (judgements, n) of ranks or NaN, for the images of `scores`; a group may have none."""
    rows = _read(votes, name, "(judgements, n), n > 1", axes=2)
    _refuse(rows, np.isinf(rows.flat), name, "a number, or NaN for an image that was not ranked")
    if scores is None:
        return rows
    if len(scores.shapes) != len(rows.shapes):
        raise InputError(name, f"have {len(rows.shapes)} groups", expected=f"{len(scores.shapes)}, as the scores")
    own, expected = rows.shapes[:, -1], scores.shapes[:, -1]
    for group in np.flatnonzero(own != expected)[:1]:
        found = f"has {own[group]} images"
        raise InputError(f"{name}: group {group}", found, expected=f"{expected[group]}, as the scores")
    return rows


def read_model_scores(scores: ArrayLike) -> Floats:
    """Check scores (models, prompts) of two models or more, finite or NaN."""
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        expected = "(models, prompts) with at least two models"
        raise InputError("scores", f"have shape {table.shape}", expected=expected)
    for model, prompt in np.argwhere(np.isinf(table))[:1]:
        place = f"scores: model {model}, prompt {prompt}"
        raise InputError(place, f"is {table[model, prompt]}", expected="a number, or NaN if missing")
    return table


def equal_blocks(rows: Rows, numbers: int = 1) -> Iterator[Index]:
    """Yield the numbers of all groups in parts of equal shape, with room for `numbers` per pair and judgement."""
    judgements, images = rows.shapes.T
    keys = judgements * (images.max() + 1) + images  # one integer per shape: np.unique over rows is slow
    for key in np.unique(keys):
        groups = np.flatnonzero(keys == key)
        people, size = rows.shapes[groups[0]].tolist()
        step = max(1, _NUMBERS_AT_ONCE // (size * (size - 1) // 2 * max(1, people) * numbers))
        for start in range(0, len(groups), step):
            yield groups[start : start + step]


def ballots(votes: Rows, numbers: int = 1) -> Iterator[Ballots]:
    """Yield all groups that have judgements, in the parts of `equal_blocks`."""
    for groups in equal_blocks(votes, numbers):
        judgements, images = votes.shapes[groups[0]].tolist()
        if judgements:
            first, second = pair_indices(images)
            block = votes.stacked(groups)
            ahead = block[:, :, second] - block[:, :, first]
            ranked = ~np.isnan(ahead)
            yield Ballots(groups=groups, ahead=np.where(ranked, ahead, 0), ranked=ranked, images=images)


def compared_pairs(votes: Rows, measure: Callable[[Ballots], tuple[NDArray[Any], ...]]) -> list[NDArray[Any]]:
    """List every pair that somebody compared: the fields of `ComparedPairs`, then those that `measure` makes.

    `measure` makes arrays (groups, pairs) from some groups.
    """
    parts = []
    for part in ballots(votes):
        compared = part.ranked.any(axis=1)
        images = np.broadcast_arrays(part.groups[:, None], *pair_indices(part.images))
        parts.append([array[compared] for array in (*images, *measure(part))])
    if not any(len(part[0]) for part in parts):
        raise InputError("votes", f"have no pair of images that somebody compared, in {len(votes.shapes)} groups")
    columns = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return [column[order] for column in columns]


def pair_indices(images: int) -> tuple[Index, Index]:
    """Index every pair of images of a group once, the earlier image first."""
    return np.triu_indices(images, k=1)


def cluster_labels(clusters: ArrayLike | None, groups: int) -> Index:
    """Number the prompt of each group, (groups,), from 0 without gaps."""
    if clusters is None:
        return np.arange(groups)
    given = np.asarray(clusters)
    if given.shape != (groups,):
        raise InputError("clusters", f"have shape {given.shape}", expected=f"one label for each of {groups} groups")
    labels: Index = np.unique(given, return_inverse=True)[1]
    return labels


def _read(rows: Sequence[ArrayLike], name: str, expected: str, axes: int) -> Rows:
    if isinstance(rows, np.ndarray) and rows.ndim == axes + 1 and rows.size and rows.shape[-1] > 1:  # as it is
        shapes, flat = np.tile(rows.shape[1:], (len(rows), 1)), np.asarray(rows, dtype=np.float64).reshape(-1)
        return Rows(flat=flat, shapes=shapes, starts=np.arange(len(rows)) * rows[0].size)
    arrays = [np.asarray(row, dtype=np.float64) for row in rows]
    if not arrays:
        raise InputError(name, "have 0 groups", expected="at least one")
    for group, array in enumerate(arrays):
        if array.ndim != axes or array.shape[-1] < 2:
            raise InputError(f"{name}: group {group}", f"has shape {array.shape}", expected=expected)
    shapes = np.array([array.shape for array in arrays])
    sizes = shapes.prod(axis=1)
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    return Rows(flat=flat, shapes=shapes, starts=sizes.cumsum() - sizes)


def _refuse(rows: Rows, wrong: Flags, name: str, expected: str) -> None:
    for place in np.flatnonzero(wrong)[:1]:
        group = int(np.searchsorted(rows.starts, place, side="right")) - 1
        raise InputError(f"{name}: group {group}", f"has {rows.flat[place]}", expected=expected)
