"""Small projects: images of a few pixels, and names in which a marker tells when one of them leaks."""

from __future__ import annotations

import io
import itertools
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import Row, func, insert, select

from hpskit.annotation import people, votes
from hpskit.annotation.answers import Answer
from hpskit.annotation.assignment import Given, get_task
from hpskit.annotation.project import Project, Settings
from hpskit.annotation.setup import Source, make_project
from hpskit.annotation.store import Store
from hpskit.annotation.submission import submit
from hpskit.annotation.tables import assignment, person, task, vote
from hpskit.dataset.group import Group, Judgement
from hpskit.pixels import Encoded

__all__ = ["MARK", "Bench", "Time", "answer", "groups", "make", "serve_some", "source", "without_votes", "work"]

MARK = "xenonpainter"
"""In every name, source and text of an image, and in nothing that an annotator may get."""
SIZE = 8


class Time:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def minutes(self, number: float) -> None:
        self.seconds += 60 * number


def png(*colour: int) -> bytes:
    """A file that tells its generator in a text, as many do."""
    memory, texts = io.BytesIO(), PngInfo()
    texts.add_text("parameters", f"{MARK} v3")
    Image.new("RGB", (SIZE, SIZE), colour).save(memory, "PNG", pnginfo=texts)
    return memory.getvalue()


def groups(count: int, images: int = 4, *, first: int = 0, gold: bool = False, **fields: Any) -> Iterator[Group]:
    """Tasks whose images get brighter; experts, if they are asked, prefer the dark ones."""
    judged = Judgement(ranks=tuple(range(1, images + 1)), votes=10)
    for number in range(first, first + count):
        yield Group(
            place=f"{MARK}.json: entry {number + 1}",
            prompt=f"prompt {number}",
            images=tuple(f"{MARK}/{number}-{place}.png" for place in range(images)),
            sources=tuple(f"{MARK} {place}" for place in range(images)),
            judgements=(judged,) if gold else (),
            id=f"{MARK}-{number}",
            **fields,
        )


