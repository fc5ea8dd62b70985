"""Sheet of what each person is to be paid, and why.

Paid are tasks that were accepted: those that count, and those that came when their task was full, which is nobody's
fault. Votes that were returned are paid once they are given again; invalid ones are not, and the sheet says why.
Practice is paid by time only. Whoever a panel sent is paid by the panel, whose own state decides.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select

from hpskit.annotation.project import Settings
from hpskit.annotation.quality import standing
from hpskit.annotation.store import Store
from hpskit.annotation.tables import assignment, person, task, vote
from hpskit.pages.format import unharmful

ACCEPTED = ("counted", "late")


@dataclass(frozen=True, kw_only=True, slots=True)
class PayRow:
    """One person's pay."""

    pseudonym: str
    panel: str
    panel_person: str
    """What the panel calls the person: only for whoever pays."""
    state: str
    accepted: int
    """Tasks, hidden checks among them."""
    practice: int
    returned: int
    invalid: int
    hours: float
    """Active time of accepted tasks and of practice; pauses are not in it."""
    per_task: float
    per_hour: float
    bonus: float
    """What was added for reliability, 0 if it was not reached."""
    amount: float
    currency: str
    notes: str
    """What was returned or is invalid, and why."""


def pay_sheet(store: Store, settings: Settings) -> list[PayRow]:
    """Work out the pay of everybody who has voted.

    Time is what the page measured while somebody was at it, and never more than the clock of the server allows between
    the moment when the task was given and the vote.
    """
    rules = settings.pay
    reliable = {one.pseudonym: one.tau for one in standing(store, settings)} if rules.bonus else {}
    with store.read() as connection:
        people = connection.execute(select(person).order_by(person.c.pseudonym)).all()
        begun = func.coalesce(assignment.c.seen_at, assignment.c.held_at)
        query = (
            select(vote.c.person, vote.c.state, vote.c.reason, vote.c.active_seconds, vote.c.stored_at, task.c.kind)
            .add_columns(assignment.c.held_at, begun.label("begun"))
            .join(task, task.c.id == vote.c.task)
            .join(assignment, assignment.c.id == vote.c.assignment)
        )
        tasks: dict[int, Counter[str]] = defaultdict(Counter)
        seconds: dict[int, float] = defaultdict(float)
        reasons: dict[int, Counter[str]] = defaultdict(Counter)
        for row in connection.execute(query):
            paid = row.state in ACCEPTED
            tasks[row.person]["practice" if row.kind == "practice" else "accepted" if paid else row.state] += 1
            if paid:
                most = max(0.0, row.stored_at - min(row.begun, row.held_at))
                seconds[row.person] += min(row.active_seconds, most)
            elif row.reason:
                reasons[row.person][f"{row.state}: {row.reason}"] += 1
    return [
        row_of(one, tasks[one.id], seconds[one.id], reasons[one.id], reliable.get(one.pseudonym), settings)
        for one in people
        if tasks[one.id]
    ]


def row_of(
    who: Row[Any],
    tasks: Counter[str],
    seconds: float,
    reasons: Counter[str],
    reliability: float | None,
    settings: Settings,
) -> PayRow:
    """Apply the rules of pay to one person."""
    rules = settings.pay
    reached = reliability is not None and reliability >= rules.bonus_from and tasks["accepted"] >= rules.bonus_tasks
    bonus = rules.bonus if reached else 0.0
    amount = tasks["accepted"] * rules.per_task + seconds / 3600 * rules.per_hour + bonus
    return PayRow(
        pseudonym=who.pseudonym,
        panel=who.panel or "",
        panel_person=who.panel_person or "",
        state=who.state,
        accepted=tasks["accepted"],
        practice=tasks["practice"],
        returned=tasks["returned"],
        invalid=tasks["invalid"],
        hours=seconds / 3600,
        per_task=rules.per_task,
        per_hour=rules.per_hour,
        bonus=bonus,
        amount=round(amount + 1e-9, 2),
        currency=rules.currency,
        notes="; ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items())),
    )


def pay_csv(rows: Sequence[PayRow], *, panel: bool = False) -> str:
    """Write a sheet as CSV under pseudonyms; `panel` adds what panels call their people, which says who they are."""
    names = ["pseudonym", *(["panel", "panel_person"] if panel else []), "state", "accepted", "practice", "returned"]
    names += ["invalid", "hours", "per_task", "per_hour", "bonus", "amount", "currency", "notes"]
    memory = io.StringIO()
    writer = csv.writer(memory, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        found = {name: getattr(row, name) for name in names}
        found |= {"hours": f"{row.hours:.4f}", "amount": f"{row.amount:.2f}"}
        writer.writerow([unharmful(value) for value in found.values()])
    return memory.getvalue()
