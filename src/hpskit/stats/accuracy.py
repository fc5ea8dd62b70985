"""Accuracy: the share of pairs of which a scorer and people prefer the same image, by group, for intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import (
    Ballots,
    ComparedPairs,
    Flags,
    Floats,
    ballots,
    cluster_labels,
    compared_pairs,
    read_groups,
    require,
)
from hpskit.stats.rules import AccuracyRule, Averaging, PairRule, find_rule, pickapic_rule

_THRESHOLDS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """An accuracy or agreement, and what each group contributes to it; some group must have something to compare."""

    correct: Floats
    """(groups,): sum of the credits of the group's comparisons."""
    weight: Floats
    """(groups,): number of the group's comparisons; a group with 0 drops out."""
    averaging: Averaging
    """`prompts`: mean over groups of correct / weight; `pairs`: sum of correct / sum of weight."""

    def __post_init__(self) -> None:
        if not (self.weight > 0).any():
            found = f"has nothing to compare in {self.weight.size} groups"
            raise InputError("accuracy", found, expected="at least one pair of images that the rule compares")

    @property
    def value(self) -> float:
        """The figure itself, 0 to 1."""
        numerators, denominators = self.terms()
        return float(numerators.sum() / denominators.sum())

    @property
    def pairs(self) -> int:
        """Comparisons made: pairs of images; groups for `top-1`; for people pairs times the judgements compared."""
        return round(float(self.weight.sum()))

    @property
    def groups(self) -> int:
        """Groups in which something was compared."""
        return int((self.weight > 0).sum())

    def terms(self) -> tuple[Floats, Floats]:
        """(groups,) twice: the value is the sum of the first over the sum of the second, for any sample of groups."""
        return averaged_terms(self.correct, self.weight, self.averaging)


def averaged_terms(correct: Floats, weight: Floats, averaging: Averaging) -> tuple[Floats, Floats]:
    """Turn credits and numbers of comparisons into the terms of `Accuracy.terms`, in any shape."""
    if averaging == "pairs":
        return correct, weight
    return correct / np.where(weight > 0, weight, 1), (weight > 0).astype(np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairOutcomes(ComparedPairs):
    """Credit of every pair of images, for breakdowns that cut through groups, such as by generator."""

    credit: Floats
    """(pairs,): 0 to 1."""
    counted: Flags
    """(pairs,): whether the rule counts the pair."""
    groups: int
    """Number of groups in all."""

    def accuracy(self, selected: Flags | None = None) -> Accuracy:
        """Share of the selected pairs, (pairs,), that are correct, with a term for each of all groups."""
        used = self.counted if selected is None else self.counted & selected
        correct = np.bincount(self.group[used], weights=self.credit[used], minlength=self.groups)
        weight = np.bincount(self.group[used], minlength=self.groups)
        return Accuracy(correct=correct.astype(np.float64), weight=weight.astype(np.float64), averaging="pairs")


def pair_accuracy(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], rule: str | AccuracyRule) -> Accuracy:
    """Measure how often scores and people prefer the same image.

    `rule` is a name in `ACCURACY_RULES` or a rule; its `definition` and `source` say what counts. If it has a
    threshold, scores must be log-odds.
    """
    return _accuracies(scores, ranks, [find_rule(rule)])[0]


def pair_outcomes(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], rule: str | AccuracyRule) -> PairOutcomes:
    """Judge every pair of images that people compared, in the order of groups and images.

    Any rule but `top-1` will do. A rule may skip all pairs.
    """
    given, expected = read_groups(scores, ranks)
    chosen = find_rule(rule)
    if not isinstance(chosen, PairRule):
        raise InputError("rule", f"is {chosen.name!r}, which compares no pairs", expected="another")

    def outcomes(part: Ballots) -> tuple[Floats, Flags]:
        return chosen.judge_pairs(given.stacked(part.groups), part.lead())

    names = ("group", "first", "second", "credit", "counted")
    return PairOutcomes(groups=len(given.shapes), **dict(zip(names, compared_pairs(expected, outcomes), strict=True)))


def pickapic_threshold(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> float:
    """Find the tie threshold among 0, 0.1, … 1 with the highest `pickapic` accuracy; the lowest of several.

    The official evaluation does so on the validation split and reports the test split with the winner. `scores` are
    log-odds. Never search on the data that are reported.
    """
    accuracies = _accuracies(scores, ranks, [pickapic_rule(threshold) for threshold in _THRESHOLDS])
    return max(zip(_THRESHOLDS, accuracies, strict=True), key=lambda both: both[1].value)[0]


def pickapic_cross_fitted(
    scores: Sequence[ArrayLike],
    ranks: Sequence[ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Accuracy, tuple[float, ...]]:
    """Measure `pickapic` accuracy where there are no validation data; return it with the threshold of each part.

    Prompts are put at random into `folds` parts, as many as there are prompts at most. Each part is judged at the
    threshold that `pickapic_threshold` finds on the others. `scores` are log-odds.
    """
    require(folds >= 2, "folds", folds, "at least 2")
    accuracies = _accuracies(scores, ranks, [pickapic_rule(threshold) for threshold in _THRESHOLDS])
    weight = accuracies[0].weight
    prompts, prompt = np.unique(cluster_labels(clusters, len(weight))[weight > 0], return_inverse=True)
    if len(prompts) < 2:
        raise InputError("prompts", f"are {len(prompts)} with something to compare", expected="at least 2")
    parts = min(folds, len(prompts))
    fold = np.full(len(weight), -1)
    fold[weight > 0] = (np.random.default_rng(seed).permutation(len(prompts)) % parts)[prompt]
    credit = np.stack([accuracy.correct for accuracy in accuracies])
    chosen = [int(credit[:, (fold >= 0) & (fold != part)].sum(axis=1).argmax()) for part in range(parts)]
    correct = credit[np.array(chosen)[fold], np.arange(len(fold))]  # groups of no fold have no credit at all
    fitted = Accuracy(correct=correct, weight=weight, averaging="pairs")
    return fitted, tuple(_THRESHOLDS[number] for number in chosen)


def _accuracies(
    scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], rules: Sequence[AccuracyRule]
) -> list[Accuracy]:
    given, expected = read_groups(scores, ranks)
    correct, weight = np.zeros((2, len(rules), len(given.shapes)))
    for part in ballots(expected):
        own, lead = given.stacked(part.groups), part.lead()
        for number, rule in enumerate(rules):
            correct[number, part.groups], weight[number, part.groups] = rule.judge(own, lead)
    rows = zip(correct, weight, rules, strict=True)
    return [Accuracy(correct=own, weight=compared, averaging=rule.averaging) for own, compared, rule in rows]
