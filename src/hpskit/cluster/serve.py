"""The scoring service on Ray Serve: the same application in as many processes as the load needs.

Ray's proxy takes the requests and answers 503 where too many wait, which our client takes as it takes 429: come again.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from ray import serve

from hpskit.cluster.ray_data import identity, joined
from hpskit.cluster.scoring import Loading
from hpskit.errors import InputError, ModelError, printable
from hpskit.models.store import is_path
from hpskit.serving.app import create_app
from hpskit.serving.running import make_server, note_access
from hpskit.serving.wires import add_wires
from hpskit.web import listen

_NAME = "hpskit"
_BUSY = 8
"""Requests at work for each replica, beyond which one more is started."""
_PATIENCE = 5.0
"""Seconds of that before it is started."""
_QUEUED = 128
"""Requests that may wait for a replica; what comes then is refused."""


def run(
    models: Sequence[str],
    *,
    workers: int | None,
    address: str,
    host: str,
    port: int,
    wires: Sequence[str],
    said: Callable[[str], None],
    **settings: Any,
) -> None:
    """Serve scorers until the process is told to end; what was let in is answered first.

    `workers` are processes, at most, on the cluster of Ray at `address`; the rest is as in `serving.running.run`,
    with bounds of queue and memory for each process.

    Raises:
        InputError: the address is taken, there is no room for a process, or an option is impossible.
        ModelError: a scorer cannot be loaded.
    """
    if not port:
        raise InputError("--port", "is 0", expected="a number: Ray's proxies listen on one port on every machine")
    listen(host, port).close()  # Ray would say that it is taken in a log alone
    add_wires(list(wires))  # refuses a name that is none

    def build() -> FastAPI:
        return create_app(make_server(models, **settings), wires=add_wires(list(wires)))

    with joined(address, workers, settings["device"]) as cluster:
        deployment = serve.deployment(
            serve.ingress(build)(),
            name=_NAME,
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
        options: dict[str, Any] = {name: settings[name] for name in ("precision", "device", "batch_size")}
        for model in models:  # Ray would start a replica that cannot load it for ever
            arch = settings.get("arch") if is_path(model) else None
            identity(Loading(model=model, arch=arch, **options), cluster)
        ended = threading.Event()
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
        if _NAME in serve.status().applications:
            raise InputError(_NAME, "is served on this cluster already", cure="end that first")
        try:
            serve.run(deployment.bind(), name=_NAME, route_prefix="/")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: ended.set())
            answers(host, port)
            note_access(host, settings["keys"], said)
            said(f"http://{host}:{port}")
            ended.wait()
        except (RuntimeError, TimeoutError) as error:
            found = f"cannot be served ({printable(str(error), 300)})"
            raise ModelError(", ".join(models), found, cure="see the log of Ray Serve") from error
        finally:
            serve.delete(_NAME)  # others may have theirs on the same cluster
            if address and not serve.status().applications:
                serve.shutdown()  # and its proxies would keep the port


def answers(host: str, port: int) -> None:
    """See that somebody listens where Ray was told to: a Serve that runs already keeps its own port.

    Raises:
        InputError: nobody does.
    """
    try:
        socket.create_connection(("127.0.0.1" if host in ("0.0.0.0", "::") else host, port), _PATIENCE).close()  # noqa: S104
    except OSError as error:
        cure = "use the port of the Ray Serve that runs on this cluster"
        raise InputError("--port", f"{port} is not listened on", cure=cure) from error
