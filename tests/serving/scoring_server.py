"""A scoring server in a thread of the tests, scorers that can be held up, and images whose scores are known."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from hpskit.scoring.scorer import PlainScorer, PreferenceScorer, load_scorer
from hpskit.serving.app import Server, create_app
from hpskit.serving.batching import Limits
from hpskit.serving.models import Models
from hpskit.serving.wires import add_wires
from hpskit.web import listen, socket_name
from small_inputs import information

__all__ = ["Gated", "Served", "gated", "picture", "served", "until"]


def picture(level: int = 128, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """A file of one grey level, whose score by `Gated` is that level."""
    data = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(data, kind)
    return data.getvalue()


@dataclass
class Gated:
    """Gives the mean grey level, when it is let; fails for black images."""

    log_odds_per_point = 0.01
    open: threading.Event = field(default_factory=threading.Event)
    steps: list[int] = field(default_factory=list)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        assert len(images) == len(prompts)
        self.open.wait(30)
        self.steps.append(len(images))
        levels = [float(np.asarray(image)[..., 0].mean()) for image in images]
        if any(level == 0 for level in levels):
            raise RuntimeError("this one is too dark")
        return levels


def gated(batch_size: int = 1, name: str = "gated") -> tuple[Gated, Callable[[str], PreferenceScorer]]:
    """A scorer of this kind, its gate open, and what loads it."""
    made = Gated()
    made.open.set()
    return made, lambda _: PlainScorer(made, information(name), batch_size=batch_size, batch_invariant=True)


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@dataclass
class Served:
    """A server that listens, and a client of it."""

    url: str
    server: Server
    http: httpx.Client

    def score(self, *images: bytes, prompt: str | list[str] = "a cat", path: str = "/v1/score", **fields: Any) -> Any:
        files = [("images", (f"{number}.png", data)) for number, data in enumerate(images)]
        return self.http.post(path, data={"prompt": prompt, **fields}, files=files)


@contextmanager
def served(
    *names: str,
    load: Callable[[str], Any] | None = None,
    limits: Limits | None = None,
    budget: int | None = None,
    keys: Mapping[str, str] | None = None,
    wires: Sequence[str] = (),
    urls: bool = False,
) -> Iterator[Served]:
    """Serve scorers, `mini` unless others are named."""
    made = load or (lambda name: load_scorer(name, batch_invariant=True))
    models = Models(names or ("mini",), made, budget=budget)
    server = Server(models, limits or Limits(), keys=keys, urls=urls)
    app = create_app(server, wires=add_wires(list(wires)))
    listening = listen("127.0.0.1", 0)
    url = f"http://{socket_name(listening)}"
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not running.started:
            time.sleep(0.005)
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            yield Served(url, server, http)
    finally:
        running.should_exit = True
        thread.join(30)
        listening.close()
