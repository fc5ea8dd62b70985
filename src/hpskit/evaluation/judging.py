"""Figures of scorers and of people against people, with intervals over prompts; pure, and ready for JSON.

One prompt alone has figures but no intervals: their ends are None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hpskit.dataset.group import Group
from hpskit.errors import InputError
from hpskit.evaluation.groups import OWN_RULE
from hpskit.stats.accuracy import Accuracy, pair_accuracy, pickapic_cross_fitted
from hpskit.stats.agreement import (
    PEOPLE_RULES,
    PeopleMeasure,
    annotator_agreement,
    bootstrap_people,
    bootstrap_scores,
    leave_one_out_agreement,
)
from hpskit.stats.blocks import Flags, Floats, Index, require
from hpskit.stats.calibration import PairVotes, calibration
from hpskit.stats.intervals import Interval, Resampling, bootstrap_accuracy, bootstrap_difference, bootstrap_mean
from hpskit.stats.rules import ACCURACY_RULES, AccuracyRule, pickapic_rule


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of figures and their intervals."""

    rule: str = "ties-half"
    """Named rule of the headline figures, of differences and of breakdowns."""
    tie_threshold: float | None = None
    """Tie threshold of the rule `pickapic`, see `hpskit.stats.rules.pickapic_rule`; None was not given and is 0."""
    persons: bool = False
    """Whether the same annotator name means the same person in all groups, so that persons can be resampled."""
    resamples: int = 10_000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.rule in ACCURACY_RULES, "rule", self.rule, f"one of {', '.join(ACCURACY_RULES)}")
        threshold = self.tie_threshold
        require(0 <= (threshold or 0) <= 1, "tie_threshold", threshold, "a difference of two probabilities, 0 to 1")
        require(100 <= self.resamples <= 1_000_000, "resamples", self.resamples, "100 to 1,000,000")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(0 < self.level < 1, "level", self.level, "a number between 0 and 1")

    def rules(self) -> Mapping[str, AccuracyRule]:
        """Every named rule, with the tie threshold in its place."""
        return {**ACCURACY_RULES, "pickapic": pickapic_rule(self.tie_threshold or 0)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """Intervals over the prompts of some groups."""

    clusters: Index
    """(groups,): see `EvaluationSet.clusters`."""
    settings: Settings

    def at(self, groups: Flags) -> Intervals:
        """Take some of the groups."""
        return Intervals(clusters=self.clusters[groups], settings=self.settings)

    def prompts(self, groups: Flags) -> int:
        """Count the prompts of some groups; intervals need two."""
        return len(np.unique(self.clusters[groups]))

    def options(self) -> Resampling:
        """Arguments of the functions of `hpskit.stats`."""
        own = self.settings
        return {"clusters": self.clusters, "resamples": own.resamples, "level": own.level, "seed": own.seed}

    def accuracy(self, accuracy: Accuracy) -> dict[str, float | None]:
        """Give `value`, `low` and `high` of an accuracy or agreement."""
        return self.around(accuracy.value, accuracy.weight > 0, partial(bootstrap_accuracy, accuracy))

    def mean(self, values: Floats) -> dict[str, float | None]:
        """Give `value`, `low` and `high` of the mean of what groups have, (groups,); NaN where they have none."""
        defined = ~np.isnan(values)
        return self.around(float(values[defined].mean()), defined, partial(bootstrap_mean, values))

    def around(self, value: float, groups: Flags, bootstrap: Callable[..., Interval]) -> dict[str, float | None]:
        """Give `value`, `low` and `high` of a figure of some groups; the ends are None if those have one prompt."""
        if self.prompts(groups) < 2:
            return {"value": value, "low": None, "high": None}
        found = bootstrap(**self.options())
        return {"value": found.value, "low": found.low, "high": found.high}

    def differences(self, accuracies: Mapping[str, Accuracy]) -> list[dict[str, Any]]:
        """Compare every two scorers on the same groups: difference, interval and p-value of a paired bootstrap."""
        rows: list[dict[str, Any]] = []
        for first, second in itertools.combinations(accuracies, 2):
            a, b = accuracies[first], accuracies[second]
            row: dict[str, Any] = {"value": a.value - b.value, "low": None, "high": None, "p_value": None}
            if self.prompts(a.weight > 0) > 1:
                found = bootstrap_difference(a, b, **self.options())
                row = {"value": found.value, "low": found.low, "high": found.high, "p_value": found.p_value}
            rows.append({"first": first, "second": second, "rule": self.settings.rule, **row})
        return rows


def accuracy_of(
    scores: Sequence[Floats], verdicts: Sequence[Floats], intervals: Intervals
) -> dict[str, dict[str, Any] | None]:
    """Measure the accuracy by every rule, with interval, averaging and n; None where a rule has nothing to compare.

    Args:
        scores: (images,) for each group, finite; log-odds if there is a tie threshold.
        verdicts: (rows, images) for each group, see `Group.verdicts`.
        intervals: of the same groups.
    """
    result: dict[str, dict[str, Any] | None] = {}
    for name, rule in intervals.settings.rules().items():
        try:
            accuracy = pair_accuracy(scores, verdicts, rule)
        except InputError:  # scores and ranks are sound: all is tied
            result[name] = None
            continue
        counts = {"averaging": accuracy.averaging, "groups": accuracy.groups, "pairs": accuracy.pairs}
        result[name] = {**intervals.accuracy(accuracy), **counts}
    return result


def cross_fitted_of(
    scores: Sequence[Floats], verdicts: Sequence[Floats], intervals: Intervals
) -> dict[str, Any] | None:
    """Measure the accuracy by `pickapic` at tie thresholds chosen on other prompts, for scores that are log-odds.

    None if fewer than two prompts can be compared.
    """
    clusters, seed = intervals.clusters, intervals.settings.seed
    try:
        accuracy, thresholds = pickapic_cross_fitted(scores, verdicts, clusters=clusters, seed=seed)
    except InputError:  # scores and people are sound: there are no other prompts to choose on
        return None
    return {"tie_thresholds": list(thresholds), **intervals.accuracy(accuracy)}


def correlation_of(values: Floats, intervals: Intervals) -> dict[str, Any] | None:
    """Average rank correlations, (groups,), over the groups where they are defined; None if they are nowhere."""
    count = int(np.count_nonzero(~np.isnan(values)))
    return {**intervals.mean(values), "groups": count} if count else None


def calibration_of(pairs: PairVotes, probabilities: Floats) -> dict[str, Any]:
    """Measure how well P(first preferred to second), (pairs,), fits the votes.

    Floors are what the vote shares themselves would reach.
    """
    found = calibration(probabilities, pairs.share, weights=pairs.votes)
    return {
        "brier": found.brier,
        "brier_floor": found.brier_floor,
        "ece": found.ece,
        "log_loss": found.log_loss if np.isfinite(found.log_loss) else None,  # JSON has no infinity
        "log_loss_floor": found.log_loss_floor,
        "pairs": len(pairs),
        "bins": [
            {
                "low": part.low,
                "high": part.high,
                "probability": part.mean_probability,
                "share": part.mean_share,
                "pairs": part.count,
            }
            for part in found.bins
        ],
    }


# People beside scorers, and what papers report

GAP_BINS = 5
"""Parts of equal width into which quality gaps are put; more would have too few pairs at the far end."""
_TWO_WAY_RESAMPLES = 1_000
"""Resamples at most: one that draws people costs as much as measuring anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """Figures that papers report of one model, in percent; None where nothing was found."""

    name: str
    hpdv2: float | None
    """Accuracy on the test set of HPD v2, under the rule `hpdv2`."""
    imagereward: float | None
    """Accuracy on the test set of ImageReward, under the rule `imagereward`."""
    scorer: str | None = None
    """Name under which hpskit loads the same model, if it does."""
    people: bool = False
    note: str = ""

    def on(self, test_set: str) -> float | None:
        """Look up the figure for a name of `TEST_SETS`."""
        return self.hpdv2 if test_set == "hpdv2-test" else self.imagereward


TEST_SETS = {
    "hpdv2-test": "HPD v2 test set (400 prompts, rule hpdv2)",
    "imagereward": "ImageReward test set (rule imagereward)",
}
"""Layout of the data -> the test set that was published in it, and the rule that its figures follow."""

_AGAINST_ANOTHER = "single human, against another"
_AGAINST_ALL = "single human, against the averaged ranking"

PUBLISHED = (
    Published(name=_AGAINST_ANOTHER, hpdv2=78.1, imagereward=65.3, people=True),
    Published(name=_AGAINST_ALL, hpdv2=85.0, imagereward=53.9, people=True, note="known from notes on the paper only"),
    Published(name="CLIP ViT-H/14", scorer="clip-score", hpdv2=65.1, imagereward=57.1),
    Published(name="Aesthetic predictor", scorer="aesthetic", hpdv2=76.8, imagereward=57.4),
    Published(name="ImageReward", scorer="imagereward", hpdv2=74.0, imagereward=65.1),
    Published(name="HPS v1", scorer="hps-v1", hpdv2=77.6, imagereward=61.2),
    Published(name="PickScore", scorer="pickscore", hpdv2=79.8, imagereward=62.9),
    Published(name="HPS v2", scorer="hps-v2.0", hpdv2=83.3, imagereward=65.7),
    Published(name="HPS v2.1", scorer="hps-v2.1", hpdv2=84.1, imagereward=66.8),
    Published(name="MPS", scorer="mps", hpdv2=83.5, imagereward=67.5),
    Published(name="HPSv3", hpdv2=85.4, imagereward=66.8),
)
"""Accuracies that papers report. They are quoted, not checked.

Source: Wu et al. 2023 (arXiv 2306.09341), table of preference prediction, and the repositories and papers of HPS v2.1,
MPS and HPSv3."""


def test_set_of(layout: str, rule: str) -> str | None:
    """Name the test set whose published figures may stand beside data in this layout under this rule, or None.

    Nobody can tell from a layout whether the data are those of the paper: the figures carry the test set's name.
    """
    return layout if layout in TEST_SETS and OWN_RULE[layout] == rule else None


def published_for(scorer: str, test_set: str | None) -> float | None:
    """Look up the published percentage of a scorer that hpskit loads by name, or None."""
    return next((row.on(test_set) for row in PUBLISHED if test_set and row.scorer == scorer), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """One way to ask how well people predict people."""

    key: PeopleMeasure
    name: str
    """Name in tables."""
    published: str | None = None
    """Row of `PUBLISHED` that means the same."""

    def measure(self, votes: Sequence[Floats], rule: str) -> Accuracy:
        """Measure it on groups that at least two people have judged."""
        if self.key == "annotator_vs_annotator":
            return annotator_agreement(votes, rule=rule)
        return leave_one_out_agreement(votes, inclusive=self.key == "inclusive", rule=rule)


CEILINGS = (
    Ceiling(key="annotator_vs_annotator", name="annotator vs annotator", published=_AGAINST_ANOTHER),
    Ceiling(key="leave_one_out", name="annotator vs mean of the others"),
    Ceiling(key="inclusive", name="annotator vs mean of all, self included", published=_AGAINST_ALL),
)


def judged_twice(groups: Sequence[Group], intervals: Intervals) -> tuple[list[int], Intervals]:
    """Find the groups of which at least two judgements are known: their numbers, and intervals over them."""
    kept = np.array([sum(judgement.votes for judgement in group.judgements) > 1 for group in groups], dtype=bool)
    return np.flatnonzero(kept).tolist(), intervals.at(kept)


def places(group: Group) -> Floats:
    """(judgements, images): `Group.ranks` with the gaps closed, so that no two of n images are n or more apart.

    The first of a judgement gets 1; ties share the better place; NaN was not ranked.
    """
    ranks = group.ranks()
    ahead = (ranks[:, None, :] < ranks[:, :, None]).sum(axis=2)
    return np.where(np.isnan(ranks), np.nan, 1 + ahead)


def ceilings(groups: Sequence[Group], intervals: Intervals, test_set: str | None) -> list[dict[str, Any]]:
    """List the rows of people: value, interval, rule, n and the published figure; empty without judgements."""
    kept, over = judged_twice(groups, intervals)
    votes, rule = [places(groups[number]) for number in kept], _people_rule(intervals.settings)
    rows = []
    for ceiling in CEILINGS if kept else ():
        try:
            accuracy = ceiling.measure(votes, rule)
        except InputError:  # no two people ranked the same pair, or all pairs are tied
            continue
        quoted = [row.on(test_set) for row in PUBLISHED if test_set and row.name == ceiling.published]
        rows.append(
            {
                "key": ceiling.key,
                "name": ceiling.name,
                "rule": rule,
                **over.accuracy(accuracy),
                "groups": accuracy.groups,
                "published": quoted[0] if quoted else None,
            }
        )
    return rows


def two_way_of_people(ceiling: Ceiling, groups: Sequence[Group], intervals: Intervals) -> dict[str, Any]:
    """Measure a ceiling with an interval over prompts and people, for groups that were judged twice.

    Raises:
        InputError: nothing can be compared; or persons are to be resampled and a judgement has no name.
    """
    votes, rule = [places(group) for group in groups], _people_rule(intervals.settings)
    resample = partial(bootstrap_people, votes, ceiling.key, rule=rule)
    return {"key": ceiling.key, "rule": rule, **_two_way(resample, ceiling.measure(votes, rule), groups, intervals)}


def two_way_of_scores(scores: Sequence[Floats], groups: Sequence[Group], intervals: Intervals) -> dict[str, Any] | None:
    """Measure scores against the mean of the single judgements, with an interval over prompts and people.

    None if no group has two judgements, or the rule finds nothing to compare in those. The value is the accuracy itself
    under the rules for people where a data set publishes no order of its own.

    Raises:
        InputError: persons are to be resampled and a judgement has no name.
    """
    kept, over = judged_twice(groups, intervals)
    own, panels = [scores[number] for number in kept], [groups[number] for number in kept]
    votes, rule = [group.ranks() for group in panels], _people_rule(intervals.settings)
    try:
        accuracy = pair_accuracy(own, votes, rule)
    except InputError:  # scores and votes are sound: there are no such groups, or all is tied
        return None
    resample = partial(bootstrap_scores, own, votes, rule=rule)
    return {"rule": rule, **_two_way(resample, accuracy, panels, over)}


def _people_rule(settings: Settings) -> str:
    """Rule of the settings where it makes sense for people, who give ranks and no scores; else `ties-half`."""
    return settings.rule if settings.rule in PEOPLE_RULES else "ties-half"


def _two_way(
    resample: Callable[..., Interval], accuracy: Accuracy, groups: Sequence[Group], intervals: Intervals
) -> dict[str, Any]:
    settings = intervals.settings
    annotators = [_names(group) for group in groups] if settings.persons else None
    if intervals.prompts(accuracy.weight > 0) < 2:
        return {"value": accuracy.value, "low": None, "high": None, "groups": accuracy.groups, "resamples": 0}
    resamples = min(settings.resamples, _TWO_WAY_RESAMPLES)
    found = resample(**{**intervals.options(), "annotators": annotators, "resamples": resamples})
    ends = {"low": found.low, "high": found.high}
    return {"value": found.value, **ends, "groups": accuracy.groups, "resamples": found.resamples}


def _names(group: Group) -> tuple[str, ...]:
    """(judgements,): names of the annotators in the order of `Group.ranks`."""
    own = [judgement.annotator for judgement in group.judgements for _ in range(judgement.votes)]
    named = tuple(name for name in own if name is not None)
    if len(set(named)) != len(own):
        cure = "leave --persons out; judgements are then resampled within each group"
        expected = "a name for each judgement, all different"
        raise InputError(group.place, f"has the annotators {own}", expected=expected, cure=cure)
    return named
