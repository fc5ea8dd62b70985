"""Give tasks to people: exactly as many votes as a task wants, from different people, under any concurrency.

A task is given as a lease. Whether a lease is over is decided when somebody looks for a task, by the clock, so that no
job has to end it. A vote that comes after its lease was over counts if the task still wants one; if not it is kept as
`late`, and counts nowhere. Started tasks come first. Every choice is made inside one transaction: SQLite has one
writer, PostgreSQL locks rows, always in one order (person, task, assignment, vote), so that two never wait for each
other, and passes by tasks that another server has locked.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Exists,
    Row,
    Select,
    and_,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from hpskit.annotation.project import Settings
from hpskit.annotation.store import Store
from hpskit.annotation.tables import assignment, task, vote

_CANDIDATES = 24
"""Tasks of which one is drawn: people who come at once do not wait for the same row."""
_FIRST, _FIRST_CHECKS, _LATER = 60, 12, 25
"""Checks where a task has one vote: 12 among the first 60 tasks, then one in 25 (COLLECT, measured)."""
_APART = 10
"""Tasks between somebody's answer and its hidden repeat."""
_HELD_AT_ONCE = 3
"""Leases of one person: what is on the page, and what is loaded ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """Answer to somebody who wants a task."""

    assignment: Row[Any] | None = None
    reason: str = ""
    """Without an assignment: `wait` (others hold what is left), `done` (nothing is left), `cap`."""
    seconds: float = 0.0
    """With `wait`: when the first of those leases is over."""


def get_task(
    store: Store, connection: Connection, who: Row[Any], settings: Settings, holding: Collection[str] = ()
) -> Given:
    """Give somebody a task, or the one that they hold and have not on the page (`holding`), after a reload.

    `who` is a row of `person` in the state `practice` or `work`. Runs inside a transaction that writes and has locked
    that row.
    """
    now = store.now()
    release(connection, who.id, until=now)  # what was theirs too long can be given to anybody, and to them again
    kept = held_by(connection, who.id, now)
    for row in kept:
        if row.id not in holding:
            return Given(assignment=row)
    if len(kept) >= _HELD_AT_ONCE:
        return Given(reason="wait", seconds=5.0)
    if who.state == "practice":
        return practice_task(connection, who, settings, now, holding)
    if (cap := who.cap or settings.per_person) is not None and who.done + len(kept) >= cap:
        return Given(reason="cap")
    number = who.done + len(kept)
    due = settings.checks == "auto" and is_check(settings.seed, who.id, number)
    if due and (check := check_task(connection, who, settings, now, holding)) is not None:
        return Given(assignment=check)
    return work_task(connection, who, settings, now, holding)


def held_by(connection: Connection, number: int, now: float) -> Sequence[Row[Any]]:
    """List what somebody holds now, the oldest first."""
    query = select(assignment).where(
        assignment.c.person == number, assignment.c.state == "held", assignment.c.ends_at > now
    )
    return connection.execute(query.order_by(assignment.c.held_at, assignment.c.id)).all()


def had_by(who: Row[Any], holding: Collection[str] = ()) -> Exists:
    """Pick tasks that somebody had, or has on the page although the lease is over; one that went back is open again."""
    kept = or_(assignment.c.state != "ended", assignment.c.id.in_(holding))
    return exists().where(assignment.c.task == task.c.id, assignment.c.person == who.id, kept)


def work_task(
    connection: Connection, who: Row[Any], settings: Settings, now: float, holding: Collection[str] = ()
) -> Given:
    """Lease a task that still wants votes and that this person never had."""
    columns = (task.c.id, task.c.done, task.c.held)  # what is drawn from, not what all of them hold
    had = had_by(who, holding)
    query = select(*columns).where(task.c.kind == "work", task.c.done < task.c.wanted, is_free(now), ~had)
    order = (task.c.done.desc(), task.c.shuffle) if settings.task_order == "random" else (task.c.shuffle,)
    drawn = list(connection.execute(query.order_by(*order).limit(_CANDIDATES)).all())
    if settings.task_order == "random":
        random.Random(f"{who.id} {who.done} {now}").shuffle(drawn)  # noqa: S311  # spreads people, guards nothing
        drawn.sort(key=lambda row: row.done + row.held == 0)  # those that were begun first
    for row in drawn:
        found = locked(connection, row.id)
        if found is not None and ends_leases(connection, found, now):
            return Given(assignment=lease(connection, found, who, 0, settings, now))
    return nothing_left(connection, who, now)


def is_free(now: float) -> ColumnElement[bool]:
    """Pick tasks that may have room for one more: some lease is not taken, or the first of them is over."""
    return or_(task.c.done + task.c.held < task.c.wanted, task.c.next_end <= now)


def locked(connection: Connection, number: int) -> Row[Any] | None:
    """Read a task so that nobody else changes it before this transaction ends; None if somebody is about to."""
    query: Select[Any] = select(task).where(task.c.id == number)
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none()


def ends_leases(connection: Connection, found: Row[Any], now: float) -> bool:
    """End what is over of a task's leases; tell whether there is room for one more."""
    held = found.held
    if found.next_end is not None and found.next_end <= now:
        over = and_(
            assignment.c.task == found.id,
            assignment.c.round == 0,
            assignment.c.state == "held",
            assignment.c.ends_at <= now,
        )
        held -= connection.execute(update(assignment).where(over).values(state="ended")).rowcount
        connection.execute(
            update(task).where(task.c.id == found.id).values(held=held, next_end=next_end(connection, found.id))
        )
    return bool(found.done + held < found.wanted)


