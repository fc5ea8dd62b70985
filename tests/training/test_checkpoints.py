"""Checkpoints are whole or not there, and only those that are worth it stay."""

from __future__ import annotations

import json
import resource
import shutil
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


def same(one: Checkpoint, other: Checkpoint) -> bool:
    pairs = ((one.weights, other.weights), (one.training, other.training))
    return one.state == other.state and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert store.last() is None
    saved = checkpoint(7)
    store.save(saved, {"name": "x", "architecture": "y"})
    found = store.last()
    assert found is not None
    assert found.step == 7
    assert same(found, saved)


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


def test_what_a_kill_has_left_half_written_is_removed_whatever_its_step(tmp_path: Path) -> None:
    """A run that is asked to end saves where it is, and may be killed in the middle of that."""
    store = Checkpoints(tmp_path, keep=1)
    (tmp_path / ".step-000003.x1y2.tmp").mkdir()
    (tmp_path / ".step-000003.x1y2.tmp/model.safetensors").write_bytes(b"half")
    store.save(checkpoint(4), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "step-000004"]


def test_those_of_every_so_many_steps_stay_too(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1, keep_every=30)
    for step in range(10, 110, 10):
        store.save(checkpoint(step, best=10), {})
    assert store.steps() == [10, 30, 60, 90, 100]
    Checkpoints(tmp_path, keep=1).tidy(10)  # which asks for none of them
    assert store.steps() == [10, 100]


def damages(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    """What may have become of a file."""
    yield "deleted", None
    yield "empty", b""
    for share in (0.1, 0.5, 0.9):
        yield f"the first {share:.0%}", data[: int(share * len(data))]
    yield "longer", data + b"\0" * 64
    for place in range(0, len(data), len(data) // 40):
        yield f"a bit flipped at {place}", data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
    for content in (b"{}", b"[]", b"null", b"\0" * len(data), b"{" * 5000, b"dear diary"):
        yield repr(content[:10]), content


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json"])
def test_whatever_has_become_of_a_file_is_noticed_and_the_cure_is_named(tmp_path: Path, name: str) -> None:
    store = Checkpoints(tmp_path, keep=2)
    saved = checkpoint(5, size=100)
    for each in (checkpoint(3), saved):
        store.save(each, {})
    path = tmp_path / f"step-000005/{name}"
    whole, noticed = path.read_bytes(), 0
    for what, content in damages(whole):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        try:
            found = store.load(5)
        except CheckpointError as error:
            text = str(error)
        else:  # it was in the description of a tensor file, of which nothing is read
            assert what.startswith("a bit flipped"), what
            assert "state" not in name, what
            assert same(found, saved), what
            continue
        noticed += 1
        assert text.startswith(str(path)), what
        assert text.endswith(f"; delete the folder {tmp_path}/step-000005, and --resume goes on from step 3"), what
        assert "\n" not in text, what
    assert noticed > 25
    path.write_bytes(whole)
    assert same(store.load(5), saved)


def test_what_becomes_of_a_run_without_its_damaged_checkpoint(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in (3, 5):
        store.save(checkpoint(step), {})
        (tmp_path / f"step-{step:06d}/model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-000003, and --resume takes the best of the others"):
        store.weight_hash(3)
    shutil.rmtree(tmp_path / "step-000003")
    with pytest.raises(CheckpointError, match=r"step-000005, and --resume begins anew"):
        store.load(5)


def test_state_without_one_of_its_parts_is_refused(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    store.save(checkpoint(5), {})
    path = tmp_path / "step-000005/state.json"
    value = json.loads(path.read_text())
    for part in ("best", "position", "random"):
        state = {name: found for name, found in value["state"].items() if name != part}
        path.write_text(json.dumps({**value, "state": state}))
        with pytest.raises(CheckpointError, match=r"state\.json: is not as it was written; delete the folder"):
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
