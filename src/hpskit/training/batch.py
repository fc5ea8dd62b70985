"""What a training step takes: images, the pairs of them that people compared, and all that they said."""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpskit.dataset.group import Group, orders
from hpskit.dataset.reading import DataSet
from hpskit.errors import BrokenImageError, ImageError, RecordError
from hpskit.pixels import Preprocessing, to_tensor

__all__ = ["Batch", "Decoded", "collate", "decode", "own_weight", "ratings_of"]

_MOST = 1e6
"""The largest rating; the loss squares it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Groups of one step. Indices of images count through the batch."""

    prompts: list[str]
    """(groups,)"""
    pixels: Tensor
    """(images, 3, S, S) float32, preprocessed; each image of a group once, whatever it was compared with."""
    group: Tensor
    """(images,) int64: the number of the group, in order."""
    first: Tensor
    """(pairs,) int64: the image of each compared pair that its group names first."""
    second: Tensor
    """(pairs,) int64: the other one."""
    share: Tensor
    """(pairs,) float32: share of the votes for the first, 0 to 1; a tie counts one half to each."""
    votes: Tensor
    """(pairs,) float32: of how many people."""
    weight: Tensor
    """(groups,) float32: how much the group counts beside the others, see `own_weight`."""
    ranks: list[Tensor]
    """For each group (judgements, images) float32: its distinct judgements; 1 is best, NaN was not ranked."""
    judged: list[Tensor]
    """For each group (judgements,) float32: votes of each."""
    ratings: Tensor
    """(images,) float32: the higher the better; NaN was not rated, or its rating is not asked for."""
    places: list[str]
    """(groups,): file and row of each."""
    broken: list[str]
    """Why groups were left out, one line for each; empty unless that was asked for."""

    @property
    def dropped(self) -> int:
        """Groups that were left out."""
        return len(self.broken)

    @property
    def sizes(self) -> Tensor:
        """(groups,) int64: images of each."""
        return torch.bincount(self.group, minlength=len(self.prompts))

    def to(self, device: torch.device | str) -> Self:
        """The same batch with all tensors on a device."""
        moved: dict[str, Any] = {}
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
            elif name in ("ranks", "judged"):
                moved[name] = [tensor.to(device, non_blocking=True) for tensor in value]
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A group ready for a batch."""

    prompt: str
    place: str
    pixels: Tensor
    """(images, 3, S, S) float32."""
    ranks: NDArray[np.float64]
    """(judgements, images): distinct rows."""
    votes: NDArray[np.float64]
    """(judgements,)"""
    weight: float
    ratings: NDArray[np.float64] | None = None
    """(images,), NaN was not rated; None if they are not asked for."""


def own_weight(group: Group) -> float:
    """How much a group counts beside the others: `weight` among its other fields (`meta`), or 1.

    Raises:
        RecordError: it is not a number above 0.
    """
    weight = group.meta.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise RecordError(f"{group.place}: weight is {weight!r}, expected a number above 0; correct or remove it")
    return float(weight)


def ratings_of(group: Group, field: str) -> NDArray[np.float64]:
    """(images,): what the field says of each image; NaN was not rated.

    Args:
        group: its other fields (`meta`) hold the ratings, a number or null for each image.
        field: which of them.

    Raises:
        RecordError: there is no such field, it holds something else, or fewer than two ratings.
    """
    values = group.meta.get(field)
    if values is None:
        others = [name for name, value in group.meta.items() if isinstance(value, list)]
        cure = f"its other lists are {', '.join(others)} (--set rating=…)" if others else "choose another loss"
        layouts = "ImageRewardDB has ratings, and hpskit's own layouts have them in meta"
        raise RecordError(f"{group.place}: has no ratings {field!r}, which the loss rating needs; {cure}; {layouts}")
    if not isinstance(values, list) or len(values) != len(group.images) or not all(map(_is_rating, values)):
        expected = f"a list of {len(group.images)} numbers or nulls, one for each image"
        raise RecordError(f"{group.place}: {field} is {reprlib.repr(values)}, expected {expected}; correct it")
    ratings = np.array(values, dtype=np.float64)
    if np.isfinite(ratings).sum() < 2:
        cure = "remove the group or choose another loss"
        raise RecordError(f"{group.place}: {field} rates fewer than two images, expected at least two; {cure}")
    return ratings


def _is_rating(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= _MOST)


def decode(data: DataSet, group: Group, preprocessing: Preprocessing, rating: str | None = None) -> Decoded:
    """Decode the images of a group, each once.

    Args:
        data: what the group is of.
        group: any.
        preprocessing: of the network.
        rating: see `ratings_of`; None if no ratings are asked for.

    Raises:
        BrokenImageError: an image is missing or broken; the message names file, row and image.
    """
    pixels = []
    with torch.no_grad():  # not inference_mode, whose tensors no gradient may pass through
        for name in group.images:
            image = data.image(group, name)
            try:
                pixels.append(preprocessing(to_tensor(image)))
            except ImageError as error:
                broken = BrokenImageError(f"{group.place}: image {name!r}: {error}")
                broken.image = name
                raise broken from error
            finally:
                if not isinstance(image, Path):
                    image.close()
    ranks, votes = _distinct(group)
    return Decoded(
        prompt=group.prompt,
        place=group.place,
        pixels=torch.stack(pixels),
        ranks=ranks,
        votes=votes,
        weight=own_weight(group),
        ratings=ratings_of(group, rating) if rating else None,
    )


def _distinct(group: Group) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranks (judgements, images) without repetitions, and the votes for each."""
    counted: dict[tuple[int | None, ...], int] = {}
    for judgement in orders(group):
        counted[judgement.ranks] = counted.get(judgement.ranks, 0) + judgement.votes
    ranks = np.array([*counted], dtype=np.float64)
    return ranks, np.array([*counted.values()], dtype=np.float64)


