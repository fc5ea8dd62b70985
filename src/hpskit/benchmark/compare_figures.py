"""What is to be said of two sets of images for the same prompts, from their scores. Pure: no files.

Everything is paired: the two images of a prompt are compared with each other, so that what makes one prompt score
higher than another drops out. Differences are those of the second less the first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.result import Resampling, largest_differences
from hpskit.pages.axes import round_step
from hpskit.pages.format import p_words, percent, signed
from hpskit.stats import bootstrap_mean, detectable_difference, holm, paired_difference, scorer_agreement

__all__ = ["agreement_of", "compared", "decimals"]

Floats = NDArray[np.float64]

_ALPHA = 0.05
"""A difference is believed if the permutation test gives a smaller p and the interval leaves out 0."""


def compared(
    first: Floats,
    second: Floats,
    categories: NDArray[np.str_],
    names: tuple[str, str],
    resampling: Resampling,
    texts: NDArray[np.intp] | None = None,
) -> dict[str, Any]:
    """Everything about two sets of images by one scorer, ready for JSON; see docs/compare.md.

    Args:
        first: (prompts,) mean score of each prompt's images; NaN where there is none.
        second: (prompts,) likewise.
        categories: (prompts,) of each prompt; empty if the suite has none.
        names: of the two sets.
        resampling: of intervals and tests.
        texts: (prompts,) equal numbers for prompts with one text, which are one prompt in all but the means; each is
            its own if not given.

    Raises:
        InputError: fewer than two different prompts have an image in both.
    """
    both = np.isfinite(first) & np.isfinite(second)
    texts = np.arange(len(first)) if texts is None else texts
    difference = asdict(paired_difference(first, second, clusters=texts, **asdict(resampling)))
    outcome = _outcome(difference)
    return {
        "outcome": outcome,
        "verdict": _verdict(outcome, difference, names),
        "first": _mean(first[both], texts[both], resampling),
        "second": _mean(second[both], texts[both], resampling),
        "difference": difference,
        "detectable": [
            {"prompts": count, "difference": detectable_difference(difference["deviation"], count)}
            for count in _counts(difference["prompts"])
        ],
        "categories": _categories(first, second, categories, texts, resampling),
        "histogram": _histogram((second - first)[both]),
        "extremes": _extremes(second - first),
    }


def _mean(scores: Floats, texts: NDArray[np.intp], resampling: Resampling) -> dict[str, float]:
    found = bootstrap_mean(scores, clusters=texts, **asdict(resampling))
    return {"value": found.value, "low": found.low, "high": found.high}


def _outcome(difference: Mapping[str, Any]) -> str:
    """Of the second: `better`, `worse`, `undecided`, or `equal` if no prompt differs."""
    if difference["ties"] == difference["prompts"]:
        return "equal"
    if difference["permutation_p"] >= _ALPHA or difference["low"] <= 0 <= difference["high"]:
        return "undecided"
    return "better" if difference["value"] > 0 else "worse"


def _verdict(outcome: str, difference: Mapping[str, Any], names: tuple[str, str]) -> str:
    """One sentence for people."""
    first, second = names
    count = difference["prompts"]
    if outcome == "equal":
        return f"No difference: {first} and {second} have the same score for each of the {count:,} prompts"
    digits = decimals(difference)
    value, low, high = (signed(difference[name], digits) for name in ("value", "low", "high"))
    figures = f"{value} points ({low} to {high}), {p_words(difference['permutation_p'])}"
    if outcome == "undecided":
        seen = f"a difference below {difference['detectable']:.{digits}f} cannot be relied on to show"
        if 2 * 0.5**count >= _ALPHA:
            seen = f"no test can decide, whatever the scores; use {math.ceil(math.log2(2 / _ALPHA))} or more"
        return f"Not decided: {second} differs by {figures}; with {count:,} prompts {seen}"
    return f"{second} is {outcome}: {figures}; it wins {percent(difference['win_rate'])} of the {count:,} prompts"


def decimals(difference: Mapping[str, Any]) -> int:
    """How many a reader needs: as far as the first figure of the interval's width, at least two."""
    width = difference["high"] - difference["low"]
    return 2 if width <= 0 else min(6, max(2, -math.floor(math.log10(width))))


def _counts(prompts: int) -> list[int]:
    """Numbers of prompts for planning: what there is, and round numbers of the sizes that suites have."""
    return sorted({prompts, 50, 100, 200, 400, 800, 1600, 3200})


