"""A server on 127.0.0.1 that speaks OpenAI's images API, and fails as the tests say."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Answer = tuple[int, dict[str, str], Any]
"""Status, headers, and a body: bytes, or what JSON can hold."""


def png(grey: int = 128) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def image(**more: Any) -> Answer:
    """What a good server says."""
    return 200, {}, {"created": 1, "data": [{"b64_json": base64.b64encode(png()).decode(), **more}]}


def failure(status: int, code: str = "", message: str = "no", **headers: str) -> Answer:
    return status, headers, {"error": {"message": message, "code": code, "type": code}}


@dataclass
class ImagesServer:
    """What it says: an answer for each prompt, the last one again and again."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    """The bodies, with `key` and, for a GET, `path`."""
    delay: float = 0.0
    files: dict[str, Answer] = field(default_factory=dict)
    """What a GET of a path gives."""
    busiest: int = 0
    """Most requests that were under way at once."""
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def says(self, *answers: Answer, to: str = "a cat") -> None:
        self.answers[to] = list(answers)

    def asked(self, prompt: str = "a cat") -> int:
        return sum(request.get("prompt") == prompt for request in self.requests)


def handler(server: Callable[[], ImagesServer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state, body = server(), json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.requests.append({**body, "path": self.path, "key": self.headers.get("Authorization")})
                answers = state.answers.get(body["prompt"], [image()])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                state.under_way += 1
                state.busiest = max(state.busiest, state.under_way)
            time.sleep(state.delay)
            with state.lock:
                state.under_way -= 1
            self.send(answer)

        def do_GET(self) -> None:
            state = server()
            state.requests.append({"path": self.path, "key": self.headers.get("Authorization")})
            self.send(state.files.get(self.path, failure(404)))

        def send(self, answer: Answer) -> None:
            status, headers, body = answer
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def handle(self) -> None:
            with suppress(ConnectionError):  # a client that waits no longer
                super().handle()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serve_images() -> Iterator[ImagesServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(lambda: state)) as http:
        state = ImagesServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            http.shutdown()
            thread.join()
