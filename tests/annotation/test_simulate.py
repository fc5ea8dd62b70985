"""Plans, and simulated people who do a project over HTTP on a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from conftest import Cli
from error_fields import at
from hpskit.annotation.export import export
from hpskit.annotation.simulate import drive, plan_project
from hpskit.annotation.tables import person
from hpskit.annotation.web.app import create_app
from hpskit.errors import InputError
from small_project import MARK, Bench

Make = Callable[..., Bench]


@contextmanager
def listening(bench: Bench) -> Iterator[str]:
    app = create_app(bench.project, bench.store, limit=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(timeout=20)


def test_simulated_people_do_a_project_and_are_said_to_be_simulated(bench: Make, tmp_path: Path) -> None:
    made = bench(tasks=8, images=3, overlap=3, consent=True)
    worth = {f"{MARK} {place}": 6.0 - 3 * place for place in range(3)}
    with listening(made) as base:
        driven = drive(made.store, base, annotators=4, worth=worth)
    assert driven.votes == 24
    assert driven.quantile("vote", 0.5) > 0
    made.check()
    export(made.project, made.store, "rankings", tmp_path / "out")
    assert "24 of the 24 votes are simulated" in (tmp_path / "out/README.md").read_text()
    found = json.loads((tmp_path / "out/about/generators.json").read_text())["generators"]
    assert [one["generator"] for one in sorted(found, key=lambda one: -one["strength"])] == list(worth)


def test_a_server_that_is_not_there_is_said(bench: Make) -> None:
    made = bench()
    with pytest.raises(InputError, check=at("http://127.0.0.1:1")):
        drive(made.store, "http://127.0.0.1:1", annotators=2, worth={})


def test_no_made_up_vote_comes_among_those_of_people(bench: Make) -> None:
    made = bench()
    made.join("ann")
    made.vote("ann")
    with pytest.raises(InputError, check=at("--server")):
        drive(made.store, "http://127.0.0.1:1", annotators=2, worth={})
    assert len(made.rows(person)) == 1


def test_a_plan_gets_better_and_dearer_with_people(bench: Make) -> None:
    made = bench(tasks=30, images=4, overlap=3, pay={"per_hour": 12.0, "per_task": 0.1})
    rows = plan_project(made.project, made.store, annotators=50, bad=0.3)
    assert [row["overlap"] for row in rows] == [1, 2, 3, 5, 7, 10]
    taus = [row["tau_weighted"] for row in rows]
    assert taus[-1] > taus[2] > taus[0]
    assert rows[2]["hours"] == pytest.approx(30 * 3 * 4 * 3.5 / 3600)
    assert rows[2]["cost"] == pytest.approx(30 * 3 * 0.1 + 12 * rows[2]["hours"])


def test_commands_from_init_to_export(cli: Cli, tmp_path: Path) -> None:
    rows = [
        {"group": f"g{n}", "prompt": f"prompt {n}", "images": [f"{n}-{k}.png" for k in range(3)], "ranks": None}
        for n in range(3)
    ]
    (tmp_path / "rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from PIL import Image

    for row in rows:
        for place, name in enumerate(row["images"]):
            Image.new("RGB", (8, 8), (30 * place, 0, 0)).save(tmp_path / str(name))
    run = lambda *words: cli("annotate", *words, cwd=tmp_path)  # noqa: E731
    done = run("init", "p", "--images", "rankings.jsonl", "--overlap", 2, "--json")
    assert json.loads(done.stdout)["votes"] == 6
    assert run("init", "p", "--images", "rankings.jsonl").returncode == 2
    links = json.loads(run("invite", "p", "ann", "--json").stdout)
    assert links["ann"].startswith("http://127.0.0.1:8100/join/")
    assert run("pause", "p", "ann", "--reason", "a break").returncode == 0
    told = json.loads(run("status", "p", "--json").stdout)
    assert [(one["state"], one["reason"]) for one in told["people"]] == [("paused", "a break")]
    assert run("resume", "p", "ann").returncode == 0
    assert "has no vote that counts" in run("export", "p", "--out", "out").stderr
    assert run("pay", "p", "--out", "pay.csv").returncode == 0
    assert run("pause", "p", "nobody").returncode == 2
