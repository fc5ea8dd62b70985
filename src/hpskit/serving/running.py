"""Run a scoring server until it is told to end, and let what was let in be answered."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from hpskit.errors import InputError
from hpskit.models.store import is_path
from hpskit.scoring.scorer import PreferenceScorer, load_scorer
from hpskit.serving.app import Server, create_app, read_keys
from hpskit.serving.batching import Limits
from hpskit.serving.models import Models
from hpskit.serving.wires import add_wires
from hpskit.web import listen, socket_name


class _Draining(uvicorn.Server):
    """At SIGTERM and Ctrl-C it answers what was let in, refuses what comes, and ends with status 0."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._hpskit = server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; told twice, end at once."""
        if self._hpskit.draining:
            super().handle_exit(sig, frame)
            return
        self._hpskit.draining = True
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        until = time.monotonic() + self._hpskit.limits.drain
        while self._hpskit.requests and time.monotonic() < until:
            time.sleep(0.02)
        self.should_exit = True


def make_server(
    models: Sequence[str],
    *,
    arch: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    memory: float | None = None,
    keys: Path | None = None,
    urls: bool = False,
    limits: Limits | None = None,
) -> Server:
    """Load scorers, and make what serves them.

    Args:
        models: names, checkpoints or `FILE.py:NAME`; the first is the default.
        arch: of those that are checkpoint files; see `hpskit.load_scorer`.
        precision: see `hpskit.load_scorer`, as for `device`.
        device: where the networks run.
        batch_size: images of a step; see `batch_invariant` of `hpskit.load_scorer`.
        memory: GB of weights in memory at a time; those used longest ago are let go.
        keys: file of `new_key`; without it everybody is let in.
        urls: whether images at public addresses are brought.
        limits: bounds of the queue.

    Raises:
        InputError: an option is impossible.
        ModelError: a scorer cannot be loaded.
    """
    if not models:
        raise InputError("--model", "is missing", expected="at least one")
    known = None if keys is None else read_keys(keys)
    if keys is not None and not known:
        raise InputError(keys, "has no key, so that nobody would be let in", cure="make one with --new-key NAME")
    budget = None if memory is None else int(memory * 1e9)

    def load(name: str) -> PreferenceScorer:
        own = arch if is_path(name) else None
        return load_scorer(
            name, arch=own, precision=precision, device=device, batch_size=batch_size, batch_invariant=True
        )

    return Server(Models(models, load, budget=budget), limits or Limits(), keys=known, urls=urls)


def note_access(host: str, keys: Path | None, said: Callable[[str], None]) -> None:
    """Say who is let in where that is everybody."""
    if keys is None and host not in ("127.0.0.1", "::1", "localhost"):
        said("note: everybody who reaches this address can score; give --keys, and TLS by a proxy")


def run(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8200,
    wires: Sequence[str] = (),
    log: bool = True,
    said: Callable[[str], None] = print,
    **settings: Any,
) -> None:
    """Serve scorers until the process is told to end.

    Args:
        models: see `make_server`.
        host: address to listen on.
        port: 0 is any that is free.
        wires: names of protocols of others.
        log: write a line of JSON to standard error for each request.
        said: gets the address once the server listens, and what is odd.
        settings: of `make_server`.

    Raises:
        InputError: the address is taken; and see `make_server`.
    """
    add = add_wires(list(wires))
    listening = listen(host, port)  # before gigabytes are read
    server = make_server(models, **settings)
    if log:
        logger, handler = logging.getLogger("hpskit.serving"), logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.handlers, logger.level, logger.propagate = [handler], logging.INFO, False
    config = uvicorn.Config(
        create_app(server, wires=add),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=75,
    )
    for name, facts in server.models.facts.items():
        if not facts.equal:
            said(f"note: a score by {name} may move with what is scored beside its image, or from one time to the next")
    note_access(host, settings.get("keys"), said)
    said(f"http://{socket_name(listening)}")
    _Draining(config, server).run(sockets=[listening])
