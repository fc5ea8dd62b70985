"""The stories of runs/, as a newcomer runs them: the whole one with half of its prompts, and that of variants."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, Listener
from pathlib import Path

import pytest

from conftest import Cli

ROOT = Path(__file__).parents[1]
COMMAND = f"""#!{sys.executable}
import os, sys
from multiprocessing.connection import Client
if sys.argv[1:3] == ["annotate", "serve"]:  # beside the commands that follow
    os.execv(sys.executable, [sys.executable, "-m", "hpskit", *sys.argv[1:]])
with Client(os.environ["STORY"]) as test:
    test.send(sys.argv[1:])
    status, output, errors = test.recv()
print(output, end="")
print(errors, end="", file=sys.stderr)
sys.exit(status)
"""
"""`hpskit` for the script: the test runs it, which has imported everything already, and needs a third of the time."""


def test_the_story_comes_out(tmp_path: Path, cli: Cli) -> None:
    """The truth is known: the order of the painters, and what the made-up people like."""
    address, command = str(tmp_path / "s"), tmp_path / "bin/hpskit"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    paths = f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def tell() -> subprocess.CompletedProcess[str]:
        script = ["bash", str(ROOT / "runs/tiny.sh"), "story", "20"]
        environment = os.environ | {"PATH": paths, "STORY": address}
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        with Client(address) as test:
            test.send(None)
        return done

    with Listener(address) as listener, ThreadPoolExecutor(1) as pool:
        story = pool.submit(tell)
        while True:
            with listener.accept() as script:
                if (words := script.recv()) is None:
                    break
                told = cli(*words, cwd=tmp_path)
                script.send((told.returncode, told.stdout, told.stderr))
    done = story.result()
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "story"
    board = (folder / "leaderboard/leaderboard.md").read_text()
    assert re.findall(r"Painter, (\w+)", board)[:3] == ["fine", "plain", "poor"]
    evaluation = json.loads((folder / "evaluation/result.json").read_text())
    run, mini, random = (entry["accuracy"]["ties-half"]["value"] for entry in evaluation["scorers"])
    assert min(run, mini) > random
    compared = json.loads((folder / "compared/compare.json").read_text())
    assert compared["verdict"].startswith("fine is better")
    assert all((tmp_path / page).stat().st_size > 5_000 for page in done.stdout.split("browser\n")[1].split())
    readme_runs_here(folder, cli)


def readme_runs_here(folder: Path, cli: Cli) -> None:
    """Every block of the README that says so runs as pasted, in its order."""
    part = (ROOT / "README.md").read_text().partition("## Score images")[2].partition("## Models")[0]
    blocks = re.findall(r"^```(console|python)\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks].count("console") == 4
    for kind, block in blocks:
        if kind == "python":
            done = subprocess.run(
                [sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            continue
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ hpskit "))
            told = cli(*words[: words.index(">")] if ">" in words else words, cwd=folder)
            assert told.returncode == 0, f"{line}: {told.stderr}"


@pytest.mark.slow
def test_variants_of_a_model_are_compared(tmp_path: Path) -> None:
    """Of random weights nothing is known but that each variant makes other images."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "runs/lora_and_retrieval.sh"), "story", "4"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "story/images/images.jsonl").read_text().splitlines()]
    assert len({row["sha256"] for row in rows}) == 12
    assert len({row["seed"] for row in rows}) == 4
    assert all(row["facts"]["retrieved"] for row in rows if row["generator"] == "retrieval")
    for variant in ("lora", "retrieval"):
        assert (tmp_path / f"story/compared/{variant}/compare.html").stat().st_size > 5_000
