"""What the data of a run are checked for before its first step, and what it leaves out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from error_fields import at
from hpskit.errors import InputError
from hpskit.training.data import DataConfig, TrainingData, parse_source, read_data
from hpskit.training.run_folder import RunFolder
from hpskit.training.trainer import TrainConfig, dry_run, train
from made_up_task import write_task
from small_network import small_run

PAIRS = 16


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return small_run(tmp_path, ["steps=1", "warmup=1", "batch=4"], pairs=PAIRS, held_out=6)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    write_task(tmp_path, pairs=PAIRS, seed=0)
    write_task(tmp_path, pairs=6, seed=0, held_out=True)
    return tmp_path


def read(task: Path, **options: Any) -> TrainingData:
    return read_data(DataConfig(data=(str(task / "train.json"),), validation=str(task / "held-out.json"), **options))


def rows_of(task: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((task / name).read_text())  # type: ignore[no-any-return]


def change(path: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = json.loads(path.read_text())
    edit(rows)
    path.write_text(json.dumps(rows))


def test_data_with_a_ratio(task: Path) -> None:
    path = str(task / "train.json")
    assert parse_source(path)[1] is None
    assert parse_source(f"{path}:2.5")[1] == 2.5
    with pytest.raises(InputError, check=at("--data", found="-1", expected="above 0")):
        parse_source(f"{path}:-1")
    with pytest.raises(InputError, check=at("train.json:x")):
        parse_source(f"{path}:x")
    with pytest.raises(InputError, check=at("--data", found="1 of 2 data sets")):
        read_data(DataConfig(data=(path, f"{path}:2"), validation=path))
    with pytest.raises(InputError, check=at("--data", found="is missing")):
        read_data(DataConfig(data=(), validation=path))


def test_missing_images_are_refused_or_their_groups_left_out(task: Path) -> None:
    (task / "train/train-3-b.png").unlink()
    (task / "train/train-5-a.png").write_bytes(b"")
    with pytest.raises(InputError, check=at(".png' ", cure="--on-broken drop")) as caught:
        read(task)
    assert caught.value.place.endswith(" and 1 more")
    found = read(task, on_broken="drop")
    assert found.train[0].without == {f"{task}/train.json: entry {number} (line 1)" for number in (4, 6)}
    [line] = found.left_out()
    assert "train.json: groups left out because image files are missing or empty: 2 (first: " in line
    kept = {row["prompt"] for number, row in enumerate(rows_of(task, "train.json")) if number not in (3, 5)}
    assert found.train[0].prompts() == kept


def test_a_run_drops_the_same_groups_as_without_these_rows(config: TrainConfig, tmp_path: Path) -> None:
    """Missing ones in training and validation."""
    for name in ("train-3-a.png", "train-3-b.png", "held-out-2-a.png"):
        (tmp_path / "train" / name).unlink()
    said: list[str] = []
    dropped = train(replace(config, on_broken="drop"), warn=said.append)
    assert sum("left out because image files are missing or empty: 1 (first: " in line for line in said) == 2
    noted = RunFolder(config.out).config()
    assert [entry.groups for entry in (*noted.data, *noted.validation)] == [PAIRS - 1, 5]
    assert set(noted.left_out) <= set(said)
    assert f'<p class="note">{noted.data[0].name}: groups left out' in (config.out / "report.html").read_text()
    change(tmp_path / "train.json", lambda rows: rows.pop(3))
    change(tmp_path / "held-out.json", lambda rows: rows.pop(2))
    removed = train(replace(config, out=tmp_path / "removed"))
    assert dropped.weight_hash == removed.weight_hash
    assert dropped.validation["accuracy"] == removed.validation["accuracy"]


def test_what_leaks_is_refused_or_counted_by_kind_everywhere(config: TrainConfig, tmp_path: Path) -> None:
    """One prompt of validation in two training rows, and one of its images in a third."""
    held_out = rows_of(tmp_path, "held-out.json")

    def edit(rows: list[dict[str, Any]]) -> None:
        rows[0]["prompt"] = rows[1]["prompt"] = held_out[0]["prompt"]
        rows[2]["file_path"][0] = held_out[0]["file_path"][0]

    change(tmp_path / "train.json", edit)
    for stage in (dry_run, train):
        with pytest.raises(InputError, check=at(found="same prompt: 2, same image: 1", cure="these 3 of 16 groups")):
            stage(config)
    assert not config.out.exists()
    dropping = replace(config, drop_leaks=True)
    counted = "3 of 16 (same prompt: 2, same image: 1)"
    warning = f"training groups left out because they share prompts or images with the validation data: {counted}"
    found = dry_run(dropping)
    assert warning in found["warnings"]
    assert any(f"train.json: {PAIRS - 3} groups, " in line for line in found["data"])
    said: list[str] = []
    train(dropping, warn=said.append)
    assert warning in said
    noted = RunFolder(config.out).config()
    assert noted.left_out == (warning,)
    assert warning in (config.out / "report.html").read_text()


def test_what_is_left_out_for_its_images_leaks_nothing(task: Path) -> None:
    """A training group without images, and one that only a validation group without images has anything of."""
    held_out = rows_of(task, "held-out.json")

    def edit(rows: list[dict[str, Any]]) -> None:
        rows[0]["prompt"], rows[1]["prompt"] = held_out[0]["prompt"], held_out[1]["prompt"]

    change(task / "train.json", edit)
    for name in ("train-0-a.png", "held-out-1-a.png"):
        (task / "train" / name).unlink()
    found = read(task, on_broken="drop")
    assert not found.leaks.found
    assert found.leaks.train_groups == PAIRS - 1


def test_prompts_that_are_cut_are_counted_before_the_first_step(config: TrainConfig, tmp_path: Path) -> None:
    long = "a red ball " + "and another ball " * 40

    def edit(rows: list[dict[str, Any]]) -> None:
        for number in range(3):
            rows[number]["prompt"] = f"{long} {number}"
        rows[4]["prompt"] = "a picture of something extraordinarily " * 5  # more than 77 letters, fewer tokens

    change(tmp_path / "train.json", edit)
    [warning] = [line for line in dry_run(config)["warnings"] if "longer" in line]
    assert "train.json: 3 of 16 prompts are longer than the 77 tokens that the network reads" in warning


def test_validation_in_which_fewer_than_two_prompts_decide_anything_is_refused(task: Path) -> None:
    """Groups that are left out for their images do not count."""
    rows = rows_of(task, "held-out.json")
    for row in rows[2:]:
        (task / "train" / Path(row["file_path"][0]).name).unlink()
    read(task, on_broken="drop")

    def tie(rows: list[dict[str, Any]]) -> None:
        rows[1]["human_preference"] = [0.5, 0.5]

    change(task / "held-out.json", tie)
    with pytest.raises(InputError, check=at("held-out.json", found="1 prompt", expected="at least two")):
        read(task, on_broken="drop")
