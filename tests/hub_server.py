"""A hub on 127.0.0.1 that speaks as much of the Hugging Face protocol as a download needs, and can fail on purpose.

As on the real hub, a large file is announced with its SHA-256 (`X-Linked-Etag`) and lies on another host
(`localhost` instead of `127.0.0.1`) to which requests are redirected; a small one is announced with its git hash and
comes directly.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_RESOLVE = re.compile(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/(?:main|" + COMMIT + r")/(.+)")
_LISTING = re.compile(r"/api/datasets/([^/]+/[^/?]+)(?:\?.*)?")
_STORED = re.compile(r"/stored/([0-9a-f]{64})")


@dataclass
class File:
    """What the hub has: what it sends is `content`, what it announces was computed before anybody tampered."""

    content: bytes
    large: bool
    sha256: str = ""
    git_hash: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.content)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.git_hash = hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    start: int
    """First byte asked for."""
    authorization: str | None

    @property
    def for_content(self) -> bool:
        return self.method == "GET" and bool(_STORED.fullmatch(self.path))


@dataclass
class Hub:
    """The server's state: change it between requests to make it fail."""

    url: str
    files: dict[str, File] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    status: int | None = None
    """Answer everything with this."""
    page_for: str | None = None
    """Answer requests whose path has this in it with the page of a network that wants a login, as if all were well."""
    cut_after: int | None = None
    """Close the next transfer of content after so many bytes, once."""
    stop_after: int | None = None
    """In the next transfer of content, send so many bytes and then nothing more until `release` is set, once."""
    let_pass: int = 0
    """Transfers of content that `stop_after` is not for."""
    ranges: bool = True
    stopped: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def put(self, repository: str, name: str, content: bytes, *, large: bool = True) -> File:
        file = self.files[f"{repository}/{name}"] = File(content, large)
        return file

    @property
    def transfers(self) -> list[int]:
        """First byte of every transfer of content."""
        return [request.start for request in self.requests if request.for_content]


@contextmanager
def serve() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = server.hub = Hub(url=f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and self.hub.ranges else 0
        asked = int(match[1]) if match else 0
        self.hub.requests.append(Request(self.command, self.path, asked, self.headers.get("Authorization")))
        if self.hub.status is not None:
            self._head(self.hub.status, 0)
        elif self.hub.page_for is not None and self.hub.page_for in self.path:
            page = b"<!DOCTYPE html><title>Log in</title>"
            self._head(200, len(page), **{"Content-Type": "text/html"})
            self.wfile.write(page if self.command == "GET" else b"")
        elif stored := _STORED.fullmatch(self.path):
            self._send(next(file for file in self.hub.files.values() if file.sha256 == stored[1]), start)
        elif listing := _LISTING.fullmatch(self.path):
            self._list(listing[1])
        elif resolve := _RESOLVE.fullmatch(unquote(self.path)):
            self._resolve(self.hub.files.get(f"{resolve[1]}/{resolve[2]}"))
        else:
            self._head(404, 0)

    def _list(self, repository: str) -> None:
        prefix = f"datasets/{repository}/"
        files = {name.removeprefix(prefix): file for name, file in self.hub.files.items() if name.startswith(prefix)}
        if not files:
            self._head(404, 0, **{"X-Error-Code": "RepoNotFound"})
            return
        siblings = [{"rfilename": name, "size": file.size, "blobId": file.git_hash} for name, file in files.items()]
        answer = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self._head(200, len(answer), **{"Content-Type": "application/json"})
        self.wfile.write(answer)

    def _resolve(self, file: File | None) -> None:
        if file is None:
            self._head(404, 0, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif file.large:
            location = f"http://localhost:{self.server.server_address[1]}/stored/{file.sha256}"
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
            self._head(302, 0, Location=location, ETag=f'"{file.git_hash}"', **linked, **{"X-Repo-Commit": COMMIT})
        else:
            headers = {"ETag": f'"{file.git_hash}"', "X-Repo-Commit": COMMIT}
            self._head(200, len(file.content), **headers)
            if self.command == "GET":
                self.wfile.write(file.content)

    def _send(self, file: File, start: int) -> None:
        size = len(file.content)
        if start >= size:
            self._head(416, 0, **{"Content-Range": f"bytes */{size}"})
            return
        content_range = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        self._head(206 if start else 200, size - start, **content_range)
        if self.command != "GET":
            return
        cut, self.hub.cut_after = self.hub.cut_after, None
        stop = None
        if len(self.hub.transfers) > self.hub.let_pass:
            stop, self.hub.stop_after = self.hub.stop_after, None
        end = next((start + n for n in (cut, stop) if n is not None), size)
        self.close_connection = True
        try:
            self.wfile.write(file.content[start:end])
            if stop is not None:
                self.hub.stopped.set()
                self.hub.release.wait(60)
        except ConnectionError:  # the client was killed, or knows enough
            pass

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
