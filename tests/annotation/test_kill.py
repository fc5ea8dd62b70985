"""A server that is killed at any moment, while people submit: what was acknowledged is stored, once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpskit.annotation import people
from hpskit.annotation.answers import positions_of
from hpskit.annotation.store import Store
from hpskit.annotation.tables import vote
from hpskit.errors import OutputError
from postgres import Postgres
from real_server import Client, RealServer
from small_project import Bench, Time, make, without_votes

CLIENTS = 4
DEFAULT, MANY = 20, 1000


def made(folder: Path, database: str, tasks: int = 1000) -> Bench:
    project = make(folder, database, tasks=2, images=3, overlap=CLIENTS, change_minutes=1000, checks="off")
    store = Store(project.database)
    without_votes(store, tasks, wanted=CLIENTS)
    return Bench(project, store, Time())


def clients_of(bench: Bench, server: RealServer) -> list[Client]:
    links = people.invite(bench.store, [f"person {number}" for number in range(CLIENTS)])
    return [Client(server.port, link, seed) for seed, link in enumerate(links.values())]


def stop(clients: list[Client], threads: list[threading.Thread]) -> None:
    for client in clients:
        client.stop.set()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def check(bench: Bench, clients: list[Client]) -> int:
    """See that stored == acknowledged, as it stood on the page, and that the database is whole."""
    assert [client.refused for client in clients] == [[]] * len(clients)
    told = {number: facts for client in clients for number, facts in client.acknowledged.items()}
    assert len(told) == sum(len(client.acknowledged) for client in clients)
    rows = {row.id: row for row in bench.rows(vote)}
    assert set(rows) == set(told)
    for number, (assignment, revision, tiers) in told.items():
        row = rows[number]
        assert (row.assignment, row.revision, row.state) == (assignment, revision, "counted")
        assert positions_of(row, bench.assignment(assignment).order)["tiers"] == tiers
    bench.check()
    if bench.store.sqlite:
        with bench.store.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    return len(told)


def until_it_works(clients: list[Client]) -> None:
    """Wait until somebody has a reply that nobody had before."""
    before, end = sum(client.replies for client in clients), time.monotonic() + 60
    while sum(client.replies for client in clients) == before:
        assert time.monotonic() < end, "no reply after a start"
        time.sleep(0.002)


def killed(folder: Path, database: str, kills: int) -> tuple[int, int]:
    """Kill a server so many times; return how many votes are stored, and how often a client sent again."""
    bench = made(folder, database, tasks=max(400, 30 * kills))
    server = RealServer(bench.project.folder, database)
    draw = random.Random(kills)
    try:
        server.start()
        clients = clients_of(bench, server)
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        for number in range(kills):
            if number % 10 == 9:  # some die while they start
                time.sleep(0.3 * draw.random())
            else:
                until_it_works(clients)
                time.sleep(draw.expovariate(1 / 0.05))
            server.kill()
            server.start(wait=False)
        stop(clients, threads)
        return check(bench, clients), sum(client.retries for client in clients)
    finally:
        server.close()
        bench.store.close()


def test_nothing_is_lost_when_the_server_is_killed(tmp_path: Path, database: str) -> None:
    stored, again = killed(tmp_path / "project", database, DEFAULT)
    assert stored > 0
    assert again >= DEFAULT // 2


@pytest.mark.slow
def test_nothing_is_lost_in_a_thousand_kills(tmp_path: Path, database: str) -> None:
    """Minutes: see docs/security.md for what a run gave."""
    begun = time.monotonic()
    stored, again = killed(tmp_path / "project", database, MANY)
    said = f"{MANY} kills in {time.monotonic() - begun:.0f} s: {stored} votes stored, {again} requests sent again"
    (tmp_path.parent / f"kills {'postgresql' if database else 'sqlite'}.txt").write_text(said)
    assert stored > MANY // 2, said


def test_nothing_is_lost_when_the_database_is_killed(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    bench = made(tmp_path / "project", url, tasks=300)
    server = RealServer(bench.project.folder, url)
    try:
        server.start()
        clients = clients_of(bench, server)
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.4)
            postgres.stop("immediate")
            postgres.start()
        time.sleep(0.3)
        stop(clients, threads)
        bench.store.engine.dispose()
        assert check(bench, clients) > 0
    finally:
        server.close()
        bench.store.close()


# A full disk

DISK = 6 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "hpskit-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk of its own, which only root may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_was_acknowledged_stays(disk: Path) -> None:
    bench = made(disk / "project", "", tasks=300)
    bench.join("ann")
    done = [bench.vote("ann")["vote"] for _ in range(3)]
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * os.sysconf("SC_PAGE_SIZE"))

    def go_on() -> None:
        done.extend(bench.vote("ann")["vote"] for _ in range(300))

    with pytest.raises(OutputError, match="cannot be used") as refused:
        go_on()
    assert "what was acknowledged before is safe" in str(refused.value)
    assert {one.id for one in bench.rows(vote)} == set(done)
    filler.unlink()
    bench.check()
    done.append(bench.vote("ann")["vote"])
    assert {one.id for one in bench.rows(vote)} == set(done)
    bench.check()
    with bench.store.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    bench.store.close()
