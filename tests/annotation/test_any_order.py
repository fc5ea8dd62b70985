"""Whatever people, inspectors and the clock do, in any order: counters stay right, and nothing is given twice."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import update

from hpskit.annotation import people, votes
from hpskit.annotation.project import Project
from hpskit.annotation.store import Store
from hpskit.annotation.tables import assignment, metadata, task, vote
from hpskit.errors import InputError
from postgres import Postgres
from small_project import Bench, Time, answer, make

NAMES = ("ann", "bob", "cy", "di")
TASKS = 4
places = st.integers(0, 40)
names = st.sampled_from(NAMES)


class Anything(RuleBasedStateMachine):
    """A project of four tasks, two hidden checks and four people."""

    template: Project
    url = ""
    numbers = itertools.count()

    @initialize(overlap=st.integers(1, 3))
    def begin(self, overlap: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hpskit-any-"))
        url = self.url
        if not url:
            shutil.copy(self.template.folder / "annotation.sqlite", self.folder)
        project = Project(self.folder, self.template.settings.model_copy(update={"overlap": overlap}), url)
        self.bench = Bench(project, Store(project.database, clock=Time()), Time())
        self.bench.store.now = self.bench.clock
        if url:
            emptied(self.bench.store)
        with self.bench.store.write() as connection:
            connection.execute(update(task).where(task.c.kind == "work").values(wanted=overlap))
        self.bench.join(*NAMES)
        self.acknowledged: dict[str, Any] = {}
        self.withdrawn: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.store.close()
            shutil.rmtree(self.folder)

    def working(self, name: str) -> bool:
        return name not in self.withdrawn and self.bench.who(name).state == "work"

    def pick(self, table: Any, number: int, *where: Any) -> Any:
        found = sorted(self.bench.rows(table, *where), key=lambda row: row.id)
        return found[number % len(found)] if found else None

    @rule(name=names, ahead=st.booleans())
    def lease(self, name: str, ahead: bool) -> None:
        if self.working(name):
            mine = (assignment.c.person == self.bench.who(name).id, assignment.c.state == "held")
            holding = [row.id for row in self.bench.rows(assignment, *mine)] if ahead else []
            given = self.bench.next(name, *holding)
            if given.assignment is not None:
                assert given.assignment.id not in holding
                assert given.assignment.ends_at > self.bench.clock()

    @rule(name=names, number=places, best=st.permutations(range(2)), again=st.booleans())
    def submit(self, name: str, number: int, best: list[int], again: bool) -> None:
        if name in self.withdrawn:
            return
        mine = assignment.c.person == self.bench.who(name).id
        if (row := self.pick(assignment, number, mine)) is None:
            return
        before = self.bench.rows(vote, vote.c.assignment == row.id)
        own = before[0].id if before else str(uuid.UUID(int=next(self.numbers), version=4))
        revision = before[0].revision + (not again) if before else 1
        try:
            reply = self.bench.submit(name, row, answer(best=best), vote_id=own, revision=revision)
        except votes.ConflictError:
            return
        self.acknowledged[own] = (row.id, reply["revision"])
        (stored,) = self.bench.rows(vote, vote.c.id == own)
        assert (stored.assignment, stored.revision) == (row.id, reply["revision"])

    @rule(name=names, number=places)
    def skip(self, name: str, number: int) -> None:
        if name in self.withdrawn:
            return
        mine = assignment.c.person == self.bench.who(name).id
        if (row := self.pick(assignment, number, mine)) is not None:
            try:
                reason = self.bench.settings.skip_reasons[0]
                left = votes.skip(self.bench.store, self.bench.who(name), row.id, reason, self.bench.settings)
                assert left == self.bench.settings.skips - self.bench.who(name).skips
            except InputError:
                return

    @rule(name=names, number=places)
    def see(self, name: str, number: int) -> None:
        if name not in self.withdrawn:
            who = self.bench.who(name)
            if (row := self.pick(assignment, number, assignment.c.person == who.id)) is not None:
                votes.seen(self.bench.store, who, row.id, self.bench.settings)

    @rule(minutes=st.sampled_from([1, 10, 31]))
    def wait(self, minutes: int) -> None:
        self.bench.clock.minutes(minutes)

    @rule(number=places)
    def give_back(self, number: int) -> None:
        if (row := self.pick(vote, number, vote.c.state == "counted")) is not None:
            try:
                votes.return_vote(self.bench.store, row.id, "look again", self.bench.settings, who="eve")
            except votes.ConflictError:
                assert self.withdrawn

    @rule(number=places)
    def invalidate(self, number: int) -> None:
        if (row := self.pick(vote, number)) is not None:
            votes.invalidate(self.bench.store, row.id, "a bot", who="eve")

    @rule(name=names)
    def pause(self, name: str) -> None:
        if name not in self.withdrawn and self.bench.who(name).state != "paused":
            people.pause(self.bench.store, name, "a break")

    @rule(name=names)
    def resume(self, name: str) -> None:
        if name not in self.withdrawn and self.bench.who(name).state == "paused":
            people.resume(self.bench.store, name)

    @precondition(lambda self: len(self.withdrawn) < 2)
    @rule(name=names, delete=st.booleans())
    def withdraw(self, name: str, delete: bool) -> None:
        if name not in self.withdrawn:
            own = {row.id for row in self.bench.rows(vote, vote.c.person == self.bench.who(name).id)}
            assert people.withdraw(self.bench.store, name, delete_votes=delete) == len(own)
            self.withdrawn.add(name)
            if delete:
                self.acknowledged = {key: value for key, value in self.acknowledged.items() if key not in own}

    @invariant()
    def counters_are_right(self) -> None:
        if hasattr(self, "bench"):
            self.bench.check()

    @invariant()
    def what_was_acknowledged_is_stored(self) -> None:
        if hasattr(self, "bench"):
            stored = {row.id: (row.assignment, row.revision) for row in self.bench.rows(vote)}
            assert stored == self.acknowledged

    @invariant()
    def nobody_holds_too_much(self) -> None:
        if hasattr(self, "bench"):
            now = self.bench.clock()
            for row in self.bench.rows(task, task.c.kind == "work"):
                mine = (assignment.c.task == row.id, assignment.c.round == 0, assignment.c.state == "held")
                live = self.bench.rows(assignment, *mine, assignment.c.ends_at > now)
                assert len(live) <= row.wanted


def emptied(store: Store) -> None:
    """Make a database of before as good as new; the audit log goes on."""
    with store.write() as connection:
        for name in ("vote", "assignment", "person"):
            connection.execute(metadata.tables[name].delete())
        connection.execute(update(task).values(done=0, held=0, next_end=None))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose database is copied for each run."""
    return make(tmp_path_factory.mktemp("template") / "project", tasks=TASKS, images=2, gold=2, skips=3)


STEPS = hypothesis_settings(max_examples=25, stateful_step_count=40, deadline=None)


def ran(template: Project, examples: int, url: str = "") -> None:
    class Here(Anything):
        pass

    Here.template, Here.url = template, url
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Here, settings=hypothesis_settings(STEPS, max_examples=examples))  # type: ignore[no-untyped-call]


def test_any_order_on_sqlite(template: Project) -> None:
    ran(template, 15)


def test_any_order_on_postgresql(template: Project, postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    make(tmp_path / "project", url, tasks=TASKS, images=2, gold=2, skips=3)
    ran(template, 5, url)


@pytest.mark.slow
def test_any_order_for_long(template: Project) -> None:
    ran(template, 300)
