"""A training run as one HTML page that opens offline: curves, validation, recipe, data, warnings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hpskit.files import publish
from hpskit.pages.charts import Frame, Point, Series, axis_for, count_axis, legend, line_chart
from hpskit.pages.format import duration
from hpskit.pages.page import page
from hpskit.training.run_folder import Line, RunConfig, RunFolder, best_validation, lines_of

_POINTS = 300
"""A longer run is drawn as means of so many stretches, as there are not more columns of pixels."""
_COLUMNS = ("name", "format", "groups", "pairs", "ratio")
"""Facts of a data set, in this order; a column that none of them has is left out."""


def publish_report(folder: RunFolder) -> None:
    """Write the report of a run as far as it is.

    Raises:
        InputError: its settings or its log are damaged.
        OutputError: it cannot be written.
    """
    text = report_page(folder.name, folder.config(), folder.log())
    with publish(folder.report) as temporary:
        temporary.write_text(text, encoding="utf-8")


def report_page(name: str, config: RunConfig, log: Sequence[Line]) -> str:
    """Return the page of a run, finished or not.

    Args:
        name: of the run.
        config: what it was started with.
        log: its lines.
    """
    steps, validations, best = lines_of(log, "step"), lines_of(log, "validation"), best_validation(log)
    seconds = sum(line["seconds"] for line in steps)
    last = next((line for line in reversed(log) if line["kind"] in ("start", "end")), None)
    state = f"stopped after step {last['step']:,}" if last and last.get("reason") == "stopped" else ""
    if last is None or last["kind"] == "start":
        state = "under way when this page was written"
    facts = config.model_dump()
    return page(
        "hpskit.training",
        "run.html",
        result={"package": config.package},
        config=config,
        recipe={name: written(value) for name, value in config.recipe.model_dump().items()},
        run={
            "name": name,
            "steps": steps[-1]["step"] if steps else 0,
            "state": state,
            "duration": duration(seconds) if seconds else "",
            "stretch": math.ceil(len(steps) / _POINTS),
            "dropped": sum(line["dropped"] for line in steps),
            "resumed": max(0, len(lines_of(log, "start")) - 1),
        },
        best=best,
        validations=validations,
        warnings=lines_of(log, "warning"),
        charts=curves(steps, validations, best["step"] if best else None) if steps else [],
        data=[
            (heading, [c for c in _COLUMNS if any(facts.get(c) is not None for facts in sets)], sets)
            for heading, sets in (("Training", facts["data"]), ("Validation", facts["validation"]))
        ],
        fact=fact,
    )


def written(value: Any) -> str:
    """Write a setting as a recipe's file has it, without the quotes."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def fact(value: Any) -> str:
    """Write a fact of a data set."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def curves(
    steps: Sequence[Line], validations: Sequence[Line], best_step: int | None
) -> list[tuple[str, Markup, Markup | str]]:
    """Draw loss, accuracy, learning rate, logit_scale, norm of the gradient and speed: title, chart, legend of each.

    Args:
        steps: lines of the kind `step`, at least one.
        validations: lines of the kind `validation`.
        best_step: step of the best checkpoint.
    """
    highest = max(line["lr"] for line in steps)
    power = math.floor(math.log10(highest)) if highest > 0 else 0

    def trained(name: str, scale: float = 1.0) -> Series:
        points = stretches(steps, lambda line: None if line[name] is None else scale * line[name])
        return Series(name="training", colour="c0", points=points, marks=False, band=True)

    def guessed(name: str, figure: Callable[[Line], float]) -> Series:
        points = stretches(steps, figure)
        return Series(name=name, colour="quoted", points=points, marks=False, band=True, dashed=True)

    def validated(name: str) -> Series:
        points = []
        for line in validations:
            span = line[name] if isinstance(line[name], Mapping) else {"value": line[name] / 100}
            value, low, high = (None if span.get(end) is None else 100 * span[end] for end in ("value", "low", "high"))
            points.append(Point(x=line["step"], y=value, low=low, high=high, title=f"step {line['step']:,}"))
        return Series(name="validation", colour="c1", points=points)

    speeds = stretches(steps, lambda line: line["images"] / line["seconds"] if line["seconds"] else None)
    charts = {
        ("Loss", "loss"): [
            validated("loss"),
            trained("loss"),
            guessed("all scores equal", lambda line: line["chance"]),
        ],
        ("Accuracy", "pairs in the right order, %"): [
            validated("accuracy"),
            trained("accuracy", 100),
            guessed("guessing", lambda _: 50.0),
        ],
        ("Learning rate", f"learning rate, in 1e{power}"): [trained("lr", 10**-power)],
        ("logit_scale", "logit_scale"): [trained("logit_scale")],
        ("Norm of the gradient", "norm before clipping"): [trained("gradient_norm")],
        ("Speed", "images/s"): [Series(name="training", colour="c0", points=speeds, marks=False, band=True)],
    }
    x = count_axis(steps[-1]["step"], title="step")
    rule = None if best_step is None else (best_step, "best checkpoint")
    drawn: list[tuple[str, Markup, Markup | str]] = []
    for (title, label), series in charts.items():
        values = [value for one in series for value in extent(one)] + [0.0] * (title == "Speed")
        frame = Frame(x=x, y=axis_for(values or [0.0], steps=4, title=label), rule=rule)
        key = legend([one for one in series if one.points]) if len(series) > 1 else ""
        drawn.append((title, line_chart(f"{title} against step", frame, series), key))
    return drawn


def stretches(lines: Sequence[Line], figure: Callable[[Line], float | None]) -> list[Point]:
    """Take the mean of each stretch of steps, from the smallest to the largest; a step without a figure is a gap."""
    size = math.ceil(len(lines) / _POINTS)
    found = []
    for start in range(0, len(lines), size):
        rows = lines[start : start + size]
        values = [value for row in rows if (value := figure(row)) is not None and math.isfinite(value)]
        mean = sum(values) / len(values) if values else None
        low, high = (min(values), max(values)) if values and size > 1 else (None, None)
        found.append(Point(x=(rows[0]["step"] + rows[-1]["step"]) / 2, y=mean, low=low, high=high))
    return found


def extent(series: Series) -> list[float]:
    """List the values that the axis has to hold: nearly all of a band, as single steps may lie far out."""
    values = [point.y for point in series.points if point.y is not None]
    lows = sorted(point.low for point in series.points if point.low is not None)
    highs = sorted(point.high for point in series.points if point.high is not None)
    far = len(lows) // 20 if series.band else 0
    return values + ([lows[far], highs[-1 - far]] if lows else [])
