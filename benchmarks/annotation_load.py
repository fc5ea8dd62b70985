"""Measure the annotation server under load: a crowd of annotators, and many tasks against few.

    python benchmarks/annotation_load.py [--people 200] [--think 10] [--seconds 60] [--database postgresql://…]
    python benchmarks/annotation_load.py --sizes 100 100000

Annotators are coroutines of one process that speak HTTP to a server process on this machine, and do what the page does:
fetch a task ahead, load its images, say that it is seen, keep a draft, submit. Server and crowd share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "annotation"))

from hpskit.annotation import people
from hpskit.annotation.store import Store
from real_server import RealServer
from small_project import make, without_votes

IMAGES = 4
RAMP = 10.0
"""Seconds in which everybody arrives; they are not measured."""
Times = defaultdict[str, list[float]]


@dataclass
class Annotator:
    """One page: a connection that stays open, and the time of each request."""

    port: int
    link: str
    seed: int
    times: Callable[[], Times]
    headers: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    async def ask(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """Send one request and time it until its last byte."""
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "127.0.0.1", "Content-Length": str(len(data)), "Content-Type": "application/json"}
        head = "".join(f"{key}: {value}\r\n" for key, value in {**fields, **self.headers}.items())
        begun = time.perf_counter()
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
        status, said = int((await self.reader.readline()).split()[1]), {}
        while (line := await self.reader.readline()) != b"\r\n":
            key, _, value = line.decode("latin-1").partition(":")
            said[key.lower()] = value.strip()
        content = await self.reader.readexactly(int(said.get("content-length", 0)))
        self.times()[name].append(time.perf_counter() - begun)
        if status >= 400:
            self.errors.append(f"{method} {path}: {status} {content[:200]!r}")
        if "set-cookie" in said:
            self.headers["Cookie"] = said["set-cookie"].split(";")[0]
        return json.loads(content) if said.get("content-type") == "application/json" else content

    async def begin(self) -> None:
        """Open the link, and the page behind it."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        await self.ask("pages", "GET", f"/join/{self.link}")
        await self.ask("pages", "GET", "/")
        page = await self.ask("pages", "GET", "/instructions")
        self.headers["X-CSRF-Token"] = re.findall(rb'name="csrf" content="(\w+)"', page)[0].decode()

    async def fetch(self, *holding: str) -> dict[str, Any] | None:
        """Get a task and its images."""
        said = await self.ask("fetch", "POST", "/api/next", {"holding": list(holding)})
        given: dict[str, Any] | None = said["task"]
        for image in given["images"] if given else ():
            await self.ask("image", "GET", image["url"])
        return given

    async def run(self, think: float, until: float) -> None:
        """Do tasks as the page does, with a pause to think in each."""
        draw = random.Random(self.seed)
        await asyncio.sleep(draw.random() * min(RAMP, think))
        await self.begin()
        now = await self.fetch()
        while now is not None and time.monotonic() < until:
            number = now["assignment"]
            await self.ask("seen", "POST", f"/api/assignments/{number}/seen")
            ahead = await self.fetch(number)
            best = [[position] for position in draw.sample(range(IMAGES), IMAGES)]
            given = {"answer": {"tiers": best}, "active_seconds": think}
            await asyncio.sleep(think * (0.25 + 0.5 * draw.random()))
            await self.ask("draft", "PUT", f"/api/assignments/{number}/draft", {"version": 1, **given})
            await asyncio.sleep(think * (0.25 + 0.5 * draw.random()))
            vote = f"/api/votes/{uuid.UUID(int=draw.getrandbits(128), version=4)}"
            await self.ask("submit", "PUT", vote, {"assignment": number, "revision": 1, **given})
            now = ahead
        self.writer.close()


def project(folder: Path, database: str, tasks: int, overlap: int) -> Store:
    """Make a project whose tasks share the images of a few."""
    made = make(folder, database, tasks=10, images=IMAGES, overlap=overlap)
    store = Store(made.database)
    without_votes(store, tasks - 10, overlap)
    if not store.sqlite:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    return store


async def crowd(links: list[str], port: int, think: float, seconds: float, cpu: Callable[[], float]) -> dict[str, Any]:
    """Let everybody work, and measure after all have arrived."""
    phases: list[Times] = [defaultdict(list), defaultdict(list)]
    at = [0]
    end = time.monotonic() + RAMP + seconds
    everybody = [Annotator(port, link, seed, lambda: phases[at[0]]) for seed, link in enumerate(links)]
    tasks = [asyncio.create_task(one.run(think, end)) for one in everybody]
    await asyncio.sleep(RAMP)
    at[0], before, own = 1, cpu(), time.process_time()
    await asyncio.sleep(seconds)
    used, mine = cpu() - before, time.process_time() - own
    counted = {name: list(times) for name, times in phases[1].items()}
    for done in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(done, BaseException):
            raise done
    errors = [error for one in everybody for error in one.errors]
    return {"times": counted, "server": used, "crowd": mine, "errors": errors}


