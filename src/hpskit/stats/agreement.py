"""How well people agree: the ceiling for any scorer, and whether there is anything to learn.

A ceiling is comparable with a scorer's accuracy only under the same rule and against the same thing: a scorer against
the mean of ten people competes with one person against the mean of the *other* nine. A tally takes a weight for each
judgement: 1 here; `intervals` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy
from hpskit.stats.blocks import Ballots, Flags, Floats, Rows, ballots, equal_blocks, read_scores, read_votes, require
from hpskit.stats.rules import ACCURACY_RULES, PairRule, signs

PEOPLE_RULES = ("ties-half", "hpdv2", "imagereward")
"""Rules that make sense between people: the others need probabilities or look at the winner alone."""

Tally: TypeAlias = tuple[Floats, Floats]
"""Credit and number of comparisons, (groups, draws) each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GapBin:
    """Agreement on pairs that other people find about equally far apart."""

    low: float
    """Smallest gap, not included: difference of mean ranks as a share of the largest possible, 0 to 1."""
    high: float
    """Largest gap, included."""
    people: Accuracy
    """One person against the mean of the others of the same group."""
    scores: Accuracy | None
    """The scorer against the same means, once for each person left out: the very same comparisons."""


def annotator_agreement(votes: Sequence[ArrayLike], *, rule: str = "ties-half") -> Accuracy:
    """Compare every two judgements of a group, both ways round, by one of `PEOPLE_RULES`.

    Source: "single human" in table 3 of Wu et al. 2023 (78.1 % on the HPD v2 test set).
    """
    chosen = people_rule(rule)
    return tally_once(read_votes(votes), lambda part, weights: against_each_other(part, weights, chosen), chosen)


def leave_one_out_agreement(
    votes: Sequence[ArrayLike], *, inclusive: bool = False, rule: str = "ties-half"
) -> Accuracy:
    """Compare one annotator with the mean of the others: the ceiling for a scorer of the same data.

    Others count for a pair if they ranked both images. `inclusive` compares with the mean of all, as some papers do. It
    flatters, since annotators are compared with themselves in part: label it so. `rule` is one of `PEOPLE_RULES`.
    """
    chosen = people_rule(rule)
    judged = read_votes(votes)
    return tally_once(judged, lambda part, weights: against_others(part, weights, chosen, inclusive=inclusive), chosen)


def krippendorff_alpha(votes: Sequence[ArrayLike]) -> float:
    """Krippendorff's alpha with the ordinal distance: 1 - observed / expected disagreement.

    Each image is a unit, its ranks are the values; images that fewer than two people ranked do not take part. 1 is
    perfect agreement, 0 that of ranks drawn at random from all ranks given. The units of a group depend on each other,
    so no interval over units is honest. Groups of different sizes share one scale, where rank 4 is the last of four
    images but the middle of seven: give many such separately.

    Source: Krippendorff 2004, Content Analysis, chapter 11. The library `krippendorff` gives the same, but holds a
    table of values x values for every image at once: gigabytes for a large data set.
    """
    judged = read_votes(votes)
    values = np.unique(judged.flat[~np.isnan(judged.flat)])
    coincidences, units = np.zeros((len(values), len(values))), 0
    for groups in equal_blocks(judged):
        block = judged.stacked(groups)
        counts = np.stack([(block == value).sum(axis=1).reshape(-1) for value in values], axis=1).astype(np.float64)
        counts = counts[counts.sum(axis=1) > 1]
        others = 1 / (counts.sum(axis=1) - 1)
        coincidences += (counts.T * others) @ counts - np.diag(others @ counts)
        units += len(counts)
    pool = coincidences.sum(axis=0)
    if (pool > 0).sum() < 2:
        found = f"have {units} images with two ranks or more, and those are all equal"
        raise InputError("votes", found, expected="ranks that differ")
    middles = pool.cumsum() - pool / 2  # two ranks are as far apart as ranks given lie between, ends counted half
    distances = np.square(middles[:, None] - middles)
    expected = pool @ distances @ pool / (pool.sum() - 1)
    return float(1 - (coincidences * distances).sum() / expected)


