"""The web application: pages of annotators by their state, and the routes of everybody."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Row, exists, select, update

from hpskit import __version__
from hpskit.annotation import people
from hpskit.annotation.project import Project
from hpskit.annotation.quality import assess_until_told
from hpskit.annotation.store import Store
from hpskit.annotation.tables import person, task
from hpskit.annotation.web import api, lead, panels
from hpskit.annotation.web.access import COOKIE
from hpskit.annotation.web.guard import Guard, Server, acting, current, refusal_of
from hpskit.annotation.web.pages import message, render, shell, signed_in, text_page
from hpskit.pages import page
from hpskit.web import RefusedError, install

_THREADS = {"sqlite": 3, "postgresql": 8}
"""Requests at work at once; the others wait their turn. Threads that take the interpreter from one another while one
holds SQLite's lock for writing are slower by a factor of ten."""
Person = Annotated[Row[Any], Depends(current)]
Acting = Annotated[Row[Any], Depends(acting)]


def create_app(project: Project, store: Store, *, limit: bool = True) -> FastAPI:
    """Make the application of a project whose database is up to date; `limit` bounds the requests of each client."""
    server = Server(project, store, limit=limit)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker = threading.Thread(target=assess_until_told, args=(server,), daemon=True)
        worker.start()
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = _THREADS["sqlite" if store.sqlite else "postgresql"]
        yield
        server.ending.set()
        server.to_assess.put(None)
        worker.join(timeout=10)

    app = FastAPI(title="hpskit annotate", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False  # such a redirect would name the host that the request names
    app.state.server = server
    install(app, refusal_of)
    app.include_router(api.router)
    app.include_router(panels.router)
    app.include_router(lead.router)
    app.mount("/static/house", StaticFiles(directory=Path(page.__file__).parent / "templates"), name="house")
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_api_route("/", home, methods=["GET"], include_in_schema=False)
    app.add_api_route("/join/{token}", join, methods=["GET"], include_in_schema=False)
    app.add_api_route("/consent", consent, methods=["POST"], include_in_schema=False)
    app.add_api_route("/instructions", instructions, methods=["GET"], include_in_schema=False)
    app.add_api_route("/me", me, methods=["GET"], include_in_schema=False)
    app.add_api_route("/me/withdraw", withdraw, methods=["POST"], include_in_schema=False)
    app.add_api_route("/health", health, methods=["GET"], include_in_schema=False)
    app.add_middleware(Guard, server=server)
    return app


def home(request: Request) -> Response:
    """Show what is next for whoever is here."""
    server = Server.of(request)
    who = request.scope.get("hpskit.person")
    if who is None:
        text = "Open the link that you were sent. It belongs to you alone, and lets you go on on any device."
        reply = message(request, None, "Your link opens this page", text)
        reply.status_code = 401
        return reply
    if who.role != "annotator" and request.query_params.get("as") != "annotator":
        return RedirectResponse("/lead" if who.role == "researcher" else "/inspect", 303)
    match who.state:
        case "invited":
            if server.settings.consent:
                return render("consent.html", shell(request, who, consent=text_page(server.project, "consent.md")))
            start(server, who)
            return RedirectResponse("/instructions", 303)
        case "practice" | "work":
            return render("work.html", shell(request, who))
        case "paused":
            text = "Your work on this project is paused. What you did is kept. Ask whoever sent you the link."
            return message(request, who, "Paused", text)
        case "rejected":
            code = panels.code_of(server.settings, who, "screened_out")
            text = (
                "Thank you for your time. Your answers in the qualification differ too much from those of the experts."
            )
            return message(request, who, "The qualification was not passed", text, **code)
        case "finished":
            return message(request, who, "Done", "Thank you!", **panels.code_of(server.settings, who, "completed"))
    return message(request, who, "You do not take part any more", "Your link no longer opens this project.")


def start(server: Server, who: Row[Any]) -> None:
    """Let somebody begin: with the qualification if there is one."""
    with server.store.write() as connection:
        found = people.locked(connection, who.id)
        if found.state == "invited":
            now = server.store.now()
            connection.execute(update(person).where(person.c.id == who.id).values(consented_at=now))
            has_practice = connection.execute(select(exists().where(task.c.kind == "practice"))).scalar_one()
            people.set_state(connection, now, found.name, found, "practice" if has_practice else "work")


def join(request: Request, token: str) -> Response:
    """Let somebody in whose link this is."""
    server = Server.of(request)
    with server.store.read() as connection:
        who = people.by_link(connection, token)
    if who is None:
        text = "It may have been replaced by a newer one. Ask the people who sent it."
        reply: Response = message(request, None, "This link is not valid", text)
        reply.status_code = 404
        return reply
    return signed_in(request, who)


async def consent(request: Request, who: Acting) -> Response:
    """Take the answer of the consent form."""
    server = Server.of(request)
    fields = await request.form()
    if fields.get("agree") != "yes":
        with server.store.write() as connection:
            found = people.locked(connection, who.id)
            if found.state != "invited":  # else somebody who is paused would begin anew
                raise RefusedError(409, "consent", "was given", cure="withdraw on the page My numbers")
            people.set_state(connection, server.store.now(), who.name, found, "invited", "did not agree")
        text = "You do not take part, and nothing is stored about you. Your link stays valid if you change your mind."
        return message(request, None, "Thank you", text, **panels.code_of(server.settings, who, "screened_out"))
    start(server, who)
    return RedirectResponse("/instructions", 303)


def instructions(request: Request, who: Person) -> Response:
    """Show the instructions, at any time."""
    server = Server.of(request)
    settings = server.settings
    rules = {
        "ties": settings.ties,
        "partial": settings.partial,
        "none": settings.none,
        "ratings": settings.ratings,
        "flags": settings.flags,
        "pair": settings.mode == "pair",
    }
    facts = {"rules": rules, "begin": "/?as=annotator", "begin_label": "Begin" if not who.done else "Go on"}
    return render(
        "instructions.html", shell(request, who, instructions=text_page(server.project, "instructions.md"), **facts)
    )


def me(request: Request, who: Person) -> Response:
    """Show somebody's own numbers, and the way out."""
    server = Server.of(request)
    facts = [("Tasks done", f"{who.done:,}"), ("Tasks skipped", f"{who.skips:,}")]
    if who.practice:
        agreed, pairs = (sum(score[place] for score in who.practice) for place in (0, 1))
        facts.append(("Qualification", f"{agreed:g} of {pairs} clear pairs as the experts"))
    delete = server.settings.withdrawal == "delete"
    text = (
        "This deletes your answers and your name."
        if delete
        else "This deletes your name; your answers stay under a pseudonym."
    )
    name = who.name if who.panel is None else "you"
    return render("me.html", shell(request, who, name=name, facts=facts, withdrawn=False, withdraw=text))


async def withdraw(request: Request, who: Acting) -> Response:
    """Take somebody out who wants it."""
    server = Server.of(request)
    if (await request.form()).get("confirm") != "yes":
        raise RefusedError(400, "confirm", "is missing", expected="yes")
    people.withdraw(server.store, who.name, delete_votes=server.settings.withdrawal == "delete", who=who.name)
    reply = message(request, None, "You have withdrawn", "Thank you for the time you gave.")
    reply.delete_cookie(COOKIE)
    return reply


def health(request: Request) -> dict[str, str]:
    """Tell that the database answers."""
    with Server.of(request).store.read() as connection:
        connection.execute(select(1))
    return {"status": "ok"}
