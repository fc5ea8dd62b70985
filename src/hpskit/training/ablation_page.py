"""An ablation as one HTML page that opens offline, and as a table in Markdown. Pure: no files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hpskit.pages import Axis, axis_for, environment
from hpskit.training.curves import Dot, Panel, Stroke

__all__ = ["ablation_page", "ablation_table"]

Row = Mapping[str, Any]

_COLOURS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 340, 14, 210
_INSET = 26
"""From the sides of a chart to its first and its last value."""
_LABEL = 32
"""Room that a label under an axis needs."""
_LOGARITHMIC = 10
"""Positive numbers that differ by this factor are drawn on a logarithmic axis."""
_MAP_LEFT, _MAP_TOP, _CELL = 70, 24, 34
"""Of a heat map: where its cells begin, and how high they are."""


def ablation_page(result: Mapping[str, Any]) -> str:
    """The page; `result` is what `ablation.json` holds."""
    fields = {field: _in_order(values) for field, values in result["fields"].items()}
    rows = sorted(result["runs"], key=lambda row: -_accuracy(row))
    template = environment("hpskit.training").get_template("ablation.html")
    return str(
        template.render(
            result=result,
            rows=rows,
            fields=[*fields],
            best=next((row for row in rows if row["name"] == result["best"]), None),
            panels=[_panel(result, fields, field) for field in fields],
            heat=_heat_map(result, fields) if len(fields) > 1 else None,
            stopped=[row for row in result["runs"] if row["stopped"]],
            report=_report,
            written=_written,
        )
    )


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Numbers from small to large, then words as they were given."""
    return sorted(values, key=lambda value: (0, value) if _is_number(value) else (1, values.index(value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _accuracy(row: Row) -> float:
    """What runs are compared by; a stopped one is below all others, however good it was before."""
    return -1.0 if row["stopped"] or not row["accuracy"] else float(row["accuracy"]["value"])


def _report(row: Row) -> str | None:
    """Where the page of a run is, beside this one; a run that stopped has none."""
    return None if row["stopped"] else f"runs/{quote(row['name'])}/report.html"


def ablation_table(result: Mapping[str, Any]) -> str:
    """A row for each run; the best one is bold."""
    heads = [*result["fields"], "accuracy, %", "95 % interval", "hpdv2, %", "loss", "best step"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in result["runs"]:
        cells = [_written(row["settings"][field]) for field in result["fields"]] + _figures(row)
        if row["name"] == result["best"]:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figures(row: Row) -> list[str]:
    if row["stopped"] or not row["accuracy"]:
        return [f"stopped at step {row['steps']:,}", "", "", "", ""]
    accuracy = row["accuracy"]
    known = accuracy["low"] is not None
    return [
        f"{100 * accuracy['value']:.1f}",
        f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}" if known else "",
        f"{100 * row['hpdv2']['value']:.1f}",
        f"{row['loss']:.4f}",
        f"{row['best_step']:,}",
    ]


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _axis(runs: Sequence[Row]) -> Axis:
    judged = [row["accuracy"] for row in runs if _accuracy(row) >= 0]
    ends = [accuracy[key] for accuracy in judged for key in ("value", "low", "high")]
    return axis_for([100 * end for end in ends if end is not None] or [50.0], steps=4)


def _panel(result: Mapping[str, Any], fields: Mapping[str, Sequence[Any]], field: str) -> Panel:
    """Accuracy over one field. With two fields a line for each value of the other, else the best of all others."""
    axis, places = _axis(result["runs"]), _places(fields[field])
    other = next((name for name in fields if name != field), None) if len(fields) == 2 else None
    lines = fields[other] if other else [None]
    strokes = []
    for number, value in enumerate(lines):
        rows = [row for row in result["runs"] if other is None or row["settings"][other] == value]
        best_of = [max((r for r in rows if r["settings"][field] == v), key=_accuracy) for v in fields[field]]
        shift = (number - (len(lines) - 1) / 2) * 4  # so that intervals do not hide one another
        dots = [_dot(row, x + shift, axis, result["best"]) for row, x in zip(best_of, places, strict=True)]
        name = f"{other} {_written(value)}" if other else "accuracy"
        strokes.append(_stroke(name, f"c{number % _COLOURS}", best_of, dots))
    return Panel(
        title=f"{field} (logarithmic)" if _is_logarithmic(fields[field]) else field,
        y_label="validation accuracy, %",
        x_ticks=_ticks(fields[field], places),
        y_ticks=[(_y(tick, axis), axis.label(tick)) for tick in axis.ticks],
        strokes=strokes,
        legend=other is not None,
    )


def _stroke(name: str, colour: str, rows: Sequence[Row], dots: Sequence[Dot]) -> Stroke:
    """The dots of some runs, joined where no run between them stopped."""
    parts = [
        (there, [dot for _, dot in part])
        for there, part in itertools.groupby(zip(rows, dots, strict=True), lambda found: _accuracy(found[0]) >= 0)
    ]
    return Stroke(
        name=name,
        colour=colour,
        lines=tuple(" ".join(f"{dot.x},{dot.y}" for dot in part) for there, part in parts if there),
        dots=tuple(dot for there, part in parts if there for dot in part),
        crosses=tuple(dot for there, part in parts if not there for dot in part),
    )


def _dot(row: Row, x: float, axis: Axis, best: str | None) -> Dot:
    """Of a run that stopped, where its cross is: at the foot of the chart."""
    x = round(x, 2)
    if _accuracy(row) < 0:
        return Dot(x=x, y=_BOTTOM - 5, ends=None, title=f"{row['name']} stopped at step {row['steps']:,}")
    accuracy = row["accuracy"]
    known = accuracy["low"] is not None
    return Dot(
        x=x,
        y=_y(100 * accuracy["value"], axis),
        ends=(_y(100 * accuracy["low"], axis), _y(100 * accuracy["high"], axis)) if known else None,
        title=f"{row['name']}: {100 * accuracy['value']:.1f} %",
        best=row["name"] == best,
    )


def _is_logarithmic(values: Sequence[Any]) -> bool:
    numbers = all(map(_is_number, values)) and min(values) > 0
    return numbers and max(values) >= _LOGARITHMIC * min(values)


def _places(values: Sequence[Any]) -> list[float]:
    """x of each value: by its size, or by its logarithm; where some are words, side by side."""
    at = [float(number) for number in range(len(values))]
    if _is_logarithmic(values):
        at = [math.log(value) for value in values]
    elif all(map(_is_number, values)):
        at = [float(value) for value in values]
    span = at[-1] - at[0]
    left, width = _LEFT + _INSET, _RIGHT - _LEFT - 2 * _INSET
    return [round(left + width * ((value - at[0]) / span if span else 0.5), 2) for value in at]


def _ticks(values: Sequence[Any], places: Sequence[float]) -> list[tuple[float, str]]:
    """Every value has a tick, and a label if there is room."""
    ticks, end = list[tuple[float, str]](), -math.inf
    for value, x in zip(values, places, strict=True):
        fits = x - end >= _LABEL
        ticks.append((x, _written(value) if fits else ""))
        end = x if fits else end
    return ticks


def _y(value: float, axis: Axis) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * (value - axis.low) / (axis.high - axis.low), 2)


def _heat_map(result: Mapping[str, Any], fields: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Columns are the values of the first field, lines of the second; a cell shows the best over all further ones."""
    (across, columns), (down, lines), *_ = fields.items()
    width = (_RIGHT - _MAP_LEFT) / len(columns)
    found: dict[tuple[int, int], Row] = {}
    for row in sorted(result["runs"], key=_accuracy):
        found[columns.index(row["settings"][across]), lines.index(row["settings"][down])] = row
    values = [_accuracy(row) for row in found.values() if _accuracy(row) >= 0] or [0.0]
    span = max(values) - min(values)
    cells = []
    for (column, line), row in found.items():
        there = _accuracy(row) >= 0
        shade = (_accuracy(row) - min(values)) / span if span else 1.0
        cells.append(
            {
                "x": round(_MAP_LEFT + column * width, 2),
                "y": _MAP_TOP + line * _CELL,
                "opacity": round(0.06 + 0.84 * shade, 3) if there else 0,
                "light": there and shade > 0.65,
                "value": f"{100 * _accuracy(row):.1f}" if there else "\N{MULTIPLICATION SIGN}",
                "best": row["name"] == result["best"],
                "title": f"{row['name']}: {100 * _accuracy(row):.1f} %" if there else f"{row['name']} stopped",
            }
        )
    return {
        "across": across,
        "down": down,
        "cells": cells,
        "width": round(width, 2),
        "height": _CELL,
        "bottom": _MAP_TOP + len(lines) * _CELL,
        "x_ticks": [(round(_MAP_LEFT + (n + 0.5) * width, 2), _written(value)) for n, value in enumerate(columns)],
        "y_ticks": [(_MAP_TOP + (n + 0.5) * _CELL + 4, _written(value)) for n, value in enumerate(lines)],
    }
