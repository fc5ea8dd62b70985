"""Charts as inline SVG: pure functions from numbers to markup.

Colours are classes of `style.css`, so that a chart follows the page into light and dark. Every chart has a text
alternative. A chart in a row of a table is drawn in percent of its width and never scales its type; a panel is drawn in
units, 360 of them across, and is scaled as a whole. Labels are given more room than any usual font needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hpskit.pages.axes import Axis

__all__ = [
    "Bar",
    "Cell",
    "Frame",
    "Point",
    "Series",
    "bar_chart",
    "colour_of",
    "element",
    "heat_map",
    "interval",
    "interval_axis",
    "legend",
    "line_chart",
]

_WIDTH, _LEFT, _TOP, _ACROSS = 360, 52, 14, 296
"""Units of a panel: its width, the place of its frame and the width of that."""
_CELL = 34
"""Height of a cell of a heat map."""
_ROW_LABELS = 36
"""Characters of all labels above a column of intervals, with a space each, that fit the narrowest column."""


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Build an SVG or HTML element; text and values are escaped.

    Args:
        name: of the element.
        children: markup or text.
        attributes: written with `-` for `_`; None leaves one out. Numbers are rounded to hundredths.
    """
    written = [f' {key.rstrip("_").replace("_", "-")}="{_value(v)}"' for key, v in attributes.items() if v is not None]
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{name}{''.join(written)}>{inside}</{name}>")  # noqa: S704  # every part is escaped above


def _value(value: object) -> str:
    return f"{round(value, 2) + 0.0:g}" if isinstance(value, float) and abs(value) < 10_000 else str(escape(value))


def colour_of(place: int) -> str:
    """The class of the series at a place, counted from 0; the house style has six, and further series begin again."""
    return f"c{place % 6}"


def text_width(text: str) -> float:
    """Units that the longest line of a label needs at most; a browser sets it in the font that it has."""
    return 7.0 * max(map(len, text.split("\n")))


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
        right, bottom = _LEFT + _ACROSS, _TOP + self.height
        x_ticks = [(_LEFT + _ACROSS * self.x.at(tick), self.x.label(tick)) for tick in self.x.ticks]
        y_ticks = [(_TOP + self.height * (1 - self.y.at(tick)), self.y.label(tick)) for tick in self.y.ticks]
        fitting = _fitting(x_ticks)
        slanted = self.x.slant and fitting != x_ticks
        longest = max(text_width(label) for _, label in x_ticks)
        below = 8 + 0.52 * longest if slanted else 12 * max(label.count("\n") + 1 for _, label in x_ticks)
        reach = [(x, text_width(label) * (0.82 if slanted else 0.5)) for x, label in x_ticks]
        beside = max(0.0, *(text_width(label) - 28 for _, label in y_ticks), *(far - x for x, far in reach))
        beyond = 0.0 if slanted else max(0.0, *(x + far - _WIDTH for x, far in reach))
        parts = [
            *(_line("grid", _LEFT, right, y, y) for y, _ in y_ticks if "y" in self.grid),
            *(_line("grid", x, x, _TOP, bottom) for x, _ in x_ticks if "x" in self.grid),
            *(_line("axis", x, x, bottom, bottom + 4) for x, _ in x_ticks if self.grid == "y"),
            *(_text(_LEFT - 6, y + 4, label, "end") for y, label in y_ticks),
        ]
        for x, label in x_ticks if slanted else fitting:
            if slanted:
                parts.append(_turned(x + 4, bottom + 12, -35, " ".join(label.split("\n")), "end"))
            else:
                parts += [_text(x, bottom + 17 + 12 * n, line, "middle") for n, line in enumerate(label.split("\n"))]
        if self.x.low < 0 < self.x.high and not self.x.labels:
            zero = self.at(0, self.y.low)[0]
            parts.append(_line("axis", zero, zero, _TOP, bottom))
        height = bottom + below + (28 if self.x.title else 6)
        parts.append(_text(_LEFT + _ACROSS / 2, height - 6, self.x.title, "middle"))
        parts.append(_turned(10 - beside, _TOP + self.height / 2, -90, self.y.title, "middle"))
        if self.rule:
            x = self.at(self.rule[0], self.y.low)[0]
            content += (_line("rule thin", x, x, _TOP - 4, bottom, element("title", self.rule[1]), dash="2 3"),)
        view = f"{-beside:.2f} 0 {_WIDTH + beside + beyond:.2f} {height:.2f}"
        return _svg(title, *parts, *content, viewBox=view)


def _svg(title: str, *content: object, class_: str = "chart", viewBox: str | None = None) -> Markup:  # noqa: N803
    name = element("title", title)
    return element("svg", name, *content, class_=class_, role="img", aria_label=title, viewBox=viewBox)


def _line(kind: str, x1: object, x2: object, y1: object, y2: object, *title: object, dash: str | None = None) -> Markup:
    return element("line", *title, class_=kind, x1=x1, x2=x2, y1=y1, y2=y2, stroke_dasharray=dash)


def _text(x: object, y: float, text: object, anchor: str, class_: str | None = None) -> Markup:
    return element("text", text, class_=class_, x=x, y=y, text_anchor=anchor)


