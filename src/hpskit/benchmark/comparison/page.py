"""A comparison as one HTML page that opens offline, and its pairs as one picture for slides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from hpskit.benchmark.comparison.contact_sheet import Row, Shown, contact_sheet
from hpskit.benchmark.comparison.figures import decimals
from hpskit.pages import Axis, axis_for, environment, number, signed
from hpskit.pixels import open_image, thumbnail

__all__ = ["compare_page", "compare_sheet"]

_EQUAL_SHOWN = 3


def compare_page(result: Mapping[str, Any], roots: Mapping[str, Path]) -> str:
    """The page of a comparison.

    Args:
        result: what `compare.json` holds.
        roots: `first` and `second`: the folders of the images.
    """
    thumbnails = {
        (side, case[side]["image"]): thumbnail(roots[side] / case[side]["image"])
        for scorer in result["scorers"]
        for case in _cases(scorer)
        for side in ("first", "second")
    }
    template = environment("hpskit.benchmark.comparison", "hpskit.evaluation").get_template("compare.html")
    axes = {scorer["label"]: _axis(scorer) for scorer in result["scorers"]}
    histograms = {scorer["label"]: _histogram(scorer) for scorer in result["scorers"]}
    figures = {"thumbnails": thumbnails, "axes": axes, "histograms": histograms, "decimals": decimals}
    return template.render(result=result, **figures)


def _cases(scorer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for direction in ("for_second", "for_first"):
        yield from scorer["extremes"][direction]


def _axis(scorer: Mapping[str, Any]) -> Axis:
    """Of the differences: overall and of each category; 0 is on it."""
    found = [scorer["difference"], *(row["difference"] for row in scorer["categories"] if row["difference"])]
    return axis_for([0.0, *(difference[name] for difference in found for name in ("value", "low", "high"))], steps=4)


def _histogram(scorer: Mapping[str, Any]) -> dict[str, Any]:
    """Where the bars stand: x from 44 to 350 for the differences, y from 190 up to 12 for the prompts."""
    edges, counts = scorer["histogram"]["edges"], scorer["histogram"]["counts"]
    x_axis = axis_for([edges[0], edges[-1], 0.0], steps=6)
    y_axis = axis_for([0.0, max(1, *counts)], steps=4)

    def x(value: float) -> float:
        return round(44 + 306 * (value - x_axis.low) / (x_axis.high - x_axis.low), 2)

    def y(value: float) -> float:
        return round(190 - 178 * value / y_axis.high, 2)

    bars = [
        {
            "x": x(low),
            "width": round(max(x(high) - x(low) - 1, 0.5), 2),
            "y": y(count),
            "height": round(190 - y(count), 2),
            "colour": "c1" if low + high > 0 else "c0",
            "title": f"{signed(low)} to {signed(high)}: {count:,} prompts",
        }
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    ]
    return {
        "bars": bars,
        "zero": x(0.0),
        "mean": x(scorer["difference"]["value"]),
        "x_ticks": [(x(tick), x_axis.label(tick)) for tick in x_axis.ticks],
        "y_ticks": [(y(tick), f"{tick:g}") for tick in y_axis.ticks if tick == int(tick)],
    }


def compare_sheet(result: Mapping[str, Any], roots: Mapping[str, Path]) -> Image.Image:
    """The pairs that differ most by the first scorer, as one picture; if none differs, the first prompts."""
    scorer = result["scorers"][0]
    names = {side: str(result[side]["name"]) for side in ("first", "second")}
    rows = [
        Row(
            title=f"Where {names[better]} wins most",
            pairs=[_pair(result, case, roots) for case in scorer["extremes"][f"for_{better}"]],
        )
        for better in ("second", "first")
        if scorer["extremes"][f"for_{better}"]
    ]
    if not rows:
        rows = [Row(title="Every prompt has the same score in both", pairs=_equal(result, scorer, roots))]
    title = f"{result['verdict']} ({scorer['label']})"
    return contact_sheet(title, (names["first"], names["second"]), rows)


def _equal(result: Mapping[str, Any], scorer: Mapping[str, Any], roots: Mapping[str, Path]) -> list[Shown]:
    both = [n for n, row in enumerate(result["prompts"]) if row["first"] and row["second"]]
    return [
        _pair(result, {"prompt": n, **{side: _first(result, scorer, n, side) for side in roots}}, roots)
        for n in both[:_EQUAL_SHOWN]
    ]


def _first(result: Mapping[str, Any], scorer: Mapping[str, Any], number: int, side: str) -> dict[str, Any]:
    image = result["prompts"][number][side][0]
    return {"image": image["image"], "score": image["scores"][scorer["label"]]}


def _pair(result: Mapping[str, Any], case: Mapping[str, Any], roots: Mapping[str, Path]) -> Shown:
    return Shown(
        prompt=result["prompts"][case["prompt"]]["prompt"],
        first=open_image(roots["first"] / case["first"]["image"]),
        second=open_image(roots["second"] / case["second"]["image"]),
        first_score=number(case["first"]["score"]),
        second_score=number(case["second"]["score"]),
    )
