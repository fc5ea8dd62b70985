"""Results as one HTML page that opens offline: style, charts and pictures are inside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from hpskit.evaluation.judging import TEST_SETS
from hpskit.pages import charts
from hpskit.pages.charts import Axis, Dot, Frame, Point, Series
from hpskit.pages.format import counted, percent
from hpskit.pages.page import page
from hpskit.pages.paper import Cell, Column, Paper, Table, estimate

Row = Mapping[str, Any]
"""A share with its interval: `value`, `low` and `high`; the ends may be None."""


def evaluation_page(result: Mapping[str, Any], thumbnails: Mapping[tuple[str, str], str]) -> str:
    """Make the page of what `result.json` holds; `thumbnails` are by place and name of an image."""
    scorers, rule = result["scorers"], result["settings"]["rule"]
    colour = charts.colours_of(scorer["label"] for scorer in scorers)
    held_out = [scorer["training"]["held_out"] for scorer in scorers]
    rows = [*(scorer["accuracy"][rule] for scorer in scorers), *result["people"]]
    rows += [row for row in held_out if row and row["rule"] == rule]
    published = [{"value": _share(row["value"]), "low": None, "high": None} for row in result["published"]["rows"]]
    test_set = result["published"]["test_set"]
    return page(
        "hpskit.evaluation",
        "report.html",
        result=result,
        colour=colour,
        axis=_axis([*rows, *published]),
        bar=_bar,
        chosen=_chosen,
        reference=TEST_SETS[test_set] if test_set else None,
        two_way=next((s["two_way"] for s in scorers if s["two_way"] and s["two_way"]["low"] is not None), None),
        calibration={s["label"]: _calibration(s, colour[s["label"]]) for s in scorers if s["calibration"]},
        gap=_breakdown(result, "gap", colour, "gap, % of the largest possible; n"),
        consensus=_breakdown(result, "consensus", colour, "votes for the preferred image, %; n"),
        thumbnails=thumbnails,
    )


def evaluation_paper(result: Mapping[str, Any]) -> Paper:
    """Make what papers take of `result.json`: accuracies by the rule of the headline, and for CSV by all rules."""
    rule = result["settings"]["rule"]
    colour = charts.colours_of(scorer["label"] for scorer in result["scorers"])
    fair = [s["accuracy"][rule]["value"] for s in result["scorers"] if not s["training"]["seen"]]
    rows: list[Sequence[Cell] | None] = []
    data: list[Sequence[Cell]] = []
    dots = []
    for scorer in result["scorers"]:
        own, seen = scorer["accuracy"][rule], scorer["training"]["seen"]
        best = not seen and len(fair) > 1 and own["value"] == max(fair)
        published = estimate({"value": _share(scorer["published"])})
        name = scorer["label"] + ("*" if seen else "") + ("†" if scorer["training"]["chosen_on"] else "")
        rows.append([name, estimate(own, bold=best), estimate(scorer["kendall_tau_b"]), published])
        measures = {**scorer["accuracy"], **{key: scorer[key] for key in ("kendall_tau_b", "spearman")}}
        data += [["scorer", scorer["label"], measure, estimate(one)] for measure, one in measures.items() if one]
        dots.append(_dot(scorer["label"], own, colour[scorer["label"]], hollow=bool(seen)))
    rows += [None] if result["people"] else []
    for row in result["people"]:
        published = estimate({"value": _share(row["published"])})
        rows.append([row["name"], estimate(row), None, published])
        data.append(["people", row["name"], row["rule"], estimate(row)])
        dots.append(_dot(row["name"], row, "people"))
    quoted = result["published"]["rows"]
    data += [["published", row["name"], rule, estimate({"value": _share(row["value"])})] for row in quoted]
    columns = [
        Column(key="scorer", title="scorer"),
        Column(key="accuracy", title="accuracy, %", digits=1, percent=True),
        Column(key="tau", title="Kendall's tau-b", digits=3),
        Column(key="published", title="published, %", digits=1, percent=True, ends=False),
    ]
    if not any(row and row[3] for row in rows):
        columns, rows = columns[:3], [row and row[:3] for row in rows]
    notes = ["Bold: the highest of the scorers that have not seen these prompts."]
    notes += ["*: trained on these prompts, so no result."] if len(fair) < len(result["scorers"]) else []
    notes += (
        ["†: its checkpoint was chosen on these prompts."] if any("†" in str(row[0]) for row in rows if row) else []
    )
    facts = (
        f"{result['data']['name']}: {counted(result['data']['prompts'], 'prompt')}, {counted(result['pairs'], 'pair')}"
    )
    caption = f"Pairs ordered as people order them, rule {rule}. {facts}."
    table = Table(label="evaluation", caption=caption, columns=columns, rows=rows, notes=notes)
    keys = [*(Column(key=key) for key in ("kind", "name", "measure")), Column(key="value", digits=6)]
    axis = _axis([*(s["accuracy"][rule] for s in result["scorers"]), *result["people"]], "pairs right, %")
    return Paper(
        title=caption,
        result=result,
        tables=[table],
        columns=keys,
        rows=data,
        charts=[charts.dot_chart(f"rule {rule}", axis, dots)],
        note="Ring: trained on these prompts." if len(fair) < len(result["scorers"]) else "",
    )


def _share(percent: float | None) -> float | None:
    """Turn a published figure from percent, without the digits that a division leaves."""
    return None if percent is None else round(percent / 100, 6)


def _dot(name: str, row: Row, colour: str, *, hollow: bool = False) -> Dot:
    low, high = _ends(row)
    return Dot(name=name, value=100 * row["value"], low=low, high=high, colour=colour, hollow=hollow)


def agreement_page(result: Mapping[str, Any]) -> str:
    """The page of an agreement study; see `hpskit.evaluation.agreement`."""
    rows = result["rules"][result["settings"]["rule"]]
    published = any(row["published"] is not None for row in rows)
    gap, growth = result["gap"], result["growth"]
    if gap:
        labels = [f"{100 * part['gap'][0]:.0f}-{100 * part['gap'][1]:.0f}\n{part['comparisons']:,}" for part in gap]
        series = _series("one annotator", "people", gap, labels)
        gap_chart = _lines("gap, % of the largest possible; n", "with the others, %", [series], labels)
    if growth:
        labels = [str(point["annotators"]) for point in growth["points"]]
        series = _series("mean of k people", "people", growth["points"], labels)
        growth_chart = _lines("people averaged", "with the held-out people, %", [series], labels)
    return page(
        "hpskit.evaluation",
        "agreement.html",
        result=result,
        rows=rows,
        reference=TEST_SETS[result["data"]["format"]] if published else None,
        axis=_axis(rows),
        bar=_bar,
        gap=gap_chart if gap else None,
        growth=growth_chart if growth else None,
    )


def _axis(rows: Iterable[Row], title: str = "") -> Axis:
    """An axis in percent that holds 50 and all rows with their intervals."""
    ends = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
    return charts.axis_for([50.0, *(100 * end for end in ends)], title=title)


def _ends(row: Row) -> tuple[float | None, float | None]:
    return (None, None) if row["low"] is None else (100 * row["low"], 100 * row["high"])


def _bar(axis: Axis, row: Row, colour: str, name: str, *, hollow: bool = False) -> Markup:
    title = f"{name}: {percent(row['value'], 1)}"
    return charts.interval(axis, 100 * row["value"], *_ends(row), colour=colour, title=title, hollow=hollow)


def _series(name: str, colour: str, rows: Sequence[Row | None], labels: Sequence[str]) -> Series:
    points = []
    for x, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if row is None:
            points.append(Point(x=x, y=None))
            continue
        low, high = _ends(row)
        title = f"{label.splitlines()[0]}: {percent(row['value'], 1)}"
        points.append(Point(x=x, y=100 * row["value"], low=low, high=high, title=title))
    return Series(name=name, colour=colour, points=points)


def _lines(x_title: str, y_title: str, series: Sequence[Series], labels: Sequence[str]) -> Markup:
    """Series over the parts of a breakdown, in percent."""
    ends = [end for one in series for point in one.points for end in (point.y, point.low, point.high)]
    y_axis = charts.axis_for([50.0, *(end for end in ends if end is not None)], title=y_title)
    frame = Frame(x=charts.category_axis(labels, title=x_title), y=y_axis)
    return charts.line_chart(f"{y_title} against {x_title}", frame, series)


def _breakdown(result: Mapping[str, Any], name: str, colour: Mapping[str, str], x_title: str) -> Markup | None:
    """One line for each scorer over the parts of a breakdown, and one for people where they were measured."""
    parts = next((breakdown["parts"] for breakdown in result["breakdowns"] if breakdown["name"] == name), None)
    if parts is None:
        return None
    labels = [f"{part['label']}\n{part['pairs']:,}" for part in parts]
    series = [_series(label, colour[label], [part["scorers"].get(label) for part in parts], labels) for label in colour]
    if any(part["people"] for part in parts):
        people = _series("one annotator", "people", [part["people"] for part in parts], labels)
        series.append(replace(people, dashed=True))
    return _lines(x_title, "pairs right, %", series, labels) + charts.legend(series)


def _calibration(scorer: Mapping[str, Any], colour: str) -> Markup:
    """Share of the people against modelled probability; the area of a point is its share of the pairs."""
    found = scorer["calibration"]
    points = [
        Point(
            x=row["probability"],
            y=row["share"],
            radius=max(2.0, 14 * math.sqrt(row["pairs"] / max(found["pairs"], 1) / 2)),
            title=f"modelled {row['probability']:.1%}, people {row['share']:.1%}, n = {row['pairs']:,} pairs",
        )
        for row in found["bins"]
    ]
    diagonal = Series(name="", colour="quoted", points=[Point(x=n, y=n) for n in (0, 1)], marks=False, dashed=True)
    x_axis, y_axis = (charts.axis_for([0, 1], title=title) for title in ("modelled probability", "share of the people"))
    title = f"Calibration of {scorer['label']}, n = {found['pairs']} pairs"
    frame = Frame(x=x_axis, y=y_axis, height=296, grid="xy")
    return charts.line_chart(title, frame, [Series(name=scorer["label"], colour=colour, points=points), diagonal])


def _chosen(thresholds: Sequence[float]) -> str:
    """Tie thresholds of the parts of a cross-fit: `threshold 0 in 4 and 0.1 in 1 of the 5 parts`."""
    counts = sorted(Counter(thresholds).items())
    if len(counts) == 1:
        return f"threshold {counts[0][0]:g} in every part"
    *parts, last = (f"{threshold:g} in {count}" for threshold, count in counts)
    return f"threshold {', '.join(parts)} and {last} of the {len(thresholds)} parts"
