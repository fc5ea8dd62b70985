"""`hpskit data inspect` and `convert` as a user meets them; `fetch` is in tests/dataset/test_fetching.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Cli
from preference_data import TEST_ROW, TRAIN_ROW, png, write_json


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    folder = tmp_path / "hpdv2"
    write_json(folder / "test.json", [TEST_ROW])
    (folder / "test").mkdir()
    for number, name in enumerate(TEST_ROW["image_path"]):
        (folder / "test" / name).write_bytes(png(number))
    return folder


def test_inspect_an_unsound_one(cli: Cli, tmp_path: Path) -> None:
    rows = [TRAIN_ROW, {**TRAIN_ROW, "file_path": ["a.jpg"]}, {**TRAIN_ROW, "file_path": ["a.jpg", "c[red].jpg"]}]
    path = write_json(tmp_path / "train.json", rows)
    done = cli("data", "inspect", path, "--show", 1)
    assert done.returncode == 1
    assert "broken row: 1" in done.stdout
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if n > 2 and text == " {")
    assert f"{path}: entry 2 (line {line}): file_path: is ['a.jpg'], expected a list of at least two" in done.stdout
    assert "missing image: 3" in done.stdout
    assert "… and 2 more" in done.stdout
    assert "not sound" in done.stdout
    assert "Traceback" not in done.stderr


def test_inspect_counts_past_a_first_line_that_is_broken(cli: Cli, tmp_path: Path) -> None:
    line = json.dumps({"group": 1, "prompt": "p", "images": ["a", "b"], "ranks": [1, 2]})
    broken = ['{"group": 0', "[]", "{}"]
    (tmp_path / "a.jsonl").write_text("\n".join([*broken, line]))
    done = cli("data", "inspect", tmp_path / "a.jsonl", "--no-images", "--show", 2)
    assert done.returncode == 1
    assert "broken row: 3" in done.stdout
    for number in (1, 2):
        assert f"{tmp_path}/a.jsonl: line {number}: is " in done.stdout
    assert "… and 1 more" in done.stdout
    assert next(line for line in done.stdout.splitlines() if "groups" in line).split() == ["groups", "1"]


def test_a_loss_is_an_error_or_a_warning(cli: Cli, sound: Path, tmp_path: Path) -> None:
    arguments = ("data", "convert", sound, "--to", "hpdv2-train", "--out", tmp_path / "train")
    done = cli(*arguments)
    assert done.returncode == 2
    assert "hpdv2-train has no place for published orders; --allow-loss" in done.stderr
    done = cli(*arguments, "--allow-loss")
    assert done.returncode == 0
    assert "warning: left out of 1 groups: annotators" in done.stderr
    assert len(json.loads((tmp_path / "train/train.json").read_bytes())) == 6
