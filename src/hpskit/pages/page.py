"""One self-contained HTML page: house style, charts and pictures are inside it, so that it opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hpskit.pages.charts import interval, interval_axis, legend
from hpskit.pages.format import (
    between,
    counted,
    digits_for,
    number,
    p_figure,
    percent,
    points,
    signed,
    thousands,
    whole,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["environment", "figure_file", "page"]

_FIGURES = (between, counted, digits_for, number, p_figure, percent, points, signed, thousands, whole)
_CHARTS = (interval, interval_axis, legend)
"""What every template can call."""


def page(package: str, template: str, *, result: Mapping[str, Any], **facts: Any) -> str:
    """Render a template that extends `page.html`.

    Args:
        package: the one that has a folder `templates` with the template.
        template: name of the file.
        result: what the page shows; its `package` says what made it.
        facts: whatever else the template uses.
    """
    return environment(package).get_template(template).render(result=result, **facts)


def figure_file(title: str, drawn: Sequence[Markup], *, columns: int, cell: tuple[int, int], note: str = "") -> str:
    """Put charts side by side into one SVG file for a paper, in light colours.

    Args:
        title: of the file.
        drawn: the charts, from left to right, then downwards.
        columns: charts in a row.
        cell: width and height of the room of each chart, which is scaled to fit it.
        note: a line below the charts.
    """
    template = environment().get_template("figure.svg")
    return template.render(title=title, charts=drawn, columns=min(columns, len(drawn)), cell=cell, note=note)


@cache  # a template is compiled once in a process
def environment(*packages: str) -> Environment:
    """Templates of these packages, the first that has one, then of this one; they know `format` and the row charts."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # here: nothing but a page needs it

    loader = ChoiceLoader([PackageLoader(package) for package in (*packages, "hpskit.pages")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.globals.update({function.__name__: function for function in (*_FIGURES, *_CHARTS)})
    return found
