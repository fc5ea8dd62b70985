"""The scoring service on Ray Serve: the same application in as many processes as the load needs.

Ray's proxy takes the requests and answers 503 where too many wait, which our client takes as it takes 429: come again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from hpskit.cluster.ray_data import joined
from hpskit.cluster.scoring import Loading
from hpskit.models.store import is_path
from hpskit.scoring.scorer import PreferenceScorer
from hpskit.serving.app import Server, create_app, read_keys
from hpskit.serving.batching import Limits
from hpskit.serving.models import Models
from hpskit.serving.wires import add_wires
from hpskit.web import listen

__all__ = ["run"]

_BUSY = 8
"""Requests at work for each replica, beyond which one more is started."""
_PATIENCE = 5.0
"""Seconds of that before it is started."""
_QUEUED = 128
"""Requests that may wait for a replica; what comes then is refused."""


def run(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8200,
    arch: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    memory: float | None = None,
    keys: Path | None = None,
    wires: Sequence[str] = (),
    urls: bool = False,
    limits: Limits | None = None,
    said: Callable[[str], None] = print,
    workers: int | None = None,
    address: str = "",
) -> None:
    """Serve scorers until the process is told to end; what was let in is answered first.

    See `hpskit.serving.running.run` for what is the same; bounds of queue and memory are those of each process.

    Args:
        workers: processes, at most; None is as many as the cluster has room for.
        address: cluster of Ray; empty starts one on this machine.

    Raises:
        InputError: the address is taken, there is no room for a process, or an option is impossible.
    """
    listen(host, port).close()  # Ray would say that it is taken in a log alone
    add_wires(list(wires))  # refuses a name that is none
    known = None if keys is None else read_keys(keys)
    options: dict[str, Any] = {"precision": precision, "device": device, "batch_size": batch_size}

    def load(name: str) -> PreferenceScorer:
        return Loading(model=name, arch=arch if is_path(name) else None, **options).load()

    def build() -> FastAPI:
        held = Models(models, load, budget=None if memory is None else int(memory * 1e9))
        return create_app(Server(held, limits or Limits(), keys=known, urls=urls), wires=add_wires(list(wires)))

    with joined(address, workers, device) as cluster:
        deployment = serve.deployment(
            serve.ingress(build)(),
            name="hpskit",
            ray_actor_options=cluster.share,
            autoscaling_config={
                "min_replicas": 1,
                "max_replicas": cluster.workers,
                "target_ongoing_requests": _BUSY,
                "upscale_delay_s": _PATIENCE,
            },
            max_ongoing_requests=4 * _BUSY,
            max_queued_requests=_QUEUED,
        )
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        try:
            serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
            serve.run(deployment.bind(), name="hpskit", route_prefix="/")
            said(f"http://{host}:{port}")
            ended.wait()
        finally:
            serve.shutdown()
