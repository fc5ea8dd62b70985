"""The annotator's pages, served for a test: one project, one person, tasks made for the test, and what was stored.

`served` is all that the tests know of a server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

SQUARES = ((512, 512),) * 4


@dataclass(frozen=True, kw_only=True)
class MadeTask:
    """A task as a test wants it. Its images are painted: each shows its position on the page."""

    prompt: str = "a cat on a red chair"
    sizes: Sequence[tuple[int, int]] = SQUARES
    """Width and height of each image, by position on the page."""
    mode: str = "rank"
    practice: bool = False


def tasks(*counts: int, **more: Any) -> list[MadeTask]:
    """Tasks of so many square images each, named `task 1`, `task 2` and so on."""
    return [MadeTask(prompt=f"task {k}", sizes=SQUARES[:1] * n, **more) for k, n in enumerate(counts, 1)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the project allows."""

    ties: bool = False
    partial: bool = False
    none: bool = True
    ratings: int = 0
    flags: Sequence[str] = ()
    skips: int = 5
    lease_seconds: float = 1800


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A vote as the server keeps it."""

    vote: str
    task: int
    """Index of the task in the list that was given."""
    revision: int
    answer: dict[str, Any]
    """By position on the page."""
    active_seconds: float = 0.0
    late: bool = False


class Served(Protocol):
    """A running server."""

    url: str
    """`http://127.0.0.1:…`, without a slash at the end."""
    link: str
    """The personal link; it leads to the first task, since consent and instructions have been given."""

    def votes(self) -> list[Stored]:
        """Return the newest revision of each vote, in the order of their first arrival."""

    def draft(self, task: int) -> dict[str, Any] | None:
        """Return the draft of a task as {"version", "answer"}."""

    def seen(self) -> list[int]:
        """Return the tasks that have been on the screen."""

    def skipped(self) -> list[tuple[int, str]]:
        """Return tasks and reasons."""

    def end_session(self) -> None:
        """Make the person's cookie worthless; `link` makes a new one."""

    def give_away(self, task: int) -> None:
        """End the lease of a task and fill the task by answers of others."""


@contextmanager
def served(made: Sequence[MadeTask], settings: Settings | None = None, **changes: Any) -> Iterator[Served]:
    """Serve a project of these tasks, which are given out in order; `changes` are fields of `Settings`."""
    from fake_server import running  # temporary: until the real application is here

    with running(list(made), replace(settings or Settings(), **changes)) as server:
        yield server


__all__ = ["MadeTask", "Served", "Settings", "Stored", "served", "tasks"]
