"""Pages of researchers and inspectors: progress, people, votes to look at, the log, the sheet of pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Row, select

from hpskit.annotation import people, votes
from hpskit.annotation.pay import pay_csv, pay_sheet
from hpskit.annotation.quality import Standing, standing
from hpskit.annotation.store import record
from hpskit.annotation.tables import audit, image, person
from hpskit.annotation.web import inspection
from hpskit.annotation.web.access import COOKIE
from hpskit.annotation.web.dashboard import dashboard, drawn
from hpskit.annotation.web.guard import Server, needs
from hpskit.annotation.web.pages import render
from hpskit.errors import InputError
from hpskit.web import RefusedError

router = APIRouter(include_in_schema=False)

_LINES = 200
_VIGILANCE = ("pause", "watch", "unchecked", "clear")
"""States of the evidence, those first that want somebody's attention."""


async def fields_of(request: Request) -> dict[str, str]:
    """Read the fields of a form."""
    found = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=50)
    return {name: values[-1] for name, values in found.items()}


Researcher = Annotated[Row[Any], Depends(needs("researcher"))]
Leading = Annotated[Row[Any], Depends(needs("researcher", change=True))]
Inspector = Annotated[Row[Any], Depends(needs("inspector"))]
Inspecting = Annotated[Row[Any], Depends(needs("inspector", change=True))]
Fields = Annotated[dict[str, str], Depends(fields_of)]
Pseudonym = Annotated[str, InPath(max_length=100)]
VoteId = Annotated[str, InPath(max_length=36)]
Number = Annotated[int, InPath(ge=1, le=2**31 - 1)]


def moment(at: float | None) -> str:
    """Write a moment as people read it, in UTC."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def staff(request: Request, who: Row[Any], template: str, here: str, status: int = 200, **facts: Any) -> HTMLResponse:
    """Make a page of the staff."""
    server = Server.of(request)
    frame = {
        "project": server.settings.name,
        "csrf": server.sessions.csrf(request.cookies.get(COOKIE, "")),
        "role": who.role,
        "here": here,
        "moment": moment,
    }
    reply = render(template, frame | facts)
    reply.status_code = status
    return reply


def changed(request: Request, who: Row[Any], here: str, back: str, change: Callable[[], object]) -> Response:
    """Change something and go back to a page; what cannot be is said on a page of its own."""
    try:
        change()
    except InputError as error:
        status = {votes.AbsentError: 404, votes.ConflictError: 409}.get(type(error), 400)
        return staff(request, who, "staff.html", here, status, problem=str(error), back=back)
    Server.of(request).kept.clear()
    return RedirectResponse(back, 303)


# Researchers


def figures(request: Request) -> dict[str, Any]:
    """Return the figures of the dashboard with their charts, some seconds old at most."""
    server = Server.of(request)

    def make() -> dict[str, Any]:
        found = dashboard(server.store)
        return {"facts": found, **drawn(found)}

    made: dict[str, Any] = server.kept.get("dashboard", make)
    return made


@router.get("/lead")
def lead(request: Request, who: Researcher) -> Response:
    """Show how the project stands."""
    settings = Server.of(request).settings
    panel = settings.prolific is not None or settings.mturk is not None
    return staff(request, who, "lead.html", "lead", panel=panel, pay=settings.pay, **figures(request))


@router.get("/lead/live")
def live(request: Request, who: Researcher) -> Response:
    """Show the figures alone, for the page that is open."""
    return staff(request, who, "live.html", "lead", **figures(request))


@router.get("/lead/people")
def all_people(request: Request, who: Researcher) -> Response:
    """Show everybody's work."""
    return people_page(request, who)


def people_page(request: Request, who: Row[Any], **facts: Any) -> HTMLResponse:
    """Make the page of people, those first that want attention."""
    server = Server.of(request)
    rows: list[Standing] = server.kept.get("people", lambda: standing(server.store, server.settings))
    facts = {"link": "", "invited": "", **facts}
    return staff(request, who, "people.html", "people", rows=sorted(rows, key=attention), me=who.pseudonym, **facts)


def attention(one: Standing) -> tuple[object, ...]:
    """Return what people are sorted by: who works and does not seem to look comes first."""
    works = one.state in ("work", "practice", "finished")
    doubt = (one.too_fast or 0) + (one.straight or 0) + abs(one.position or 0) - (one.tau or 0)
    return (not works, _VIGILANCE.index(one.vigilance), -doubt, one.name)


@router.post("/lead/people")
def invite(request: Request, who: Leading, fields: Fields) -> Response:
    """Add somebody, and show the link once."""
    server, name = Server.of(request), fields.get("name", "").strip()
    role: people.Role = next((role for role in people.ROLES if role == fields.get("role")), "annotator")
    with server.store.read() as connection:
        there = connection.execute(select(person.c.id).where(person.c.name == name)).first() is not None
    if there:
        error = InputError("name", f"{name!r} is there already", expected="a new one", cure="use “New link” of theirs")
        return staff(request, who, "staff.html", "people", 400, problem=str(error), back="/lead/people")
    return invited(request, who, name, role)


@router.post("/lead/people/{pseudonym}/link")
def new_link(request: Request, pseudonym: Pseudonym, who: Leading) -> Response:
    """Make somebody's link anew, and show it once; the one of before is void."""
    found = somebody(Server.of(request), pseudonym)
    return invited(request, who, found.name, found.role)


def invited(request: Request, who: Row[Any], name: str, role: people.Role) -> Response:
    """Make a link, and show it once."""
    server = Server.of(request)
    try:
        token = people.invite(server.store, [name], role=role, who=who.name)[name]
    except InputError as error:
        return staff(request, who, "staff.html", "people", 400, problem=str(error), back="/lead/people")
    server.kept.clear()
    return people_page(request, who, link=f"{request.base_url}join/{token}", invited=name)


