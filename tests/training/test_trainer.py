"""A run from data to weights: what it leaves behind, how it stops and goes on, and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from hpskit.cli import train as command
from hpskit.errors import CheckpointError, InputError, OutputError, RecordError
from hpskit.files import alone_in, read_json
from hpskit.models.training_record import read_record
from hpskit.scoring.scorer import load_scorer
from hpskit.training.ablate import Ablation, parse_grid
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.devices import accelerator_for
from hpskit.training.estimate import estimate, size_of
from hpskit.training.log import KINDS, log_lines
from hpskit.training.material import parse_source
from hpskit.training.recipes import hpsv2, tiny
from hpskit.training.trainer import TrainRun, train
from made_up_task import write_task
from small_network import SMALL, register_small

SETTINGS = (f"architecture={SMALL}", "steps=4", "warmup=1", "batch=4", "validate_every=2", "save_every=2")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    register_small(folder)
    write_task(folder, pairs=16, seed=0)
    write_task(folder, pairs=6, seed=0, held_out=True)
    return folder


@pytest.fixture
def config(task: Path, tmp_path: Path) -> TrainRun:
    return TrainRun(
        recipe=tiny().with_settings(SETTINGS),
        data=(str(task / "train.json"),),
        validation=str(task / "held-out.json"),
        out=tmp_path / "run",
        tensorboard=False,
        command="hpskit train …",
    )


def changed(config: TrainRun, *settings: str, **fields: Any) -> TrainRun:
    return replace(config, recipe=config.recipe.with_settings(settings), **fields)


def story(out: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "time")}
        for line in log_lines(out / "log.jsonl")
    ]


class InterruptionError(Exception):
    """As if somebody pressed Ctrl-C."""


def interrupted_after(step: int) -> Any:
    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "step" and done == step:
            raise InterruptionError

    return progress


def test_a_run_leaves_weights_record_log_and_report(config: TrainRun, task: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    summary = train(config, lambda what, done, total, _: seen.append((what, done, total)))
    assert summary.steps == 4
    assert ("training", 4, 4) in seen
    scorer = load_scorer(summary.model, precision="fp32")
    assert scorer.info.architecture == SMALL
    assert scorer.info.weight_hash == summary.weight_hash
    record = read_record(summary.model, summary.weight_hash)
    assert record is not None
    prompts = [row["prompt"] for row in json.loads((task / "train.json").read_text())]
    assert record.overlap(prompts) == len(prompts)
    assert record.overlap([row["prompt"] for row in json.loads((task / "held-out.json").read_text())]) == 0
    assert record.held_out is not None
    assert record.held_out.value == summary.validation["accuracy"]["value"]
    kinds = [(line["kind"], line["step"]) for line in story(config.out) if line["kind"] != "warning"]
    steps = [("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("estimate", 3), ("step", 4), ("validation", 4)]
    assert kinds == [("start", 0), *steps, ("end", 4)]
    for line in log_lines(config.out / "log.jsonl"):
        assert line.keys() == {"kind", "step", *KINDS[line["kind"]]}
    assert "<svg" in (config.out / "report.html").read_text()
    index = read_json(config.out / "checkpoints/index.json")
    assert index == {"last": "step-000004", "best": f"step-{summary.best_step:06d}"}
    best = Checkpoints(config.out / "checkpoints", 2).model(summary.best_step)
    assert best.read_bytes() == summary.model.read_bytes()


def test_the_best_step_is_the_one_of_highest_accuracy_then_lowest_loss(config: TrainRun) -> None:
    summary = train(changed(config, "validate_every=1"))
    found = [line for line in story(config.out) if line["kind"] == "validation"]
    best = max(found, key=lambda line: (line["accuracy"]["value"], -line["loss"]))
    assert summary.best_step == best["step"]
    assert summary.validation["loss"] == best["loss"]


def test_an_interrupted_run_goes_on_where_it_was(config: TrainRun, tmp_path: Path) -> None:
    config = changed(config, "validate_every=4", "keep=1", "keep_every=2")
    whole = train(config)
    again = replace(config, out=tmp_path / "again", resume=True)
    with pytest.raises(InterruptionError):
        train(again, interrupted_after(3))
    kept = Checkpoints(again.out / "checkpoints", 1)
    assert kept.steps() == [2]
    resumed = train(again)
    assert kept.steps() == [2, 4]
    assert resumed.weight_hash == whole.weight_hash
    assert [line for line in story(again.out) if line["kind"] == "step"] == [
        line for line in story(config.out) if line["kind"] == "step"
    ]
    before = (again.out / "log.jsonl").read_bytes()
    assert train(again) == resumed  # a finished run is left as it is
    assert (again.out / "log.jsonl").read_bytes() == before


def test_patience_ends_a_run(config: TrainRun) -> None:
    # A learning rate next to nothing: no validation is better than the first.
    summary = train(changed(config, "steps=9", "validate_every=1", "patience=2", "lr=1e-12"))
    assert (summary.steps, summary.best_step) == (3, 1)
    assert story(config.out)[-1]["reason"] == "patience"


def test_patience_counts_on_when_a_run_goes_on(config: TrainRun) -> None:
    settings = ("steps=9", "validate_every=1", "save_every=1", "patience=2", "lr=1e-12")
    config = changed(config, *settings, resume=True)
    with pytest.raises(InterruptionError):
        train(config, interrupted_after(3))
    assert train(config).steps == 3


def test_random_numbers_go_on_when_a_run_does(config: TrainRun, task: Path, tmp_path: Path) -> None:
    """Of networks that drop patches while they learn."""
    network = json.loads((task / f"{SMALL}.json").read_text())
    network["vision_cfg"] |= {"patch_size": 4, "patch_dropout": 0.5}
    (tmp_path / "ViT-dropping-test.json").write_text(json.dumps(network))
    open_clip.add_model_config(tmp_path / "ViT-dropping-test.json")
    config = changed(config, "architecture=ViT-dropping-test", "validate_every=4")
    again = replace(config, out=tmp_path / "again", resume=True)
    with pytest.raises(InterruptionError):
        train(again, interrupted_after(3))
    assert train(again).weight_hash == train(config).weight_hash


def test_a_second_run_in_a_folder_must_be_asked_for(config: TrainRun) -> None:
    train(config)
    with pytest.raises(OutputError, match="holds a run already; --resume goes on with it"):
        train(config)


def test_two_processes_do_not_go_on_with_one_run(config: TrainRun) -> None:
    config = replace(config, resume=True)
    with pytest.raises(InterruptionError):
        train(config, interrupted_after(3))
    before = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    with alone_in(config.out), pytest.raises(OutputError, match="run: another process is at work in it; wait for it"):
        train(config)
    assert {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()} == before


def test_a_folder_of_something_else_is_left_alone(config: TrainRun) -> None:
    config.out.mkdir()
    (config.out / "thesis.tex").write_text("…")
    with pytest.raises(OutputError, match="is not empty and not a run"):
        train(config)
    assert [path.name for path in config.out.iterdir()] == ["thesis.tex"]


def test_resuming_with_other_settings_lists_what_changed(config: TrainRun, task: Path, tmp_path: Path) -> None:
    with pytest.raises(InterruptionError):
        train(config, interrupted_after(2))
    write_task(tmp_path, pairs=12, seed=1)
    other = changed(config, "lr=1e-5", "steps=5", resume=True, data=(str(tmp_path / "train.json"),))
    with pytest.raises(OutputError) as caught:
        train(other)
    text = str(caught.value)
    for part in ("recipe.lr was 0.0007, is 1e-05", "recipe.steps was 4, is 5", "digest was", "start a new one"):
        assert part in text
    assert Checkpoints(config.out / "checkpoints", 2).steps() == []
    train(replace(config, resume=True))


@pytest.mark.parametrize(
    ("file", "what"), [("weights", "the loss is nan"), ("training", "the logit_scale after it is nan")]
)
def test_what_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(config: TrainRun, file: str, what: str) -> None:
    config = replace(config, resume=True)
    with pytest.raises(InterruptionError):
        train(config, interrupted_after(3))
    store = Checkpoints(config.out / "checkpoints", 2)
    sound = store.load(2)
    tensors = sound.weights if file == "weights" else sound.training
    poisoned = {name: t.clone() if name.startswith("step/") else t * math.nan for name, t in tensors.items()}
    shutil.rmtree(store.path(2))
    store.save(replace(sound, **{file: poisoned}), {})  # type: ignore[arg-type]
    before = {path: path.read_bytes() for path in store.path(2).iterdir()}
    with pytest.raises(InputError, match=rf"step 3: {what} on the rows .*train\.json: entry \d+.*lower lr"):
        train(config)
    assert store.steps() == [2]
    assert {path: path.read_bytes() for path in store.path(2).iterdir()} == before


def test_weights_of_another_architecture_are_refused(config: TrainRun, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint of hpskit-tiny"):
        train(changed(config, "architecture=hpskit-tiny", f"weights={tiny_checkpoint}"))


def test_validation_that_training_has_shown_is_refused_or_dropped(config: TrainRun, task: Path, tmp_path: Path) -> None:
    rows = json.loads((task / "train.json").read_text())
    held_out = json.loads((task / "held-out.json").read_text())
    shutil.copytree(task / "train", tmp_path / "train")
    (tmp_path / "train.json").write_text(json.dumps([*rows, held_out[0]]))
    leaking = replace(config, data=(str(tmp_path / "train.json"),))
    with pytest.raises(InputError, match="shares prompts or images with the training data"):
        train(leaking)
    assert not config.out.exists()
    train(replace(leaking, drop_leaks=True))
    assert read_json(config.out / "config.json")["data"][0]["groups"] == len(rows)


def test_missing_images_are_found_before_the_first_step(config: TrainRun, task: Path, tmp_path: Path) -> None:
    shutil.copy(task / "train.json", tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"train\.json: entry 1 .*'train-0-a\.png' is not in .* and 31 more"):
        train(replace(config, data=(str(tmp_path / "train.json"),)))
    assert not config.out.exists()


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(InputError, match=r"'fp16', which needs a GPU .* precision=bf16"):
        accelerator_for(hpsv2(), "cpu")


@pytest.mark.parametrize(
    "settings", [("precision=bf16",), ("ema=0.9",), ("gradient_checkpointing=true", "accumulate=2")]
)
def test_other_ways_to_train(config: TrainRun, settings: tuple[str, ...]) -> None:
    summary = train(changed(config, *settings))
    assert math.isfinite(summary.validation["loss"])


def test_the_moving_average_is_what_is_validated_and_kept(config: TrainRun) -> None:
    summary = train(changed(config, "ema=0.9", "validate_every=4", "save_every=4"))
    saved = Checkpoints(config.out / "checkpoints", 2).load(4)
    raw = {name.removeprefix("weights/"): t for name, t in saved.training.items() if name.startswith("weights/")}
    assert raw.keys() == saved.weights.keys()
    assert any(not torch.equal(raw[name], saved.weights[name]) for name in raw)
    assert Checkpoints(config.out / "checkpoints", 2).weight_hash(4) == summary.weight_hash


def test_curves_for_tensorboard(config: TrainRun) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(replace(config, tensorboard=True))
    events = EventAccumulator(str(config.out / "tensorboard"))
    events.Reload()
    losses = [line["loss"] for line in story(config.out) if line["kind"] == "step"]
    assert [event.value for event in events.Scalars("step/loss")] == pytest.approx(losses)
    assert [event.step for event in events.Scalars("validation/accuracy")] == [2, 4]


def test_a_dry_run_measures_and_writes_nothing(config: TrainRun) -> None:
    found = estimate(config)
    assert not config.out.exists()
    assert found.measured is not None
    assert found.measured.pairs == 4
    assert found.seconds is not None
    assert found.seconds > 4 * found.measured.seconds
    assert found.measured.peak > found.size.memory
    text = "\n".join(found.lines())
    for part in ("16 compared pairs", "6 compared pairs", "drawn by seed", "s a step", "GB are free"):
        assert part in text


def test_sizes_without_memory() -> None:
    size = size_of(hpsv2())
    assert size.parameters == 986_109_441
    assert size.memory == 4 * (size.parameters + 3 * size.trained)
    with_average = size_of(hpsv2().with_settings(["ema=0.999"]))
    assert with_average.memory - size.memory == with_average.checkpoint - size.checkpoint == 4 * size.trained


def test_checkpoints_that_stay_take_room_and_fall_on_saved_steps() -> None:
    size = size_of(hpsv2())
    with_more = size_of(hpsv2().with_settings(["keep_every=600"]))
    assert with_more.disk - size.disk == 6 * size.checkpoint
    with pytest.raises(InputError, match="keep_every: is 300, expected a multiple of save_every, 200"):
        hpsv2().with_settings(["keep_every=300"])


def test_layout_and_folder_of_the_images_hold_for_every_data_set(
    config: TrainRun, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train.json", "held-out.json"):
        shutil.copy(task / name, tmp_path)
    data, held_out = str(tmp_path / "train.json"), str(tmp_path / "held-out.json")
    options: dict[str, Any] = {"recipe": "tiny", "val": held_out, "settings": [*SETTINGS], "dry_run": True}
    with pytest.raises(InputError, match=r"'train-0-a\.png' is not in"):
        command.train([data], config.out, **options)
    with pytest.raises(InputError, match=r"is not a folder, expected the one that image names start from"):
        command.train([data], config.out, **options, image_root=tmp_path / "nowhere")
    with pytest.raises(RecordError, match=r"train\.json: entry 1"):
        command.train([data], config.out, **options, data_format="rankings")
    command.train([data], config.out, **options, image_root=task / "train", data_format="hpdv2-train")
    assert "16 compared pairs" in capsys.readouterr().out
    grid = parse_grid(config.recipe, ["lr=1e-3,1e-4"])
    ablation = Ablation(
        recipe=config.recipe,
        grid=grid,
        data=(data,),
        validation=held_out,
        data_format="hpdv2-train",
        image_root=task / "train",
        out=tmp_path,
    )
    assert {(run.data_format, run.image_root) for run in map(ablation.run, grid.points)} == {
        ("hpdv2-train", task / "train")
    }


def test_a_dry_run_on_a_machine_that_is_too_small_says_so(config: TrainRun) -> None:
    found = estimate(changed(config, "precision=fp16"))
    assert found.measured is None
    assert "precision fp16 needs a GPU" in "\n".join(found.lines())


def test_data_with_a_ratio(task: Path) -> None:
    path = str(task / "train.json")
    assert parse_source(path).ratio is None
    assert parse_source(f"{path}:2.5").ratio == 2.5
    with pytest.raises(InputError, match="has the ratio -1, expected a number above 0"):
        parse_source(f"{path}:-1")
    with pytest.raises(InputError, match="no such file"):
        parse_source(f"{path}:x")


def stopped_after(step: int) -> Any:
    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "step" and done == step:
            signal.raise_signal(signal.SIGINT)

    return progress


def test_a_stopped_run_says_where_it_stands_and_where_it_goes_on(config: TrainRun) -> None:
    config = replace(config, resume=True)
    with pytest.raises(KeyboardInterrupt, match="stopped and saved after step 3"):
        train(config, stopped_after(3))
    end = story(config.out)[-1]
    assert end == {"kind": "end", "step": 3, "reason": "stopped"}
    page = (config.out / "report.html").read_text()
    assert "<h1>Training of run: stopped after step 3</h1>" in page
    assert "3 of 4 steps" in page
    seen: list[Any] = []
    train(config, lambda _what, _done, _total, line: seen.append(line))
    [text] = [line["text"] for line in seen if line.get("kind") == "resume"]
    assert text == "resume: goes on behind step 3 of 4, the best so far is step 2"
    assert "<h1>Training of run</h1>" in (config.out / "report.html").read_text()


def test_what_is_said_of_ctrl_c_is_true(tmp_path: Path) -> None:
    assert command._way_on(tmp_path / "run") == "no checkpoint was saved yet, and the same command begins anew"
    (tmp_path / "config.json").touch()
    assert command._way_on(tmp_path).endswith("and the same command with --resume begins anew")
    (tmp_path / "checkpoints/step-000002").mkdir(parents=True)
    assert command._way_on(tmp_path) == "the same command with --resume goes on behind the last checkpoint"


def test_the_command(config: TrainRun, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = [*config.data], config.out
    with pytest.raises(InputError, match="--val: is missing, the recipe tiny needs one"):
        command.train(data, out, recipe="tiny")
    with pytest.raises(InputError, match="--val: is given, but the recipe mini cross-validates"):
        command.train(data, out, recipe="mini", val=config.validation)
    command.train(data, out, recipe="tiny", val=config.validation, settings=[*SETTINGS], tensorboard=False)
    said = capsys.readouterr()
    assert "4 steps; best at step" in said.out
    assert "step 2: accuracy" in said.err
    command.train(data, out, recipe="tiny", val=config.validation, settings=[*SETTINGS], resume=True, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 4
    assert found["weight_hash"].startswith("sha256:")
