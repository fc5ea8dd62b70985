"""One self-contained HTML page: house style, charts and pictures are inside it, so that it opens offline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.errors import InputError, OutputError
from hpskit.files import publish
from hpskit.pages import format as figures
from hpskit.pages.charts import interval, interval_axis, legend

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_MARK = b'<meta name="generator" content="hpskit '
"""Near the beginning of every page of ours."""


def page(package: str, template: str, *, result: Mapping[str, Any], **facts: Any) -> str:
    """Render a template in `package` that extends `page.html`; `result["package"]` says what made the page."""
    return environment(package).get_template(template).render(result=result, **facts)


def check_page_free(out: Path) -> None:
    """See, before the work for it, that a page may be written: nothing of others is replaced.

    Raises:
        InputError: the name does not end in .html.
        OutputError: something else stands there.
    """
    if out.suffix != ".html":
        raise InputError("--out", f"is {str(out)!r}", expected="a name that ends in .html")
    if out.is_file():
        with out.open("rb") as handle:
            if _MARK in handle.read(1000):
                return
    if os.path.lexists(out):
        cure = "choose another name, or move it away"
        raise OutputError(out, "is there already and is no page of hpskit", cure=cure)


def publish_page(out: Path, text: str) -> None:
    """Write what `page` gave as a file of its own, whole or not at all; see `check_page_free`.

    Raises:
        OutputError: it cannot be written.
    """
    check_page_free(out)
    with publish(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    found.filters.update(plain=figures.plain, tied=figures.tied)
    found.globals.update(interval=interval, interval_axis=interval_axis, legend=legend)
    return found
