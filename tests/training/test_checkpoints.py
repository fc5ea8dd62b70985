"""Checkpoints are whole or not there, and only those that are worth it stay."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hpskit.errors import CheckpointError, OutputError
from hpskit.training.checkpoints import Checkpoint, Checkpoints


def checkpoint(step: int, best: int | None = None, size: int = 4) -> Checkpoint:
    weights = {"a": torch.full((size,), float(step)), "b": torch.eye(2)}
    training = {"exp_avg/a": torch.arange(size, dtype=torch.float32), "step/a": torch.tensor(float(step))}
    state = {"best": best, "position": {"batches": step}, "random": ["00ff"]}
    return Checkpoint(step=step, weights=weights, training=training, state=state)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert store.last() is None
    saved = checkpoint(7)
    store.save(saved, {"name": "x", "architecture": "y"})
    found = store.last()
    assert found is not None
    assert found.step == 7
    assert {**found.state, "format": "", "weight_hash": ""} == {
        **saved.state,
        "step": 7,
        "format": "",
        "weight_hash": "",
    }
    for before, after in ((saved.weights, found.weights), (saved.training, found.training)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_last_ones_and_the_best_one_stay(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in range(10, 70, 10):
        store.save(checkpoint(step, best=20 if step >= 20 else 10), {})
    assert store.steps() == [20, 50, 60]
    assert json.loads((tmp_path / "index.json").read_text()) == {"last": "step-000060", "best": "step-000020"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.json",
        "step-000020",
        "step-000050",
        "step-000060",
    ]


def test_a_folder_that_a_kill_has_left_half_removed_is_no_checkpoint(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    store.save(checkpoint(5), {})
    (tmp_path / "step-000005").rename(tmp_path / ".step-000005.old.tmp")
    assert store.last() is None


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    store.save(checkpoint(5), {})
    (tmp_path / "step-000005/state.json").write_text('{"format": "something else"}')
    with pytest.raises(CheckpointError, match=r"step-000005/state\.json: is not the state of step 5"):
        store.last()


@pytest.fixture
def little_room() -> Iterator[int]:
    """No file may grow beyond 64 KB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = 64 << 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_loses_nothing(tmp_path: Path, little_room: int) -> None:
    store = Checkpoints(tmp_path, keep=1)
    store.save(checkpoint(1, best=1), {})
    with pytest.raises(OutputError, match=r"cannot be written .*; make room"):
        store.save(checkpoint(2, best=2, size=little_room), {})
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["index.json", "step-000001"]
    assert store.last() is not None
