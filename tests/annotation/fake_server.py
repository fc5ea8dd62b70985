"""TEMPORARY: a server that keeps the contract of the page and nothing else, until the real application is here.

It knows one person, who ranks the tasks in the order in which they are made.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jinja2
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from PIL import Image, ImageDraw

import hpskit
from served import MadeTask, Settings, Stored

ROOM = next(iter(hpskit.__path__)) + "/annotation"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAINT = [(10, 95, 165), (178, 74, 0), (0, 119, 90), (147, 50, 109), (109, 96, 0), (75, 79, 179)]


def paint(task: MadeTask, position: int) -> bytes:
    width, height = task.sizes[position]
    image = Image.new("RGB", (width, height), PAINT[position % 6])
    draw = ImageDraw.Draw(image)
    draw.rectangle((4, 4, width - 5, height - 5), outline="white", width=3)
    draw.text((width / 2, height / 2), str(position + 1), fill="white", font_size=min(width, height) * 0.6, anchor="mm")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Refused(Exception):  # noqa: N818
    def __init__(self, status: int, message: str, **more: Any) -> None:
        error = {"place": "", "found": "", "expected": "", "cure": "", "message": message}
        self.answer = JSONResponse({"error": error, **more}, status)


@dataclass
class Lease:
    task: int
    name: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    ends: float = 0.0
    draft: dict[str, Any] | None = None
    vote: dict[str, Any] | None = None
    seen: bool = False
    gone: bool = False
    skipped: str = ""


@dataclass
class FakeServer:
    made: list[MadeTask]
    settings: Settings
    paint: Callable[[MadeTask, int], bytes] = paint
    url: str = ""
    leases: list[Lease] = field(default_factory=list)
    order: list[Stored] = field(default_factory=list)
    cookie: str = ""
    csrf: str = ""

    @property
    def link(self) -> str:
        return f"{self.url}/join/person"

    def votes(self) -> list[Stored]:
        return list(self.order)

    def draft(self, task: int) -> dict[str, Any] | None:
        return next((lease.draft for lease in self.leases if lease.task == task), None)

    def seen(self) -> list[int]:
        return [lease.task for lease in self.leases if lease.seen]

    def skipped(self) -> list[tuple[int, str]]:
        return [(lease.task, lease.skipped) for lease in self.leases if lease.skipped]

    def end_session(self) -> None:
        self.cookie = ""

    def give_away(self, task: int) -> None:
        next(lease for lease in self.leases if lease.task == task).gone = True

    # What the routes do

    def find(self, name: str) -> Lease:
        for lease in self.leases:
            if lease.name == name:
                return lease
        raise Refused(404, "there is no such assignment")

    def next(self, holding: list[str]) -> dict[str, Any]:
        open_ones = [lease for lease in self.leases if not (lease.vote or lease.gone or lease.skipped)]
        lease = next((lease for lease in open_ones if lease.name not in holding), None)
        if lease is None:
            taken = {lease.task for lease in self.leases}
            task = next((task for task in range(len(self.made)) if task not in taken), None)
            if task is None:
                more = {"reason": "wait", "seconds": 90} if open_ones else {"reason": "done"}
                return {"task": None, "text": "There is nothing left to rank.", **more}
            lease = Lease(task)
            self.leases.append(lease)
        lease.ends = time.monotonic() + self.settings.lease_seconds
        return {"task": self.shape(lease)}

    def shape(self, lease: Lease) -> dict[str, Any]:
        task, settings = self.made[lease.task], self.settings
        images = [{"position": k, "url": f"/images/{lease.name}/{k}", "width": width, "height": height}
                  for k, (width, height) in enumerate(task.sizes)]  # fmt: skip
        return {
            "assignment": lease.name, "mode": task.mode, "practice": task.practice, "prompt": task.prompt,
            "images": images,
            "ties": settings.ties, "partial": settings.partial, "none": settings.none, "ratings": settings.ratings,
            "flags": list(settings.flags), "skip_reasons": ["cannot see the images", "the prompt makes no sense"],
            "skips_left": settings.skips - len(self.skipped()), "draft": lease.draft, "vote": lease.vote,
            "expires_in": settings.lease_seconds,
        }  # fmt: skip

    def keep_draft(self, lease: Lease, body: dict[str, Any]) -> dict[str, Any]:
        if lease.gone or lease.vote:
            raise Refused(409, "the assignment has ended")
        if lease.draft and body["version"] <= lease.draft["version"]:
            raise Refused(409, "the draft is not newer", **lease.draft)
        lease.draft = {"version": body["version"], "answer": body["answer"]}
        return {"version": body["version"]}

    def keep_vote(self, vote: str, body: dict[str, Any]) -> dict[str, Any]:
        lease = self.find(body["assignment"])
        self.check(lease, body["answer"])
        had = lease.vote
        if had and had["id"] != vote:
            raise Refused(409, "the task has been answered already")
        if had and body["revision"] == had["revision"] and body["answer"] != had["answer"]:
            raise Refused(409, "this revision is another answer")
        if had is None or body["revision"] == had["revision"] + 1:
            lease.vote = {"id": vote, "revision": body["revision"], "answer": body["answer"]}
            stored = Stored(vote=vote, task=lease.task, revision=body["revision"], answer=body["answer"],
                            active_seconds=body["active_seconds"], late=lease.gone)  # fmt: skip
            places = [k for k, other in enumerate(self.order) if other.vote == vote]
            if places:
                self.order[places[0]] = stored
            else:
                self.order.append(stored)
        said = {"stored": True, "vote": vote, "revision": body["revision"], "done": len(self.order), "practice": None}
        if self.made[lease.task].practice:
            left = sum(task.practice for task in self.made[lease.task + 1 :])
            said["practice"] = {"score": 5 / 6, "passed": None if left else True, "left": left, "agreed": 5, "pairs": 6}
        return said | ({"late": True} if lease.gone else {})

    def check(self, lease: Lease, answer: dict[str, Any]) -> None:
        count = len(self.made[lease.task].sizes)
        flat = [position for tier in answer["tiers"] for position in tier]
        good = len(flat) == len(set(flat)) and all(position in range(count) for position in flat)
        good = good and (bool(flat) or answer["none"])
        good = good and (len(flat) in (0, count) or self.settings.partial)
        good = good and (self.settings.ties or all(len(tier) == 1 for tier in answer["tiers"]))
        if not good:
            raise Refused(400, f"not an answer: {answer['tiers']}")

    def history(self) -> dict[str, Any]:
        done = [lease for stored in reversed(self.order) for lease in self.leases if lease.task == stored.task][:5]
        return {"votes": [{"vote": lease.vote["id"], "assignment": lease.name, "prompt": self.made[lease.task].prompt,
                           "changeable": True} for lease in done if lease.vote]}  # fmt: skip


def build(server: FakeServer) -> FastAPI:
    app = FastAPI()
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(f"{ROOM}/templates"), autoescape=True)

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        path = request.url.path
        inside = request.cookies.get("session") == server.cookie != ""
        if path.startswith("/api") and not inside:
            response: Response = Refused(401, "no session").answer
        elif path.startswith("/api") and request.method != "GET" and request.headers.get("x-csrf-token") != server.csrf:
            response = Refused(403, "forged").answer
        else:
            try:
                response = await call_next(request)
            except Refused as refused:
                response = refused.answer
        response.headers["Content-Security-Policy"] = POLICY
        response.headers.setdefault(
            "Cache-Control", "private, max-age=600" if path.startswith("/images") else "no-store"
        )
        return response

    def page(name: str, **variables: Any) -> HTMLResponse:
        common = {"project": "Which image is better?", "csrf": server.csrf, "person": "p1", "rules": server.settings}
        return HTMLResponse(pages.get_template(name).render(common | variables))

    add_api(app, server)

    @app.get("/join/person")
    def join() -> Response:
        server.cookie, server.csrf = secrets.token_hex(8), secrets.token_hex(8)
        response = RedirectResponse("/", 303)
        response.set_cookie("session", server.cookie, httponly=True)
        return response

    app.get("/")(lambda: page("work.html"))
    app.get("/instructions")(
        lambda: page("instructions.html", instructions="<p>Look at the prompt first.</p>", begin="/")
    )

    @app.get("/images/{name}/{position}")
    async def image(name: str, position: int) -> Response:
        return Response(server.paint(server.made[server.find(name).task], position), media_type="image/png")

    app.mount("/static", StaticFiles(directory=f"{ROOM}/static"))
    return app


def add_api(app: FastAPI, server: FakeServer) -> None:
    app.get("/api/me")(lambda: {"state": "work", "done": len(server.order), "wanted": 100, "name": "A"})
    app.get("/api/history")(server.history)

    @app.post("/api/next")
    async def following(request: Request) -> Any:
        return server.next((await request.json())["holding"])

    @app.get("/api/assignments/{name}")
    async def again(name: str) -> Any:
        return {"task": server.shape(server.find(name))}

    @app.post("/api/assignments/{name}/seen", status_code=204)
    async def seen(name: str) -> None:
        lease = server.find(name)
        if lease.gone:
            raise Refused(409, "the lease has ended")
        lease.seen = True

    @app.put("/api/assignments/{name}/draft")
    async def draft(name: str, request: Request) -> Any:
        return server.keep_draft(server.find(name), await request.json())

    @app.put("/api/votes/{vote}")
    async def vote(vote: str, request: Request) -> Any:
        return server.keep_vote(vote, await request.json())

    @app.post("/api/assignments/{name}/skip")
    async def skip(name: str, request: Request) -> Any:
        server.find(name).skipped = (await request.json())["reason"]
        return {"skips_left": server.settings.skips - len(server.skipped())}


@contextmanager
def running(made: list[MadeTask], settings: Settings, **more: Any) -> Iterator[FakeServer]:
    server = FakeServer(made, settings, **more)
    http = uvicorn.Server(uvicorn.Config(build(server), port=0, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=http.run, daemon=True)
    thread.start()
    while not http.started:
        time.sleep(0.01)
    server.url = f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
    yield server
    http.should_exit = True
    thread.join()
