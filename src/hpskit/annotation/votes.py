"""Tasks on somebody's page, from the moment when they are shown until they are skipped, changed, returned or taken out.

`hpskit.annotation.submission` stores what is submitted. The last answers can be changed for some time; what they said
before is in the audit log.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from hpskit.annotation.answers import Answer, check_answer, positions_of
from hpskit.annotation.assignment import end_lease, ends_leases, lease, next_end
from hpskit.annotation.people import locked
from hpskit.annotation.project import Settings
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import assignment, image, person, task, vote
from hpskit.errors import InputError

_CHANGEABLE = 5
"""The last votes of a person that can be changed."""


class AbsentError(InputError):
    """Nothing of that name is this person's."""


class ConflictError(InputError):
    """Something newer is stored."""

    def __init__(self, place: str, found: str, **facts: Any) -> None:
        super().__init__(place, found, cure="load the page again")
        self.facts = facts


def owned(connection: Connection, who: Row[Any], number: str, *, lock: bool = False) -> Row[Any]:
    """Read an assignment of this person; with `lock` so that nobody else changes it before this transaction ends.

    Raises:
        AbsentError: there is none of that name, or it is somebody else's: the two cannot be told apart.
    """
    query = select(assignment).where(assignment.c.id == number, assignment.c.person == who.id)
    found = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise AbsentError("assignment", "is not there", expected="one of yours")
    return found


def describe(connection: Connection, who: Row[Any], row: Row[Any], settings: Settings, now: float) -> dict[str, Any]:
    """Return a task as the page gets it: nothing in it tells the generators, or what others said."""
    found = connection.execute(select(task).where(task.c.id == row.task)).one()
    sizes = {one.id: one for one in connection.execute(select(image).where(image.c.id.in_(found.images))).all()}
    images = [
        {
            "position": position,
            "url": f"/images/{row.id}/{position}",
            "width": sizes[found.images[place]].width,
            "height": sizes[found.images[place]].height,
        }
        for position, place in enumerate(row.order)
    ]
    stored = connection.execute(select(vote).where(vote.c.assignment == row.id)).one_or_none()
    given = stored and {"id": stored.id, "revision": stored.revision, "answer": positions_of(stored, row.order)}
    return {
        "assignment": row.id,
        "mode": settings.mode,
        "practice": found.kind == "practice",
        "prompt": found.prompt,
        "images": images,
        "ties": settings.ties,
        "partial": settings.partial,
        "none": settings.none,
        "ratings": settings.ratings,
        "flags": list(settings.flags),
        "skip_reasons": list(settings.skip_reasons),
        "skips_left": max(0, settings.skips - who.skips),
        "draft": row.draft and {"version": row.draft_version, "answer": row.draft},
        "vote": given,
        "returned": stored.reason if stored is not None and stored.state == "returned" else "",
        "expires_in": max(0.0, row.ends_at - now),
    }


def seen(store: Store, who: Row[Any], number: str, settings: Settings) -> None:
    """Start the clock of a task that came to the screen, and begin its lease anew.

    Raises:
        ConflictError: the lease was over, and the task went to others.
    """
    with store.write() as connection:
        row = owned(connection, who, number, lock=True)
        now = store.now()
        if row.state == "ended" and not renewed(connection, who, row, settings, now):
            raise ConflictError("assignment", "went to somebody else")
        if row.state == "held":
            ends = max(row.ends_at, now + 60 * settings.lease_minutes)
            values = {"seen_at": row.seen_at or now, "ends_at": ends}
            connection.execute(update(assignment).where(assignment.c.id == row.id).values(values))


def renewed(connection: Connection, who: Row[Any], row: Row[Any], settings: Settings, now: float) -> bool:
    """Give a lease that is over to the same person again, if the task still has room."""
    found = connection.execute(select(task).where(task.c.id == row.task)).one()
    room = row.round == 1 or found.kind != "work" or ends_leases(connection, found, now)
    if room:
        lease(connection, found, who, row.round, settings, now)
    return room


def save_draft(
    store: Store, who: Row[Any], number: str, version: int, answer: Answer, seconds: float, settings: Settings
) -> int:
    """Keep what stands on the page before it is submitted; return the version that is stored.

    Raises:
        ConflictError: a version that is not older is stored, from another tab; its `facts` hold it.
    """
    with store.write() as connection:
        row = owned(connection, who, number, lock=True)
        if row.state not in ("held", "voted"):
            raise ConflictError("assignment", "is no longer yours")
        check_answer(answer, len(row.order), settings, draft=True)
        plain = answer.model_dump(mode="json")
        if version <= row.draft_version:
            if version == row.draft_version and row.draft == plain:
                return version
            raise ConflictError("draft", f"is of version {version}", version=row.draft_version, answer=row.draft)
        values = {"draft": plain, "draft_version": version, "active_seconds": max(row.active_seconds, seconds)}
        connection.execute(update(assignment).where(assignment.c.id == row.id).values(values))
    return version


def locked_task(connection: Connection, number: int) -> Row[Any]:
    """Read a task, after whoever is changing it has done so."""
    return connection.execute(select(task).where(task.c.id == number).with_for_update()).one()


