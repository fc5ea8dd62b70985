"""Fixtures of the annotation room: a PostgreSQL server, and a small project on each kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import Postgres, running
from small_project import Bench, Time, make

from hpskit.annotation.store import Store

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
