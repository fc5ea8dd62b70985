"""Accuracy by parts of the data: how close the images are, how far people agree, generators, styles, prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.errors import InputError
from hpskit.evaluation.judging import Settings, interval_of
from hpskit.evaluation.people import GAP_BINS, judged, places
from hpskit.stats import Accuracy, PairOutcomes, PairRule, PairVotes, agreement_by_gap, pair_outcomes

__all__ = ["breakdowns"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_GAPS = 8
_SHARES = ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0))
_LENGTHS = ((1, 5), (6, 10), (11, 20), (21, 40), (41, None))
_FEWEST_VOTES = 3
"""For the share of the majority to mean something."""
_FEWEST_PROMPTS = 5
"""For an interval over prompts to mean something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Split:
    """One way to cut the pairs into parts."""

    name: str
    title: str
    unit: str
    labels: tuple[str, ...]
    part: Integers
    """(P,): number of the label that a pair belongs to, or -1 for none."""


def breakdowns(
    pairs: PairVotes,
    groups: Sequence[Group],
    scores: Mapping[str, Sequence[Floats]],
    clusters: Integers,
    settings: Settings,
) -> list[dict[str, Any]]:
    """Accuracy of every scorer in every part, with n and interval; a split of fewer than two parts is left out.

    Each pair counts once, judged by the rule of the settings; `top-1` judges no pairs, `ties-half` stands in for it.

    Args:
        pairs: of `groups`.
        groups: in order.
        scores: label of the scorer -> (images,) for each group; log-odds if the rule has a tie threshold.
        clusters: (groups,), see `EvaluationSet.clusters`.
        settings: rule and resampling.
    """
    result = [found] if (found := _by_gap_of_others(groups, scores, clusters, settings)) else []
    rules = settings.rules()
    rule = settings.rule if isinstance(rules[settings.rule], PairRule) else "ties-half"
    people = [group.verdicts() for group in groups]
    outcomes = {label: pair_outcomes(own, people, rules[rule]) for label, own in scores.items()}
    for split in _splits(pairs, groups)[bool(result) :]:  # the first is the gap again, seen by all
        parts = [
            _part(label, split.part == number, outcomes, clusters, settings)
            for number, label in enumerate(split.labels)
            if (split.part == number).any()
        ]
        if len(parts) > 1:
            head = {"name": split.name, "title": split.title, "unit": split.unit, "counts": "pairs", "rule": rule}
            result.append({**head, "parts": parts})
    return result


def _by_gap_of_others(
    groups: Sequence[Group], scores: Mapping[str, Sequence[Floats]], clusters: Integers, settings: Settings
) -> dict[str, Any] | None:
    """One annotator and every scorer against the mean of the other annotators, by the gap that those see; None if
    no group is judged by two, or the others tie everything."""
    kept = judged(groups)
    if not kept.any():
        return None
    votes = [places(group) for group, keep in zip(groups, kept, strict=True) if keep]
    own = {label: [s for s, keep in zip(all_scores, kept, strict=True) if keep] for label, all_scores in scores.items()}
    try:
        by_scorer = {label: agreement_by_gap(votes, scores=part, bins=GAP_BINS) for label, part in own.items()}
    except InputError:  # the votes are places, so there is only one thing to be wrong: the others tie every pair
        return None
    some = next(iter(by_scorer.values()))
    parts = []
    for number, shared in enumerate(some):
        measured = {label: bins[number].scores for label, bins in by_scorer.items()}
        prompts = clusters[kept][shared.people.weight > 0]
        parts.append(
            {
                "label": f"{100 * shared.low:.0f}-{100 * shared.high:.0f}",
                "pairs": shared.people.pairs,
                "prompts": len(np.unique(prompts)),
                "people": _measured(shared.people, clusters[kept], settings),
                "scorers": {
                    label: _measured(part, clusters[kept], settings) for label, part in measured.items() if part
                },
            }
        )
    return {
        "name": "gap",
        "title": "By quality gap",
        "unit": "gap between mean ranks, % of the largest possible",
        "counts": "comparisons",
        "rule": "ties-half",
        "parts": parts,
    }