def changeable(connection: Connection, who: Row[Any], row: Row[Any], settings: Settings, now: float) -> bool:
    """Tell whether a vote may be changed: returned by an inspector, or one of the last, and not long ago."""
    if row.state == "returned":
        return True
    practice = select(task.c.kind).where(task.c.id == row.task)
    if row.state != "counted" or connection.execute(practice).scalar_one() == "practice":
        return False
    query = select(vote.c.id).where(vote.c.person == who.id).order_by(vote.c.first_at.desc()).limit(_CHANGEABLE)
    recent = connection.execute(query).scalars().all()
    return row.id in recent and now - row.first_at <= 60 * settings.change_minutes


def skip(store: Store, who: Row[Any], number: str, reason: str, settings: Settings) -> int:
    """Give a task back for good, with a reason; return how often this person may do so again.

    Raises:
        InputError: the reason is none of the project's, or no skip is left.
    """
    if reason not in settings.skip_reasons:
        raise InputError("reason", f"is {reason!r}", expected=f"one of {', '.join(settings.skip_reasons)}")
    with store.write() as connection:
        found = locked(connection, who.id)
        kind = locked_task(connection, owned(connection, who, number).task).kind
        row = owned(connection, who, number, lock=True)
        if row.state == "skipped":
            return max(0, settings.skips - int(found.skips))
        if row.state != "held" or kind == "practice":
            raise ConflictError("assignment", "cannot be skipped")
        if found.skips >= settings.skips:
            raise InputError(
                "skips", f"are {found.skips}", expected=f"at most {settings.skips}", cure="answer the task"
            )
        end_lease(connection, row, "skipped")
        connection.execute(update(assignment).where(assignment.c.id == row.id).values(skip_reason=reason))
        connection.execute(update(person).where(person.c.id == who.id).values(skips=person.c.skips + 1))
        record(connection, store.now(), who.name, "skip", str(row.task), reason=reason)
        return max(0, settings.skips - int(found.skips) - 1)


def history(store: Store, who: Row[Any], settings: Settings) -> list[dict[str, Any]]:
    """List the last votes of a person, the newest first."""
    with store.read() as connection:
        query = (
            select(vote, task.c.prompt)
            .join(task, task.c.id == vote.c.task)
            .where(vote.c.person == who.id)
            .order_by(vote.c.first_at.desc())
            .limit(_CHANGEABLE)
        )
        return [
            {
                "vote": row.id,
                "assignment": row.assignment,
                "prompt": row.prompt,
                "changeable": changeable(connection, who, row, settings, store.now()),
            }
            for row in connection.execute(query).all()
        ]


def _stored(connection: Connection, number: str) -> Row[Any]:
    """Read a vote so that nobody else changes it, or its task, before this transaction ends."""
    one = select(vote).where(vote.c.id == number)
    if (found := connection.execute(one).one_or_none()) is not None:
        locked_task(connection, found.task)
        found = connection.execute(one.with_for_update()).one_or_none()
    if found is None:
        raise AbsentError("vote", f"{number!r} is not there")
    return found


def invalidate(store: Store, number: str, reason: str, *, who: str) -> None:
    """Take a vote out of all counts, with a reason; its task is open again. The vote stays where it is."""
    if not reason.strip():
        raise InputError("reason", "is empty", expected="why the vote does not count")
    with store.write() as connection:
        row = _stored(connection, number)
        if row.state == "invalid":
            return
        _uncount(connection, row)
        connection.execute(update(vote).where(vote.c.id == number).values(state="invalid", reason=reason))
        record(connection, store.now(), who, "invalidate", number, reason=reason, before=row.state)


def return_vote(store: Store, number: str, reason: str, settings: Settings, *, who: str) -> None:
    """Give a vote back to whoever gave it, with a reason; it counts again when it is submitted again."""
    if not reason.strip():
        raise InputError("reason", "is empty", expected="what should be looked at again")
    with store.write() as connection:
        row = _stored(connection, number)
        if row.state != "counted":
            raise ConflictError("vote", f"is {row.state}")
        if connection.execute(select(person.c.state).where(person.c.id == row.person)).scalar_one() == "withdrawn":
            raise ConflictError("vote", "is of somebody who has withdrawn")
        _uncount(connection, row)
        ends = store.now() + 60 * settings.lease_minutes
        connection.execute(
            update(assignment).where(assignment.c.id == row.assignment).values(state="held", ends_at=ends)
        )
        if row.round == 0:
            connection.execute(
                update(task)
                .where(task.c.id == row.task)
                .values(held=task.c.held + 1, next_end=next_end(connection, row.task))
            )
        connection.execute(update(vote).where(vote.c.id == number).values(state="returned", reason=reason))
        record(connection, store.now(), who, "return", number, reason=reason)


def _uncount(connection: Connection, row: Row[Any]) -> None:
    kind = connection.execute(select(task.c.kind).where(task.c.id == row.task)).scalar_one()
    if row.state == "counted" and row.round == 0 and kind == "work":
        connection.execute(update(task).where(task.c.id == row.task).values(done=task.c.done - 1))
