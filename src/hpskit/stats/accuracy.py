"""How often a scorer and people prefer the same image, kept by group so that intervals need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Flags, Floats, Index, Rows, cluster_labels, read_groups
from hpskit.stats.judgements import Ballots, ballots, compared_pairs
from hpskit.stats.rules import AccuracyRule, Averaging, PairRule, find_rule, pickapic_rule

__all__ = [
    "Accuracy",
    "PairOutcomes",
    "pair_accuracy",
    "pair_outcomes",
    "pickapic_cross_fitted",
    "pickapic_threshold",
]

_THRESHOLDS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """An accuracy or agreement, and what each group contributes to it."""

    correct: Floats
    """(groups,): sum of the credits of the group's comparisons."""
    weight: Floats
    """(groups,): number of the group's comparisons; 0 if there was nothing to compare, then it drops out."""
    averaging: Averaging
    """`prompts`: the mean over groups of correct / weight; `pairs`: sum of correct / sum of weight."""

    def __post_init__(self) -> None:
        if self.correct.shape != self.weight.shape or self.correct.ndim != 1:
            shapes = f"{self.correct.shape} and {self.weight.shape}"
            raise InputError(f"accuracy: shapes of correct and weight are {shapes}, expected the same (groups,)")
        if not (self.weight > 0).any():
            raise InputError(
                f"accuracy: there is nothing to compare in {self.weight.size} groups, expected at least one pair of "
                "images that the rule compares; see the definitions in ACCURACY_RULES"
            )

    @property
    def value(self) -> float:
        """0 to 1."""
        numerators, denominators = self.terms()
        return float(numerators.sum() / denominators.sum())

    @property
    def pairs(self) -> int:
        """Comparisons made: pairs of images, for `top-1` groups, for people times the judgements compared."""
        return round(float(self.weight.sum()))

    @property
    def groups(self) -> int:
        """Groups in which something was compared."""
        return int((self.weight > 0).sum())

    def terms(self) -> tuple[Floats, Floats]:
        """(groups,) twice: the value is the sum of the first over the sum of the second, for any sample of groups."""
        if self.averaging == "pairs":
            return self.correct, self.weight
        used = (self.weight > 0).astype(np.float64)
        return self.correct / np.maximum(self.weight, 1 - used), used

    def subset(self, groups: Flags | Index) -> Accuracy:
        """The same measure on some of the groups, for example one style.

        Raises:
            InputError: there is nothing to compare in them.
        """
        return Accuracy(correct=self.correct[groups], weight=self.weight[groups], averaging=self.averaging)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairOutcomes:
    """Each pair of images that people compared, for breakdowns that cut through groups, such as by generator."""

    group: Index
    """(pairs,): number of the group, from 0."""
    first: Index
    """(pairs,): number of the earlier image in its group, from 0."""
    second: Index
    """(pairs,): number of the later image in its group, from 0."""
    credit: Floats
    """(pairs,): 0 to 1."""
    counted: Flags
    """(pairs,): whether the rule counts the pair."""
    groups: int
    """How many groups there are in all."""

    def accuracy(self, selected: Flags | None = None) -> Accuracy:
        """Share of the selected pairs, (pairs,), that are correct, with a term for each of all groups.

        Raises:
            InputError: none of them is compared.
        """
        used = self.counted if selected is None else self.counted & selected
        correct = np.bincount(self.group[used], weights=self.credit[used], minlength=self.groups)
        weight = np.bincount(self.group[used], minlength=self.groups)
        return Accuracy(correct=correct.astype(np.float64), weight=weight.astype(np.float64), averaging="pairs")


def pair_accuracy(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], rule: str | AccuracyRule) -> Accuracy:
    """How often scores and people prefer the same image.

    Args:
        scores: one array (n,) for each group, n > 1; higher is better; log-odds if the rule has a threshold.
        ranks: one array for each group, lower is better, NaN was not ranked: (n,), the order of all people together,
            or (judgements, n), single judgements. Of these a pair goes by the mean difference of rank over those who
            ranked both images, and a pair that nobody compared does not count.
        rule: a name in `ACCURACY_RULES`, or a rule; its `definition` and `source` say what counts.

    Raises:
        InputError: unknown rule, shapes differ, a score is not finite, or there is nothing to compare.
    """
    given, expected = read_groups(scores, ranks)
    return _accuracy(given, expected, find_rule(rule))


