"""The result of an evaluation, put together from its parts: what `result.json` holds. Pure: no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hpskit.evaluation.breakdown import breakdowns, disagreements, pair_up
from hpskit.evaluation.groups import EvaluationSet
from hpskit.evaluation.judging import (
    Intervals,
    Settings,
    accuracy_of,
    calibration_of,
    correlation_of,
    cross_fitted_of,
)
from hpskit.evaluation.people import PUBLISHED, ceilings, published_for, test_set_of, two_way_of_scores
from hpskit.models.training_record import TrainingRecord
from hpskit.scoring.contract import Candidate
from hpskit.stats import kendall_tau_b, pair_accuracy, spearman
from hpskit.stats.blocks import Floats

__all__ = ["evaluate", "group_rows"]

Scores = Sequence[Floats]
"""(images,) for each group."""


def evaluate(
    data: EvaluationSet, candidates: Sequence[Candidate], scores: Sequence[Scores], settings: Settings
) -> dict[str, Any]:
    """Judge scores on the groups of a data set, ready for JSON; see docs/evaluation.md.

    Args:
        data: the groups.
        candidates: the scorers.
        scores: for each scorer, for each group, (images,).
        settings: rule, resamples, level and seed.

    Raises:
        InputError: people have compared nothing that the rule looks at.
    """
    rules = settings.rules()
    data.check_judged(rules[settings.rule])
    groups, intervals = data.groups, Intervals(clusters=data.clusters(), settings=settings)
    verdicts = [group.verdicts() for group in groups]
    pairs = pair_up(groups)
    test_set = test_set_of(data.data.format, settings.rule)
    odds = {candidate.label: _log_odds(candidate, own) for candidate, own in zip(candidates, scores, strict=True)}
    headline = {label: pair_accuracy(own, verdicts, rules[settings.rule]) for label, own in odds.items()}
    scorers, conflicts = [], {}
    for candidate, own in zip(candidates, scores, strict=True):
        label, info, log_odds = candidate.label, candidate.scorer.info, odds[candidate.label]
        probabilities = _probabilities(candidate, pairs.differences(own))
        # a threshold can be chosen for probabilities, and only where none was asked for
        free = settings.tie_threshold is None and candidate.scorer.log_odds_per_point
        scorers.append(
            {
                "label": label,
                "info": info.to_json(),
                "reads_prompt": candidate.scorer.reads_prompt,
                "training": _training(candidate.training, [group.prompt for group in groups]),
                "published": published_for(info.name, test_set),
                "accuracy": accuracy_of(log_odds, verdicts, intervals),
                "kendall_tau_b": correlation_of(kendall_tau_b(log_odds, verdicts), intervals),
                "spearman": correlation_of(spearman(log_odds, verdicts), intervals),
                "two_way": two_way_of_scores(own, groups, intervals),
                "pickapic": {
                    "tie_threshold": settings.tie_threshold or 0.0,
                    "cross_fitted": cross_fitted_of(log_odds, verdicts, intervals) if free else None,
                },
                "calibration": None if probabilities is None else calibration_of(pairs, probabilities),
            }
        )
        conflicts[label] = disagreements(pairs, groups, own)
        for case in conflicts[label]:
            chance = _probabilities(candidate, np.array([case["scorer_score"] - case["people_score"]]))
            case["probability"] = None if chance is None else float(chance[0])
    people = ceilings(groups, intervals, test_set)
    published = [
        {"name": row.name, "value": value, "people": row.people, "note": row.note}
        for row in PUBLISHED  # figures of people only where none were measured
        if test_set and (value := row.on(test_set)) is not None and not (people and row.people)
    ]
    return {
        "data": data.facts(),
        "pairs": len(pairs),
        "settings": {**asdict(settings), "resampled": "prompts"},
        "rules": {name: rule.definition for name, rule in rules.items()},
        "scorers": scorers,
        "people": people,
        "published": {"test_set": test_set, "rows": published},
        "differences": intervals.differences(headline),
        "breakdowns": breakdowns(pairs, groups, odds, intervals),
        "disagreements": conflicts,
    }


def group_rows(
    data: EvaluationSet, candidates: Sequence[Candidate], scores: Sequence[Scores], settings: Settings
) -> Iterator[dict[str, Any]]:
    """Yield a row for each group: what was compared, and the accuracy of each scorer under the rule of the settings."""
    verdicts = [group.verdicts() for group in data.groups]
    rule = settings.rules()[settings.rule]
    rows = list(zip(candidates, scores, strict=True))
    accuracies = {c.label: pair_accuracy(_log_odds(c, own), verdicts, rule) for c, own in rows}
    for number, group in enumerate(data.groups):
        yield {
            "place": group.place,
            "prompt": group.prompt,
            "images": group.images,
            "people": [[None if np.isnan(rank) else float(rank) for rank in row] for row in verdicts[number]],
            "scores": {candidate.label: own[number].tolist() for candidate, own in rows},
            "accuracy": {
                label: float(found.correct[number] / found.weight[number]) if found.weight[number] else None
                for label, found in accuracies.items()
            },
        }


def _log_odds(candidate: Candidate, scores: Scores) -> Scores:
    """Scores in log-odds if they have such a scale: the same order, and what the tie threshold needs."""
    factor = candidate.scorer.log_odds_per_point
    return [factor * own for own in scores] if factor else scores


def _training(record: TrainingRecord | None, prompts: Sequence[str]) -> dict[str, Any]:
    """Count the groups with a prompt that the scorer was trained on, and with one that it was chosen on."""
    if record is None:
        return {"known": False, "data": None, "seen": 0, "chosen_on": 0, "groups": len(prompts), "held_out": None}
    return {
        "known": True,
        "data": record.data,
        "seen": record.overlap(prompts),
        "chosen_on": record.choice_overlap(prompts),
        "groups": len(prompts),
        "held_out": record.held_out.model_dump() if record.held_out else None,
    }


def _probabilities(candidate: Candidate, differences: Floats) -> Floats | None:
    """Probability that the first image of each pair is preferred, (pairs,); None if the scorer has no such scale."""
    factor = candidate.scorer.log_odds_per_point
    return None if factor is None else np.asarray((1 + np.tanh(factor * differences / 2)) / 2)
