"""How sure the order by several people is, and how many of them a project needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy
from hpskit.stats.blocks import Flags, Floats, Index, Rows, equal_blocks, read_votes
from hpskit.stats.judgements import Ballots, ballots, people_rule
from hpskit.stats.rules import signs

__all__ = ["AnnotatorCurve", "AnnotatorPoint", "SplitHalf", "accuracy_by_annotators", "split_half"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitHalf:
    """Agreement of one half of the annotators with the other."""

    correlation: float
    """Mean over the splits of the correlation of the two halves' mean ranks."""
    reliability: float
    """Of all annotators together, by the Spearman-Brown formula: 1 is perfect; minus infinity at correlation -1."""
    low: float
    """Reliability below which 2.5 % of the splits lie: how much the split matters, not a confidence interval."""
    high: float
    """Reliability above which 2.5 % of the splits lie."""
    splits: int
    """Random splits made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorPoint:
    """How well so many annotators predict others."""

    annotators: int
    """How many are averaged."""
    accuracy: Accuracy
    """Their mean against the mean of those held out; ties count one half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorCurve:
    """Accuracy of the mean of 1, 2, … annotators, as measured, and a model that goes beyond.

    The model: qualities of images differ by a normal amount, each annotator adds normal noise of his own, all equally
    good and independent. Then the means of k and of h annotators order a pair alike with probability
    1/2 + arcsin(r) / pi, where r = 1 / sqrt((1 + noise / k) (1 + noise / h)).
    """

    held_out: int
    """Annotators in the mean that the points are measured against, the same number for all points."""
    points: tuple[AnnotatorPoint, ...]
    """Measured, from 1 annotator."""
    noise: float
    """Fitted by least squares: variance of one annotator's noise in units of the variance of quality."""
    worst_residual: float
    """Largest distance of a point from the fit; large means that the extrapolation is not to be trusted."""

    def fitted(self, annotators: int) -> float:
        """The model's accuracy against the mean of `held_out` others: the line through the points."""
        return _sign_agreement(self.noise, annotators, self.held_out)

    def extrapolated(self, annotators: int) -> float:
        """The model's accuracy against the mean of infinitely many: an extrapolation, to be labelled as one."""
        return _sign_agreement(self.noise, annotators, np.inf)

    def annotators_for(self, accuracy: float) -> int:
        """How many annotators the model asks for, so that `extrapolated` reaches `accuracy`.

        Raises:
            InputError: the accuracy is not above 1/2 and below 1.
        """
        if not 0.5 < accuracy < 1:
            raise InputError(f"accuracy: is {accuracy!r}, expected above 0.5 and below 1")
        squared = np.sin(np.pi * (accuracy - 0.5)) ** 2
        return max(1, int(np.ceil(self.noise * squared / (1 - squared) - 1e-9)))


def split_half(votes: Sequence[ArrayLike], *, splits: int = 200, seed: int = 0) -> SplitHalf:
    """Split-half reliability of the mean ranks, over many random splits.

    In each group the judgements are split at random into two halves (of an odd number one stays out); the two mean
    ranks of every image, less their means in the group, are correlated over all images of all groups.

    Args:
        votes: one array (judgements, n) of ranks for each group; lower is better; NaN was not ranked. Groups with
            fewer than two judgements, and images that a half did not rank, do not take part.
        splits: how many.
        seed: same seed, same result.

    Raises:
        InputError: wrong shapes, no splits, or no group has two judgements that tell its images apart.

    Source: Spearman 1910 and Brown 1910, British Journal of Psychology 3.
    """
    if splits < 1:
        raise InputError(f"splits: is {splits!r}, expected at least 1")
    judged = read_votes(votes)
    rng = np.random.default_rng(seed)
    sums = np.zeros((3, splits))
    for groups in equal_blocks(judged):
        if judged.shapes[groups[0], 0] > 1:
            sums += _split_sums(judged, groups, rng, splits)
    product, first, second = sums
    if not (first * second > 0).all():
        raise InputError(
            f"votes: in {len(judged.shapes)} groups the mean ranks of half the annotators do not differ, or there are "
            "no two halves; expected groups with two judgements or more that are not all ties"
        )
    correlations = product / np.sqrt(first * second)
    low, high = np.quantile(correlations, [0.025, 0.975])
    return SplitHalf(
        correlation=float(correlations.mean()),
        reliability=_spearman_brown(float(correlations.mean())),
        low=_spearman_brown(float(low)),
        high=_spearman_brown(float(high)),
        splits=splits,
    )


