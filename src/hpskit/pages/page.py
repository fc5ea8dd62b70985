"""One self-contained HTML page: house style, charts and pictures are inside it, so that it opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hpskit.pages import format as figures
from hpskit.pages.charts import interval, interval_axis, legend

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["environment", "figure_file", "page"]


def page(package: str, template: str, *, result: Mapping[str, Any], **facts: Any) -> str:
    """Render a template in `package` that extends `page.html`; `result["package"]` says what made the page."""
    return environment(package).get_template(template).render(result=result, **facts)


def figure_file(title: str, drawn: Sequence[Markup], *, columns: int, cell: tuple[int, int], note: str = "") -> str:
    """Put charts side by side into one SVG file for a paper, in light colours.

    They stand from left to right in `columns`, each scaled to fit a `cell` of this width and height; `note` is below.
    """
    template = environment().get_template("figure.svg")
    return template.render(title=title, charts=drawn, columns=min(columns, len(drawn)), cell=cell, note=note)


@cache  # a template is compiled once in a process
def environment(*packages: str) -> Environment:
    """Templates of these packages, the first that has one, then of this one; they know `format` and the row charts."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # here: nothing but a page needs it

    loader = ChoiceLoader([PackageLoader(package) for package in (*packages, "hpskit.pages")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.globals.update({name: getattr(figures, name) for name in figures.__all__})
    found.globals.update(interval=interval, interval_axis=interval_axis, legend=legend)
    return found