def somebody(server: Server, pseudonym: str) -> Row[Any]:
    """Find a person by pseudonym.

    Raises:
        RefusedError: nobody has it; 404.
    """
    with server.store.read() as connection:
        found = connection.execute(select(person).where(person.c.pseudonym == pseudonym)).one_or_none()
    if found is None:
        raise RefusedError(404, "person", "is not there")
    return found


@router.post("/lead/people/{pseudonym}/pause")
def pause(request: Request, pseudonym: Pseudonym, who: Leading, fields: Fields) -> Response:
    """Stop somebody, with a reason."""
    server, reason = Server.of(request), fields.get("reason", "").strip()[:500]
    found = somebody(server, pseudonym)

    def change() -> None:
        if not reason:
            raise InputError("reason", "is empty", expected="why they are paused; they do not see it")
        if found.state not in ("practice", "work"):
            raise InputError(found.name, f"is {found.state}", expected="somebody who works")
        people.pause(server.store, found.name, reason, who=who.name)

    return changed(request, who, "people", "/lead/people", change)


@router.post("/lead/people/{pseudonym}/resume")
def resume(request: Request, pseudonym: Pseudonym, who: Leading) -> Response:
    """Let somebody go on."""
    server = Server.of(request)
    found = somebody(server, pseudonym)
    back = "/lead/people"
    return changed(request, who, "people", back, lambda: people.resume(server.store, found.name, who=who.name))


@router.get("/lead/audit")
def log(request: Request, who: Researcher, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None) -> Response:
    """Show the log, the newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(_LINES + 1)
    with Server.of(request).store.read() as connection:
        rows = connection.execute(query if before is None else query.where(audit.c.id < before)).all()
    older = rows[_LINES - 1].id if len(rows) > _LINES else None
    return staff(request, who, "audit.html", "audit", rows=rows[:_LINES], older=older, before=before)


@router.get("/lead/pay.csv", dependencies=[Depends(needs("researcher"))])
def pay(request: Request) -> Response:
    """Send the sheet of pay, under pseudonyms."""
    return sheet(request, panel=False)


@router.post("/lead/pay.csv")
def panel_pay(request: Request, who: Leading) -> Response:
    """Send the sheet of pay with the ids of panels, which say who people are; the log says who has it."""
    server = Server.of(request)
    with server.store.write() as connection:
        record(connection, server.store.now(), who.name, "pay-with-panel-ids", server.settings.name)
    return sheet(request, panel=True)


def sheet(request: Request, *, panel: bool) -> Response:
    """Make the sheet of pay as a file to be saved."""
    server = Server.of(request)
    text = pay_csv(pay_sheet(server.store, server.settings), panel=panel)
    name = "pay-with-panel-ids.csv" if panel else "pay.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


# Inspectors


@router.get("/inspect")
def inspect(request: Request, who: Inspector, what: str = "fast") -> Response:
    """List votes that should be looked at."""
    server = Server.of(request)
    if what not in inspection.LISTS:
        raise RefusedError(404, "list", "is not there", expected=f"one of {', '.join(inspection.LISTS)}")

    def make() -> Any:
        with server.store.read() as connection:
            return inspection.listed(connection, server.settings, what)

    items = server.kept.get(f"inspect {what}", make)
    return staff(request, who, "inspect.html", "inspect", items=items, what=what, lists=inspection.LISTS, task=None)


@router.get("/inspect/tasks/{number}")
def one_task(request: Request, number: Number, who: Inspector) -> Response:
    """Show a task with the votes on it."""
    with Server.of(request).store.read() as connection:
        seen, items = inspection.seen_task(connection, number)
    return staff(request, who, "inspect.html", "inspect", items=items, what="", lists=inspection.LISTS, task=seen)


@router.get("/inspect/votes/{number}")
def one_vote(request: Request, number: VoteId, who: Inspector) -> Response:
    """Show a vote as it stood on the page."""
    with Server.of(request).store.read() as connection:
        seen = inspection.seen_vote(connection, number)
    return staff(request, who, "inspect_vote.html", "inspect", seen=seen, own=seen.person == who.id)


@router.post("/inspect/votes/{number}/{action}")
def decide(request: Request, number: VoteId, action: str, who: Inspecting, fields: Fields) -> Response:
    """Accept a vote, return it, or take it out of all counts."""
    server, reason = Server.of(request), fields.get("reason", "").strip()[:500]
    if action not in ("accept", "return", "invalidate"):
        raise RefusedError(404, "page", "is not there")

    def change() -> None:
        with server.store.write() as connection:
            inspection.own_vote(connection, number, who)
            if action == "accept":
                inspection.accept(connection, server.store.now(), number, who)
        if action == "return":
            votes.return_vote(server.store, number, reason, server.settings, who=who.name)
        elif action == "invalidate":
            votes.invalidate(server.store, number, reason, who=who.name)

    return changed(request, who, "inspect", f"/inspect/votes/{number}", change)


@router.get("/inspect/images/{number}", dependencies=[Depends(needs("inspector"))])
def picture(request: Request, number: Number) -> Response:
    """Send an image to an inspector."""
    server = Server.of(request)
    with server.store.read() as connection:
        file = connection.execute(select(image.c.file).where(image.c.id == number)).scalar_one_or_none()
    if file is None:
        raise RefusedError(404, "image", "is not there")
    path = server.project.images / file
    kind = "image/jpeg" if path.suffix == ".jpg" else "image/png"
    return Response(path.read_bytes(), media_type=kind, headers={"Cache-Control": "private, max-age=3600"})
