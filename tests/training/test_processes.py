"""An end that is asked for, and what devices cannot do; what takes several processes is in `test_distributed.py`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TINY
from hpskit.cli import train as command
from hpskit.errors import InputError, OutputError
from hpskit.files import read_json
from hpskit.training import processes
from hpskit.training.devices import accelerator_for
from hpskit.training.log import log_lines
from hpskit.training.processes import StopSignals, wait_until_seen
from hpskit.training.recipes import tiny
from hpskit.training.trainer import TrainRun, train
from made_up_task import write_task

SETTINGS = (f"architecture={TINY}", "steps=4", "warmup=1", "batch=4", "validate_every=2", "save_every=4")


@pytest.fixture
def config(tiny_checkpoint: Path, tmp_path: Path) -> TrainRun:
    write_task(tmp_path, pairs=8, seed=0)
    write_task(tmp_path, pairs=4, seed=0, held_out=True)
    return TrainRun(
        recipe=tiny().with_settings(SETTINGS),
        data=(str(tmp_path / "train.json"),),
        validation=str(tmp_path / "held-out.json"),
        out=tmp_path / "run",
        tensorboard=False,
    )


def asked_after(step: int) -> Callable[..., None]:
    def progress(what: str, done: int, _total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "step" and done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def test_a_run_that_is_asked_to_end_saves_first_and_goes_on_as_if_nothing_had_been(
    config: TrainRun, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="run: stopped and saved after step 3"):
        train(config, asked_after(3))
    assert signal.getsignal(signal.SIGTERM) is before
    assert read_json(config.out / "checkpoints/index.json")["last"] == "step-000003"
    resumed = train(replace(config, resume=True))
    assert resumed.weight_hash == train(replace(config, out=tmp_path / "whole")).weight_hash
    assert [line["step"] for line in log_lines(config.out / "log.jsonl") if line["kind"] == "step"] == [1, 2, 3, 4]


def test_a_run_that_is_asked_at_its_last_step_is_finished(config: TrainRun) -> None:
    assert train(config, asked_after(4)).steps == 4


def test_the_command_says_how_to_go_on(config: TrainRun, capsys: pytest.CaptureFixture[str]) -> None:
    def press() -> None:
        log = config.out / "log.jsonl"
        while not (log.exists() and len(log.read_text().splitlines()) > 2):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    endless = [*SETTINGS[:1], "steps=100000", *SETTINGS[2:4], "validate_every=100000", "save_every=100000"]
    with pytest.raises(KeyboardInterrupt):
        command.train(
            [*config.data], config.out, recipe="tiny", val=config.validation, settings=endless, tensorboard=False
        )
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "resume" in line)
    assert "stopped and saved after step" in said
    assert "the same command with --resume goes on" in said


def test_a_second_signal_ends_at_once_but_not_an_echo_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked
        monkeypatch.setattr(processes, "_SECOND", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signals_are_left_alone_in_a_thread() -> None:
    found: list[object] = []

    def look() -> None:
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_file_that_comes_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = tmp_path / "config.json"
    threading.Timer(0.2, late.touch).start()
    wait_until_seen(late)
    monkeypatch.setattr(processes, "_PATIENCE", 0.1)
    with pytest.raises(OutputError, match="does not see it; put --out on a disk that all machines share"):
        wait_until_seen(tmp_path / "never")


def test_what_cannot_be_in_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="one process to share the weights; start several by torchrun"):
        accelerator_for(tiny(), "cpu", shard=True)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="asked for FSDP, which is not used here; leave --use_fsdp"):
        accelerator_for(tiny(), "cpu")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=r"--shard: goes with bf16 and fp32, but precision is 'fp16'"):
        accelerator_for(tiny().with_settings(["precision=fp16"]), shard=True)