def _turned(x: float, y: float, angle: float, text: str, anchor: str) -> Markup:
    return element("text", text, transform=f"translate({x:.2f} {y:.2f}) rotate({angle})", text_anchor=anchor)


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
    """Points of one name and colour."""

    name: str
    colour: str
    """A class of the house style."""
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
    return frame.draw(title, *(_series(frame, one, shift.get(id(one), 0.0)) for one in reversed(series)))


def _series(frame: Frame, series: Series, shift: float) -> Markup:
    bottom = _TOP + frame.height
    outline, crosses, marks = list[list[tuple[float, float]]]([[]]), list[Markup](), list[Markup]()
    upper, lower = list[tuple[float, float]](), list[tuple[float, float]]()
    for point in series.points:
        words = [element("title", f"{series.name}, {point.title}")] if point.title else []
        x = frame.at(point.x, frame.y.low)[0] + shift
        if point.y is None:
            outline.append([])
            if point.title:
                cross = f"M{x - 3.5:.2f} {bottom - 8.5:g}l7 7m0-7l-7 7"
                crosses.append(element("path", *words, class_="rule", d=cross))
            continue
        y = frame.at(point.x, point.y)[1]
        outline[-1].append((x, y))
        if point.low is not None and point.high is not None:
            ends = [frame.at(point.x, end)[1] for end in (point.low, point.high)]
            if series.band:
                low, high = (min(max(end, _TOP - 4), bottom) for end in ends)
                lower.append((x, low))
                upper.append((x, high))
            else:
                marks.append(_line("rule thin", x, x, *ends))
        if series.marks:
            kind = "hollow" if series.dashed else "mark"
            marks.append(element("circle", *words, class_=kind, cx=x, cy=y, r=point.radius))
        if point.ringed:
            marks.append(element("circle", class_="rule thin", cx=x, cy=y, r=point.radius + 3))
    dash = "5 3" if series.dashed else None
    parts = [element("polygon", class_="band", points=_path([*upper, *reversed(lower)]))] if upper else []
    if series.joined:
        lines = [_path(stretch) for stretch in outline if len(stretch) > 1]
        parts += [element("polyline", class_="rule", stroke_dasharray=dash, points=line) for line in lines]
    return element("g", *parts, *marks, *crosses, class_=series.colour)


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
    drawn = []
    for bar in bars:
        (left, top), (right, bottom) = frame.at(bar.low, bar.value), frame.at(bar.high, 0)
        place = {"x": left + 0.5, "y": top, "width": max(right - left - 1, 0.5), "height": bottom - top}
        drawn.append(element("rect", element("title", bar.title), class_=f"mark {bar.colour}", **place))
    return frame.draw(title, *drawn)


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
    """Draw cells, the darker the higher; the axes are category axes, `y` one that runs downwards."""
    frame = Frame(x=x, y=y, height=_CELL * len(y.ticks), grid="")
    known = [cell.value for cell in cells if cell.value is not None]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    drawn = []
    for cell in cells:
        (left, top), (right, bottom) = (frame.at(cell.column + side, cell.row + side) for side in (-0.5, 0.5))
        place = {"x": left + 1, "y": top + 1, "width": right - left - 2, "height": bottom - top - 2}
        shade = 0.0 if cell.value is None else 0.06 + 0.84 * ((cell.value - low) / span if span else 1.0)
        parts = [element("title", cell.title), element("rect", class_="cell", fill_opacity=shade, **place)]
        if cell.ringed:
            parts.append(element("rect", class_="ring", **place))
        parts.append(
            _text((left + right) / 2, (top + bottom) / 2 + 4, cell.text, "middle", "on" if shade > 0.6 else "in")
        )
        drawn.append(element("g", *parts))
    return frame.draw(title, *drawn)


def legend(series: Iterable[Series]) -> Markup:
    """The names of series beside their colours, as a list."""
    rows = [element("li", element("span", class_="key"), one.name, class_=one.colour) for one in series]
    return element("ul", *rows, class_="legend")


# In rows of a table


def _percent(axis: Axis, value: float) -> str:
    """The place in a column; 7 % stay free at either end for labels of ticks."""
    return f"{7 + 86 * axis.at(value):.2f}%"


def interval_axis(axis: Axis) -> Markup:
    """The labels of an axis, for the head of a column of intervals."""
    every = math.ceil(sum(len(axis.label(tick)) + 1 for tick in axis.ticks) / _ROW_LABELS)
    parts = []
    for n, tick in enumerate(axis.ticks):
        x = _percent(axis, tick)
        parts.append(_line("axis", x, x, 18, 22))
        if n % every == 0:
            parts.append(_text(x, 13, axis.label(tick), "middle"))
    return element("svg", *parts, class_="chart", aria_hidden="true")


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
    parts = []
    for tick in axis.ticks:
        x = _percent(axis, tick)
        parts.append(_line("axis" if tick == 0 and axis.low < 0 else "grid", x, x, -60, 82))
    if reference is not None:
        parts.append(element("circle", class_="hollow", cx=_percent(axis, reference), cy=11, r=3.5))
    if low is not None and high is not None:
        left, right = _percent(axis, low), _percent(axis, high)
        parts += [_line("rule", left, right, 11, 11), *(_line("rule", end, end, 7, 15) for end in (left, right))]
    if axis.holds(value):
        kind = "hollow" if hollow else "mark"
        parts.append(element("circle", class_=kind, cx=_percent(axis, value), cy=11, r=4))
    return _svg(title, *parts, class_=f"chart {colour}")
