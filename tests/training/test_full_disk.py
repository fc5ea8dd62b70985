"""A disk that is full at some moment of a run: an error that says where, nothing lost, and the same weights afterwards.

The disk is a real one of a few megabytes in memory, which only root may mount; elsewhere the tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from error_fields import at
from hpskit.errors import OutputError
from hpskit.training.run_folder import RunFolder, lines_of, open_trackers, writing
from hpskit.training.trainer import TrainConfig, dry_run, sizes_of, train
from run_material import write_run
from small_network import small_run

STEPS = 24
SETTINGS = (
    f"steps={STEPS}",
    "warmup=1",
    "batch=2",
    "validate_every=12",
    "save_every=12",
    "keep=2",
)
SLOW = pytest.mark.slow
DISK = 40 << 20
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "hpskit-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small disk of its own, which only root may mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def undisturbed(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, str]:
    folder = tmp_path_factory.mktemp("task")
    config = small_run(folder, SETTINGS, pairs=12, held_out=4)
    return replace(config, out=disk / "run", resume=True), train(config).weight_hash


def filled(disk: Path, step: int, left: int) -> Callable[[str, int, int | None, Mapping[str, Any]], None]:
    """Progress that fills the disk after a step, but for so many bytes."""

    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "step" and done == step:
            found = os.statvfs(disk)
            with (disk / "filler").open("wb") as handle:
                os.posix_fallocate(handle.fileno(), 0, found.f_bavail * found.f_frsize - left)

    return progress


def taken(*files: Path) -> int:
    """Bytes of whole pages."""
    return sum(-(-file.stat().st_size // PAGE) * PAGE for file in files)


@pytest.mark.parametrize(
    ("step", "checkpoints", "models", "pages", "where"),
    [
        pytest.param(1, 0, 0, 0, "log.jsonl", id="log"),
        pytest.param(12, 0, 0.5, 0, "checkpoints/step-000012/model.safetensors", id="first checkpoint", marks=SLOW),
        pytest.param(24, 0.7, 0, 0, "checkpoints/step-000024/training.safetensors", id="second checkpoint"),
        pytest.param(24, 1, 0.5, 0, "model.safetensors", id="final weights", marks=SLOW),
        pytest.param(24, 1, 1, 4, "report.html", id="report"),
    ],
)
def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_room(
    undisturbed: tuple[TrainConfig, str],
    disk: Path,
    step: int,
    checkpoints: float,
    models: float,
    pages: int,
    where: str,
) -> None:
    config, expected = undisturbed
    shutil.rmtree(config.out, ignore_errors=True)
    (disk / "filler").unlink(missing_ok=True)
    whole = RunFolder(Path(config.data[0]).parent / "whole")
    left = checkpoints * taken(*whole.checkpoint(STEPS).iterdir()) + models * taken(whole.model)
    with pytest.raises(OutputError) as caught:
        train(config, filled(disk, step, int(left) + pages * PAGE))
    text = str(caught.value)
    assert text.replace("/.step", "/step").startswith(str(config.out / where.rpartition("/")[0])), text
    assert "No space left on device" in text
    assert "room" in text
    assert not list(config.out.rglob("*.tmp"))
    steps_before = RunFolder(config.out).steps()
    assert steps_before == [n for n in (12, 24) if n < step or (n == step and checkpoints == 1)]
    (disk / "filler").unlink()
    assert train(config).weight_hash == expected
    steps = [line["step"] for line in lines_of(RunFolder(config.out).log(), "step")]
    assert steps == [*range(1, STEPS + 1)]
    for name in ("report.html", "model.training.json", "summary.json"):
        assert (config.out / name).stat().st_size


def test_a_disk_without_room_is_refused_before_the_first_step(undisturbed: tuple[TrainConfig, str], disk: Path) -> None:
    config, expected = undisturbed
    shutil.rmtree(config.out, ignore_errors=True)
    sizes = sizes_of(config.recipe)
    fill = filled(disk, 1, sizes["disk"] - sizes["checkpoint"])
    fill("training", 1, None, {"kind": "step"})
    for stage in (train, dry_run):
        with pytest.raises(OutputError, check=at(config.out, expected="GB for checkpoints", cure="make room")):
            stage(config)
        assert not config.out.exists()
    (disk / "filler").unlink()
    assert train(config).weight_hash == expected
    filled(disk, 1, PAGE)("training", 1, None, {"kind": "step"})
    assert train(config).weight_hash == expected  # it is finished and writes nothing
    (disk / "filler").unlink()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's own thread
def test_curves_that_cannot_be_written_are_an_error_that_says_so(disk: Path) -> None:
    run = write_run(disk / "curves")
    (tracker,) = open_trackers(run, after=0, wanted=True)
    filled(disk, 1, 0)("training", 1, 2, {"kind": "step"})

    def draw() -> None:
        with writing(run.path / "tensorboard"):
            for step in range(2000):
                tracker.log({"step/loss": 0.5}, step=step)

    try:
        with pytest.raises(OutputError, check=at(run.path, cure="--resume")):
            draw()
    finally:
        (disk / "filler").unlink()
    with contextlib.suppress(OSError):
        tracker.finish()
