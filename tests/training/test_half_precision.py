"""fp16 with a scaled loss, which users have on GPUs only: here on the CPU, with torch's own scaler for it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from conftest import TINY
from hpskit.dataset.reading import open_data
from hpskit.training.batch import Batch
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.devices import accelerator_for
from hpskit.training.engine import Engine
from hpskit.training.examples import Loader, batches
from hpskit.training.log import log_lines
from hpskit.training.recipes import Recipe, tiny
from hpskit.training.student import Student
from hpskit.training.trainer import TrainRun, train
from made_up_task import write_task

SETTINGS = (f"architecture={TINY}", "precision=fp16", "steps=6", "warmup=1", "batch=4", "lr=1e-3", "clip=0.5")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    write_task(folder, pairs=12, seed=0)
    write_task(folder, pairs=4, seed=0, held_out=True)
    return folder


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> Recipe:  # which makes open_clip know its architecture
    return tiny().with_settings(SETTINGS)


def scaled(scale: float) -> Accelerator:
    """What accelerate makes on a GPU for fp16; on a CPU it makes neither scaler nor autocast."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    return accelerator


def first_batch(student: Student, task: Path) -> Batch:
    data = open_data(str(task / "train.json"))
    return next(batches(data, Loader(preprocessing=student.preprocessing, workers=0), pairs=4))


def test_an_overflow_leaves_weights_and_moments_as_they_were_and_halves_the_scale(recipe: Recipe, task: Path) -> None:
    accelerator, student = scaled(2.0**40), Student.build(recipe)
    engine = Engine(recipe, accelerator, student)
    batch = first_batch(student, task)
    before = {name: tensor.clone() for name, tensor in student.state().items()}
    figures = engine.step(batch, 0)
    assert figures.skipped
    assert figures.gradient_norm is None
    assert accelerator.scaler.get_scale() == 2.0**39
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state().items())
    assert engine.training_state() == {}
    for _ in range(40):
        figures = engine.step(batch, 0)
        if not figures.skipped:
            break
    assert figures.gradient_norm is not None
    assert not torch.equal(before["visual.proj"], student.state()["visual.proj"])


@pytest.mark.parametrize("scale", [16.0, 1024.0])
def test_the_norm_is_that_of_the_gradient_without_the_scale(recipe: Recipe, task: Path, scale: float) -> None:
    """So it is clipped behind the scale too: the step that follows is that of fp32 as far as fp16 can tell."""
    found = []
    for given, accelerator in (
        (recipe, lambda: scaled(scale)),
        (replace(recipe, precision="fp32"), lambda: accelerator_for(replace(recipe, precision="fp32"), "cpu")),
    ):
        student = Student.build(given)
        engine = Engine(given, accelerator(), student)
        found.append(engine.step(first_batch(student, task), 0))
    half, full = found
    assert half.gradient_norm == pytest.approx(full.gradient_norm, rel=0.02)
    assert half.loss == pytest.approx(full.loss, rel=0.01)


def test_a_resumed_run_goes_on_with_the_scale_that_it_had(
    recipe: Recipe, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale begins so high that steps are skipped, and grows again every other step."""
    monkeypatch.setattr("hpskit.training.trainer.accelerator_for", lambda *_, **__: scaled(2.0**20))
    config = TrainRun(
        recipe=recipe.with_settings(["validate_every=6", "save_every=2"]),
        data=(str(task / "train.json"),),
        validation=str(task / "held-out.json"),
        out=tmp_path / "whole",
        tensorboard=False,
    )
    whole = train(config)
    broken = replace(config, out=tmp_path / "broken", resume=True)

    def progress(what: str, done: int, total: int | None, line: Any) -> None:
        if line.get("kind") == "step" and done == 5:
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        train(broken, progress)
    assert train(broken).weight_hash == whole.weight_hash
    scales = [Checkpoints(run.out / "checkpoints", 2).load(6).state["scaler"] for run in (config, broken)]
    assert scales[0] == scales[1]
    skipped = [
        [line["skipped"] for line in log_lines(run.out / "log.jsonl") if line["kind"] == "step"]
        for run in (config, broken)
    ]
    assert skipped[0] == skipped[1]
    assert {*skipped[0]} == {True, False}
    assert math.isfinite(whole.validation["loss"])
