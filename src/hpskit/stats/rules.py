"""The field's definitions of the accuracy of a preference model, by name.

Published figures follow different ones and must not be compared across them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpskit.stats.blocks import Flags, Floats, pair_indices, require

Averaging: TypeAlias = Literal["prompts", "pairs"]
Signs: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyRule(ABC):
    """A definition of what is correct. A pair of images that nobody compared never counts."""

    name: str
    """Name on the command line."""
    averaging: Averaging
    """`prompts`: mean of the groups' accuracies; `pairs`: share of all pairs."""
    definition: str
    """Definition in words, for a report."""
    source: str
    """Paper or official function."""

    @abstractmethod
    def judge(self, scores: Floats, lead: Floats) -> tuple[Floats, Floats]:
        """Sum the credit and count the comparisons of each group, (groups,) twice.

        Args:
            scores: (groups, n).
            lead: (groups, pairs), preference of people, see `Ballots.lead`.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRule(AccuracyRule):
    """Rule that compares every two images of a group."""

    decide: Callable[[Floats], Signs]
    """score(first) - score(second) -> 1 if the scorer prefers the first image, -1 the second, 0 neither."""
    credit: Callable[[Signs, Signs], Floats]
    """Preference of the scorer, preference of people -> 0 to 1."""
    skips_human_ties: bool = False
    """Whether pairs that people tied are left out."""

    def judge(self, scores: Floats, lead: Floats) -> tuple[Floats, Floats]:
        credit, counted = self.judge_pairs(scores, lead)
        return (credit * counted).sum(axis=1), counted.sum(axis=1, dtype=np.float64)

    def judge_pairs(self, scores: Floats, lead: Floats) -> tuple[Floats, Flags]:
        """Give the credit of every pair, and whether it counts: (groups, pairs) twice; arguments as for `judge`."""
        decided = self.prefers(scores)
        compared = ~np.isnan(lead)
        preferred = signs(np.where(compared, lead, 0))
        return self.credit(decided, preferred), self.counted(compared, preferred)

    def prefers(self, scores: Floats) -> Signs:
        """Decide every pair by the scores, (groups, n) -> (groups, pairs)."""
        first, second = pair_indices(scores.shape[1])
        return self.decide(scores[:, first] - scores[:, second])

    def counted(self, compared: Flags, preferred: Signs) -> Flags:
        """Tell which pairs count, given whether somebody compared them and which image people prefer."""
        return compared & (preferred != 0) if self.skips_human_ties else compared


@dataclass(frozen=True, kw_only=True, slots=True)
class TopRule(AccuracyRule):
    """Rule that looks at the winner of each group alone."""

    def judge(self, scores: Floats, lead: Floats) -> tuple[Floats, Floats]:
        images = scores.shape[1]
        first, second = pair_indices(images)
        ahead = np.full((len(lead), images, images), np.nan)
        ahead[:, first, second], ahead[:, second, first] = lead, -lead
        compared = ~np.isnan(ahead)
        ranked: Flags = np.asarray(compared.any(axis=2))
        everywhere = (compared | ~ranked[:, None] | np.eye(images, dtype=bool)).all(axis=2)
        best = ranked & everywhere & ~(ahead < 0).any(axis=2)
        highest = np.where(ranked, scores, -np.inf)
        chosen = ranked & (highest == highest.max(axis=1, keepdims=True))
        weight = (best.any(axis=1) & (best.sum(axis=1) < ranked.sum(axis=1))).astype(np.float64)
        return weight * (chosen & best).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1), weight


def signs(numbers: Floats) -> Signs:
    """1, 0 or -1."""
    return np.sign(numbers).astype(np.int8)


def _half_for_a_tie(decided: Signs, preferred: Signs) -> Floats:
    apart: Floats = np.abs(decided - preferred).astype(np.float64)  # int8 divided by 2 would be float16
    return 1 - apart / 2


def pickapic_rule(threshold: float) -> PairRule:
    """Make the rule of the Pick-a-Pic paper for a tie threshold, 0 to 1.

    The scorer ties a pair if its two probabilities differ by no more than that; scores must be log-odds. Find the
    threshold on validation data with `pickapic_threshold`, never on the data reported.
    """
    require(0 <= threshold <= 1, "threshold", threshold, "a difference of probabilities, 0 to 1")

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
            decide=lambda difference: np.where(difference >= 0, 1, -1).astype(np.int8),  # the official sort is stable
            credit=lambda decided, preferred: (decided * preferred >= 0).astype(np.float64),
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
            credit=lambda decided, preferred: (decided * preferred > 0).astype(np.float64),
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
    """Find a rule by its name, or return the rule itself."""
    if not isinstance(rule, str):
        return rule
    require(rule in ACCURACY_RULES, "rule", rule, f"one of {', '.join(ACCURACY_RULES)}")
    return ACCURACY_RULES[rule]
