"""Votes that an inspector should look at, and everything about one of them.

Names of people and of generators are in none of it. What others said is shown to inspectors only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, Text, cast, or_, select

from hpskit.annotation.project import Settings
from hpskit.annotation.quality import Judged, excluded, read_votes
from hpskit.annotation.store import record
from hpskit.annotation.tables import assignment, audit, image, person, task, vote
from hpskit.annotation.votes import AbsentError
from hpskit.annotation.web.measures import mean_places, sampled, unlikeness
from hpskit.errors import InputError
from hpskit.pages.format import counted, number
from hpskit.stats.vigilance import gold_score, tau_with_reference

LISTS = {
    "fast": "Too fast",
    "checks": "Checks failed",
    "unlike": "Most unlike the others",
    "flags": "Flagged images",
    "skips": "Skipped tasks",
    "decided": "Returned and invalid",
}
_SHOWN = 50
_READ = 500
"""Candidates that are read to find those that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A vote, or a task that was skipped, with why it is listed."""

    vote: str | None
    task: int
    pseudonym: str
    prompt: str
    state: str
    why: str
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """An image at its position on the page of whoever voted."""

    image: int
    width: int
    height: int
    rank: int | None
    others: float | None
    """Mean rank that the others gave it."""
    rating: int | None
    flags: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A task, or one vote on it as it stood on the page of whoever gave it."""

    task: int
    prompt: str
    kind: str
    images: list[Shown]
    vote: Row[Any] | None
    person: int | None
    pseudonym: str
    people: int
    """Others whose mean is shown."""


def listed(connection: Connection, settings: Settings, what: str) -> list[Item]:
    """List what `what`, one of `LISTS`, stands for: the newest first, or the most unlike."""
    match what:
        case "fast":
            return list(too_fast(connection, settings))[:_SHOWN]
        case "checks":
            return list(failed_checks(connection, settings))[:_SHOWN]
        case "unlike":
            return most_unlike(connection)
        case "flags":
            return flagged(connection)
        case "skips":
            return skipped(connection)
    query = base().where(vote.c.state.in_(("returned", "invalid"))).order_by(vote.c.stored_at.desc()).limit(_SHOWN)
    return [item(row, row.reason) for row in connection.execute(query).all()]


def base() -> Select[Any]:
    """Select votes with what a list shows of them."""
    return (
        select(vote, task.c.prompt, task.c.kind, task.c.gold, person.c.pseudonym)
        .join(task, task.c.id == vote.c.task)
        .join(person, person.c.id == vote.c.person)
        .where(task.c.kind != "practice")
    )


def to_look_at() -> Select[Any]:
    """Select votes that count and that no inspector has accepted, the newest first."""
    accepted = select(audit.c.subject).where(audit.c.action == "accept")
    query = base().where(vote.c.state == "counted", vote.c.id.not_in(accepted))
    return query.order_by(vote.c.first_at.desc(), vote.c.id).limit(_READ)


def item(row: Row[Any], why: str) -> Item:
    """Make the line of a vote."""
    return Item(
        vote=row.id,
        task=row.task,
        pseudonym=row.pseudonym,
        prompt=row.prompt,
        state=row.state,
        why=why,
        at=row.first_at,
    )


def too_fast(connection: Connection, settings: Settings) -> Iterable[Item]:
    """Find votes that took less time than the project's seconds an image."""
    query = to_look_at().where(vote.c.active_seconds < settings.least_seconds * 12)
    for row in connection.execute(query).all():
        if row.active_seconds < settings.least_seconds * len(row.ranks):
            yield item(row, f"{number(row.active_seconds, 1)} s for {len(row.ranks)} images")


def failed_checks(connection: Connection, settings: Settings) -> Iterable[Item]:
    """Find answers to hidden checks that contradict the experts, or the person's own earlier answer."""
    rows = connection.execute(to_look_at().where(or_(task.c.kind == "gold", vote.c.round == 1))).all()
    repeats = sorted({row.task for row in rows if row.round == 1})
    query = select(vote.c.task, vote.c.person, vote.c.ranks).where(vote.c.round == 0, vote.c.task.in_(repeats))
    own: dict[tuple[int, int], Any] = {(row.task, row.person): row.ranks for row in connection.execute(query).all()}
    for row in rows:
        if row.round == 1:
            agreed = tau_with_reference(row.ranks, [own[row.task, row.person]])
            if agreed < 0:
                yield item(row, f"contradicts their own earlier ranking (tau {number(agreed)})")
            continue
        score = gold_score(row.ranks, row.gold, share=settings.agree_share)
        if score is not None and score.agreed < settings.practice_score * score.pairs:
            yield item(row, f"as the experts on {score.agreed:g} of {counted(score.pairs, 'clear pair')}")


def most_unlike(connection: Connection) -> list[Item]:
    """Find the rankings that agree least with the mean of the others, in a sample of tasks."""
    _, several, _ = sampled(connection)
    groups: dict[int, list[Judged]] = defaultdict(list)
    out = excluded(connection)
    for one in read_votes(connection, tasks=sorted(several)):
        if one.round == 0 and one.person not in out:
            groups[one.task].append(one)
    shared = [group for group in groups.values() if len(group) > 1]
    everyone = [one for group in shared for one in group]
    taus = unlikeness(shared) if shared else []
    found = [(tau, one.task, one.person) for one, tau in zip(everyone, taus, strict=True) if tau < 0]
    least = {(number_, who): agreed for agreed, number_, who in sorted(found)[:_SHOWN]}
    query = to_look_at().where(vote.c.round == 0, vote.c.task.in_({key[0] for key in least})).limit(None)
    items = [
        (least[row.task, row.person], item(row, f"tau {number(least[row.task, row.person])} with the mean of others"))
        for row in connection.execute(query).all()
        if (row.task, row.person) in least
    ]
    return [one for _, one in sorted(items, key=lambda pair: pair[0])]


