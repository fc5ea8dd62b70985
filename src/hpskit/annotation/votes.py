"""Votes: stored when acknowledged, once, and as they stood on the page.

The page makes the id of a vote, so that a retry after a lost answer is the same vote and gets the same reply. The last
answers can be changed for some time; what stood before is in the audit log. Nothing that somebody submitted is thrown
away: a vote that comes when its task is full is kept as `late`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
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
from hpskit.annotation.assignment import end_lease, ends_leases, lease, next_end
from hpskit.annotation.people import State, locked, set_state
from hpskit.annotation.project import Settings
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import assignment, image, person, task, vote
from hpskit.errors import InputError
from hpskit.stats.vigilance import gold_score

__all__ = [
    "AbsentError",
    "ConflictError",
    "describe",
    "history",
    "invalidate",
    "owned",
    "return_vote",
    "save_draft",
    "seen",
    "skip",
    "submit",
]

_CHANGEABLE = 5
"""The last votes of a person that can be changed."""
_MOST_SECONDS = 24 * 3600.0
_LATE = "the task was full"


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


def submit(
    store: Store,
    who: Row[Any],
    number: str,
    vote_id: str,
    revision: int,
    answer: Answer,
    seconds: float,
    settings: Settings,
) -> dict[str, Any]:
    """Store a vote, or a changed one; the reply to a repeat is the same.

    Raises:
        AbsentError: the assignment is not this person's.
        InputError: the answer is none that this project takes, or the id is no UUID.
        ConflictError: the id is of another vote, something else is stored, or it can no longer be changed.
    """
    check_id(vote_id)
    with _one_id(), store.write() as connection:
        who = locked(connection, who.id)
        row = owned(connection, who, number)
        found = locked_for_vote(connection, row.task)
        if not store.sqlite:  # as it is now that nobody else changes it
            row = owned(connection, who, number, lock=True)
        check_answer(answer, len(row.order), settings)
        ranks = ranks_by_place(answer, row.order)
        content = {
            "ranks": ranks,
            "none": answer.none,
            "ratings": ratings_by_place(answer, row.order),
            "flags": flags_by_place(answer, row.order),
        }
        before = connection.execute(select(vote).where(vote.c.assignment == row.id)).one_or_none()
        if before is None:
            reply = _first(store, connection, who, row, found, vote_id, revision, content, seconds, settings)
        else:
            reply = _again(store, connection, who, row, found, before, vote_id, revision, content, seconds, settings)
        return reply


@contextlib.contextmanager
def _one_id() -> Iterator[None]:
    """Refuse an id that somebody else stored in this very moment; one of before is found by `_first`."""
    try:
        yield
    except IntegrityError as error:
        raise ConflictError("vote", "is of another task") from error


def check_id(vote_id: str) -> None:
    """See that an id is a UUID as it is usually written."""
    try:
        right = str(uuid.UUID(vote_id)) == vote_id
    except ValueError:
        right = False
    if not right:
        raise InputError("vote", f"is {vote_id!r}", expected="a UUID in lower case")


def locked_for_vote(connection: Connection, number: int) -> Row[Any]:
    """Read a task, after whoever is changing it has done so."""
    return connection.execute(select(task).where(task.c.id == number).with_for_update()).one()


def _first(
    store: Store,
    connection: Connection,
    who: Row[Any],
    row: Row[Any],
    found: Row[Any],
    vote_id: str,
    revision: int,
    content: Mapping[str, Any],
    seconds: float,
    settings: Settings,
) -> dict[str, Any]:
    """Store the vote of an assignment that has none."""
    if row.state == "skipped":
        raise ConflictError("assignment", "was skipped")
    if connection.execute(select(vote.c.id).where(vote.c.id == vote_id)).one_or_none() is not None:
        raise ConflictError("vote", "is of another task")
    now = store.now()
    main = found.kind == "work" and row.round == 0
    late = main and _full(connection, found, row, now)
    seconds = min(max(0.0, seconds, row.active_seconds), _MOST_SECONDS)
    connection.execute(
        insert(vote).values(
            id=vote_id,
            assignment=row.id,
            task=row.task,
            person=who.id,
            round=row.round,
            revision=revision,
            state="late" if late else "counted",
            reason=_LATE if late else "",
            first_at=now,
            stored_at=now,
            active_seconds=seconds,
            **content,
        )
    )
    end_lease(connection, row, "voted")
    if main and not late:
        connection.execute(update(task).where(task.c.id == row.task).values(done=task.c.done + 1))
    practice, done = None, who.done
    if found.kind == "practice":
        practice = _practice(store, connection, who, found, content["ranks"], settings)
    else:
        done += 1
        connection.execute(update(person).where(person.c.id == who.id).values(done=done))
    return {"stored": True, "vote": vote_id, "revision": revision, "done": done, "late": late, "practice": practice}


def _full(connection: Connection, found: Row[Any], row: Row[Any], now: float) -> bool:
    """Tell whether a vote comes too late for its task: it keeps the place that its lease holds.

    Without a lease it takes a place that nobody has; leases of others that are over, too, must not keep it out.
    """
    if row.state == "held":
        return bool(found.done >= found.wanted)
    query = select(func.count()).where(
        assignment.c.task == found.id, assignment.c.round == 0, assignment.c.state == "held", assignment.c.ends_at > now
    )
    return bool(found.done + connection.execute(query).scalar_one() >= found.wanted)


def _again(
    store: Store,
    connection: Connection,
    who: Row[Any],
    row: Row[Any],
    found: Row[Any],
    before: Row[Any],
    vote_id: str,
    revision: int,
    content: Mapping[str, Any],
    seconds: float,
    settings: Settings,
) -> dict[str, Any]:
    """Answer a repeat, or change a vote that may be changed."""
    same = all(getattr(before, name) == value for name, value in content.items())
    if before.id != vote_id:
        raise ConflictError("vote", "is there already under another id", vote=before.id, revision=before.revision)
    reply = {
        "stored": True,
        "vote": vote_id,
        "revision": revision,
        "done": who.done,
        "late": before.state == "late",
        "practice": None,
    }
    if found.kind == "practice" and same:
        reply["practice"] = _stated(connection, _score(before.ranks, found, settings), who.practice, settings)
    if revision == before.revision and same:
        return reply
    if revision != before.revision + 1:
        raise ConflictError(
            "revision",
            f"is {revision}",
            vote=before.id,
            revision=before.revision,
            answer=positions_of(before, row.order),
        )
    if not changeable(store, connection, who, before, settings):
        raise ConflictError("vote", "can no longer be changed", vote=before.id, revision=before.revision)
    now = store.now()
    record(
        connection,
        now,
        who.name,
        "change",
        vote_id,
        revision=before.revision,
        ranks=before.ranks,
        none=before.none,
        ratings=before.ratings,
        flags=before.flags,
        stored_at=before.stored_at,
    )
    values = {**content, "revision": revision, "stored_at": now, "active_seconds": max(seconds, before.active_seconds)}
    if before.state == "returned":
        main = found.kind == "work" and row.round == 0
        late = main and _full(connection, found, row, now)
        values |= {"state": "late", "reason": _LATE} if late else {"state": "counted", "reason": ""}
        reply["late"] = late
        end_lease(connection, row, "voted")
        if main and not late:
            connection.execute(update(task).where(task.c.id == row.task).values(done=task.c.done + 1))
    connection.execute(update(vote).where(vote.c.id == vote_id).values(values))
    return reply


def changeable(store: Store, connection: Connection, who: Row[Any], row: Row[Any], settings: Settings) -> bool:
    """Tell whether a vote may be changed: returned by an inspector, or one of the last, and not long ago."""
    if row.state == "returned":
        return True
    practice = select(task.c.kind).where(task.c.id == row.task)
    if row.state != "counted" or connection.execute(practice).scalar_one() == "practice":
        return False
    query = select(vote.c.id).where(vote.c.person == who.id).order_by(vote.c.first_at.desc()).limit(_CHANGEABLE)
    recent = connection.execute(query).scalars().all()
    return row.id in recent and store.now() - row.first_at <= 60 * settings.change_minutes


def _practice(
    store: Store, connection: Connection, who: Row[Any], found: Row[Any], ranks: list[int | None], settings: Settings
) -> dict[str, Any]:
    """Score a task of the qualification; after the last one the person begins to work, or does not."""
    own = _score(ranks, found, settings)
    scores = [*who.practice, own]
    connection.execute(update(person).where(person.c.id == who.id).values(practice=scores))
    stated = _stated(connection, own, scores, settings)
    if stated["passed"] is not None:
        pairs = sum(score[1] for score in scores)
        reason = "" if stated["passed"] else f"qualification: {stated['score']:.0%} of {pairs} clear pairs"
        state: State = "work" if stated["passed"] else "rejected"
        set_state(connection, store.now(), "qualification", who, state, reason)
    return stated


def _score(ranks: list[int | None], found: Row[Any], settings: Settings) -> list[float]:
    """Score a ranking against the experts': clear pairs that agree, and all of them."""
    scored = gold_score(ranks, found.gold, share=settings.agree_share)
    return [scored.agreed, scored.pairs] if scored else [0.0, 0]


