"""What a leaderboard says, from the scores of several models for the same prompts. Pure: no files.

A *scope* is a set of prompts: all of them, or those of one category. Every comparison is made in every scope, over the
prompts for which both models have an image.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.published import published_for
from hpskit.benchmark.result import Result
from hpskit.benchmark.suites import STYLES
from hpskit.benchmark.together import Resampling
from hpskit.stats import (
    bradley_terry_interval,
    holm,
    paired_difference,
    paired_differences,
    rank_intervals,
    spearman,
    win_matrix,
)

__all__ = ["agreement_of", "scorer_board", "stated_by"]

Floats = NDArray[np.float64]

_STRENGTH_RESAMPLES = 1_000
"""At most: each is a fit of its own, and ends of intervals are steady by then."""
_SHOWN = 6
"""Prompts that are named where two models differ most, in each direction."""
_FEWEST = 2
"""Prompts that two models must share to be compared at all."""
_LEAST_SHARE = 0.5
"""Of the prompts of each category that a model must have an image for to be ranked."""


def scorer_board(label: str, results: Sequence[Result], resampling: Resampling) -> dict[str, Any]:
    """Everything about models by the scores of one scorer.

    Args:
        label: the scorer; every result has it.
        results: one for each model, of one suite and with scores of one identity.
        resampling: of the intervals.

    Returns:
        `info`, `models` (names, best mean first; ties by name), `scopes`, `extremes` and `published`, ready for JSON.
        In a scope `models` are in that order too, and `differences` are between every two that can be compared:
        `second` minus `first`. `rank`, `strength` and `win_rate` are None for a model that has fewer than half of the
        prompts of a category, or nothing to be compared with.
    """
    means = [stated_by(result, label)["average"]["value"] for result in results]
    order = sorted(range(len(results)), key=lambda n: (-means[n], results[n].name))
    ordered = [results[n] for n in order]
    scores = np.stack([result.scores(label) for result in ordered])
    first = ordered[0]
    scopes = [("", np.ones(scores.shape[1], dtype=bool))]
    if len(first.suite["categories"]) > 1:
        scopes += [(one["name"], first.categories == one["name"]) for one in first.suite["categories"]]
    counts = {one["name"]: one["prompts"] for one in first.suite["categories"]}
    info = first.info(label)
    return {
        "label": label,
        "info": info.to_json(),
        "log_odds_per_point": first.log_odds(label),
        "models": [result.name for result in ordered],
        "scopes": [_scope(name, inside, label, ordered, scores, resampling) for name, inside in scopes],
        "extremes": _extremes(ordered, scores),
        "published": [
            {"name": row.name, "average": row.average, "categories": dict(zip(STYLES, row.categories, strict=True))}
            for row in published_for(info.name, first.suite["name"], counts)
        ],
    }


def stated_by(result: Result, label: str) -> dict[str, Any]:
    """What a result says of itself by one scorer: `average` and `categories`."""
    return next(scorer for scorer in result.value["scorers"] if scorer["label"] == label)


def _scope(
    name: str,
    inside: NDArray[np.bool_],
    label: str,
    results: Sequence[Result],
    scores: Floats,
    resampling: Resampling,
) -> dict[str, Any]:
    own = scores[:, inside]
    names = [result.name for result in results]
    stated = [_figures_of(stated_by(result, label), name) for result in results]
    ranks, strengths, wins = _places(own, results[0].categories[inside], resampling)
    models = [
        {**figures, "name": model, "rank": rank, "strength": strength, "win_rate": rate}
        for model, figures, rank, strength, rate in zip(names, stated, ranks, strengths, wins, strict=True)
    ]
    return {
        "category": name,
        "prompts": int(inside.sum()),
        "models": models,
        "differences": _differences(names, own, resampling),
    }


def _figures_of(stated: Mapping[str, Any], category: str) -> dict[str, Any]:
    """Mean and interval as the result gives them; a category has the official mean and deviation besides."""
    if not category:
        return {**stated["average"], "mean": None, "deviation": None}
    row = next(row for row in stated["categories"] if row["name"] == category)
    return {key: row[key] for key in ("value", "low", "high", "prompts", "mean", "deviation")}


def _places(
    scores: Floats, categories: NDArray[np.str_], resampling: Resampling
) -> tuple[list[Any], list[Any], list[float | None]]:
    """Rank, strength and mean win rate of each model that has enough prompts of each category; None for the others.

    Ranks are by the prompts that all of these models have, so one with few prompts would spoil them for everybody.
    Prompts are drawn within categories, unless one has too few for that.
    """
    present = np.isfinite(scores)
    parts = [categories == name for name in np.unique(categories)]
    enough = [present[:, part].mean(axis=1) >= _LEAST_SHARE for part in parts]
    there = np.flatnonzero(np.all(enough, axis=0))
    ranks: list[Any] = [None] * len(scores)
    strengths, wins = list(ranks), list(ranks)
    common = present[there].all(axis=0)
    if len(there) < 2 or common.sum() < _FEWEST:
        return ranks, strengths, wins
    own, options = scores[there], asdict(resampling)
    drawn_within = categories if min((common & part).sum() for part in parts) >= _FEWEST else None
    found = rank_intervals(own, categories=drawn_within, **options)
    fewer = {**options, "resamples": min(resampling.resamples, _STRENGTH_RESAMPLES)}
    strength, low, high = bradley_terry_interval(own, **fewer)
    rates = np.nanmean(win_matrix(own), axis=1)
    for place, n in enumerate(there):
        ranks[n] = {"value": int(found.rank[place]), "low": int(found.low[place]), "high": int(found.high[place])}
        strengths[n] = {"value": float(strength[place]), "low": float(low[place]), "high": float(high[place])}
        wins[n] = float(rates[place])
    return ranks, strengths, wins


def _differences(names: Sequence[str], scores: Floats, resampling: Resampling) -> list[dict[str, Any]]:
    """Every two models that share enough prompts; the one with the better mean of all prompts is the second."""
    upwards, names = scores[::-1], names[::-1]
    both = list(itertools.combinations(range(len(names)), 2))
    shared = [np.isfinite(upwards[a] - upwards[b]).sum() >= _FEWEST for a, b in both]
    options = asdict(resampling)
    if all(shared):
        found = paired_differences(upwards, **options) if both else []
    else:
        both = list(itertools.compress(both, shared))
        found = [paired_difference(upwards[a], upwards[b], **options) for a, b in both]
    adjusted = holm([difference.permutation_p for difference in found])
    return [
        {"first": names[a], "second": names[b], **asdict(difference), "holm_p": float(p)}
        for (a, b), difference, p in zip(both, found, adjusted, strict=True)
    ]


# On which prompts


def _largest(differences: Floats, count: int = _SHOWN) -> list[int]:
    """Numbers of the largest differences above 0, largest first; equal ones in the order of the prompts.

    Args:
        differences: (prompts,); NaN where there is nothing to compare.
        count: how many at most.
    """
    order = np.argsort(np.where(np.isnan(differences), np.inf, -differences), kind="stable")
    return [int(n) for n in order[:count] if differences[n] > 0]


def _extremes(results: Sequence[Result], scores: Floats) -> dict[str, Any]:
    """Where models differ most, where each is best and worst beside the others, and where every two differ."""
    names = [result.name for result in results]
    rows = results[0].prompts

    def named(differences: Floats) -> list[dict[str, Any]]:
        return [
            {"category": rows[n]["category"], "number": rows[n]["number"], "difference": float(differences[n])}
            for n in _largest(differences)
        ]

    return {
        "spread": named(_spread(scores)),
        "models": [
            {"name": name, "best": named(margin), "worst": named(-margin)}
            for name, margin in zip(names, _margins(scores), strict=True)
        ],
        "pairs": [
            {
                "first": names[lower],
                "second": names[upper],
                "for_second": named(scores[upper] - scores[lower]),
                "for_first": named(scores[lower] - scores[upper]),
            }
            for upper, lower in itertools.combinations(range(len(names)), 2)
        ],
    }


def _spread(scores: Floats) -> Floats:
    """(models, prompts) -> (prompts,): highest less lowest score; NaN where fewer than two models have one."""
    present = np.isfinite(scores)
    highest = np.where(present, scores, -np.inf).max(axis=0)
    lowest = np.where(present, scores, np.inf).min(axis=0)
    result: Floats = np.where(present.sum(axis=0) > 1, highest - lowest, np.nan)
    return result


def _margins(scores: Floats) -> Floats:
    """(models, prompts) -> the same: each score less the mean of the other models for that prompt.

    Of a single model, less its own mean: there is nothing else to compare with. NaN where a score is missing or has
    no other beside it.
    """
    if len(scores) == 1:
        return np.asarray(scores - np.nanmean(scores))
    present = np.isfinite(scores)
    known = np.where(present, scores, 0)
    others = present.sum(axis=0) - present
    mean = np.divide(known.sum(axis=0) - known, others, out=np.full_like(scores, np.nan), where=others > 0)
    return np.asarray(scores - mean)


# Do scorers agree?


def agreement_of(results: Sequence[Result], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Every two scorers: how far they order the models alike, and the prompts on which models differ.

    Returns:
        `of_means`: Spearman's correlation of the means of the models that both have scored, None for fewer than
        three. `of_differences`: that of the differences between two models over the prompts, averaged over every two
        models; `low` and `high` are the least and the greatest of them. None where there is nothing to compare.
    """
    return [_agreement(first, second, results) for first, second in itertools.combinations(labels, 2)]


