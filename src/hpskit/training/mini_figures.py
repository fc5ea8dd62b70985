"""How good a mini is on prompts that it has not seen, beside how well people agree: the figures of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import expit

from hpskit.dataset.group import orders
from hpskit.stats import (
    Accuracy,
    Interval,
    annotator_agreement,
    bootstrap_accuracy,
    bootstrap_mean,
    calibration,
    leave_one_out_agreement,
    pair_accuracy,
    pair_votes,
)
from hpskit.stats.blocks import Floats
from hpskit.training.mini_data import Material

__all__ = ["judge", "rule_of"]

_BINS = 20
"""Of probabilities from 0 to 1; as every pair is counted both ways round, there are ten different ones."""


def rule_of(material: Material) -> str:
    """The named rule of the accuracy: that of the paper for its own test set, elsewhere ties count one half."""
    return "hpdv2" if material.data.format == "hpdv2-test" else "ties-half"


def judge(material: Material, scores: Sequence[Floats], copies: Mapping[str, Sequence[Floats]]) -> dict[str, Any]:
    """Everything that is said of held-out prompts; an interval is [value, low, high], 95 %, over prompts.

    Args:
        material: the people.
        scores: (images,) for each repeat of the cross-validation, log-odds.
        copies: kind of damage -> likewise, for the spoilt copies.

    Raises:
        InputError: there is nothing to compare.
    """
    votes = [replace(group, judgements=orders(group)).ranks() for group in material.groups]
    rule = rule_of(material)
    by_group = [[own[rows] for rows in material.rows] for own in scores]
    accuracies = [pair_accuracy(own, [group.verdicts() for group in material.groups], rule) for own in by_group]
    mean = replace(accuracies[0], correct=np.mean([accuracy.correct for accuracy in accuracies], axis=0))
    pairs = pair_votes(votes)
    differences = [pairs.differences(own) for own in by_group]
    predicted = np.mean([np.where(d > 0, pairs.share, 1 - pairs.share) for d in differences], axis=0)
    of_group = np.bincount(pairs.group, weights=predicted) / np.bincount(pairs.group)
    found = calibration(
        expit(np.concatenate(differences)),
        np.tile(pairs.share, len(scores)),
        np.tile(pairs.votes, len(scores)),
        bins=_BINS,
    )
    kept = {kind: np.mean([a > b for a, b in zip(scores, own, strict=True)]) for kind, own in copies.items()}
    return {
        "rule": rule,
        "accuracy": _rounded(bootstrap_accuracy(mean, clusters=material.prompt)),
        "votes": _rounded(bootstrap_mean(of_group, clusters=material.prompt)),
        "log_loss": round(found.log_loss, 4),
        "log_loss_of_votes_themselves": round(found.log_loss_floor, 4),
        "brier": round(found.brier, 4),
        "calibration_error": round(found.ece, 4),
        "original_beats_copy": {kind: round(float(share), 3) for kind, share in kept.items()},
        **_people(material, votes, rule, several=bool((pairs.votes > 1).any())),
    }


def _people(material: Material, votes: list[Floats], rule: str, *, several: bool) -> dict[str, list[float] | None]:
    """How well people predict people, by the same rule; None where every pair was judged by one alone."""
    if not several:
        return {"annotator_vs_annotator": None, "annotator_vs_others": None}

    def interval(accuracy: Accuracy) -> list[float]:
        return _rounded(bootstrap_accuracy(accuracy, clusters=material.prompt))

    return {
        "annotator_vs_annotator": interval(annotator_agreement(votes, rule=rule)),
        "annotator_vs_others": interval(leave_one_out_agreement(votes, rule=rule)),
    }


def _rounded(interval: Interval) -> list[float]:
    return [round(value, 4) for value in (interval.value, interval.low, interval.high)]