def flagged(connection: Connection) -> list[Item]:
    """Find votes in which an image has a problem, or none is acceptable."""
    query = to_look_at().where(or_(cast(vote.c.flags, Text) != "{}", vote.c.none)).limit(_SHOWN)
    found = []
    for row in connection.execute(query).all():
        names = sorted({flag for flags in row.flags.values() for flag in flags})
        found.append(item(row, ", ".join([*names, *(["none is acceptable"] if row.none else [])])))
    return found


def skipped(connection: Connection) -> list[Item]:
    """Find tasks that somebody gave back."""
    query = (
        select(assignment.c.task, assignment.c.skip_reason, assignment.c.held_at, task.c.prompt, person.c.pseudonym)
        .join(task, task.c.id == assignment.c.task)
        .join(person, person.c.id == assignment.c.person)
        .where(assignment.c.state == "skipped")
        .order_by(assignment.c.held_at.desc())
        .limit(_SHOWN)
    )
    return [
        Item(
            vote=None,
            task=row.task,
            pseudonym=row.pseudonym,
            prompt=row.prompt,
            state="skipped",
            why=row.skip_reason or "",
            at=row.held_at,
        )
        for row in connection.execute(query).all()
    ]


def seen_vote(connection: Connection, name: str) -> Seen:
    """Show a vote as it stood on the page, beside the mean of the others.

    Raises:
        AbsentError: there is no such vote.
    """
    row = connection.execute(base().where(vote.c.id == name)).one_or_none()
    if row is None:
        raise AbsentError("vote", f"{name[:40]!r} is not there")
    order = connection.execute(select(assignment.c.order).where(assignment.c.id == row.assignment)).scalar_one()
    return seen(connection, row.task, order, row)


def seen_task(connection: Connection, name: int) -> tuple[Seen, list[Item]]:
    """Show a task, and the votes on it.

    Raises:
        AbsentError: there is no such task.
    """
    found = seen(connection, name, None, None)
    query = base().where(vote.c.task == name).order_by(vote.c.first_at)
    votes = [item(row, row.reason or order_text(row.ranks)) for row in connection.execute(query).all()]
    return found, votes


def order_text(ranks: list[int | None]) -> str:
    """Write a ranking as the numbers of its images, the best first: `2 > 1 = 3`."""
    places = sorted((rank, place) for place, rank in enumerate(ranks, 1) if rank is not None)
    parts = [
        f"{' = ' if at and places[at - 1][0] == rank else ' > ' if at else ''}{place}"
        for at, (rank, place) in enumerate(places)
    ]
    return "".join(parts) or "nothing is ranked"


def seen(connection: Connection, name: int, order: list[int] | None, row: Row[Any] | None) -> Seen:
    """Put a task together, in an order of its images."""
    found = connection.execute(select(task).where(task.c.id == name)).one_or_none()
    if found is None:
        raise AbsentError("task", f"{name} is not there")
    sizes = {one.id: one for one in connection.execute(select(image).where(image.c.id.in_(found.images))).all()}
    out = excluded(connection)
    others = [
        one.ranks
        for one in read_votes(connection, tasks=[name])
        if one.round == 0 and one.person not in out and (row is None or one.person != row.person)
    ]
    means = mean_places(others) if others else np.full(len(found.images), np.nan)
    shown = [
        Shown(
            image=found.images[place],
            width=sizes[found.images[place]].width,
            height=sizes[found.images[place]].height,
            rank=None if row is None else row.ranks[place],
            others=None if math.isnan(means[place]) else float(means[place]),
            rating=None if row is None or row.ratings is None else row.ratings[place],
            flags=[] if row is None else row.flags.get(str(place), []),
        )
        for place in (order or range(len(found.images)))
    ]
    pseudonym = "" if row is None else row.pseudonym
    return Seen(
        task=name,
        prompt=found.prompt,
        kind=found.kind,
        images=shown,
        vote=row,
        person=None if row is None else row.person,
        pseudonym=pseudonym,
        people=len(others),
    )


def own_vote(connection: Connection, name: str, who: Row[Any]) -> None:
    """See that an inspector does not decide about a vote of their own.

    Raises:
        AbsentError: there is no such vote.
        InputError: it is their own.
    """
    query = select(vote.c.person).where(vote.c.id == name)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise AbsentError("vote", f"{name[:40]!r} is not there")
    if found == who.id:
        raise InputError("vote", "is your own", expected="one of somebody else", cure="let another inspector look")


def accept(connection: Connection, at: float, name: str, who: Row[Any]) -> None:
    """Note that an inspector found nothing wrong with a vote; it is listed no more."""
    state = connection.execute(select(vote.c.state, vote.c.revision).where(vote.c.id == name)).one()
    record(connection, at, who.name, "accept", name, state=state.state, revision=state.revision)
