"""Manners of hpskit's web servers: the socket they listen on, headers of security, the one form of every refusal."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Send

from hpskit.errors import HpskitError, InputError

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
}


class RefusedError(HpskitError):
    """A request that is refused, with its status."""

    def __init__(self, status: int, place: str, found: str, *, expected: str = "", cure: str = "") -> None:
        super().__init__(place, found, expected=expected, cure=cure)
        self.status = status


def refused(status: int, place: str, found: str, *, expected: str = "", cure: str = "", **facts: object) -> Response:
    """Make the reply of a refusal."""
    error = HpskitError(place, found, expected=expected, cure=cure)
    return JSONResponse({"error": fields_of(error), **facts}, status)


def fields_of(error: HpskitError) -> dict[str, str]:
    """Return the fields of an error as a reply has them: half a character of the request would not be UTF-8."""
    fields = {"place": error.place, "found": error.found, "expected": error.expected, "cure": error.cure}
    fields["message"] = str(error)
    return {name: value.encode("utf-8", "backslashreplace").decode() for name, value in fields.items()}


def install(app: FastAPI, refusal_of: Callable[[HpskitError], Response]) -> None:
    """Let every error of ours, and every request that is not as described, become a refusal with its fields."""

    @app.exception_handler(HpskitError)
    def _ours(_: Request, error: HpskitError) -> Response:
        return refusal_of(error)

    @app.exception_handler(RequestValidationError)
    def _shape(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return refused(400, place, first["msg"])

    @app.exception_handler(HTTPException)
    def _status(_: Request, error: HTTPException) -> Response:
        reply = refused(error.status_code, "request", str(error.detail))
        reply.headers.update(error.headers or {})
        return reply


def secured(send: Send, seen: Callable[[int], None]) -> Send:
    """Return a `send` that puts `HEADERS` on a reply that has none of its own, and tells its status when it begins."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen(message["status"])
            there = {name.lower() for name, _ in message["headers"]}
            new = ((name.lower().encode(), value.encode()) for name, value in HEADERS.items())
            message["headers"] = [*message["headers"], *(one for one in new if one[0] not in there)]
        await send(message)

    return sending


def bounded(receive: Receive, most: int) -> Receive:
    """Return a `receive` that refuses a body of more than `most` bytes, also one without a length, in chunks."""
    size = 0

    async def read() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise HTTPException(413, "body is too large")
        return message

    return read


def listen(host: str, port: int) -> socket.socket:
    """Take an address; port 0 is any that is free.

    Raises:
        InputError: it is taken, or is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sends replies at once only from sockets that say they are TCP; from others each takes 40 ms more
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with contextlib.ExitStack() as stack:
            stack.callback(made.close)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
            stack.pop_all()
    except OSError as error:
        cure = "choose another with --port, or end what is there"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            cure = "check --host: it is an address of this machine"
        raise InputError(f"{host}:{port}", f"cannot be used ({error.strerror or error})", cure=cure) from error
    made.listen(2048)
    return made


def socket_name(made: socket.socket) -> str:
    """Return host and port as an address has them."""
    host, port = made.getsockname()[:2]
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
