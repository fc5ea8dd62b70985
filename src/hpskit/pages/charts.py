"""Charts as inline SVG: pure functions from numbers to markup.

Colours are classes of `style.css`, so that a chart follows the page into light and dark. Every chart has a text
alternative. A chart in a row of a table is drawn in percent of its width and never scales its type; a panel is drawn in
units, 360 of them across, and is scaled as a whole. Labels are given more room than any usual font needs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape

from hpskit.pages.format import number

_WIDTH, _LEFT, _TOP, _ACROSS = 360, 52, 14, 296
"""Units of a panel: its width, the place of its frame and the width of that."""
_CELL = 34
"""Height of a cell of a heat map."""
_NAME = 48
"""Characters of a name beside a chart."""
_ROW_LABELS = 36
"""Characters of all labels above a column of intervals, with a space each, that fit the narrowest column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A stretch of the number line that figures are drawn on; it may run downwards."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...] = ()
    """One for each tick, of one or more lines; if empty, the ticks are written as numbers."""
    title: str = ""
    logarithmic: bool = False
    slant: bool = False
    """Slant labels that do not fit side by side; otherwise some are left out."""

    def at(self, value: float) -> float:
        """The place of a value as a share of the axis, 0 at `low` and 1 at `high`."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low)

    def holds(self, value: float) -> bool:
        """Tell whether a value lies on the axis."""
        return -1e-9 <= self.at(value) <= 1 + 1e-9

    def label(self, tick: float) -> str:
        """The label of a tick; a number has as many decimals as the step between ticks needs."""
        if self.labels:
            return self.labels[self.ticks.index(tick)]
        step = self.ticks[1] - self.ticks[0]
        return number(tick, max(0, -math.floor(math.log10(step) + 1e-9)))


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`, which is above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def axis_for(values: Iterable[float], steps: int = 5, *, title: str = "") -> Axis:
    """An axis that begins and ends at a round tick and holds all values; `steps` is about how many there are."""
    values = list(values)
    low, high = min(values), max(values)
    seen = high - low > 1e-9 * max(1.0, abs(low), abs(high))  # less is no difference that ticks could tell
    step = round_step((high - low) / steps) if seen else round_step(max(1.0, 1e-9 * abs(high)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(n * step for n in range(first, last + 1))
    return Axis(low=first * step, high=last * step, ticks=ticks, title=title)


def count_axis(highest: int, steps: int = 5, *, title: str = "") -> Axis:
    """An axis of counts, from 0 to exactly the highest, with whole numbers as ticks."""
    end = max(highest, 1)
    step = max(1, round(round_step(end / steps)))
    ticks = range(0, end + 1, step)
    return Axis(low=0, high=end, ticks=tuple(ticks), labels=tuple(f"{tick:,}" for tick in ticks), title=title)


def value_axis(values: Sequence[float], labels: Sequence[str], *, title: str = "", logarithmic: bool = False) -> Axis:
    """An axis whose ticks are the values themselves, in ascending order, with room at both ends."""
    low, high = values[0], values[-1]
    if logarithmic:
        factor = (high / low) ** 0.1 if high > low else 2.0
        low, high = low / factor, high * factor
    else:
        margin = 0.1 * (high - low) or 1.0
        low, high = low - margin, high + margin
    ticks, named = tuple(values), tuple(labels)
    return Axis(low=low, high=high, ticks=ticks, labels=named, title=title, logarithmic=logarithmic)


def category_axis(labels: Sequence[str], *, title: str = "", downwards: bool = False) -> Axis:
    """An axis of names side by side; the n-th, counted from 0, stands at n."""
    low, high = -0.5, len(labels) - 0.5
    low, high = (high, low) if downwards else (low, high)
    return Axis(low=low, high=high, ticks=tuple(range(len(labels))), labels=tuple(labels), title=title, slant=True)


def text_width(text: str) -> float:
    """Units of a panel that the longest line of a label needs at most; a browser sets it in the font that it has."""
    return 8.3 * max(map(len, text.split("\n")))


@cache
def _macros() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here: nothing but a page needs it

    loader = PackageLoader("hpskit.pages")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_written)
    return found.get_template("charts.svg").module


def _draw(macro: str, *facts: object) -> Markup:
    """Call a macro of `templates/charts.svg`."""
    drawn: Markup = getattr(_macros(), macro)(*facts)
    return drawn


def _written(value: object) -> object:
    return f"{round(value, 2) + 0.0:g}" if isinstance(value, float) and abs(value) < 10_000 else value


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Build an element for the content of a frame; text and values are escaped, numbers rounded to hundredths.

    Attributes are written with `-` for `_`; None leaves one out.
    """
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    written = "".join(f' {key}="{escape(_written(value))}"' for key, value in pairs)
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{name}{written}>{inside}</{name}>")  # noqa: S704  # every part is escaped above


