"""Figures of two sets of images for the same prompts, from their scores. Pure: no files.

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

from hpskit.benchmark.result import Resampling, largest_differences, mean_interval
from hpskit.pages.charts import round_step
from hpskit.pages.format import between, decimals, p_words, percent, signed
from hpskit.stats.blocks import Floats, Index
from hpskit.stats.comparison import holm, paired_difference
from hpskit.stats.correlation import scorer_agreement

_ALPHA = 0.05
"""A difference is believed if the permutation test gives a smaller p and the interval leaves out 0."""


def compared(
    first: Floats,
    second: Floats,
    categories: NDArray[np.str_],
    names: tuple[str, str],
    resampling: Resampling,
    texts: Index | None = None,
) -> dict[str, Any]:
    """Compute everything about two sets of images by one scorer, ready for JSON; see docs/compare.md.

    Args:
        first: (prompts,) mean score of each prompt's images; NaN where there is none. `second` likewise.
        second: at least two different prompts have an image in both.
        categories: (prompts,) category of each; empty if the suite has none.
        names: of the two sets.
        resampling: of intervals and tests.
        texts: (prompts,) see `text_numbers`; each prompt is its own if not given.
    """
    both = np.isfinite(first) & np.isfinite(second)
    texts = np.arange(len(first)) if texts is None else texts
    settings = asdict(resampling)
    difference = asdict(paired_difference(first, second, clusters=texts, **settings))
    outcome = _outcome(difference)
    ahead = second - first
    return {
        "outcome": outcome,
        "verdict": _verdict(outcome, difference, names),
        "first": mean_interval(first[both], texts[both], **settings),
        "second": mean_interval(second[both], texts[both], **settings),
        "difference": difference,
        "categories": _categories(first, second, categories, texts, settings),
        "histogram": _histogram(ahead[both]),
        "extremes": {
            "for_second": [{"prompt": n, "difference": float(ahead[n])} for n in largest_differences(ahead)],
            "for_first": [{"prompt": n, "difference": float(ahead[n])} for n in largest_differences(-ahead)],
        },
    }


def _outcome(difference: Mapping[str, Any]) -> str:
    """Say what the second is: `better`, `worse`, `undecided`, or `equal` if no prompt differs."""
    if difference["ties"] == difference["prompts"]:
        return "equal"
    if not decided(difference, difference["permutation_p"]):
        return "undecided"
    return "better" if difference["value"] > 0 else "worse"


def decided(difference: Mapping[str, Any], p_value: float) -> bool:
    """Tell whether a difference is believed, by the p-value of its permutation test, corrected or not."""
    return bool(p_value < _ALPHA and not difference["low"] <= 0 <= difference["high"])


def _verdict(outcome: str, difference: Mapping[str, Any], names: tuple[str, str]) -> str:
    """One sentence for people."""
    first, second = names
    count = difference["prompts"]
    if outcome == "equal":
        return f"No difference: {first} and {second} have the same score for each of the {count:,} prompts"
    digits = decimals(difference["low"], difference["high"])
    ends = between(difference["low"], difference["high"], digits, sign=True)
    figures = f"{signed(difference['value'], digits)} points ({ends}), {p_words(difference['permutation_p'])}"
    if outcome == "undecided":
        seen = f"a difference below {difference['detectable']:.{digits}f} cannot be relied on to show"
        if 2 * 0.5**count >= _ALPHA:
            seen = f"no test can decide, whatever the scores; use {math.ceil(math.log2(2 / _ALPHA))} or more"
        return f"Not decided: {second} differs by {figures}; with {count:,} prompts {seen}"
    return f"{second} is {outcome}: {figures}; it wins {percent(difference['win_rate'])} of the {count:,} prompts"


def _categories(
    first: Floats,
    second: Floats,
    categories: NDArray[np.str_],
    texts: Index,
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Each category of a suite that has several; p-values corrected for their number by Holm."""
    names = list(dict.fromkeys(categories.tolist()))
    rows: list[dict[str, Any]] = []
    for name in names if len(names) > 1 else ():
        inside = categories == name
        one, other, own = first[inside], second[inside], texts[inside]
        count = len(np.unique(own[np.isfinite(one - other)]))
        found = asdict(paired_difference(one, other, clusters=own, **settings)) if count > 1 else None
        rows.append({"name": name, "prompts": count, "difference": found, "holm_p": None})
    known = [row for row in rows if row["difference"]]
    for row, adjusted in zip(known, holm([row["difference"]["permutation_p"] for row in known]), strict=True):
        row["holm_p"] = float(adjusted)
    return rows


def _histogram(differences: Floats) -> dict[str, Any]:
    """Counts of the differences of the prompts in bins of a round width, none of which reaches over 0."""
    reach = float(np.abs(differences).max())
    width = round_step(2 * reach / 24) if reach else 1.0
    start, stop = math.floor(differences.min() / width), math.floor(differences.max() / width) + 1
    bins = np.clip(np.floor(differences / width).astype(int) - start, 0, stop - start - 1)
    counts = np.bincount(bins[differences != 0], minlength=stop - start)
    edges = width * np.arange(start, stop + 1)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "zero": int((differences == 0).sum())}


_WORDS = {
    "better": "{} is better",
    "worse": "{} is worse",
    "undecided": "it is not decided",
    "equal": "there is no difference",
}


def agreement_of(
    scorers: Sequence[Mapping[str, Any]], differences: Sequence[Floats], second: str
) -> dict[str, Any] | None:
    """Tell whether several scorers say the same of the set called `second`; None for one scorer.

    Args:
        scorers: `label` of each, and what `compared` says by it.
        differences: (prompts,) of each scorer, NaN where an image is missing.
        second: name of the second set.

    Returns:
        `sentence`; `holm_p`: p of the permutation test by label, corrected for the number of scorers; `correlations`:
        Spearman's of the differences by every two scorers, None where one of them is the same for all prompts.
    """
    if len(scorers) < 2:
        return None
    labels = [scorer["label"] for scorer in scorers]
    adjusted = holm([scorer["difference"]["permutation_p"] for scorer in scorers])
    holm_p = {label: float(p) for label, p in zip(labels, adjusted, strict=True)}
    rows = []
    for one, other in itertools.combinations(range(len(scorers)), 2):
        found = scorer_agreement(*([np.zeros_like(own), own] for own in (differences[one], differences[other])))
        spearman = found.of_differences if found.pairs else None
        rows.append({"first": labels[one], "second": labels[other], "spearman": spearman})
    by_outcome: dict[str, list[str]] = {}
    for scorer in scorers:
        by_outcome.setdefault(scorer["outcome"], []).append(scorer["label"])
    words = {outcome: _WORDS[outcome].format(second) for outcome in by_outcome}
    if len(by_outcome) == 1:
        everybody = "Both scorers say" if len(scorers) == 2 else f"All {len(scorers)} scorers say"
        sentence = f"{everybody}: {words[scorers[0]['outcome']]}"
    else:
        contrary = {"better", "worse"} <= by_outcome.keys()
        start = "The scorers contradict one another" if contrary else "The scorers differ"
        parts = [f"{words[outcome]} by {', '.join(named)}" for outcome, named in by_outcome.items()]
        sentence = f"{start}: {'; '.join(parts)}"
    if undone := [s["label"] for s in scorers if s["outcome"] in ("better", "worse") and holm_p[s["label"]] >= _ALPHA]:
        sentence += f"; corrected for {len(scorers)} scorers (Holm) it is not decided by {', '.join(undone)}"
    return {"sentence": sentence, "holm_p": holm_p, "correlations": rows}
