"""The log of a watch as one page: reward and held-out score, each sign against its reference, when it alarmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from hpskit import __version__
from hpskit.pages.charts import Frame, Point, Series, axis_for, line_chart
from hpskit.pages.page import page
from hpskit.reward.sighting import GROUP_SIGNS, SIGNS, Sighting, compared_from, episodes

_POINTS = 400


def watch_page(name: str, lines: Sequence[Sighting]) -> str:
    """Return the page of a log."""
    begun = episodes(lines)
    rule = (float(begun[0].step), "first alarm") if begun else None
    step = max(1, len(lines) // _POINTS)
    drawn = list(lines)[::step]
    charts = [_chart("Reward", [(line.step, line.reward) for line in drawn], "mean reward", rule)]
    if any(line.held_out is not None for line in lines):
        points = [(line.step, line.held_out) for line in drawn]
        charts.append(_chart("Held-out score", points, "mean score", rule))
    left = {sign for line in lines for sign in line.out}
    words = SIGNS | GROUP_SIGNS
    compared = {sign for line in lines for sign in line.z if sign in words}
    names = sorted(compared, key=lambda sign: (sign not in left, list(words).index(sign)))
    signs = [
        (
            sign,
            words[sign],
            sign in left,
            _chart(sign, [(line.step, line.z.get(sign)) for line in drawn], "deviations", rule, about_zero=True),
        )
        for sign in names
    ]
    facts: dict[str, Any] = {"name": name, "lines": lines, "episodes": begun, "first": compared_from(lines)}
    result = {"package": f"hpskit {__version__}"}
    return page("hpskit.reward", "watch.html", result=result, charts=charts, signs=signs, **facts)


def _chart(
    title: str,
    values: Sequence[tuple[int, float | None]],
    unit: str,
    rule: tuple[float, str] | None,
    *,
    about_zero: bool = False,
) -> tuple[str, Markup]:
    known = [value for _, value in values if value is not None] or [0.0]
    steps = [step for step, _ in values]
    x = axis_for([min(steps), max(max(steps), min(steps) + 1)], title="step")
    y = axis_for([*known, *((-3, 3) if about_zero else ())], title=unit)
    points = [Point(x=step, y=value) for step, value in values]
    series = Series(name=title, colour="c0", points=points, marks=False)
    return title, line_chart(f"{title} by step", Frame(x=x, y=y, height=120, rule=rule), [series])
