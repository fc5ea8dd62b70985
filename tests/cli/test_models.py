"""`hpskit models list` and `verify`; what fetches is tested in tests/models/test_store.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Cli
from hpskit.models.registry import MODELS


def test_list(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["name"]: row for row in json.loads(cli("models", "list", "--json").stdout)}
    assert set(rows) == set(MODELS)
    assert rows["mini"]["state"] == "embedded"
    assert rows["mini"]["size"] == Path(rows["mini"]["path"]).stat().st_size <= 20_000_000
    assert rows["hps-v2.1"]["state"] == "not fetched"
    assert rows["hps-v2.1"]["source"] == "xswu/HPSv2/HPS_v2.1_compressed.pt"
    monkeypatch.setenv("COLUMNS", "80")
    table = cli("models", "list").stdout.splitlines()
    names = [line.split()[0] for line in table if not line.startswith(" ")]
    assert names == list(MODELS)
    assert "mini         embedded · 6 MB · Apache-2.0" in table
    assert len(table) <= 3 * len(MODELS)


def test_fetch_of_the_embedded_model_makes_a_copy(cli: Cli, tmp_path: Path) -> None:
    done = cli("models", "fetch", "mini", "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(cli("models", "verify", tmp_path / "mini.safetensors", "--json").stdout)["name"] == "mini"
