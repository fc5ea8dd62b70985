"""Panels: people come by a link of a platform, go away in all ways, and no place is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hpskit.annotation.project import Panel
from hpskit.annotation.tables import person, task
from hpskit.annotation.web.panels import gone
from small_project import Bench
from visitor import Host, Visitor, hosted, token_of

Make = Callable[..., Bench]
PROLIFIC = Panel(study="s1", completed="DONE", screened_out="OUT", full="FULL", tasks=2, places=5)


def arrive(host: Host, name: str, *, study: str = "s1", session: str = "x") -> tuple[Visitor, Any]:
    visitor = host.visitor()
    return visitor, visitor.get(f"/panel/prolific?PROLIFIC_PID={name}&STUDY_ID={study}&SESSION_ID={session}")


def work(visitor: Visitor, tasks: int) -> None:
    visitor.get("/")
    visitor.csrf = token_of(visitor.get("/instructions"))
    for _ in range(tasks):
        given = visitor.next()
        tiers = [[position] for position in range(len(given["images"]))]
        body = {"assignment": given["assignment"], "revision": 1, "answer": {"tiers": tiers}}
        number = f"00000000-0000-4000-8000-{random.getrandbits(48):012x}"
        assert visitor.put(f"/api/votes/{number}", body).status_code == 200


def test_somebody_of_a_panel_works_and_takes_the_code_back(bench: Make) -> None:
    with hosted(bench(tasks=9, overlap=1, prolific=PROLIFIC)) as host:
        visitor, reply = arrive(host, "p1")
        assert reply.status_code == 303
        work(visitor, 2)
        assert visitor.post("/api/next", {"holding": []}).json()["reason"] == "cap"
        assert "DONE" in visitor.get("/").text
        assert host.bench.who("prolific p1").state == "finished"


def test_links_of_other_studies_and_half_links_let_nobody_in(bench: Make) -> None:
    with hosted(bench(prolific=PROLIFIC)) as host:
        for query in (
            "?PROLIFIC_PID=p1&STUDY_ID=s2&SESSION_ID=x",
            "?STUDY_ID=s1",
            "?PROLIFIC_PID=&STUDY_ID=s1&SESSION_ID=x",
        ):
            assert host.visitor().get(f"/panel/prolific{query}").status_code == 400
        assert host.visitor().get("/panel/mturk?workerId=w&hitId=h&assignmentId=a").status_code == 404


def test_who_comes_when_all_places_are_taken_gets_a_code_for_that(bench: Make) -> None:
    with hosted(bench(tasks=20, overlap=1, prolific=PROLIFIC)) as host:
        for number in range(5):
            assert arrive(host, f"p{number}")[1].status_code == 303
        assert "FULL" in arrive(host, "late")[1].text
        assert arrive(host, "p3", session="again")[1].status_code == 303, "whoever has a place keeps it"
        assert gone(host.bench.store, "prolific", ["p1", "never came"], "returned") == 1
        assert arrive(host, "late")[1].status_code == 303


def test_no_place_is_lost_by_two_hundred_dropouts(bench: Make) -> None:
    """A platform that fills each place again: people leave before, amid and after their tasks, and some come back."""
    panel = Panel(study="s1", completed="DONE", full="FULL", tasks=2, places=10)
    draw = random.Random(0)
    with hosted(bench(tasks=10, overlap=2, prolific=panel)) as host:
        dropped, number, finished = 0, 0, Counter[str]()
        while sum(finished.values()) < 10:
            number += 1
            name = f"p{number}"
            visitor, reply = arrive(host, name)
            assert reply.status_code == 303, "a place is free as long as somebody has not finished"
            if dropped < 200:
                dropped += 1
                if draw.random() < 0.3:
                    visitor.get("/")
                    visitor.csrf = token_of(visitor.get("/instructions"))
                    visitor.next()  # holds a task, and is never seen again
                gone(host.bench.store, "prolific", [name], draw.choice(["returned", "timed out"]))
                continue
            work(visitor, 2)
            visitor.post("/api/next", {"holding": []})
            finished[host.bench.who(f"prolific {name}").state] += 1
        assert finished == {"finished": 10}
        host.bench.check()
        assert sum(row.done for row in host.bench.rows(task)) == 20
        assert "FULL" in arrive(host, "too late")[1].text


def test_a_preview_of_mturk_gives_no_place(bench: Make) -> None:
    panel = Panel(study="h1", completed="DONE")
    with hosted(bench(mturk=panel)) as host:
        reply = host.visitor().get("/panel/mturk?workerId=&hitId=h1&assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE")
        assert "Accept the task" in reply.text
        assert not [row for row in host.bench.rows(person) if row.panel]


@pytest.mark.parametrize("name", ["prolific", "mturk"])
def test_a_panel_that_the_project_does_not_use_is_not_there(bench: Make, name: str) -> None:
    with hosted(bench()) as host:
        assert host.visitor().get(f"/panel/{name}").status_code == 404
