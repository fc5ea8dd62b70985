"""A run from data to weights: what it leaves behind, how it stops and goes on, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest

from error_fields import at
from forked_process import ForkedProcess
from hpskit.cli import train as command
from hpskit.errors import CheckpointError, InputError, OutputError, RecordError
from hpskit.models.training_record import read_record
from hpskit.scoring.scorer import load_scorer
from hpskit.stage import alone_in
from hpskit.training import trainer
from hpskit.training.recipes import hpsv2
from hpskit.training.run_folder import RunFolder, lines_of
from hpskit.training.trainer import TrainConfig, dry_run, sizes_of, stop_signals, train
from made_up_task import write_task
from small_network import SMALL, small_run

DRIVER = Path(__file__).with_name("killed_runs.py")
SETTINGS = (f"architecture={SMALL}", "steps=4", "warmup=1", "batch=4", "validate_every=2", "save_every=2")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small_run(tmp_path_factory.mktemp("task"), SETTINGS[1:], pairs=16, held_out=6)


@pytest.fixture
def config(task: TrainConfig, tmp_path: Path) -> TrainConfig:
    return replace(task, out=tmp_path / "run", command="hpskit train …")


def changed(config: TrainConfig, *settings: str, **fields: Any) -> TrainConfig:
    return replace(config, recipe=config.recipe.with_settings(settings), **fields)


def story(out: Path, *kinds: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "time", "check")}
        for line in RunFolder(out).log()
        if not kinds or line["kind"] in kinds
    ]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class InterruptionError(Exception):
    """As if the power went."""


def interrupted_after(step: int, signal_number: signal.Signals | None = None) -> Any:
    """Progress that ends a run after a step, or asks it to end."""

    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "step" and done == step:
            if signal_number is None:
                raise InterruptionError
            signal.raise_signal(signal_number)

    return progress


def stopped(config: TrainConfig, step: int) -> TrainConfig:
    """A run that was interrupted after a step."""
    with pytest.raises(InterruptionError):
        train(config, interrupted_after(step))
    return replace(config, resume=True)


def test_a_run_leaves_weights_record_log_and_report(config: TrainConfig) -> None:
    seen: list[tuple[str, int, int | None]] = []
    summary = train(config, lambda what, done, total, _: seen.append((what, done, total)))
    folder = RunFolder(config.out)
    assert summary.steps == 4
    assert ("training", 4, 4) in seen
    scorer = load_scorer(folder.model, precision="fp32")
    assert scorer.info.architecture == SMALL
    assert scorer.info.weight_hash == summary.weight_hash
    record = read_record(folder.model, summary.weight_hash)
    assert record is not None
    prompts, held_out = (
        [row["prompt"] for row in json.loads(Path(path).read_text())] for path in (config.data[0], config.validation)
    )
    assert (record.overlap(prompts), record.overlap(held_out)) == (len(prompts), 0)
    assert record.held_out is not None
    assert record.held_out.value == summary.validation["accuracy"]["value"]
    kinds = [(line["kind"], line["step"]) for line in story(config.out) if line["kind"] != "warning"]
    steps = [("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("estimate", 3), ("step", 4), ("validation", 4)]
    assert kinds == [("start", 0), *steps, ("end", 4)]
    assert "<svg" in folder.report.read_text()
    assert folder.weights()[0].read_bytes() == folder.model.read_bytes()
    expected = "checkpoints config.json log.jsonl model.safetensors model.training.json report.html summary.json"
    assert sorted(path.name for path in config.out.iterdir()) == expected.split()


def test_the_best_step_is_the_one_of_highest_accuracy_then_lowest_loss(config: TrainConfig) -> None:
    summary = train(changed(config, "validate_every=1"))
    best = max(story(config.out, "validation"), key=lambda line: (line["accuracy"]["value"], -line["loss"]))
    assert summary.best_step == best["step"]
    assert summary.validation["loss"] == best["loss"]


def test_an_interrupted_run_goes_on_where_it_was(config: TrainConfig, tmp_path: Path) -> None:
    config = changed(config, "validate_every=4", "keep=1", "keep_every=2")
    whole = train(config)
    again = stopped(replace(config, out=tmp_path / "again"), 3)
    assert RunFolder(again.out).steps() == [2]
    resumed = train(again)
    assert RunFolder(again.out).steps() == [2, 4]
    assert resumed.weight_hash == whole.weight_hash
    assert story(again.out, "step") == story(config.out, "step")
    before = files(again.out)
    assert train(again) == resumed  # a finished run is left as it is
    assert files(again.out) == before
    (again.out / "summary.json").unlink()
    assert train(again) == resumed  # from the checkpoints


def test_without_its_damaged_checkpoint_a_run_comes_to_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    config = changed(config, "save_every=1")
    whole = train(config)
    again = stopped(replace(config, out=tmp_path / "again"), 4)
    last = RunFolder(again.out).checkpoint(3)
    (last / "training.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, check=at(last, cure=f"delete {last} and all later checkpoints")):
        train(again)
    shutil.rmtree(last)
    assert train(again).weight_hash == whole.weight_hash


def test_patience_ends_a_run_and_counts_on_when_it_goes_on(config: TrainConfig, tmp_path: Path) -> None:
    """A learning rate next to nothing: no validation is better than the first."""
    config = changed(config, "steps=9", "validate_every=1", "save_every=1", "patience=2", "lr=1e-12")
    summary = train(config)
    assert (summary.steps, summary.best_step) == (3, 1)
    assert story(config.out)[-1]["reason"] == "patience"
    assert train(stopped(replace(config, out=tmp_path / "again"), 3)).steps == 3


def test_random_numbers_go_on_when_a_run_does(config: TrainConfig, tmp_path: Path) -> None:
    """Networks may drop patches while they learn."""
    network = json.loads((Path(config.data[0]).parent / f"{SMALL}.json").read_text())
    network["vision_cfg"] |= {"patch_size": 4, "patch_dropout": 0.5}
    (tmp_path / "ViT-dropping-test.json").write_text(json.dumps(network))
    open_clip.add_model_config(tmp_path / "ViT-dropping-test.json")
    config = changed(config, "architecture=ViT-dropping-test", "validate_every=4")
    assert train(stopped(replace(config, out=tmp_path / "again"), 3)).weight_hash == train(config).weight_hash


def test_a_folder_in_use_is_left_alone(config: TrainConfig) -> None:
    resumed = stopped(config, 3)
    before = files(config.out)
    with pytest.raises(OutputError, check=at(config.out, found="holds a run already", cure="--resume")):
        train(config)
    with alone_in(config.out), pytest.raises(OutputError, check=at(config.out, found="another process")):
        train(resumed)
    assert files(config.out) == before
    shutil.rmtree(config.out)
    config.out.mkdir()
    (config.out / "thesis.tex").write_text("…")
    with pytest.raises(OutputError, check=at(config.out, found="not a run")):
        train(config)
    assert [path.name for path in config.out.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("file", "what"), [("weights", "the loss"), ("training", "the logit_scale")])
def test_what_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(config: TrainConfig, file: str, what: str) -> None:
    resumed, folder = stopped(config, 3), RunFolder(config.out)
    state, *tensors = folder.load(2)
    place = ("weights", "training").index(file)
    tensors[place] = {n: t.clone() if n.startswith("step/") else t * math.nan for n, t in tensors[place].items()}
    shutil.rmtree(folder.checkpoint(2))
    folder.save(state, *tensors, {})
    before = files(folder.checkpoint(2))
    with pytest.raises(InputError, check=at(f"step 3: {what}", found="nan on the rows", cure="lower lr")):
        train(resumed)
    assert files(folder.checkpoint(2)) == before


def test_curves_for_tensorboard(config: TrainConfig) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(stopped(replace(config, tensorboard=True), 3))
    events = EventAccumulator(str(config.out / "tensorboard"))
    events.Reload()
    losses = [line["loss"] for line in story(config.out, "step")]
    assert [event.value for event in events.Scalars("step/loss")] == pytest.approx(losses)
    assert [event.step for event in events.Scalars("validation/accuracy")] == [2, 4]


def test_a_dry_run_times_a_step_and_writes_nothing(config: TrainConfig) -> None:
    found = dry_run(config)
    assert not config.out.exists()
    measured = found["measured"]
    assert measured["pairs"] == 4
    assert measured["peak"] > found["bytes"]["memory"]
    assert found["seconds"] == pytest.approx(4 * measured["seconds"])
    assert found["weights"] == "drawn by seed 16"
    half = dry_run(changed(config, "precision=fp16"))
    assert (half["measured"], half["seconds"]) == (None, None)
    assert "precision fp16 needs a GPU" in half["unmeasured"]
    resumed = stopped(config, 3)
    before = files(config.out)
    again = dry_run(resumed)
    assert again["resume"].startswith("resume: goes on behind step 2 of 4")
    assert again["seconds"] == pytest.approx(2 * again["measured"]["seconds"])
    assert files(config.out) == before


def test_sizes_without_memory() -> None:
    sizes = sizes_of(hpsv2())
    assert sizes["all"] == 986_109_441
    assert sizes["memory"] == 4 * (sizes["all"] + 3 * sizes["trained"])
    with_average = sizes_of(hpsv2().with_settings(["ema=0.999"]))
    for name in ("memory", "checkpoint"):
        assert with_average[name] - sizes[name] == 4 * sizes["trained"]
    with_more = sizes_of(hpsv2().with_settings(["keep_every=600"]))
    assert with_more["disk"] - sizes["disk"] == 6 * sizes["checkpoint"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_end_saves_first_and_goes_on_as_if_nothing_had_been(
    config: TrainConfig, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="run: stopped and saved after step 3"):
        train(config, interrupted_after(3, number))
    assert signal.getsignal(number) is before
    assert RunFolder(config.out).steps()[-1] == 3
    assert story(config.out)[-1] == {"kind": "end", "step": 3, "reason": "stopped"}
    page = (config.out / "report.html").read_text()
    assert "<h1>Training of run: stopped after step 3</h1>" in page
    seen: list[Any] = []
    resumed = train(replace(config, resume=True), lambda _what, _done, _total, line: seen.append(line))
    [text] = [line["text"] for line in seen if line.get("kind") == "resume"]
    assert text == "resume: goes on behind step 3 of 4, the best so far is step 2"
    assert "<h1>Training of run</h1>" in (config.out / "report.html").read_text()
    whole = train(replace(config, out=tmp_path / "whole"), interrupted_after(4, number))  # at its last step: finished
    assert whole == resumed
    assert [line["step"] for line in story(config.out, "step")] == [1, 2, 3, 4]


def test_a_second_signal_ends_at_once_but_not_an_echo_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_signals() as asked:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert asked()
        monkeypatch.setattr(trainer, "_ECHO", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to its end, and one that the system killed at different moments on its way there."""
    folder = tmp_path_factory.mktemp("resume")
    write_task(folder, pairs=20, seed=0)
    write_task(folder, pairs=6, seed=0, held_out=True)
    arguments = [str(DRIVER), "resume", str(folder)]
    code = f"import runpy, sys; sys.argv = {arguments}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = ForkedProcess(code, OMP_NUM_THREADS="1").finish(600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_killed_run_ends_with_the_same_weights_to_the_bit_and_tells_its_story_once(killed: Path) -> None:
    one, other = (RunFolder(killed / name) for name in ("whole", "killed"))
    assert one.finished() == other.finished() is not None
    assert story(one.path, "step", "validation") == story(other.path, "step", "validation")
    assert [line["step"] for line in lines_of(other.log(), "start")] == [0, 0, 0, 2, 2, 4]
    assert sorted(path.name for path in one.checkpoints.iterdir()) == sorted(
        path.name for path in other.checkpoints.iterdir()
    )
    assert not list(other.path.rglob("*.tmp"))


