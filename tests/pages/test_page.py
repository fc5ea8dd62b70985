"""The shell of a page stands alone: nothing of it comes from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jinja2 import DictLoader, UndefinedError

from hpskit.pages.charts import Frame, axis_for, interval, line_chart
from hpskit.pages.page import environment, figure_file

BODY = """{% extends "page.html" %}{% block title %}{{ result.name }}{% endblock %}
{% block body %}<h1>{{ result.name }}: {{ percent(0.5) }}</h1>{{ chart }}{% endblock %}"""


def rendered(**facts: object) -> str:
    found = environment()
    assert found.loader is not None
    found.loader.loaders.append(DictLoader({"body.html": BODY}))  # type: ignore[attr-defined]
    return found.get_template("body.html").render(**facts)


def test_a_page_escapes_and_has_no_external_reference() -> None:
    chart = interval(axis_for([0, 1]), 0.5, colour="c0", title="half")
    text = rendered(result={"package": "hpskit 0", "name": "<script>alert(1)</script>"}, chart=chart)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;: 50 %" in text
    assert str(chart) in text
    assert set(re.findall(r"""(?:src|href)="([^"]*)""", text)) == {"data:,"}
    assert not re.search(r"@import|url\(|https?:", text)
    with pytest.raises(UndefinedError):
        rendered(result={"package": "hpskit 0"}, chart=chart)


def test_every_colour_of_the_style_has_a_light_and_a_dark_value() -> None:
    folder = Path(__file__).parents[2] / "src/hpskit/pages/templates"
    style = "".join((folder / name).read_text() for name in ("colours.css", "style.css"))
    light, dark = (set(re.findall(r"(--[\w-]+):", part)) for part in style.split("prefers-color-scheme: dark")[:2])
    assert light == dark >= {"--paper", "--ink", "--c0", "--c5"}
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= light


def test_charts_make_one_file_without_variables() -> None:
    axis = axis_for([0, 1])
    text = figure_file(
        "a & b", [line_chart(name, Frame(x=axis, y=axis), []) for name in "abc"], columns=2, cell=(400, 300)
    )
    root = ElementTree.fromstring(text)
    assert root.get("viewBox") == "0 0 800 600"
    placed = [node for node in root if node.tag.endswith("svg")]
    assert [(node.get("x"), node.get("y")) for node in placed] == [("0", "0"), ("400", "0"), ("0", "300")]
    assert "var(" not in text