def colour_of(place: int) -> str:
    """The class of the series at a place, counted from 0; the house style has six, and further series begin again."""
    return f"c{place % 6}"


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """Give models or scorers their classes: a name has the same colour wherever it stands.

    Each has the one that its letters choose. Where two choose the same, the first by the alphabet has it and the other
    has the next that is free, as long as there are six; so it can change only with the set of names.
    """
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        first = int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:4]) % 6
        taken = list(found.values())[len(found) // 6 * 6 :]
        found[name] = next(one for step in range(6) if (one := colour_of(first + step)) not in taken)
    return found


# Panels


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The axes of a panel. What stands in it is placed by `at`."""

    x: Axis
    y: Axis
    height: float = 196
    """Units of the frame, which is 296 wide."""
    grid: str = "y"
    """The axes whose ticks are lines through the frame: `x`, `y`, `xy` or none."""
    rule: tuple[float, str] | None = None
    """An x with a dotted line through it, and what the line means."""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a pair of values in the panel."""
        return _LEFT + _ACROSS * self.x.at(x), _TOP + self.height * (1 - self.y.at(y))

    def draw(self, title: str, *content: object) -> Markup:
        """The panel: axes, labels and the content, with `title` as its text alternative."""
        bottom = _TOP + self.height
        x_ticks = [(self.at(tick, self.y.low)[0], self.x.label(tick)) for tick in self.x.ticks]
        y_ticks = [(self.at(self.x.low, tick)[1], self.y.label(tick)) for tick in self.y.ticks]
        fitting = _fitting(x_ticks)
        slanted = self.x.slant and fitting != x_ticks
        longest = max(text_width(label) for _, label in x_ticks)
        below = 8 + 0.52 * longest if slanted else 14 * max(label.count("\n") + 1 for _, label in x_ticks)
        reach = [(x, text_width(label) * (0.82 if slanted else 0.5)) for x, label in x_ticks]
        beside = max(0.0, *(text_width(label) - 26 for _, label in y_ticks), *(far - x for x, far in reach))
        beyond = 0.0 if slanted else max(0.0, *(x + far - _WIDTH for x, far in reach))
        return _draw(
            "frame",
            self,
            title,
            Markup("").join(escape(part) for part in content),
            x_ticks if slanted else fitting,
            y_ticks,
            slanted,
            *(_LEFT, _LEFT + _ACROSS, _TOP, bottom),
            *(beside, _WIDTH + beside + beyond, bottom + below + (32 if self.x.title else 6)),
        )


def _fitting(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks, with an empty label where it would run into the one before."""
    found, end = list[tuple[float, str]](), -math.inf
    for x, label in ticks:
        half = text_width(label) / 2
        fits = x - half >= end + 5
        found.append((x, label if fits else ""))
        end = x + half if fits else end
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A figure of a series."""

    x: float
    y: float | None
    """None leaves a gap in the line; if the point has a title, a cross at the foot of the panel shows it."""
    low: float | None = None
    high: float | None = None
    title: str = ""
    radius: float = 3
    ringed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Points of one name and colour, a class of the house style."""

    name: str
    colour: str
    points: Sequence[Point]
    joined: bool = True
    marks: bool = True
    band: bool = False
    """Draw the intervals as one band, cut off at the frame, instead of a bar at each point."""
    dashed: bool = False


def line_chart(title: str, frame: Frame, series: Sequence[Series]) -> Markup:
    """Draw series as lines, marks with intervals, or bands; the first is drawn last, on top.

    Series with bars stand a little apart, so that none hides another.
    """
    bars = [one for one in series if not one.band and any(point.low is not None for point in one.points)]
    shift = {id(one): 4 * (n - (len(bars) - 1) / 2) for n, one in enumerate(bars)}
    bottom, drawn = _TOP + frame.height, []
    for one in reversed(series):
        placed = list[tuple[Point, float, float | None, float | None, float | None]]()
        for point in one.points:
            x = frame.at(point.x, frame.y.low)[0] + shift.get(id(one), 0.0)
            y, low, high = (
                None if value is None else frame.at(point.x, value)[1] for value in (point.y, point.low, point.high)
            )
            placed.append((point, x, y, low, high))
        stretches = groupby(placed, key=lambda place: place[2] is not None)
        lines = [_path((x, y) for _, x, y, *_ in stretch if y is not None) for known, stretch in stretches if known]
        upper = [(x, high) for _, x, _, _, high in placed if one.band and high is not None]
        lower = [(x, low) for _, x, _, low, _ in reversed(placed) if one.band and low is not None]
        band = _path((x, min(max(y, _TOP - 4), bottom)) for x, y in upper + lower)
        drawn.append(_draw("series", one, placed, lines, band, bottom))
    return frame.draw(title, *drawn)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A bar from `low` to `high` on the axis across, as high as its value."""

    low: float
    high: float
    value: float
    colour: str = "c0"
    title: str = ""


def bar_chart(title: str, frame: Frame, bars: Sequence[Bar]) -> Markup:
    """Draw bars, such as those of a histogram; the axis upwards begins at 0."""
    corners = [(bar, frame.at(bar.low, bar.value), frame.at(bar.high, 0)) for bar in bars]
    placed = [(bar, left, right, top, bottom) for bar, (left, top), (right, bottom) in corners]
    return frame.draw(title, _draw("bars", placed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A figure in a heat map; column and row are counted from 0, from the left and from above. None has no shade."""

    column: int
    row: int
    value: float | None
    text: str
    title: str = ""
    ringed: bool = False


def heat_map(title: str, x: Axis, y: Axis, cells: Sequence[Cell]) -> Markup:
    """Draw cells, the darker the higher; the axes are category axes, `y` one that runs downwards.

    No shade is so dark that text in it has less than the contrast that WCAG asks for, 4.5, in light or in dark.
    """
    frame = Frame(x=x, y=y, height=_CELL * len(y.ticks), grid="")
    known = [cell.value for cell in cells if cell.value is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    placed = []
    for cell in cells:
        (left, top), (right, bottom) = (frame.at(cell.column + side, cell.row + side) for side in (-0.5, 0.5))
        shade = 0.0 if cell.value is None else 0.06 + 0.48 * ((cell.value - low) / span if span else 1.0)
        placed.append((cell, shade, left, right, top, bottom))
    return frame.draw(title, _draw("cells", placed))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A figure with its interval, a row of a chart of its own."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = "c0"
    hollow: bool = False


def dot_chart(heading: str, axis: Axis, dots: Sequence[Dot]) -> Markup:
    """Draw figures below one another, each beside its name, for papers; `heading` stands above."""
    names = [dot.name if len(dot.name) <= _NAME else f"{dot.name[: _NAME - 1]}…" for dot in dots]
    frame = Frame(x=axis, y=category_axis(names, downwards=True), height=20 * len(dots), grid="x")
    drawn = [element("text", heading, class_="name", x=_LEFT, y=11)]
    for row, dot in enumerate(dots):
        x, y = frame.at(dot.value, row)
        marks = [element("circle", class_="hollow" if dot.hollow else "mark", cx=x, cy=y, r=3.5)]
        if dot.low is not None and dot.high is not None:
            low, high = (frame.at(end, row)[0] for end in (dot.low, dot.high))
            marks.insert(0, element("path", class_="rule", d=f"M{low:.2f} {y:.2f}H{high:.2f}"))
        drawn.append(element("g", element("title", f"{dot.name}: {number(dot.value)}"), *marks, class_=dot.colour))
    return frame.draw(heading, *drawn)


def legend(series: Iterable[Series]) -> Markup:
    """The names of series beside their colours, as a list."""
    return _draw("legend", series)


# In rows of a table


def interval_axis(axis: Axis) -> Markup:
    """The labels of an axis, for the head of a column of intervals."""
    every = math.ceil(sum(len(axis.label(tick)) + 1 for tick in axis.ticks) / _ROW_LABELS)
    return _draw("interval_axis", axis, every)


def interval(
    axis: Axis,
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    colour: str,
    title: str,
    hollow: bool = False,
    reference: float | None = None,
) -> Markup:
    """Draw a dot with its interval, for a row of a table, whose rows share the axis.

    A value outside of the axis is not drawn. `hollow` makes the dot a ring; `reference` is a small ring besides.
    """
    return _draw("interval", axis, value, low, high, colour, title, hollow, reference)
