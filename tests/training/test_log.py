"""The log of a run: what its lines hold, what is noticed when it was damaged, and curves elsewhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from hpskit.errors import InputError, MissingExtraError, OutputError
from hpskit.files import read_json
from hpskit.training.log import KINDS, RunLog, log_lines, wandb
from hpskit.training.recipes import tiny
from run_material import log_of

PAGE = Path(__file__).parents[2] / "docs/training.md"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in log_of(tiny(), warning=True)))
    return path


def test_the_page_tells_every_kind_of_line_and_its_fields() -> None:
    section = PAGE.read_text().partition("### Following a run")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", section, re.MULTILINE)
    assert {kind: frozenset(re.findall(r"`(\w+)`", fields)) for kind, fields in rows} == KINDS


def test_a_log_goes_on_behind_a_step(log: Path) -> None:
    before = log_lines(log)
    with RunLog(log, after=120) as opened:
        assert opened.gap(120) is None
        opened.write("warning", 120, {"name": "x", "text": "y"})
    after = log_lines(log)
    assert after[:-1] == [line for line in before if line["step"] <= 120]
    assert after[-1] == {"kind": "warning", "step": 120, "name": "x", "text": "y"}


def test_what_is_missing_is_said(log: Path) -> None:
    with RunLog(log, after=300) as opened:
        assert str(opened.gap(300)).endswith("ends at step 200, the run goes on from step 300; the curves have a gap")


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("dear diary", "kind"),
        ("[1]", "kind"),
        ("", "kind"),
        ('{"step": 3}', "kind"),
        ('{"kind": "note", "step": 3}', "kind"),
        ('{"kind": ["step"], "step": 3}', "kind"),
        ('{"kind": "warning", "step": 3, "name": "x"}', "text"),
        ('{"kind": "end", "step": "3", "time": 1, "reason": "x"}', "step"),
        ('{"kind": "step", "step": 3, "loss": 1, "accuracy": 1, "lr": 1, "seconds": 1}', "chance, dropped, "),
        ("[" * 100_000, "kind"),
    ],
)
def test_a_foreign_line_is_named_and_nothing_is_cut_off(log: Path, line: str, lacks: str) -> None:
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines[:4], line, *lines[4:], '{"kind": "st']))
    before = log.read_bytes()
    for read in (lambda: log_lines(log), lambda: RunLog(log, after=200)):
        with pytest.raises(InputError, match=rf"log\.jsonl: line 5: .* it lacks {lacks}.*; correct or delete the line"):
            read()
    assert log.read_bytes() == before


def test_a_torn_end_is_cut_off_but_not_what_is_no_line(log: Path) -> None:
    whole = log.read_bytes()
    for torn in (b'{"kind": "step", "st', '{"kind": "warning", "text": "…'.encode()[:-1]):
        log.write_bytes(whole + torn)
        with RunLog(log, after=200):
            pass
        assert log.read_bytes() == whole
    log.write_bytes(whole + b"\0" * 100)
    with pytest.raises(InputError, match=r"line \d+: is no line of a training log"):
        RunLog(log, after=200)
    log.write_bytes(whole.replace(b"loss", b"\xff\xff"))
    with pytest.raises(InputError, match=r"is damaged .* put it back, or delete it and lose the curves"):
        log_lines(log)


def test_one_process_writes_at_a_time(log: Path) -> None:
    with RunLog(log, after=200), pytest.raises(OutputError, match="another process is writing"):
        RunLog(log, after=200)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'hpskit\[wandb\]'"):
        wandb(tmp_path, {})


def test_curves_in_weights_and_biases_go_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real client, which writes to files and sends nothing."""
    pytest.importorskip("wandb", reason="needs wandb, which is in no other extra because it is large")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_PROJECT", "colours")
    run = tmp_path / "one/run"
    run.mkdir(parents=True)
    for part in (1, 2):
        with RunLog(run / "log.jsonl", after=part - 1) as log:
            log.sinks += wandb(run, {"recipe": {"lr": 1e-3}})
            log.write("end", part, {"time": 0.0, "reason": "x"})
            log.sinks[0].add(part, {"step/loss": 0.5})
    number = read_json(run / "wandb.json")["id"]
    parts = sorted(run.glob(f"wandb/offline-run-*-{number}/run-{number}.wandb"))
    assert parts
    for part in parts:
        content = part.read_bytes()
        assert b"colours" in content
        assert b"step/loss" in content
    other = tmp_path / "two/run"
    other.mkdir(parents=True)
    (sink,) = wandb(other, {})
    sink.close(failed=True)
    assert read_json(other / "wandb.json")["id"] != number
    (other / "wandb.json").write_text("[]")
    with pytest.raises(InputError, match=r"wandb\.json: is \[\], expected .*delete it to begin new curves"):
        wandb(other, {})