def _agreement(first: str, second: str, results: Sequence[Result]) -> dict[str, Any]:
    both = [result for result in results if {first, second} <= set(result.scorers)]
    means = [[stated_by(result, label)["average"]["value"] for result in both] for label in (first, second)]
    by_means = _correlations([np.array(means[0])], [np.array(means[1])]) if len(both) > 2 else []
    one, other = ([result.scores(label) for result in both] for label in (first, second))
    pairs = list(itertools.combinations(range(len(both)), 2))
    by_prompts = _correlations([one[a] - one[b] for a, b in pairs], [other[a] - other[b] for a, b in pairs])
    return {
        "first": first,
        "second": second,
        "models": [result.name for result in both],
        "of_means": by_means[0] if by_means else None,
        "of_differences": {
            "value": float(np.mean(by_prompts)),
            "low": min(by_prompts),
            "high": max(by_prompts),
            "pairs": len(by_prompts),
        }
        if by_prompts
        else None,
    }


def _correlations(first: Sequence[Floats], second: Sequence[Floats]) -> list[float]:
    """Spearman's of each two arrays, where both are numbers; what is undefined is left out."""
    both = [np.isfinite(a) & np.isfinite(b) for a, b in zip(first, second, strict=True)]
    kept = [n for n, mask in enumerate(both) if mask.sum() >= _FEWEST]
    if not kept:
        return []
    found = spearman([first[n][both[n]] for n in kept], [-second[n][both[n]] for n in kept])
    return [float(value) for value in found if np.isfinite(value)]
