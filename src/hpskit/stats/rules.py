"""What counts as correct: the field's definitions of the accuracy of a preference model, by name.

Published figures follow different ones and must not be compared across them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpskit.errors import InputError
from hpskit.stats.blocks import Flags, Floats, pair_indices

__all__ = ["ACCURACY_RULES", "AccuracyRule", "Averaging", "PairRule", "TopRule", "find_rule", "pickapic_rule"]

Averaging: TypeAlias = Literal["prompts", "pairs"]
Signs: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRule:
    """Compares every two images of a group. A pair that nobody compared does not count."""

    name: str
    """As the command line takes it."""
    averaging: Averaging
    """`prompts`: the mean of the groups' accuracies; `pairs`: the share of all pairs."""
    definition: str
    """In words, for a report."""
    source: str
    """Paper or official function."""
    decide: Callable[[Floats], Signs]
    """score(first) - score(second) -> 1 the scorer prefers the first image, -1 the second, 0 neither."""
    credit: Callable[[Signs, Signs], Floats]
    """What the scorer prefers, what people prefer -> 0 to 1."""
    skips_human_ties: bool = False
    """Whether pairs that people tied are not compared."""

    def judge(self, scores: Floats, lead: Floats) -> tuple[Floats, Floats]:
        """Credit and number of the pairs of each group that count, (groups,) twice.

        Args:
            scores: (groups, n).
            lead: (groups, pairs), what people prefer, see `Ballots.lead`.
        """
        credit, counted = self.judge_pairs(scores, lead)
        return (credit * counted).sum(axis=1), counted.sum(axis=1, dtype=np.float64)

    def judge_pairs(self, scores: Floats, lead: Floats) -> tuple[Floats, Flags]:
        """As `judge`, but credit and whether it counts of every pair of `pair_indices`, (groups, pairs) twice."""
        first, second = pair_indices(scores.shape[1])
        decided = self.decide(scores[:, first] - scores[:, second])
        compared = ~np.isnan(lead)
        preferred = signs(np.where(compared, lead, 0))
        return self.credit(decided, preferred), self.counted(compared, preferred)

    def counted(self, compared: Flags, preferred: Signs) -> Flags:
        """Whether pairs count, given whether somebody compared them and which image people prefer."""
        return compared & (preferred != 0) if self.skips_human_ties else compared


@dataclass(frozen=True, kw_only=True, slots=True)
class TopRule:
    """Looks at the winner of each group alone."""

    name: str
    """As the command line takes it."""
    averaging: Averaging
    """Every group is one comparison, so both kinds are the same."""
    definition: str
    """In words, for a report."""
    source: str
    """Paper or official function."""

    def judge(self, scores: Floats, lead: Floats) -> tuple[Floats, Floats]:
        """Credit, and 1 if the group counts, (groups,) twice.

        Args:
            scores: (groups, n).
            lead: (groups, pairs), what people prefer, see `Ballots.lead`.
        """
        ahead = _square(lead, scores.shape[1])
        compared = ~np.isnan(ahead)
        ranked: Flags = np.asarray(compared.any(axis=2))
        everywhere = (compared | ~ranked[:, None] | np.eye(scores.shape[1], dtype=bool)).all(axis=2)
        best = ranked & everywhere & ~(ahead < 0).any(axis=2)
        highest = np.where(ranked, scores, -np.inf)
        chosen = ranked & (highest == highest.max(axis=1, keepdims=True))
        weight = (best.any(axis=1) & (best.sum(axis=1) < ranked.sum(axis=1))).astype(np.float64)
        return weight * (chosen & best).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1), weight


AccuracyRule: TypeAlias = PairRule | TopRule


def _square(lead: Floats, images: int) -> Floats:
    """(groups, pairs) -> (groups, n, n): by how many places the row's image is preferred to the column's; NaN where
    nobody compared them, and for an image with itself."""
    first, second = pair_indices(images)
    square = np.full((len(lead), images, images), np.nan)
    square[:, first, second], square[:, second, first] = lead, -lead
    return square


def signs(numbers: Floats) -> Signs:
    """1, 0 or -1."""
    return np.sign(numbers).astype(np.int8)


