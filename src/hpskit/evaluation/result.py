"""The result of an evaluation, put together from its parts: what `result.json` holds. Pure: no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.evaluation.breakdown import breakdowns
from hpskit.evaluation.disagreement import disagreements
from hpskit.evaluation.groups import EvaluationSet
from hpskit.evaluation.judging import (
    Settings,
    accuracy_of,
    calibration_of,
    correlation_of,
    cross_fitted_of,
    differences_of,
)
from hpskit.evaluation.pairs import pair_up
from hpskit.evaluation.people import ceilings, two_way_of_scores
from hpskit.evaluation.published import PUBLISHED, published_for, test_set_of
from hpskit.models.training_record import TrainingRecord
from hpskit.scoring.contract import Candidate
from hpskit.stats import PairVotes, pair_accuracy

__all__ = ["evaluate", "group_rows"]

Scores = Sequence[NDArray[np.float64]]
"""(images,) for each group."""


def evaluate(
    data: EvaluationSet, candidates: Sequence[Candidate], scores: Sequence[Scores], settings: Settings
) -> dict[str, Any]:
    """Everything that is to be said of these scores on these groups, ready for JSON; see docs/evaluation.md.

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
    groups, clusters = data.groups, data.clusters()
    verdicts = [group.verdicts() for group in groups]
    pairs = pair_up(groups)
    by_label = {candidate.label: own for candidate, own in zip(candidates, scores, strict=True)}
    odds = {candidate.label: _log_odds(candidate, by_label[candidate.label]) for candidate in candidates}
    test_set = test_set_of(data.data.format, settings.rule)
    headline = [(label, pair_accuracy(own, verdicts, rules[settings.rule])) for label, own in odds.items()]
    people = ceilings(groups, clusters, settings, test_set)
    return {
        "data": data.facts(),
        "pairs": len(pairs),
        "settings": {**asdict(settings), "resampled": "prompts"},
        "rules": {name: rule.definition for name, rule in rules.items()},
        "scorers": [
            {
                **_about(candidate, data, test_set),
                **_figures(odds[candidate.label], verdicts, clusters, settings),
                "two_way": two_way_of_scores(by_label[candidate.label], groups, clusters, settings),
                "pickapic": _pickapic(candidate, odds[candidate.label], verdicts, clusters, settings),
                "calibration": _calibration(candidate, pairs, by_label[candidate.label]),
            }
            for candidate in candidates
        ],
        "people": people,
        "published": {"test_set": test_set, "rows": _published(test_set, without_people=bool(people))},
        "differences": differences_of(headline, clusters, settings),
        "breakdowns": breakdowns(pairs, groups, odds, clusters, settings),
        "disagreements": {
            candidate.label: [
                {**case, "probability": _chance(candidate, case["scorer_score"] - case["people_score"])}
                for case in disagreements(pairs, groups, by_label[candidate.label])
            ]
            for candidate in candidates
        },
    }


def group_rows(
    data: EvaluationSet, candidates: Sequence[Candidate], scores: Sequence[Scores], settings: Settings
) -> Iterator[dict[str, Any]]:
    """One row for each group: what was compared, and the accuracy of each scorer under the rule of the settings."""
    verdicts = [group.verdicts() for group in data.groups]
    odds = [_log_odds(candidate, own) for candidate, own in zip(candidates, scores, strict=True)]
    accuracies = [pair_accuracy(own, verdicts, settings.rules()[settings.rule]) for own in odds]
    for number, group in enumerate(data.groups):
        yield {
            "place": group.place,
            "prompt": group.prompt,
            "images": group.images,
            "people": [[None if np.isnan(rank) else float(rank) for rank in row] for row in verdicts[number]],
            "scores": {c.label: own[number].tolist() for c, own in zip(candidates, scores, strict=True)},
            "accuracy": {
                c.label: float(a.correct[number] / a.weight[number]) if a.weight[number] else None
                for c, a in zip(candidates, accuracies, strict=True)
            },
        }


def _published(test_set: str | None, *, without_people: bool) -> list[dict[str, Any]]:
    """The quoted figures of a test set; those of people only where none were measured."""
    return [
        {"name": row.name, "value": value, "people": row.people, "note": row.note}
        for row in PUBLISHED
        if test_set and (value := row.on(test_set)) is not None and not (without_people and row.people)
    ]


def _about(candidate: Candidate, data: EvaluationSet, test_set: str | None) -> dict[str, Any]:
    info = candidate.scorer.info
    return {
        "label": candidate.label,
        "info": info.to_json(),
        "reads_prompt": candidate.scorer.reads_prompt,
        "training": _training(candidate.training, data),
        "published": published_for(info.name, test_set),
    }


def _figures(
    scores: Scores, verdicts: Sequence[NDArray[np.float64]], clusters: NDArray[np.int64], settings: Settings
) -> dict[str, Any]:
    return {
        "accuracy": accuracy_of(scores, verdicts, clusters, settings),
        "kendall_tau_b": correlation_of("kendall_tau_b", scores, verdicts, clusters, settings),
        "spearman": correlation_of("spearman", scores, verdicts, clusters, settings),
    }


def _log_odds(candidate: Candidate, scores: Scores) -> Scores:
    """The scores, in log-odds if they have such a scale: the same order, and what the tie threshold needs."""
    factor = candidate.scorer.log_odds_per_point
    return [factor * own for own in scores] if factor else scores


def _pickapic(
    candidate: Candidate,
    scores: Scores,
    verdicts: Sequence[NDArray[np.float64]],
    clusters: NDArray[np.int64],
    settings: Settings,
) -> dict[str, Any]:
    """The tie threshold that was used, and what thresholds chosen on other prompts give if none was asked for."""
    free = settings.tie_threshold is None and candidate.scorer.log_odds_per_point
    return {
        "tie_threshold": settings.tie_threshold or 0.0,
        "cross_fitted": cross_fitted_of(scores, verdicts, clusters, settings) if free else None,
    }


def _calibration(candidate: Candidate, pairs: PairVotes, scores: Scores) -> dict[str, Any] | None:
    probabilities = _probabilities(candidate, pairs.differences(scores))
    return None if probabilities is None else calibration_of(pairs, probabilities)


def _training(record: TrainingRecord | None, data: EvaluationSet) -> dict[str, Any]:
    """How many groups have a prompt that the scorer was trained on, and how many one that it was chosen on."""
    prompts = [group.prompt for group in data.groups]
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


def _probabilities(candidate: Candidate, differences: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(P,): the modelled probability that the first image is preferred; None if the scorer has no such scale."""
    factor = candidate.scorer.log_odds_per_point
    return None if factor is None else np.asarray((1 + np.tanh(factor * differences / 2)) / 2)


def _chance(candidate: Candidate, difference: float) -> float | None:
    found = _probabilities(candidate, np.array([difference]))
    return None if found is None else float(found[0])