def _stated(connection: Connection, own: list[float], scores: list[list[float]], settings: Settings) -> dict[str, Any]:
    """Say what somebody is told after a task of the qualification."""
    agreed, pairs = sum(score[0] for score in scores), sum(score[1] for score in scores)
    share = agreed / pairs if pairs else 1.0
    total = connection.execute(select(func.count()).where(task.c.kind == "practice")).scalar_one()
    left = int(total) - len(scores)
    passed = None if left else share >= settings.practice_score
    return {"score": share, "passed": passed, "left": left, "agreed": own[0], "pairs": own[1]}


def skip(store: Store, who: Row[Any], number: str, reason: str, settings: Settings) -> int:
    """Give a task back for good, with a reason; return how often this person may do so again.

    Raises:
        InputError: the reason is none of the project's, or no skip is left.
    """
    if reason not in settings.skip_reasons:
        raise InputError("reason", f"is {reason!r}", expected=f"one of {', '.join(settings.skip_reasons)}")
    with store.write() as connection:
        found = locked(connection, who.id)
        kind = locked_for_vote(connection, owned(connection, who, number).task).kind
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
                "changeable": changeable(store, connection, who, row, settings),
            }
            for row in connection.execute(query).all()
        ]


def _stored(connection: Connection, number: str) -> Row[Any]:
    """Read a vote so that nobody else changes it, or its task, before this transaction ends."""
    one = select(vote).where(vote.c.id == number)
    if (found := connection.execute(one).one_or_none()) is not None:
        locked_for_vote(connection, found.task)
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
