"""`hpskit evaluate` and `hpskit agreement` as processes: tables, files, pages, kills."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from conftest import Cli
from hpskit.cli import app
from hpskit.models.store import locate
from hpskit.models.training_record import HeldOut, write_record
from small_inputs import write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photographs: list[Image.Image]) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), photographs)


def test_table_result_and_page(cli: Cli, data: Path, tmp_path: Path) -> None:
    command = ("evaluate", "--data", data, "--scorer", "mini", "-s", "random", "--out", tmp_path / "out")
    done = cli(*command, "--resamples", 300)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ *annotator vs annotator +77.8 %.*78.1 %", done.stdout, re.MULTILINE)
    again = cli(*command, "--resamples", 300, "--json")
    document = json.loads(again.stdout)
    assert document == json.loads((tmp_path / "out/result.json").read_text())
    mini = document["scorers"][0]["accuracy"]["hpdv2"]["value"]
    assert mini > 0.8
    assert re.search(rf"^ *mini +{100 * mini:.1f} %", done.stdout, re.MULTILINE)

    assert document["command"].startswith("hpskit evaluate --data ")
    page = (tmp_path / "out/report.html").read_text()
    assert not re.search(r"""<script|@import|url\(|\son\w+=|\s(?:src|href|srcset)=["'](?!data:|#)""", page)
    assert page.count("<img") == page.count('alt="') > 1


def test_errors_are_one_line(cli: Cli, data: Path, tmp_path: Path) -> None:
    for arguments, part in {
        ("--data", tmp_path / "nope.json"): "nope.json: no such file",
        ("--data", data, "--scorer", "minni"): "did you mean 'mini'?",
    }.items():
        done = cli("evaluate", *arguments, "--out", tmp_path / "out")
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert part in done.stderr


def invoke(*arguments: object) -> Result:
    """The command in this process, which is quicker where nothing of a process matters."""
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_what_a_model_has_seen_is_said(data: Path, tmp_path: Path) -> None:
    """A figure on what it was trained on must not pass for a result; that its checkpoint was chosen on it is a note."""
    weights = tmp_path / "mine.safetensors"
    located = locate("mini")
    shutil.copyfile(located.weights.path, weights)
    rows = json.loads(data.read_text())
    prompts = [row["prompt"] for row in rows]
    repeated = tmp_path / "test.json"
    repeated.write_text(json.dumps([*rows, rows[0]]))
    images = ("--image-root", data.parent / "test", "--resamples", 100)
    command = ("evaluate", "--data", repeated, "--scorer", weights, *images, "--out", tmp_path / "out")
    write_record(weights, weight_hash=located.weight_hash, data="others", prompts=["a"], chosen_on=prompts[1:3])
    done = invoke(*command)
    assert re.search(r"^ *mini chosen on this +\d", done.stdout, re.MULTILINE)
    assert "note: the checkpoint of mini was chosen on this: 2 of " in done.stderr
    assert (
        "<strong>mini: its checkpoint was chosen on this.</strong> 2 of " in (tmp_path / "out/report.html").read_text()
    )
    assert "note: groups that repeat another: 1; they count" in done.stderr
    assert "warning" not in done.stderr
    held_out = HeldOut(rule="hpdv2", value=0.8125, low=0.8, high=0.9, source="other prompts")
    write_record(weights, weight_hash=located.weight_hash, data="these", prompts=prompts, held_out=held_out)
    done = invoke(*command)
    assert f"warning: mini was trained on this: {len(rows) + 1} of {len(rows) + 1} groups" in done.stderr
    assert "mini seen in training" in done.stdout
    assert re.search(r"held out.* 81\.2 %", done.stdout)
    page = (tmp_path / "out/report.html").read_text()
    assert "<strong>mini was trained on this.</strong>" in page
    assert "81.2\N{NO-BREAK SPACE}% (80.0 to 90.0" in page


def test_one_prompt_has_figures_and_a_note_why_there_are_no_intervals(data: Path, tmp_path: Path) -> None:
    (row, *_) = json.loads(data.read_text())
    few = tmp_path / "test.json"
    few.write_text(json.dumps([{**row, "raw_annotations": row["raw_annotations"][:2]}]))
    done = invoke("agreement", "--data", few, "--resamples", 100)
    assert re.search(r"^ *annotator vs annotator +83.3 % +", done.stdout, re.MULTILINE)
    assert "note: the judgements are of one prompt; intervals are over prompts, so there are none" in done.stderr
    assert "note: accuracy by annotators is not measured: votes have 2 judgements" in done.stderr
    images = ("--image-root", data.parent / "test")
    done = invoke("evaluate", "--data", few, *images, "--resamples", 100, "--out", tmp_path / "out")
    assert re.search(r"^ *mini +\d+\.\d % +\d", done.stdout, re.MULTILINE)
    assert "note: the data have one prompt; intervals are over prompts, so there are none" in done.stderr
