"""Modelled probabilities of preference beside the votes of people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Ballots, ComparedPairs, Floats, compared_pairs, read_votes, require


@dataclass(frozen=True, kw_only=True, slots=True)
class PairVotes(ComparedPairs):
    """Votes of people on every pair of images that somebody compared."""

    share: Floats
    """(pairs,): share of the votes for the earlier image, 0 to 1; a tie counts one half to each."""
    votes: Floats
    """(pairs,): number of judgements that rank both images, at least 1."""
    gap: Floats
    """(pairs,): size of the mean difference of rank over these judgements, 0 or more."""

    def differences(self, scores: Sequence[Floats]) -> Floats:
        """Score of the earlier image minus score of the later, (pairs,), from (n,) scores for each group."""
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
    """Mean probability by the scorer, weighted by votes."""
    mean_share: float
    """Mean share of votes, weighted by votes."""
    count: int
    """Pairs; each is counted both ways round, so all bins together hold twice the number of pairs."""
    weight: float
    """Votes; all bins together hold the votes there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Measures of how well probabilities fit; lower is better for all of them."""

    brier: float
    """Mean squared distance from the single votes, 0 to 1."""
    brier_floor: float
    """Brier score of someone who knew each pair's share of votes: the disagreement among people."""
    ece: float
    """Expected calibration error: mean |mean_probability - mean_share| of the bins, weighted by votes."""
    log_loss: float
    """Mean negative log-likelihood of the single votes in nats; infinite if a vote had probability 0."""
    log_loss_floor: float
    """Log loss of someone who knew each pair's share of votes."""
    bins: tuple[CalibrationBin, ...]
    """Bins of equal width, in order; those without a pair are left out."""


def pair_votes(votes: Sequence[ArrayLike]) -> PairVotes:
    """Count the votes on every pair of images that somebody compared."""

    def counts(part: Ballots) -> tuple[Floats, ...]:
        number = part.ranked.sum(axis=1)
        won = (part.ahead > 0).sum(axis=1) + 0.5 * (part.ranked & (part.ahead == 0)).sum(axis=1)
        return won / np.maximum(number, 1), number.astype(np.float64), np.abs(part.lead())

    names = ("group", "first", "second", "share", "votes", "gap")
    return PairVotes(**dict(zip(names, compared_pairs(read_votes(votes), counts), strict=True)))


def calibration(
    probabilities: ArrayLike, shares: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 10
) -> Calibration:
    """Brier score, calibration error, log loss and the reliability diagram of pairs.

    Which image of a pair comes first is arbitrary, so each pair is counted both ways round, with half its weight each:
    nothing depends on the order, and the diagram is symmetric about one half.

    Args:
        probabilities: (pairs,), modelled probability that people prefer the first image, 0 to 1.
        shares: (pairs,), share of the votes for the first image, 0 to 1.
        weights: (pairs,), number of votes; 1 for each pair by default.
        bins: of equal width between 0 and 1.

    Source: Brier 1950; Guo et al. 2017, arXiv 1706.04599 (calibration error).
    """
    p, share = _unit(probabilities, "probabilities"), _unit(shares, "shares")
    votes = np.ones_like(p) if weights is None else np.asarray(weights, dtype=np.float64)
    if not p.shape == share.shape == votes.shape:
        shapes = f"{p.shape}, {share.shape} and {votes.shape}"
        raise InputError("probabilities, shares and weights", f"have shapes {shapes}", expected="the same")
    if not (votes > 0).all():
        raise InputError("weights", f"have {votes.min()}", expected="the number of votes of each pair, above 0")
    require(bins >= 1, "bins", bins, "at least 1")
    ways = np.concatenate([p, 1 - p])
    number = np.minimum((ways * bins).astype(np.intp), bins - 1)
    count = np.bincount(number, minlength=bins)
    half = np.tile(votes, 2) / 2
    sums = (half, half * ways, half * np.concatenate([share, 1 - share]))
    weight, expected, observed = (np.bincount(number, weights=values, minlength=bins) for values in sums)
    points = tuple(
        CalibrationBin(
            low=place / bins,
            high=(place + 1) / bins,
            mean_probability=float(expected[place] / weight[place]),
            mean_share=float(observed[place] / weight[place]),
            count=int(count[place]),
            weight=float(weight[place]),
        )
        for place in np.flatnonzero(count).tolist()
    )
    total = sum(point.weight for point in points)
    return Calibration(
        brier=_mean_loss(_squared, p, share, votes),
        brier_floor=_mean_loss(_squared, share, share, votes),
        ece=sum(point.weight * abs(point.mean_probability - point.mean_share) for point in points) / total,
        log_loss=_mean_loss(_surprise, p, share, votes),
        log_loss_floor=_mean_loss(_surprise, share, share, votes),
        bins=points,
    )


def _unit(values: ArrayLike, name: str) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise InputError(name, f"have shape {numbers.shape}", expected="(pairs,) with at least one pair")
    inside = (numbers >= 0) & (numbers <= 1)
    if not inside.all():
        raise InputError(name, f"have {numbers[~inside][0]}", expected="0 to 1")
    return numbers


def _squared(probabilities: Floats) -> Floats:
    return np.square(1 - probabilities)


def _surprise(probabilities: Floats) -> Floats:
    return -np.log(probabilities, out=np.full_like(probabilities, -np.inf), where=probabilities > 0)


def _mean_loss(loss: Callable[[Floats], Floats], p: Floats, share: Floats, votes: Floats) -> float:
    """Mean loss over single votes; the vote that nobody gave costs nothing."""
    first = np.where(share > 0, loss(p), 0) * share
    second = np.where(share < 1, loss(1 - p), 0) * (1 - share)
    return float(np.average(first + second, weights=votes))
