"""The prompts that a model was trained on, and that they can be found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from error_fields import at
from hpskit.errors import CheckpointError, InputError
from hpskit.models.store import locate
from hpskit.models.training_record import HeldOut, prompt_hash, read_record, record_path, write_record


def test_it_knows_its_prompts_however_they_are_written(tmp_path: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    held_out = HeldOut(rule="hpdv2", value=0.8, low=0, high=1, source="by hand")
    path = write_record(
        weights,
        weight_hash="sha256:1",
        data="two prompts",
        prompts=["A red  barn", "a cat", "a cat "],
        chosen_on=["A  horse", "a dog"],
        held_out=held_out,
    )
    assert path == record_path(weights) == tmp_path / "mine.training.json"
    record = read_record(weights, "sha256:1")
    assert record is not None
    assert (record.data, len(record.prompts), record.held_out) == ("two prompts", 2, held_out)
    assert record.overlap(["a red barn", "a red barn\n", "A CAT", "a dog"]) == 3
    assert record.choice_overlap(["a horse", "a cat", "a horse"]) == 2
    written = json.loads(path.read_text())
    del written["chosen_on"]
    path.write_text(json.dumps(written))
    old = read_record(weights, "sha256:1")
    assert old is not None
    assert old.choice_overlap(["a horse"]) == 0


def test_hashes_are_stable() -> None:
    """Known answer: printf 'a red barn' | sha256sum."""
    assert prompt_hash(" A  red barn") == "9f2c7d895e46e3f9"


def test_mini_says_what_it_has_seen() -> None:
    record = read_record("mini", locate("mini").weight_hash)
    assert record is not None
    assert record.overlap(["a prompt of nobody"]) == 0
    figures = json.loads((Path(__file__).parents[2] / "docs/mini.json").read_text())
    assert record.held_out is not None
    held_out = [record.held_out.value, record.held_out.low, record.held_out.high]
    assert (held_out, len(record.prompts)) == (figures["accuracy"], figures["prompts"])


def test_nothing_is_known_of_others(tmp_path: Path) -> None:
    for name in ("hps-v2.1", "a name of nobody", tmp_path / "absent.pt"):
        assert read_record(name, "sha256:1") is None


@pytest.mark.parametrize(
    ("change", "where", "found"),
    [
        ({"chosen_on": "a cat"}, "chosen_on", "'a cat'"),
        ({"held_out": {"value": 81}}, "held_out.", ""),
        ({"held_out": {"rule": "x", "value": 81, "low": 0, "high": 1, "source": "x"}}, "held_out.value", "81"),
        ({"format": "something else"}, "format", "something else"),
        ([], "", "[]"),
    ],
    ids=lambda value: next(iter(value), "list") if isinstance(value, dict | list) else "",
)
def test_a_damaged_record_is_refused(change: Any, where: str, found: str, tmp_path: Path) -> None:
    weights = tmp_path / "mine.pt"
    path = write_record(weights, weight_hash="sha256:1", data="x", prompts=["a"])
    with pytest.raises(CheckpointError, check=at(path, found="'sha256:1'", expected="'sha256:2'")):
        read_record(weights, "sha256:2")
    path.write_text(json.dumps(json.loads(path.read_text()) | change if change else change))
    with pytest.raises(InputError, check=at(f"{path}: {where}" if where else path, found=found)):
        read_record(weights, "sha256:1")
