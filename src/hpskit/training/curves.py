"""The curves of a training run as panels: where lines, dots and ticks stand. Pure: the template draws them.

A panel has 360 x 262 units, and its lines lie in the rectangle from (52, 14) to (340, 210).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpskit.pages import Axis, axis_for, number

__all__ = ["POINTS", "Dot", "Panel", "Stroke", "panels", "power_of_ten", "text_width"]

Line = Mapping[str, Any]
Figure = Callable[[Line], float | None]

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 340, 14, 210
POINTS = 300
"""A longer run is drawn as means of so many stretches, as there are not more columns of pixels."""
_Y_LABEL = 26
"""Units between the title of the y axis and its ticks."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A figure that was measured at one step."""

    x: float
    y: float
    ends: tuple[float, float] | None
    """Of its interval; None if it has none."""
    title: str
    best: bool = False
    """Whether there is a ring around it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stroke:
    """One figure over the steps."""

    name: str
    colour: str
    """A class of the house style."""
    lines: tuple[str, ...] = ()
    """Points of each unbroken stretch; a step that has no figure breaks the line."""
    band: str = ""
    """Outline of what lies between the smallest and the largest figure of each stretch of steps; empty if each step is
    drawn by itself."""
    dots: tuple[Dot, ...] = ()
    crosses: tuple[Dot, ...] = ()
    """Where there is no figure, and why."""
    dashed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One chart."""

    title: str
    y_label: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    strokes: Sequence[Stroke]
    best: float | None = None
    """Where the step of the best checkpoint is."""
    legend: bool = False
    slanted: bool = False
    """Whether the labels of the x axis are too long to stand side by side."""

    @property
    def beside(self) -> float:
        """Units that the labels of the y axis need more than the margin has."""
        return round(max(0.0, max((text_width(label) for _, label in self.y_ticks), default=0) - _Y_LABEL), 1)

    @property
    def below(self) -> float:
        """Units that slanted labels need more than upright ones: they hang at 35 degrees."""
        return round(0.58 * max(text_width(label) for _, label in self.x_ticks) - 10, 1) if self.slanted else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Series:
    name: str
    colour: str
    lines: Sequence[Line]
    figure: Figure
    dashed: bool = False
    validated: bool = False
    """Drawn as dots, with intervals if the figure has them."""
    interval: str = ""
    """Field of the line with `low` and `high`."""
    from_zero: bool = False
    """Whether 0 is on the axis."""


def panels(steps: Sequence[Line], validations: Sequence[Line], best_step: int | None) -> list[Panel]:
    """Loss, accuracy, learning rate, logit_scale, norm of the gradient and speed.

    Args:
        steps: lines of the kind `step`, at least one.
        validations: lines of the kind `validation`.
        best_step: step of the best checkpoint.
    """
    power = power_of_ten(max(line["lr"] for line in steps))
    unit = 10.0**power
    plans = [
        ("Loss", "loss", _losses(steps, validations)),
        ("Accuracy", "pairs in the right order, %", _accuracies(steps, validations)),
        ("Learning rate", f"learning rate, 10{str(power).translate(_SUPERSCRIPTS)}", [_train(steps, "lr", 1 / unit)]),
        ("logit_scale", "logit_scale", [_train(steps, "logit_scale")]),
        ("Norm of the gradient", "norm before clipping", [_train(steps, "gradient_norm")]),
        ("Speed", "images/s", [_speed(steps)]),
    ]
    return [_panel(title, y_label, series, steps[-1]["step"], best_step) for title, y_label, series in plans]


def text_width(text: str) -> float:
    """Of a label in units of a panel, about: a browser sets it in the font that it has."""
    return 6.4 * len(text)


def power_of_ten(value: float) -> int:
    """The exponent for which value / 10**exponent is at least 1 and below 10."""
    return math.floor(math.log10(value)) if value > 0 else 0


def _losses(steps: Sequence[Line], validations: Sequence[Line]) -> list[_Series]:
    return [
        _Series(name="all scores equal", colour="quoted", lines=steps, figure=lambda row: row["chance"], dashed=True),
        _train(steps, "loss"),
        _Series(name="validation", colour="c1", lines=validations, figure=lambda row: row["loss"], validated=True),
    ]


def _accuracies(steps: Sequence[Line], validations: Sequence[Line]) -> list[_Series]:
    return [
        _Series(name="by chance", colour="quoted", lines=steps, figure=lambda _: 50.0, dashed=True),
        _train(steps, "accuracy", 100),
        _Series(
            name="validation",
            colour="c1",
            lines=validations,
            figure=lambda row: 100 * row["accuracy"]["value"],
            validated=True,
            interval="accuracy",
        ),
    ]


def _train(steps: Sequence[Line], name: str, scale: float = 1.0) -> _Series:
    def figure(row: Line) -> float | None:
        return None if row[name] is None else scale * row[name]

    return _Series(name="training", colour="c0", lines=steps, figure=figure)


