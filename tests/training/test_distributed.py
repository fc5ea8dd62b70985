"""Several processes, each with all weights or with a shard of them, and a batch in parts, follow the course of one
process with whole batches; and what happens to one of them ends all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpskit.files import read_json
from hpskit.models.checkpoint import read_tensors
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.log import log_lines
from made_up_task import write_task

DRIVER = Path(__file__).with_name("killed_runs.py")


def drive(case: str, folder: Path) -> str:
    """What the processes of a case have said; see `killed_runs.py`."""
    write_task(folder, pairs=20, seed=0)
    write_task(folder, pairs=6, seed=0, held_out=True)
    done = subprocess.run(
        [sys.executable, DRIVER, case, folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def follows(one: Path, other: Path) -> None:
    """The log of one run says what that of the other says, to 1e-5."""
    for kind in ("step", "validation"):
        expected, found = (
            [line for line in log_lines(run / "log.jsonl") if line["kind"] == kind] for run in (one, other)
        )
        assert len(expected) == len(found) > 0, other
        for before, after in zip(expected, found, strict=True):
            for figure in ("loss", "chance"):
                assert after[figure] == pytest.approx(before[figure], abs=1e-5), other
            for count in {"pairs", "images", "groups", "step"} & after.keys():
                assert after[count] == before[count], other


def test_the_loss_follows_that_of_one_process(tmp_path: Path) -> None:
    drive("processes", tmp_path)
    for whole, name in (("one", "two"), ("one", "parts"), ("lone", "idle")):
        follows(tmp_path / whole, tmp_path / name)
    last = Checkpoints(tmp_path / "two/checkpoints", 1).last()
    assert last is not None
    first, second = last.state["random"]
    assert first != second  # or both would drop the same of their images


@pytest.mark.slow
def test_shards_follow_one_process_and_go_on_anywhere(tmp_path: Path) -> None:
    drive("shards", tmp_path)
    for way in ("all", "frozen"):
        for name in ("two", "shards"):
            follows(tmp_path / f"{way}-one", tmp_path / f"{way}-{name}")
    whole, killed = (read_json(tmp_path / name / "summary.json") for name in ("all-shards", "killed"))
    assert killed == whole
    follows(tmp_path / "all-shards", tmp_path / "moved")
    one, shards, moved = (
        read_tensors(tmp_path / name / "model.safetensors") for name in ("all-one", "all-shards", "moved")
    )
    for name, tensor in one.items():
        assert (shards[name] - tensor).abs().max() < 1e-4, name
        assert (moved[name] - tensor).abs().max() < 1e-4, name


@pytest.mark.slow
def test_what_happens_to_one_process_ends_all(tmp_path: Path) -> None:
    write_task(tmp_path, pairs=20, seed=0)
    rows = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train/broken.png").write_bytes(b"nothing that is an image")
    rows[7]["file_path"][0] = "broken.png"
    (tmp_path / "broken.json").write_text(json.dumps(rows))
    began = time.monotonic()
    said = drive("trouble", tmp_path)
    assert time.monotonic() - began < 300  # without agreement, half an hour
    for name in ("whole", "sharded"):
        lines = [line for rank in "01" for line in (tmp_path / f"{name}.{rank}.txt").read_text().splitlines()]
        (error,) = (line for line in lines if not line.startswith("warning: "))
        assert error.startswith("error: ")
        assert "entry 8 (line 1): image 'broken.png'" in error
    calm, asked = (read_json(tmp_path / name / "summary.json") for name in ("calm", "asked"))
    assert asked == calm
    starts = [line["step"] for line in log_lines(tmp_path / "asked/log.jsonl") if line["kind"] == "start"]
    assert starts == [0, 3]
    assert said.count("asked: stopped and saved after step 3") == 2
    assert log_lines(tmp_path / "patient/log.jsonl")[-1]["reason"] == "patience"
    for name, expected in (("numberless", "have scores that are no numbers; the last"), ("curves", "no room for them")):
        errors = [(tmp_path / f"{name}.{rank}.txt").read_text() for rank in "01"]
        assert sum(text.count("error: ") for text in errors) == sum(text.count(expected) for text in errors) == 1
    assert said.count("does not see it; put --out on a disk that all machines share") == 2
