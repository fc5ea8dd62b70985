"""What people's judgements of a group say about each pair of its images, for any weights of the judgements.

The one definition of a compared pair is here: somebody ranked *both* images. What people prefer is the sign of the
*mean difference of rank* over those who did. For complete rankings that is the difference of the mean ranks; for
partial ones it does not punish an image for who happened to see it, and orders no two images that nobody compared.

The measures of `agreement` are these with weight 1; `two_way` draws the weights. One judgement of a pair is compared
with another, or with what the others prefer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.errors import InputError
from hpskit.stats.blocks import Flags, Floats, Index, Rows, equal_blocks, pair_indices
from hpskit.stats.rules import ACCURACY_RULES, PairRule, Signs, signs

__all__ = [
    "PEOPLE_RULES",
    "Ballots",
    "Tally",
    "against_each_other",
    "against_others",
    "ballots",
    "compared_pairs",
    "people_rule",
    "score_signs",
    "scores_against_all",
    "tally_once",
]

PEOPLE_RULES = ("ties-half", "hpdv2", "imagereward")
"""The rules that make sense between people: the others need probabilities or look at the winner alone."""

Tally = tuple[Floats, Floats]
"""Credit and number of comparisons, (groups, draws) each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ballots:
    """The judgements of groups that have equally many images and judgements, pair by pair."""

    groups: Index
    """(groups,): their numbers."""
    ahead: Floats
    """(groups, judgements, pairs): rank of the second image less rank of the first; above 0 the first is preferred,
    0 is a tie or unranked."""
    ranked: Flags
    """(groups, judgements, pairs): whether both images were ranked."""
    images: int
    """In each group."""

    def lead(self) -> Floats:
        """(groups, pairs): by how many places people prefer the first image, the mean over those who ranked both; 0 is
        a tie, NaN a pair that nobody compared."""
        seen = self.ranked.sum(axis=1)
        return np.where(seen > 0, self.ahead.sum(axis=1) / np.maximum(seen, 1), np.nan)


def ballots(votes: Rows, numbers: int = 1) -> Iterator[Ballots]:
    """All groups that have judgements, in parts.

    Args:
        votes: (judgements, images) for each group.
        numbers: how many numbers are computed at once for each pair and judgement.
    """
    for groups in equal_blocks(votes, numbers):
        judgements, images = votes.shapes[groups[0]].tolist()
        if judgements:
            first, second = pair_indices(images)
            block = votes.stacked(groups)
            ahead = block[:, :, second] - block[:, :, first]
            ranked = ~np.isnan(ahead)
            yield Ballots(groups=groups, ahead=np.where(ranked, ahead, 0), ranked=ranked, images=images)


def compared_pairs(votes: Rows, measure: Callable[[Ballots], tuple[NDArray[Any], ...]]) -> list[NDArray[Any]]:
    """Every pair that somebody compared, in the order of the groups and of their images.

    Args:
        votes: (judgements, images) for each group.
        measure: makes arrays (groups, pairs) of some groups.

    Returns:
        (pairs,) arrays: number of the group, of the earlier image, of the later image, and what `measure` makes.

    Raises:
        InputError: nobody compared anything.
    """
    parts = []
    for part in ballots(votes):
        compared = part.ranked.any(axis=1)
        images = np.broadcast_arrays(part.groups[:, None], *pair_indices(part.images))
        parts.append([array[compared] for array in (*images, *measure(part))])
    if not any(len(part[0]) for part in parts):
        raise InputError(f"votes: none of {len(votes.shapes)} groups has a pair of images that somebody compared")
    columns = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return [column[order] for column in columns]


def people_rule(rule: str) -> PairRule:
    """The rule of that name, if it can be used between people.

    Raises:
        InputError: it cannot.
    """
    found = ACCURACY_RULES.get(rule) if rule in PEOPLE_RULES else None
    if not isinstance(found, PairRule):
        raise InputError(f"rule: is {rule!r}, expected one of {', '.join(PEOPLE_RULES)}")
    return found


