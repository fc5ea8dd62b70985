"""Consensus of rankings when some annotators do not look: people count as much as they agree with the others.

Nobody is removed. A person whose ranks do not go with those of the others gets the weight 0, which also handles whoever
ranks upside down.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.stats.agreement import person_numbers
from hpskit.stats.blocks import Flags, Floats, Index, Rows, equal_blocks, read_votes

__all__ = ["WeightedRanks", "full_ranks", "reliability_weighted"]

_ROUNDS = 8
_PRIOR = 2.0
"""Rankings of an average person that are added to everybody's."""
_HIGHEST = 0.98
"""Reliability has a ceiling, as the weight of 1 is infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightedRanks:
    """Consensus of each group, and how reliable each person is."""

    scores: tuple[Floats, ...]
    """(images,) for each group: weighted mean rank, 1 and more, lower is better; NaN for an image nobody ranked."""
    plain: Flags
    """(groups,): whether the mean is the plain one, since everybody who judged there has the weight 0."""
    people: tuple[Hashable, ...]
    """Names, in the order in which they first appear; the arrays below are (people,) in this order."""
    reliability: Floats
    """Mean correlation of a person's ranks with the mean of the others, -1 to 0.98, drawn towards that of all."""
    weight: Floats
    """Weight of a person's rankings, 0 and more."""
    rankings: Index
    """Rankings given."""
    compared: Index
    """Rankings that could be compared with others; with 0, reliability and weight are those of the average person."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Groups with equally many judgements and images."""

    groups: Index
    person: Index
    """(groups, judgements)."""
    ranks: Floats
    """(groups, judgements, images), 0 where not ranked."""
    ranked: Floats
    """1 or 0 each."""


def full_ranks(block: Floats) -> Floats:
    """Turn ranks (..., images), NaN where not ranked, into ranks among all images: ties share their mean place.

    Whoever ranked k of n images puts the one in place p at p (n + 1) / (k + 1), the mean of its places in all complete
    orders that agree with the ranking. A complete ranking without ties stays as it is.
    """
    ranked = ~np.isnan(block)
    below = (block[..., None, :] < block[..., :, None]).sum(axis=-1)
    level = (block[..., None, :] == block[..., :, None]).sum(axis=-1)
    places = below + (level + 1) / 2
    scale = (block.shape[-1] + 1) / (ranked.sum(axis=-1, keepdims=True) + 1)
    full: Floats = np.where(ranked, places * scale, np.nan)
    return full


def reliability_weighted(votes: Sequence[ArrayLike], annotators: Sequence[Sequence[Hashable]]) -> WeightedRanks:
    """Weighted mean ranks of each group, every person weighted by their agreement with the others.

    `votes` are (judgements, images) of ranks for each group, lower is better, NaN was not ranked, ties are equal;
    `annotators` name those who judged, the same person by the same name throughout. Reliability rho is the correlation
    of a person's ranks with the weighted mean of the others of the group, mean over all their rankings and two more of
    an average person; the weight is rho / (1 - rho^2), 0 below 0. Both are worked out eight times in turns. Whoever was
    never compared gets the weight of an average person, which changes nothing in a group of one judgement. A group
    without judgements has NaN as scores.

    With 20 % random, 4 % reversed and 6 % straight-line annotators, tau-a with the truth is 0.995 of that with these
    removed by hand at five rankings a group, where plain mean ranks reach 0.81; 1.000 and 0.89 at ten
    (`tests/stats/test_consensus.py`). It holds while the honest are the greater part: people who agree on something
    else, such as an order on the page that is the same for all, are believed. 3,200 groups of 9 images and 10
    judgements, and 100,000 groups of 4 images and one, take a second each.

    Source: the weight is that of the best linear mean of ratings with reliability rho; the leave-one-out mean keeps a
    person from agreeing with themselves.

    Raises:
        InputError: votes or names do not fit together, or somebody judges a group twice.
    """
    judged = read_votes(votes)
    person = person_numbers(annotators, judged)
    blocks = _blocks(judged, person)
    names = tuple(dict.fromkeys(name for group in annotators for name in group))
    rho, weight = np.zeros(len(names)), np.ones(len(names))
    counts = np.zeros(len(names), np.intp)
    for _ in range(_ROUNDS):
        sums, counts = np.zeros(len(names)), np.zeros(len(names), np.intp)
        for block in blocks:
            found = _with_others(block, weight[block.person])
            known = ~np.isnan(found)
            sums += np.bincount(block.person[known], weights=found[known], minlength=len(names))
            counts += np.bincount(block.person[known], minlength=len(names))
        average = sums.sum() / max(1, counts.sum())
        rho = np.clip((sums + _PRIOR * average) / (counts + _PRIOR), -1, _HIGHEST)
        if not counts.any():
            break
        weight = np.maximum(rho, 0) / (1 - np.square(rho.clip(0)))
    scores: list[Floats] = [np.full(images, np.nan) for images in judged.shapes[:, 1].tolist()]
    plain = np.zeros(len(scores), dtype=np.bool_)
    for block in blocks:
        own = weight[block.person]
        plain[block.groups] = own.sum(axis=1) == 0
        own = np.where(plain[block.groups, None], 1, own)[:, :, None]
        total = (own * block.ranked).sum(axis=1)
        unseen = (total == 0) & block.ranked.any(axis=1)  # only by people of the weight 0: their plain mean
        own = np.where(unseen[:, None, :], 1, own)
        total = (own * block.ranked).sum(axis=1)
        means = np.where(total > 0, (own * block.ranks).sum(axis=1) / np.where(total > 0, total, 1), np.nan)
        for group, row in zip(block.groups.tolist(), means, strict=True):
            scores[group] = row
    return WeightedRanks(
        scores=tuple(scores),
        plain=plain,
        people=names,
        reliability=rho,
        weight=weight,
        rankings=np.bincount(person, minlength=len(names)),
        compared=counts,
    )


def _blocks(judged: Rows, person: Index) -> list[_Block]:
    starts = judged.shapes[:, 0].cumsum() - judged.shapes[:, 0]
    blocks = []
    for groups in equal_blocks(judged, 4):
        judgements = int(judged.shapes[groups[0], 0])
        if judgements:
            ranks = full_ranks(judged.stacked(groups))
            ranked = ~np.isnan(ranks)
            rows = starts[groups][:, None] + np.arange(judgements)
            blocks.append(_Block(groups, person[rows], np.where(ranked, ranks, 0), ranked.astype(np.float64)))
    return blocks


def _with_others(block: _Block, weight: Floats) -> Floats:
    """Correlate each ranking with the weighted mean of the others, (groups, judgements); NaN where there is none."""
    if block.ranks.shape[1] < 2:
        return np.full(block.ranks.shape[:2], np.nan)
    shares = weight[:, :, None] * block.ranked
    total = shares.sum(axis=1, keepdims=True) - shares
    both = block.ranked * (total > 1e-9)
    means = ((shares * block.ranks).sum(axis=1, keepdims=True) - shares * block.ranks) / np.where(both > 0, total, 1)
    count = np.maximum(both.sum(axis=2, keepdims=True), 1)
    own, rest = (
        (side - (side * both).sum(axis=2, keepdims=True) / count) * both for side in (block.ranks, means * both)
    )
    scale = np.sqrt(np.square(own).sum(axis=2) * np.square(rest).sum(axis=2))
    found: Floats = np.divide((own * rest).sum(axis=2), scale, out=np.full(scale.shape, np.nan), where=scale > 1e-9)
    return found