def _measured(accuracy: Accuracy, clusters: Integers, settings: Settings) -> dict[str, Any]:
    """Value and interval; no interval where a handful of prompts would give one that means nothing."""
    if len(np.unique(clusters[accuracy.weight > 0])) < _FEWEST_PROMPTS:
        return {"value": accuracy.value, "low": None, "high": None}
    return interval_of(accuracy, clusters, settings)


def _part(
    label: str,
    inside: NDArray[np.bool_],
    outcomes: Mapping[str, PairOutcomes],
    clusters: Integers,
    settings: Settings,
) -> dict[str, Any]:
    """An accuracy is None if the rule compares no pair of this part."""
    any_outcomes = next(iter(outcomes.values()))
    return {
        "label": label,
        "pairs": int(inside.sum()),
        "prompts": len(np.unique(clusters[any_outcomes.group[inside]])),
        "people": None,
        "scorers": {
            name: _measured(own.accuracy(inside), clusters, settings) if (own.counted & inside).any() else None
            for name, own in outcomes.items()
        },
    }


def _splits(pairs: PairVotes, groups: Sequence[Group]) -> list[_Split]:
    splits = [_by_gap(pairs), _by_share(pairs), _by_length(pairs, groups), _by_category(pairs, groups)]
    if any(group.sources is not None for group in groups):
        splits.append(_by_sources(pairs, groups))
    return splits


def _by_gap(pairs: PairVotes) -> _Split:
    return _Split(
        name="gap",
        title="By quality gap",
        unit="difference of mean ranks",
        labels=(*(f"{n}-{n + 1}" for n in range(_GAPS - 1)), f"≥ {_GAPS - 1}"),
        part=np.minimum(pairs.gap.astype(np.int64), _GAPS - 1),
    )


def _by_share(pairs: PairVotes) -> _Split:
    majority = np.maximum(pairs.share, 1 - pairs.share)
    part = np.full(len(pairs), -1)
    for number, (low, high) in enumerate(_SHARES):
        part[(majority >= low - 1e-9) & ((majority < high - 1e-9) | (high == 1))] = number
    part[pairs.votes < _FEWEST_VOTES] = -1
    return _Split(
        name="consensus",
        title="By agreement of the people",
        unit="votes for the preferred image, %",
        labels=tuple(f"{100 * low:.0f}-{100 * high:.0f}" for low, high in _SHARES),
        part=part,
    )


def _by_length(pairs: PairVotes, groups: Sequence[Group]) -> _Split:
    words = np.array([len(group.prompt.split()) for group in groups])[pairs.group]
    part = np.full(len(pairs), -1)
    for number, (low, high) in enumerate(_LENGTHS):
        part[(words >= low) & (words <= (high or words.max()))] = number
    labels = tuple(f"{low}-{high}" if high else f"≥ {low}" for low, high in _LENGTHS)
    return _Split(name="length", title="By length of the prompt", unit="words", labels=labels, part=part)


def _by_category(pairs: PairVotes, groups: Sequence[Group]) -> _Split:
    names = sorted({group.category for group in groups if group.category is not None})
    number = {name: n for n, name in enumerate(names)}
    part = np.array([number.get(group.category or "", -1) for group in groups])[pairs.group]
    return _Split(name="category", title="By style", unit="style", labels=tuple(names), part=part)


def _by_sources(pairs: PairVotes, groups: Sequence[Group]) -> _Split:
    """Pairs of groups that do not name their generators are in no part."""
    rows = zip(pairs.group.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True)
    names = [" / ".join(sorted((own[i], own[j]))) if (own := groups[g].sources) else "" for g, i, j in rows]
    labels = sorted({name for name in names if name})
    number = {name: n for n, name in enumerate(labels)}
    part = np.array([number.get(name, -1) for name in names])
    return _Split(name="sources", title="By pair of generators", unit="generators", labels=tuple(labels), part=part)
