"""An ablation as one HTML page that opens offline, and as a table in Markdown. Pure: no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpskit.pages import Axis, axis_for, environment
from hpskit.training.curves import Dot, Panel, Stroke

__all__ = ["ablation_page", "ablation_table"]

Row = Mapping[str, Any]

_COLOURS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 340, 14, 210
_MAP_LEFT, _MAP_TOP, _CELL = 70, 24, 34
"""Of a heat map: where its cells begin, and how high they are."""


def ablation_page(result: Mapping[str, Any]) -> str:
    """The page; `result` is what `ablation.json` holds."""
    fields = list(result["fields"])
    judged = [row for row in result["runs"] if row["accuracy"]]
    best = next((row for row in judged if row["name"] == result["best"]), None)
    axis = _axis(judged)
    template = environment("hpskit.training").get_template("ablation.html")
    return str(
        template.render(
            result=result,
            fields=fields,
            best=best,
            panels=[_panel(result, judged, axis, field, fields) for field in fields] if judged else [],
            heat=_heat_map(result, judged, *fields[:2]) if judged and len(fields) > 1 else None,
            written=_written,
        )
    )


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


def _axis(judged: Sequence[Row]) -> Axis:
    ends = [row["accuracy"][key] for row in judged for key in ("value", "low", "high")]
    return axis_for([100 * end for end in ends if end is not None] or [0.0], steps=4)


def _panel(result: Mapping[str, Any], judged: Sequence[Row], axis: Axis, field: str, fields: Sequence[str]) -> Panel:
    """Accuracy over one field. With two fields a line for each value of the other, else the best of all others."""
    values = result["fields"][field]
    other = next((name for name in fields if name != field), None) if len(fields) == 2 else None
    lines = result["fields"][other] if other else [None]
    strokes = []
    for number, value in enumerate(lines):
        rows = [row for row in judged if other is None or row["settings"][other] == value]
        name = f"{other} {_written(value)}" if other else "accuracy"
        shift = (number - (len(lines) - 1) / 2) * 4  # so that intervals do not hide one another
        dots = [_dot(rows, field, values, n, axis, shift) for n in range(len(values))]
        found = tuple(dot for dot in dots if dot)
        line = " ".join(f"{dot.x},{dot.y}" for dot in found)
        strokes.append(Stroke(name=name, colour=f"c{number % _COLOURS}", lines=(line,) if line else (), dots=found))
    return Panel(
        title=field,
        y_label="validation accuracy, %",
        x_ticks=[(_x(n, len(values)), _written(value)) for n, value in enumerate(values)],
        y_ticks=[(_y(tick, axis), axis.label(tick)) for tick in axis.ticks],
        strokes=strokes,
        legend=other is not None,
    )


def _dot(rows: Sequence[Row], field: str, values: Sequence[Any], n: int, axis: Axis, shift: float) -> Dot | None:
    there = [row for row in rows if row["settings"][field] == values[n]]
    if not there:
        return None
    row = max(there, key=lambda found: float(found["accuracy"]["value"]))
    accuracy = row["accuracy"]
    ends = None
    if accuracy["low"] is not None:
        ends = (_y(100 * accuracy["low"], axis), _y(100 * accuracy["high"], axis))
    title = f"{row['name']}: {100 * accuracy['value']:.1f} %"
    return Dot(x=round(_x(n, len(values)) + shift, 2), y=_y(100 * accuracy["value"], axis), ends=ends, title=title)


def _x(index: int, count: int) -> float:
    """Middle of the n-th of `count` columns."""
    return round(_LEFT + (_RIGHT - _LEFT) * (index + 0.5) / count, 2)


def _y(value: float, axis: Axis) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * (value - axis.low) / (axis.high - axis.low), 2)


def _heat_map(result: Mapping[str, Any], judged: Sequence[Row], across: str, down: str) -> dict[str, Any]:
    """Columns are the values of one field, rows of another; a cell shows the best over all further fields."""
    columns, lines = result["fields"][across], result["fields"][down]
    width = (_RIGHT - _MAP_LEFT) / len(columns)
    found: dict[tuple[int, int], Row] = {}
    for row in sorted(judged, key=lambda row: float(row["accuracy"]["value"])):
        found[columns.index(row["settings"][across]), lines.index(row["settings"][down])] = row
    values = [row["accuracy"]["value"] for row in found.values()]
    span = max(values) - min(values)
    cells = []
    for (column, line), row in found.items():
        shade = (row["accuracy"]["value"] - min(values)) / span if span else 1.0
        cells.append(
            {
                "x": round(_MAP_LEFT + column * width, 2),
                "y": _MAP_TOP + line * _CELL,
                "opacity": round(0.06 + 0.84 * shade, 3),
                "light": shade > 0.55,
                "value": f"{100 * row['accuracy']['value']:.1f}",
                "best": row["name"] == result["best"],
                "title": row["name"],
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
