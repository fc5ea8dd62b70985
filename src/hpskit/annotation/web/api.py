"""The routes of an annotator's page, in JSON; docs/annotation.md has the contract.

Every reply concerns the person of the session alone. Whoever asks for something of somebody else's is told that it is
not there.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field, StringConstraints
from sqlalchemy import Row, bindparam, select

from hpskit.annotation import votes
from hpskit.annotation.answers import Answer
from hpskit.annotation.assignment import get_task
from hpskit.annotation.people import locked, set_state
from hpskit.annotation.replies import REFUSALS, Drafted, Me, Next, One, Past, Skipped, Stored
from hpskit.annotation.submission import submit as store_vote
from hpskit.annotation.tables import assignment, image, person, task
from hpskit.annotation.web.access import note_seen
from hpskit.annotation.web.guard import Server, acting, current, no_session
from hpskit.schema import Strict

router = APIRouter(responses=REFUSALS)

AssignmentId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{22}$")]
Held = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")]
Seconds = Annotated[float, Field(ge=0, le=10_000_000)]
Person = Annotated[Row[Any], Depends(current)]
Acting = Annotated[Row[Any], Depends(acting)]


class Holding(Strict):
    """Assignments that the page has already."""

    holding: Annotated[tuple[Held, ...], Field(strict=False, max_length=10)] = ()


class Draft(Strict):
    """State of the page before it is submitted."""

    version: Annotated[int, Field(ge=1, le=1_000_000_000)]
    answer: Answer
    active_seconds: Seconds = 0.0


class Vote(Strict):
    """An answer that is submitted."""

    assignment: Held
    revision: Annotated[int, Field(ge=1, le=1_000_000)]
    answer: Answer
    active_seconds: Seconds = 0.0


class Skip(Strict):
    """A task that is given back."""

    reason: Annotated[str, StringConstraints(max_length=100)]


WAITING = {
    "wait": "Others are busy with the tasks that are left.",
    "done": "You have done all tasks that are there for you. Thank you!",
    "cap": "You have done as many tasks as one person may do. Thank you!",
}


@router.get("/api/me", responses={200: {"model": Me}})
def me(request: Request, who: Person) -> dict[str, Any]:
    """Tell who is here, and how much is done."""
    settings = Server.of(request).settings
    return {
        "state": who.state,
        "name": who.name if who.panel is None else "",
        "done": who.done,
        "wanted": who.cap or settings.per_person,
    }


@router.post("/api/next", responses={200: {"model": Next}})
def next_task(request: Request, body: Holding, who: Acting) -> dict[str, Any]:
    """Lease a task, or give the one again that the person holds and the page has not."""
    server = Server.of(request)
    with server.store.write() as connection:
        found = locked(connection, who.id)
        if found.state not in ("practice", "work"):
            return {"task": None, "reason": found.state, "seconds": 0, "text": found.reason}
        note_seen(connection, found, server.store.now())
        given = get_task(server.store, connection, found, server.settings, body.holding)
        if given.assignment is None:
            if given.reason in ("cap", "done") and found.panel is not None:
                set_state(connection, server.store.now(), found.panel, found, "finished", given.reason)
            seconds = max(0.0, given.seconds)
            return {"task": None, "reason": given.reason, "seconds": seconds, "text": WAITING[given.reason]}
        now = server.store.now()
        return {"task": votes.describe(connection, found, given.assignment, server.settings, now)}


@router.get("/api/assignments/{number}", responses={200: {"model": One}})
def one_task(request: Request, number: AssignmentId, who: Person) -> dict[str, Any]:
    """Return a task that this person holds or has answered."""
    server = Server.of(request)
    with server.store.read() as connection:
        row = votes.owned(connection, who, number)
        return {"task": votes.describe(connection, who, row, server.settings, server.store.now())}


@router.post("/api/assignments/{number}/seen", status_code=204)
def seen(request: Request, number: AssignmentId, who: Acting) -> Response:
    """Note that a task came to the screen."""
    server = Server.of(request)
    votes.seen(server.store, who, number, server.settings)
    return Response(status_code=204)


@router.put("/api/assignments/{number}/draft", responses={200: {"model": Drafted}})
def draft(request: Request, number: AssignmentId, body: Draft, who: Acting) -> dict[str, Any]:
    """Keep what stands on the page."""
    server = Server.of(request)
    version = votes.save_draft(
        server.store, who, number, body.version, body.answer, body.active_seconds, server.settings
    )
    return {"version": version}


@router.put("/api/votes/{vote_id}", responses={200: {"model": Stored}})
def submit(request: Request, vote_id: Annotated[str, Path(max_length=36)], body: Vote, who: Acting) -> dict[str, Any]:
    """Store a vote; the reply is sent when it is on the disk."""
    server = Server.of(request)
    reply = store_vote(
        server.store,
        server.settings,
        who,
        body.assignment,
        vote_id=vote_id,
        revision=body.revision,
        answer=body.answer,
        seconds=body.active_seconds,
    )
    server.to_assess.put(who.id)
    return reply


@router.post("/api/assignments/{number}/skip", responses={200: {"model": Skipped}})
def skip(request: Request, number: AssignmentId, body: Skip, who: Acting) -> dict[str, Any]:
    """Give a task back for good."""
    server = Server.of(request)
    return {"skips_left": votes.skip(server.store, who, number, body.reason, server.settings)}


@router.get("/api/history", responses={200: {"model": Past}})
def history(request: Request, who: Person) -> dict[str, Any]:
    """List the last votes of this person."""
    server = Server.of(request)
    return {"votes": votes.history(server.store, who, server.settings)}


_SHOWN = (
    select(assignment.c.order, task.c.images)
    .join(task, task.c.id == assignment.c.task)
    .join(person, person.c.id == assignment.c.person)
    .where(
        assignment.c.id == bindparam("assignment"),
        person.c.id == bindparam("number"),
        person.c.sessions == bindparam("sessions"),
    )
)
_FILE = select(image.c.file).where(image.c.id == bindparam("image"))


@router.get("/images/{number}/{position}", include_in_schema=False)
def picture(request: Request, number: AssignmentId, position: Annotated[int, Path(ge=0, le=11)]) -> Response:
    """Send an image of an assignment, by its position on the page: no name or content hash tells where it is from.

    Half of all requests come here, so the session is looked up in the query that looks for the image.
    """
    server, claim = Server.of(request), request.scope.get("hpskit.claim")
    if claim is None:
        raise no_session()
    with server.store.read() as connection:
        row = connection.execute(_SHOWN, {"assignment": number, **claim}).one_or_none()
        if row is None or position >= len(row.order):
            raise votes.AbsentError("image", "is not there", expected="one of your task's")
        file = connection.execute(_FILE, {"image": row.images[row.order[position]]}).scalar_one()
    path = server.project.images / file
    kind = "image/jpeg" if path.suffix == ".jpg" else "image/png"
    # No ETag and no date: both would be the same wherever this image is seen. The address is this person's alone.
    return Response(path.read_bytes(), media_type=kind, headers={"Cache-Control": "private, max-age=3600"})
