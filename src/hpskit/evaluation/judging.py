"""Figures of scores against people, with intervals over prompts; pure, and ready for JSON.

One prompt alone has figures but no intervals: their ends are None.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy, pair_accuracy, pickapic_cross_fitted
from hpskit.stats.blocks import Flags, Floats, require
from hpskit.stats.calibration import PairVotes, calibration
from hpskit.stats.intervals import Resampling, bootstrap_accuracy, bootstrap_difference, bootstrap_mean
from hpskit.stats.rules import ACCURACY_RULES, AccuracyRule, pickapic_rule

__all__ = ["OWN_RULE", "Intervals", "Settings", "accuracy_of", "calibration_of", "correlation_of", "cross_fitted_of"]

OWN_RULE = {"hpdv2-test": "hpdv2", "imagereward": "imagereward", "pickapic": "pickapic"}
"""The rule of each data set's own paper, by layout. Elsewhere ties count one half: `hpdv2` gives a tied score to the
image that is listed first, which in many layouts of pairs is always the preferred one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How figures and their intervals are made."""

    rule: str = "ties-half"
    """Named rule of the headline figures, of differences and of breakdowns."""
    tie_threshold: float | None = None
    """Tie threshold of the rule `pickapic`, see `hpskit.stats.pickapic_rule`; None was not given and is 0."""
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

    clusters: NDArray[np.int64]
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
        if self.prompts(accuracy.weight > 0) < 2:
            return {"value": accuracy.value, "low": None, "high": None}
        found = bootstrap_accuracy(accuracy, **self.options())
        return {"value": found.value, "low": found.low, "high": found.high}

    def mean(self, values: Floats) -> dict[str, float | None]:
        """Give `value`, `low` and `high` of the mean of what groups have, (groups,); NaN where they have none."""
        defined = ~np.isnan(values)
        if self.prompts(defined) < 2:
            return {"value": float(values[defined].mean()), "low": None, "high": None}
        found = bootstrap_mean(values, **self.options())
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
