"""The shell of a page stands alone: nothing of it comes from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jinja2 import DictLoader, UndefinedError

from hpskit.benchmark import compare_page
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


def test_the_palette_is_the_same_on_pages_in_files_and_in_pictures() -> None:
    folder = Path(__file__).parents[2] / "src/hpskit/pages/templates"
    light = (folder / "colours.css").read_text().split("prefers-color-scheme: dark")[0]
    palette = dict(re.findall(r"--(c\d|people|quoted): (#\w+)", light))
    assert dict(re.findall(r"\.(c\d|people|quoted) \{ color: (#\w+)", (folder / "figure.svg").read_text())) == palette
    assert list(compare_page._COLOURS) == [palette[f"c{n}"] for n in range(6)]


def test_words_and_marks_stand_out_from_their_ground() -> None:
    """WCAG 2.2, level AA: contrast of 4.5 for text."""
    colours = (Path(__file__).parents[2] / "src/hpskit/pages/templates/colours.css").read_text()

    def light_of(colour: tuple[float, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
        return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
        lower, higher = sorted(map(light_of, (one, other)))
        return (higher + 0.05) / (lower + 0.05)

    for part in colours.split("prefers-color-scheme: dark"):
        found = {
            name: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4))
            for name, value in re.findall(r"--([\w-]+): #(\w{6})", part)
        }
        paper, ink, blue = found["paper"], found["ink"], found["c0"]
        written = set(found) - {"paper", "line", "faint", "warn-bg"}
        assert all(contrast(found[name], paper) >= 4.5 for name in written)
        assert contrast(found["warn"], found["warn-bg"]) >= 4.5
        darkest = tuple(0.54 * b + 0.46 * p for b, p in zip(blue, paper, strict=True))  # of the cells of a heat map
        assert contrast(ink, darkest) >= 4.5


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
