"""The whole story, as a newcomer runs it: runs/tiny.sh with half of its prompts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_story_comes_out(tmp_path: Path) -> None:
    """The truth is known: the order of the painters, and what the made-up people like."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "runs/tiny.sh"), "story", "20"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
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