def _speed(steps: Sequence[Line]) -> _Series:
    return _Series(
        name="training",
        colour="c0",
        lines=steps,
        figure=lambda row: row["images"] / row["seconds"] if row["seconds"] else None,
        from_zero=True,
    )


def _panel(title: str, y_label: str, series: Sequence[_Series], last: int, best_step: int | None) -> Panel:
    values = [value for one in series for value in _values(one)]
    x_axis, y_axis = _step_axis(last), axis_for(values or [0.0], steps=4)

    def x(step: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (step - x_axis.low) / (x_axis.high - x_axis.low), 2)

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - y_axis.low) / (y_axis.high - y_axis.low), 2)

    return Panel(
        title=title,
        y_label=y_label,
        x_ticks=[(x(tick), f"{tick:,.0f}") for tick in x_axis.ticks],
        y_ticks=[(y(tick), y_axis.label(tick)) for tick in y_axis.ticks],
        strokes=[_dotted(one, x, y) if one.validated else _drawn(one, x, y) for one in series if one.lines],
        best=None if best_step is None else x(best_step),
        legend=len(series) > 1,
    )


def _step_axis(last: int) -> Axis:
    """From 0, with whole steps as ticks, and no longer than the run."""
    found = axis_for([0.0, float(max(last, 1))], steps=5)
    ticks = tuple(tick for tick in found.ticks if tick <= last and tick == int(tick))
    return Axis(low=0.0, high=float(max(last, 1)), ticks=ticks if len(ticks) > 1 else (0.0, float(max(last, 1))))


def _values(series: _Series) -> list[float]:
    """All that the axis has to hold: of a long run the means and nearly all of the band; single steps lie far out."""
    if not series.validated:
        known = [(mean, low, high) for _, mean, low, high in _stretches(series) if mean is not None]
        lows, highs = sorted(low for _, low, _ in known), sorted(high for _, _, high in known)
        far = len(known) // 20
        ends = [lows[far], highs[-1 - far]] if known else []
        return [*(mean for mean, _, _ in known), *ends, *([0.0] if series.from_zero else [])]
    found = [value for row in series.lines if (value := series.figure(row)) is not None]
    ends = [100 * row[series.interval][end] for row in series.lines for end in ("low", "high") if _known(row, series)]
    return found + ends


def _known(row: Line, series: _Series) -> bool:
    return bool(series.interval) and row[series.interval].get("low") is not None


def _stretches(series: _Series) -> list[tuple[float, float | None, float, float]]:
    """Middle, mean, smallest and largest of each stretch of steps; the mean is None where no step has a figure."""
    width = max(1, math.ceil(len(series.lines) / POINTS))
    found: list[tuple[float, float | None, float, float]] = []
    for start in range(0, len(series.lines), width):
        rows = series.lines[start : start + width]
        middle = (rows[0]["step"] + rows[-1]["step"]) / 2
        values = [value for row in rows if (value := series.figure(row)) is not None and math.isfinite(value)]
        if values:
            found.append((middle, sum(values) / len(values), min(values), max(values)))
        else:
            found.append((middle, None, 0.0, 0.0))
    return found


def _drawn(series: _Series, x: Callable[[float], float], y: Callable[[float], float]) -> Stroke:
    stretches = _stretches(series)
    lines, current = list[str](), list[str]()
    for step, mean, _, _ in [*stretches, (0.0, None, 0.0, 0.0)]:
        if mean is not None:
            current.append(f"{x(step)},{y(mean)}")
        elif current:
            lines.append(" ".join(current))
            current = []
    known = [(step, low, high) for step, mean, low, high in stretches if mean is not None]
    band = ""
    if any(low != high for _, low, high in known):
        outline = [(step, high) for step, _, high in known] + [(step, low) for step, low, _ in reversed(known)]
        band = " ".join(f"{x(step)},{_inside(y(value))}" for step, value in outline)
    return Stroke(name=series.name, colour=series.colour, lines=tuple(lines), band=band, dashed=series.dashed)


def _inside(value: float) -> float:
    """Of the band, what lies outside of the panel is cut off."""
    return min(max(value, _TOP - 4), _BOTTOM)


def _dotted(series: _Series, x: Callable[[float], float], y: Callable[[float], float]) -> Stroke:
    dots = []
    for row in series.lines:
        value = series.figure(row)
        if value is None:
            continue
        ends = (100 * row[series.interval]["low"], 100 * row[series.interval]["high"]) if _known(row, series) else None
        dots.append(
            Dot(
                x=x(row["step"]),
                y=y(value),
                ends=(y(ends[0]), y(ends[1])) if ends else None,
                title=f"step {row['step']:,}: {number(value, 3 if value < 10 else 1)}",
            )
        )
    line = " ".join(f"{dot.x},{dot.y}" for dot in dots)
    return Stroke(name=series.name, colour=series.colour, lines=(line,), dots=tuple(dots))
