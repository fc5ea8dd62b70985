"""Visitors of a server that runs in this process: every reply is looked at, as an attacker would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response

from hpskit.annotation import people
from hpskit.annotation.people import Role
from hpskit.annotation.web.access import COOKIE
from hpskit.annotation.web.app import create_app
from hpskit.web import HEADERS
from small_project import MARK, Bench

__all__ = ["Host", "Visitor", "hosted"]


@dataclass
class Visitor:
    """A browser: its cookies, and the token of its pages."""

    client: TestClient
    csrf: str = ""
    replies: list[Response] = field(default_factory=list)

    def ask(self, method: str, path: str, *, token: bool = True, **options: Any) -> Response:
        headers = {"X-CSRF-Token": self.csrf} if token and method not in ("GET", "HEAD") else {}
        headers |= options.pop("headers", {})
        reply: Response = self.client.request(method, path, headers=headers, **options)
        self.replies.append(reply)
        check(reply)
        return reply

    def get(self, path: str, **options: Any) -> Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Response:
        return self.ask("POST", path, json=body, **options)

    def put(self, path: str, body: Any = None, **options: Any) -> Response:
        return self.ask("PUT", path, json=body, **options)

    @property
    def cookie(self) -> str:
        return str(self.client.cookies.get(COOKIE))

    def next(self, *holding: str) -> dict[str, Any]:
        task: dict[str, Any] = self.post("/api/next", {"holding": list(holding)}).json()["task"]
        return task


def check(reply: Response) -> None:
    """See what holds for every reply: headers of security, no name of a generator or a file."""
    missing = [name for name in HEADERS if name not in reply.headers]
    assert not missing, f"{reply.request.url}: {reply.status_code} without {missing}"
    everything = f"{reply.headers}".encode() + reply.content
    assert MARK.encode() not in everything.lower(), f"{reply.request.url} tells where images are from"
    assert reply.status_code != 500 or reply.json()["error"]["place"] == "server"


@dataclass
class Host:
    """A server in this process, and the bench that it stands on."""

    bench: Bench
    app: FastAPI
    clients: list[TestClient] = field(default_factory=list)

    def visitor(self, **options: Any) -> Visitor:
        """Somebody whom nobody knows."""
        client = TestClient(self.app, raise_server_exceptions=False, follow_redirects=False, **options)
        self.clients.append(client)
        return Visitor(client)

    def person(self, name: str, role: Role = "annotator") -> Visitor:
        """Somebody who opened their link and began."""
        visitor = self.visitor()
        visitor.get(f"/join/{people.invite(self.bench.store, [name], role=role)[name]}")
        visitor.get("/?as=annotator")
        visitor.csrf = token_of(visitor.get("/instructions"))
        return visitor


def token_of(page: Response) -> str:
    return re.findall(r'name="csrf" content="(\w*)"', page.text)[0]


@contextmanager
def hosted(bench: Bench, *, limit: bool = False) -> Iterator[Host]:
    host = Host(bench, create_app(bench.project, bench.store, limit=limit))
    try:
        yield host
    finally:
        for client in host.clients:
            client.close()


HostOf = Callable[..., Host]
