"""Several processes, and a batch in parts, follow the course of one process with whole batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpskit.training.log import log_lines
from made_up_task import write_task

DRIVER = Path(__file__).with_name("killed_runs.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    write_task(folder, pairs=20, seed=0)
    write_task(folder, pairs=6, seed=0, held_out=True)
    done = subprocess.run(
        [sys.executable, DRIVER, "processes", folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_loss_follows_that_of_one_process(runs: Path) -> None:
    """One test, so that the runs are made by one of the processes that test."""
    for whole, name in (("one", "two"), ("one", "parts"), ("lone", "idle")):
        for kind in ("step", "validation"):
            one, other = (
                [line for line in log_lines(runs / which / "log.jsonl") if line["kind"] == kind]
                for which in (whole, name)
            )
            assert len(one) == len(other) > 0, name
            for expected, found in zip(one, other, strict=True):
                for figure in ("loss", "chance"):
                    assert found[figure] == pytest.approx(expected[figure], abs=1e-5), name
                for count in {"pairs", "images", "groups", "step"} & found.keys():
                    assert found[count] == expected[count], name
