"""Pages of researchers and inspectors: who may see and do what, what it does, and whether the figures are right."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import update

from browser import excess, needs_chromium, quiet_page
from hpskit.annotation import people
from hpskit.annotation.answers import Answer
from hpskit.annotation.export import export
from hpskit.annotation.people import Role
from hpskit.annotation.quality import standing
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import audit, task, vote
from hpskit.annotation.web.app import create_app
from hpskit.annotation.web.dashboard import dashboard
from hpskit.annotation.web.guard import Kept
from small_project import MARK, Bench, Time, make

Make = Callable[..., Bench]
HARM = '<script>alert("x")</script>'

LEAD = ("/lead", "/lead/live", "/lead/people", "/lead/audit", "/lead/pay.csv")
INSPECT = ("/inspect", "/inspect?what=unlike", "/inspect/tasks/1", "/inspect/votes/{vote}", "/inspect/images/1")
LEAD_FORMS = (
    "/lead/people",
    "/lead/people/{ann}/pause",
    "/lead/people/{ann}/resume",
    "/lead/people/{ann}/link",
    "/lead/pay.csv",
)
INSPECT_FORMS = tuple(f"/inspect/votes/{{vote}}/{action}" for action in ("accept", "return", "invalidate"))


class Site:
    """A project with its application, and a browser without a screen for each person."""

    def __init__(self, made: Bench) -> None:
        self.made = made
        self.app = create_app(made.project, made.store, limit=False)
        self.app.state.server.kept = Kept(0.0, lambda: 0.0)

    def enter(self, name: str, role: Role = "annotator") -> TestClient:
        client = TestClient(self.app)
        token = people.invite(self.made.store, [name], role=role)[name]
        client.get(f"/join/{token}", follow_redirects=False)
        return client

    def post(self, client: TestClient, path: str, **fields: str) -> Any:
        page = client.get("/inspect" if "/inspect" in path else "/lead/people").text
        found = re.search(r'name="csrf" (?:value|content)="(\w+)"', page) or re.search(
            r'content="(\w{64})"', client.get("/me").text
        )
        token = found[1] if found else self.app.state.server.sessions.csrf(client.cookies["hpskit_session"])
        return client.post(path, data={"csrf": token, **fields}, follow_redirects=False)

    def rank(self, name: str, *best: int, seconds: float = 5.0) -> str:
        """Rank the next task by places, the best first; return the id of the vote."""
        row = self.made.lease(name)
        tiers = tuple((row.order.index(place),) for place in best or range(len(row.order)))
        return str(self.made.submit(name, row, Answer(tiers=tiers), seconds=seconds)["vote"])

    def path(self, text: str) -> str:
        number = self.made.rows(vote)[0].id if "{vote}" in text else ""
        return text.replace("{vote}", number).replace("{ann}", self.made.who("ann").pseudonym)

    def one(self, number: str) -> Any:
        return self.made.rows(vote, vote.c.id == number)[0]

    def log(self, action: str) -> list[Any]:
        return list(self.made.rows(audit, audit.c.action == action))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    project = make(tmp_path / "project", tasks=3, images=3)
    store = Store(project.database, clock=(clock := Time()))
    made = Bench(project, store, clock)
    made.join("ann", "bob")
    yield Site(made)
    store.close()


@pytest.fixture
def lead(site: Site) -> TestClient:
    return site.enter("rita", "researcher")


@pytest.fixture
def inspector(site: Site) -> TestClient:
    return site.enter("ina", "inspector")


def test_annotators_are_told_that_nothing_is_there(site: Site, inspector: TestClient, lead: TestClient) -> None:
    ann = site.enter("ann")
    site.rank("bob")
    for text in (*LEAD, *INSPECT):
        path = site.path(text)
        assert ann.get(path).status_code == 404, path
        assert TestClient(site.app).get(path).status_code == 401, path
        assert inspector.get(path).status_code == (404 if text in LEAD else 200), path
        assert lead.get(path).status_code == 200, path
    for text in (*LEAD_FORMS, *INSPECT_FORMS):
        assert site.post(ann, site.path(text), reason="x", name="eve").status_code == 404, text
    for text in LEAD_FORMS:
        assert site.post(inspector, site.path(text), reason="x", name="eve").status_code == 404, text


@pytest.mark.parametrize("text", [*LEAD_FORMS, *INSPECT_FORMS])
def test_a_form_of_another_site_changes_nothing(site: Site, lead: TestClient, text: str) -> None:
    site.rank("bob")
    before = site.made.rows(audit)
    path, fields = site.path(text), {"reason": "x", "name": "eve"}
    assert lead.post(path, data=fields).status_code == 403
    assert lead.post(path, data=fields | {"csrf": "0" * 64}).status_code == 403
    token = site.app.state.server.sessions.csrf(lead.cookies["hpskit_session"])
    assert lead.post(path, data=fields | {"csrf": token}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert site.made.rows(audit) == before


def test_pausing_gives_tasks_back_and_resuming_lets_work(site: Site, lead: TestClient) -> None:
    row, path = site.made.lease("ann"), f"/lead/people/{site.made.who('ann').pseudonym}"
    assert site.made.task(row.task).held == 1
    assert site.post(lead, f"{path}/pause", reason=" ").status_code == 400
    assert site.post(lead, f"{path}/pause", reason="clicks").status_code == 303
    assert (site.made.who("ann").state, site.made.who("ann").reason) == ("paused", "clicks")
    assert site.made.task(row.task).held == 0
    site.made.check()
    refused = site.post(lead, f"{path}/pause", reason="again")
    assert (refused.status_code, "is paused" in refused.text) == (400, True)
    assert "clicks" in lead.get("/lead/people").text
    assert site.post(lead, f"{path}/resume").status_code == 303
    assert site.made.who("ann").state == "work"
    assert site.post(lead, f"{path}/resume").status_code == 400
    lines = [(line.who, line.subject, line.detail["now"]) for line in site.log("state")][-2:]
    assert lines == [("rita", "ann", "paused"), ("rita", "ann", "work")]
    assert site.post(lead, "/lead/people/nobody/pause", reason="x").status_code == 404


def test_a_new_link_is_shown_once_and_voids_the_old(site: Site, lead: TestClient) -> None:
    ann = site.enter("ann")
    assert ann.get("/me").status_code == 200
    page = site.post(lead, f"/lead/people/{site.made.who('ann').pseudonym}/link").text
    link = re.search(r"http://testserver(/join/[\w-]+)", page)
    assert link is not None
    assert link[1] not in lead.get("/lead/people").text + lead.get("/lead/audit").text
    assert ann.get("/me").status_code == 401
    assert TestClient(site.app).get(link[1], follow_redirects=False).status_code == 303
    page = site.post(lead, "/lead/people", name="eve", role="inspector").text
    assert "/join/" in page
    assert site.made.who("eve").role == "inspector"
    again = site.post(lead, "/lead/people", name="eve", role="researcher")
    assert (again.status_code, site.made.who("eve").role) == (400, "inspector")
    assert site.post(lead, "/lead/people", name="  ").status_code == 400


def test_a_returned_vote_comes_back_and_counts_again(site: Site, inspector: TestClient) -> None:
    number = site.rank("ann")
    found = site.one(number)
    assert site.post(inspector, f"/inspect/votes/{number}/return").status_code == 400
    assert site.post(inspector, f"/inspect/votes/{number}/return", reason="look again").status_code == 303
    assert (site.one(number).state, site.made.task(found.task).done) == ("returned", 0)
    assert site.post(inspector, f"/inspect/votes/{number}/return", reason="twice").status_code == 409
    assert "look again" in inspector.get("/inspect?what=decided").text
    row = site.made.lease("ann")
    assert row.id == found.assignment
    site.made.submit("ann", row, vote_id=number, revision=2)
    assert (site.one(number).state, site.made.task(found.task).done) == ("counted", 1)
    site.made.check()
    assert [(line.who, line.detail["reason"]) for line in site.log("return")] == [("ina", "look again")]


def test_an_invalid_vote_opens_its_task_and_an_accepted_one_is_not_listed(site: Site, inspector: TestClient) -> None:
    first, second = site.rank("ann", seconds=0.1), site.rank("ann", seconds=0.1)
    page = inspector.get("/inspect").text
    assert first in page
    assert second in page
    assert site.post(inspector, f"/inspect/votes/{first}/invalidate", reason="too fast").status_code == 303
    assert site.post(inspector, f"/inspect/votes/{second}/accept").status_code == 303
    page = inspector.get("/inspect").text
    assert first not in page
    assert second not in page
    assert (site.one(first).state, site.made.task(site.one(first).task).done) == ("invalid", 0)
    assert site.one(second).state == "counted"
    site.made.check()
    assert [(line.who, line.subject) for line in site.log("accept")] == [("ina", second)]
    assert site.post(inspector, "/inspect/votes/none/accept").status_code == 404
    assert site.post(inspector, f"/inspect/votes/{first}/delete", reason="x").status_code == 404


def test_nobody_decides_about_their_own_vote(site: Site, inspector: TestClient) -> None:
    site.made.join("ina", role="inspector")
    client, number = site.enter("ina", "inspector"), site.rank("ina")
    assert site.post(client, f"/inspect/votes/{number}/accept").status_code == 400
    assert "/accept" not in client.get(f"/inspect/votes/{number}").text


def test_the_page_of_a_vote_shows_ranks_as_seen_and_the_mean_of_the_others(site: Site, inspector: TestClient) -> None:
    for _ in range(3):
        site.rank("bob", 2, 1, 0)
    number = site.rank("ann", 0, 1, 2)
    page = inspector.get(f"/inspect/votes/{number}").text
    order = site.made.assignment(site.one(number).assignment).order
    ids = site.made.task(site.one(number).task).images
    assert [int(found) for found in re.findall(r"/inspect/images/(\d+)", page)] == [ids[place] for place in order]
    assert re.findall(r"rank (\d)", page) == [str(place + 1) for place in order]
    assert re.findall(r"others (\d\.\d)", page) == [f"{3 - place}.0" for place in order]
    assert site.made.who("ann").pseudonym in page
    assert "ann<" not in page
    assert MARK not in page
    assert site.one(number).id in inspector.get("/inspect?what=unlike").text
    assert "3 &gt; 2 &gt; 1" in inspector.get(f"/inspect/tasks/{site.one(number).task}").text
    assert inspector.get("/inspect/images/1").headers["content-type"] == "image/png"
    assert inspector.get("/inspect/images/999").status_code == 404


def test_skips_and_flags_are_listed(site: Site, inspector: TestClient) -> None:
    from hpskit.annotation import votes

    row = site.made.lease("ann")
    votes.skip(site.made.store, site.made.who("ann"), row.id, "offensive", site.made.settings)
    assert "offensive" in inspector.get("/inspect?what=skips").text
    row = site.made.lease("ann")
    number = site.made.submit("ann", row, Answer(tiers=((0,), (1,), (2,)), flags={"1": ("broken",)}))["vote"]
    site.rank("ann")
    page = inspector.get("/inspect?what=flags").text
    assert re.findall(r"/inspect/votes/([\w-]+)", page) == [number]
    assert "broken" in page
    assert inspector.get("/inspect?what=else").status_code == 404


def test_what_people_wrote_is_text_on_every_page(site: Site, lead: TestClient) -> None:
    with site.made.store.write() as connection:
        connection.execute(update(task).values(prompt=HARM))
    site.made.join(HARM)
    number = site.rank(HARM, 0, 1, 2, seconds=0.1)
    site.rank("bob", 2, 1, 0)
    site.rank("ann")
    site.post(lead, f"/inspect/votes/{number}/return", reason=HARM)
    site.post(lead, f"/lead/people/{site.made.who(HARM).pseudonym}/pause", reason=HARM)
    made = site.post(lead, "/lead/people", name=f"{HARM} 2").text
    pages = [made, *(lead.get(site.path(text)).text for text in (*LEAD[:-1], *INSPECT[:-1], "/inspect?what=decided"))]
    assert all("<script>alert" not in page for page in pages)
    assert sum("&lt;script&gt;alert" in page for page in pages) >= 5
    reply = lead.get("/lead")
    assert "style=" not in reply.text
    assert "script-src 'self'" in reply.headers["content-security-policy"]


def test_figures_equal_those_by_hand(bench: Make) -> None:
    made = bench(tasks=3, images=3)
    made.join("ann", "bob")
    site = Site(made)
    for _ in range(3):
        site.rank("ann", 0, 1, 2)
    site.rank("bob", 0, 2, 1)  # of three pairs two as ann: tau 1/3
    made.clock.minutes(12 * 60)
    site.rank("bob", 2, 1, 0)  # none: tau -1
    found = dashboard(made.store)
    p, out, m = found.progress, found.left_out, found.measures
    assert (p.done, p.wanted, p.finished, p.tasks, p.held) == (5, 6, 2, 3, 0)
    assert p.last_day == pytest.approx(10)  # five votes in half a day
    assert p.end == pytest.approx(made.clock() + 2.4 * 3600)
    assert [count for _, count in p.bars if count] == [4, 1]
    assert (p.width, len(p.bars)) == (3600, 13)
    assert (out.votes, out.votes_out, out.people, out.people_out, out.unchecked) == (5, 0, 2, 0, 1)
    assert not out.alarm
    assert m.agreement is not None
    assert m.agreement.corrected.value == pytest.approx((1 / 3 - 1) / 2)
    assert m.agreement.each_other.value == pytest.approx(1 / 3)
    assert m.agreement.with_others.value == pytest.approx(1 / 3)
    assert (m.agreement.tasks, m.agreement.votes) == (2, 4)
    assert [(row[2], row[3]) for row in m.disputed] == [(pytest.approx(0), 2), (pytest.approx(2 / 3), 2)]
    assert m.strengths[0][0] == f"{MARK} 0"
    assert sum(figure.value for _, figure in m.strengths) == pytest.approx(0)
    assert sum(figure.value for figure in m.places) == pytest.approx(1.5)
    people.pause(made.store, "bob", "clicks")
    with made.store.write() as connection:
        connection.execute(update(vote).where(vote.c.person == made.who("ann").id).values(state="invalid"))
    out = dashboard(made.store).left_out
    assert (out.votes_out, out.invalid, out.people_out, out.paused) == (5, 3, 1, 1)
    assert out.alarm


def test_whom_a_panel_took_back_is_no_judgement(site: Site) -> None:
    site.rank("ann")
    people.pause(site.made.store, "ann", "panel: returned")
    out = dashboard(site.made.store).left_out
    assert (out.people_out, out.votes_out, out.away, out.alarm) == (0, 0, 1, False)


def test_what_could_not_be_checked_has_an_alarm_of_its_own(tmp_path: Path) -> None:
    project = make(tmp_path / "project", tasks=12, images=3, overlap=1, checks="off")
    made = Bench(project, Store(project.database, clock=(clock := Time())), clock)
    made.join("ann")
    site = Site(made)
    lead = site.enter("rita", "researcher")
    for _ in range(9):
        site.rank("ann")
    assert not dashboard(made.store).left_out.unchecked_alarm
    assert 'id="alarm' not in lead.get("/lead").text
    site.rank("ann")
    out = dashboard(made.store).left_out
    assert (out.people_checkable, out.people_unchecked, out.unchecked, out.errors) == (1, 1, 10, 0)
    assert (out.unchecked_alarm, out.alarm) == (True, False)
    page = lead.get("/lead").text
    assert 'id="alarm-unchecked"' in page
    assert 'id="alarm-excluded"' not in page
    with made.store.write() as connection:
        record(connection, made.store.now(), "quality", "could-not-check", "1")
    assert "1 check of the last day could not be run" in lead.get("/lead").text
    made.store.close()


def test_people_are_measured_by_their_last_votes_and_who_wants_attention_is_first(site: Site, lead: TestClient) -> None:
    for _ in range(3):
        site.rank("ann")
        site.rank("bob", seconds=0.1)
    page = lead.get("/lead/people").text
    assert page.index(">bob<") < page.index(">ann<") < page.index(">rita<")
    bob = next(one for one in standing(site.made.store, site.made.settings) if one.name == "bob")
    assert (bob.too_fast, bob.tau, bob.done) == (1.0, 1.0, 3)
    assert "100 %" in page


def test_the_log_is_shown_in_parts(site: Site, lead: TestClient) -> None:
    with site.made.store.write() as connection:
        for number in range(250):
            record(connection, site.made.store.now(), "test", "line", f"no. {number} ")
    page = lead.get("/lead/audit").text
    assert page.count("no. ") == 200
    older = re.search(r"/lead/audit\?before=\d+", page)
    assert older is not None
    assert re.findall(r"no\. (\d+) ", lead.get(older[0]).text) == [str(number) for number in range(49, -1, -1)]


def test_many_who_look_cost_what_one_costs() -> None:
    now, made = [0.0], []
    kept = Kept(10.0, lambda: now[0])

    def make_it() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    threads = [threading.Thread(target=kept.get, args=("x", make_it)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    now[0] = 9.9
    assert kept.get("x", make_it) == 1
    now[0] = 10.0
    assert kept.get("x", make_it) == 2
    kept.clear()
    assert kept.get("x", make_it) == 3


@contextmanager
def researching(site: Site) -> Iterator[tuple[Any, str]]:
    """A page of a researcher who came in by the link, and the address of the server; nothing may have been logged."""
    token = people.invite(site.made.store, ["rita"], role="researcher")["rita"]
    config = uvicorn.Config(site.app, port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    base = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with quiet_page() as page:
        page.goto(f"{base}/join/{token}")
        yield page, base
        troubles = [text for text in page.troubles if not text.startswith(base)]
    server.should_exit = True
    thread.join()
    assert troubles == []


@needs_chromium
def test_a_researcher_pauses_somebody_on_the_page_and_exports(site: Site, tmp_path: Path) -> None:
    site.rank("ann", 0, 1, 2)
    site.rank("bob", 2, 1, 0)
    with researching(site) as (page, base):
        page.goto(f"{base}/lead/people")
        row = page.locator("tr", has_text="bob")
        row.locator("summary").click()
        row.get_by_label("Reason").fill("answers <b>by</b> script")
        row.get_by_role("button", name="Pause").click()
        page.locator("tr", has_text="answers <b>by</b> script").wait_for()
    assert site.made.who("bob").state == "paused"
    exported = export(site.made.project, site.made.store, "hpdv2", tmp_path / "out")
    assert (exported.votes, exported.excluded) == (1, {"annotator paused: answers <b>by</b> script": 1})


@needs_chromium
def test_pages_fit_phones_and_the_open_one_follows_the_votes(site: Site) -> None:
    for _ in range(2):
        site.rank("ann", 0, 1, 2)
        number = site.rank("bob", 2, 1, 0, seconds=0.1)
    with researching(site) as (page, base):
        for path in (
            "/lead",
            "/lead/people",
            "/inspect",
            f"/inspect/votes/{number}",
            "/inspect/tasks/1",
            "/lead/audit",
        ):
            page.goto(base + path)
            assert excess(page) == [0, 0, 0, 0], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.goto(f"{base}/lead")
        link = page.locator("#live a").first
        link.focus()
        place, address = page.evaluate("scrollY"), link.get_attribute("href")
        assert "4 of 6" in page.locator(".tiles").inner_text().replace("\n", " ")
        site.rank("ann")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.locator(".tiles", has_text="5 of 6").wait_for()
        assert page.evaluate("document.activeElement.getAttribute('href')") == address
        assert page.evaluate("scrollY") == place
