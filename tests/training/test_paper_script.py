"""`runs/hpdv2.sh`: every command that it would run is checked, and the check can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from check_commands import check

RUNS = Path(__file__).parents[2] / "runs"


def test_the_dry_run_passes_and_leaves_nothing(tmp_path: Path) -> None:
    """With ablation and one GPU; nothing but a temporary folder of its own is written."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [RUNS / "hpdv2.sh", "--dry-run", "--gpus", "1", "paper"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "23 commands exist and take their options" in done.stdout
    assert "torchrun --nproc-per-node 1 -m hpskit train --recipe hpsv2 --set accumulate=8" in done.stdout
    assert done.stdout.rstrip().endswith("dry run: nothing was written")
    assert [*tmp_path.iterdir()] == []


def test_an_unknown_option_of_the_script_is_refused() -> None:
    done = subprocess.run([RUNS / "hpdv2.sh", "--dryrun"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--dryrun: is no option" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hpskit trian --data a --out b", "No such command 'trian'"),
        ("hpskit train --data a --out b --speed 3", "No such option: --speed"),
        ("hpskit train --data a", "Missing parameter: out"),
        ("hpskit train --data a --out b --on-broken replace", "'replace' is not one of"),
        ("hpskit train --data a --out b --recipe hpsv3", "is 'hpsv3', expected hpsv2, tiny"),
        ("hpskit train --data a --out b --set lr=fast", "lr: is 'fast', expected a valid number"),
        ("hpskit ablate --data a --val b --out c --grid learning=1,2", "learning: is no field"),
        ("hpskit data", "NoArgsIsHelpError"),
        ("torchrun --gpus 8 -m hpskit train --data a --out b", "unrecognized arguments: --gpus"),
        ("rm -r data", "is no command of hpskit"),
    ],
)
def test_what_would_fail_is_found(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((Exception, SystemExit)) as caught:
        check(line)
    assert said in f"{caught.type.__name__}: {caught.value} {capsys.readouterr().err}"
    assert not isinstance(caught.value, SystemExit) or caught.value.code
