"""Quality of annotators, from their rankings alone: against others', experts' and their own earlier ones.

Somebody is paused on evidence, not on a percentage: `hpskit.stats.vigilance` weighs every ranking that has something to
be compared with. "Could not be checked" is a state of its own, and no reason to exclude anybody.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, func, select, update

from hpskit.annotation import people
from hpskit.annotation.project import Settings
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import assignment, audit, person, task, vote
from hpskit.stats.planning import flip_probability
from hpskit.stats.vigilance import Vigilance, taus_with_peers, vigilance

if TYPE_CHECKING:
    from hpskit.annotation.web.guard import Server

EXCLUDED = ("paused", "rejected", "withdrawn")
"""States of people whose votes are nobody's yardstick; they stay in the raw export, with the reason."""
_REST = 3.0
"""Seconds of rest for a second of weighing."""
_LOOKED_BACK = 200
"""Votes of a person that are weighed: it bounds the work after each vote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Somebody's work in figures, for the dashboard; None where it cannot be known."""

    name: str
    pseudonym: str
    role: str
    state: str
    reason: str
    done: int
    skips: int
    seconds: float | None
    """Median active seconds of a task."""
    too_fast: float | None
    """Share of votes below the project's seconds an image."""
    straight: float | None
    """Share of rankings that are the order on the page, forwards or backwards, beyond what chance gives."""
    position: float | None
    """Mean tau of rank and position on the page: 0 without bias, above if what stands first is put first."""
    tau: float | None
    """Mean tau with the mean of the others, or of the experts."""
    retest: float | None
    """Mean tau with their own earlier answers."""
    checked: int
    """Rankings that had something to be compared with."""
    vigilance: str
    """`clear`, `watch`, `pause`, or `unchecked`."""
    evidence: float
    seen_at: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One vote as the measures need it."""

    person: int
    task: int
    round: int
    kind: str
    ranks: NDArray[np.float64]
    order: Sequence[int]
    seconds: float
    at: float


def read_votes(connection: Connection, *, tasks: Sequence[int] | None = None) -> list[Judged]:
    """Read all votes that count and rank something; of these tasks only, if they are named."""
    query = (
        select(vote, task.c.kind, assignment.c.order)
        .join(task, task.c.id == vote.c.task)
        .join(assignment, assignment.c.id == vote.c.assignment)
        .where(vote.c.state == "counted", task.c.kind != "practice")
        .order_by(vote.c.first_at, vote.c.id)
    )
    parts: list[Sequence[Row[Any]]]
    if tasks is None:
        parts = [connection.execute(query).all()]
    else:
        parts = [
            connection.execute(query.where(vote.c.task.in_(tasks[start : start + 500]))).all()
            for start in range(0, len(tasks), 500)
        ]
    return [
        Judged(
            person=row.person,
            task=row.task,
            round=row.round,
            kind=row.kind,
            order=row.order,
            ranks=np.array(row.ranks, dtype=np.float64),
            seconds=row.active_seconds,
            at=row.first_at,
        )
        for part in parts
        for row in part
        if sum(rank is not None for rank in row.ranks) > 1
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """The rankings of one person that have something to be compared with, in the order of time."""

    taus: list[float]
    images: list[int]
    peers: list[int]
    at: list[float]
    retests: list[float]


def compare(own: Sequence[Judged], others: dict[int, list[Judged]], gold: dict[int, Any]) -> Compared:
    """Compare somebody's rankings with the experts', with the mean of the others, or with their own of before."""
    first = {one.task: one for one in own if one.round == 0}
    compared, sets, repeats = [], [], []
    for one in own:
        retest = one.round == 1 and one.task in first
        if retest:
            references = [first[one.task].ranks]
        elif one.kind == "gold":
            references = [np.array(row, dtype=np.float64) for row in gold[one.task]]
        else:
            references = [other.ranks for other in others.get(one.task, ()) if other.person != one.person]
        if references:
            compared.append(one)
            sets.append(references)
            repeats.append(retest)
    taus = taus_of([one.ranks for one in compared], sets)
    kept = [place for place, tau in enumerate(taus) if not math.isnan(tau)]
    return Compared(
        taus=[taus[place] for place in kept],
        images=[len(compared[place].ranks) for place in kept],
        peers=[len(sets[place]) for place in kept],
        at=[compared[place].at for place in kept],
        retests=[taus[place] for place in kept if repeats[place]],
    )


def taus_of(ranks: Sequence[NDArray[np.float64]], references: Sequence[Sequence[NDArray[np.float64]]]) -> list[float]:
    """Return the tau of each ranking with the mean of its references, all at once; NaN where one has no order."""
    if not ranks:
        return []
    sets = [np.stack([own, *others]) for own, others in zip(ranks, references, strict=True)]
    found = taus_with_peers(sets, [range(len(one)) for one in sets])
    taus: list[float] = found.tau[np.flatnonzero(np.diff(found.group, prepend=-1))].tolist()
    return taus


def weighed(found: Compared, since: float = 0.0) -> Vigilance:
    """Weigh what was compared after a moment."""
    kept = [place for place, at in enumerate(found.at) if at > since]
    fields = ([getattr(found, name)[place] for place in kept] for name in ("taus", "images", "peers"))
    return vigilance(*fields)


def assess(store: Store, settings: Settings, number: int) -> str:
    """Weigh one person's votes, and pause whoever does not look; return the state of the evidence."""
    with store.read() as connection:
        who = connection.execute(select(person).where(person.c.id == number)).one()
        if who.state != "work":
            return "unchecked"
        recent = select(vote.c.task).where(vote.c.person == number, vote.c.state == "counted")
        tasks = connection.execute(recent.order_by(vote.c.first_at.desc()).limit(_LOOKED_BACK)).scalars().all()
        judged = read_votes(connection, tasks=sorted(set(tasks)))
        gold = gold_of(connection)
        since = resumed_at(connection, who)
        out = excluded(connection)
    others: dict[int, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.person != number and one.round == 0 and one.person not in out:
            others[one.task].append(one)
    found = weighed(compare([one for one in judged if one.person == number], others, gold), since)
    if found.state == "pause" and settings.pause:
        reason = f"evidence: their rankings are as good as random (log-odds {found.evidence:.1f})"
        with store.write() as connection:
            who = people.locked(connection, number)
            if who.state == "work":
                people.set_state(connection, store.now(), "quality", who, "paused", reason)
    return found.state


def more_votes(store: Store, settings: Settings, number: int) -> None:
    """Let the task that somebody did last have one vote more, if it has all and one more may well turn a pair."""
    with store.read() as connection:
        last = select(vote.c.task).where(vote.c.person == number).order_by(vote.c.first_at.desc()).limit(1)
        found = connection.execute(select(task).where(task.c.id == last.scalar_subquery())).one_or_none()
        if found is None or found.kind != "work" or found.done < found.wanted:
            return
        base = settings.overlap if found.split == "test" else settings.train_overlap
        out = excluded(connection)
        judged = [one for one in read_votes(connection, tasks=[found.id]) if one.round == 0 and one.person not in out]
    if found.wanted >= base + settings.extra_votes or not judged:
        return
    chance = float(flip_probability([np.stack([one.ranks for one in judged])]).mean[0])
    if chance >= settings.extra_from:
        with store.write() as connection:
            still = task.c.wanted == found.wanted
            more = update(task).where(task.c.id == found.id, still).values(wanted=found.wanted + 1)
            if connection.execute(more).rowcount:
                facts = {"wanted": found.wanted + 1, "chance": round(chance, 3)}
                record(connection, store.now(), "quality", "one-more-vote", found.name, **facts)


def gold_of(connection: Connection) -> dict[int, Any]:
    """Return the experts' rankings of each hidden check."""
    query = select(task.c.id, task.c.gold).where(task.c.kind == "gold")
    return {row.id: row.gold for row in connection.execute(query).all()}


def resumed_at(connection: Connection, who: Row[Any]) -> float:
    """Tell when a person let somebody go on again; evidence of before was looked at by then."""
    query = select(audit.c.at, audit.c.detail).where(audit.c.action == "state", audit.c.subject == who.name)
    moments = [row.at for row in connection.execute(query).all() if row.detail.get("before") in ("paused", "rejected")]
    return max(moments, default=0.0)


def excluded(connection: Connection) -> set[int]:
    """List the people whose votes are nobody's yardstick."""
    return set(connection.execute(select(person.c.id).where(person.c.state.in_(EXCLUDED))).scalars())


def assess_until_told(server: Server) -> None:
    """Weigh whoever has voted, one after the other, until the server ends; runs in a thread of its own.

    It rests three times as long as it works, so that replies do not wait for it; several votes of a person meanwhile
    are weighed once.
    """
    import logging

    while (number := server.to_assess.get()) is not None:
        waiting = {number}
        while not server.to_assess.empty():
            if (more := server.to_assess.get()) is None:
                return
            waiting.add(more)
        for one in waiting:
            begun = time.thread_time()
            try:
                assess(server.store, server.settings, one)
                if server.settings.extra_votes:
                    more_votes(server.store, server.settings, one)
            except Exception:  # a figure of one person that cannot be had must not end those of all
                logging.getLogger("hpskit.annotation").exception("person %d could not be checked", one)
                with server.store.write() as connection:
                    record(connection, server.store.now(), "quality", "could-not-check", str(one))
            if server.ending.wait(_REST * (time.thread_time() - begun)):
                return


def standing(store: Store, settings: Settings) -> list[Standing]:
    """Put everybody's work into figures, by the last votes of each, as `assess` does."""
    with store.read() as connection:
        persons = connection.execute(select(person).order_by(person.c.id)).all()
        judged = read_votes(connection, tasks=recent_tasks(connection))
        gold, out = gold_of(connection), excluded(connection)
        since = {row.id: resumed_at(connection, row) for row in persons}
    by_person: dict[int, list[Judged]] = defaultdict(list)
    by_task: dict[int, list[Judged]] = defaultdict(list)
    for one in judged:
        by_person[one.person].append(one)
        if one.round == 0 and one.person not in out:
            by_task[one.task].append(one)
    return [stand(row, by_person[row.id], by_task, gold, since[row.id], settings) for row in persons]


def recent_tasks(connection: Connection) -> list[int]:
    """List the tasks of the last votes of each person."""
    place = func.row_number().over(partition_by=vote.c.person, order_by=vote.c.first_at.desc()).label("place")
    placed = select(vote.c.task, place).where(vote.c.state == "counted").subquery()
    query = select(placed.c.task).where(placed.c.place <= _LOOKED_BACK).distinct()
    return sorted(connection.execute(query).scalars())


def stand(
    row: Row[Any],
    own: list[Judged],
    by_task: dict[int, list[Judged]],
    gold: dict[int, Any],
    since: float,
    settings: Settings,
) -> Standing:
    """Put one person's work into figures."""
    found = compare(own, by_task, gold)
    evidence = weighed(found, since)
    seconds = [one.seconds for one in own]
    complete = [one for one in own if not np.isnan(one.ranks).any()]
    return Standing(
        name=row.name,
        pseudonym=row.pseudonym,
        role=row.role,
        state=row.state,
        reason=row.reason,
        done=row.done,
        skips=row.skips,
        seen_at=row.seen_at,
        seconds=float(np.median(seconds)) if seconds else None,
        too_fast=mean([one.seconds < settings.least_seconds * len(one.ranks) for one in own]),
        straight=straight(complete),
        position=mean(taus_of([one.ranks for one in complete], [[positions(one.order)] for one in complete])),
        tau=mean(found.taus),
        retest=mean(found.retests),
        checked=len(found.taus),
        vigilance=evidence.state,
        evidence=evidence.evidence,
    )


def positions(order: Sequence[int]) -> NDArray[np.float64]:
    """Return the position on the page of each image, by place; order[position] = place."""
    return np.argsort(order).astype(np.float64)


def straight(own: Sequence[Judged]) -> float | None:
    """Measure how often a ranking is the order on the page or its reverse, less what chance gives; None for pairs."""
    shares = []
    for one in own:
        if len(one.ranks) > 2:
            along = one.ranks[list(one.order)]
            steps = np.diff(along)
            shares.append(float((steps > 0).all() or (steps < 0).all()) - 2 / math.factorial(len(along)))
    return None if not shares else max(0.0, float(np.mean(shares)))


def mean(values: Sequence[float | bool]) -> float | None:
    """Return the mean of what is a number, None without any."""
    kept = [float(value) for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else None
