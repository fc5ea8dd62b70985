"""Routes of the scoring server, the checks that every request passes, keys, figures and the log."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from hpskit import __version__
from hpskit.errors import HpskitError, InputError, ModelError
from hpskit.files import publish
from hpskit.pages import page as house
from hpskit.pages.page import environment
from hpskit.scoring.ranking import ranked, win_probability
from hpskit.serving.batching import BusyError, Job, Limits, Outcome, Scoring, pixels_of
from hpskit.serving.models import Models
from hpskit.serving.reading import Asked, Body, bring, read
from hpskit.web import RefusedError, bounded, fields_of, install, refused, secured

_LOG = logging.getLogger("hpskit.serving")
T = TypeVar("T")
_BODY_SECONDS = 60.0
"""Seconds that a body may take to arrive, and then the images at its addresses."""
_OPEN = ("/", "/docs", "/openapi.json", "/health", "/ready")
"""What is told without a key, beside the page's own files; docs/serving.md says why."""


# Keys


def new_key(path: Path, name: str) -> str:
    """Make a key of somebody, and add its hash to a file; return the key, which is kept nowhere.

    Raises:
        InputError: the name is taken or no name, or the file is no file of keys.
        OutputError: the file cannot be written.
    """
    keys = read_keys(path) if path.exists() else {}
    if name in keys.values() or not name.isprintable() or not name.strip() or " " in name:
        raise InputError("--new-key", f"is {name!r}", expected="a name without spaces that has no key yet")
    key = secrets.token_urlsafe(24)
    lines = [f"{digest} {who}\n" for digest, who in {**keys, hashed(key): name}.items()]
    with publish(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return key


def read_keys(path: Path) -> dict[str, str]:
    """Read a file of keys, `SHA-256 NAME` on each line: names by hash.

    Raises:
        InputError: it is something else, or cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        cure = "make one with --new-key NAME"
        raise InputError(path, f"cannot be read ({getattr(error, 'strerror', '') or error})", cure=cure) from error
    found = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition(" ")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef") or not name:
            expected, cure = "64 hex digits and a name", "make keys with --new-key NAME"
            raise InputError(f"{path}: line {number}", "is no hash of a key", expected=expected, cure=cure)
        found[digest] = name
    return found


def hashed(key: str) -> str:
    """Return what is kept of a key. It holds 192 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


# What a running server has


class Server:
    """State of a running server."""

    def __init__(self, models: Models, limits: Limits, *, keys: Mapping[str, str] | None = None, urls: bool = False):
        self.models, self.limits, self.keys, self.urls = models, limits, keys, urls
        self.registry = CollectorRegistry()
        self._replies = Counter("hpskit_requests", "Answered requests.", ["route", "status"], registry=self.registry)
        self._images = Counter("hpskit_images", "Images by outcome.", ["model", "outcome"], registry=self.registry)
        buckets = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
        self._took = Histogram("hpskit_request_seconds", "From the request's head to its answer.", ["route"],
                               buckets=buckets, registry=self.registry)  # fmt: skip
        self._step = Histogram("hpskit_step_images", "Images that count in a step of the network.", ["model"],
                               buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry)  # fmt: skip
        self._busy = Counter("hpskit_scoring_seconds", "Time in the network.", ["model"], registry=self.registry)
        self.scoring = Scoring(models, limits, stepped=self._stepped)
        self.requests = self.bodies = 0
        """Requests at work, and the bytes of their bodies; the event loop alone changes them."""
        self.draining = False
        self.readers = ThreadPoolExecutor(2, thread_name_prefix="hpskit-read")
        self.fetching = asyncio.Semaphore(8)
        """Addresses that are read at a time: each may hold 50 MB."""
        for name, help_, value in (
            ("hpskit_requests_at_work", "Requests let in and not answered yet.", lambda: self.requests),
            ("hpskit_body_bytes_at_work", "Bytes of their bodies.", lambda: self.bodies),
            ("hpskit_images_at_work", "Images let in and not scored yet.", lambda: self.scoring.at_work[0]),
            ("hpskit_pixels_at_work", "Their pixels.", lambda: self.scoring.at_work[1]),
            ("hpskit_wait_seconds", "Until what is at work will be done, about.", lambda: self.scoring.wait),
        ):
            Gauge(name, help_, registry=self.registry).set_function(value)

    @staticmethod
    def of(request: Request) -> Server:
        """Return the server that a request came to."""
        found: Server = request.app.state.server
        return found

    def _stepped(self, model: str, count: int, seconds: float) -> None:
        self._step.labels(model).observe(count)
        self._busy.labels(model).inc(seconds)

    def count(self, model: str, outcomes: list[Outcome]) -> None:
        """Count the outcomes of a request."""
        failed = sum(not isinstance(outcome, float) for outcome in outcomes)
        self._images.labels(model, "error").inc(failed)
        self._images.labels(model, "score").inc(len(outcomes) - failed)

    def told(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log a request that is over: neither images, nor texts, nor keys."""
        route = getattr(scope.get("route"), "path", "other")
        self._replies.labels(route, str(status)).inc()
        self._took.labels(route).observe(seconds)
        line = {"route": route, "status": status, "ms": round(1000 * seconds, 1), **scope.get("hpskit.log", {})}
        _LOG.info("%s", json.dumps({"time": round(time.time(), 3), **line}))

    def refusal(self, scope: Scope) -> Response | None:
        """Tell why a request to score is not let in; None if it is."""
        headers = dict(scope["headers"])
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            return refused(403, "Sec-Fetch-Site", "says that another site sent the request")
        if (reply := self.stranger(scope)) is not None:
            return reply
        length = headers.get(b"content-length", b"").decode("latin-1")
        if b"transfer-encoding" in headers:  # whose bytes nobody has announced
            return refused(411, "Transfer-Encoding", "is not taken", expected="a body with its Content-Length")
        if not length.isascii() or not length.isdecimal() or len(length) > 15:
            return refused(411, "Content-Length", "is missing", expected="the bytes of the body")
        if int(length) > self.limits.body:
            return refused(413, "body", f"has {int(length):,} bytes", expected=f"at most {self.limits.body:,}",
                           cure="send fewer images at a time")  # fmt: skip
        if self.draining:
            return busy(BusyError("is about to end", 1.0, status=503))
        if self.requests >= self.limits.requests or self.bodies + int(length) > self.limits.bodies:
            return busy(BusyError("has no room for more requests", self.scoring.wait / 2))
        return None

    def stranger(self, scope: Scope) -> Response | None:
        """Refuse whoever has no key, where one is needed."""
        if self.keys is None:
            return None
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        kind, _, key = header.partition(" ")
        name = self.keys.get(hashed(key.strip())) if kind.lower() == "bearer" else None
        if name is None:
            reply = refused(401, "Authorization", "has no key of this server", expected="Bearer KEY")
            reply.headers["WWW-Authenticate"] = "Bearer"
            return reply
        scope.setdefault("hpskit.log", {})["key"] = name
        return None


def busy(error: BusyError) -> Response:
    """Make the reply to somebody who may come again."""
    reply = refused(error.status, error.place, error.found, cure=error.cure, retry_after=round(error.seconds, 3))
    reply.headers["Retry-After"] = str(math.ceil(error.seconds))
    return reply


def refusal_of(error: HpskitError) -> Response:
    """Make the reply that an error of ours is."""
    if isinstance(error, BusyError):
        return busy(error)
    status = error.status if isinstance(error, RefusedError) else 500 if isinstance(error, ModelError) else 400
    return refused(status, error.place, error.found, expected=error.expected, cure=error.cure)


class Guard:
    """Lets requests in or refuses them, counts those at work, logs what is over, and secures every reply."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        server, begun, statuses = self.server, time.monotonic(), list[int]()
        scope["hpskit.begun"] = begun
        sending = secured(send, statuses.append)
        scores = scope["method"] == "POST"
        if scores:
            reply = server.refusal(scope)
        else:
            free = scope["path"] in _OPEN or scope["path"].startswith("/static/")
            reply = None if free else server.stranger(scope)
        if reply is not None:
            if reply.status_code in (429, 503):
                await swallow(receive)  # else whoever still sends would see a broken connection and not the reply
            await reply(scope, receive, sending)
            server.told(scope, reply.status_code, time.monotonic() - begun)
            return
        size = int(dict(scope["headers"]).get(b"content-length", b"0") or 0) if scores else 0
        server.requests += scores
        server.bodies += size
        try:
            await self.app(scope, bounded(receive, server.limits.body), sending)
        except ClientDisconnect:
            statuses.append(499)
        except asyncio.CancelledError:  # what was let in has taken longer than the end allows
            if not statuses:
                await busy(BusyError("has ended", 1.0, status=503))(scope, receive, sending)
        except Exception:  # noqa: BLE001  # a fault of ours: told to nobody but the log
            _LOG.exception("a request failed")
            if not statuses:
                await refused(500, "server", "failed", cure="tell the people who run it")(scope, receive, sending)
        finally:
            server.requests -= scores
            server.bodies -= size
            server.told(scope, statuses[0] if statuses else 499, time.monotonic() - begun)


async def swallow(receive: Receive) -> None:
    """Read a body that nobody wants, and keep none of it, until the server ends."""
    with contextlib.suppress(TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(_BODY_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass


# Routes


class Item(BaseModel):
    """The outcome of one image: a score, or an error."""

    score: float | None = None
    error: dict[str, str] | None = None


class Scores(BaseModel):
    """Outcomes in the order of the images."""

    model: str
    identity: str
    results: list[Item]


class Line(BaseModel):
    """One line of a ranking."""

    rank: int
    index: int
    score: float
    probability: float | None


class Rankings(BaseModel):
    """Images of one prompt, best first."""

    model: str
    identity: str
    prompt: str
    ranking: list[Line]


class Comparison(BaseModel):
    """Two images of one prompt."""

    model: str
    identity: str
    scores: list[float]
    win_probability: float | None


class Refusal(BaseModel):
    """Why a request was refused."""

    error: dict[str, str]
    retry_after: float | None = None


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "The request is not as described.", 401: "A key is missing.", 403: "Another site sent it.",
        404: "No such model.", 408: "The body did not arrive in time.", 411: "The length of the body is missing.",
        413: "Too large.", 415: "Neither JSON nor a form.", 429: "The queue is full, or slower than the deadline.",
        500: "The model failed.", 503: "The server is about to end.", 504: "The deadline is over.",
    }.items()
}  # fmt: skip


def _described() -> dict[str, Any]:
    form = {
        "type": "object",
        "required": ["prompt", "images"],
        "properties": {
            "prompt": {"type": "string", "description": "The text; repeat for one for each image."},
            "images": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
            "model": {"type": "string"},
            "deadline": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
        },
    }
    content = {"application/json": {"schema": Body.model_json_schema()}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


async def body_of(request: Request, reader: Callable[[bytes], T]) -> T:
    """Read a body that arrives in time; `reader` has a thread, so that others are answered meanwhile.

    Raises:
        RefusedError: it does not.
    """
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            data = await request.body()
    except TimeoutError:
        raise RefusedError(408, "body", f"did not arrive in {_BODY_SECONDS:.0f} s") from None
    return await asyncio.get_running_loop().run_in_executor(Server.of(request).readers, reader, data)


async def asked(request: Request) -> Asked:
    """Read what a request wants; images at addresses are brought.

    Raises:
        InputError: it is not as described.
    """
    server = Server.of(request)
    found = await body_of(request, partial(read, request.headers, server.limits.images))
    found.until = request.scope["hpskit.begun"] + found.deadline
    if found.addresses:
        if not server.urls:
            closed, cure = "are addresses, which this server does not open", "send files, or start it with --allow-urls"
            raise RefusedError(400, "images", closed, cure=cure)
        check_count(server, len(found.images))
        until = min(found.until, time.monotonic() + _BODY_SECONDS)
        await bring(found, server.fetching, server.limits.body, until)
    return found


def check_count(server: Server, count: int) -> None:
    """Refuse more images than the queue can ever hold, broken ones counted."""
    if count > server.limits.images:
        expected = f"at most {server.limits.images:,}"
        raise RefusedError(413, "images", f"are {count:,}", expected=expected, cure="send fewer at a time")


async def outcomes_of(request: Request, wanted: Asked) -> tuple[str, list[Outcome]]:
    """Score what a request wants: the model's name, and the outcome of each image.

    Raises:
        RefusedError: there is no such model, no room, or the deadline is over.
    """
    server = Server.of(request)
    model = server.models.named(wanted.model)
    check_count(server, len(wanted.images))
    images, pixels = await asyncio.get_running_loop().run_in_executor(server.readers, pixels_of, wanted.images)
    log = request.scope.setdefault("hpskit.log", {})
    log.update(model=model, images=len(images), pixels=sum(pixels))
    job = server.scoring.submit(model, images, wanted.prompts, pixels, until=wanted.until)
    outcomes = await _while_wanted(request, job)
    server.count(model, outcomes)
    for outcome in outcomes:
        if isinstance(outcome, RefusedError):
            raise RefusedError(outcome.status, outcome.place, outcome.found, cure=outcome.cure)
    return model, outcomes


async def _while_wanted(request: Request, job: Job) -> list[Outcome]:
    """Wait for a job, and let go of it if its client goes away."""
    done = asyncio.wrap_future(job.done)
    if not done.done():
        gone = asyncio.ensure_future(request.receive())  # the body is read: what comes now is the end
        try:
            both: set[asyncio.Future[Any]] = {done, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            job.gone = not done.done()
            gone.cancel()
        if job.gone:
            raise ClientDisconnect
    return done.result()


def scores_of(outcomes: list[Outcome]) -> list[float]:
    """Return scores, if there is one for every image.

    Raises:
        HpskitError: the first image that has none.
    """
    for outcome in outcomes:
        if not isinstance(outcome, float):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, float)]


async def score(request: Request) -> Response:
    """Score each image for its prompt. An image that cannot be scored has an error in its place."""
    model, outcomes = await outcomes_of(request, await asked(request))
    if all(isinstance(outcome, ModelError) for outcome in outcomes):
        scores_of(outcomes)  # no image is to blame
    results = [{"score": o} if isinstance(o, float) else {"error": fields_of(o)} for o in outcomes]
    identity = Server.of(request).models.facts[model].info.identity
    return JSONResponse({"model": model, "identity": identity, "results": results})


async def rank(request: Request) -> Response:
    """Rank images of one prompt, best first, with the modelled chance that people like each best."""
    wanted = await asked(request)
    if len(set(wanted.prompts)) > 1:
        raise InputError("prompt", "has several texts", expected="one: a ranking is of one prompt")
    model, outcomes = await outcomes_of(request, wanted)
    facts = Server.of(request).models.facts[model]
    lines = ranked([str(n) for n in range(len(outcomes))], scores_of(outcomes), facts.log_odds_per_point)
    ranking = [
        {"rank": line.rank, "index": int(line.image), "score": line.score, "probability": line.probability}
        for line in lines
    ]
    said = {"model": model, "identity": facts.info.identity, "prompt": wanted.prompts[0], "ranking": ranking}
    return JSONResponse(said)


async def compare(request: Request) -> Response:
    """Compare two images of one prompt: the modelled probability that people prefer the first."""
    wanted = await asked(request)
    if len(wanted.images) != 2:
        raise InputError("images", f"are {len(wanted.images)}", expected="two")
    if len(set(wanted.prompts)) > 1:
        raise InputError("prompt", "has several texts", expected="one: a comparison is of one prompt")
    model, outcomes = await outcomes_of(request, wanted)
    facts, scores = Server.of(request).models.facts[model], scores_of(outcomes)
    odds = facts.log_odds_per_point
    chance = None if odds is None else win_probability(scores[0], scores[1], odds)
    return JSONResponse({"model": model, "identity": facts.info.identity, "scores": scores, "win_probability": chance})


def models(request: Request) -> dict[str, Any]:
    """List the scorers that are served, the default first."""
    server = Server.of(request)
    return {
        "models": [
            {
                "name": name,
                "loaded": name in server.models.loaded,
                "reads_prompt": facts.reads_prompt,
                "log_odds_per_point": facts.log_odds_per_point,
                "images_per_step": facts.batch_size,
                "batch_invariant": facts.equal,
                "weight_bytes": facts.size,
                "scorer": facts.info.to_json(),
            }
            for name, facts in server.models.facts.items()
        ],
        "urls": server.urls,
    }


def health(request: Request) -> Response:
    """Tell whether images are being finished; if not, it is time to start the server again."""
    server = Server.of(request)
    if reason := server.scoring.illness():
        return JSONResponse({"status": "ill", "reason": reason}, 503)
    return JSONResponse({"status": "ok", "images_at_work": server.scoring.at_work[0]})


def ready(request: Request) -> Response:
    """Tell whether requests are welcome: not while the server ends."""
    server = Server.of(request)
    state = "draining" if server.draining else "ill" if server.scoring.illness() else "ready"
    return JSONResponse({"status": state}, 200 if state == "ready" else 503)


def metrics(request: Request) -> Response:
    """Figures in the text format of Prometheus."""
    return Response(generate_latest(Server.of(request).registry), media_type="text/plain; version=0.0.4; charset=utf-8")


def home(request: Request) -> Response:
    """Show a page that ranks images."""
    server = Server.of(request)
    template = environment("hpskit.serving").get_template("serve.html")
    return HTMLResponse(template.render(models=server.models.facts, keyed=server.keys is not None, version=__version__))


def docs(request: Request) -> Response:
    """Show the interface on a page that loads nothing from elsewhere."""
    template = environment("hpskit.serving").get_template("docs.html")
    return HTMLResponse(template.render(api=request.app.openapi(), base=str(request.base_url)))


def create_app(server: Server, *, wires: Callable[[FastAPI], None] | None = None) -> FastAPI:
    """Make the application of a server; `wires` adds the protocols of others."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        server.scoring.close()
        server.readers.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="hpskit serve", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.server = server
    install(app, refusal_of)
    for path, route, model in (("score", score, Scores), ("rank", rank, Rankings), ("compare", compare, Comparison)):
        app.add_api_route(f"/v1/{path}", route, methods=["POST"], response_model=model, responses=_REFUSALS,
                          openapi_extra=_described())  # fmt: skip
    app.add_api_route("/v1/models", models, methods=["GET"])
    for path, plain in (("/health", health), ("/ready", ready)):
        app.add_api_route(path, plain, methods=["GET"], responses={503: {"description": "It is not."}})
    app.add_api_route("/metrics", metrics, methods=["GET"], include_in_schema=False)
    app.add_api_route("/", home, methods=["GET"], include_in_schema=False)
    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    if wires is not None:
        wires(app)
    app.mount("/static/house", StaticFiles(directory=Path(house.__file__).parent / "templates"), name="house")
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_middleware(Guard, server=server)
    return app
