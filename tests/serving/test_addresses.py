"""Images at addresses: never at private ones, and in bounded time, whatever the server there does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from hpskit.serving.reading import is_public
from scoring_server import gated, picture, served, until


@dataclass
class Elsewhere:
    """A server of images that is slow in every way; what it was asked for."""

    port: int
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path, and `Host`."""
    ended: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/{path}"


class Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    found: Elsewhere

    def handle(self) -> None:
        with suppress(ConnectionError):
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":  # TLS, whose hello gets no answer
                self.found.ended.wait(30)
            else:
                super().handle()

    def do_GET(self) -> None:
        self.found.asked.append((self.path, self.headers["Host"]))
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, f"say_{kind}")(rest)

    def say_image(self, _: str) -> None:
        self.answer(200, picture(7))

    def say_large(self, _: str) -> None:
        self.answer(200, bytes(2_000))

    def say_nothing(self, _: str) -> None:
        self.answer(404)

    def say_to(self, place: str) -> None:
        self.answer(302, Location=place)

    def say_round(self, rest: str) -> None:
        time.sleep(0.1)
        self.answer(302, Location=f"/round/{int(rest or 0) + 1}")

    def say_head(self, _: str) -> None:
        self.drip(b"HTTP/1.1 200 OK\r\nX: ")

    def say_body(self, _: str) -> None:
        self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")

    def say_flood(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /image\r\nContent-Length: 99999999999\r\n\r\n")
        while not self.found.ended.is_set():
            self.wfile.write(bytes(1 << 20))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self, begin: bytes) -> None:
        self.wfile.write(begin)
        while not self.found.ended.wait(0.02):
            self.wfile.write(b"a")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    found = Elsewhere(0)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"found": found})) as http:
        found.port = http.server_port
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            found.ended.set()
            http.shutdown()
            thread.join()


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    """It is on this machine: its address passes for public, others of the machine do not."""
    monkeypatch.setattr("hpskit.serving.reading.is_public", lambda ip: ip in ("127.0.0.1", "::1"))
    with elsewhere() as found:
        yield found


def asking(*urls: str, **more: Any) -> dict[str, Any]:
    return {"prompt": "a", "images": list(urls), **more}


# Where


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1",
     "64:ff9b::a00:1", "2002:7f00:1::", "100.64.0.1", "224.0.0.1", "255.255.255.255",
     "fec0::2", "::7f00:1", "::ffff:0:7f00:1", "5f00::1"],
)  # fmt: skip
def test_private_addresses_are_not_public(text: str) -> None:
    assert not is_public(text)


def test_images_at_private_addresses_are_not_brought() -> None:
    assert is_public("93.184.216.34")
    _, load = gated()
    with served(load=load) as inner, served(load=load, urls=True) as server:
        inner.http.get("/health")
        here = inner.url.removeprefix("http://127.0.0.1:")
        hosts = (
            f"127.0.0.1:{here}",
            f"localhost:{here}",
            f"[::ffff:127.0.0.1]:{here}",
            f"2130706433:{here}",
            f"127.1:{here}",
        )
        body = {"prompt": "a", "images": [f"http://{host}/static/serve.css" for host in hosts]}
        results = server.http.post("/v1/score", json=body).json()["results"]
        assert 'route="other"' not in inner.http.get("/metrics").text
    assert {item["error"]["found"] for item in results} == {"is at a private address"}


def test_every_redirect_is_looked_at(there: Elsewhere) -> None:
    _, load = gated()
    places = ["/image", "/to//image", there.url("image", "127.0.0.2"), "ftp://127.0.0.1/a", "file:///etc/hosts"]
    with served(load=load, urls=True) as server:
        body = asking(*[there.url(f"to/{place}") for place in places])
        results = server.http.post("/v1/score", json=body).json()["results"]
    assert [item.get("score") for item in results] == [7, 7, None, None, None]
    found = [item["error"]["found"] for item in results[2:]]
    assert found[:2] == ["is at a private address", "cannot be brought (UnsupportedProtocol)"]
    assert {host for _, host in there.asked} == {f"127.0.0.1:{there.port}"}


