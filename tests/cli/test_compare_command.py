"""`hpskit compare`: one document on standard output. The golden outputs hold its table, and `study prompts`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Cli
from small_inputs import grey


def test_json_is_one_document_and_the_table_fits_a_narrow_terminal(
    cli: Cli, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ("compare", "renders/other", "renders/ours", "--prompts", "suite.jsonl", "--resamples", 100)
    done = cli(*command, "--out", tmp_path / "out", "--json", cwd=inputs)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out/compare.json").read_text())
    assert document["scorers"][0]["outcome"] == "better"
    done = cli(*command, "--out", tmp_path / "out", cwd=inputs)
    table = done.stdout[: done.stdout.index("ours is better")]
    assert max(map(len, table.splitlines())) <= 80


def test_errors_name_the_options_that_there_are(cli: Cli, inputs: Path, tmp_path: Path) -> None:
    command = ("compare", "renders/base", "renders/ours/anime", "--out", tmp_path / "out", "--prompts")
    assert "error: --prompts: is 'missing.csv'" in cli(*command, "missing.csv", cwd=inputs).stderr
    assert "say which is which with --manifest-b" in cli(*command, "suite.jsonl", cwd=inputs).stderr


def test_a_run_says_how_names_were_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "suite.txt").write_text("one\ntwo\n")
    for number in (1, 2):
        grey(tmp_path / f"images/{number:04d}.png", 100 * number)
    words = ("benchmark", "run", "--suite", tmp_path / "suite.txt", "--images", tmp_path / "images", "--name", "m")
    done = cli(*words, "--out", tmp_path / "r.json", "--scorer", "random")
    assert "note: numbers start at 1: 0001.png is of the first prompt" in done.stderr
    names = [row["images"][0]["image"] for row in json.loads((tmp_path / "r.json").read_text())["prompts"]]
    assert names == ["0001.png", "0002.png"]
    (tmp_path / "suite.txt").write_text("one\ntwo\nthree\n")
    assert cli(*words, "--out", tmp_path / "x.json", "--allow-missing").returncode == 2
