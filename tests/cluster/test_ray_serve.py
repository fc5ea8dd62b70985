"""The service on Ray Serve: as many processes as the load needs, and what was let in is answered to the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from hpskit.scoring.scorer import load_scorer
from hpskit.serving.client import AsyncClient, Client
from shard_files import free_port, wait_for

pytest.importorskip("ray.serve", reason="needs hpskit[ray-serve]")
pytestmark = pytest.mark.slow

SERVE = (sys.executable, "-m", "hpskit", "serve", "--engine", "ray")
SLOW = """
import os, time

class Slow:
    def score(self, images, prompts):
        time.sleep(0.05 * len(images))
        return [float(image.getpixel((0, 0))[0]) for image in images]

class Process:
    def score(self, images, prompts):
        time.sleep(0.05 * len(images))
        return [float(os.getpid())] * len(images)
"""


class Served:
    """A process of `hpskit serve --engine ray`."""

    def __init__(self, *options: str) -> None:
        command = [*SERVE, "--port", str(free_port()), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise AssertionError(self.process.communicate()[1])

    def end(self) -> tuple[int, str]:
        """Tell it to end, and return its status and what it said."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out + err


def test_scores_keys_and_the_end(tmp_path: Path, photographs: list[Image.Image]) -> None:
    """The bits of `score`, behind keys, and nothing said but the address."""
    keys = tmp_path / "keys.txt"
    made = subprocess.run(
        [sys.executable, "-m", "hpskit", "serve", "--keys", keys, "--new-key", "me"], capture_output=True, text=True
    )
    key = made.stdout.strip()
    served = Served("--keys", str(keys), "--workers", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPSKIT_TEST_KEY", key)
        with Client(served.url, key="HPSKIT_TEST_KEY") as client:
            scores = client.score(photographs, "a photograph")
    assert scores == load_scorer("mini", batch_invariant=True).score(photographs, "a photograph").tolist()
    assert httpx.post(f"{served.url}/v1/score", content=b"{}").status_code == 401
    second = subprocess.run(
        [*SERVE, "--port", served.url.rpartition(":")[2]],
        capture_output=True,
        text=True,
    )
    assert (second.returncode, "cannot be used (Address already in use)" in second.stderr) == (2, True), second.stderr
    assert served.end() == (0, "")


def test_more_processes_under_load_and_none_is_lost(tmp_path: Path) -> None:
    """What Ray refuses comes again; a second process takes its share; at SIGTERM what was let in is answered."""
    own = tmp_path / "own.py"
    own.write_text(SLOW)
    served = Served("--model", f"{own}:Slow", "--model", f"{own}:Process", "--workers", "2")
    levels = [number % 250 + 1 for number in range(600)]
    images = [Image.new("RGB", (16, 16), (level,) * 3) for level in levels]

    async def ask_all() -> list[list[float]]:
        async with AsyncClient(served.url) as client:
            return await asyncio.gather(*(client.score([image], "a") for image in images))

    assert [score for (score,) in asyncio.run(ask_all())] == levels
    with httpx.Client(base_url=served.url, timeout=60) as http:
        assert "Process" in http.get("/v1/models").text
    processes = set[float]()
    until = time.monotonic() + 90

    def ask() -> None:
        with Client(served.url, model="Process") as client:
            while len(processes) < 2 and time.monotonic() < until:
                processes.update(client.score(images[:4], "a"))

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(processes) == 2
    answers: list[list[float]] = []

    def last() -> None:
        with Client(served.url, model="Slow", patience=1) as client:
            answers.append(client.score(images[:40], "a"))  # two seconds

    asking = threading.Thread(target=last)
    asking.start()
    time.sleep(1)
    assert served.end()[0] == 0
    asking.join()
    assert answers == [levels[:40]]


@pytest.mark.parametrize(
    ("options", "place"), [(("--model", "nobody"), "nobody"), (("--port", "0"), "--port"), (("--wire", "x"), "--wire")]
)
def test_what_cannot_be_served_is_told(options: tuple[str, ...], place: str) -> None:
    done = subprocess.run(
        [*SERVE, "--port", "8399", *options],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, place in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_on_a_cluster_of_others(tmp_path: Path) -> None:
    """The port is free at the end; a Serve that is there keeps its own, and what it serves."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    address = f"127.0.0.1:{free_port()}"
    start = ("start", "--block", "--head", "--node-ip-address", "127.0.0.1", "--port", address.rpartition(":")[2],
             "--num-cpus", "6", "--include-dashboard", "false", "--object-store-memory", "1100000000")  # fmt: skip
    node = subprocess.Popen([Path(sys.executable).with_name("ray"), *start], env=environment, stdout=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "disabled")
            wait_for(int(address.rpartition(":")[2]))
            served = Served("--address", address, "--workers", "1")
            again = [*SERVE, "--address", address, "--port", str(free_port())]
            second = subprocess.run(again, capture_output=True, text=True, timeout=120)
            assert (second.returncode, "is served on this cluster already" in second.stderr) == (2, True), second.stderr
            with Client(served.url) as client:
                assert len(client.score([Image.new("RGB", (16, 16))], "a")) == 1
            assert served.end()[0] == 0
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("127.0.0.1", int(served.url.rpartition(":")[2])))
            assert Served("--address", address, "--workers", "1").end()[0] == 0
    finally:
        node.terminate()
        node.wait(60)