def _first_if_equal(difference: Floats) -> Signs:
    """The official code sorts the scores stably first: of equal scores the earlier image wins."""
    return np.where(difference >= 0, 1, -1).astype(np.int8)


def _not_inverted(decided: Signs, preferred: Signs) -> Floats:
    return (decided * preferred >= 0).astype(np.float64)


def _same_side(decided: Signs, preferred: Signs) -> Floats:
    return (decided * preferred > 0).astype(np.float64)


def _half_for_a_tie(decided: Signs, preferred: Signs) -> Floats:
    apart: Floats = np.abs(decided - preferred).astype(np.float64)  # int8 divided by 2 would be float16
    return 1 - apart / 2


def pickapic_rule(threshold: float) -> PairRule:
    """The rule of the Pick-a-Pic paper with its tie threshold.

    Args:
        threshold: 0 to 1; the scorer calls it a tie if the two probabilities differ by no more than that. Scores
            must be log-odds. Find it on validation data with `pickapic_threshold`, never on the data reported.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold: is {threshold!r}, expected a difference of probabilities, 0 to 1")

    def decide(difference: Floats) -> Signs:
        probabilities = np.tanh(difference / 2)  # softmax of the two scores: its first minus its second
        return np.where(np.abs(probabilities) <= threshold, 0, signs(probabilities)).astype(np.int8)

    return PairRule(
        name="pickapic",
        averaging="pairs",
        definition=(
            "Share of all pairs. The scorer ties a pair if the probabilities of its two images differ by at most "
            f"{threshold:g}. Same answer as people, tie included: 1; one of the two ties: 1/2; opposite: 0."
        ),
        source="Kirstain et al. 2023, arXiv 2305.01569; the evaluation of preference predictors in its repository",
        decide=decide,
        credit=_half_for_a_tie,
    )


ACCURACY_RULES: Mapping[str, AccuracyRule] = {
    rule.name: rule
    for rule in (
        PairRule(
            name="hpdv2",
            averaging="prompts",
            definition=(
                "Mean over prompts of the share of pairs that scores and people do not order in opposite ways. A pair "
                "that people tied is correct; of two equal scores the image that stands first counts as the better."
            ),
            source="Wu et al. 2023, arXiv 2306.09341; `inversion_score` of the official package",
            decide=_first_if_equal,
            credit=_not_inverted,
        ),
        PairRule(
            name="imagereward",
            averaging="prompts",
            definition=(
                "Mean over prompts of the share of pairs ordered as people order them. Pairs that people tied are "
                "skipped; equal scores are wrong. A prompt whose pairs are all tied drops out."
            ),
            source="Xu et al. 2023, arXiv 2304.05977; the ImageReward mode of the official HPS v2 evaluation",
            decide=signs,
            credit=_same_side,
            skips_human_ties=True,
        ),
        PairRule(
            name="ties-half",
            averaging="prompts",
            definition=(
                "Mean over prompts of the credit of the pairs: 1 if scores and people agree, a tie on both sides "
                "included, 1/2 if only one side ties, 0 if they order the pair in opposite ways."
            ),
            source="hpskit; the credit of `pickapic` at threshold 0, averaged over prompts",
            decide=signs,
            credit=_half_for_a_tie,
        ),
        pickapic_rule(0),
        TopRule(
            name="top-1",
            averaging="prompts",
            definition=(
                "Share of prompts whose highest scored image is one that people like best: they compared it with "
                "every other and prefer no other. If several images share the highest score, the share of them that "
                "people like best counts. Unranked images do not take part; a prompt drops out if people tied all "
                "its images, or if partial rankings leave no image that is compared with all and beaten by none."
            ),
            source="hpskit; best-of-n selection",
        ),
    )
}
"""Name -> rule: `hpdv2`, `imagereward`, `ties-half`, `pickapic` (at threshold 0) and `top-1`."""


def find_rule(rule: str | AccuracyRule) -> AccuracyRule:
    """The rule of that name, or the rule itself.

    Raises:
        InputError: no rule has that name.
    """
    if not isinstance(rule, str):
        return rule
    if rule not in ACCURACY_RULES:
        raise InputError(f"rule: is {rule!r}, expected one of {', '.join(ACCURACY_RULES)}")
    return ACCURACY_RULES[rule]