def against_each_other(part: Ballots, weights: Floats, rule: PairRule) -> Tally:
    """Every judgement against every other of its group, both ways round; a person's tie is a tie, whatever the rule
    does with equal scores.

    Counting how many judgements say what makes the cost linear in their number. A judgement that is drawn twice is
    not compared with itself.

    Args:
        part: judgements.
        weights: (groups, draws, judgements).
        rule: what is correct.
    """
    preferred = signs(part.ahead)
    credit = rule.credit(preferred, preferred)
    counted = rule.counted(part.ranked, preferred)
    own = np.square(weights)
    correct = -_spread(own, credit * counted)
    weight = -_spread(own, counted)
    says = {sign: weights @ (part.ranked & (preferred == sign)).astype(np.float64) for sign in (-1, 0, 1)}
    for mine, mine_weight in says.items():
        for theirs, theirs_weight in says.items():
            sign = np.array(theirs, dtype=np.int8)
            both = (mine_weight * theirs_weight).sum(axis=2) * rule.counted(np.array(True), sign)
            weight += both
            correct += both * rule.credit(np.array(mine, dtype=np.int8), sign)
    return correct, weight


def against_others(part: Ballots, weights: Floats, rule: PairRule, *, inclusive: bool = False) -> Tally:
    """Every judgement against the mean of the others of its group; a person's tie is a tie.

    Args:
        part: judgements.
        weights: (groups, draws, judgements); all copies of the judgement itself are left out of the mean.
        rule: what is correct.
        inclusive: against the mean of all, the judgement itself included, where there are others.
    """
    decided = signs(part.ahead)
    total, seen = weights @ part.ahead, weights @ part.ranked.astype(np.float64)
    correct, weight = np.zeros(weights.shape[:2]), np.zeros(weights.shape[:2])
    for judgement in range(weights.shape[2]):
        own = weights[:, :, judgement, None]
        preferred = signs(total if inclusive else total - own * part.ahead[:, None, judgement])
        others = seen - own * part.ranked[:, None, judgement] > 0
        counted = rule.counted(others & part.ranked[:, None, judgement], preferred)
        credit = rule.credit(decided[:, None, judgement], preferred)
        correct += weights[:, :, judgement] * (credit * counted).sum(axis=2)
        weight += weights[:, :, judgement] * counted.sum(axis=2)
    return correct, weight


def scores_against_all(part: Ballots, weights: Floats, rule: PairRule, scores: Floats) -> Tally:
    """A scorer against the mean of all judgements of a group.

    Args:
        part: judgements.
        weights: (groups, draws, judgements).
        rule: what is correct.
        scores: (groups, images).
    """
    preferred = signs(weights @ part.ahead)
    counted = rule.counted(weights @ part.ranked.astype(np.float64) > 0, preferred)
    credit = rule.credit(score_signs(scores, rule)[:, None], preferred)
    return (credit * counted).sum(axis=2), counted.sum(axis=2).astype(np.float64)


def tally_once(votes: Rows, tally: Callable[[Ballots, Floats], Tally]) -> Tally:
    """Credit and number of comparisons with every judgement once, (groups,) each; 0 without judgements."""
    correct, weight = np.zeros(len(votes.shapes)), np.zeros(len(votes.shapes))
    for part in ballots(votes):
        credit, compared = tally(part, np.ones((len(part.groups), 1, part.ahead.shape[1])))
        correct[part.groups], weight[part.groups] = credit[:, 0], compared[:, 0]
    return correct, weight


def score_signs(scores: Floats, rule: PairRule) -> Signs:
    """(groups, images) -> (groups, pairs): which image the scorer prefers."""
    first, second = pair_indices(scores.shape[1])
    return rule.decide(scores[:, first] - scores[:, second])


def _spread(weights: Floats, of_pairs: Floats | Flags) -> Floats:
    """(groups, draws, judgements), (groups, judgements, pairs) -> (groups, draws)."""
    summed: Floats = of_pairs.sum(axis=2).astype(np.float64)
    return (weights @ summed[:, :, None])[:, :, 0]
