"""A browser for the tests of pages, and a person who follows a personal link in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from browser import CHROMIUM
from page_driver import Open, ready
from served import Served


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def enter(chromium: Any) -> Iterator[Open]:
    """Follow a personal link in a browser of its own. In the end nothing may have been logged but failed requests."""
    contexts, troubles = [], []

    def follow(server: Served, **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        context.on("weberror", lambda error: troubles.append(str(error.error)))
        context.on(
            "console", lambda message: message.text.startswith("Failed to load") or troubles.append(message.text)
        )
        page = context.new_page()
        page.set_default_timeout(8_000)
        page.goto(server.link)
        ready(page)
        return page

    yield follow
    for context in contexts:
        context.close()
    assert troubles == []
