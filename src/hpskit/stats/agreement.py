"""Agreement of people: the ceiling for any scorer, and a sign of whether there is anything to learn.

A ceiling is comparable with a scorer's accuracy only under the same rule and against the same thing: a scorer against
the mean of ten people competes with one person against the mean of the *other* nine.

`bootstrap_people` and `bootstrap_scores` ask what other prompts and other people would have said. Named annotators are
drawn as persons; without names judgements are drawn within each group. Intervals over prompts alone lack that the same
few persons recur: with 12 persons and 60 prompts, simulated 95 % intervals held the truth in some 40 % of the cases,
those with names in 92 to 97 %, and those without in 97 to 98 %, as they count the noise of judgements twice. Ten
judgements drawn with replacement are some six, so resampled figures lie too low: the interval is moved up.

Source of the intervals: Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, Unpack

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy, averaged_terms
from hpskit.stats.blocks import (
    Ballots,
    Flags,
    Floats,
    Index,
    Rows,
    ballots,
    cluster_labels,
    equal_blocks,
    read_scores,
    read_votes,
    require,
)
from hpskit.stats.intervals import Interval, Resampling, check_settings, percentiles, times_drawn
from hpskit.stats.rules import ACCURACY_RULES, PairRule, signs

PEOPLE_RULES = ("ties-half", "hpdv2", "imagereward")
"""Rules that make sense between people: the others need probabilities or look at the winner alone."""

PeopleMeasure: TypeAlias = Literal["annotator_vs_annotator", "leave_one_out", "inclusive"]
"""`annotator_agreement`, or `leave_one_out_agreement` without and with `inclusive`."""

_PEOPLE_DRAWS_AT_ONCE = 32

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


class PeopleResampling(Resampling, total=False):
    """Options of an interval over prompts and people."""

    annotators: Sequence[Sequence[Hashable]] | None
    """One name per judgement of each group, the same for the same person throughout; None if the data do not say who is
    who."""


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


def bootstrap_people(
    votes: Sequence[ArrayLike], measure: PeopleMeasure, *, rule: str = "ties-half", **options: Unpack[PeopleResampling]
) -> Interval:
    """Interval of an agreement of people over prompts and annotators, by one of `PEOPLE_RULES`.

    400 groups of 9 images and 10 judgements take some 2 seconds for 1,000 resamples.
    """
    chosen = people_rule(rule)
    tallies: dict[str, Callable[[Ballots, Floats], Tally]] = {
        "annotator_vs_annotator": lambda part, weights: against_each_other(part, weights, chosen),
        "leave_one_out": lambda part, weights: against_others(part, weights, chosen),
        "inclusive": lambda part, weights: against_others(part, weights, chosen, inclusive=True),
    }
    require(measure in tallies, "measure", measure, f"one of {', '.join(tallies)}")
    return _two_way(read_votes(votes), tallies[measure], chosen, **options)


def bootstrap_scores(
    scores: Sequence[ArrayLike],
    votes: Sequence[ArrayLike],
    *,
    rule: str = "ties-half",
    **options: Unpack[PeopleResampling],
) -> Interval:
    """Interval of the accuracy of scores against the mean of the votes, over prompts and annotators.

    The value differs from that of `pair_accuracy` where a data set publishes ranks of its own that break ties. `rule`
    is one of `PEOPLE_RULES`.
    """
    chosen = people_rule(rule)
    given = read_scores(scores)

    def tally(part: Ballots, weights: Floats) -> Tally:
        return scores_against_all(part, weights, chosen, given.stacked(part.groups))

    return _two_way(read_votes(votes, given), tally, chosen, **options)


def _two_way(
    votes: Rows,
    tally: Callable[[Ballots, Floats], Tally],
    rule: PairRule,
    annotators: Sequence[Sequence[Hashable]] | None = None,
    clusters: ArrayLike | None = None,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval over prompts and people, moved so that the mean of the resampled figures is the figure."""
    check_settings(resamples, level)
    persons = None if annotators is None else person_numbers(annotators, votes)
    measured = tally_once(votes, tally, rule)
    used = np.flatnonzero(measured.weight > 0)
    prompts = np.full(len(votes.shapes), -1)  # -1: nothing to compare, no part of the sample
    prompts[used] = np.unique(cluster_labels(clusters, len(prompts))[used], return_inverse=True)[1]
    total = int(prompts.max()) + 1
    if total < 2:
        raise InputError("prompts", f"are {total} with something to compare", expected="at least 2")
    rng = np.random.default_rng(seed)
    first_judgement = votes.shapes[:, 0].cumsum() - votes.shapes[:, 0]
    sums = np.zeros((2, resamples))
    for start in range(0, resamples, _PEOPLE_DRAWS_AT_ONCE):
        own = sums[:, start : start + _PEOPLE_DRAWS_AT_ONCE]
        draws = own.shape[1]
        drawn = np.pad(times_drawn(rng, draws, total), ((0, 0), (0, 1)))  # the last is for -1
        people = None if persons is None else times_drawn(rng, draws, int(persons.max()) + 1)
        for part in ballots(votes, draws):
            times = drawn[:, prompts[part.groups]].T
            judgements = part.ahead.shape[1]
            if persons is not None and people is not None:
                rows = first_judgement[part.groups][:, None] + np.arange(judgements)
                terms = averaged_terms(*tally(part, people[:, persons[rows]].transpose(1, 0, 2)), rule.averaging)
                own += [(term * times).sum(axis=0) for term in terms]
            elif times.any():  # each group as often as it was drawn: every copy gets judgements of its own
                place, draw = (np.repeat(index, times[times > 0].astype(np.intp)) for index in np.nonzero(times))
                copies = Ballots(
                    groups=part.groups[place], ahead=part.ahead[place], ranked=part.ranked[place], images=part.images
                )
                weights = times_drawn(rng, len(draw), judgements)[:, None]
                terms = averaged_terms(*tally(copies, weights), rule.averaging)
                own += [np.bincount(draw, weights=term[:, 0], minlength=draws) for term in terms]
    empty = sums[1] == 0  # nobody was left to be compared in that resample
    values = np.where(empty, np.nan, sums[0] / np.where(empty, 1, sums[1]))
    low, high, count = percentiles(values, level)
    bias = float(np.nanmean(values)) - measured.value
    ends = {"low": max(0.0, low - bias), "high": min(1.0, high - bias)}
    return Interval(value=measured.value, **ends, level=level, resamples=count)


def person_numbers(annotators: Sequence[Sequence[Hashable]], votes: Rows) -> Index:
    """Number the person of every judgement of all groups, (judgements,), from 0 in the order they appear."""
    if len(annotators) != len(votes.shapes):
        raise InputError("annotators", f"have {len(annotators)} groups", expected=f"{len(votes.shapes)}, as the votes")
    numbers: dict[Hashable, int] = {}
    for group, (names, judgements) in enumerate(zip(annotators, votes.shapes[:, 0].tolist(), strict=True)):
        if len(names) != judgements or len(set(names)) != len(names) or None in names:
            place, found = f"annotators: group {group}", f"has the names {list(names)}"
            cure = "leave annotators out if the data do not name the persons"
            raise InputError(place, found, expected=f"{judgements} different ones, one per judgement", cure=cure)
        for name in names:
            numbers.setdefault(name, len(numbers))
    return np.array([numbers[name] for names in annotators for name in names], dtype=np.intp)