def collate(groups: Sequence[Decoded], broken: Sequence[str], *, size: int) -> Batch:
    """One batch of decoded groups, in order; without any it is a batch of nothing.

    Args:
        groups: each has a compared pair.
        broken: why others were left out.
        size: height and width of the images.
    """
    sizes = [len(group.pixels) for group in groups]
    compared = [_compared(group.ranks, group.votes) for group in groups]
    starts = list(itertools.accumulate(sizes, initial=0))[: len(sizes)]
    columns = {
        "first": [first + start for (first, *_), start in zip(compared, starts, strict=True)],
        "second": [second + start for (_, second, *_), start in zip(compared, starts, strict=True)],
        "share": [share for *_, share, _ in compared],
        "votes": [votes for *_, votes in compared],
    }
    return Batch(
        prompts=[group.prompt for group in groups],
        pixels=torch.cat([group.pixels for group in groups]) if groups else torch.empty(0, 3, size, size),
        group=torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(sizes, dtype=torch.int64)),
        first=_column(columns["first"], torch.int64),
        second=_column(columns["second"], torch.int64),
        share=_column(columns["share"], torch.float32),
        votes=_column(columns["votes"], torch.float32),
        weight=torch.tensor([group.weight for group in groups], dtype=torch.float32),
        ranks=[torch.from_numpy(group.ranks).float() for group in groups],
        judged=[torch.from_numpy(group.votes).float() for group in groups],
        ratings=_column([_ratings(group) for group in groups], torch.float32),
        places=[group.place for group in groups],
        broken=[*broken],
    )


def _ratings(group: Decoded) -> NDArray[np.float64]:
    return np.full(len(group.pixels), np.nan) if group.ratings is None else group.ratings


def _column(parts: Sequence[NDArray[Any]], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.concatenate(parts)).to(dtype) if parts else torch.empty(0, dtype=dtype)


def _compared(ranks: NDArray[np.float64], votes: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
    """(pairs,) each: first and second image of every pair that somebody compared, share of the first, votes."""
    first, second = np.triu_indices(ranks.shape[1], 1)
    ahead = ranks[:, second] - ranks[:, first]
    total = votes @ ~np.isnan(ahead)
    share = votes @ ((ahead > 0) + 0.5 * (ahead == 0)) / np.maximum(total, 1)
    seen = total > 0
    return first[seen], second[seen], share[seen], total[seen]
