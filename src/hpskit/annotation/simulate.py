"""Simulated annotators: to plan a project before anybody is paid, and to see that a server stands so many people."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from typing import Any

import numpy as np
from sqlalchemy import select

from hpskit.annotation import people
from hpskit.annotation.export import SIMULATED, Vote, array, read_tasks, read_votes
from hpskit.annotation.project import Project
from hpskit.annotation.store import Store
from hpskit.annotation.tables import assignment, image, person, task, vote
from hpskit.errors import InputError
from hpskit.stats.planning import Project as Forecast
from hpskit.stats.planning import fitted_noise, plan

_NOISE = 0.29
"""Noise of one person where there is no pilot: its variance in units of that of the images' quality, as `fitted_noise`
finds it in the 37 groups of HPD v2 that are public (0.290)."""
_SECONDS = 3.5
"""Seconds an image where there is no pilot, at human speeds on this page."""
_PILOT = 30
"""Votes from which a project's own noise and seconds are used."""
OVERLAPS = (1, 2, 3, 5, 7, 10)
_LEAST_TASKS = 300
"""Tasks that are simulated where a project has fewer: with three, chance would say which overlap is best."""


def plan_project(
    project: Project,
    store: Store,
    *,
    annotators: int = 50,
    noise: float | None = None,
    bad: float = 0.1,
    seconds: float | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Predict what numbers of people a task would give: accuracy, hours and cost; see `hpskit.stats.planning.plan`.

    Of `noise` and `seconds` (an image) those of the project's own votes count where there are enough and none is given.
    """
    with store.read() as connection:
        tasks = read_tasks(connection)
        votes = [one for one in read_votes(connection, tasks) if not one.excluded]
    if noise is None:
        noise = noise_of(votes)
    if seconds is None:
        timed = [one.active_seconds / len(one.ranks) for one in votes if one.active_seconds > 0]
        seconds = float(np.median(timed)) if len(timed) >= _PILOT else _SECONDS
    sizes = Counter(len(one.images) for one in tasks.values() if one.kind == "work")
    pay, number = project.settings.pay, sizes.total()
    rows = []
    for overlap in (one for one in OVERLAPS if one <= annotators):
        tau = weighted = hours = 0.0
        for images, count in sorted(sizes.items()):
            many = max(count, _LEAST_TASKS)
            kind = Forecast(
                images=images, tasks=many, annotators=annotators, noise=noise, bad=bad, seconds=seconds * images
            )
            (row,) = plan(kind, [overlap], seed=seed)
            tau, weighted = tau + row.tau * count / number, weighted + row.weighted_tau * count / number
            hours += row.hours * count / many
        cost = overlap * number * pay.per_task + hours * pay.per_hour
        figures = {"pairs": (1 + weighted) / 2, "tau_weighted": weighted, "tau_plain": tau, "hours": hours}
        rows.append(
            {"overlap": overlap, **figures, "cost": cost, "currency": pay.currency, "noise": noise, "seconds": seconds}
        )
    return rows


def noise_of(votes: Sequence[Vote]) -> float:
    """Fit the noise of one person to the votes of a pilot; without enough of them it is that of HPD v2."""
    by_task: dict[int, list[Vote]] = defaultdict(list)
    for one in votes:
        by_task[one.task].append(one)
    several = [array(own) for own in by_task.values() if len(own) > 1]
    return fitted_noise(several) if sum(len(own) for own in several) >= _PILOT else _NOISE


@dataclass(frozen=True, kw_only=True, slots=True)
class Driven:
    """A run of simulated people against a server."""

    votes: int
    seconds: float
    waits: Mapping[str, list[float]] = field(repr=False)
    """Seconds of each request: `next`, `image`, `vote`."""

    def quantile(self, kind: str, share: float) -> float:
        """Return the seconds that this share of the requests stayed within."""
        return float(np.quantile(self.waits[kind], share)) if self.waits[kind] else float("nan")


def drive(
    store: Store,
    base: str,
    *,
    annotators: int,
    worth: Mapping[str, float],
    noise: float = 1.0,
    pace: float = 0.0,
    images: bool = True,
    seed: int = 0,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Driven:
    """Let simulated people do all open tasks of a server over HTTP, each in a thread, as the page does.

    Args:
        store: the project's database, for invitations and for what the images are worth.
        base: address of the server.
        annotators: how many take part; they are called `simulated 1` and so on, and exports say so.
        worth: log-odds of the images of each generator; images of others have a worth drawn by their name.
        noise: what a person adds to each worth, in units of the Gumbel distribution: 1 is the Plackett-Luce model.
        pace: seconds that a person looks at a task.
        images: whether images are fetched too.
        seed: decides what people add.
        progress: is told how many votes are in.

    Raises:
        InputError: the server is not there, or refuses; or people have voted in this project.
    """
    with store.read() as connection:
        real = (
            select(vote.c.id)
            .join(person, person.c.id == vote.c.person)
            .where(person.c.panel.is_distinct_from(SIMULATED))
        )
        if connection.execute(real.limit(1)).one_or_none() is not None:
            cure = "make a project of the same images for it: hpskit annotate init"
            raise InputError("--server", "serves a project in which people have voted", cure=cure)
    names = [f"{SIMULATED} {number + 1}" for number in range(annotators)]
    links = people.invite(store, names, who="simulate", panel=SIMULATED)
    done = [0]
    waits: dict[str, list[float]] = {"next": [], "image": [], "vote": []}
    failed: list[str] = []

    def work(number: int) -> None:
        try:
            somebody = Simulated(base, links[names[number]], np.random.default_rng([seed, number]), waits)
            while somebody.one(lookup, noise, pace, images):
                done[0] += 1
                progress("votes", done[0], None)
        except (OSError, ValueError) as error:
            failed.append(f"{names[number]}: {error}")

    def lookup(assignment: str) -> list[float]:
        return worths_of(store, assignment, worth)

    begun = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(annotators)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise InputError(
            base, f"stopped {len(failed)} of {annotators} people ({failed[0]})", cure="see the server's log"
        )
    return Driven(votes=done[0], seconds=time.monotonic() - begun, waits=waits)


def drawn(name: str) -> float:
    """Return a worth for an image of which nothing is known, the same each time: about normal, deviation 1.8."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return float(np.random.default_rng(int.from_bytes(digest)).normal(scale=1.8))


def worths_of(store: Store, number: str, worth: Mapping[str, float]) -> list[float]:
    """Return what the images of an assignment are worth, by position; only a simulation may look there."""
    with store.read() as connection:
        row = connection.execute(select(assignment.c.order, assignment.c.task).where(assignment.c.id == number)).one()
        ids = connection.execute(select(task.c.images).where(task.c.id == row.task)).scalar_one()
        found = {one.id: one for one in connection.execute(select(image).where(image.c.id.in_(ids))).all()}
    own = [found[ids[place]] for place in row.order]
    return [worth.get(one.source or "", drawn(one.name)) for one in own]


class Simulated:
    """One simulated person with a session of their own."""

    def __init__(self, base: str, token: str, rng: np.random.Generator, waits: dict[str, list[float]]) -> None:
        self.base, self.rng, self.waits = base.rstrip("/"), rng, waits
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.csrf = self._csrf(self._get(f"/join/{token}"))
        if 'action="/consent"' in self._get("/"):
            self._send("POST", "/consent", form={"agree": "yes", "csrf": self.csrf})

    def one(self, lookup: Callable[[str], Sequence[float]], noise: float, pace: float, images: bool) -> bool:
        """Do one task; tell whether there was one."""
        while (said := self._timed("next", "POST", "/api/next", {"holding": []}))["task"] is None:
            if said["reason"] != "wait":
                return False
            time.sleep(min(said["seconds"], 1.0))
        task = said["task"]
        for picture in task["images"] if images else ():
            begun = time.monotonic()
            self._get(picture["url"], text=False)
            self.waits["image"].append(time.monotonic() - begun)
        self._send("POST", f"/api/assignments/{task['assignment']}/seen", {})
        looks = pace * float(self.rng.lognormal(sigma=0.3)) if pace else 0.0
        time.sleep(looks)
        felt = np.array(lookup(task["assignment"])) + noise * self.rng.gumbel(size=len(task["images"]))
        answer = {"tiers": [[int(position)] for position in (-felt).argsort()]}
        seconds = looks or float(len(felt) * self.rng.lognormal(np.log(_SECONDS), 0.3))
        vote = {"assignment": task["assignment"], "revision": 1, "answer": answer, "active_seconds": seconds}
        self._timed("vote", "PUT", f"/api/votes/{uuid.UUID(bytes=self.rng.bytes(16), version=4)}", vote)
        return True

    def _timed(self, kind: str, method: str, path: str, body: Any) -> Any:
        begun = time.monotonic()
        said = self._send(method, path, body)
        self.waits[kind].append(time.monotonic() - begun)
        return said

    def _get(self, path: str, *, text: bool = True) -> str:
        with self._open.open(f"{self.base}{path}", timeout=60) as reply:
            data: bytes = reply.read()
        return data.decode() if text else ""

    def _send(self, method: str, path: str, body: Any = None, *, form: Mapping[str, str] | None = None) -> Any:
        from urllib.parse import urlencode

        data = urlencode(form).encode() if form is not None else json.dumps(body).encode()
        kind = "application/x-www-form-urlencoded" if form is not None else "application/json"
        headers = {"Content-Type": kind, "X-CSRF-Token": self.csrf}
        asked = urllib.request.Request(f"{self.base}{path}", data=data, method=method, headers=headers)  # noqa: S310
        while True:
            try:
                with self._open.open(asked, timeout=60) as reply:
                    found = reply.read()
                return json.loads(found) if found[:1] == b"{" else None
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise InputError(path, f"was refused ({error.code}: {error.read()[:300]!r})") from error
                time.sleep(float(error.headers.get("Retry-After", "1")))

    @staticmethod
    def _csrf(page: str) -> str:
        _, _, rest = page.partition('name="csrf" content="')
        return rest.partition('"')[0]
