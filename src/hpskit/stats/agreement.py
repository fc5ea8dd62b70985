"""How well people agree: the ceiling for any scorer, and whether there is anything to learn.

A ceiling is comparable with a scorer's accuracy only under the same rule and against the same thing: a scorer against
the mean of ten people competes with one person against the mean of the *other* nine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy
from hpskit.stats.blocks import Floats, Index, Rows, equal_blocks, read_scores, read_votes
from hpskit.stats.judgements import (
    Ballots,
    Tally,
    against_each_other,
    against_others,
    ballots,
    people_rule,
    score_signs,
    tally_once,
)
from hpskit.stats.rules import PairRule, Signs, signs

__all__ = ["GapBin", "agreement_by_gap", "annotator_agreement", "krippendorff_alpha", "leave_one_out_agreement"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GapBin:
    """Agreement on pairs that other people find about equally far apart."""

    low: float
    """Smallest gap, not included: difference of mean ranks as a share of the largest there can be, 0 to 1."""
    high: float
    """Largest gap, included."""
    people: Accuracy
    """One person against the mean of the others, of the same group."""
    scores: Accuracy | None
    """The scorer against the same means, once for each person left out: the very same comparisons."""


def annotator_agreement(votes: Sequence[ArrayLike], *, rule: str = "ties-half") -> Accuracy:
    """One annotator against another: every two judgements of a group, both ways round.

    Args:
        votes: one array (judgements, n) of ranks for each group, n > 1; lower is better; NaN was not ranked, its
            pairs are not compared.
        rule: `ties-half`, `hpdv2` or `imagereward`; the first judgement stands for the scorer.

    Raises:
        InputError: unknown rule, wrong shapes, or no group has two judgements of a pair.

    Source: "single human" in table 3 of Wu et al. 2023 (78.1 % on the HPD v2 test set).
    """
    chosen = people_rule(rule)
    return _measure(votes, chosen, lambda part, weights: against_each_other(part, weights, chosen))


def leave_one_out_agreement(
    votes: Sequence[ArrayLike], *, inclusive: bool = False, rule: str = "ties-half"
) -> Accuracy:
    """One annotator against the mean of the others: the ceiling for a scorer of the same data.

    Args:
        votes: as for `annotator_agreement`. Where rankings are partial, others count for a pair if they ranked both.
        inclusive: against the mean of all, the annotator included, as some papers do. It flatters: the annotator is
            compared with himself in part. Label it so.
        rule: as for `annotator_agreement`.

    Raises:
        InputError: unknown rule, wrong shapes, or nobody can be compared with another.
    """
    chosen = people_rule(rule)
    return _measure(votes, chosen, lambda part, weights: against_others(part, weights, chosen, inclusive=inclusive))


def krippendorff_alpha(votes: Sequence[ArrayLike]) -> float:
    """Krippendorff's alpha with the ordinal distance: 1 - observed / expected disagreement.

    Each image of each group is a unit, its ranks within the group are the values. 1 is perfect agreement; 0 is what
    ranks drawn at random from all ranks given to all images would show; below 0 people disagree systematically. It is
    not a share of pairs. The units of a group are not independent, so no interval over units is honest. Groups of
    different sizes share one scale of ranks: rank 4 is the last of four images but the middle of seven; give such
    groups separately if they are many.

    Args:
        votes: one array (judgements, n) of ranks for each group; lower is better; NaN was not ranked. Images that
            fewer than two people ranked do not take part.

    Raises:
        InputError: wrong shapes, or no image has two ranks, or all ranks are equal.

    Source: Krippendorff 2004, Content Analysis, chapter 11. The library `krippendorff` gives the same, but holds a
    table of values x values for every image at once: gigabytes for a large data set.
    """
    judged = read_votes(votes)
    values = np.unique(judged.flat[~np.isnan(judged.flat)])
    coincidences, units = np.zeros((len(values), len(values))), 0
    for groups in equal_blocks(judged):
        counts = _value_counts(judged, groups, values)
        counts = counts[counts.sum(axis=1) > 1]
        others = 1 / (counts.sum(axis=1) - 1)
        coincidences += (counts.T * others) @ counts - np.diag(others @ counts)
        units += len(counts)
    pool = coincidences.sum(axis=0)
    if (pool > 0).sum() < 2:
        raise InputError(
            f"votes: {units} images have two ranks or more, and those are all equal; expected ranks that differ"
        )
    distances = _ordinal_distances(pool)
    expected = pool @ distances @ pool / (pool.sum() - 1)
    return float(1 - (coincidences * distances).sum() / expected)


def agreement_by_gap(
    votes: Sequence[ArrayLike], *, scores: Sequence[ArrayLike] | None = None, bins: int = 10
) -> list[GapBin]:
    """Agreement as a function of how far apart two images are in quality.

    The gap of a pair is the difference of the mean ranks that the *other* annotators give its images, divided by
    n - 1. With the annotator's own ranks in the mean, agreement would be high wherever the gap is large by
    construction. Pairs that the others tie have no order to agree with and are left out. Ties count one half.

    Args:
        votes: as for `annotator_agreement`.
        scores: one array (n,) for each group, to see a scorer on the same comparisons.
        bins: of equal width between 0 and 1; those without a comparison are left out of the result.

    Raises:
        InputError: wrong shapes, ranks further apart than a group has places, no bins, or nothing to compare.
    """
    if bins < 1:
        raise InputError(f"bins: is {bins!r}, expected at least 1")
    given = None if scores is None else read_scores(scores)
    judged = read_votes(votes, given)
    sums = np.zeros((3, len(judged.shapes), bins))  # comparisons, credit of people, credit of scores
    rule = people_rule("ties-half")
    for part in ballots(judged):
        preferred = None if given is None else score_signs(given.stacked(part.groups), rule)
        sums[:, part.groups] += _gap_sums(part, preferred, bins, rule)
    used = np.flatnonzero(sums[0].any(axis=0)).tolist()
    if not used:
        raise InputError(f"votes: no pair in {len(judged.shapes)} groups has an order by others to agree with")
    return [_gap_bin(sums[:, :, place], place, bins, given is not None) for place in used]


def _measure(votes: Sequence[ArrayLike], rule: PairRule, tally: Callable[[Ballots, Floats], Tally]) -> Accuracy:
    correct, weight = tally_once(read_votes(votes), tally)
    return Accuracy(correct=correct, weight=weight, averaging=rule.averaging)


def _value_counts(votes: Rows, groups: Index, values: Floats) -> Floats:
    """(images of these groups, values): how many people gave each image each rank."""
    block = votes.stacked(groups)
    return np.stack([(block == value).sum(axis=1).reshape(-1) for value in values], axis=1).astype(np.float64)


def _ordinal_distances(pool: Floats) -> Floats:
    """(values,) -> (values, values): squared number of ranks given that lie between two, each end counted half."""
    middles = pool.cumsum() - pool / 2
    return np.square(middles[:, None] - middles)


def _gap_sums(part: Ballots, scored: Signs | None, bins: int, rule: PairRule) -> Floats:
    """(3, groups, bins): comparisons, credit of people and credit of scores."""
    total, seen = part.ahead.sum(axis=1), part.ranked.sum(axis=1)
    sums = np.zeros((3, len(part.groups) * bins))
    for judgement in range(part.ahead.shape[1]):
        own, ranked = part.ahead[:, judgement], part.ranked[:, judgement]
        rest, others = total - own, seen - ranked
        preferred = signs(rest)
        compared = ranked & (others > 0) & (preferred != 0)
        gap = np.abs(rest) / np.maximum(others, 1) / (part.images - 1)
        if gap[compared].max(initial=0) > 1 + 1e-9:
            raise InputError(f"votes: ranks of {part.images} images are further apart than {part.images - 1} places")
        place = np.clip(np.ceil(gap * bins - 1e-9) - 1, 0, bins - 1).astype(np.intp)
        key = (np.arange(len(part.groups))[:, None] * bins + place)[compared]
        gained = [rule.credit(sign, preferred) for sign in (rule.decide(own), scored) if sign is not None]
        sums[0] += np.bincount(key, minlength=sums.shape[1])
        for row, credit in enumerate(gained, start=1):
            sums[row] += np.bincount(key, weights=credit[compared], minlength=sums.shape[1])
    return sums.reshape(3, len(part.groups), bins)


def _gap_bin(sums: Floats, place: int, bins: int, scored: bool) -> GapBin:
    weight, people, scores = sums
    return GapBin(
        low=place / bins,
        high=(place + 1) / bins,
        people=Accuracy(correct=people, weight=weight, averaging="pairs"),
        scores=Accuracy(correct=scores, weight=weight, averaging="pairs") if scored else None,
    )
