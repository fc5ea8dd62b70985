"""Results as one HTML page that opens offline: style, charts and pictures are inside it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpskit.evaluation.published import TEST_SETS

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["agreement_page", "evaluation_page"]

_COLOURS = 6
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A stretch of the line from 0 to 1 that figures are drawn on."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @staticmethod
    def label(tick: float) -> str:
        """In percent."""
        return f"{100 * tick:.0f}"


def evaluation_page(result: Mapping[str, Any], thumbnails: Mapping[tuple[str, str], str]) -> str:
    """The page of an evaluation.

    Args:
        result: what `result.json` holds.
        thumbnails: (place, image) -> `data:` address, for the disagreements of the result.
    """
    scorers = result["scorers"]
    colour = {scorer["label"]: f"c{number % _COLOURS}" for number, scorer in enumerate(scorers)}
    test_set = result["published"]["test_set"]
    return str(
        _environment()
        .get_template("report.html")
        .render(
            result=result,
            colour=colour,
            axis=_accuracy_axis(result),
            reference=TEST_SETS[test_set] if test_set else None,
            seen=[scorer for scorer in scorers if scorer["training"]["seen"]],
            chosen_here=[scorer for scorer in scorers if scorer["training"]["chosen_on"]],
            calibrated=[scorer for scorer in scorers if scorer["calibration"]],
            two_way=_two_way(scorers),
            fitted=[scorer for scorer in scorers if scorer["pickapic"]["cross_fitted"]],
            gap=_line_chart(result, "gap", colour),
            consensus=_line_chart(result, "consensus", colour),
            cases=_cases(result, thumbnails),
        )
    )


def agreement_page(result: Mapping[str, Any]) -> str:
    """The page of an agreement study; see `hpskit.evaluation.agreement`."""
    rows = result["rules"][result["settings"]["rule"]]
    published = any(row["published"] is not None for row in rows)
    reference = TEST_SETS[result["data"]["format"]] if published else None
    ends = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
    axis = _axis([0.5, *ends])
    charts = {"gap": _gap_of_people(result), "growth": _growth_of_people(result)}
    template = _environment().get_template("agreement.html")
    return str(template.render(result=result, rows=rows, reference=reference, axis=axis, **charts))


def _environment() -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # here: nothing but a report needs it

    loader = ChoiceLoader([PackageLoader("hpskit.evaluation"), PackageLoader("hpskit.pages")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.globals.update(
        base=_base,
        between=_between,
        chosen=_chosen,
        extra=_extra,
        number=_number,
        p_value=_p_value,
        percent=_percent,
        points=_points,
        pos=_position,
        radius=_radius,
        signed=_signed,
        thousands=_thousands,
        x=_x,
        y=_y,
    )
    return environment


# What charts show


def _axis(values: Sequence[float]) -> Axis:
    """From a tenth at or below the lowest value to a tenth at or above the highest."""
    low = min(math.floor(10 * min(values) + 1e-9), 9) / 10
    high = max(math.ceil(10 * max(values) - 1e-9), round(10 * low) + 1) / 10
    count = round(10 * (high - low))
    return Axis(low=low, high=high, ticks=tuple(round(low + n / 10, 1) for n in range(count + 1)))


def _accuracy_axis(result: Mapping[str, Any]) -> Axis:
    rows = [scorer["accuracy"][result["settings"]["rule"]] for scorer in result["scorers"]] + result["people"]
    rows += [
        h for s in result["scorers"] if (h := s["training"]["held_out"]) and h["rule"] == result["settings"]["rule"]
    ]
    values = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
    return _axis([0.5, *values, *(row["value"] / 100 for row in result["published"]["rows"])])


def _two_way(scorers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """One of the figures with an interval over prompts and people, if there are any: rule and resamples are shared."""
    return next((s["two_way"] for s in scorers if s["two_way"] and s["two_way"]["low"] is not None), None)


def _line_chart(result: Mapping[str, Any], name: str, colour: Mapping[str, str]) -> dict[str, Any] | None:
    """One line for each scorer over the parts of a breakdown, and one for people where they were measured."""
    found = [breakdown for breakdown in result["breakdowns"] if breakdown["name"] == name]
    if not found:
        return None
    parts = found[0]["parts"]
    series = [
        {"name": label, "colour": colour[label], "dashed": False, "points": [p["scorers"][label] for p in parts]}
        for label in colour
    ]
    if any(part["people"] for part in parts):
        points = [part["people"] for part in parts]
        series.append({"name": "one annotator", "colour": "people", "dashed": True, "points": points})
    return _chart(series, [part["label"] for part in parts], [part["pairs"] for part in parts])


def _chart(series: list[dict[str, Any]], labels: list[str], counts: list[int]) -> dict[str, Any]:
    values = [point[key] for s in series for point in s["points"] if point for key in ("value", "low", "high")]
    axis = _axis([0.5, *(value for value in values if value is not None)])
    return {"series": series, "labels": labels, "counts": [_thousands(c) for c in counts], "axis": axis}


def _gap_of_people(result: Mapping[str, Any]) -> dict[str, Any] | None:
    if result["gap"] is None:
        return None
    parts = result["gap"]
    series = [{"name": "one annotator", "colour": "people", "dashed": False, "points": parts}]
    labels = [f"{100 * part['gap'][0]:.0f}-{100 * part['gap'][1]:.0f}" for part in parts]
    chart = _chart(series, labels, [part["comparisons"] for part in parts])
    return {**chart, "total": _thousands(sum(part["comparisons"] for part in parts))}


def _growth_of_people(result: Mapping[str, Any]) -> dict[str, Any] | None:
    if result["growth"] is None:
        return None
    points = result["growth"]["points"]
    series = [{"name": "mean of k people", "colour": "people", "dashed": False, "points": points}]
    return _chart(series, [str(point["annotators"]) for point in points], [])


def _cases(result: Mapping[str, Any], thumbnails: Mapping[tuple[str, str], str]) -> dict[str, list[dict[str, Any]]]:
    return {
        label: [
            {
                **case,
                "people_thumbnail": thumbnails[case["place"], case["people_image"]],
                "scorer_thumbnail": thumbnails[case["place"], case["scorer_image"]],
            }
            for case in cases
        ]
        for label, cases in result["disagreements"].items()
    }


# Where marks stand


def _position(value: float, axis: Axis) -> float:
    """Percent of the width; 3 % stay free at either end for tick labels."""
    return round(3 + 94 * (value - axis.low) / (axis.high - axis.low), 3)


def _x(index: int, count: int) -> float:
    """Middle of the n-th of `count` columns between 44 and 350."""
    return round(44 + 306 * (index + 0.5) / count, 2)


def _y(value: float, axis: Axis) -> float:
    return round(210 - 196 * (value - axis.low) / (axis.high - axis.low), 2)


def _radius(pairs: int, total: int) -> float:
    """Area in proportion to the number of pairs, but never too small to see."""
    return round(max(2.0, 14 * math.sqrt(pairs / max(total, 1) / 2)), 2)


# How figures are written


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", _MINUS)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", _MINUS)


def _base(place: str) -> str:
    """A place without the folders before its file."""
    return re.split(r"[/\\]", place)[-1]


def _p_value(value: float, resamples: int) -> str:
    """No smaller than the bootstrap can tell."""
    least = 1 / resamples
    return f"< {least:.2g}" if value < least else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _thousands(value: int) -> str:
    return f"{value:,}"


def _between(ends: Sequence[int]) -> str:
    return f"{ends[0]}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _chosen(thresholds: Sequence[float]) -> str:
    """Tie thresholds of the parts of a cross-fit: `threshold 0 in 4 and 0.1 in 1 of the 5 parts`."""
    counts = sorted(Counter(thresholds).items())
    if len(counts) == 1:
        return f"threshold {counts[0][0]:g} in every part"
    *parts, last = (f"{threshold:g} in {count}" for threshold, count in counts)
    return f"threshold {', '.join(parts)} and {last} of the {len(thresholds)} parts"


def _extra(duplicates: Sequence[Sequence[str]]) -> int:
    """How many groups could be left out without losing anything."""
    return sum(len(places) - 1 for places in duplicates)
