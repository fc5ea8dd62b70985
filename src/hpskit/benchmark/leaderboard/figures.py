"""What a leaderboard says, from the scores of several models for the same prompts. Pure: no files.

A *scope* is a set of prompts: all of them, or those of one category. Every comparison is made in every scope, over the
prompts for which both models have an image. Prompts with one text are one prompt in all that is said of chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.leaderboard.published import published_for
from hpskit.benchmark.result import Resampling, Result, figures, largest_differences
from hpskit.benchmark.suites import STYLES
from hpskit.stats import (
    GROUP_SIZE,
    bradley_terry_interval,
    holm,
    paired_differences,
    rank_intervals,
    scorer_agreement,
    win_matrix,
)

__all__ = ["agreement_of", "scorer_board"]

Floats = NDArray[np.float64]
Texts = NDArray[np.intp]

_STRENGTH_RESAMPLES = 1_000
"""At most: each is a fit of its own, and ends of intervals are steady by then."""
_FEWEST = 2
"""Different prompts that two models must share to be compared at all."""
_FEWEST_IN_CATEGORY = 10
"""Different prompts of each category from which on ranks take the shares of categories as fixed."""


def scorer_board(label: str, results: Sequence[Result], resampling: Resampling) -> dict[str, Any]:
    """Everything about models by the scores of one scorer.

    Args:
        label: the scorer; every result has it.
        results: one for each model, of one suite and with scores of one identity.
        resampling: of the intervals.

    Returns:
        `info`, `reads_prompt` (None if no result says), `models` (names, best mean first; ties by name; those that lack
        an image last), `scopes`, `extremes` and `published`, ready for JSON. In a scope `models` are in that order too,
        and `differences` are between every two that can be compared, `second` minus `first`, where `second` stands
        higher on the board. `rank`, `strength` and `win_rate` are None for a model that lacks a prompt of the scope, or
        has no other beside it: they are among models that answer the same questions, all of them.
    """
    found = {result.name: figures(result.prompts, label, resampling.resamples, resampling.level) for result in results}
    lacks = {result.name: bool(np.isnan(result.scores(label)).any()) for result in results}
    means = {name: own["average"]["value"] for name, own in found.items()}
    ordered = sorted(results, key=lambda result: (lacks[result.name], -means[result.name], result.name))
    own_figures = [found[result.name] for result in ordered]
    scores = np.stack([result.scores(label) for result in ordered])
    first = ordered[0]
    scopes = [("", np.ones(scores.shape[1], dtype=bool))]
    if len(first.suite.categories) > 1:
        scopes += [(one.name, first.categories == one.name) for one in first.suite.categories]
    counts = {one.name: one.prompts for one in first.suite.categories}
    info = first.scorer(label).info
    return {
        "label": label,
        "info": info.to_json(),
        "log_odds_per_point": first.scorer(label).log_odds_per_point,
        "reads_prompt": _reads_prompt(results, label),
        "models": [result.name for result in ordered],
        "scopes": [_scope(name, inside, own_figures, ordered, scores, resampling) for name, inside in scopes],
        "extremes": _extremes(ordered, scores),
        "published": [
            {"name": row.name, "average": row.average, "categories": dict(zip(STYLES, row.categories, strict=True))}
            for row in published_for(info.name, first.suite.name, counts)
        ],
    }


def _reads_prompt(results: Sequence[Result], label: str) -> bool | None:
    """What any of the results says; older ones do not."""
    said = (result.scorer(label).reads_prompt for result in results)
    return next((value for value in said if value is not None), None)


def _scope(
    name: str,
    inside: NDArray[np.bool_],
    found: Sequence[Mapping[str, Any]],
    results: Sequence[Result],
    scores: Floats,
    resampling: Resampling,
) -> dict[str, Any]:
    own, texts = scores[:, inside], results[0].texts[inside]
    names = [result.name for result in results]
    differences = _differences(names, own, texts, resampling)
    decided = _decided(names, differences, resampling.level)
    places = _places(own, texts, results[0].categories[inside], decided, resampling)
    models = [
        {**_figures_of(figures, name, row), "name": model, **place}
        for model, figures, row, place in zip(names, found, own, places, strict=True)
    ]
    return {
        "category": name,
        "prompts": int(inside.sum()),
        "models": models,
        "differences": differences,
    }


def _figures_of(found: Mapping[str, Any], category: str, scores: Floats) -> dict[str, Any]:
    """Mean and interval, and of a category the official mean and deviation besides.

    The deviation is None if there is one group of prompts: it has nothing to deviate from.
    """
    if not category:
        return {**found["average"], "mean": None, "deviation": None}
    row = next(row for row in found["categories"] if row["name"] == category)
    starts = range(0, len(scores), GROUP_SIZE)
    groups = sum(bool(np.isfinite(scores[start : start + GROUP_SIZE]).any()) for start in starts)
    kept = {key: row[key] for key in ("value", "low", "high", "prompts", "mean", "deviation")}
    return kept if groups > 1 else {**kept, "deviation": None}


def _differences(names: Sequence[str], scores: Floats, texts: Texts, resampling: Resampling) -> list[dict[str, Any]]:
    """Every two models that share enough prompts; the one that stands higher is the second."""
    present = np.isfinite(scores)
    pairs = [
        (lower, upper)
        for lower, upper in itertools.combinations(range(len(names) - 1, -1, -1), 2)
        if len(np.unique(texts[present[lower] & present[upper]])) >= _FEWEST
    ]
    found = paired_differences(scores, pairs=pairs, clusters=texts, **asdict(resampling)) if pairs else []
    adjusted = holm([difference.permutation_p for difference in found])
    return [
        {"first": names[lower], "second": names[upper], **asdict(difference), "holm_p": float(p)}
        for (lower, upper), difference, p in zip(pairs, found, adjusted, strict=True)
    ]


def _decided(names: Sequence[str], differences: Sequence[Mapping[str, Any]], level: float) -> NDArray[np.bool_]:
    """(models, models): whether the difference of two is significant."""
    place = {name: n for n, name in enumerate(names)}
    decided = np.zeros((len(names), len(names)), dtype=bool)
    for row in differences:
        one, other = place[row["first"]], place[row["second"]]
        decided[one, other] = decided[other, one] = row["holm_p"] <= 1 - level
    return decided


def _places(
    scores: Floats,
    texts: Texts,
    categories: NDArray[np.str_],
    decided: NDArray[np.bool_],
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Rank, strength and mean win rate of each model that has all prompts; None for the others.

    Two models get separate ranks only if their own difference is significant too, so that ranks and p-values on one
    page cannot contradict each other. Shares of categories are fixed, unless one has too few prompts for that.
    """
    places: list[dict[str, Any]] = [{"rank": None, "strength": None, "win_rate": None} for _ in scores]
    there = np.flatnonzero(np.isfinite(scores).all(axis=1))
    if len(there) < 2 or len(np.unique(texts)) < _FEWEST:
        return places
    own, options = scores[there], {"clusters": texts, **asdict(resampling)}
    least = min(len(np.unique(texts[categories == name])) for name in np.unique(categories))
    found = rank_intervals(own, categories=categories if least >= _FEWEST_IN_CATEGORY else None, **options)
    better = found.better & decided[np.ix_(there, there)]
    low, high = 1 + better.sum(axis=0), len(there) - better.sum(axis=1)
    fewer = {**options, "resamples": min(resampling.resamples, _STRENGTH_RESAMPLES)}
    strengths = np.stack(bradley_terry_interval(own, **fewer), axis=1)
    rates = np.nanmean(win_matrix(own, clusters=texts), axis=1)
    for place, n in enumerate(there):
        among = {"of": len(there), "prompts": found.prompts}
        places[n] = {
            "rank": {"value": int(found.rank[place]), "low": int(low[place]), "high": int(high[place]), **among},
            "strength": dict(zip(("value", "low", "high"), strengths[place].tolist(), strict=True)),
            "win_rate": float(rates[place]),
        }
    return places


