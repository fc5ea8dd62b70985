"""Attacks on the server: what somebody sends who is not a page of ours."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from itsdangerous import URLSafeSerializer
from PIL import Image
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hpskit.annotation import people, quality, votes
from hpskit.annotation.store import Store
from hpskit.annotation.tables import person, vote
from hpskit.annotation.web.access import COOKIE, Limiter
from small_project import Bench, Time, make
from visitor import Host, Visitor, hosted, token_of

Make = Callable[..., Host]
ABSENT = "A" * 22
ANSWER = {"tiers": [[0], [1], [2], [3]]}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Make]:
    """Make a project by its settings, and serve it."""
    with ExitStack() as stack:

        def made(*, limit: bool = False, **fields: Any) -> Host:
            clock = Time()
            project = make(tmp_path / "project", **fields)
            store = Store(project.database, clock=clock)
            stack.callback(store.close)
            return stack.enter_context(hosted(Bench(project, store, clock), limit=limit))

        yield made


def vote_of(task: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"assignment": task["assignment"], "revision": 1, "answer": ANSWER, "active_seconds": 2.0} | fields


def submit(who: Visitor, task: dict[str, Any], number: str = "", **fields: Any) -> Any:
    return who.put(f"/api/votes/{number or uuid.uuid4()}", vote_of(task, **fields))


# What the schema says, and what it does not

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def attack(host: Host, examples: int) -> int:
    """Send what the schema allows and what it forbids to every route, with a session; return how many requests."""
    who = host.person("ann")
    schema = schemathesis.openapi.from_asgi("/openapi.json", host.app)
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            own, task = str(uuid.uuid4()), who.next()

            @hypothesis_settings(
                max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
            )
            @given(operation.as_strategy(generation_mode=mode), st.booleans(), st.booleans())
            def send(case: Case, real: bool, signed: bool) -> None:
                nonlocal sent
                sent += 1
                if real:
                    case.path_parameters |= {"number": task["assignment"], "vote_id": own}  # noqa: B023
                    if isinstance(case.body, dict) and "assignment" in case.body:
                        case.body["assignment"] = task["assignment"]  # noqa: B023
                headers = {"X-CSRF-Token": who.csrf} if signed else {}
                reply = case.call(headers=headers, cookies={COOKIE: who.cookie})
                case.validate_response(reply, checks=CHECKS)

            try:
                send()
            except Unsatisfiable:  # nothing can be wrong in a request without parameters
                assert mode is GenerationMode.NEGATIVE
    host.bench.check()
    return sent


def test_no_request_is_a_fault_of_the_server(host: Make) -> None:
    assert attack(host(tasks=60, overlap=1, checks="off", skips=1000), 12) > 80


@pytest.mark.slow
def test_no_request_of_thousands_is_a_fault_of_the_server(host: Make) -> None:
    assert attack(host(tasks=3000, overlap=1, checks="off", skips=100_000), 400) > 3000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b'{"holding": ["\xed\xa0\x80"]}',
        b'{"holding": ["\\ud800"]}',
        b'{"\\ud800": 1}',
        b'{"holding": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"holding": NaN}',
        b'{"holding": [' + b"9" * 6000 + b"]}",
        b"[]",
        b'"holding"',
        b'{"holding": [], "role": "researcher"}',
        b'{"holding": ["' + ABSENT.encode() + b'"' + b', "AAAAAAAAAAAAAAAAAAAAAA"' * 10 + b"]}",
    ],
)
def test_bodies_that_are_none_are_refused(host: Make, body: bytes) -> None:
    who = host(tasks=1).person("ann")
    reply = who.ask("POST", "/api/next", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"place", "found", "expected", "cure", "message"}


@pytest.mark.parametrize(
    "change",
    [
        '"active_seconds": NaN',
        '"active_seconds": Infinity',
        '"active_seconds": -1',
        '"active_seconds": 1e400',
        f'"revision": {"9" * 40}',
        '"revision": 0',
        '"revision": 1.5',
        '"revision": "1"',
        '"revision": true',
        '"answer": {"tiers": [[99999999999999999999]]}',
        '"answer": {"tiers": [[-1], [0], [1], [2]]}',
        '"answer": {"tiers": [[0.5], [0], [1], [2]]}',
        '"answer": {"tiers": [[0], [1], [2], [3]], "flags": {"' + "9" * 5000 + '": ["broken"]}}',
        '"answer": {"tiers": [[0], [1], [2], [3]], "flags": {"\\ud800": ["broken"]}}',
        '"answer": {"tiers": [[0], [1], [2], [3]], "flags": {"0": ["\\u0000"]}}',
        '"answer": {"tiers": [[0], [1], [2], [3]], "ranks": [1, 2, 3, 4]}',
        '"person": 2',
    ],
)
def test_votes_that_are_none_are_refused_and_nothing_is_stored(host: Make, change: str) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    right = json.dumps(vote_of(who.next()))
    name = change.split(":")[0]
    kept = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in json.loads(right).items())
    body = "{" + ", ".join(part for part in (kept, change)) + "}" if name == '"person"' else changed(right, change)
    reply = who.ask("PUT", f"/api/votes/{uuid.uuid4()}", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert not made.bench.rows(vote)
    made.bench.check()


def changed(text: str, change: str) -> str:
    """Set one field, by text: what JSON libraries do not write."""
    fields = {key: json.dumps(value) for key, value in json.loads(text).items()}
    name, _, value = change.partition(":")
    fields[name.strip('"')] = value
    return "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"


@pytest.mark.parametrize("kind", ["length", "chunks", "lie", "odd"])
def test_large_bodies_are_refused(host: Make, kind: str) -> None:
    who = host(tasks=1).person("ann")

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 4096

    options: dict[str, Any] = {
        "length": {"content": b" " * 100_000},
        "chunks": {"content": chunks()},
        "lie": {"content": b"{}", "headers": {"Content-Length": "9" * 5000}},
        "odd": {"content": b"{}", "headers": {"Content-Length": "-5"}},
    }[kind]
    options["headers"] = {"Content-Type": "application/json"} | options.get("headers", {})
    assert who.ask("POST", "/api/next", **options).status_code == 413


@pytest.mark.parametrize(
    "body", [b"&".join(b"a=1" for _ in range(60)), b"csrf=\xff&agree=perhaps", b"%00=%zz", b"agree"]
)
def test_odd_forms_are_refused(host: Make, body: bytes) -> None:
    who = host(tasks=1).person("ann")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/consent", "/me/withdraw"):
        assert who.ask("POST", path, token=False, content=body, headers=kind).status_code == 403
        assert who.ask("POST", path, content=body, headers=kind).status_code in (400, 409)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert who.ask("POST", "/me/withdraw", content=b"--x\r\nnonsense", headers=broken).status_code == 400


@pytest.mark.parametrize("verb", ["DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "BREW"])
def test_other_verbs_do_nothing(host: Make, verb: str) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    number = who.next()["assignment"]
    for path in ("/", "/api/next", f"/api/assignments/{number}", f"/api/votes/{uuid.uuid4()}", f"/images/{number}/0"):
        assert who.ask(verb, path).status_code == 405
    made.bench.check()


# Paths

DOTS = ["%2e%2e", "..%2f..%2f", "..%5c..%5c", "%2e%2e%2f%2e%2e%2fproject.toml", "....//", "%00", "%ff"]


ELSEWHERE = ["/etc/passwd", "%2fetc%2fpasswd", "C:%5cwindows", "~root", "file:%2f%2f", "é" * 22]


@pytest.mark.parametrize("dots", [*DOTS, *ELSEWHERE])
def test_paths_lead_nowhere(host: Make, dots: str) -> None:
    who = host(tasks=1).person("ann")
    number = who.next()["assignment"]
    for path in (
        f"/static/{dots}/annotation.sqlite",
        f"/static/{dots}/app.py",
        f"/images/{dots}/0",
        f"/images/{number}/{dots}",
        f"/images/{number}/0/{dots}",
        f"/api/assignments/{dots}",
        f"/join/{dots}",
        f"/panel/{dots}",
        f"/{dots}/project.toml",
    ):
        reply = who.get(path)
        assert reply.status_code in (307, 400, 404), path
        assert b"SQLite" not in reply.content
        assert b"root:" not in reply.content


def test_redirects_stay_here_whatever_host_is_named(host: Make) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    for name in ("evil.example", "evil.example:80", "a b", "localhost@evil.example", ""):
        for path in ("/", "/api/me/", "/static", "/join/x/", "/instructions/", "//evil.example/"):
            reply = who.get(path, headers={"Host": name, "X-Forwarded-Host": "evil.example", "X-Original-URL": "/lead"})
            assert "evil" not in str(reply.headers)
            assert b"evil" not in reply.content
    link = people.invite(made.bench.store, ["bob"])["bob"]
    assert made.visitor().get(f"/join/{link}", headers={"Host": "evil.example"}).headers["Location"] == "/"


# Sessions


def test_cookies_that_are_not_ours_are_nobodys(host: Make) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    right = who.cookie
    assert who.get("/api/me").status_code == 200
    forged = URLSafeSerializer("0" * 64, salt="session").dumps([1, 0])
    other_salt = URLSafeSerializer(str(made.bench.store.setting("key")), salt="itsdangerous").dumps([1, 0])
    # the last character holds four bits: B at the end would be what A is
    wrong = [right[:-1], right[1:], right[:-1] + "AQ"[right[-1] == "A"], right.split(".")[0], forged, other_salt]
    wrong += ["", ".", "null", "WzEsMF0.", right + "x", right.swapcase(), "é", "%00", "[1, 0]", "a" * 8000]
    for cookie in wrong:
        stranger = made.visitor()
        reply = stranger.get("/api/me", headers={"Cookie": f"{COOKIE}={cookie}".encode("latin-1")})
        assert reply.status_code == 401, cookie
        reply = stranger.post("/api/next", {}, headers={"Cookie": f"{COOKIE}={cookie}".encode("latin-1")})
        assert reply.status_code == 401, cookie


def test_a_new_link_ends_all_sessions_of_the_old_one(host: Make) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    old = people.invite(made.bench.store, ["ann"])["ann"]
    new = people.invite(made.bench.store, ["ann"])["ann"]
    assert who.get("/api/me").status_code == 401
    assert made.visitor().get(f"/join/{old}").status_code == 404
    again = made.visitor()
    assert again.get(f"/join/{new}").status_code == 303
    assert again.get("/api/me").json()["name"] == "ann"


def test_who_has_withdrawn_has_no_session(host: Make) -> None:
    made = host(tasks=2)
    who = made.person("ann")
    task = who.next()
    before = who.cookie
    assert who.post("/me/withdraw").status_code == 400
    assert who.ask("POST", "/me/withdraw", data={"confirm": "yes"}).status_code == 200
    late = made.visitor()
    cookie = {"Cookie": f"{COOKIE}={before}"}
    assert late.get("/api/me", headers=cookie).status_code == 401
    assert late.put(f"/api/votes/{uuid.uuid4()}", vote_of(task), headers=cookie).status_code == 401
    assert not made.bench.rows(vote)
    made.bench.check()


def test_cookies_are_kept_from_scripts_and_other_sites(host: Make) -> None:
    made = host(tasks=1)
    link = people.invite(made.bench.store, ["ann"])["ann"]
    said = made.visitor().get(f"/join/{link}").headers["Set-Cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/"} <= set(said.split("; "))
    assert "secure" not in said
    assert "secure" in made.visitor(base_url="https://rank.example").get(f"/join/{link}").headers["Set-Cookie"].lower()


CHANGES = [
    ("POST", "/api/next", {"holding": []}),
    ("POST", "/api/assignments/{a}/seen", None),
    ("PUT", "/api/assignments/{a}/draft", {"version": 1, "answer": ANSWER}),
    ("PUT", "/api/votes/{v}", {"assignment": "{a}", "revision": 1, "answer": ANSWER}),
    ("POST", "/api/assignments/{a}/skip", {"reason": "cannot judge this"}),
    ("POST", "/consent", None),
    ("POST", "/me/withdraw", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_no_other_site_can_change_anything(host: Make, method: str, path: str, body: Any) -> None:
    made = host(tasks=2)
    who, other = made.person("ann"), made.person("bob")
    number = who.next()["assignment"]
    before = made.bench.rows(person), made.bench.rows(vote), made.bench.assignment(number)
    path = path.format(a=number, v=uuid.uuid4())
    body = json.loads(json.dumps(body).replace("{a}", number))
    for headers in (
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": other.csrf},
        {"X-CSRF-Token": who.csrf[:-1]},
        {"X-CSRF-Token": "\xff".encode("latin-1")},
        {"X-CSRF-Token": who.csrf, "Sec-Fetch-Site": "cross-site"},
        {"X-CSRF-Token": who.csrf, "Sec-Fetch-Site": "same-site"},
    ):
        assert who.ask(method, path, token=False, json=body, headers=headers).status_code == 403
    assert made.visitor().ask(method, path, json=body).status_code == 401
    assert before == (made.bench.rows(person), made.bench.rows(vote), made.bench.assignment(number))


# Others'


def test_what_is_somebody_elses_cannot_be_told_from_what_is_not_there(host: Make) -> None:
    made = host(tasks=4)
    ann, bob = made.person("ann"), made.person("bob")
    task, own = ann.next(), str(uuid.uuid4())
    assert submit(ann, task, own).status_code == 200
    bobs = bob.next()
    for path, method, body in (
        ("/api/assignments/{}", "GET", None),
        ("/images/{}/0", "GET", None),
        ("/api/assignments/{}/seen", "POST", None),
        ("/api/assignments/{}/draft", "PUT", {"version": 1, "answer": ANSWER}),
        ("/api/assignments/{}/skip", "POST", {"reason": "cannot judge this"}),
    ):
        there, absent = (bob.ask(method, path.format(a), json=body) for a in (task["assignment"], ABSENT))
        assert (there.status_code, there.content) == (absent.status_code, absent.content) == (404, absent.content)
    there = submit(bob, task)
    absent = submit(bob, {"assignment": ABSENT})
    assert (there.status_code, there.content) == (404, absent.content)
    assert own not in bob.get("/api/history").text
    taken = submit(bob, bobs, own, revision=2)
    assert taken.status_code == 409
    assert set(taken.json()) == {"error"}
    made.bench.check()


def test_nobody_raises_their_role_or_state(host: Make) -> None:
    made = host(tasks=2)
    who = made.person("ann")
    for path in ("/lead", "/lead/people", "/inspect", "/lead/../lead", "/LEAD", "/lead;x", "/admin", "/docs", "/redoc"):
        assert who.get(path).status_code == 404
        assert made.visitor().get(path).status_code in (401, 404)
    for state in ("paused", "rejected", "finished"):
        with made.bench.store.write() as connection:
            people.set_state(connection, 0.0, "test", made.bench.who("ann"), state, "because")  # type: ignore[arg-type]
        for agree in ("no", "yes"):
            who.ask("POST", "/consent", data={"agree": agree})
        who.get("/")
        assert who.post("/api/next", {"holding": []}).json()["task"] is None
        assert made.bench.who("ann").state == state
    assert who.post("/api/next", {"holding": [], "state": "work"}).status_code == 400
    assert made.bench.who("ann").role == "annotator"


# Rates


def test_too_many_requests_wait(host: Make) -> None:
    made = host(tasks=1, limit=True)
    who, other = made.person("ann"), made.person("bob")
    server = made.app.state.server
    assert (server.limiter is not None, server.doors is not None) == (True, True)
    server.limiter, server.doors = (Limiter(burst=5, each_second=0.1, clock=lambda: 0.0) for _ in range(2))
    replies = [who.get("/api/me") for _ in range(7)]
    assert [reply.status_code for reply in replies] == [200] * 5 + [429] * 2
    assert replies[-1].headers["Retry-After"] == "11"
    assert other.get("/api/me").status_code == 200  # somebody else at the same address
    strangers = [made.visitor().get("/join/x").status_code for _ in range(7)]
    assert strangers == [404] * 5 + [429] * 2
    assert who.get("/images/x/0").status_code == 429
    assert who.get("/static/annotate.css").status_code == 200


def test_a_bucket_fills_again_and_few_are_remembered() -> None:
    now = [0.0]
    limiter = Limiter(burst=3, each_second=2, clients=2, clock=lambda: now[0])
    assert [limiter.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert [limiter.wait("a"), limiter.wait("a")] == [0, 0.5]
    for client in ("b", "c"):
        limiter.wait(client)
    assert limiter.wait("a") == 0  # forgotten


# Texts

SCRIPT = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{7*7}}"


def test_texts_of_others_are_text(host: Make) -> None:
    name = f"{SCRIPT[:60]}"
    made = host(tasks=2, name=name, flags=(SCRIPT[:90],), skip_reasons=(SCRIPT[:90],), gold=1, practice_tasks=0)
    for file in ("instructions.md", "consent.md"):
        (made.bench.project.folder / file).write_text(
            f"# {SCRIPT}\n\n{SCRIPT}\n\n- {SCRIPT}\n\n[x](javascript:alert(1))"
        )
    who = made.person(SCRIPT)
    task = who.next()
    number = str(uuid.uuid4())
    assert submit(who, task, number).status_code == 200
    votes.return_vote(made.bench.store, number, SCRIPT, made.bench.settings, who=SCRIPT)
    for path in (
        "/",
        "/instructions",
        "/me",
        "/join/x",
        f"/join/{SCRIPT}",
        "/api/me",
        "/api/history",
        "/nope/" + SCRIPT,
    ):
        reply = who.get(path)
        if reply.headers["Content-Type"].startswith("text/html"):
            assert "<script>alert" not in reply.text
            assert "<img src=x" not in reply.text
            assert "&amp;49" not in reply.text
        else:
            assert reply.headers["Content-Type"].startswith("application/json")
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
    for state in ("invited", "paused", "rejected", "finished"):
        with made.bench.store.write() as connection:
            people.set_state(connection, 0.0, SCRIPT, made.bench.who(SCRIPT), state, SCRIPT)  # type: ignore[arg-type]
        assert "<script>alert" not in who.get("/").text


def test_no_script_of_a_page_runs_from_elsewhere(host: Make) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    policy = who.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/", "/instructions", "/me"):
        page = who.get(path).text
        assert "style=" not in page
        assert "onclick" not in page
        assert "http" not in page.replace("http-equiv", "")


# Headers, on whatever comes


def test_every_reply_has_the_headers_of_security(host: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    task = who.next()
    for path, status in (
        ("/", 200),
        ("/static/annotate.css", 200),
        ("/static/nothing.js", 404),
        ("/nothing", 404),
        ("/api/me", 200),
        (task["images"][0]["url"], 200),
        ("/health", 200),
    ):
        assert who.get(path).status_code == status  # `ask` looks at the headers
    monkeypatch.setattr(votes, "history", lambda *_: 1 / 0)
    failed = who.get("/api/history")
    assert failed.status_code == 500
    assert "division" not in failed.text
    monkeypatch.undo()
    made.bench.store.engine.dispose()
    monkeypatch.setattr(made.bench.store.engine, "connect", lambda: _refuse())
    reply = who.get("/api/me")
    assert reply.status_code == 503
    assert str(made.bench.project.folder) not in reply.text


def _refuse() -> None:
    from sqlalchemy.exc import OperationalError

    raise OperationalError("SELECT", {}, Exception("disk I/O error"))


# What an annotator can learn of images


def test_nothing_of_an_image_but_its_pixels_reaches_an_annotator(host: Make) -> None:
    made = host(tasks=3, gold=3, practice_tasks=1, practice_score=0, ratings=3)
    who = made.person("ann")
    holding: list[str] = []
    while (task := who.next(*holding)) is not None:
        assert set(task["images"][0]) == {"position", "url", "width", "height"}
        for image in task["images"]:
            reply = who.get(image["url"])  # looks for the marker
            assert not {"etag", "last-modified", "content-disposition", "server", "date"} & set(reply.headers)
            with Image.open(io.BytesIO(reply.content)) as opened:
                opened.load()
                assert not opened.info
                assert not opened.getexif()
        number = str(uuid.uuid4())
        assert submit(who, task, number, answer=ANSWER | {"ratings": [1, 2, 3, 1]}).status_code == 200
        who.get(f"/api/assignments/{task['assignment']}")
        for wrong in (submit(who, task), submit(who, task, number, answer={"tiers": [[3], [2], [1], [0]]})):
            assert wrong.status_code == 409
    for path in ("/", "/instructions", "/me", "/api/me", "/api/history", "/openapi.json", "/images/x/0", "/lead"):
        who.get(path)
    assert len(who.replies) > 30


def test_the_address_of_an_image_says_nothing_and_differs_from_person_to_person(host: Make) -> None:
    made = host(tasks=1, overlap=3)
    urls = [image["url"] for name in ("ann", "bob", "cy") for image in made.person(name).next()["images"]]
    assert len(set(urls)) == 12


# Many at once


def test_one_vote_from_many_tabs_is_one_vote(host: Make) -> None:
    made = host(tasks=1)
    who = made.person("ann")
    task, number = who.next(), str(uuid.uuid4())
    cookie = {"Cookie": f"{COOKIE}={who.cookie}", "X-CSRF-Token": who.csrf}
    replies: list[Any] = []

    def send() -> None:
        replies.append(made.visitor().put(f"/api/votes/{number}", vote_of(task), headers=cookie))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    assert len(made.bench.rows(vote)) == 1


def test_pages_of_strangers_hold_no_token(host: Make) -> None:
    made = host(tasks=1)
    assert token_of(made.visitor().get("/")) == ""


def test_votes_are_weighed_after_the_reply_and_once_for_several(host: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[int] = []

    def assess(_: object, __: object, number: int) -> str:
        weighed.append(number)
        time.sleep(0.05)
        return "clear"

    monkeypatch.setattr(quality, "assess", assess)
    made = host(tasks=20, overlap=1, checks="off")
    who = made.person("ann")
    with made.visitor().client as running:  # runs the thread that weighs
        for _ in range(10):
            assert submit(who, who.next()).status_code == 200
        until = time.monotonic() + 10
        while not weighed and time.monotonic() < until:
            time.sleep(0.01)
        assert running.get("/health").status_code == 200
    assert set(weighed) == {made.bench.who("ann").id}
