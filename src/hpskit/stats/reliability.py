"""Reliability of the order by several people, and the number of them that a project needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy
from hpskit.stats.agreement import people_rule
from hpskit.stats.blocks import Floats, ballots, equal_blocks, read_votes, require
from hpskit.stats.rules import signs


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitHalf:
    """Agreement of one half of the annotators with the other."""

    correlation: float
    """Correlation of the two halves' mean ranks, mean over the splits."""
    reliability: float
    """Reliability of all annotators by the Spearman-Brown formula: 1 is perfect; minus infinity at correlation -1."""
    low: float
    """Reliability below which 2.5 % of the splits lie: how much the split matters, not a confidence interval."""
    high: float
    """Reliability above which 2.5 % of the splits lie."""
    splits: int
    """Random splits made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatorCurve:
    """Accuracy of the mean of 1, 2, … annotators, as measured, and a model that goes beyond.

    The model: qualities of images differ by a normal amount, and each annotator adds normal noise, all equally good and
    independent. Then the means of k and of h annotators order a pair alike with probability 1/2 + arcsin(r) / pi, where
    r = 1 / sqrt((1 + noise / k) (1 + noise / h)) (Sheppard 1899).
    """

    held_out: int
    """Annotators in the mean that all points are measured against."""
    points: tuple[Accuracy, ...]
    """Mean of 1, 2, … annotators against the mean of those held out; ties count one half."""
    noise: float
    """Variance of one annotator's noise in units of the variance of quality, fitted by least squares."""
    worst_residual: float
    """Largest distance of a point from the fit; large means that the extrapolation is not to be trusted."""

    def extrapolated(self, annotators: int) -> float:
        """Model's accuracy against the mean of infinitely many: an extrapolation, to be labelled as one."""
        return _sign_agreement(self.noise, annotators, np.inf)

    def annotators_for(self, accuracy: float) -> int:
        """Smallest number of annotators for which `extrapolated` reaches `accuracy`, between 1/2 and 1."""
        require(0.5 < accuracy < 1, "accuracy", accuracy, "above 0.5 and below 1")
        squared = np.sin(np.pi * (accuracy - 0.5)) ** 2
        return max(1, int(np.ceil(self.noise * squared / (1 - squared) - 1e-9)))


def split_half(votes: Sequence[ArrayLike], *, splits: int = 200, seed: int = 0) -> SplitHalf:
    """Split-half reliability of the mean ranks, over many random splits.

    In each group the judgements are split at random into two halves (of an odd number one stays out). The two mean
    ranks of every image, less their means in the group, are correlated over all images of all groups. Groups with fewer
    than two judgements, and images that a half did not rank, do not take part.

    Source: Spearman 1910 and Brown 1910, British Journal of Psychology 3.
    """
    require(splits >= 1, "splits", splits, "at least 1")
    judged = read_votes(votes)
    rng = np.random.default_rng(seed)
    sums = np.zeros((3, splits))
    for groups in equal_blocks(judged):
        if judged.shapes[groups[0], 0] > 1:
            sums += _split_sums(judged.stacked(groups), rng, splits)
    product, first, second = sums
    if not (first * second > 0).all():
        found = f"have no two halves of the annotators whose mean ranks differ, in {len(judged.shapes)} groups"
        raise InputError("votes", found, expected="groups with two judgements or more that are not all ties")
    correlations = product / np.sqrt(first * second)
    correlation, low, high = (float(x) for x in (correlations.mean(), *np.quantile(correlations, [0.025, 0.975])))

    def whole(half: float) -> float:
        return 2 * half / (1 + half) if half > -1 else -np.inf

    return SplitHalf(
        correlation=correlation, reliability=whole(correlation), low=whole(low), high=whole(high), splits=splits
    )