def read(_: Group, name: str) -> Encoded:
    number, place = (int(part) for part in Path(name).stem.split("-"))
    return Encoded(png(10 + 20 * place, number % 256, number // 256), name)


def source(count: int, images: int = 4, **options: Any) -> Source:
    return Source(groups=groups(count, images, **options), read=read)


def make(
    folder: Path,
    database: str = "",
    *,
    tasks: int = 6,
    images: int = 4,
    gold: int = 0,
    share: float = 0.0,
    **fields: Any,
) -> Project:
    """Make a project in a folder; `fields` are its settings."""
    settings = Settings(**{"name": "Birds", "overlap": 2, "practice_tasks": 0, "consent": False} | fields)
    experts = source(gold, images, first=100_000, gold=True) if gold else None
    make_project(folder, settings, source(tasks, images), gold=experts, train_share=share, database=database)
    return Project(folder, settings, database)


def answer(images: int = 4, *, best: Sequence[int] | None = None) -> Answer:
    """A complete ranking, by positions on the page."""
    return Answer(tiers=tuple((position,) for position in (best or range(images))))


@dataclass
class Bench:
    """A project under test: what its pages do, without a network."""

    project: Project
    store: Store
    clock: Time
    ids: Iterator[int] = field(default_factory=itertools.count)

    @property
    def settings(self) -> Settings:
        return self.project.settings

    def join(self, *names: str, state: str = "work", **facts: Any) -> None:
        """Let people in, beyond the consent and the qualification."""
        people.invite(self.store, names, **facts)
        for name in names:
            with self.store.write() as connection:
                found = people.by_name(connection, name)
                people.set_state(connection, self.store.now(), name, found, state)  # type: ignore[arg-type]

    def who(self, name: str) -> Row[Any]:
        with self.store.read() as connection:
            return people.by_name(connection, name)

    def next(self, name: str, *holding: str) -> Given:
        with self.store.write() as connection:
            found = people.locked(connection, people.by_name(connection, name).id)
            return get_task(self.store, connection, found, self.settings, holding)

    def lease(self, name: str, *holding: str) -> Row[Any]:
        given = self.next(name, *holding)
        assert given.assignment is not None, given
        return given.assignment

    def submit(self, name: str, row: Row[Any] | str, given: Answer | None = None, **facts: Any) -> dict[str, Any]:
        number = row if isinstance(row, str) else row.id
        given = given or answer(len(self.assignment(number).order))
        facts = {"vote_id": str(uuid.uuid4()), "revision": 1, "seconds": 5.0} | facts
        return submit(self.store, self.settings, self.who(name), number, answer=given, **facts)

    def vote(self, name: str, **facts: Any) -> dict[str, Any]:
        """Do the next task."""
        return self.submit(name, self.lease(name), **facts)

    def assignment(self, number: str) -> Row[Any]:
        with self.store.read() as connection:
            return connection.execute(select(assignment).where(assignment.c.id == number)).one()

    def rows(self, table: Any, *where: Any) -> Sequence[Row[Any]]:
        with self.store.read() as connection:
            return connection.execute(select(table).where(*where)).all()

    def task(self, number: int) -> Row[Any]:
        return self.rows(task, task.c.id == number)[0]

    def check(self) -> None:
        """See that counters say what is there, that nobody had a task twice, and that no task has too many votes."""
        with self.store.read() as connection:
            counted = select(vote.c.task, func.count().label("n")).where(vote.c.state == "counted", vote.c.round == 0)
            done = {one[0]: one[1] for one in connection.execute(counted.group_by(vote.c.task))}
            leases = select(assignment.c.task, func.count().label("n")).where(
                assignment.c.state == "held", assignment.c.round == 0
            )
            held = {one[0]: one[1] for one in connection.execute(leases.group_by(assignment.c.task))}
            for row in connection.execute(select(task)).all():
                assert row.held == held.get(row.id, 0), f"task {row.id} says {row.held} held, {held.get(row.id, 0)} are"
                if row.kind == "work":
                    assert row.done == done.get(row.id, 0), f"task {row.id} says {row.done}, {done.get(row.id, 0)} are"
                    assert row.done <= row.wanted, f"task {row.id} has {row.done} of {row.wanted} votes"
                else:
                    assert row.done == 0
            seen = [tuple(one) for one in connection.execute(select(vote.c.task, vote.c.person, vote.c.round))]
            assert len(seen) == len(set(seen))
            for number, made in connection.execute(select(person.c.id, person.c.done)).all():
                own = select(func.count()).where(vote.c.person == number, vote.c.task == task.c.id)
                stored = connection.execute(own.where(task.c.kind != "practice")).scalar_one()
                state = connection.execute(select(person.c.state).where(person.c.id == number)).scalar_one()
                assert made == stored or state == "withdrawn"


def without_votes(store: Store, count: int, wanted: int = 1) -> None:
    """Add tasks that share the images of the first, to see what many cost."""
    with store.write() as connection:
        like = connection.execute(select(task).order_by(task.c.id).limit(1)).one()
        rows = [
            {
                **{name: getattr(like, name) for name in ("kind", "split", "prompt", "images")},
                "name": f"more {number}",
                "wanted": wanted,
                "done": 0,
                "held": 0,
                "shuffle": (number * 2_654_435_761) % 2**31,
            }
            for number in range(count)
        ]
        for start in range(0, count, 5_000):
            connection.execute(insert(task), rows[start : start + 5_000])


def work(bench: Bench, name: str, draw: random.Random, pause: float = 0.0) -> None:
    """Do tasks until there is none; some are skipped."""
    for _ in range(200):
        given = bench.next(name)
        if given.assignment is None:
            if given.reason == "wait":  # others are at it
                time.sleep(0.02)
                continue
            return
        time.sleep(pause * draw.random())
        if draw.random() < 0.1 and bench.who(name).skips < bench.settings.skips:
            votes.skip(
                bench.store, bench.who(name), given.assignment.id, bench.settings.skip_reasons[0], bench.settings
            )
        else:
            bench.submit(name, given.assignment)


def serve_some(folder: Path, settings: Settings, url: str, names: list[str], begin: float) -> None:
    """A second server of the same database: a process of its own, with threads."""
    store = Store(url)
    made = Bench(Project(folder, settings, url), store, Time())
    time.sleep(max(0.0, begin - time.time()))
    threads = [threading.Thread(target=work, args=(made, name, random.Random(name), 0.002)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
