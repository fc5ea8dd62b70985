"""An ablation as one HTML page that opens offline, and as a table in Markdown. Pure: no files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hpskit.pages import Axis, axis_for, environment
from hpskit.training.curves import Dot, Panel, Stroke, text_width

__all__ = ["ablation_page", "ablation_table", "losses_compare", "ranked", "undecided"]

Row = Mapping[str, Any]

_COLOURS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 340, 14, 210
_INSET = 26
"""From the sides of a chart to its first and its last value."""
_GAP = 6
"""Between two labels under an axis."""
_LONGEST = 24
"""Characters of a label; of a longer one, such as a path, the end is shown."""
_OTHER_LOSS = frozenset({"loss", "margin", "tie_share", "rating", "rating_step", "weighting"})
"""Fields that change what the loss is."""
_LOGARITHMIC = 10
"""Positive numbers that differ by this factor are drawn on a logarithmic axis."""
_MAP_TOP, _CELL = 24, 34
"""Of a heat map: where its cells begin, and how high they are."""


def ablation_page(result: Mapping[str, Any]) -> str:
    """The page; `result` is what `ablation.json` holds."""
    fields = {field: _in_order(values) for field, values in result["fields"].items()}
    template = environment("hpskit.training").get_template("ablation.html")
    return str(
        template.render(
            result=result,
            rows=ranked(result),
            fields=[*fields],
            best=next((row for row in result["runs"] if row["name"] == result["best"]), None),
            undecided=undecided(result),
            losses=losses_compare(result["fields"]),
            panels=[_panel(result, fields, field) for field in fields],
            heat=_heat_map(result, fields) if len(fields) > 1 else None,
            stopped=[row for row in result["runs"] if row["stopped"]],
            report=_report,
            written=_written,
        )
    )


def ranked(result: Mapping[str, Any]) -> list[Row]:
    """The runs, the best first, those that stopped last."""
    return sorted(result["runs"], key=lambda row: (row["name"] != result["best"], -_accuracy(row)))


def undecided(result: Mapping[str, Any]) -> int:
    """How many other runs have an interval that overlaps with that of the best."""
    ends = {row["name"]: row["accuracy"] for row in result["runs"] if _accuracy(row) >= 0}
    best = ends.pop(result["best"], None)
    if best is None or best["low"] is None:
        return 0
    return sum(other["high"] is not None and other["high"] >= best["low"] for other in ends.values())


def losses_compare(fields: Iterable[str]) -> bool:
    """Whether all runs have the same loss, so that its values can be compared."""
    return _OTHER_LOSS.isdisjoint(fields)


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
    losses = losses_compare(result["fields"])
    heads = [*result["fields"], "accuracy, %", "95 % interval", "hpdv2, %"]
    heads += ["validation loss", "best step"] if losses else ["best step"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in result["runs"]:
        cells = [_written(row["settings"][field]) for field in result["fields"]] + _figures(row, losses)
        if row["name"] == result["best"]:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figures(row: Row, losses: bool) -> list[str]:
    if row["stopped"] or not row["accuracy"]:
        return [f"stopped at step {row['steps']:,}", "", "", "", *([""] if losses else [])]
    accuracy = row["accuracy"]
    known = accuracy["low"] is not None
    return [
        f"{100 * accuracy['value']:.1f}",
        f"{100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f}" if known else "",
        f"{100 * row['hpdv2']['value']:.1f}",
        *([f"{row['loss']:.4f}"] if losses else []),
        f"{row['best_step']:,}",
    ]


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _label(value: Any) -> str:
    text = _written(value)
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"


def _axis(runs: Sequence[Row]) -> Axis:
    judged = [row["accuracy"] for row in runs if _accuracy(row) >= 0]
    ends = [accuracy[key] for accuracy in judged for key in ("value", "low", "high")]
    return axis_for([100 * end for end in ends if end is not None] or [50.0], steps=4)


def _panel(result: Mapping[str, Any], fields: Mapping[str, Sequence[Any]], field: str) -> Panel:
    """Accuracy over one field. With two fields a line for each value of the other, else the best of all others."""
    axis, places = _axis(result["runs"]), _places(fields[field])
    ticks, slanted = _ticks(fields[field], places)
    other = next((name for name in fields if name != field), None) if len(fields) == 2 else None
    lines = fields[other] if other else [None]
    strokes = []
    for number, value in enumerate(lines):
        rows = [row for row in result["runs"] if other is None or row["settings"][other] == value]
        best_of = [max((r for r in rows if r["settings"][field] == v), key=_accuracy) for v in fields[field]]
        shift = (number - (len(lines) - 1) / 2) * 4  # so that intervals do not hide one another
        dots = [_dot(row, x + shift, axis, result["best"]) for row, x in zip(best_of, places, strict=True)]
        name = f"{other} {_written(value)}" if other else "accuracy"
        strokes.append(_stroke(name, f"c{number % _COLOURS}", best_of, dots, list(map(_is_number, fields[field]))))
    return Panel(
        title=f"{field} (logarithmic)" if _is_logarithmic(fields[field]) else field,
        y_label="validation accuracy, %",
        x_ticks=ticks,
        y_ticks=[(_y(tick, axis), axis.label(tick)) for tick in axis.ticks],
        strokes=strokes,
        legend=other is not None,
        slanted=slanted,
    )


def _stroke(name: str, colour: str, rows: Sequence[Row], dots: Sequence[Dot], numbers: Sequence[bool]) -> Stroke:
    """The dots of some runs, those of numbers joined where no run between them stopped; between words there is
    nothing."""
    there = [_accuracy(row) >= 0 for row in rows]
    joined = [known and number for known, number in zip(there, numbers, strict=True)]
    stretches = itertools.groupby(zip(joined, dots, strict=True), lambda found: found[0])
    return Stroke(
        name=name,
        colour=colour,
        lines=tuple(" ".join(f"{dot.x},{dot.y}" for _, dot in part) for one_line, part in stretches if one_line),
        dots=tuple(dot for dot, known in zip(dots, there, strict=True) if known),
        crosses=tuple(dot for dot, known in zip(dots, there, strict=True) if not known),
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


def _ticks(values: Sequence[Any], places: Sequence[float]) -> tuple[list[tuple[float, str]], bool]:
    """Every value has a tick. A number has a label if there is room; words all have one, and if need be slanted."""
    ticks, end = list[tuple[float, str]](), -math.inf
    for value, x in zip(values, places, strict=True):
        half = text_width(_label(value)) / 2
        fits = x - half >= end + _GAP
        ticks.append((x, _label(value) if fits else ""))
        end = x + half if fits else end
    if all(map(_is_number, values)) or all(label for _, label in ticks):
        return ticks, False
    return [(x, _label(value)) for value, x in zip(values, places, strict=True)], True


def _y(value: float, axis: Axis) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * (value - axis.low) / (axis.high - axis.low), 2)


def _heat_map(result: Mapping[str, Any], fields: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Columns are the values of the first field, lines of the second; a cell shows the best over all further ones."""
    (across, columns), (down, lines), *_ = fields.items()
    left = round(34 + max(text_width(_label(value)) for value in lines), 1)
    width = (_RIGHT - left) / len(columns)
    centres = [round(left + (n + 0.5) * width, 2) for n in range(len(columns))]
    across_width = max(text_width(_label(value)) for value in columns)
    slanted = across_width + _GAP > width
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
                "x": round(left + column * width, 2),
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
        "left": left,
        "slanted": slanted,
        "below": round(0.58 * across_width, 1) if slanted else 0.0,
        "x_ticks": list(zip(centres, map(_label, columns), strict=True)),
        "y_ticks": [(_MAP_TOP + (n + 0.5) * _CELL + 4, _label(value)) for n, value in enumerate(lines)],
    }