def accuracy_by_annotators(
    votes: Sequence[ArrayLike], *, held_out: int | None = None, draws: int = 50, seed: int = 0
) -> AnnotatorCurve:
    """Measure how the accuracy of the mean of k annotators grows with k, so that a project can plan how many it needs.

    In each group `held_out` judgements drawn at random are the yardstick, the same number for every k, by default half
    of the most frequent number of judgements. Otherwise the gain by more annotators would mix with the loss by a worse
    yardstick. The means of the first 1, 2, … of the others are compared with it. Groups with fewer judgements than most
    do not take part; of groups with more a random part is used. `draws` are made in each group.
    """
    from scipy.optimize import minimize_scalar

    require(draws >= 1, "draws", draws, "at least 1")
    judged = read_votes(votes)
    numbers, groups = np.unique(judged.shapes[:, 0], return_counts=True)
    annotators = int(numbers[len(groups) - 1 - np.argmax(groups[::-1])])
    yardstick = annotators // 2 if held_out is None else held_out
    expected = f"at least 1 and fewer than the {annotators} judgements that most groups have"
    require(1 <= yardstick < annotators, "held_out", yardstick, expected)
    rule = people_rule("ties-half")
    sums = np.zeros((2, len(judged.shapes), annotators - yardstick))
    rng = np.random.default_rng(seed)
    for part in ballots(judged):
        for _ in range(draws if part.ahead.shape[1] >= annotators else 0):
            order = rng.random(part.ahead.shape[:2]).argsort(axis=1)[:, :annotators, None]
            ahead = np.take_along_axis(part.ahead, order, axis=1)
            ranked = np.take_along_axis(part.ranked, order, axis=1)
            preferred = signs(ahead[:, None, :yardstick].sum(axis=2))
            decided = rule.decide(ahead[:, yardstick:].cumsum(axis=1))
            counted = ranked[:, yardstick:].cumsum(axis=1) * ranked[:, None, :yardstick].sum(axis=2) > 0
            correct = (rule.credit(decided, preferred) * counted).sum(axis=2)
            sums[:, part.groups] += np.stack([correct, counted.sum(axis=2)]) / draws
    points = tuple(
        Accuracy(correct=correct, weight=weight, averaging="prompts")
        for correct, weight in zip(sums[0].T, sums[1].T, strict=True)
    )
    measured = np.array([point.value for point in points])

    def residuals(log_noise: float) -> Floats:
        return measured - [_sign_agreement(np.exp(log_noise), k, yardstick) for k in range(1, len(points) + 1)]

    found = minimize_scalar(lambda log_noise: float((residuals(log_noise) ** 2).sum()), bounds=(-14, 14))
    return AnnotatorCurve(
        held_out=yardstick,
        points=points,
        noise=float(np.exp(found.x)),
        worst_residual=float(np.abs(residuals(found.x)).max()),
    )


def _split_sums(block: Floats, rng: np.random.Generator, splits: int) -> Floats:
    """(groups, judgements, images) -> (3, splits): sums of products and of squares of the two halves' mean ranks."""
    ranked = ~np.isnan(block)
    ranks = np.where(ranked, block, 0)
    half = block.shape[1] // 2
    sums = np.empty((3, splits))
    for split in range(splits):
        order = rng.random(block.shape[:2]).argsort(axis=1)
        halves = [order[:, :half, None], order[:, half : 2 * half, None]]
        counts = [np.take_along_axis(ranked, members, axis=1).sum(axis=1) for members in halves]
        both = (counts[0] > 0) & (counts[1] > 0)
        present = np.maximum(both.sum(axis=1, keepdims=True), 1)
        centred = []
        for members, count in zip(halves, counts, strict=True):
            mean = np.take_along_axis(ranks, members, axis=1).sum(axis=1) / np.maximum(count, 1)
            centred.append(np.where(both, mean - (mean * both).sum(axis=1, keepdims=True) / present, 0))
        x, y = centred
        sums[:, split] = (x * y).sum(), (x * x).sum(), (y * y).sum()
    return sums


def _sign_agreement(noise: float, first: float, second: float) -> float:
    correlation = 1 / np.sqrt((1 + noise / first) * (1 + noise / second))
    return float(0.5 + np.arcsin(correlation) / np.pi)
