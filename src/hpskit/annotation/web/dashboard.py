"""Figures of a project for its researchers: progress, agreement, generators, who is left out, what was not checked.

Counts are of everything and made by the database; measures of rankings are in `hpskit.annotation.web.measures`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from sqlalchemy import Connection, Integer, and_, case, cast, exists, func, or_, select

from hpskit.annotation.store import Store
from hpskit.annotation.tables import audit, person, task, vote
from hpskit.annotation.web.measures import Measures, measures
from hpskit.pages import charts

ALARM = 0.2
"""Share that is left out, or could not be checked, from which a person should look at why."""
_CHECKED_FROM = 10
"""Votes from which somebody should have met a check."""
_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Progress of the project."""

    wanted: int
    """Votes."""
    done: int
    tasks: int
    finished: int
    held: int
    width: float
    """Seconds of a bar of `bars`: an hour, or a day once the project is older than three."""
    bars: list[tuple[float, int]]
    """Beginning of each hour or day, and the votes that came in it."""
    last_day: float
    """Votes a day, by the last 24 hours."""
    end: float | None
    """When it ends at that rate; None without votes in the last day, or if all is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Counts of what is left out, and of what nothing could be compared with: two different things."""

    votes: int
    votes_out: int
    """Invalid votes, and those of people who are paused or rejected."""
    people: int
    """Those who have begun."""
    people_out: int
    paused: int
    rejected: int
    away: int
    """People whom a panel took back, or who have withdrawn: that judges nobody, so not part of `people_out`."""
    invalid: int
    returned: int
    late: int
    unchecked: int
    """Votes of tasks that have no other vote."""
    people_checkable: int
    """People with ten votes or more."""
    people_unchecked: int
    """Those of them who have no vote that could be compared."""
    errors: int
    """Checks of the last 24 hours that failed to run."""

    @property
    def alarm(self) -> bool:
        """Tell whether so much is left out that the rule may be wrong, and not the people."""
        return share(self.votes_out, self.votes) > ALARM or share(self.people_out, self.people) > ALARM

    @property
    def unchecked_alarm(self) -> bool:
        """Tell whether checks do not run, or do not reach the people."""
        return self.errors > 0 or share(self.people_unchecked, self.people_checkable) > ALARM


@dataclass(frozen=True, kw_only=True, slots=True)
class Dashboard:
    """Everything that the page of a researcher shows."""

    at: float
    progress: Progress
    left_out: LeftOut
    measures: Measures


def share(part: float, whole: float) -> float:
    """Divide, 0 of nothing being 0."""
    return part / whole if whole else 0.0


def dashboard(store: Store) -> Dashboard:
    """Put a project into figures."""
    with store.read() as connection:
        now = store.now()
        return Dashboard(
            at=now,
            progress=progress(store, connection, now),
            left_out=left_out(connection, now),
            measures=measures(connection),
        )


