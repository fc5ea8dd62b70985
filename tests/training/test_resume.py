"""A run that was killed by the system at different moments ends with the very weights of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from forked_process import ForkedProcess
from hpskit.files import read_json
from hpskit.training.log import log_lines
from made_up_task import write_task

DRIVER = Path(__file__).with_name("killed_runs.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_task(folder, pairs=20, seed=0)
    write_task(folder, pairs=6, seed=0, held_out=True)
    arguments = [str(DRIVER), "resume", str(folder)]
    code = f"import runpy, sys; sys.argv = {arguments}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = ForkedProcess(code, OMP_NUM_THREADS="1").finish(600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_killed_run_ends_with_the_same_weights_to_the_bit(runs: Path) -> None:
    whole, killed = (read_json(runs / name / "summary.json") for name in ("whole", "killed"))
    assert killed == whole
    assert killed["steps"] == 6


def test_its_log_tells_the_same_story_once(runs: Path) -> None:
    def story(name: str) -> list[dict[str, object]]:
        lines = log_lines(runs / name / "log.jsonl")
        return [
            {key: value for key, value in line.items() if key != "seconds"}
            for line in lines
            if line["kind"] in ("step", "validation")
        ]

    assert story("killed") == story("whole")
    starts = [line["step"] for line in log_lines(runs / "killed/log.jsonl") if line["kind"] == "start"]
    assert starts == [0, 0, 0, 2, 2, 4]


def test_nothing_half_written_is_left(runs: Path) -> None:
    names = sorted(path.name for path in (runs / "killed/checkpoints").iterdir())
    assert names == sorted(path.name for path in (runs / "whole/checkpoints").iterdir())
    assert not list((runs / "killed").rglob("*.tmp"))
