"""`hpskit study prompts` as a stage: how many prompts does it take to tell models apart?

The paper answered with 800 for each style. Here the answer comes from the scores of the models at hand, for any suite:

OUT/prompts.html   to be read and handed on: one file, opens offline
OUT/prompts.svg    the plot, for a paper
OUT/prompts.json   every figure; written last
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit import __version__
from hpskit.benchmark.result import Result, read_results, repeats_note, same_scorer
from hpskit.benchmark.studies.prompt_number_page import prompt_number_page, prompt_number_plot
from hpskit.errors import InputError
from hpskit.files import publish_set
from hpskit.stats import detectable_difference, difference_deviations, prompts_needed, wrong_order_curve

__all__ = ["PromptNumber", "run"]

_FORMAT = "hpskit prompt number study 1"

_COUNTS = (10, 20, 50, 100, 200, 400, 800, 1600, 3200)
"""Numbers of prompts that the curves go through, besides that of the suite."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptNumber:
    """Which results to learn from, and how finely models are to be told apart."""

    results: tuple[Path, ...]
    """Result files of one suite, one for each of at least two models."""
    out: Path
    """Folder for the three files; an older study in it is replaced."""
    scorers: tuple[str, ...] = ()
    """Labels to study, in this order; empty is all that every result has."""
    resolution: float = 0.1
    """The difference of two models' means that is to be found, in points of the score."""
    resamples: int = 1_000
    """Draws of prompts for each point of a curve."""
    seed: int = 0
    """Same seed, same study."""
    command: str = ""
    """How to make this again; stands on the page."""

    def __post_init__(self) -> None:
        if not 0 < self.resolution < math.inf:
            raise InputError("resolution", f"is {self.resolution}", expected="a difference in points, above 0")


def run(config: PromptNumber) -> dict[str, Any]:
    """Study, and publish the three files.

    Returns:
        What `prompts.json` holds.

    Raises:
        InputError: there are fewer than two results, they are not of one suite or one scorer, two have one name,
            all models have the same mean, or the resolution is so fine that no number of prompts makes sense.
        RecordError: a result is not what it should be.
        OutputError: the output cannot be written.
    """
    results = read_results(config.results, least=2)
    labels = _labels(results, config.scorers)
    study = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "settings": {
            "resolution": config.resolution,
            "level": 0.95,
            "power": 0.8,
            "resamples": config.resamples,
            "seed": config.seed,
        },
        "suite": results[0].suite.model_dump(mode="json"),
        "models": [result.name for result in results],
        "scorers": [_by_scorer(label, results, config) for label in labels],
    }
    products = {"prompts.html": prompt_number_page(study), "prompts.svg": prompt_number_plot(study)}
    publish_set(config.out, "prompts.json", study, {name: text.encode() for name, text in products.items()})
    return study


# What may be studied together


def _labels(results: Sequence[Result], wanted: Sequence[str]) -> list[str]:
    """Scorers that all results have, with one identity each."""
    common = [label for label in results[0].labels if all(label in result.labels for result in results)]
    labels = list(dict.fromkeys(wanted)) or common
    if not labels:
        raise InputError("results", "have no scorer in common", cure="score the models with the same scorer")
    for label in labels:
        same_scorer(label, results)
    return labels


# What it says


def _by_scorer(label: str, results: Sequence[Result], config: PromptNumber) -> dict[str, Any]:
    scores = np.stack([result.scores(label) for result in results])
    common = np.isfinite(scores).all(axis=0)
    scores, texts, categories = scores[:, common], results[0].texts[common], results[0].categories[common]
    distinct = len(np.unique(texts))
    if distinct < 2:
        what = f"{distinct} different prompts have an image of every model"
        raise InputError(f"results: {what}, expected at least 2")
    if _no_order(scores):
        what = f"all {len(results)} models have the same mean"
        raise InputError(f"results: by {label} {what}, expected some that differ; there is no order to get wrong")
    names = [result.name for result in results]
    sizes = {name: len(np.unique(texts[categories == name])) for name in dict.fromkeys(categories.tolist())}
    single = [name for name, size in sizes.items() if size == 1]
    scopes = [_scope("", scores, texts, None if single else categories, names, config)]
    for name, size in sizes.items() if len(sizes) > 1 else ():
        inside = categories == name
        if size > 1:  # one prompt has no deviation
            scopes.append(_scope(name, scores[:, inside], texts[inside], None, names, config))
    return {
        "label": label,
        "info": results[0].scorer(label).info.to_json(),
        "left_out": int((~common).sum()),
        "notes": _notes(texts, single, [scope["category"] for scope in scopes if not scope["curve"]]),
        "scopes": scopes,
    }


def _no_order(scores: Floats) -> bool:
    means = scores.mean(axis=1)
    return bool((means == means[0]).all())


def _notes(texts: NDArray[np.intp], single: Sequence[str], level: Sequence[str]) -> list[str]:
    """What a reader must know of repeated prompts, of categories with one prompt, and of those without an order."""
    notes = []
    if note := repeats_note(texts):
        notes.append(note)
    if single:
        what = "only one prompt, which says nothing of others: no figures of their own, and all prompts are drawn alike"
        notes.append(f"Categories with {what}: {', '.join(single)}.")
    if level:
        what = "all models have the same mean there, so there is no order to get wrong"
        notes.append(f"Categories without a curve: {', '.join(level)}; {what}.")
    return notes


def _scope(
    name: str,
    scores: Floats,
    texts: NDArray[np.intp],
    categories: NDArray[np.str_] | None,
    names: Sequence[str],
    config: PromptNumber,
) -> dict[str, Any]:
    """All prompts, with the shares of their categories fixed, or the prompts of one category."""
    prompts = len(np.unique(texts))
    deviations = difference_deviations(scores, categories=categories, clusters=texts)
    typical, widest = float(np.sqrt((deviations**2).mean())), int(deviations.argmax())
    counts = _counts(prompts, 1 if categories is None else len(np.unique(categories)))
    curve = []
    if not _no_order(scores):
        settings = {"resamples": config.resamples, "seed": config.seed}
        curve = wrong_order_curve(scores, counts, categories=categories, clusters=texts, **settings)
    return {
        "category": name,
        "prompts": prompts,
        "means": dict(zip(names, scores.mean(axis=1).tolist(), strict=True)),
        "deviation": {
            "typical": typical,
            "largest": float(deviations[widest]),
            "pair": list(list(itertools.combinations(names, 2))[widest]),
        },
        "needed": _needed(typical, float(deviations[widest]), config.resolution),
        "curve": [{**asdict(point), "detectable": detectable_difference(typical, point.prompts)} for point in curve],
    }


def _needed(typical: float, largest: float, resolution: float) -> dict[str, Any]:
    """`at_least`: whether fewer prompts would be enough for that power, but too few for any permutation test."""
    needed = prompts_needed(largest, resolution)
    return {
        "typical": prompts_needed(typical, resolution),
        "largest": needed,
        "at_least": needed > 1 and detectable_difference(largest, needed - 1) <= resolution,
    }


def _counts(prompts: int, categories: int) -> list[int]:
    """Round numbers, as far as there can be one of each category, and the number that there is."""
    return sorted({prompts, *(count for count in _COUNTS if count >= categories)})
