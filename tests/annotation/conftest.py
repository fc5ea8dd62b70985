"""Fixtures of the annotation room: a PostgreSQL server, a small project on each kind of database, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import CHROMIUM
from hpskit.annotation.store import Store
from page_driver import Open, ready
from postgres import Postgres, running
from served import Served
from small_project import Bench, Time, make

Make = Callable[..., Bench]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Address of an empty database; nothing for the SQLite file in the project's folder."""
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def bench(database: str, tmp_path: Path) -> Iterator[Make]:
    """Make a project by its settings."""
    stores = []

    def made(**fields: object) -> Bench:
        clock = Time()
        project = make(tmp_path / f"project{len(stores)}", database, **fields)  # type: ignore[arg-type]
        stores.append(Store(project.database, clock=clock))
        return Bench(project, stores[-1], clock)

    yield made
    for store in stores:
        store.close()


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
        page.set_default_timeout(90_000)  # many tests at once on a slow machine
        page.goto(server.link)
        ready(page)
        return page

    yield follow
    for context in contexts:
        context.close()
    assert troubles == []
