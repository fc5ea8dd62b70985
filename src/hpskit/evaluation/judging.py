"""Scores against people: accuracy by every named rule, correlation, calibration, differences. Pure: no files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.errors import InputError
from hpskit.stats import (
    ACCURACY_RULES,
    Accuracy,
    AccuracyRule,
    PairVotes,
    bootstrap_accuracy,
    bootstrap_difference,
    bootstrap_mean,
    calibration,
    kendall_tau_b,
    pair_accuracy,
    pickapic_cross_fitted,
    pickapic_rule,
    spearman,
)

__all__ = [
    "Settings",
    "accuracy_of",
    "calibration_of",
    "can_be_resampled",
    "correlation_of",
    "cross_fitted_of",
    "differences_of",
    "interval_of",
]

Floats = NDArray[np.float64]
Clusters = NDArray[np.int64]
"""(groups,): see `EvaluationSet.clusters`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How figures and their intervals are made."""

    rule: str = "hpdv2"
    """Named rule of the headline figures, of differences and of breakdowns."""
    tie_threshold: float | None = None
    """Of the rule `pickapic`, see `hpskit.stats.pickapic_rule`; None was not given and is 0."""
    persons: bool = False
    """Whether the same annotator name means the same person in all groups, so that persons can be resampled."""
    resamples: int = 10_000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rule not in ACCURACY_RULES:
            raise InputError(f"rule: is {self.rule!r}, expected one of {', '.join(ACCURACY_RULES)}")
        if self.tie_threshold is not None and not 0 <= self.tie_threshold <= 1:
            expected = "expected a difference of two probabilities, 0 to 1"
            raise InputError(f"tie_threshold: is {self.tie_threshold!r}, {expected}")
        if self.resamples < 100:
            raise InputError(f"resamples: is {self.resamples}, expected at least 100")
        if self.seed < 0:
            raise InputError(f"seed: is {self.seed}, expected 0 or more")
        if not 0 < self.level < 1:
            raise InputError(f"level: is {self.level}, expected a number between 0 and 1")

    def rules(self) -> Mapping[str, AccuracyRule]:
        """Every named rule, with the tie threshold in its place."""
        return {**ACCURACY_RULES, "pickapic": pickapic_rule(self.tie_threshold or 0)}


def interval_of(accuracy: Accuracy, clusters: Clusters, settings: Settings) -> dict[str, Any]:
    """Value with its bootstrap interval over prompts, ready for JSON; one prompt has no interval (None)."""
    if not can_be_resampled(accuracy.weight > 0, clusters):
        return {"value": accuracy.value, "low": None, "high": None}
    found = bootstrap_accuracy(
        accuracy, clusters=clusters, resamples=settings.resamples, level=settings.level, seed=settings.seed
    )
    return {"value": found.value, "low": found.low, "high": found.high}


def accuracy_of(
    scores: Sequence[Floats], people: Sequence[Floats], clusters: Clusters, settings: Settings
) -> dict[str, dict[str, Any] | None]:
    """Rule -> accuracy with interval, how it is averaged, and its n; None where a rule finds nothing to compare.

    Args:
        scores: (images,) for each group; log-odds if there is a tie threshold.
        people: (rows, images) for each group, see `Group.verdicts`.
        clusters: (groups,), see `EvaluationSet.clusters`.
        settings: rule and resampling.

    Raises:
        InputError: the rule of the settings finds nothing to compare.
    """
    pair_accuracy(scores, people, settings.rule)
    result: dict[str, dict[str, Any] | None] = {}
    for name, rule in settings.rules().items():
        try:
            accuracy = pair_accuracy(scores, people, rule)
        except InputError:  # scores and ranks are sound, or the line above would have said so: all is tied
            result[name] = None
            continue
        result[name] = {
            **interval_of(accuracy, clusters, settings),
            "averaging": accuracy.averaging,
            "groups": accuracy.groups,
            "pairs": accuracy.pairs,
        }
    return result


def cross_fitted_of(
    scores: Sequence[Floats], people: Sequence[Floats], clusters: Clusters, settings: Settings
) -> dict[str, Any] | None:
    """Accuracy by `pickapic` at tie thresholds chosen on other prompts, for scores that are log-odds and where no
    threshold is given; None if fewer than two prompts can be compared."""
    try:
        accuracy, thresholds = pickapic_cross_fitted(scores, people, clusters=clusters, seed=settings.seed)
    except InputError:  # scores and people are sound: there are no other prompts to choose on
        return None
    return {"tie_thresholds": list(thresholds), **interval_of(accuracy, clusters, settings)}


def differences_of(
    accuracies: Sequence[tuple[str, Accuracy]], clusters: Clusters, settings: Settings
) -> list[dict[str, Any]]:
    """Every pair of scorers on the same groups: difference, interval and p-value of a paired bootstrap."""
    return [
        {"first": first, "second": second, "rule": settings.rule, **_difference(a, b, clusters, settings)}
        for (first, a), (second, b) in itertools.combinations(accuracies, 2)
    ]


def _difference(a: Accuracy, b: Accuracy, clusters: Clusters, settings: Settings) -> dict[str, float | None]:
    if not can_be_resampled(a.weight > 0, clusters):
        return {"value": a.value - b.value, "low": None, "high": None, "p_value": None}
    found = bootstrap_difference(
        a, b, clusters=clusters, resamples=settings.resamples, level=settings.level, seed=settings.seed
    )
    return {"value": found.value, "low": found.low, "high": found.high, "p_value": found.p_value}


def correlation_of(
    name: str, scores: Sequence[Floats], people: Sequence[Floats], clusters: Clusters, settings: Settings
) -> dict[str, Any] | None:
    """Mean over the groups where it is defined, with interval; None if it is nowhere."""
    values = {"kendall_tau_b": kendall_tau_b, "spearman": spearman}[name](scores, people)
    defined = ~np.isnan(values)
    count = int(np.count_nonzero(defined))
    if not count:
        return None
    if not can_be_resampled(defined, clusters):
        return {"value": float(values[defined].mean()), "low": None, "high": None, "groups": count}
    found = bootstrap_mean(
        values, clusters=clusters, resamples=settings.resamples, level=settings.level, seed=settings.seed
    )
    return {"value": found.value, "low": found.low, "high": found.high, "groups": count}


def can_be_resampled(used: NDArray[np.bool_], clusters: Clusters) -> bool:
    """Whether the groups that count are of two prompts or more."""
    return len(np.unique(clusters[used])) > 1


def calibration_of(pairs: PairVotes, probabilities: Floats) -> dict[str, Any]:
    """Brier score, expected calibration error, log loss and reliability bins of P(first preferred to second), with
    the votes as weights. Floors are what the vote shares themselves would reach."""
    found = calibration(probabilities, pairs.share, weights=pairs.votes)
    bins = [
        {
            "low": part.low,
            "high": part.high,
            "probability": part.mean_probability,
            "share": part.mean_share,
            "pairs": part.count,
        }
        for part in found.bins
    ]
    return {
        "brier": found.brier,
        "brier_floor": found.brier_floor,
        "ece": found.ece,
        "log_loss": found.log_loss if np.isfinite(found.log_loss) else None,  # JSON has no infinity
        "log_loss_floor": found.log_loss_floor,
        "pairs": len(pairs),
        "bins": bins,
    }
