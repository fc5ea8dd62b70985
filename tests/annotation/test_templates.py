"""Each page of an annotator renders, escapes what others wrote, and fits a phone under the strict policy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest

from browser import excess, needs_chromium, quiet_page

ROOM = Path(__file__).parents[2] / "src/hpskit/annotation/web"
HOSTILE = '<script>alert("x")</script>'
ALL_RULES = {"ties": True, "partial": True, "none": True, "ratings": 5, "flags": ["broken"]}
PAGES: dict[str, dict[str, Any]] = {
    "work.html": {},
    "consent.html": {"consent": "<p>What taking part means.</p>"},
    "instructions.html": {
        "instructions": "<p>Look first.</p>",
        "rules": ALL_RULES,
        "begin": "/",
        "begin_method": "post",
    },
    "message.html": {
        "heading": HOSTILE,
        "text": HOSTILE,
        "code": "C0DE",
        "minutes": 1,
        "link": {"href": "/", "label": "On"},
    },
    "me.html": {
        "name": HOSTILE,
        "facts": [("Tasks", "12"), (HOSTILE, "3")],
        "withdrawn": False,
        "withdraw": "All is deleted.",
    },
}
each_page = pytest.mark.parametrize("name", PAGES)


def render(name: str, **more: Any) -> str:
    loader = jinja2.FileSystemLoader(ROOM / "templates")
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return pages.get_template(name).render(project=f"Which? {HOSTILE}", csrf="t0ken", person="p", **PAGES[name] | more)


@each_page
def test_pages_keep_to_the_policy(name: str) -> None:
    html = render(name)
    assert HOSTILE not in html
    assert not re.search(r"\sstyle=|\son\w+=|javascript:|<style|https?://", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    assert html.count('name="csrf"') == 1 + html.count('method="post"')


@each_page
def test_variables_are_documented(name: str) -> None:
    source = (ROOM / "templates" / name).read_text(encoding="utf-8")
    comment = source[: source.index("#}")]
    for variable in PAGES[name]:
        assert re.search(rf"\b{variable}\b", comment), variable


def test_other_states() -> None:
    assert "You have withdrawn" in render("me.html", withdrawn=True)
    assert "/static/copy.js" not in render("message.html", code="")
    assert "Come back in 1 minute." in render("message.html")
    assert "My numbers" not in render("message.html", signed_in=False)
    pair = render("instructions.html", rules=ALL_RULES | {"pair": True}, begin="")
    assert "<form" not in pair
    assert "Tap the better image" in pair


@needs_chromium
@each_page
def test_pages_fit_a_phone(name: str) -> None:
    with quiet_page() as page:
        page.set_content(re.sub(r"<link rel=.stylesheet[^>]*>|<script.*?</script>", "", render(name)))
        page.add_style_tag(path=ROOM / "static/annotate.css")
        assert excess(page) == [0, 0, 0, 0]
        assert page.locator("h1").count() >= 1
        assert page.troubles == []


def test_modules_are_small_and_ask_for_nothing_from_elsewhere() -> None:
    for path in (ROOM / "static").iterdir():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") < (450 if path.suffix == ".css" else 350), path.name
        assert not re.search(r"(?<!xmlns=.)https?://|\beval\(|innerHTML|\.style\.\w+ =|setAttribute\(.style", text), (
            path.name
        )
