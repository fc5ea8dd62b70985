"""Whether modelled probabilities of preference are what people's votes turn out to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index, read_votes
from hpskit.stats.judgements import Ballots, compared_pairs

__all__ = ["Calibration", "CalibrationBin", "PairVotes", "calibration", "pair_votes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairVotes:
    """Pairs of images that people compared, each once, in the order of the groups and of their images."""

    group: Index
    """(pairs,): number of the group, from 0."""
    first: Index
    """(pairs,): number of the earlier image in its group, from 0."""
    second: Index
    """(pairs,): number of the later image in its group, from 0."""
    share: Floats
    """(pairs,): share of the votes for the earlier image, 0 to 1; a tie counts one half to each."""
    votes: Floats
    """(pairs,): number of judgements that rank both images, at least 1."""
    gap: Floats
    """(pairs,): size of the mean difference of rank over these judgements, 0 or more."""

    def __len__(self) -> int:
        return len(self.group)

    def differences(self, scores: Sequence[Floats]) -> Floats:
        """(pairs,): score of the earlier image minus score of the later; `scores` has one (n,) for each group."""
        flat = np.concatenate(scores)
        starts = np.cumsum([0, *(len(own) for own in scores)])[self.group]
        return np.asarray(flat[starts + self.first] - flat[starts + self.second])


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """One point of the reliability diagram."""

    low: float
    """Lower end of the probabilities, included."""
    high: float
    """Upper end, not included unless it is 1."""
    mean_probability: float
    """What the scorer expected, weighted by votes."""
    mean_share: float
    """What people said, weighted by votes."""
    count: int
    """Pairs; each is counted both ways round, so all bins together hold twice the number of pairs."""
    weight: float
    """Their votes; over all bins the votes there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Scores of probabilities: lower is better for all of them."""

    brier: float
    """Mean squared distance from the single votes, 0 to 1."""
    brier_floor: float
    """What someone who knew each pair's share of votes would get: the part that is disagreement among people."""
    ece: float
    """Expected calibration error: mean |mean_probability - mean_share| of the bins, weighted by votes."""
    log_loss: float
    """Mean negative log-likelihood of the single votes in nats; infinite if a vote had probability 0."""
    log_loss_floor: float
    """The same for someone who knew each pair's share of votes."""
    bins: tuple[CalibrationBin, ...]
    """Of equal width, in order; those without a pair are left out."""


def pair_votes(votes: Sequence[ArrayLike]) -> PairVotes:
    """Every pair that somebody compared, with what `calibration` needs of the people.

    Args:
        votes: one array (judgements, n) for each group, n > 1; lower is better; NaN was not ranked.

    Raises:
        InputError: wrong shapes, or nobody compared anything.
    """

    def said(part: Ballots) -> tuple[Floats, ...]:
        number = part.ranked.sum(axis=1)
        won = (part.ahead > 0).sum(axis=1) + 0.5 * (part.ranked & (part.ahead == 0)).sum(axis=1)
        return won / np.maximum(number, 1), number.astype(np.float64), np.abs(part.lead())

    group, first, second, share, number, gap = compared_pairs(read_votes(votes), said)
    return PairVotes(group=group, first=first, second=second, share=share, votes=number, gap=gap)


def calibration(
    probabilities: ArrayLike, shares: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 10
) -> Calibration:
    """Brier score, calibration error, log loss and the reliability diagram of pairs.

    Which image of a pair comes first is arbitrary, so each pair is counted both ways round, with half its weight each:
    nothing depends on the order, and the diagram is symmetric about one half.

    Args:
        probabilities: (pairs,), modelled probability that people prefer the first image, 0 to 1.
        shares: (pairs,), share of the votes for the first image, 0 to 1.
        weights: (pairs,), number of votes; 1 for each pair if not given.
        bins: of equal width between 0 and 1.

    Raises:
        InputError: shapes differ, a value is out of range, there are no pairs, or no bins.

    Source: Brier 1950; Guo et al. 2017, arXiv 1706.04599 (calibration error).
    """
    p, share = _unit(probabilities, "probabilities"), _unit(shares, "shares")
    votes = np.ones_like(p) if weights is None else np.asarray(weights, dtype=np.float64)
    if not p.shape == share.shape == votes.shape:
        shapes = f"{p.shape}, {share.shape} and {votes.shape}"
        raise InputError(f"calibration: shapes of probabilities, shares and weights are {shapes}, expected the same")
    if not (votes > 0).all():
        raise InputError("weights: one is not above 0, expected the number of votes of each pair")
    if bins < 1:
        raise InputError(f"bins: is {bins!r}, expected at least 1")
    points = _bins(np.concatenate([p, 1 - p]), np.concatenate([share, 1 - share]), np.tile(votes, 2) / 2, bins)
    total = sum(point.weight for point in points)
    return Calibration(
        brier=_mean_loss(_squared(p), _squared(1 - p), share, votes),
        brier_floor=_mean_loss(_squared(share), _squared(1 - share), share, votes),
        ece=sum(point.weight * abs(point.mean_probability - point.mean_share) for point in points) / total,
        log_loss=_mean_loss(_surprise(p), _surprise(1 - p), share, votes),
        log_loss_floor=_mean_loss(_surprise(share), _surprise(1 - share), share, votes),
        bins=points,
    )


def _unit(values: ArrayLike, name: str) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise InputError(f"{name}: shape is {numbers.shape}, expected (pairs,) with at least one pair")
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise InputError(f"{name}: one is {numbers[~((numbers >= 0) & (numbers <= 1))][0]}, expected 0 to 1")
    return numbers


def _squared(probabilities: Floats) -> Floats:
    return np.square(1 - probabilities)


def _surprise(probabilities: Floats) -> Floats:
    return -np.log(probabilities, out=np.full_like(probabilities, -np.inf), where=probabilities > 0)


def _mean_loss(won: Floats, lost: Floats, share: Floats, votes: Floats) -> float:
    """Mean over single votes of the loss if the first image won and if it lost; nobody's vote costs nothing."""
    first = np.where(share > 0, won, 0) * share
    second = np.where(share < 1, lost, 0) * (1 - share)
    return float(np.average(first + second, weights=votes))


def _bins(p: Floats, share: Floats, weight: Floats, bins: int) -> tuple[CalibrationBin, ...]:
    number = np.minimum((p * bins).astype(np.intp), bins - 1)
    count = np.bincount(number, minlength=bins)
    weights, expected, observed = (
        np.bincount(number, weights=values, minlength=bins) for values in (weight, weight * p, weight * share)
    )
    return tuple(
        CalibrationBin(
            low=place / bins,
            high=(place + 1) / bins,
            mean_probability=float(expected[place] / weights[place]),
            mean_share=float(observed[place] / weights[place]),
            count=int(count[place]),
            weight=float(weights[place]),
        )
        for place in np.flatnonzero(count).tolist()
    )
