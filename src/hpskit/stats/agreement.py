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

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Unpack

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
    pair_indices,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class RankAgreement(Interval):
    """Agreement of rankings, -1 to 1, 0 by chance; the ends are NaN for a single prompt, which has no interval."""

    pairs: int
    """Pairs of judgements compared."""


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


def rank_agreement(
    votes: Sequence[ArrayLike],
    annotators: Sequence[Sequence[Hashable]] | None = None,
    *,
    measure: Literal["tau", "rho"] = "tau",
    clusters: ArrayLike | None = None,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> RankAgreement:
    """Measure agreement of rankings, corrected for chance, for any number of people, with ties and partial rankings.

    Every two judgements of a group are compared on the images that both ranked: 1 is the same order, 0 what rankings at
    random give, -1 the reverse. Two that share no two images with an order on both sides are no pair.

    - `tau`: mean of Kendall's tau-b over all pairs. Of two people and one group it is tau-b; of m complete rankings
      without ties it is the coefficient u of Kendall & Babington Smith 1940.
    - `rho`: sum of the covariances of mean ranks over that of the mean variances. For m complete rankings of a group it
      is (m W - 1) / (m - 1), where W is Kendall's coefficient of concordance with its correction for ties.

    The interval is a bootstrap over prompts, which is widened by what people add if `annotators` name who judged: the
    variances of prompts, people and judgements are estimated by the method of moments (Henderson 1953, Biometrics 9),
    with Student's quantiles. Without names it is over prompts alone, and too narrow where few people judge all. In
    1,000 simulations each of 12 to 60 people of unequal noise, 95 % intervals held the truth in 93 to 96 % of the
    cases. Those of a bootstrap of people, as in `bootstrap_people`, held it in 91 to 100 %: it counts the noise of a
    comparison thrice.

    Raises:
        InputError: no two judgements can be compared, or votes and names do not fit together.
    """
    require(measure in ("tau", "rho"), "measure", measure, "tau or rho")
    check_settings(resamples, level)
    judged = read_votes(votes)
    counts = judged.shapes[:, 0]
    persons = np.arange(counts.sum()) if annotators is None else person_numbers(annotators, judged)
    columns = [np.concatenate(parts) for parts in zip(*_rank_pairs(judged, persons, measure), strict=True)]
    if not columns or not len(columns[0]):
        raise InputError("votes", f"have no two judgements to compare, in {len(counts)} groups")
    group, first, second, agreed, possible = columns
    prompt = np.unique(cluster_labels(clusters, len(counts))[group], return_inverse=True)[1]
    value = float(agreed.sum() / possible.sum())
    if prompt.max() < 1:
        low, high, used = np.nan, np.nan, 0
    else:
        rng = np.random.default_rng(seed)
        values = np.empty(resamples)
        sums = np.stack([np.bincount(prompt, weights=weights) for weights in (agreed, possible)], axis=1)
        for start in range(0, resamples, _PEOPLE_DRAWS_AT_ONCE):
            part = values[start : start + _PEOPLE_DRAWS_AT_ONCE]
            drawn = times_drawn(rng, len(part), len(sums)) @ sums
            part[:] = drawn[:, 0] / drawn[:, 1]
        residuals = agreed - value * possible
        people = None if annotators is None else (first, second)
        values = value + (values - values.mean()) * _widening(residuals, possible, prompt, people, level)
        low, high, used = percentiles(np.clip(values, -1, 1), level)
    return RankAgreement(value=value, low=low, high=high, level=level, resamples=used, pairs=len(group))


def _widening(
    residuals: Floats, possible: Floats, prompt: Index, people: tuple[Index, Index] | None, level: float
) -> float:
    """Ratio of an interval over prompts and people to the normal one over prompts alone.

    Every comparison is a mean, plus effects of the prompt, of two people, of their two judgements, and of its own. Four
    sums of squares, each of the sums of residuals of one kind, have known expectations in the variances of these.
    """
    from scipy.stats import norm, t

    def sums(levels: Index, weights: Floats) -> Floats:
        """Sum over the comparisons of each level; an effect of both people has the levels of one, then the other."""
        return np.bincount(levels, weights=np.tile(weights, len(levels) // len(weights))).astype(np.float64)

    prompts, side = int(prompt.max()) + 1, (1 + level) / 2
    of_prompts = float(np.square(sums(prompt, residuals)).sum())
    if of_prompts == 0:
        return 1.0
    total, degrees = of_prompts * prompts / (prompts - 1), prompts - 1.0
    if people is not None:
        either = np.unique(np.concatenate(people), return_inverse=True)[1]
        judgement = np.unique(either * prompts + np.tile(prompt, 2), return_inverse=True)[1]
        effects = [prompt, either, judgement, np.arange(len(residuals))]
        squares = [float(np.square(sums(effect, residuals)).sum()) for effect in effects]
        expected = [[_expected(one, other, possible) for other in effects] for one in effects]
        variances = np.maximum(np.linalg.lstsq(np.array(expected), np.array(squares), rcond=None)[0], 0)
        parts = [float(v * np.square(sums(e, possible)).sum()) for v, e in zip(variances, effects, strict=True)]
        if sum(parts) > total:
            total = sum(parts)
            rest = (total - parts[1]) ** 2 / degrees
            degrees = total**2 / (parts[1] ** 2 / max(int(either.max()), 1) + rest)
    return float(np.sqrt(total / of_prompts) * t.ppf(side, degrees) / norm.ppf(side))


def _expected(one: Index, other: Index, possible: Floats) -> float:
    """Expected sum of squares by the levels of `one` for an effect `other` of variance 1, less the common mean.

    S is how much each two levels have in common, u and v how much each of them has; this is |S - u v' / sum(u)|^2.
    """
    size, both = len(possible), max(len(one), len(other))
    rows, columns = (np.tile(levels, both // len(levels)) for levels in (one, other))
    if len(one) == len(other) > size:  # both people of one against both of the other
        rows, columns = np.tile(rows, 2), np.concatenate([columns, columns[size:], columns[:size]])
    width = int(columns.max()) + 1
    key, place = np.unique(rows * width + columns, return_inverse=True)
    common = np.bincount(place, weights=np.tile(possible, len(rows) // size))
    u, v = (np.bincount(levels, weights=np.tile(possible, len(levels) // size)) for levels in (one, other))
    total = possible.sum()
    crossed = (u[key // width] * common * v[key % width]).sum()
    return float(np.square(common).sum() - 2 * crossed / total + np.square(u).sum() * np.square(v).sum() / total**2)


def _rank_pairs(judged: Rows, persons: Index, measure: str) -> Iterator[tuple[Any, ...]]:
    """Yield group, two persons, agreement and the most it can be, for every two judgements of a group."""
    starts = judged.shapes[:, 0].cumsum() - judged.shapes[:, 0]
    for part in ballots(judged, 4):
        people = part.ahead.shape[1]
        a, b = np.triu_indices(people, k=1)
        ranked, ahead = part.ranked.astype(np.float64), np.sign(part.ahead)
        if measure == "tau":
            own = np.abs(ahead) @ ranked.transpose(0, 2, 1)  # pairs that the first orders and the second ranked
            scale = np.sqrt(own * own.transpose(0, 2, 1))
            agreed = np.divide(ahead @ ahead.transpose(0, 2, 1), scale, out=np.zeros_like(scale), where=scale > 0)
            agreed, possible = agreed[:, a, b], (scale[:, a, b] > 0).astype(np.float64)
        else:
            agreed, possible = np.zeros((2, len(part.groups), len(a)))
            sides = np.zeros((part.images, ahead.shape[2]))  # mean rank of an image: half the sum of its signs
            for row, sign in zip(pair_indices(part.images), (-1, 1), strict=True):
                sides[row, np.arange(ahead.shape[2])] = sign / 2
            for place, (one, other) in enumerate(zip(a, b, strict=True)):
                both = ranked[:, one] * ranked[:, other]
                x, y = (ahead[:, person] * both @ sides.T for person in (one, other))
                agreed[:, place], possible[:, place] = (x * y).sum(axis=1), (x * x + y * y).sum(axis=1) / 2
            largest = (part.images**3 - part.images) / 12  # groups count alike, whatever their size
            agreed, possible = agreed / largest, possible / largest
        rows, columns = np.nonzero(possible)
        judges = starts[part.groups][rows]
        numbers = persons[judges + a[columns]], persons[judges + b[columns]]
        yield part.groups[rows], *numbers, agreed[rows, columns], possible[rows, columns]


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
