"""Axes hold what is drawn on them; every chart is well-formed, has a text alternative and escapes what it shows."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.pages import charts
from hpskit.pages.charts import (
    Axis,
    Bar,
    Cell,
    Frame,
    Point,
    Series,
    axis_for,
    category_axis,
    count_axis,
    text_width,
    value_axis,
)

EVIL = '<b onload="x">&'
X = axis_for([0, 1000], title="steps")
Y = axis_for([0.2, 0.9], title=EVIL)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5))
def test_an_axis_holds_its_values_and_begins_and_ends_at_a_tick(values: list[float]) -> None:
    axis = axis_for(values)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values) <= max(values) <= axis.high + slack
    assert all(map(axis.holds, values))
    assert (axis.ticks[0], axis.ticks[-1]) == (axis.low, axis.high)
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks) in range(2, 9)


@pytest.mark.parametrize(
    "axis",
    [
        count_axis(0),
        count_axis(7),
        count_axis(123_456),
        value_axis([3], ["three"]),
        value_axis([1, 2, 5], ["1", "2", "5"]),
        value_axis([1e-6, 1e-5, 1e-3], ["a", "b", "c"], logarithmic=True),
        category_axis(["a", "b"]),
        category_axis(["a", "b"], downwards=True),
    ],
)
def test_ticks_lie_inside_in_order_and_have_labels(axis: Axis) -> None:
    places = [axis.at(tick) for tick in axis.ticks]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert places == sorted(places) or axis.low > axis.high
    assert [axis.label(tick) for tick in axis.ticks] == list(axis.labels)


LINES = [
    Series(
        name=EVIL,
        colour="c0",
        points=[Point(x=10, y=0.5, low=0.4, high=0.6, title="a", ringed=True), Point(x=500, y=None, title="gone")],
    ),
    Series(
        name="b", colour="c1", points=[Point(x=n, y=0.3, low=-9, high=0.9) for n in (0, 900)], band=True, dashed=True
    ),
    Series(name="c", colour="people", points=[Point(x=5, y=0.3, low=0.2, high=0.4), Point(x=6, y=0.2)], joined=False),
]
CHARTS = {
    "lines": charts.line_chart(EVIL, Frame(x=X, y=Y, rule=(700, EVIL)), LINES),
    "square": charts.line_chart("square", Frame(x=X, y=Y, height=296, grid="xy"), LINES[:1]),
    "no points": charts.line_chart("none", Frame(x=X, y=Y), []),
    "names": charts.line_chart("names", Frame(x=category_axis(["a" * 24, EVIL * 3, "c\nd", "d" * 20]), y=Y), []),
    "bars": charts.bar_chart(
        "bars",
        Frame(x=axis_for([-2, 2]), y=count_axis(3)),
        [Bar(low=-2, high=0, value=3, title=EVIL), Bar(low=0, high=2, value=0)],
    ),
    "heat map": charts.heat_map(
        "heat",
        category_axis(["a", "b"], title="across"),
        category_axis([EVIL, "d"], title="down", downwards=True),
        [Cell(column=0, row=0, value=None, text="x"), Cell(column=1, row=1, value=2, text=EVIL, ringed=True)],
    ),
    "interval": charts.interval(X, 50, 20, 80, colour="c0", title=EVIL, reference=10),
    "value": charts.interval(axis_for([-1, 1]), 0.5, colour="quoted", title="one", hollow=True),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_well_formed_and_has_a_text_alternative(name: str) -> None:
    root = ElementTree.fromstring(CHARTS[name])
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext("title")
    assert "nan" not in CHARTS[name]
    assert "onload=" not in {key for node in root.iter() for key in node.keys()}  # noqa: SIM118  # of XML, not of a dict


@pytest.mark.parametrize("name", ["lines", "square", "names", "bars", "heat map"])
def test_everything_that_is_drawn_lies_in_the_panel(name: str) -> None:
    """Labels too, at 7 units for a character, which is more than the widest usual font needs."""
    root = ElementTree.fromstring(CHARTS[name])
    left, top, width, height = map(float, root.get("viewBox", "").split())
    for node in root.iter():
        x, y = (float(node.get(key, node.get(other, "nan"))) for key, other in (("x", "cx"), ("y", "cy")))
        if not math.isnan(x + y):
            assert left <= x <= left + width
            assert top <= y <= top + height
        if node.tag == "text" and not math.isnan(x):
            half = text_width(node.text or "") * {"middle": 0.5, "end": 1.0}[node.get("text-anchor", "")]
            assert left - 3 <= x - half
        for x_text, y_text in re.findall(r"([-\d.]+),([-\d.]+)", node.get("points", "")):
            assert left <= float(x_text) <= left + width
            assert top <= float(y_text) <= top + height


def test_labels_that_would_touch_are_left_out_or_slanted() -> None:
    numbers = value_axis([0, 1, 2, 100], ["zero", "one", "two", "hundred"])
    drawn = charts.line_chart("t", Frame(x=numbers, y=Y), [])
    assert [word in drawn for word in ("zero", "one", "two", "hundred")] == [True, False, False, True]
    assert "rotate(-35)" not in drawn
    assert CHARTS["names"].count("rotate(-35)") == 4


def test_a_gap_breaks_the_line_and_a_titled_one_is_a_cross() -> None:
    ys = [1.0, 2.0, None, 1.5, 2.5]
    series = Series(name="s", colour="c0", points=[Point(x=n, y=y, title=f"n{n}") for n, y in enumerate(ys)])
    drawn = charts.line_chart("t", Frame(x=axis_for(range(5)), y=axis_for([0, 3])), [series])
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 4
    assert drawn.count("<path") == 1