def next_end(connection: Connection, number: int) -> float | None:
    """Tell when the first lease of a task is over, None without any."""
    query = select(func.min(assignment.c.ends_at)).where(
        assignment.c.task == number, assignment.c.round == 0, assignment.c.state == "held"
    )
    found: float | None = connection.execute(query).scalar_one()
    return found


def lease(
    connection: Connection, found: Row[Any], who: Row[Any], round_: int, settings: Settings, now: float
) -> Row[Any]:
    """Write the lease of a task for somebody; one that was over is renewed, with its draft."""
    ends = now + 60 * settings.lease_minutes
    mine = and_(assignment.c.task == found.id, assignment.c.person == who.id, assignment.c.round == round_)
    again = update(assignment).where(mine).values(state="held", held_at=now, ends_at=ends).returning(assignment)
    row = connection.execute(again).one_or_none()
    if row is None:
        values = {
            "id": secrets.token_urlsafe(16),
            "task": found.id,
            "person": who.id,
            "round": round_,
            "order": shown_order(settings.seed, found.id, who.id, len(found.images), round_),
            "state": "held",
            "held_at": now,
            "ends_at": ends,
            "draft_version": 0,
            "active_seconds": 0.0,
        }
        row = connection.execute(insert(assignment).values(values).returning(assignment)).one()
    if round_ == 0:
        first = func.coalesce(case((task.c.next_end < ends, task.c.next_end)), ends)
        connection.execute(update(task).where(task.c.id == found.id).values(held=task.c.held + 1, next_end=first))
    return row


def end_lease(connection: Connection, row: Row[Any], state: str) -> None:
    """End a lease that is held, as `voted`, `skipped` or `ended`."""
    connection.execute(update(assignment).where(assignment.c.id == row.id).values(state=state))
    if row.round == 0 and row.state == "held":
        one_less(connection, row.task)


def one_less(connection: Connection, number: int) -> None:
    """Count a lease less. `next_end` may be too early then, which is found out where it matters."""
    first = case((task.c.held > 1, task.c.next_end))
    connection.execute(update(task).where(task.c.id == number).values(held=task.c.held - 1, next_end=first))


