"""Figures of a leaderboard, from the scores of several models for the same prompts. Pure: no files.

A *scope* is a set of prompts: all of them, or those of one category. Every comparison is made in every scope, over the
prompts for which both models have an image. Prompts with one text are one prompt in every interval, test and rank.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.result import Resampling, Result, figures
from hpskit.prompts.suites import STYLES
from hpskit.stats.blocks import Flags, Floats, Index
from hpskit.stats.comparison import holm, paired_differences, rank_intervals
from hpskit.stats.correlation import scorer_agreement
from hpskit.stats.model_scores import GROUP_SIZE
from hpskit.stats.strengths import bradley_terry_interval, win_matrix

__all__ = ["agreement_of", "margins", "published_for", "scorer_board", "spread"]

_STRENGTH_RESAMPLES = 1_000
"""The most that strengths take: each is a fit of its own, and the ends of intervals are steady by then."""
_FEWEST = 2
"""Different prompts that two models must share to be compared at all."""
_FEWEST_IN_CATEGORY = 10
"""Different prompts of each category from which on ranks take the shares of categories as fixed."""


def scorer_board(label: str, results: Sequence[Result], resampling: Resampling) -> dict[str, Any]:
    """Compare models by the scores of one scorer, which every result has.

    Returns:
        `info`, `reads_prompt` (None if no result says), `models` (names, best mean first; ties by name; those that lack
        an image last), `scopes` and `published`, ready for JSON. In a scope `models` are in that order too,
        and `differences` are between every two that can be compared, `second` minus `first`, where `second` stands
        higher on the board. `rank`, `strength` and `win_rate` are None for a model that lacks a prompt of the scope, or
        has no other beside it: they are among models that answer the same questions, all of them.
    """
    found = {result.name: figures(result.prompts, label, resampling.resamples, resampling.level) for result in results}
    own = {result.name: result.scores(label) for result in results}
    lacks = {name: bool(np.isnan(scores).any()) for name, scores in own.items()}
    names = sorted(own, key=lambda name: (lacks[name], -found[name]["average"]["value"], name))
    scores = np.stack([own[name] for name in names])
    first = next(result for result in results if result.name == names[0])
    sizes = {one.name: one.prompts for one in first.suite.categories}
    said = (result.scorer(label).reads_prompt for result in results)
    info, parts = first.scorer(label).info, [found[name] for name in names]
    return {
        "label": label,
        "info": info.to_json(),
        "log_odds_per_point": first.scorer(label).log_odds_per_point,
        "reads_prompt": next((value for value in said if value is not None), None),
        "models": names,
        "scopes": [
            scope_figures(scope, parts, names, scores, first, resampling)
            for scope in ("", *(sizes if len(sizes) > 1 else ()))
        ],
        "published": published_for(info.name, first.suite.name, sizes),
    }


def scope_figures(
    category: str,
    found: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    scores: Floats,
    first: Result,
    resampling: Resampling,
) -> dict[str, Any]:
    """Compute figures, ranks and differences over all prompts, or over those of one category."""
    inside = first.categories == category if category else np.ones(scores.shape[1], dtype=bool)
    own, texts = scores[:, inside], first.texts[inside]
    present = np.isfinite(own)
    pairs = [
        (lower, upper)
        for lower, upper in itertools.combinations(range(len(names) - 1, -1, -1), 2)
        if len(np.unique(texts[present[lower] & present[upper]])) >= _FEWEST
    ]
    differences = paired_differences(own, pairs=pairs, clusters=texts, **asdict(resampling)) if pairs else []
    adjusted = holm([difference.permutation_p for difference in differences])
    decided = np.zeros((len(names), len(names)), dtype=bool)
    for (lower, upper), p_value in zip(pairs, adjusted, strict=True):
        decided[lower, upper] = decided[upper, lower] = p_value <= 1 - resampling.level
    places = standings(own, texts, first.categories[inside], decided, resampling)
    rows = []
    for name, figure, row, place in zip(names, found, own, places, strict=True):
        if category:
            part = next(part for part in figure["categories"] if part["name"] == category)
            starts = range(0, len(row), GROUP_SIZE)
            if sum(bool(np.isfinite(row[start : start + GROUP_SIZE]).any()) for start in starts) < 2:
                part = {**part, "deviation": None}  # one group has nothing to deviate from
        else:
            part = {**figure["average"], "mean": None, "deviation": None}
        rows.append({**part, "name": name, **place})
    return {
        "category": category,
        "prompts": int(inside.sum()),
        "models": rows,
        "differences": [
            {"first": names[lower], "second": names[upper], **asdict(difference), "holm_p": float(p_value)}
            for (lower, upper), difference, p_value in zip(pairs, differences, adjusted, strict=True)
        ],
    }


def standings(
    scores: Floats,
    texts: Index,
    categories: NDArray[np.str_],
    decided: Flags,
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Compute rank, strength and mean win rate of each model that has all prompts; None for the others.

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


def spread(scores: Floats) -> Floats:
    """(models, prompts) -> (prompts,): highest less lowest score; NaN where fewer than two models have one."""
    several = np.isfinite(scores).sum(axis=0) > 1
    found = np.full(scores.shape[1], np.nan)
    found[several] = np.nanmax(scores[:, several], axis=0) - np.nanmin(scores[:, several], axis=0)
    return found


def margins(scores: Floats) -> Floats:
    """(models, prompts) -> the same: each score less the mean of the other models for that prompt.

    A single model is compared with its own mean. NaN where a score is missing or has no other beside it.
    """
    if len(scores) == 1:
        return np.asarray(scores - np.nanmean(scores))
    present, known = np.isfinite(scores), np.nan_to_num(scores)
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is no other
        return np.asarray(scores - (known.sum(axis=0) - known) / (present.sum(axis=0) - present))


def agreement_of(results: Sequence[Result], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Tell of every two scorers how far they order the models alike, and the prompts on which models differ.

    Returns:
        `of_means` and `of_differences` of `hpskit.stats.scorer_agreement`, the latter with its `low`, `high` and
        `pairs`, of the models that both have scored. None where there is nothing to compare.
    """
    rows = []
    for first, second in itertools.combinations(labels, 2):
        both = [result for result in results if {first, second} <= set(result.labels)]
        row: dict[str, Any] = {"first": first, "second": second, "models": [result.name for result in both]}
        row |= {"of_means": None, "of_differences": None}
        if len(both) > 1:
            found = scorer_agreement(*([result.scores(label) for result in both] for label in (first, second)))
            row["of_means"] = None if np.isnan(found.of_means) else found.of_means
            if found.pairs:
                ends = {"low": found.low, "high": found.high, "pairs": found.pairs}
                row["of_differences"] = {"value": found.of_differences, **ends}
        rows.append(row)
    return rows


def published_for(scorer: str, suite: str, categories: Mapping[str, int]) -> list[dict[str, Any]]:
    """Give the table that the authors published for a scorer, best first; empty if there is none for this suite.

    It is quoted, not checked, and is for all 3,200 prompts (`categories` are name and number of prompts). Source: Wu et
    al. 2023 (arXiv 2306.09341), table of the benchmark, and the leaderboards of the official repository, computed
    before resizing was antialiased; see docs/scoring.md.
    """
    if suite != "hpsv2" or dict(categories) != dict.fromkeys(STYLES, 800):
        return []
    with Path(__file__).with_name("published.csv").open(encoding="utf-8") as lines:
        return [
            {
                "name": row["model"],
                "average": float(row["average"]),
                "categories": {style: float(row[style]) for style in STYLES},
            }
            for row in csv.DictReader(lines)
            if row["scorer"] == scorer
        ]