def quantile(times: list[float], share: float) -> float:
    """Return a quantile in milliseconds."""
    return 1000 * sorted(times)[min(len(times) - 1, int(share * len(times)))]


def load(arguments: argparse.Namespace, folder: Path) -> None:
    """Print how long requests take with everybody at work."""
    store = project(folder / "project", arguments.database, arguments.tasks, arguments.overlap)
    links = list(people.invite(store, [f"person {number}" for number in range(arguments.people)]).values())
    server = RealServer(folder / "project", arguments.database, limit=False)
    try:
        server.start()
        found = asyncio.run(crowd(links, server.port, arguments.think, arguments.seconds, server.cpu_seconds))
    finally:
        server.close()
        store.close()
    kind = "SQLite" if store.sqlite else "PostgreSQL"
    print(f"{arguments.people} people, {arguments.think:g} s a task, {arguments.tasks:,} tasks, {kind}")
    print(f"{'request':10}{'count':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name in ("fetch", "submit", "seen", "draft", "image"):
        times = found["times"].get(name, [])
        if times:
            row = "".join(f"{quantile(times, share):9.1f}" for share in (0.5, 0.95, 0.99, 1.0))
            print(f"{name:10}{len(times):8,}{row}")
    count = sum(map(len, found["times"].values()))
    each = 1000 * found["server"] / max(1, count)
    print(f"{count / arguments.seconds:.0f} requests/s; CPU seconds in {arguments.seconds:g} s: ", end="")
    print(f"server {found['server']:.1f} ({each:.2f} ms a request), crowd {found['crowd']:.1f}")
    errors = found["errors"]
    print(f"{os.cpu_count()} cores, load of the machine {os.getloadavg()[0]:.1f}; errors: {len(errors)} {errors[:1]}")


async def alone(port: int, link: str, rounds: int) -> Times:
    """Let one person work without a pause."""
    times: Times = defaultdict(list)
    one = Annotator(port, link, 1, lambda: times)
    await one.begin()
    for _ in range(rounds):
        said = await one.ask("fetch", "POST", "/api/next", {"holding": []})
        given = {"answer": {"tiers": [[place] for place in range(IMAGES)]}, "active_seconds": 5.0}
        body = {"assignment": said["task"]["assignment"], "revision": 1, **given}
        await one.ask("submit", "PUT", f"/api/votes/{uuid.uuid4()}", body)
    one.writer.close()
    assert not one.errors, one.errors[0]
    return times


def sizes(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the time of a fetch and a submission by the number of tasks, one person after the other on each."""
    medians: dict[int, dict[str, float]] = {}
    running: dict[int, tuple[RealServer, list[str]]] = {}
    rounds = min(80, min(arguments.sizes) - 10)
    try:
        for size in arguments.sizes:
            place = folder / str(size)
            store = project(place, "", size, arguments.overlap)
            links = list(people.invite(store, [f"person {number}" for number in range(arguments.repeats)]).values())
            store.close()
            running[size] = RealServer(place, limit=False), links
            running[size][0].start()
        found: dict[int, Times] = {size: defaultdict(list) for size in arguments.sizes}
        for repeat in range(arguments.repeats):  # in turn, so that other work on the machine is the same for all
            for size, (server, links) in running.items():
                for name, times in asyncio.run(alone(server.port, links[repeat], rounds)).items():
                    found[size][name] += times
    finally:
        for server, _ in running.values():
            server.close()
    for size in arguments.sizes:
        medians[size] = {name: 1000 * statistics.median(times) for name, times in found[size].items()}
        said = "".join(f", {name} {medians[size][name]:.2f} ms" for name in ("fetch", "submit"))
        print(f"{size:>9,} tasks{said} (medians)")
    few, many = medians[min(arguments.sizes)], medians[max(arguments.sizes)]
    print(f"ratio: fetch {many['fetch'] / few['fetch']:.2f}, submit {many['submit'] / few['submit']:.2f}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--think", type=float, default=10.0, help="seconds for a task")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--overlap", type=int, default=10)
    parser.add_argument("--database", default="", help="address of an empty PostgreSQL database")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of tasks to compare instead")
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpskit-load-") as folder:
        (sizes if arguments.sizes else load)(arguments, Path(folder))


if __name__ == "__main__":
    main()