def test_a_host_is_asked_by_its_name_and_by_no_proxy(there: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    _, load = gated()
    with served(load=load, urls=True) as server:
        body = asking(there.url("image", "localhost"))
        assert server.http.post("/v1/score", json=body).json()["results"] == [{"score": 7}]
    assert there.asked == [("/image", f"localhost:{there.port}")]


# How long, and how much


@pytest.mark.parametrize("what", ["head", "body", "round", "TLS"])
def test_a_slow_server_holds_nobody_up(what: str, there: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout of the socket would begin anew with each byte."""
    monkeypatch.setattr("hpskit.serving.app._BODY_SECONDS", 0.6)
    monkeypatch.setattr("hpskit.serving.reading._REDIRECTS", 1_000)
    _, load = gated()
    slow = there.url("image", scheme="https") if what == "TLS" else there.url(what)
    with served(load=load, urls=True) as server:
        server.http.timeout = 10
        begun = time.monotonic()
        results = server.http.post("/v1/score", json=asking(there.url("image"), *[slow] * 20)).json()["results"]
        assert 0.3 <= time.monotonic() - begun < 5
        assert [item.get("score") for item in results] == [7, *[None] * 20]
        found = {item["error"]["found"] for item in results[1:]}
        assert found <= {"was not here in time", "cannot be brought (ConnectError)"}  # TLS has half of the time
        again = server.http.post("/v1/score", json=asking(there.url("image"))).json()["results"]
        assert again == [{"score": 7}]


def test_what_is_large_missing_or_comes_with_a_redirect(there: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpskit.serving.reading._IMAGE_URL", 1_000)
    _, load = gated()
    with served(load=load, urls=True) as server:
        server.http.timeout = 10
        urls = map(there.url, ("flood", "large", "nothing", "round"))
        results = server.http.post("/v1/score", json=asking(*urls)).json()["results"]
    assert results[0] == {"score": 7}
    assert ["0.001 MB" in results[1]["error"]["found"], "404" in results[2]["error"]["found"]] == [True, True]
    assert "302" in results[3]["error"]["found"]
    assert ("/round/10", f"127.0.0.1:{there.port}") in there.asked
    assert ("/round/11", f"127.0.0.1:{there.port}") not in there.asked


def test_the_deadline_counts_while_images_are_brought(there: Elsewhere) -> None:
    made, load = gated()
    with served(load=load, urls=True) as server:
        server.http.timeout = 10
        made.steps.clear()
        begun = time.monotonic()
        reply = server.http.post("/v1/score", json=asking(there.url("image"), there.url("head"), deadline=0.5))
        assert (reply.status_code, reply.json()["error"]["place"]) == (504, "deadline")
        assert 0.5 <= time.monotonic() - begun < 5
    assert made.steps == []


SERVE = """
import sys
from hpskit.serving import reading, running
from hpskit.serving.batching import Limits
reading.is_public = lambda ip: True
running.run(["mini"], port=0, urls=True, log=False, limits=Limits(drain=1.0), said=lambda text: print(text, flush=True))
"""


def test_a_server_told_to_end_does_not_wait_for_another(tmp_path: Path) -> None:
    """Its threads and tasks would hold the process until whoever sends slowly has had enough."""
    with elsewhere() as there, subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = next(line.strip() for line in process.stdout if line.startswith("http"))
            replies: list[httpx.Response] = []
            body = asking(*[there.url("head")] * 20)
            ask = threading.Thread(
                target=lambda: replies.append(httpx.post(f"{url}/v1/score", json=body, timeout=60, trust_env=False))
            )
            ask.start()
            until(lambda: len(there.asked) >= 8)
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            until(lambda: httpx.get(f"{url}/ready", trust_env=False).status_code == 503)
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as late:
                late.sendall(b"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
                assert process.wait(30) == 0
                assert time.monotonic() - begun < 1 + 10
                assert b" 503 " in late.recv(1000).split(b"\r\n")[0]
            ask.join()
            assert [reply.status_code for reply in replies] == [503]
            assert "retry_after" in replies[0].json()
        finally:
            process.kill()