# On which prompts


def _extremes(results: Sequence[Result], scores: Floats) -> dict[str, Any]:
    """Where models differ most, where each is best and worst beside the others, and where every two differ."""
    names = [result.name for result in results]
    rows = results[0].prompts

    def named(differences: Floats) -> list[dict[str, Any]]:
        return [
            {"category": rows[n].category, "number": rows[n].number, "difference": float(differences[n])}
            for n in largest_differences(differences)
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
        `of_means` and `of_differences` of `hpskit.stats.scorer_agreement`, the latter with its `low`, `high` and
        `pairs`, of the models that both have scored. None where there is nothing to compare.
    """
    return [_agreement(first, second, results) for first, second in itertools.combinations(labels, 2)]


def _agreement(first: str, second: str, results: Sequence[Result]) -> dict[str, Any]:
    both = [result for result in results if {first, second} <= set(result.labels)]
    row: dict[str, Any] = {"first": first, "second": second, "models": [result.name for result in both]}
    if len(both) < 2:
        return {**row, "of_means": None, "of_differences": None}
    found = scorer_agreement(*([result.scores(label) for result in both] for label in (first, second)))
    differences = {"value": found.of_differences, "low": found.low, "high": found.high, "pairs": found.pairs}
    return {
        **row,
        "of_means": None if np.isnan(found.of_means) else found.of_means,
        "of_differences": differences if found.pairs else None,
    }