def agreement_by_gap(
    votes: Sequence[ArrayLike], *, scores: Sequence[ArrayLike] | None = None, bins: int = 10
) -> list[GapBin]:
    """Measure agreement as a function of how far apart two images are in quality, for people and for a scorer.

    The gap of a pair is the difference of the mean ranks that the *other* annotators give its images, divided by n - 1.
    With the annotator's own ranks in the mean, agreement would be high at large gaps by construction. Pairs that the
    others tie are left out; ties of the annotator count one half. `bins` are equal parts of 0 to 1; those without a
    comparison are left out.
    """
    require(bins >= 1, "bins", bins, "at least 1")
    given = None if scores is None else read_scores(scores)
    judged = read_votes(votes, given)
    rule = people_rule("ties-half")
    sums = np.zeros((3, len(judged.shapes) * bins))  # comparisons, credit of people, credit of the scorer
    for part in ballots(judged):
        scored = None if given is None else rule.prefers(given.stacked(part.groups))
        total, seen = part.ahead.sum(axis=1), part.ranked.sum(axis=1)
        for judgement in range(part.ahead.shape[1]):
            own, ranked = part.ahead[:, judgement], part.ranked[:, judgement]
            rest, others = total - own, seen - ranked
            preferred = signs(rest)
            compared = ranked & (others > 0) & (preferred != 0)
            gap = np.abs(rest) / np.maximum(others, 1) / (part.images - 1)
            if gap[compared].max(initial=0) > 1 + 1e-9:
                found = f"have ranks of {part.images} images that are further apart than {part.images - 1} places"
                raise InputError("votes", found)
            place = np.clip(np.ceil(gap * bins - 1e-9) - 1, 0, bins - 1).astype(np.intp)
            key = (part.groups[:, None] * bins + place)[compared]
            sums[0] += np.bincount(key, minlength=sums.shape[1])
            for row, decided in enumerate((signs(own), scored), start=1):
                if decided is not None:
                    credit = rule.credit(decided, preferred)
                    sums[row] += np.bincount(key, weights=credit[compared], minlength=sums.shape[1])
    weight, people, scorer = sums.reshape(3, len(judged.shapes), bins)
    if not weight.any():
        raise InputError("votes", f"have no pair in {len(weight)} groups with an order by others to agree with")

    def accuracy(credit: Floats, place: int) -> Accuracy:
        return Accuracy(correct=credit[:, place], weight=weight[:, place], averaging="pairs")

    return [
        GapBin(
            low=place / bins,
            high=(place + 1) / bins,
            people=accuracy(people, place),
            scores=None if given is None else accuracy(scorer, place),
        )
        for place in np.flatnonzero(weight.any(axis=0)).tolist()
    ]


def people_rule(rule: str) -> PairRule:
    """Find a rule that can be used between people."""
    found = ACCURACY_RULES.get(rule) if rule in PEOPLE_RULES else None
    if not isinstance(found, PairRule):
        raise InputError("rule", f"is {rule!r}", expected=f"one of {', '.join(PEOPLE_RULES)}")
    return found


def against_each_other(part: Ballots, weights: Floats, rule: PairRule) -> Tally:
    """Tally every judgement against every other of its group, both ways round; a person's tie is a tie.

    Counting how many judgements say what makes the cost linear in their number. `weights` are (groups, draws,
    judgements); a judgement drawn twice is not compared with itself.
    """

    def spread(own: Floats, of_pairs: Floats | Flags) -> Floats:
        """(groups, draws, judgements), (groups, judgements, pairs) -> (groups, draws)."""
        summed: Floats = of_pairs.sum(axis=2).astype(np.float64)
        return (own @ summed[:, :, None])[:, :, 0]

    preferred = signs(part.ahead)
    counted = rule.counted(part.ranked, preferred)
    own = np.square(weights)
    correct = -spread(own, rule.credit(preferred, preferred) * counted)
    weight = -spread(own, counted)
    says = {sign: weights @ (part.ranked & (preferred == sign)).astype(np.float64) for sign in (-1, 0, 1)}
    for mine, mine_weight in says.items():
        for theirs, theirs_weight in says.items():
            sign = np.array(theirs, dtype=np.int8)
            both = (mine_weight * theirs_weight).sum(axis=2) * rule.counted(np.array(True), sign)
            weight += both
            correct += both * rule.credit(np.array(mine, dtype=np.int8), sign)
    return correct, weight


def against_others(part: Ballots, weights: Floats, rule: PairRule, *, inclusive: bool = False) -> Tally:
    """Tally every judgement against the mean of the others of its group; a person's tie is a tie.

    `weights` are (groups, draws, judgements). The mean leaves out all copies of the judgement itself; `inclusive` keeps
    them where there are others.
    """
    decided = signs(part.ahead)
    total, seen = weights @ part.ahead, weights @ part.ranked.astype(np.float64)
    correct, weight = np.zeros((2, *weights.shape[:2]))
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
    """Tally a scorer, (groups, images) scores, against the mean of all judgements of a group."""
    preferred = signs(weights @ part.ahead)
    counted = rule.counted(weights @ part.ranked.astype(np.float64) > 0, preferred)
    credit = rule.credit(rule.prefers(scores)[:, None], preferred)
    return (credit * counted).sum(axis=2), counted.sum(axis=2).astype(np.float64)


def tally_once(votes: Rows, tally: Callable[[Ballots, Floats], Tally], rule: PairRule) -> Accuracy:
    """Measure with every judgement once."""
    correct, weight = np.zeros((2, len(votes.shapes)))
    for part in ballots(votes):
        credit, compared = tally(part, np.ones((len(part.groups), 1, part.ahead.shape[1])))
        correct[part.groups], weight[part.groups] = credit[:, 0], compared[:, 0]
    return Accuracy(correct=correct, weight=weight, averaging=rule.averaging)
