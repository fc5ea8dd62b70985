"""A server in a process of its own that can be killed and started again in no time, and clients that never give up.

The process that is killed is forked off one that has imported everything, so that a thousand starts take minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Client", "RealServer"]

_STARTER = """
import os, signal, sys
from pathlib import Path
import alembic.command, alembic.config, alembic.script, psycopg, scipy.stats, uvicorn
import uvicorn.lifespan.on, uvicorn.protocols.http.auto
from hpskit.annotation.web.app import create_app
from hpskit.annotation.web.serving import opened, serve
folder, database, port, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "limit"
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in sys.stdin:
    number = os.fork()
    if not number:
        serve(opened(folder, database), port=port, limit=limit, said=lambda _: None)
        os._exit(0)
    print(number, flush=True)
"""


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
        return port


class RealServer:
    """`hpskit.annotation.web.serving.serve` in a process; `kill` is SIGKILL."""

    def __init__(self, folder: Path, database: str = "", *, limit: bool = False) -> None:
        self.port = free_port()
        arguments = [str(folder), database, str(self.port), "limit" if limit else "free"]
        self._starter = subprocess.Popen(
            [sys.executable, "-c", _STARTER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.pid = 0

    def start(self, *, wait: bool = True) -> None:
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        self._starter.stdin.write("\n")
        self.pid = int(self._starter.stdout.readline())
        end = time.monotonic() + 60
        while wait and not self._answers():
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.005)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            while os.kill(self.pid, 0) is None:
                time.sleep(0.001)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        self._starter.stdin.close()
        self._starter.stdout.close()
        self._starter.wait(30)


@dataclass
class Client:
    """A page in a thread: it submits under ids of its own, and sends again until it is told that a vote is stored."""

    port: int
    link: str
    seed: int
    acknowledged: dict[str, tuple[str, int, Any]] = field(default_factory=dict)
    """Vote -> assignment, revision, tiers."""
    retries: int = 0
    replies: int = 0
    refused: list[Any] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    most: int = 10**9

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.connection: http.client.HTTPConnection | None = None
        self.headers: dict[str, str] = {}

    def once(self, method: str, path: str, body: Any = None) -> tuple[int, Any, http.client.HTTPResponse]:
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {**self.headers, "Content-Type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = self.connection.getresponse()
        data = reply.read()
        there = reply.headers.get_content_type() == "application/json"
        return reply.status, json.loads(data) if there else data.decode("utf-8", "replace"), reply

    def until_told(self, method: str, path: str, body: Any = None) -> tuple[int, Any, http.client.HTTPResponse]:
        """Send until there is a reply of a server that works."""
        end = time.monotonic() + 120
        while True:
            try:
                status, said, reply = self.once(method, path, body)
                if status != 503:
                    self.replies += 1
                    return status, said, reply
            except (OSError, http.client.HTTPException):
                self.leave()
            assert time.monotonic() < end, f"{method} {path}: no reply"
            self.retries += 1
            time.sleep(0.02)

    def join(self) -> None:
        _, _, reply = self.until_told("GET", f"/join/{self.link}")
        self.headers["Cookie"] = str(reply.headers["Set-Cookie"]).split(";")[0]
        self.until_told("GET", "/?as=annotator")  # begins, and sends on to the instructions
        _, page, _ = self.until_told("GET", "/instructions")
        self.headers["X-CSRF-Token"] = re.findall(r'name="csrf" content="(\w+)"', page)[0]

    def run(self) -> None:
        """Rank until `stop`, or until there is nothing left."""
        self.join()
        while not self.stop.is_set() and len(self.acknowledged) < self.most:
            status, said, _ = self.until_told("POST", "/api/next", {"holding": []})
            assert status == 200, said
            if said["task"] is None:
                break
            self.rank(said["task"])
        self.leave()

    def leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def rank(self, given: dict[str, Any]) -> None:
        number, best = given["assignment"], list(range(len(given["images"])))
        if self.draw.random() < 0.2:
            self.until_told("POST", f"/api/assignments/{number}/seen")
        vote_id = str(uuid.UUID(int=self.draw.getrandbits(128), version=4))
        for revision in range(1, 2 + (self.draw.random() < 0.2)):
            self.draw.shuffle(best)
            tiers = [[position] for position in best]
            body = {"assignment": number, "revision": revision, "answer": {"tiers": tiers}, "active_seconds": 2.5}
            status, said, _ = self.until_told("PUT", f"/api/votes/{vote_id}", body)
            if status == 200 and said["stored"]:
                self.acknowledged[vote_id] = (number, revision, tiers)
            else:
                self.refused.append((status, said))
