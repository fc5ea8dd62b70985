"""`hpskit compare`: one document on standard output. The golden outputs hold its table, and `study prompts`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from conftest import Cli
from suite_material import write_benchmark


def test_json_is_one_document_and_the_table_fits_a_narrow_terminal(
    cli: Cli, photographs: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_benchmark(tmp_path, photographs)
    command = ("compare", "renders/base", "renders/ours", "--prompts", "suite.jsonl", "--resamples", 100)
    done = cli(*command, "--out", "out", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "out/compare.json").read_text())
    assert document["scorers"][0]["outcome"] == "better"
    done = cli(*command, "--out", "out", cwd=tmp_path)
    table = done.stdout[: done.stdout.index("ours is better")]
    assert max(map(len, table.splitlines())) <= 80
