"""SIGKILL in the middle of a command, and the same command again: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, command_code
from forked_process import ForkedProcess
from hpskit.stage import Ledger

KILLED = """
import os, signal
from hpskit.stage import Ledger
put = Ledger.put
def put_and_die(ledger, entries):
    put(ledger, entries)
    if len(ledger) > 8:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.put = put_and_die
"""
"""As soon as some of the work is on disk."""


INTERRUPTED = KILLED.replace("SIGKILL", "SIGINT")


@pytest.mark.parametrize(
    "command",
    [
        "score --pairs {0}.jsonl --batch-size 1 --out {0}/s.jsonl",
        "evaluate --data HPDv2/test.json -s mini --batch-size 1 --resamples 200 --out {0}",
        "benchmark run --suite suite.jsonl --images renders/ours --name ours --batch-size 1 --out {0}/r.json",
        "compare renders/base renders/ours --prompts suite.jsonl --batch-size 1 --resamples 200 --out {0}",
        "study chrominance ours=renders/ours base=renders/base --resamples 200 --out {0}",
        "images generate --prompts suite.jsonl --generators painters.toml --out {0}",
    ],
    ids=lambda text: text.split()[0],
)
def test_ctrl_c_says_how_it_goes_on(command: str, inputs: Path, tmp_path: Path) -> None:
    rows = [{"image": str(path), "prompt": "x"} for path in sorted((inputs / "HPDv2/test").iterdir())[:20]]
    out = tmp_path / "out"
    out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = ForkedProcess(INTERRUPTED + command_code(["hpskit", *command.format(out).split()]), cwd=inputs).finish()
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted; the same command goes on with what is done"
    assert "Traceback" not in done.stderr


def published(path: Path) -> Any:
    """What a command has found, without the command itself and the hashes of pages that name it."""
    if path.suffix in (".jsonl", ".parquet"):
        return path.read_bytes()
    found = json.loads(path.read_text())
    for part in (found, *found.get("scorers", ())):
        part.pop("command", None)
    return {**found, "files": None}


@pytest.mark.parametrize(
    ("command", "ledger", "product"),
    [
        ("score --pairs {0}.jsonl --batch-size 1 --out {0}/s.jsonl", "s.jsonl.partial", "s.jsonl"),
        ("score --pairs {0}.jsonl --batch-size 1 --out {0}/s.parquet", "s.parquet.partial", "s.parquet"),
        (
            "evaluate --data HPDv2/test.json -s mini --batch-size 1 --resamples 200 --out {}",
            "scores.ledger",
            "groups.jsonl",
        ),
        (
            "benchmark run --suite suite.jsonl --images renders/ours --name ours --batch-size 1 --out {}/r.json",
            "r.json.partial",
            "r.json",
        ),
        (
            "compare renders/base renders/ours --prompts suite.jsonl --batch-size 1 --resamples 200 --out {}",
            "scores.ledger",
            "compare.json",
        ),
        (
            "study chrominance ours=renders/ours base=renders/base --resamples 200 --out {}",
            "chrominance.json.partial",
            "chrominance.json",
        ),
    ],
    ids=lambda text: text.split()[0],
)
def test_it_goes_on(
    command: str, ledger: str, product: str, cli: Cli, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"image": str(path), "prompt": "x"} for path in sorted((inputs / "HPDv2/test").iterdir())[:20]]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for out in (killed, whole):
        out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = KILLED + command_code(["hpskit", *command.format(killed).split()])
    assert ForkedProcess(code, cwd=inputs).finish().returncode == -signal.SIGKILL
    assert not (killed / product).exists()
    assert (killed / ledger).exists()
    done: list[object] = []
    put = Ledger.put

    def counted(own: Ledger, entries: Iterable[Any]) -> None:
        entries = list(entries)
        done.extend(key for key, _ in entries)
        put(own, entries)

    monkeypatch.setattr(Ledger, "put", counted)
    counts = []
    for out in (killed, whole):
        done.clear()
        assert cli(*command.format(out).split(), cwd=inputs).returncode == 0
        counts.append(len(done))
    assert 0 < counts[0] <= counts[1] - 8
    assert published(killed / product) == published(whole / product)
