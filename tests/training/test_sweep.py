"""Ablations: the grid, runs that are kept, one that was interrupted, one that diverges, and the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from PIL import Image

from conftest import Cli
from error_fields import at
from forked_process import seen_beside_others
from hpskit.errors import InputError, OutputError
from hpskit.training.recipes import hpsv2, tiny
from hpskit.training.sweep import (
    Sweep,
    ablate,
    ablation_page,
    ablation_table,
    parse_grid,
    pool_of,
    undecided,
    visible_gpus,
)
from hpskit.training.trainer import TrainConfig
from run_material import ablation_of
from small_network import small_run

SHORT = ("steps=4", "warmup=0", "batch=4", "validate_every=2", "save_every=2")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return replace(small_run(tmp_path_factory.mktemp("task"), SHORT, pairs=24, held_out=8), device="cpu")


def sweep_of(task: TrainConfig, out: Path, *grid: str, settings: tuple[str, ...] = (), **changes: Any) -> Sweep:
    base = replace(task, recipe=task.recipe.with_settings(settings), out=out, **changes)
    return Sweep(base=base, points=parse_grid(base.recipe, grid))


def test_a_grid_is_every_combination_in_order() -> None:
    points = parse_grid(hpsv2(), ["lr=1e-6,3.3e-6", "image_blocks=10,all"])
    assert [point.name for point in points] == [
        "lr=1e-06,image_blocks=10", "lr=1e-06,image_blocks=all", "lr=3.3e-06,image_blocks=10",
        "lr=3.3e-06,image_blocks=all",
    ]  # fmt: skip
    assert points[3].recipe == hpsv2().with_settings(["lr=3.3e-6", "image_blocks=all"])


@pytest.mark.parametrize(
    ("texts", "place", "found"),
    [
        (["lr"], "--grid", "'lr'"),
        (["lr="], "--grid", "'lr='"),
        ([], "--grid", "''"),
        (["image_block=1"], "--grid: image_block", "is no field"),
        (["lr=fast"], "--grid: lr", "'fast'"),
        (["steps=100,4000"], "--grid: warmup", "500"),
        (["lr=1e-6,0.000001"], "--grid", "two points of the same name"),
        (["lr=1e-6", "lr=1e-5"], "--grid: lr", "twice"),
        (["betas=[0.9,0.98]"], "--grid: betas", "'[0.9'"),
        (["weights=a/b.pt,a-b.pt"], "--grid", "two points of the same name"),
    ],
)
def test_bad_grids_are_refused(texts: list[str], place: str, found: str) -> None:
    with pytest.raises(InputError, check=at(place, found=found)):
        parse_grid(hpsv2(), texts)


class Interruption(Exception):  # noqa: N818  # of the work, not an error in it
    """Somebody pressed the key."""


def stop_at(name: str, step: int) -> Callable[[str, int, int], None]:
    def progress(run: str, done: int, _total: int) -> None:
        if (run, done) == (name, step):
            raise Interruption

    return progress


def test_finished_runs_are_kept_and_an_interrupted_one_goes_on(task: TrainConfig, tmp_path: Path) -> None:
    whole = ablate(sweep_of(task, tmp_path / "whole", "lr=1e-4,1e-3"))
    config = sweep_of(task, tmp_path / "out", "lr=1e-4,1e-3")
    with pytest.raises(Interruption):
        ablate(config, stop_at("lr=0.001", 3))
    first = tmp_path / "out/runs/lr=0.0001/model.safetensors"
    before = first.stat().st_mtime_ns
    assert not (tmp_path / "out/ablation.json").exists()
    seen: list[tuple[str, int, int]] = []
    result = ablate(config, lambda *line: seen.append(line))
    assert first.stat().st_mtime_ns == before
    assert [line for line in seen if line[0] == "runs"] == [("runs", 1, 2), ("runs", 2, 2)]
    assert next(done for name, done, _ in seen if name == "lr=0.001") == 3, "from the checkpoint of step 2"
    assert [row["weight_hash"] for row in result["runs"]] == [row["weight_hash"] for row in whole["runs"]]
    assert [row["accuracy"] for row in result["runs"]] == [row["accuracy"] for row in whole["runs"]]
    assert json.loads((tmp_path / "out/ablation.json").read_text()) == result
    assert result["best"] in {"lr=0.0001", "lr=0.001"}


def test_values_can_be_added_and_other_settings_or_data_are_refused(task: TrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ablate(sweep_of(task, out, "lr=1e-4"))
    before = (out / "runs/lr=0.0001/log.jsonl").read_bytes()
    result = ablate(sweep_of(task, out, "lr=1e-4,1e-3"))
    assert len(result["runs"]) == 2
    assert (out / "runs/lr=0.0001/log.jsonl").read_bytes() == before
    with pytest.raises(OutputError, check=at(out, found="recipe.eps 1e-06")):
        ablate(sweep_of(task, out, "lr=1e-4", settings=("eps=1e-5",)))
    rows = json.loads(Path(task.validation).read_text())
    other = Path(task.validation).with_name("fewer.json")
    other.write_text(json.dumps(rows[:-1]))
    for grid in ("lr=1e-4,2e-4", "lr=1e-4"):  # with something left to train, and with nothing
        with pytest.raises(OutputError, check=at(out, found="validation 1: digest")):
            ablate(sweep_of(replace(task, validation=str(other)), out, grid))


def test_a_run_that_diverges_is_a_result(task: TrainConfig, tmp_path: Path) -> None:
    """With a decay of 10 and a learning rate of 10 each step makes the weights 99 times as large."""
    settings = ("weight_decay=10", "clip=none", "steps=24", "validate_every=24", "save_every=24")
    warnings: list[str] = []
    result = ablate(sweep_of(task, tmp_path / "out", "lr=10,1e-4", settings=settings), warn=warnings.append)
    lost, kept = result["runs"]
    assert re.search("step .* is nan|step .* is inf|not finite", lost["stopped"])
    assert any(text.startswith("lr=10: ") for text in warnings)
    assert kept["stopped"] is None
    assert kept["steps"] == 24 > lost["steps"]
    page = (tmp_path / "out/ablation.html").read_text()
    assert "lr=10 stopped: " in page
    (report,) = re.findall(r'href="([^"]+report.html)"', page)
    assert (tmp_path / "out" / unquote(report)).is_file()


def test_data_that_cannot_be_used_stop_everything(task: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at(cure="--drop-leaks")):
        ablate(sweep_of(task, tmp_path / "out", "lr=1e-4,1e-3", validation=task.data[0]))


def test_broken_data_are_left_out_if_asked_for(task: TrainConfig, tmp_path: Path) -> None:
    """Missing files, and a picture of validation under another compression."""
    data = Path(shutil.copytree(Path(task.data[0]).parent, tmp_path / "task"))
    first, second, *_ = json.loads((data / "train.json").read_text())
    held_out = json.loads((data / "held-out.json").read_text())
    (data / "train" / first["file_path"][0]).unlink()
    with Image.open(data / "train" / held_out[0]["file_path"][0]) as image:
        image.save(data / "train" / second["file_path"][0], compress_level=1)
    paths = {"data": (str(data / "train.json"),), "validation": str(data / "held-out.json")}
    settings = ("steps=1", "validate_every=1", "save_every=1")
    sweep = sweep_of(task, tmp_path / "out", "lr=1e-4", settings=settings, **paths)
    with pytest.raises(InputError, check=at(cure="--on-broken drop")):
        ablate(sweep)
    base = replace(sweep.base, on_broken="drop", compare_pixels=True, drop_leaks=True, workers=0)
    [trained] = ablate(replace(sweep, base=base))["data"]
    assert trained["groups"] == 22


FIELDS = {"lr": [1e-6, 3.3e-6, 1e-5], "image_blocks": [10, 20, 32]}


def test_the_page_shows_a_map_and_a_chart_of_each_field() -> None:
    page = ablation_page(ablation_of(FIELDS, stopped=True))
    assert "Best: lr 3.3e-06, image_blocks 20 with" in page
    assert page.count("<svg") == 3
    assert page.count('class="cell"') == 9
    assert page.count("\N{MULTIPLICATION SIGN}</text>") == 1, "the one that stopped"
    assert page.count("lr=1e-06,image_blocks=10 stopped at step 60") == 2, "a cross in both charts"
    assert "lr=1e-06,image_blocks=10 stopped: step 60: the loss is not finite" in page
    assert page.count('report.html"') == 8
    assert not re.search(r"https?://", page)


LOSSES = {"lr": [1e-6, 1e-5], "loss": ["pair", "best-of-group", "plackett-luce", "davidson"]}


def test_values_of_different_losses_are_not_put_side_by_side() -> None:
    page = ablation_page(ablation_of(LOSSES))
    assert "validation loss</th>" not in page
    assert "its values cannot be compared" in page
    assert "| hpdv2, % | best step |" in ablation_table(ablation_of(LOSSES))
    assert "validation loss</th>" in ablation_page(ablation_of(FIELDS))


def test_intervals_that_overlap_decide_nothing() -> None:
    """Each is two points wide to either side."""
    result = ablation_of({"lr": [1e-6, 1e-5, 1e-4]})
    for row, value in zip(result["runs"], (0.70, 0.75, 0.78), strict=True):
        row["accuracy"] = {"value": value, "low": value - 0.02, "high": value + 0.02}
    result["best"] = result["runs"][2]["name"]
    assert undecided(result) == 1
    assert "The interval of 1 other run overlaps with that of the best" in ablation_page(result)
    result["runs"][1]["accuracy"]["high"] = 0.755
    assert undecided(result) == 0
    assert "overlap" not in ablation_page(result).split("<h2>")[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_and_started_again(number: signal.Signals, task: TrainConfig, tmp_path: Path, cli: Cli) -> None:
    """While two runs are under way: both end with it, and the rest gives the same weights as without."""
    recipe = tiny().with_settings([*SHORT[1:], "steps=12"])  # of a network that a new process knows
    task = replace(task, recipe=recipe)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    arguments = ["--recipe", tmp_path / "recipe.toml", "--data", *task.data, "--val", task.validation]
    arguments += ["--device", "cpu", "--out", tmp_path / "out", "--grid", "lr=1e-4,2e-4,3e-4", "image_blocks=2"]
    command = [sys.executable, "-m", "hpskit", "ablate", *map(str, arguments), "--jobs", "2"]
    process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not any(log.read_text().count('"kind": "step"') >= 5 for log in tmp_path.glob("out/runs/*/log.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    runs = psutil.Process(process.pid).children(recursive=True)
    assert len(runs) >= 2
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.endswith("interrupted; the same command goes on with what is done\n")) in (
        (-signal.SIGKILL, False),
        (130, True),
    )
    assert not psutil.wait_procs(runs, timeout=60)[1], "nothing goes on unnoticed"
    done = cli("ablate", *arguments, "--jobs", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    grid = ("lr=1e-4,2e-4,3e-4", "image_blocks=2")
    whole = ablate(sweep_of(task, tmp_path / "whole", *grid))
    assert [row["weight_hash"] for row in found["runs"]] == [row["weight_hash"] for row in whole["runs"]]


@pytest.mark.slow
def test_gpus_are_dealt_out_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each process would see; there need not be any."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with pool_of(3, visible_gpus()) as pool:
        seen = [pool.submit(seen_beside_others, tmp_path, 3) for _ in range(3)]
        assert sorted(str(future.result()) for future in seen) == ["4", "4", "7"]