def pair_outcomes(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], rule: str | AccuracyRule) -> PairOutcomes:
    """The outcome of every pair of images that people compared, in the order of the groups and of the images.

    Args:
        scores: as for `pair_accuracy`.
        ranks: as for `pair_accuracy`.
        rule: any but `top-1`.

    Raises:
        InputError: as `pair_accuracy`, or the rule does not compare pairs. That the rule skips all pairs is no error.
    """
    given, expected = read_groups(scores, ranks)
    chosen = find_rule(rule)
    if not isinstance(chosen, PairRule):
        raise InputError(f"rule: is {chosen.name!r}, which compares no pairs; expected another")

    def outcomes(part: Ballots) -> tuple[Floats, Flags]:
        return chosen.judge_pairs(given.stacked(part.groups), part.lead())

    group, first, second, credit, counted = compared_pairs(expected, outcomes)
    return PairOutcomes(
        group=group, first=first, second=second, credit=credit, counted=counted, groups=len(given.shapes)
    )


def pickapic_threshold(
    scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], candidates: Sequence[float] = _THRESHOLDS
) -> float:
    """The tie threshold with the highest `pickapic` accuracy, the lowest of several such.

    The official evaluation tries 0, 0.1, … 1 on the validation split and reports the test split with the winner.
    Never search on the data that are reported.

    Args:
        scores: as for `pair_accuracy`, log-odds, of *validation* data.
        ranks: as for `pair_accuracy`.
        candidates: thresholds to try, 0 to 1.

    Raises:
        InputError: as `pair_accuracy`, or a candidate is not between 0 and 1.
    """
    tried = sorted(candidates)
    accuracies = _by_threshold(scores, ranks, tried)
    return max(zip(tried, accuracies, strict=True), key=lambda both: both[1].value)[0]


def pickapic_cross_fitted(
    scores: Sequence[ArrayLike],
    ranks: Sequence[ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Accuracy, tuple[float, ...]]:
    """The `pickapic` accuracy where there are no validation data: prompts are judged at a threshold that was chosen on
    other prompts, as `pickapic_threshold` does.

    Args:
        scores: as for `pair_accuracy`, log-odds.
        ranks: as for `pair_accuracy`.
        clusters: (groups,), equal for groups of one prompt, which stay together; each group is a prompt if not given.
        folds: parts into which the prompts are put at random; as many as there are prompts if they are fewer.
        seed: same seed, same parts.

    Returns:
        The accuracy, and the threshold of each part.

    Raises:
        InputError: as `pair_accuracy`, folds below 2, or fewer than two prompts have something to compare.
    """
    if folds < 2:
        raise InputError(f"folds: is {folds!r}, expected at least 2")
    accuracies = _by_threshold(scores, ranks, _THRESHOLDS)
    weight = accuracies[0].weight
    prompts, prompt = np.unique(cluster_labels(clusters, len(weight))[weight > 0], return_inverse=True)
    if len(prompts) < 2:
        raise InputError(f"cross-fitting: {len(prompts)} prompts have something to compare, expected at least 2")
    parts = min(folds, len(prompts))
    fold = np.full(len(weight), -1)
    fold[weight > 0] = (np.random.default_rng(seed).permutation(len(prompts)) % parts)[prompt]
    credit = np.stack([accuracy.correct for accuracy in accuracies])
    chosen = [int(credit[:, (fold >= 0) & (fold != part)].sum(axis=1).argmax()) for part in range(parts)]
    correct = credit[np.array(chosen)[fold], np.arange(len(fold))]  # groups of no fold have no credit at all
    fitted = Accuracy(correct=correct, weight=weight, averaging="pairs")
    return fitted, tuple(_THRESHOLDS[number] for number in chosen)


def _by_threshold(
    scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], thresholds: Sequence[float]
) -> list[Accuracy]:
    given, expected = read_groups(scores, ranks)
    return [_accuracy(given, expected, pickapic_rule(threshold)) for threshold in thresholds]


def _accuracy(scores: Rows, ranks: Rows, rule: AccuracyRule) -> Accuracy:
    correct, weight = np.zeros(len(scores.shapes)), np.zeros(len(scores.shapes))
    for part in ballots(ranks):
        correct[part.groups], weight[part.groups] = rule.judge(scores.stacked(part.groups), part.lead())
    return Accuracy(correct=correct, weight=weight, averaging=rule.averaging)