def accuracy_by_annotators(
    votes: Sequence[ArrayLike], *, held_out: int | None = None, draws: int = 50, seed: int = 0
) -> AnnotatorCurve:
    """How the accuracy of the mean of k annotators grows with k, so that a project can plan how many it needs.

    In each group `held_out` judgements drawn at random are the yardstick, the same number for every k: held-out rests
    of different sizes would mix the gain by more annotators with the loss by a worse yardstick. The means of the first
    1, 2, … of the remaining ones are compared with it.

    Args:
        votes: one array (judgements, n) of ranks for each group; lower is better; NaN was not ranked. Groups with
            fewer judgements than most do not take part (`points[0].accuracy.groups` says how many do), of groups with
            more a random part is used.
        held_out: size of the yardstick; half of the most frequent number of judgements if not given.
        draws: random draws in each group.
        seed: same seed, same result.

    Raises:
        InputError: wrong shapes, no draws, fewer than two judgements, or held_out leaves nobody to compare.
    """
    if draws < 1:
        raise InputError(f"draws: is {draws!r}, expected at least 1")
    judged = read_votes(votes)
    numbers, groups = np.unique(judged.shapes[:, 0], return_counts=True)
    annotators = int(numbers[len(groups) - 1 - np.argmax(groups[::-1])])
    yardstick = annotators // 2 if held_out is None else held_out
    if not 1 <= yardstick < annotators:
        judgements = f"most groups have {annotators} judgements"
        raise InputError(f"held_out: is {yardstick}, expected at least 1 and one judgement more; {judgements}")
    sums = np.zeros((2, len(judged.shapes), annotators - yardstick))
    rng = np.random.default_rng(seed)
    for part in ballots(judged):
        if part.ahead.shape[1] >= annotators:
            for _ in range(draws):
                sums[:, part.groups] += _growth(part, yardstick, annotators, rng) / draws
    points = tuple(
        AnnotatorPoint(annotators=k, accuracy=Accuracy(correct=correct, weight=weight, averaging="prompts"))
        for k, (correct, weight) in enumerate(zip(sums[0].T, sums[1].T, strict=True), start=1)
    )
    return _curve(points, yardstick)


def _split_sums(votes: Rows, groups: Index, rng: np.random.Generator, splits: int) -> Floats:
    """(3, splits): sums of products and of squares of the two halves' mean ranks."""
    block = votes.stacked(groups)
    ranked = ~np.isnan(block)
    ranks = np.where(ranked, block, 0)
    half = block.shape[1] // 2
    sums = np.empty((3, splits))
    for split in range(splits):
        order = rng.random(block.shape[:2]).argsort(axis=1)
        means, counts = zip(*(_half_means(ranks, ranked, order, side * half, half) for side in (0, 1)), strict=True)
        both = (counts[0] > 0) & (counts[1] > 0)
        x, y = (np.where(both, mean - _mean_where(mean, both), 0) for mean in means)
        sums[:, split] = (x * y).sum(), (x * x).sum(), (y * y).sum()
    return sums


def _half_means(ranks: Floats, ranked: Flags, order: Index, start: int, size: int) -> tuple[Floats, Index]:
    """(groups, images) twice: mean rank in one half of the judgements, and how many ranked it."""
    members = order[:, start : start + size, None]
    counts = np.take_along_axis(ranked, members, axis=1).sum(axis=1)
    return np.take_along_axis(ranks, members, axis=1).sum(axis=1) / np.maximum(counts, 1), counts


def _mean_where(values: Floats, used: Flags) -> Floats:
    mean: Floats = (values * used).sum(axis=1, keepdims=True) / np.maximum(used.sum(axis=1, keepdims=True), 1)
    return mean


def _spearman_brown(correlation: float) -> float:
    """Reliability of the whole, from the correlation of its halves."""
    return 2 * correlation / (1 + correlation) if correlation > -1 else -np.inf


def _growth(part: Ballots, held_out: int, annotators: int, rng: np.random.Generator) -> Floats:
    """(2, groups, k): credit and comparisons of the means of 1, 2, … k judgements, for one random order."""
    rule = people_rule("ties-half")
    order = rng.random(part.ahead.shape[:2]).argsort(axis=1)[:, :annotators, None]
    ahead = np.take_along_axis(part.ahead, order, axis=1)
    ranked = np.take_along_axis(part.ranked, order, axis=1)
    preferred = signs(ahead[:, None, :held_out].sum(axis=2))
    decided = rule.decide(ahead[:, held_out:].cumsum(axis=1))
    counted = ranked[:, held_out:].cumsum(axis=1) * ranked[:, None, :held_out].sum(axis=2) > 0
    return np.stack([(rule.credit(decided, preferred) * counted).sum(axis=2), counted.sum(axis=2)])


def _curve(points: tuple[AnnotatorPoint, ...], held_out: int) -> AnnotatorCurve:
    from scipy.optimize import minimize_scalar

    measured = np.array([point.accuracy.value for point in points])

    def residuals(log_noise: float) -> Floats:
        return measured - [_sign_agreement(np.exp(log_noise), point.annotators, held_out) for point in points]

    found = minimize_scalar(lambda log_noise: float((residuals(log_noise) ** 2).sum()), bounds=(-14, 14))
    return AnnotatorCurve(
        held_out=held_out,
        points=points,
        noise=float(np.exp(found.x)),
        worst_residual=float(np.abs(residuals(found.x)).max()),
    )


def _sign_agreement(noise: float, first: float, second: float) -> float:
    """Chance that two normal means of correlation r have the same sign (Sheppard 1899)."""
    correlation = 1 / np.sqrt((1 + noise / first) * (1 + noise / second))
    return float(0.5 + np.arcsin(correlation) / np.pi)