def release(connection: Connection, number: int, *, until: float | None = None) -> None:
    """End all leases of a person, or those that are over at a moment, so that others get the tasks."""
    held = and_(assignment.c.person == number, assignment.c.state == "held")
    if until is not None:
        held = and_(held, assignment.c.ends_at <= until)
    tasks = connection.execute(select(assignment.c.task).where(held)).scalars().all()
    if not tasks:
        return
    connection.execute(select(task.c.id).where(task.c.id.in_(tasks)).order_by(task.c.id).with_for_update())
    ended = update(assignment).where(held).values(state="ended").returning(assignment.c.task, assignment.c.round)
    for row in connection.execute(ended).all():
        if row.round == 0:
            one_less(connection, row.task)


def nothing_left(connection: Connection, who: Row[Any], now: float) -> Given:
    """Say why there is no task: nothing is open that this person did not have, or others hold it."""
    query = select(func.count(), func.count().filter(is_free(now)), func.min(task.c.next_end)).where(
        task.c.kind == "work", task.c.done < task.c.wanted, ~had_by(who)
    )
    left, free, first = connection.execute(query).one()
    if not left:
        return Given(reason="done")
    if free or first is None:  # others were about to take it in this moment
        return Given(reason="wait", seconds=5.0)
    return Given(reason="wait", seconds=max(5.0, first - now))


def practice_task(
    connection: Connection, who: Row[Any], settings: Settings, now: float, holding: Collection[str] = ()
) -> Given:
    """Give the next task of the qualification; everybody has the same ones."""
    query = select(task).where(task.c.kind == "practice", ~had_by(who, holding)).order_by(task.c.shuffle).limit(1)
    found = connection.execute(query).one_or_none()
    if found is None:
        return Given(reason="wait", seconds=5.0)
    return Given(assignment=lease(connection, found, who, 0, settings, now))


def check_task(
    connection: Connection, who: Row[Any], settings: Settings, now: float, holding: Collection[str] = ()
) -> Row[Any] | None:
    """Lease a hidden check: a gold task that is left, else one of the person's own answers of some time ago, once.

    None where there is neither, and where tasks have several votes: there the others are the check.
    """
    single = select(task.c.id).where(task.c.kind == "work", task.c.wanted == 1).limit(1)
    if connection.execute(single).one_or_none() is None:
        return None
    gold = select(task).where(task.c.kind == "gold", ~had_by(who, holding)).order_by(task.c.shuffle).limit(1)
    if (found := connection.execute(gold).one_or_none()) is not None:
        return lease(connection, found, who, 0, settings, now)
    again = had_by(who, holding).where(assignment.c.round == 1)
    own = (
        select(task)
        .join(vote, vote.c.task == task.c.id)
        .where(vote.c.person == who.id, vote.c.round == 0, vote.c.state == "counted", task.c.kind == "work", ~again)
        .order_by(vote.c.first_at.desc())
        .offset(_APART)
        .limit(1)
    )
    found = connection.execute(own).one_or_none()
    return None if found is None else lease(connection, found, who, 1, settings, now)


def is_check(seed: int, number: int, done: int) -> bool:
    """Tell whether somebody's next task is a hidden check, by chance that nobody can tell before and all can repeat."""
    if done < _FIRST:
        drawn = random.Random(f"{seed} checks {number}").sample(range(3, _FIRST), _FIRST_CHECKS)  # noqa: S311
        return done in drawn
    block, place = divmod(done - _FIRST, _LATER)
    return place == random.Random(f"{seed} check {number} {block}").randrange(_LATER)  # noqa: S311


def shown_order(seed: int, task_number: int, person_number: int, images: int, round_: int = 0) -> list[int]:
    """Return the order in which somebody sees the images of a task: order[position] = place.

    It follows from project, task, person and round, so that it can be repeated; it is stored all the same. A hidden
    repeat is never in the order of the first time, which chance alone would give every second pair.
    """
    key = f"{seed} {task_number} {person_number} {round_}".encode()
    order = list(range(images))
    random.Random(hashlib.blake2b(key, digest_size=16).digest()).shuffle(order)  # noqa: S311
    if round_ and order == shown_order(seed, task_number, person_number, images):
        order.reverse()
    return order
