"""`hpskit study prompts`: how many prompts it takes to tell models apart.

The paper answered with 800 for each style. Here the answer comes from the scores of the models at hand, for any suite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hpskit.benchmark.result import Entry, common_scorers, read_results, repeats_note
from hpskit.errors import InputError
from hpskit.pages.charts import Frame, Point, Series, axis_for, colour_of, element, legend, line_chart, value_axis
from hpskit.pages.format import digits_for
from hpskit.pages.page import figure_file, page
from hpskit.stage import check_folder, heading, publish
from hpskit.stats.blocks import Floats, Index
from hpskit.stats.model_scores import detectable_difference, difference_deviations, prompts_needed, wrong_order_curve

_COUNTS = (10, 20, 50, 100, 200, 400, 800, 1600, 3200)
"""Numbers of prompts that the curves go through, besides that of the suite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptNumber:
    """Settings of a study of the number of prompts."""

    results: tuple[Path, ...]
    """Result files of one suite, one for each of at least two models."""
    out: Path
    """Folder for `prompts.html`, `prompts.svg` and `prompts.json`; an older study in it is replaced."""
    scorers: tuple[str, ...] = ()
    """Labels to study, in this order; empty is all that every result has."""
    resolution: float = 0.1
    """The difference of two models' means that is to be found, in points of the score."""
    resamples: int = 1_000
    """Draws of prompts for each point of a curve."""
    seed: int = 0
    """Same seed, same study."""
    command: str = ""
    """The command that makes this again; stands on the page."""

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
    check_folder(config.out)
    results = read_results(config.results, least=2)
    labels = common_scorers(results, config.scorers)
    if not labels:
        raise InputError("results", "have no scorer in common", cure="score the models with the same scorer")
    settings = {"resolution": config.resolution, "level": 0.95, "power": 0.8}
    study = {
        **heading("hpskit prompt number study 1", config.command),
        "settings": {**settings, "resamples": config.resamples, "seed": config.seed},
        "suite": results[0].suite.model_dump(mode="json"),
        "models": [result.name for result in results],
        "scorers": [scorer_study(label, results, config) for label in labels],
    }
    publish(config.out, "prompts.json", study, products(study))
    return study


# Figures


def scorer_study(label: str, results: Sequence[Entry], config: PromptNumber) -> dict[str, Any]:
    """Compute everything about one scorer: of all prompts and of those of each category."""
    scores = np.stack([result.scores(label) for result in results])
    common = np.isfinite(scores).all(axis=0)
    scores, texts, categories = scores[:, common], results[0].texts[common], results[0].categories[common]
    if len(np.unique(texts)) < 2:
        found = f"have {len(np.unique(texts))} different prompts with an image of every model"
        raise InputError("results", found, expected="at least 2", cure="score more images")
    if no_order(scores):
        found = f"have the same mean by {label} for all {len(results)} models"
        raise InputError("results", found, expected="some that differ", cure="take models that have an order")
    names = [result.name for result in results]
    sizes = {name: len(np.unique(texts[categories == name])) for name in dict.fromkeys(categories.tolist())}
    single = [name for name, size in sizes.items() if size == 1]
    scopes = [scope_study("", scores, texts, None if single else categories, names, config)]
    for name, size in sizes.items() if len(sizes) > 1 else ():
        inside = categories == name
        if size > 1:  # one prompt has no deviation
            scopes.append(scope_study(name, scores[:, inside], texts[inside], None, names, config))
    notes = [note] if (note := repeats_note(texts)) else []
    if single:
        what = "only one prompt, which says nothing of others: no figures of their own, and all prompts are drawn alike"
        notes.append(f"Categories with {what}: {', '.join(single)}.")
    if level := [scope["category"] for scope in scopes if not scope["curve"]]:
        what = "all models have the same mean there, so there is no order to get wrong"
        notes.append(f"Categories without a curve: {', '.join(level)}; {what}.")
    return {
        "label": label,
        "info": results[0].scorer(label).info.to_json(),
        "left_out": int((~common).sum()),
        "notes": notes,
        "scopes": scopes,
    }


def no_order(scores: Floats) -> bool:
    """(models, prompts): tell whether all means are equal."""
    means = scores.mean(axis=1)
    return bool((means == means[0]).all())


