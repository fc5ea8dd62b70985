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

from hpskit.models.checkpoint import read_tensors
from hpskit.training.run_folder import RunFolder, lines_of
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
        expected, found = (lines_of(RunFolder(run).log(), kind) for run in (one, other))
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
    folder = RunFolder(tmp_path / "two")
    first, second = folder.state(folder.steps()[-1]).random
    assert first != second  # or both would drop the same of their images


@pytest.mark.slow
def test_shards_follow_one_process_and_go_on_anywhere(tmp_path: Path) -> None:
    drive("shards", tmp_path)
    for way in ("all", "frozen"):
        for name in ("two", "shards"):
            follows(tmp_path / f"{way}-one", tmp_path / f"{way}-{name}")
    assert RunFolder(tmp_path / "killed").finished() == RunFolder(tmp_path / "all-shards").finished() is not None
    follows(tmp_path / "all-shards", tmp_path / "moved")
    one, shards, moved = (
        read_tensors(tmp_path / name / "model.safetensors") for name in ("all-one", "all-shards", "moved")
    )
    for name, tensor in one.items():
        assert (shards[name] - tensor).abs().max() < 1e-4, name
        assert (moved[name] - tensor).abs().max() < 1e-4, name


@pytest.mark.slow
def test_two_processes_end_and_choose_as_one(tmp_path: Path) -> None:
    said = drive("agreement", tmp_path)
    calm, asked = (RunFolder(tmp_path / name) for name in ("calm", "asked"))
    assert asked.finished() == calm.finished() is not None
    assert [line["step"] for line in lines_of(asked.log(), "start")] == [0, 3]
    assert said.count("asked: stopped and saved after step 3") == 2
    assert RunFolder(tmp_path / "patient").log()[-1]["reason"] == "patience"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "expected"), [("--device=cpu", "image 'broken.png'"), ("--device=cuda:7", "--device: is 'cuda:7'")]
)
def test_what_happens_to_one_process_ends_all_and_is_said_once(tmp_path: Path, option: str, expected: str) -> None:
    """An image that only one of two processes finds broken; and an option that is wrong for both."""
    write_task(tmp_path, pairs=20, seed=0)
    write_task(tmp_path, pairs=6, seed=0, held_out=True)
    rows = json.loads((tmp_path / "train.json").read_text())
    (tmp_path / "train/broken.png").write_bytes(b"nothing that is an image")
    rows[7]["file_path"][0] = "broken.png"
    (tmp_path / "train.json").write_text(json.dumps(rows))
    began = time.monotonic()
    train = ["-m", "hpskit", "train", "--recipe", "tiny", "--data", "train.json", "--val", "held-out.json"]
    settings = ["--set", "steps=6", "--set", "warmup=1", "--set", "batch=6", "--out", "run", option]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *train, *settings],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode != 0
    assert time.monotonic() - began < 300  # without its launcher the other one would wait for half an hour
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert expected in errors[0]
