"""The study of the number of prompts as one HTML page that opens offline, and its plot as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpskit.pages import axis_for, digits_for, environment

__all__ = ["decimals", "prompt_number_page", "prompt_number_plot"]

_COLOURS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 350, 26, 210
"""Of a panel's square of lines, in its 360 x 262 units."""
_SEEN = 0.005
"""A chart of chances that are all below this is an empty frame."""


def prompt_number_page(study: Mapping[str, Any]) -> str:
    """The page; `study` is what `prompts.json` holds."""
    panels = {scorer["label"]: _panels(scorer) for scorer in study["scorers"]}
    digits = {scorer["label"]: decimals(scorer["scopes"][0]["curve"]) for scorer in study["scorers"]}
    template = environment("hpskit.benchmark.studies").get_template("prompt_number.html")
    return template.render(result=study, panels=panels, digits=digits)


def decimals(curve: Sequence[Mapping[str, Any]]) -> int:
    """Of errors and of what can be detected: the least of the latter keeps two figures."""
    return digits_for([point["detectable"] for point in curve], least=3)


def prompt_number_plot(study: Mapping[str, Any]) -> str:
    """Two panels for each scorer, one below the other, as one SVG file."""
    rows = [(scorer["label"], _panels(scorer)) for scorer in study["scorers"]]
    template = environment("hpskit.benchmark.studies").get_template("prompt_number.svg")
    return template.render(rows=rows, suite=study["suite"]["name"])


def _panels(scorer: Mapping[str, Any]) -> list[dict[str, Any]]:
    curves = [(scope["category"] or "all prompts", scope["curve"]) for scope in scorer["scopes"] if scope["curve"]]
    chances = _panel(curves, "wrong_order", "chance of a wrong order, %", "Chance of a wrong order", scale=100)
    points = [point for _, curve in curves for point in curve]
    highest, least = max(point["wrong_order"] for point in points), min(point["prompts"] for point in points)
    if highest < _SEEN:
        what = f"{math.ceil(1000 * highest) / 10:.1f} % or less" if highest else "None in any draw"
        chances |= {"series": [], "words": f"{what}, with {least:,} prompts or more"}
    return [
        _panel(curves, "difference_error", "standard error of a difference, points", "Error of a difference"),
        chances,
    ]


def _panel(
    curves: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], figure: str, y_label: str, title: str, scale: float = 1
) -> dict[str, Any]:
    """Lines over the number of prompts, on a logarithmic axis."""
    counts = sorted({point["prompts"] for _, curve in curves for point in curve})
    axis = axis_for([0.0, *(scale * point[figure] for _, curve in curves for point in curve)], steps=4)
    x = _log_scale(counts[0], counts[-1])

    def y(value: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - axis.low) / (axis.high - axis.low), 2)

    series = [
        {
            "name": name,
            "colour": "people" if not number else f"c{(number - 1) % _COLOURS}",
            "points": [(x(point["prompts"]), y(scale * point[figure]), point["prompts"]) for point in curve],
        }
        for number, (name, curve) in enumerate(curves)
    ]
    return {
        "title": title,
        "y_label": y_label,
        "words": "",
        "series": series,
        "x_ticks": [(x(tick), f"{tick:,}") for tick in _ticks(counts[0], counts[-1])],
        "y_ticks": [(y(tick), axis.label(tick)) for tick in axis.ticks],
    }


def _log_scale(low: int, high: int) -> Callable[[float], float]:
    span = math.log(high / low) or 1.0

    def x(value: float) -> float:
        return round(_LEFT + 8 + (_RIGHT - _LEFT - 24) * math.log(value / low) / span, 2)

    return x


def _ticks(low: int, high: int) -> list[int]:
    """Round numbers between the ends, about two for each factor of ten."""
    found = [factor * 10**power for power in range(6) for factor in (1, 3)]
    ticks = [tick for tick in found if low <= tick <= high]
    return ticks if len(ticks) > 1 else [low, high]
