"""Panels that send people: Prolific and MTurk.

A panel's link carries who comes and for which study. Each person of a panel has one place, whose tasks are counted; the
code at its end is what the panel is told. Whether somebody is paid is the panel's business: its own state decides, and
`hpskit annotate panel` brings the places that it says are returned or timed out back to others.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import Row, exists, func, select, update

from hpskit.annotation import people
from hpskit.annotation.project import Panel, Settings
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import person, task
from hpskit.annotation.web.guard import Server
from hpskit.annotation.web.pages import message, signed_in
from hpskit.errors import InputError
from hpskit.web import RefusedError

router = APIRouter()

PARAMETERS = {
    "prolific": ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID"),
    "mturk": ("workerId", "hitId", "assignmentId"),
}
"""What each panel calls the person, the study and the session."""
_LIVE = ("invited", "practice", "work", "paused")


def panel_of(settings: Settings, name: str) -> Panel | None:
    """Return the settings of a panel, None if the project does not use it."""
    found: Panel | None = getattr(settings, name) if name in PARAMETERS else None
    return found


def code_of(settings: Settings, who: Row[Any], kind: str) -> dict[str, Any]:
    """Return the code that somebody of a panel takes back, as the message page wants it; nothing for others."""
    panel = panel_of(settings, who.panel or "")
    if panel is None:
        return {}
    code = str(getattr(panel, kind))
    link = {"href": panel.back.replace("{code}", code), "label": "Back to the panel"} if panel.back else None
    return {"code": code, "link": link}


@router.get("/panel/{name}", include_in_schema=False)
def arrive(request: Request, name: str) -> Response:
    """Let somebody in whom a panel sent; a place that is there already goes on."""
    server = Server.of(request)
    panel = panel_of(server.settings, name)
    if panel is None:
        raise RefusedError(404, "page", "is not there")
    given = [request.query_params.get(parameter, "") for parameter in PARAMETERS[name]]
    who, study, session = given
    if name == "mturk" and session == "ASSIGNMENT_ID_NOT_AVAILABLE":
        text = "You will compare images that were made by computers. Accept the task to begin."
        return message(request, None, server.settings.name, text)
    valid = all(0 < len(value) <= 200 and value.isascii() and value.isprintable() for value in given)
    if not valid or study != panel.study:
        reply = message(request, None, "This link is not complete", "Open the study again from the panel's own page.")
        reply.status_code = 400
        return reply
    found = place(server.store, panel, name, who, session)
    if found is None:
        text = "All places are taken. You can hand this code in, so that nothing is held against you."
        return message(request, None, "The study is full", text, code=panel.full)
    return signed_in(request, found)


def place(store: Store, panel: Panel, name: str, who: str, session: str) -> Row[Any] | None:
    """Find the place of a panel's person, or give one; None if all are taken, or nothing is left to do."""
    with store.write() as connection:
        if not store.sqlite:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4850536)")
        query = select(person).where(person.c.panel == name, person.c.panel_person == who)
        found = connection.execute(query).one_or_none()
        if found is None:
            taken = connection.execute(
                select(func.count()).where(
                    person.c.panel == name,
                    person.c.state.in_((*_LIVE, "finished")),
                    ~person.c.reason.startswith("panel:"),
                )
            ).scalar_one()
            open_tasks = select(exists().where(task.c.kind == "work", task.c.done < task.c.wanted))
            if taken >= panel.places or not connection.execute(open_tasks).scalar_one():
                return None
            number = people.add_person(
                connection,
                store.now(),
                f"{name} {who}",
                "annotator",
                panel=name,
                panel_person=who,
                panel_session=session,
                cap=panel.tasks,
            )
            record(connection, store.now(), name, "arrive", f"{name} {who}", session=session)
            query = select(person).where(person.c.id == number)
        elif found.panel_session != session:  # came back after a return, or on another device
            connection.execute(update(person).where(person.c.id == found.id).values(panel_session=session))
            if found.state == "paused" and found.reason.startswith("panel:"):
                people.set_state(connection, store.now(), name, found, "work" if found.consented_at else "invited")
        return connection.execute(query).one()


def gone(store: Store, name: str, persons: list[str], reason: str) -> int:
    """Release the places of people whom the panel says are gone (returned, timed out); return how many there were.

    What they hold goes to others at once; what they voted stays. Somebody who is unknown here never arrived.

    Raises:
        InputError: there is no panel of that name.
    """
    if name not in PARAMETERS:
        raise InputError("--panel", f"is {name!r}", expected=f"one of {', '.join(PARAMETERS)}")
    released = 0
    with store.write() as connection:
        for who in persons:
            query = select(person).where(person.c.panel == name, person.c.panel_person == who)
            found = connection.execute(query).one_or_none()
            if found is not None and found.state in ("invited", "practice", "work"):
                people.set_state(connection, store.now(), name, found, "paused", f"panel: {reason}")
                released += 1
    return released