def scope_study(
    category: str,
    scores: Floats,
    texts: Index,
    categories: NDArray[np.str_] | None,
    names: Sequence[str],
    config: PromptNumber,
) -> dict[str, Any]:
    """Compute the figures of all prompts, with the shares of their categories fixed, or of those of one category."""
    prompts = len(np.unique(texts))
    deviations = difference_deviations(scores, categories=categories, clusters=texts)
    typical, widest = float(np.sqrt((deviations**2).mean())), int(deviations.argmax())
    largest, pairs = float(deviations[widest]), list(itertools.combinations(names, 2))
    fewest = 1 if categories is None else len(np.unique(categories))  # one of each category
    curve = []
    if not no_order(scores):
        counts = sorted({prompts, *(count for count in _COUNTS if count >= fewest)})
        draws = {"resamples": config.resamples, "seed": config.seed}
        curve = wrong_order_curve(scores, counts, categories=categories, clusters=texts, **draws)
    needed = prompts_needed(largest, config.resolution)
    # Fewer prompts may be enough for that power, but too few for any permutation test.
    at_least = needed > 1 and detectable_difference(largest, needed - 1) <= config.resolution
    return {
        "category": category,
        "prompts": prompts,
        "means": dict(zip(names, scores.mean(axis=1).tolist(), strict=True)),
        "deviation": {"typical": typical, "largest": largest, "pair": list(pairs[widest])},
        "needed": {
            "typical": prompts_needed(typical, config.resolution),
            "largest": needed,
            "at_least": at_least,
        },
        "curve": [{**asdict(point), "detectable": detectable_difference(typical, point.prompts)} for point in curve],
    }


# Page and plot


def products(study: Mapping[str, Any]) -> dict[str, bytes]:
    """Make the page and the plot; `study` is what `prompts.json` holds."""
    drawn: list[Markup] = []
    shown = {}
    for scorer in study["scorers"]:
        charts = panels(scorer)
        series = curves(scorer, "difference_error")
        named = [("people", scorer["label"]), *((one.colour, one.name) for one in series)]
        names = [
            element("text", name, class_=f"name {colour}", x=360, y=24 + 16 * n, text_anchor="end")
            for n, (colour, name) in enumerate(named)
        ]
        errors, chances = charts.values()
        drawn += [element("g", errors, *names), chances]
        digits = decimals(scorer["scopes"][0]["curve"])
        shown[scorer["label"]] = {"panels": charts, "legend": legend(series), "digits": digits}
    title = f"How many prompts: {study['suite']['name']}"
    plot = figure_file(title, drawn, columns=2, cell=(380, 280))
    html = page("hpskit.benchmark.studies", "prompt_number.html", result=study, shown=shown)
    return {"prompts.html": html.encode(), "prompts.svg": plot.encode()}


def decimals(curve: Sequence[Mapping[str, Any]]) -> int:
    """Return the digits of errors and of what can be detected: the least of the latter keeps two figures."""
    return digits_for([point["detectable"] for point in curve], least=3)


def curves(scorer: Mapping[str, Any], figure: str, scale: float = 1) -> list[Series]:
    """Make a line of a figure over the number of prompts, for all prompts and for each category that has one."""
    with_curve = [scope for scope in scorer["scopes"] if scope["curve"]]
    return [
        Series(
            name=scope["category"] or "all prompts",
            colour=colour_of(number - 1) if number else "people",
            points=[
                Point(x=point["prompts"], y=scale * point[figure], title=f"{point['prompts']:,} prompts")
                for point in scope["curve"]
            ],
        )
        for number, scope in enumerate(with_curve)
    ]


def panels(scorer: Mapping[str, Any]) -> dict[str, Markup]:
    """Draw the errors and the chances of a scorer, each by its title."""
    found = {}
    for figure, scale, title, y_title in (
        ("difference_error", 1, "Error of a difference", "error of a difference, points"),
        ("wrong_order", 100, "Chance of a wrong order", "chance of a wrong order, %"),
    ):
        series = curves(scorer, figure, scale)
        points = [point for one in series for point in one.points]
        highest, counts = max(point.y or 0.0 for point in points), sorted({point.x for point in points})
        frame = Frame(
            x=value_axis(counts, [f"{count:,.0f}" for count in counts], title="prompts", logarithmic=True),
            y=axis_for([0.0, highest], steps=4, title=y_title),
        )
        found[title] = line_chart(f"{title} against the number of prompts", frame, series)
    return found
