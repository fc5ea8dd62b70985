"""`hpskit compare` and `hpskit study prompts`: what they print and write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Cli
from hpskit.cli.compare import compare
from leaderboard_results import two_styles, write_result
from suite_material import write_benchmark


@pytest.fixture(scope="module")
def folder(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare")
    write_benchmark(path, photographs)
    return path


def test_table_verdict_and_files(cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ("compare", folder / "renders/base", folder / "renders/ours", "--prompts", folder / "suite.jsonl")
    done = cli(*command, "-s", "mini", "-s", "random", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(
        r"^  mini +\+\d\.\d\d +\+\d\.\d\d to \+\d\.\d\d +100 % +0\.0078 +0\.0078 +\d\.\d\d", done.stdout, re.M
    )
    assert re.search(r"^  +temple +\+\d\.\d\d .* 0\.25 ", done.stdout, re.M), "two categories: 2 x 0.125 by Holm"
    assert re.search(r"^ mini: ours is better: \+\d.*p = 0\.0078; it wins 100 % of the 8 prompts$", done.stdout, re.M)
    assert re.search(r"^ random: Not decided: ours differs by ", done.stdout, re.M)
    assert re.search(r"^ p corrected for 2 scorers \(Holm\): mini 0\.016, random \d", done.stdout, re.M)


def test_one_document_on_standard_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = folder / "renders/base", folder / "renders/ours"
    compare(first, second, str(folder / "suite.jsonl"), tmp_path, scorer=["random"], resamples=100, as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "compare.json").read_text())


def test_study_prompts(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_result(tmp_path / f"{name}.json", name, {"mini": rng.normal(0, 1, 60)}, two_styles(30))
    command = ("study", "prompts", tmp_path / "a.json", tmp_path / "b.json", "--resolution", 0.5, "--resamples", 100)
    done = cli(*command, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "out/prompts.json").read_text())
    needed = found["scorers"][0]["scopes"][0]["needed"]["largest"]
    assert (
        f" mini: to find a difference of 0.5 points use {needed} prompts ({needed} for a typical pair)" in done.stdout
    )
    assert done.stdout.startswith("How many prompts: ours, by mini")
    assert re.search(r"^ +60 +0\.\d{3} +0\.\d{3} +0\.\d{3} +\d+\.\d % +\d+\.\d %", done.stdout, re.M)
