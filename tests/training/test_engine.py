"""What a step and a validation come to, worked out beside them; learning rate, devices, and fp16 on a CPU.

fp16 scales the loss, which users have on GPUs only: here with torch's own scaler for the CPU.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.dataset.reading import open_data
from hpskit.errors import DivergedError, InputError
from hpskit.pixels import Preprocessing
from hpskit.training.engine import Engine, accelerator_for, cosine_lr
from hpskit.training.loader import Batch, Decoder, validation_batches
from hpskit.training.recipes import Recipe, hpsv2, tiny
from hpskit.training.run_folder import RunFolder, lines_of
from hpskit.training.student import Student
from hpskit.training.trainer import TrainConfig, train
from hpskit.training.validation import validate
from small_network import SMALL, small_run

DECODER = Decoder(preprocessing=Preprocessing(size=16), workers=0)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    settings = ("precision=fp16", "steps=6", "warmup=1", "batch=4", "lr=1e-3", "clip=0.5", "validate_every=6")
    return small_run(tmp_path_factory.mktemp("task"), (*settings, "save_every=2"), pairs=12, held_out=4)


def engine_of(*settings: str) -> Engine:
    fixed = (f"architecture={SMALL}", "precision=fp32", "lr=1e-2", "warmup=1", "ema=none", "clip=none")
    recipe: Recipe = tiny().with_settings(fixed).with_settings(settings)
    return Engine(recipe, accelerator_for(recipe, "cpu"), Student.build(recipe))


def batch_of(student: Student, task: TrainConfig) -> Batch:
    data = open_data(task.data[0])
    return next(validation_batches(data, replace(DECODER, preprocessing=student.preprocessing), pairs=4))


def copy(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@given(st.integers(1, 60), st.data())
def test_the_rate_rises_then_falls_and_never_stands_at_zero(total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total))
    rates = [cosine_lr(step, base_lr=2.0, warmup=warmup, total=total) for step in range(total)]
    assert all(0 < rate <= 2 for rate in rates)
    assert max(rates) == 2
    assert all(one < other for one, other in itertools.pairwise(rates[:warmup]))
    assert all(one > other for one, other in itertools.pairwise(rates[warmup:]))


def test_the_moving_average_follows_at_its_rate_and_is_what_is_validated(task: TrainConfig) -> None:
    engine = engine_of("ema=0.75")
    data = open_data(task.data[0])
    batch, expected = batch_of(engine.student, task), copy(engine.student.network.state_dict())
    for number in range(3):
        engine.step(batch, number)
        expected = {n: 0.75 * expected[n] + 0.25 * tensor for n, tensor in engine.student.network.state_dict().items()}
    before = copy(engine.student.network.state_dict())
    averaged = engine.weights()
    for name, tensor in expected.items():
        torch.testing.assert_close(averaged[name], tensor, rtol=1e-5, atol=1e-6)
    plain = engine_of()
    plain.student.network.load_state_dict(averaged)
    assert validate(engine, data, DECODER)[0] == validate(plain, data, DECODER)[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.student.network.state_dict().items())
    plain.student.network.load_state_dict(before)
    assert validate(engine, data, DECODER)[0]["loss"] != validate(plain, data, DECODER)[0]["loss"]


@pytest.mark.parametrize(("settings", "expected"), [((), None), (("clip=0.01",), 0.01)])
def test_the_gradient_is_clipped_to_the_norm_of_the_recipe(
    task: TrainConfig, settings: tuple[str, ...], expected: float | None
) -> None:
    """Seen in AdamW's first moment, which is a tenth of the first gradient."""
    engine = engine_of(*settings)
    norm = engine.step(batch_of(engine.student, task), 0)["gradient_norm"]
    assert norm is not None
    assert norm > 0.02
    moments = [tensor for name, tensor in engine.training_state().items() if name.startswith("exp_avg/")]
    rate = 1 - engine.recipe.betas[0]
    assert float(torch.cat([m.flatten() for m in moments]).norm()) / rate == pytest.approx(expected or norm, rel=1e-3)