def _categories(
    first: Floats,
    second: Floats,
    categories: NDArray[np.str_],
    texts: NDArray[np.intp],
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Each category of a suite that has several; p-values corrected for their number by Holm."""
    names = list(dict.fromkeys(categories.tolist()))
    if len(names) < 2:
        return []
    rows: list[dict[str, Any]] = []
    for name in names:
        inside = categories == name
        one, other, own = first[inside], second[inside], texts[inside]
        count = len(np.unique(own[np.isfinite(one - other)]))
        found = paired_difference(one, other, clusters=own, **asdict(resampling)) if count > 1 else None
        rows.append({"name": name, "prompts": count, "difference": asdict(found) if found else None, "holm_p": None})
    known = [row for row in rows if row["difference"]]
    for row, adjusted in zip(known, holm([row["difference"]["permutation_p"] for row in known]), strict=True):
        row["holm_p"] = float(adjusted)
    return rows


def _histogram(differences: Floats) -> dict[str, Any]:
    """How the differences of the prompts are spread: bins of a round width, none of which reaches over 0."""
    reach = float(np.abs(differences).max())
    width = round_step(2 * reach / 24) if reach else 1.0
    start, stop = math.floor(differences.min() / width), math.floor(differences.max() / width) + 1
    edges = width * np.arange(start, stop + 1)
    bins = np.clip(np.floor(differences / width).astype(int) - start, 0, stop - start - 1)
    counts = np.bincount(bins[differences != 0], minlength=stop - start)
    zero = int((differences == 0).sum())
    return {"edges": edges.tolist(), "counts": counts.tolist(), "zero": zero}


def _extremes(differences: Floats) -> dict[str, list[dict[str, Any]]]:
    """The prompts, as numbers in the suite from 0, where the second wins and loses most."""

    def listed(sign: int) -> list[dict[str, Any]]:
        return [{"prompt": n, "difference": float(differences[n])} for n in largest_differences(sign * differences)]

    return {"for_second": listed(1), "for_first": listed(-1)}


def agreement_of(
    scorers: Sequence[Mapping[str, Any]], differences: Sequence[Floats], second: str
) -> dict[str, Any] | None:
    """Whether several scorers say the same; None for one.

    Args:
        scorers: `label` of each, and what `compared` says by it.
        differences: (prompts,) of each scorer, NaN where an image is missing.
        second: name of the second set.

    Returns:
        `sentence`; `holm_p`, label -> p of the permutation test, corrected for the number of scorers; `correlations`:
        Spearman's of the differences by every two scorers over the prompts, None where one of them is the same for all
        prompts.
    """
    if len(scorers) < 2:
        return None
    labels = [scorer["label"] for scorer in scorers]
    adjusted = holm([scorer["difference"]["permutation_p"] for scorer in scorers])
    holm_p = {label: float(p) for label, p in zip(labels, adjusted, strict=True)}
    rows = []
    for one, other in itertools.combinations(range(len(scorers)), 2):
        both = ([np.zeros_like(own), own] for own in (differences[one], differences[other]))
        found = scorer_agreement(*both)
        spearman = found.of_differences if found.pairs else None
        rows.append({"first": labels[one], "second": labels[other], "spearman": spearman})
    sentence = _in_words([(scorer["label"], scorer["outcome"]) for scorer in scorers], second)
    undone = [s["label"] for s in scorers if s["outcome"] in ("better", "worse") and holm_p[s["label"]] >= _ALPHA]
    if undone:
        sentence += f"; corrected for {len(scorers)} scorers (Holm) it is not decided by {', '.join(undone)}"
    return {"sentence": sentence, "holm_p": holm_p, "correlations": rows}


_WORDS = {
    "better": "{} is better",
    "worse": "{} is worse",
    "undecided": "it is not decided",
    "equal": "there is no difference",
}


def _in_words(scorers: Sequence[tuple[str, str]], second: str) -> str:
    by_outcome: dict[str, list[str]] = {}
    for label, outcome in scorers:
        by_outcome.setdefault(outcome, []).append(label)
    if len(by_outcome) == 1:
        all_of_them = "Both scorers say" if len(scorers) == 2 else f"All {len(scorers)} scorers say"
        return f"{all_of_them}: {_WORDS[next(iter(by_outcome))].format(second)}"
    parts = [f"{_WORDS[outcome].format(second)} by {', '.join(labels)}" for outcome, labels in by_outcome.items()]
    start = "The scorers contradict one another" if {"better", "worse"} <= by_outcome.keys() else "The scorers differ"
    return f"{start}: {'; '.join(parts)}"
