"""Store what somebody submits: once, when it is acknowledged, and as it stood on the page.

The page makes the id of a vote, so that a retry after a lost answer is the same vote and gets the same reply. Nothing
that somebody submitted is thrown away: a vote that comes when its task is full is kept as `late`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hpskit.annotation.answers import (
    Answer,
    check_answer,
    flags_by_place,
    positions_of,
    ranks_by_place,
    ratings_by_place,
)
from hpskit.annotation.assignment import end_lease
from hpskit.annotation.people import State, locked, set_state
from hpskit.annotation.project import Settings
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import assignment, person, task, vote
from hpskit.annotation.votes import ConflictError, changeable, locked_task, owned
from hpskit.errors import InputError
from hpskit.stats.vigilance import gold_score

_MOST_SECONDS = 24 * 3600.0
_LATE = "the task was full"


def submit(
    store: Store,
    settings: Settings,
    who: Row[Any],
    number: str,
    *,
    vote_id: str,
    revision: int,
    answer: Answer,
    seconds: float,
) -> dict[str, Any]:
    """Store a vote on the assignment `number`, or a changed one; the reply to a repeat is the same.

    Raises:
        AbsentError: the assignment is not this person's.
        InputError: the answer is none that this project takes, or the id is no UUID.
        ConflictError: the id is of another vote, something else is stored, or it can no longer be changed.
    """
    check_id(vote_id)
    with one_id(), store.write() as connection:
        who = locked(connection, who.id)
        row = owned(connection, who, number)
        found = locked_task(connection, row.task)
        if not store.sqlite:  # as it is now that nobody else changes it
            row = owned(connection, who, number, lock=True)
        check_answer(answer, len(row.order), settings)
        content = {
            "ranks": ranks_by_place(answer, row.order),
            "none": answer.none,
            "ratings": ratings_by_place(answer, row.order),
            "flags": flags_by_place(answer, row.order),
        }
        submission = Submission(
            connection=connection,
            settings=settings,
            at=store.now(),
            who=who,
            row=row,
            task=found,
            vote_id=vote_id,
            revision=revision,
            content=content,
            seconds=seconds,
        )
        before = connection.execute(select(vote).where(vote.c.assignment == row.id)).one_or_none()
        return submission.add() if before is None else submission.change(before)


def check_id(vote_id: str) -> None:
    """See that an id is a UUID as it is usually written."""
    try:
        right = str(uuid.UUID(vote_id)) == vote_id
    except ValueError:
        right = False
    if not right:
        raise InputError("vote", f"is {vote_id!r}", expected="a UUID in lower case")


@contextlib.contextmanager
def one_id() -> Iterator[None]:
    """Refuse an id that somebody else stored in this very moment; one of before is found by `Submission.add`."""
    try:
        yield
    except IntegrityError as error:
        raise ConflictError("vote", "is of another task") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """An answer on its way into the database, in a transaction that has locked person, task and assignment."""

    connection: Connection
    settings: Settings
    at: float
    who: Row[Any]
    row: Row[Any]
    """The assignment."""
    task: Row[Any]
    vote_id: str
    revision: int
    content: Mapping[str, Any]
    """Columns of the vote, by place."""
    seconds: float

    @property
    def counts(self) -> bool:
        """Tell whether this is one of the votes that the task wants: no check and no practice."""
        return bool(self.task.kind == "work" and self.row.round == 0)

    def add(self) -> dict[str, Any]:
        """Store the vote of an assignment that has none."""
        if self.row.state == "skipped":
            raise ConflictError("assignment", "was skipped")
        if self.connection.execute(select(vote.c.id).where(vote.c.id == self.vote_id)).one_or_none() is not None:
            raise ConflictError("vote", "is of another task")
        late = self.counts and self.full()
        values = {
            **self.content,
            "id": self.vote_id,
            "assignment": self.row.id,
            "task": self.row.task,
            "person": self.who.id,
            "round": self.row.round,
            "revision": self.revision,
            "first_at": self.at,
            "stored_at": self.at,
            "active_seconds": min(max(0.0, self.seconds, self.row.active_seconds), _MOST_SECONDS),
        }
        self.connection.execute(insert(vote).values(values | self.take_place(late)))
        if self.task.kind == "practice":
            return self.reply(late=late, practice=self.qualify())
        done = self.who.done + 1
        self.connection.execute(update(person).where(person.c.id == self.who.id).values(done=done))
        return self.reply(late=late) | {"done": done}

    def change(self, before: Row[Any]) -> dict[str, Any]:
        """Answer a repeat, or replace the content of a vote that may be changed; what it was is in the log."""
        stored = {"vote": before.id, "revision": before.revision}
        same = all(getattr(before, name) == value for name, value in self.content.items())
        if before.id != self.vote_id:
            raise ConflictError("vote", "is there already under another id", **stored)
        if self.revision == before.revision and same:
            practice = None
            if self.task.kind == "practice":
                practice = self.stated(self.score(before.ranks), self.who.practice)
            return self.reply(late=before.state == "late", practice=practice)
        if self.revision != before.revision + 1:
            answer = positions_of(before, self.row.order)
            raise ConflictError("revision", f"is {self.revision}", **stored, answer=answer)
        if not changeable(self.connection, self.who, before, self.settings, self.at):
            raise ConflictError("vote", "can no longer be changed", **stored)
        was = {name: getattr(before, name) for name in ("revision", *self.content, "stored_at")}
        record(self.connection, self.at, self.who.name, "change", self.vote_id, **was)
        late = before.state == "late"
        values = {
            **self.content,
            "revision": self.revision,
            "stored_at": self.at,
            "active_seconds": max(self.seconds, before.active_seconds),
        }
        if before.state == "returned":
            late = self.counts and self.full()
            values |= self.take_place(late)
        self.connection.execute(update(vote).where(vote.c.id == self.vote_id).values(values))
        return self.reply(late=late)

    def full(self) -> bool:
        """Tell whether the vote comes too late for its task: it keeps the place that its lease holds.

        Without a lease it takes a place that nobody has; leases of others that are over, too, must not keep it out.
        """
        if self.row.state == "held":
            return bool(self.task.done >= self.task.wanted)
        query = select(func.count()).where(
            assignment.c.task == self.task.id,
            assignment.c.round == 0,
            assignment.c.state == "held",
            assignment.c.ends_at > self.at,
        )
        return bool(self.task.done + self.connection.execute(query).scalar_one() >= self.task.wanted)

    def take_place(self, late: bool) -> dict[str, str]:
        """End the lease, count the vote if it counts, and return the state that it has."""
        end_lease(self.connection, self.row, "voted")
        if self.counts and not late:
            more = update(task).where(task.c.id == self.row.task).values(done=task.c.done + 1)
            self.connection.execute(more)
        return {"state": "late", "reason": _LATE} if late else {"state": "counted", "reason": ""}

    def reply(self, *, late: bool, practice: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the reply; see `hpskit.annotation.replies.Stored`."""
        facts = {"stored": True, "vote": self.vote_id, "revision": self.revision, "done": self.who.done}
        return {**facts, "late": late, "practice": practice}

    def qualify(self) -> dict[str, Any]:
        """Score a task of the qualification; after the last one the person begins to work, or does not."""
        own = self.score(self.content["ranks"])
        scores = [*self.who.practice, own]
        self.connection.execute(update(person).where(person.c.id == self.who.id).values(practice=scores))
        stated = self.stated(own, scores)
        if stated["passed"] is not None:
            pairs = sum(score[1] for score in scores)
            reason = "" if stated["passed"] else f"qualification: {stated['score']:.0%} of {pairs} clear pairs"
            state: State = "work" if stated["passed"] else "rejected"
            set_state(self.connection, self.at, "qualification", self.who, state, reason)
        return stated

    def score(self, ranks: list[int | None]) -> list[float]:
        """Score a ranking against the experts': clear pairs that agree, and all of them."""
        scored = gold_score(ranks, self.task.gold, share=self.settings.agree_share)
        return [scored.agreed, scored.pairs] if scored else [0.0, 0]

    def stated(self, own: list[float], scores: list[list[float]]) -> dict[str, Any]:
        """Return what somebody is told after a task of the qualification."""
        agreed, pairs = sum(score[0] for score in scores), sum(score[1] for score in scores)
        share = agreed / pairs if pairs else 1.0
        total = self.connection.execute(select(func.count()).where(task.c.kind == "practice")).scalar_one()
        left = int(total) - len(scores)
        passed = None if left else share >= self.settings.practice_score
        return {"score": share, "passed": passed, "left": left, "agreed": own[0], "pairs": own[1]}