def test_scores_that_are_no_numbers_are_an_error_with_a_cure(task: TrainConfig) -> None:
    engine = engine_of()
    torch.nn.init.constant_(engine.student.network.visual.proj, torch.nan)
    with pytest.raises(DivergedError, check=at("train.json", found="scores that are no numbers", cure="lower lr")):
        validate(engine, open_data(task.data[0]), DECODER)


def test_what_devices_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, check=at("precision", found="needs a GPU", cure="precision=bf16")):
        accelerator_for(hpsv2(), "cpu")
    with pytest.raises(InputError, check=at("--device", found="'cuda:1'")):
        accelerator_for(tiny(), "cuda:1")
    with pytest.raises(InputError, check=at("--shard", found="one process", cure="torchrun")):
        accelerator_for(tiny(), "cpu", shard=True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, check=at("devices", found="FSDP", cure="--use_fsdp")):
        accelerator_for(tiny(), "cpu")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, check=at("--shard", found="'fp16'")):
        accelerator_for(tiny().with_settings(["precision=fp16"]), shard=True)


def scaled(scale: float) -> Accelerator:
    """What accelerate makes on a GPU for fp16; on a CPU it makes neither scaler nor autocast."""
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    return accelerator


def test_an_overflow_leaves_weights_and_moments_as_they_were_and_halves_the_scale(task: TrainConfig) -> None:
    accelerator, student = scaled(2.0**40), Student.build(task.recipe)
    engine = Engine(task.recipe, accelerator, student)
    batch = batch_of(student, task)
    before = copy(student.network.state_dict())
    figures = engine.step(batch, 0)
    assert figures["skipped"]
    assert figures["gradient_norm"] is None
    assert accelerator.scaler.get_scale() == 2.0**39
    assert all(torch.equal(before[name], tensor) for name, tensor in student.network.state_dict().items())
    assert engine.training_state() == {}
    for _ in range(40):
        figures = engine.step(batch, 0)
        if not figures["skipped"]:
            break
    assert figures["gradient_norm"] is not None
    assert not torch.equal(before["visual.proj"], student.network.state_dict()["visual.proj"])


@pytest.mark.parametrize("scale", [16.0, 1024.0])
def test_the_norm_is_that_of_the_gradient_without_the_scale(task: TrainConfig, scale: float) -> None:
    """So it is clipped behind the scale too: the step that follows is that of fp32 as far as fp16 can tell."""
    full_recipe = task.recipe.with_settings(["precision=fp32"])
    found = []
    for recipe, accelerator in (
        (task.recipe, lambda: scaled(scale)),
        (full_recipe, lambda: accelerator_for(full_recipe, "cpu")),
    ):
        student = Student.build(recipe)
        found.append(Engine(recipe, accelerator(), student).step(batch_of(student, task), 0))
    half, full = found
    assert half["gradient_norm"] == pytest.approx(full["gradient_norm"], rel=0.02)
    assert half["loss"] == pytest.approx(full["loss"], rel=0.01)


def test_a_resumed_run_goes_on_with_the_scale_that_it_had(
    task: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale begins so high that steps are skipped, and grows again every other step."""
    monkeypatch.setattr("hpskit.training.trainer.accelerator_for", lambda *_, **__: scaled(2.0**20))
    config = replace(task, out=tmp_path / "whole")
    whole = train(config)
    broken = replace(config, out=tmp_path / "broken", resume=True)

    def progress(what: str, done: int, total: int | None, line: Any) -> None:
        if line.get("kind") == "step" and done == 5:
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        train(broken, progress)
    assert train(broken).weight_hash == whole.weight_hash
    folders = [RunFolder(run.out) for run in (config, broken)]
    scales = [folder.state(6).scaler for folder in folders]
    assert scales[0] == scales[1]
    skipped = [[line["skipped"] for line in lines_of(folder.log(), "step")] for folder in folders]
    assert skipped[0] == skipped[1]
    assert {*skipped[0]} == {True, False}
    assert math.isfinite(whole.validation["loss"])
