"""How often a scorer and people prefer the same image, kept by group so that intervals need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.blocks import Flags, Floats, Index, Rows, equal_blocks, pair_indices, read_groups
from hpskit.stats.rules import AccuracyRule, Averaging, PairRule, find_rule, pickapic_rule

__all__ = ["Accuracy", "PairOutcomes", "pair_accuracy", "pair_outcomes", "pickapic_threshold"]

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
    """Each pair of images, for breakdowns that cut through groups, such as by generator."""

    group: Index
    """(pairs,): number of the group, from 0."""
    first: Index
    """(pairs,): number of the earlier image in its group, from 0."""
    second: Index
    """(pairs,): number of the later image in its group, from 0."""
    credit: Floats
    """(pairs,): 0 to 1."""
    counted: Flags
    """(pairs,): whether the rule compares the pair."""
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
        ranks: one array (n,) for each group; lower is better; NaN was not ranked, its pairs are not compared.
        rule: a name in `ACCURACY_RULES`, or a rule; its `definition` and `source` say what counts.

    Raises:
        InputError: unknown rule, shapes differ, a score is not finite, or there is nothing to compare.
    """
    given, expected = read_groups(scores, ranks)
    return _accuracy(given, expected, find_rule(rule))


def pair_outcomes(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike], rule: str | AccuracyRule) -> PairOutcomes:
    """The outcome of every pair of images, in no particular order of the groups.

    Args:
        scores: as for `pair_accuracy`.
        ranks: as for `pair_accuracy`.
        rule: any but `top-1`.

    Raises:
        InputError: as `pair_accuracy`, or the rule does not compare pairs.
    """
    given, expected = read_groups(scores, ranks)
    chosen = find_rule(rule)
    if not isinstance(chosen, PairRule):
        raise InputError(f"rule: is {chosen.name!r}, which compares no pairs; expected another")
    parts = []
    for groups in equal_blocks(given):
        credit, counted = chosen.judge_pairs(given.stacked(groups), expected.stacked(groups))
        images = np.broadcast_arrays(groups[:, None], *pair_indices(int(given.shapes[groups[0], 0])))
        parts.append([array.reshape(-1) for array in (*images, credit, counted)])
    group, first, second, credit, counted = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
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
    given, expected = read_groups(scores, ranks)
    return max(sorted(candidates), key=lambda threshold: _accuracy(given, expected, pickapic_rule(threshold)).value)


def _accuracy(scores: Rows, ranks: Rows, rule: AccuracyRule) -> Accuracy:
    correct, weight = np.zeros(len(scores.shapes)), np.zeros(len(scores.shapes))
    for groups in equal_blocks(scores):
        correct[groups], weight[groups] = rule.judge(scores.stacked(groups), ranks.stacked(groups))
    return Accuracy(correct=correct, weight=weight, averaging=rule.averaging)
