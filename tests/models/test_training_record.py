"""What a model was trained on, and that it can be found out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpskit.errors import CheckpointError
from hpskit.models.store import locate
from hpskit.models.training_record import prompt_hash, read_record, record_path, write_record


def test_it_knows_its_prompts_however_they_are_written(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    path = write_record(weights, weight_hash="sha256:1", data="two prompts", prompts=["A red  barn", "a cat", "a cat "])
    assert path == record_path(weights) == tmp_path / "mine.training.json"
    record = read_record(weights, "sha256:1")
    assert record is not None
    assert record.data == "two prompts"
    assert len(record.prompts) == 2
    assert record.overlap(["a red barn", "a red barn\n", "A CAT", "a dog"]) == 3


def test_it_knows_what_chose_it(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    path = write_record(weights, weight_hash="sha256:1", data="x", prompts=["a"], chosen_on=["A  cat", "a dog"])
    record = read_record(weights, "sha256:1")
    assert record is not None
    assert (record.choice_overlap(["a cat", "a", "a cat"]), record.overlap(["a cat", "a"])) == (2, 1)
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "chosen_on": "a cat"}))
    with pytest.raises(CheckpointError, match="chosen_on is 'a cat', expected a list of hashes of prompts; write it"):
        read_record(weights, "sha256:1")
    del written["chosen_on"]
    path.write_text(json.dumps(written))
    old = read_record(weights, "sha256:1")
    assert old is not None
    assert old.choice_overlap(["a cat"]) == 0


def test_hashes_are_stable() -> None:
    """Known answer: printf 'a red barn' | sha256sum."""
    assert prompt_hash(" A  red barn") == "9f2c7d895e46e3f9"


def test_mini_says_what_it_has_seen(shared: Path) -> None:
    located = locate("mini")
    record = read_record("mini", located.weight_hash)
    assert record is not None
    entries = json.loads((shared / "data/hpdv2_sample/test.json").read_text())
    assert record.overlap(entry["prompt"] for entry in entries) == len(entries) == 37
    assert record.overlap(["a prompt of nobody"]) == 0
    figures = json.loads((Path(__file__).parents[2] / "docs/mini.json").read_text())
    assert record.held_out is not None
    held_out = [record.held_out.value, record.held_out.low, record.held_out.high]
    assert (held_out, len(record.prompts)) == (figures["accuracy"], figures["prompts"])


def test_nothing_is_known_of_others(tmp_path: Path) -> None:
    assert read_record("hps-v2.1", "sha256:1") is None
    assert read_record("a name of nobody", "sha256:1") is None
    assert read_record(tmp_path / "absent.pt", "sha256:1") is None


def test_a_record_of_other_weights_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "mine.pt"
    write_record(weights, weight_hash="sha256:1", data="x", prompts=["a"])
    with pytest.raises(CheckpointError, match=r"mine.training.json: speaks of 'sha256:1', the weights are 'sha256:2'"):
        read_record(weights, "sha256:2")
    text = record_path(weights).read_text()
    record_path(weights).write_text(text.replace('"held_out": null', '"held_out": {"value": 81}'))
    with pytest.raises(CheckpointError, match=r"held_out is {'value': 81}, expected rule, source, value, low, high"):
        read_record(weights, "sha256:1")
    record_path(weights).write_text("[]")
    with pytest.raises(CheckpointError, match="is not a training record"):
        read_record(weights, "sha256:1")