def test_the_command_says_how_to_go_on(config: TrainConfig) -> None:
    def press() -> None:
        log = config.out / "log.jsonl"
        while not (log.exists() and len(log.read_text().splitlines()) > 2):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    endless = [*SETTINGS[:1], "steps=100000", *SETTINGS[2:4], "validate_every=100000", "save_every=100000"]
    with pytest.raises(KeyboardInterrupt) as stopped:
        command.train(
            [*config.data], config.out, recipe="tiny", val=config.validation, settings=endless, tensorboard=False
        )
    (said,) = stopped.value.__notes__
    assert "stopped and saved after step" in said
    assert "the same command with --resume goes on" in said


def test_the_command(config: TrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = [*config.data], config.out
    with pytest.raises(InputError, check=at("--val", found="is missing")):
        command.train(data, out, recipe="tiny")
    with pytest.raises(InputError, check=at("--val", found="mini")):
        command.train(data, out, recipe="mini", val=config.validation)
    options: dict[str, Any] = {"recipe": "tiny", "val": config.validation, "settings": [*SETTINGS]}
    command.train(data, out, **options, tensorboard=False)
    said = capsys.readouterr()
    assert "4 steps; best at step" in said.out
    assert "step 2: accuracy" in said.err
    command.train(data, out, **options, resume=True, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 4
    assert found["weight_hash"].startswith("sha256:")


def test_layout_and_folder_of_the_images_hold_for_every_data_set(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (config.data[0], config.validation):
        shutil.copy(path, tmp_path)
    data, held_out = str(tmp_path / "train.json"), str(tmp_path / "held-out.json")
    options: dict[str, Any] = {"recipe": "tiny", "val": held_out, "settings": [*SETTINGS], "dry_run": True}
    with pytest.raises(InputError, check=at("'train-0-a.png' is not in")):
        command.train([data], config.out, **options)
    with pytest.raises(InputError, check=at("nowhere", found="is not a folder")):
        command.train([data], config.out, **options, image_root=tmp_path / "nowhere")
    with pytest.raises(RecordError, check=at("train.json: entry 1")):
        command.train([data], config.out, **options, data_format="rankings")
    root = Path(config.data[0]).parent / "train"
    command.train([data], config.out, **options, image_root=root, data_format="hpdv2-train")
    said = capsys.readouterr().out
    for part in ("16 compared pairs", "6 compared pairs", "drawn by seed", "s a step", "of checkpoints at once"):
        assert part in said


def test_signals_are_left_alone_in_a_thread() -> None:
    found: list[object] = []

    def look() -> None:
        with stop_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
