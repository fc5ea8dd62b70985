"""Progress of a project, and the votes that somebody should look at."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, select

from hpskit.annotation.project import Settings
from hpskit.annotation.quality import compare, excluded, gold_of, read_votes
from hpskit.annotation.store import Store
from hpskit.annotation.tables import audit, person, task, vote

__all__ = ["Progress", "progress_of", "to_review"]

_UNLIKE = -0.2
"""Tau with the others below which a vote is looked at: of honest ones of HPD v2 0.5 % are below 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Sizes of a project at this moment."""

    tasks: int
    finished: int
    """Tasks that have all votes."""
    wanted: int
    votes: int
    """Votes that count."""
    held: int
    """Tasks that are on somebody's page, or were left there."""
    excluded: int
    """Votes that do not count."""
    unchecked: int
    """Times that somebody's votes could not be checked: a fault of this program's, and no sign against them."""


def progress_of(store: Store) -> Progress:
    """Count what is done and what is left."""
    with store.read() as connection:
        work = select(
            func.count(),
            func.sum(case((task.c.done >= task.c.wanted, 1), else_=0)),
            func.sum(task.c.wanted),
            func.sum(task.c.done),
            func.sum(task.c.held),
        ).where(task.c.kind == "work")
        tasks, finished, wanted, votes, held = (int(value or 0) for value in connection.execute(work).one())
        out = connection.execute(select(func.count()).where(vote.c.state != "counted")).scalar_one()
        failed = connection.execute(select(func.count()).where(audit.c.action == "could-not-check")).scalar_one()
    return Progress(
        tasks=tasks, finished=finished, wanted=wanted, votes=votes, held=held, excluded=int(out), unchecked=int(failed)
    )


def to_review(store: Store, settings: Settings, most: int = 100) -> list[dict[str, Any]]:
    """List votes that count and look odd: flagged images, too fast, or against everybody; the oddest first."""
    with store.read() as connection:
        judged = read_votes(connection)
        gold, out = gold_of(connection), excluded(connection)
        query = (
            select(vote, task.c.name, task.c.images, person.c.pseudonym)
            .join(task, task.c.id == vote.c.task)
            .join(person, person.c.id == vote.c.person)
            .where(vote.c.state == "counted", task.c.kind == "work")
        )
        rows = {(row.task, row.person, row.round): row for row in connection.execute(query).all()}
    others: dict[int, Any] = defaultdict(list)
    for one in judged:
        if one.round == 0 and one.person not in out:
            others[one.task].append(one)
    found = []
    for one in judged:
        row = rows.get((one.task, one.person, one.round))
        if row is None:
            continue
        taus = compare([one], others, gold).taus if len(others[one.task]) > 2 else []
        why = []
        if taus and taus[0] < _UNLIKE:
            why.append(f"against the others (tau {taus[0]:.2f})")
        if one.seconds < settings.least_seconds * len(one.ranks):
            why.append(f"too fast ({one.seconds:.1f} s)")
        if row.flags:
            why.append(f"flags {len(row.flags)} images")
        if why:
            facts = {"vote": row.id, "annotator": row.pseudonym, "task": row.name, "why": "; ".join(why)}
            found.append((taus[0] if taus else 0.0, facts))
    return [facts for _, facts in sorted(found, key=lambda pair: pair[0])[:most]]
