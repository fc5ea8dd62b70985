"""A comparison as one HTML page that opens offline, and its pairs as one picture for slides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from hpskit.benchmark.compare_figures import decimals
from hpskit.benchmark.contact_sheet import Row, Shown, contact_sheet
from hpskit.pages.charts import Axis, Bar, Frame, axis_for, bar_chart, count_axis, interval
from hpskit.pages.format import between, number, signed
from hpskit.pages.page import page
from hpskit.pixels import open_image, thumbnail

__all__ = ["compare_page", "compare_sheet"]

_EQUAL_SHOWN = 3


def compare_page(result: Mapping[str, Any], roots: Mapping[str, Path]) -> str:
    """Make the page of a comparison.

    Args:
        result: what `compare.json` holds.
        roots: `first` and `second`: the folders of the images.
    """
    wanted = {
        (side, case[side]["image"])
        for scorer in result["scorers"]
        for cases in scorer["extremes"].values()
        for case in cases
        for side in ("first", "second")
    }
    return page(
        "hpskit.benchmark",
        "compare.html",
        result=result,
        thumbnails={(side, image): thumbnail(roots[side] / image) for side, image in wanted},
        axes={scorer["label"]: _axis(scorer) for scorer in result["scorers"]},
        histograms={scorer["label"]: _histogram(scorer) for scorer in result["scorers"]},
        effect=_effect,
        decimals=decimals,
    )


def _axis(scorer: Mapping[str, Any]) -> Axis:
    """An axis for the differences, overall and of each category; 0 is on it."""
    found = [scorer["difference"], *(row["difference"] for row in scorer["categories"] if row["difference"])]
    return axis_for([0.0, *(difference[name] for difference in found for name in ("value", "low", "high"))], steps=4)


def _effect(axis: Axis, name: str, row: Mapping[str, Any], digits: int) -> Markup:
    """A difference with its interval, in the colour of the better side."""
    title = f"{name}: {signed(row['value'], digits)} ({between(row['low'], row['high'], digits, sign=True)})"
    colour = "c1" if row["value"] > 0 else "c0"
    return interval(axis, row["value"], row["low"], row["high"], colour=colour, title=title)


def _histogram(scorer: Mapping[str, Any]) -> Markup:
    edges, counts = scorer["histogram"]["edges"], scorer["histogram"]["counts"]
    mean = scorer["difference"]["value"]
    frame = Frame(
        x=axis_for([edges[0], edges[-1], 0.0], steps=6, title="difference, points"),
        y=count_axis(max(counts, default=0), steps=4, title="prompts"),
        height=178,
        rule=(mean, f"mean {signed(mean, decimals(scorer['difference']))}"),
    )
    bars = [
        Bar(
            low=low,
            high=high,
            value=count,
            colour="c1" if low + high > 0 else "c0",
            title=f"{signed(low)} to {signed(high)}: {count:,} prompts",
        )
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    ]
    return bar_chart("Histogram of the differences over prompts", frame, bars)


def compare_sheet(result: Mapping[str, Any], roots: Mapping[str, Path]) -> Image.Image:
    """Draw the pairs that differ most by the first scorer as one picture; if none differs, the first prompts."""
    scorer = result["scorers"][0]
    names = {side: str(result[side]["name"]) for side in ("first", "second")}

    def pair(prompt: int, images: Mapping[str, Any], scores: Mapping[str, float]) -> Shown:
        first, second = (open_image(roots[side] / images[side]["image"]) for side in ("first", "second"))
        written = {f"{side}_score": number(score) for side, score in scores.items()}
        return Shown(prompt=result["prompts"][prompt]["prompt"], first=first, second=second, **written)

    rows = [
        Row(
            title=f"Where {names[better]} wins most",
            pairs=[pair(case["prompt"], case, {side: case[side]["score"] for side in names}) for case in cases],
        )
        for better in ("second", "first")
        if (cases := scorer["extremes"][f"for_{better}"])
    ]
    if not rows:
        both = [n for n, row in enumerate(result["prompts"]) if row["first"] and row["second"]][:_EQUAL_SHOWN]
        images = {n: {side: result["prompts"][n][side][0] for side in names} for n in both}
        scores = {n: {side: image["scores"][scorer["label"]] for side, image in images[n].items()} for n in both}
        rows = [
            Row(
                title="Every prompt has the same score in both",
                pairs=[pair(n, images[n], scores[n]) for n in both],
            )
        ]
    return contact_sheet(f"{result['verdict']} ({scorer['label']})", (names["first"], names["second"]), rows)
