"""A server of OpenAI's chat completions on this machine, which fails in all its ways."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = dict[str, Any] | tuple[int, dict[str, str], Any]
"""An answer of the model, or status, headers and body."""


def says(content: object, **choice: Any) -> Reply:
    """A completion; `choice` changes its only choice."""
    message = {"role": "assistant", "content": content if isinstance(content, str) else json.dumps(content)}
    message |= {name: choice.pop(name) for name in ("refusal",) if name in choice}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    whole = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [whole], "usage": usage}


def refuses(status: int, code: str = "", **headers: str) -> Reply:
    return status, headers, {"error": {"message": f"no: {code}", "type": code, "code": code}}


def prompt_of(body: dict[str, Any]) -> str:
    """The last message; of a question about an image the last line, without what comes before the prompt in it."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return str(content[-1]["text"].splitlines()[-1].partition(": ")[2]).strip("[]")


@dataclass
class Model:
    """A server of chat completions; `reply` makes the answer to a prompt."""

    url: str
    reply: Callable[[str, int], Reply]
    """Of the prompt, and how often it was asked for before."""
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    headers: set[str] = field(default_factory=set)
    """Names of those that came."""
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve(reply: Callable[[str, int], Reply]) -> Iterator[Model]:
    """Answer until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = prompt_of(body)
            with found.lock:
                before = found.asked[prompt]
                found.asked[prompt] += 1
                found.requests.append(body)
                found.keys.add(self.headers["Authorization"])
                found.headers |= {name.lower() for name in self.headers}
                found.at_once += 1
                found.most_at_once = max(found.most_at_once, found.at_once)
            answer = found.reply(prompt, before)
            status, headers, value = answer if isinstance(answer, tuple) else (200, {}, answer)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            with found.lock:
                found.at_once -= 1
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Model(url=f"http://127.0.0.1:{server.server_port}/v1", reply=reply)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
