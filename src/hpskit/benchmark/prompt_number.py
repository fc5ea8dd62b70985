"""`hpskit study prompts` as a stage: how many prompts does it take to tell models apart?

The paper answered with 800 for each style. Here the answer comes from the scores of the models at hand, for any suite:

OUT/prompts.html   to be read and handed on: one file, opens offline
OUT/prompts.svg    the plot, for a paper
OUT/prompts.json   every figure; written last
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit import __version__
from hpskit.benchmark.prompt_number_page import prompt_number_page, prompt_number_plot
from hpskit.benchmark.result import Result
from hpskit.benchmark.together import check_one_scorer, read_together
from hpskit.errors import InputError
from hpskit.files import publish, publish_json
from hpskit.stats import detectable_difference, prompts_needed, wrong_order_curve

__all__ = ["FORMAT", "PromptNumber", "run"]

FORMAT = "hpskit prompt number study 1"

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
            raise InputError(f"resolution: is {self.resolution}, expected a difference in points, above 0")


def run(config: PromptNumber) -> dict[str, Any]:
    """Study, and publish the three files.

    Returns:
        What `prompts.json` holds.

    Raises:
        InputError: there are fewer than two results, they are not of one suite or one scorer, two have one name, or
            all models have the same means.
        RecordError: a result is not what it should be.
        OutputError: the output cannot be written.
    """
    results = read_together(config.results, least=2)
    labels = _labels(results, config.scorers)
    study = {
        "format": FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "settings": {
            "resolution": config.resolution,
            "level": 0.95,
            "power": 0.8,
            "resamples": config.resamples,
            "seed": config.seed,
        },
        "suite": results[0].suite,
        "models": [result.name for result in results],
        "scorers": [_by_scorer(label, results, config) for label in labels],
    }
    (config.out / "prompts.json").unlink(missing_ok=True)
    for name, text in (("prompts.html", prompt_number_page(study)), ("prompts.svg", prompt_number_plot(study))):
        with publish(config.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    publish_json(config.out / "prompts.json", study)
    return study


# What may be studied together


def _labels(results: Sequence[Result], wanted: Sequence[str]) -> list[str]:
    """Scorers that all results have, with one identity each."""
    common = [label for label in results[0].scorers if all(label in result.scorers for result in results)]
    labels = list(dict.fromkeys(wanted)) or common
    if not labels:
        raise InputError("results: no scorer is in all of them; score the models with the same scorer")
    for label in labels:
        check_one_scorer(label, results)
    return labels


# What it says


def _by_scorer(label: str, results: Sequence[Result], config: PromptNumber) -> dict[str, Any]:
    scores = np.stack([result.scores(label) for result in results])
    common = np.isfinite(scores).all(axis=0)
    if common.sum() < 2:
        raise InputError(f"results: {common.sum()} prompts have an image of every model, expected at least 2")
    scores, categories = scores[:, common], results[0].categories[common]
    names = [result.name for result in results]
    sizes = Counter(categories.tolist())
    scopes = [_scope("", scores, categories, names, config)]
    for name, size in sizes.items() if len(sizes) > 1 else ():
        if size > 1:  # one prompt has no deviation
            scopes.append(_scope(name, scores[:, categories == name], None, names, config))
    return {
        "label": label,
        "info": results[0].info(label).to_json(),
        "left_out": int((~common).sum()),
        "scopes": scopes,
    }


def _scope(
    name: str, scores: Floats, categories: NDArray[np.str_] | None, names: Sequence[str], config: PromptNumber
) -> dict[str, Any]:
    """All prompts, drawn within their categories, or the prompts of one category."""
    sizes = np.array([scores.shape[1]]) if categories is None else np.unique(categories, return_counts=True)[1]
    deviations, pairs = _deviations(scores, categories)
    typical, widest = float(np.sqrt((deviations**2).mean())), int(deviations.argmax())
    curve = wrong_order_curve(
        scores, _counts(sizes), categories=categories, resamples=config.resamples, seed=config.seed
    )
    return {
        "category": name,
        "prompts": scores.shape[1],
        "means": dict(zip(names, scores.mean(axis=1).tolist(), strict=True)),
        "deviation": {
            "typical": typical,
            "largest": float(deviations[widest]),
            "pair": [names[number] for number in pairs[widest]],
        },
        "needed": {
            "typical": prompts_needed(typical, config.resolution),
            "largest": prompts_needed(float(deviations[widest]), config.resolution),
        },
        "curve": [{**asdict(point), "detectable": detectable_difference(typical, point.prompts)} for point in curve],
    }


def _deviations(scores: Floats, categories: NDArray[np.str_] | None) -> tuple[Floats, list[tuple[int, int]]]:
    """Standard deviation over prompts of the difference of every two models, and which two they are.

    With categories it is that within them: prompts are drawn in the categories' shares, so what differs between
    categories does not add to the error of a mean.
    """
    first, second = np.triu_indices(len(scores), 1)
    differences = scores[second] - scores[first]
    groups = np.zeros(scores.shape[1]) if categories is None else categories
    variance = np.zeros(len(first))
    for group in np.unique(groups):
        inside = differences[:, groups == group]
        share = inside.shape[1] / scores.shape[1]
        variance += share * inside.var(axis=1, ddof=min(1, inside.shape[1] - 1))
    return np.sqrt(variance), list(zip(first.tolist(), second.tolist(), strict=True))


def _counts(sizes: NDArray[np.int64]) -> list[int]:
    """Round numbers, as far as each category gets a prompt, and the number that there is."""
    total = int(sizes.sum())
    least = math.ceil(total / sizes.min())
    return sorted({total, *(count for count in _COUNTS if count >= least)})
