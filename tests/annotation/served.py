"""The annotator's pages, served for a test: one project, one person, tasks made for the test, and what was stored.

`served` is all that the tests know of a server.
"""

from __future__ import annotations

import io
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from PIL import Image, ImageDraw
from sqlalchemy import select, update

from hpskit.annotation import people, tables
from hpskit.annotation.answers import positions_of
from hpskit.annotation.project import Settings as ProjectSettings
from hpskit.annotation.setup import Source, make_project
from hpskit.annotation.web.app import create_app
from hpskit.annotation.web.serving import opened
from hpskit.dataset.group import Group, Judgement
from hpskit.pixels import Encoded

PAINT = [(10, 95, 165), (178, 74, 0), (0, 119, 90), (147, 50, 109), (109, 96, 0), (75, 79, 179)]

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


class Running:
    """The application in a thread, on a project made for the test."""

    def __init__(self, folder: Path, made: Sequence[MadeTask], wanted: Settings) -> None:
        fields = {"ties": wanted.ties, "partial": wanted.partial, "none": wanted.none, "ratings": wanted.ratings}
        settings = ProjectSettings(
            **fields,
            name="Which image is better?",
            flags=tuple(wanted.flags),
            skips=wanted.skips,
            skip_reasons=("cannot see the images", "the prompt makes no sense"),
            lease_minutes=wanted.lease_seconds / 60,
            mode=made[0].mode,
            overlap=1,
            checks="off",
            practice_score=0.0,
            task_order="given",
            practice_tasks=sum(task.practice for task in made),
        )
        work, practice = ([task for task in made if task.practice is wanted] for wanted in (False, True))
        make_project(folder, settings, source(work), gold=source(practice, gold=True) if practice else None)
        found = opened(folder)
        self.made, self.store = made, found.store
        self._token = people.invite(self.store, ["tester"])["tester"]
        with self.store.write() as connection:
            state = "practice" if practice else "work"
            connection.execute(update(tables.person).values(state=state, consented_at=0.0))
        self._http = uvicorn.Server(
            uvicorn.Config(create_app(found.project, self.store, limit=False), port=0, log_level="error", ws="none")
        )
        self._thread = threading.Thread(target=self._http.run, daemon=True)
        self._thread.start()
        while not self._http.started:
            time.sleep(0.01)
        host, port = self._http.servers[0].sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"

    @property
    def link(self) -> str:
        return f"{self.url}/join/{self._token}"

    def close(self) -> None:
        self._http.should_exit = True
        self._thread.join(timeout=20)
        self.store.close()

    def _index(self, number: int) -> int:
        """The tasks of a project are written work first, then practice; the test has them in its own order."""
        order = sorted(range(len(self.made)), key=lambda at: self.made[at].practice)
        return order[number - 1]

    def _rows(self, query: Any) -> Any:
        with self.store.read() as connection:
            return connection.execute(query).all()

    def votes(self) -> list[Stored]:
        vote, assignment = tables.vote, tables.assignment
        query = select(vote, assignment.c.order).join(assignment, assignment.c.id == vote.c.assignment)
        return [
            Stored(
                vote=row.id,
                task=self._index(row.task),
                revision=row.revision,
                answer=positions_of(row, row.order),
                active_seconds=row.active_seconds,
                late=row.state == "late",
            )
            for row in self._rows(query.order_by(vote.c.first_at))
        ]

    def draft(self, task: int) -> dict[str, Any] | None:
        for row in self._rows(select(tables.assignment)):
            if self._index(row.task) == task and row.draft:
                return {"version": row.draft_version, "answer": row.draft}
        return None

    def seen(self) -> list[int]:
        query = select(tables.assignment).order_by(tables.assignment.c.seen_at)
        return [self._index(row.task) for row in self._rows(query) if row.seen_at]

    def skipped(self) -> list[tuple[int, str]]:
        rows = self._rows(select(tables.assignment).where(tables.assignment.c.state == "skipped"))
        return [(self._index(row.task), row.skip_reason) for row in rows]

    def end_session(self) -> None:
        with self.store.write() as connection:
            connection.execute(update(tables.person).values(sessions=tables.person.c.sessions + 1))

    def give_away(self, task: int) -> None:
        number = next(n for n in range(1, len(self.made) + 1) if self._index(n) == task)
        with self.store.write() as connection:
            held = tables.assignment.c.task == number
            connection.execute(update(tables.assignment).where(held).values(state="ended"))
            row = update(tables.task).where(tables.task.c.id == number)
            connection.execute(row.values(done=1, held=0, next_end=None))


def source(made: Sequence[MadeTask], *, gold: bool = False) -> Source:
    """Groups of painted images; the experts like them in the order in which they are."""
    images: dict[str, bytes] = {}
    groups = []
    for at, task in enumerate(made):
        names = tuple(f"{'gold' if gold else 'work'} {at}/{place}.png" for place in range(len(task.sizes)))
        images |= {name: paint(size, place) for place, (name, size) in enumerate(zip(names, task.sizes, strict=True))}
        ranks = tuple(range(1, len(names) + 1))
        judgements = (Judgement(ranks=ranks),) if gold else ()
        groups.append(
            Group(place=f"task {at}", id=f"task {at}", prompt=task.prompt, images=names, judgements=judgements)
        )
    return Source(groups=groups, read=lambda _, name: Encoded(images[name], name))


def paint(size: tuple[int, int], place: int) -> bytes:
    """An image that shows its place in the task."""
    image = Image.new("RGB", size, PAINT[place % 6])
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, size[0] - 5, size[1] - 5), outline="white", width=3)
    draw.text((size[0] / 2, size[1] / 2), str(place + 1), fill="white", font_size=min(size) * 0.6, anchor="mm")
    memory = io.BytesIO()
    image.save(memory, "PNG")
    return memory.getvalue()


@contextmanager
def served(made: Sequence[MadeTask], settings: Settings | None = None, **changes: Any) -> Iterator[Served]:
    """Serve a project of these tasks, which are given out in order; `changes` are fields of `Settings`."""
    with tempfile.TemporaryDirectory() as folder:
        server = Running(Path(folder) / "project", made, replace(settings or Settings(), **changes))
        try:
            yield server
        finally:
            server.close()


__all__ = ["MadeTask", "Served", "Settings", "Stored", "served", "tasks"]
