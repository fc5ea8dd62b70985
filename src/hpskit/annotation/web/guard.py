"""Checks that every request passes, before any route sees it."""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, Request
from fastapi.responses import Response
from sqlalchemy import Row
from starlette.types import ASGIApp, Receive, Scope, Send

from hpskit.annotation.people import Role
from hpskit.annotation.project import Project
from hpskit.annotation.store import Store
from hpskit.annotation.votes import AbsentError, ConflictError
from hpskit.annotation.web.access import COOKIE, Limiter, Sessions, may
from hpskit.errors import HpskitError, OutputError
from hpskit.web import RefusedError, bounded, refused, secured

_LARGEST = 64 * 1024
"""Bytes of a request: an answer has a thousand."""
_FIELDS = 50
"""Fields of a form: ours have three."""


class Kept:
    """Keeps what was dear to make for some seconds, so that many who look at it cost what one costs."""

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._found: dict[str, tuple[float, Any]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` gave in the last seconds, or what it gives now; those who come meanwhile wait for it.

        What takes long to make is kept for five times as long as it took.
        """
        with self._locks[name]:
            until, found = self._found.get(name, (-math.inf, None))
            begun = self._clock()
            if begun >= until:
                found = make()
                end = self._clock()
                self._found[name] = (end + max(self.seconds, 5 * (end - begun)), found)
            return found

    def clear(self) -> None:
        """Forget all: somebody has changed what it is made of, and wants to see that."""
        self._found.clear()


class Server:
    """State of a running server: its project, its database, its sessions."""

    def __init__(self, project: Project, store: Store, *, limit: bool = True) -> None:
        self.project, self.store = project, store
        self.sessions = Sessions(str(store.setting("key")))
        self.limiter = Limiter(burst=120, each_second=20) if limit else None
        self.doors = Limiter(burst=100, each_second=5) if limit else None
        """For those without a session, by address: a class that shares one gets in; secrets of 192 bits stay secret."""
        self.to_assess: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        """People who have voted, whose votes are looked at after the reply; None ends that."""
        self.kept = Kept()
        """Figures of the pages of researchers and inspectors."""
        self.ending = threading.Event()

    @property
    def settings(self) -> Any:
        """The settings of the project."""
        return self.project.settings

    @staticmethod
    def of(request: Request) -> Server:
        """Return the server that a request came to."""
        found: Server = request.app.state.server
        return found


async def current(request: Request) -> Row[Any]:
    """Tell who sent a request. Like all that only looks, it is no function for a thread of its own: that costs more.

    Raises:
        RefusedError: nobody did whom this project knows; 401.
    """
    found: Row[Any] | None = request.scope.get("hpskit.person")
    if found is None:
        raise no_session()
    return found


def no_session() -> RefusedError:
    """Refuse somebody whom this project does not know."""
    return RefusedError(401, "session", "is over or was never begun", cure="open your link again")


async def token_of(request: Request) -> str:
    """Return the token that a script sent in a header or a form in a field."""
    if header := request.headers.get("x-csrf-token"):
        return header
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        text = (await request.body()).decode("utf-8", "replace")
        fields = parse_qs(text) if text.count("&") < _FIELDS else {}
        return next(iter(fields.get("csrf", [])), "")
    return ""


async def acting(
    request: Request, who: Annotated[Row[Any], Depends(current)], token: Annotated[str, Depends(token_of)]
) -> Row[Any]:
    """Tell who wants to change something, from a page of ours.

    Raises:
        RefusedError: another site sent the request; 403.
    """
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or not Server.of(request).sessions.is_csrf(request.cookies.get(COOKIE, ""), token):
        raise RefusedError(403, "X-CSRF-Token", "does not belong to this session", cure="load the page again")
    return who


def needs(role: Role, *, change: bool = False) -> Callable[..., Awaitable[Row[Any]]]:
    """Make a dependency that lets in those with a role; others are told that nothing is there."""
    known = Depends(acting if change else current)  # outside: the annotation of `check` is read where `change` is not

    async def check(who: Row[Any] = known) -> Row[Any]:
        if not may(who, role):
            raise RefusedError(404, "page", "is not there")
        return who

    return check


class Guard:
    """Bounds the size of requests, the rate of each client, and puts the headers of security on every reply."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        statuses: list[int] = []
        sending = secured(send, statuses.append)
        try:
            refusal = await self._refusal(scope)
        except HpskitError as error:  # the database does not answer
            refusal = refusal_of(error)
        if refusal is not None:
            await refusal(scope, receive, sending)
            return
        try:
            await self.app(scope, bounded(receive, _LARGEST), sending)
        except Exception:  # a fault of ours: told to nobody but the log
            if not statuses:
                await refused(500, "server", "failed", cure="try again, and tell the people who run this project")(
                    scope, receive, sending
                )
            raise

    async def _refusal(self, scope: Scope) -> Response | None:
        from starlette.concurrency import run_in_threadpool

        request = Request(scope)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > _LARGEST:
            return refused(413, "body", f"has {length[:20]} bytes", expected=f"at most {_LARGEST:,}")
        client = scope["client"][0] if scope.get("client") else ""
        path = request.url.path
        if not path.startswith("/static/"):
            claim = scope["hpskit.claim"] = self.server.sessions.claim(request.cookies.get(COOKIE))
            known = claim is not None
            if claim is not None and not path.startswith("/images/"):  # they look for themselves, in one query
                found = scope["hpskit.person"] = await run_in_threadpool(self._person, claim)
                known = found is not None
            limiter = self.server.limiter if known else self.server.doors
            wait = limiter.wait(str(claim["number"]) if claim and known else client) if limiter else 0.0
            if wait:
                reply = refused(429, "requests", "are too many", cure=f"wait {wait:.0f} seconds")
                reply.headers["Retry-After"] = str(int(wait) + 1)
                return reply
        return None

    def _person(self, claim: dict[str, int]) -> Row[Any] | None:
        with self.server.store.read() as connection:
            return self.server.sessions.person(connection, claim)


def refusal_of(error: HpskitError) -> Response:
    """Make the reply that an error of ours is."""
    status, facts = 400, {}
    if isinstance(error, RefusedError):
        status = error.status
    elif isinstance(error, AbsentError):
        status = 404
    elif isinstance(error, ConflictError):
        status, facts = 409, error.facts
    elif isinstance(error, OutputError):  # which database it is, and why, is nobody's business but the log's
        logging.getLogger("hpskit.annotation").error("%s", error)
        cure = "try again in a moment; what was acknowledged before is safe"
        return refused(503, "server", "cannot reach its database, or its disk is full", cure=cure)
    return refused(status, error.place, error.found, expected=error.expected, cure=error.cure, **facts)