def progress(store: Store, connection: Connection, now: float) -> Progress:
    """Count tasks and votes."""
    work = task.c.kind == "work"
    full = task.c.done >= task.c.wanted
    query = select(
        func.count(),
        func.coalesce(func.sum(task.c.wanted), 0),
        func.coalesce(func.sum(case((full, task.c.wanted), else_=task.c.done)), 0),
        func.coalesce(func.sum(case((full, 1), else_=0)), 0),
        func.coalesce(func.sum(task.c.held), 0),
    ).where(work)
    tasks, wanted, done, finished, held = connection.execute(query).one()
    no_practice = vote.c.task.not_in(select(task.c.id).where(task.c.kind == "practice"))
    first = connection.execute(select(func.min(vote.c.first_at)).where(no_practice)).scalar_one()
    width = 3600.0 if first is None or now - first <= 3 * _DAY else _DAY
    begun = now - 60 * _DAY
    place = vote.c.first_at / width
    number = cast(place, Integer) if store.sqlite else cast(func.floor(place), Integer)
    counts = {
        int(row[0]): int(row[1])
        for row in connection.execute(
            select(number, func.count()).where(no_practice, vote.c.first_at > begun).group_by(number)
        ).all()
    }
    last = connection.execute(
        select(func.count()).where(no_practice, vote.c.state == "counted", vote.c.first_at > now - _DAY)
    ).scalar_one()
    rate = last / min(1.0, max((now - first) / _DAY, 1 / 24)) if first is not None else 0.0
    bars = [(n * width, counts.get(n, 0)) for n in range(min(counts), int(now // width) + 1)] if counts else []
    return Progress(
        wanted=int(wanted),
        done=int(done),
        tasks=int(tasks),
        finished=int(finished),
        held=int(held),
        width=width,
        bars=bars,
        last_day=rate,
        end=now + _DAY * (wanted - done) / rate if rate and done < wanted else None,
    )


def left_out(connection: Connection, now: float) -> LeftOut:
    """Count what does not count, and what could not be checked."""
    people = {row.id: row for row in connection.execute(select(person.c.id, person.c.state, person.c.reason)).all()}
    practice = select(task.c.id).where(task.c.kind == "practice")
    query = select(vote.c.person, vote.c.state, func.count()).where(vote.c.task.not_in(practice))
    query = query.group_by(vote.c.person, vote.c.state)
    compared = exists().where(
        vote.c.person == person.c.id,
        vote.c.state == "counted",
        vote.c.task == task.c.id,
        or_(task.c.kind == "gold", vote.c.round == 1, and_(task.c.kind == "work", task.c.done >= 2)),
    )
    checked = set(connection.execute(select(person.c.id).where(compared)).scalars())
    alone = select(func.count()).where(task.c.kind == "work", task.c.done == 1)
    states: Counter[str] = Counter()
    counted: Counter[int] = Counter()
    judged_out = {
        number
        for number, row in people.items()
        if row.state == "rejected" or (row.state == "paused" and not row.reason.startswith("panel:"))
    }
    out = 0
    for number, state, votes in connection.execute(query).all():
        states[state] += votes
        out += votes if state == "invalid" or number in judged_out else 0
        if state == "counted":
            counted[number] += votes
    began = [row for row in people.values() if row.state != "invited" and (row.state != "withdrawn" or counted[row.id])]
    enough = [number for number, votes in counted.items() if votes >= _CHECKED_FROM]
    failed = select(func.count()).where(audit.c.action == "could-not-check", audit.c.at > now - _DAY)
    paused = sum(row.state == "paused" for row in people.values() if row.id in judged_out)
    return LeftOut(
        votes=sum(states.values()),
        votes_out=out,
        people=len(began),
        people_out=len(judged_out),
        paused=paused,
        rejected=len(judged_out) - paused,
        away=sum(row.state in ("paused", "withdrawn") for row in people.values()) - paused,
        invalid=states["invalid"],
        returned=states["returned"],
        late=states["late"],
        unchecked=int(connection.execute(alone).scalar_one()),
        people_checkable=len(enough),
        people_unchecked=len(set(enough) - checked),
        errors=int(connection.execute(failed).scalar_one()),
    )


# Charts


def drawn(found: Dashboard) -> dict[str, Any]:
    """Draw what the page shows as charts, and the axis of the strengths."""
    strong = found.measures.strengths
    ends = [end for _, figure in strong for end in (figure.low, figure.high)]
    return {
        "votes_chart": votes_chart(found.progress) if found.progress.bars else None,
        "places_chart": places_chart(found.measures) if found.measures.places else None,
        "strength_axis": charts.axis_for([0.0, *ends]) if strong else None,
    }


def votes_chart(found: Progress) -> Markup:
    """Draw the votes of each hour or day."""
    hourly = found.width == 3600.0
    every = max(1, math.ceil(len(found.bars) / 6))
    labels = [time.strftime("%H:%M" if hourly else "%d %b", time.gmtime(at)) for at, _ in found.bars]
    ticks = range(0, len(found.bars), every)
    x = charts.Axis(
        low=-0.5,
        high=max(len(found.bars), 12) - 0.5,
        ticks=tuple(ticks),
        labels=tuple(labels[n] for n in ticks),
        title="hour (UTC)" if hourly else "day (UTC)",
    )
    bars = [
        charts.Bar(low=n - 0.5, high=n + 0.5, value=count, title=f"{labels[n]}: {count:,}")
        for n, (_, count) in enumerate(found.bars)
    ]
    name = "votes an hour" if hourly else "votes a day"
    y = charts.count_axis(max(count for _, count in found.bars), title=name)
    return charts.bar_chart(name, charts.Frame(x=x, y=y), bars)


def places_chart(found: Measures) -> Markup:
    """Draw the mean place of what stood at each position; the dashed line is what no bias would give."""
    points = [
        charts.Point(x=n, y=one.value, low=one.low, high=one.high, title=f"position {n + 1}: {one.value:.2f}")
        for n, one in enumerate(found.places)
    ]
    level = [charts.Point(x=n, y=0.5) for n in range(len(points))]
    y = charts.axis_for([0.4, 0.6, *(end for one in found.places for end in (one.low, one.high))], title="mean place")
    x = charts.category_axis([str(n + 1) for n in range(len(points))], title="position on the page")
    series = [
        charts.Series(name="mean place", colour="c0", points=points, joined=False),
        charts.Series(name="no bias", colour="quoted", points=level, marks=False, dashed=True),
    ]
    return charts.line_chart("mean place by position on the page", charts.Frame(x=x, y=y), series)
