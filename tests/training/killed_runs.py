"""Runs of the trainer that are killed by the system at chosen moments, or that are several processes.

Run as a script: `killed_runs.py CASE FOLDER`. Every run is a forked child of a process that has imported everything but
computed nothing, which makes a run cost what it computes and not its imports.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch

from hpskit.models import checkpoint as tensors
from hpskit.training import run_folder, trainer
from hpskit.training.recipes import tiny
from hpskit.training.trainer import TrainConfig, train

STEPS = 6
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
SETTINGS = (
    "architecture=small",
    f"steps={STEPS}",
    "warmup=2",
    "batch=6",
    "validate_every=3",
    "save_every=2",
    "keep=1",
    "ema=0.5",
)


def config(folder: Path, name: str, *settings: str, **changes: Any) -> TrainConfig:
    return TrainConfig(
        recipe=tiny().with_settings(SETTINGS).with_settings(settings),
        data=(str(folder / "train.json"),),
        validation=str(folder / "held-out.json"),
        out=folder / name,
        tensorboard=False,
        workers=0,
        **changes,
    )


def forked(work: Callable[[], object], **environment: str) -> int:
    """The process that does it."""
    child = os.fork()
    if child:
        return child
    os.environ.update(environment)
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  # the child must not go on as if it were the parent
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_after(step: int) -> Callable[..., None]:
    """Progress that ends its process as soon as that step has been logged."""

    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "step" and done == step:
            die()

    return progress


def killed_while_saving(files: int) -> None:
    """End this process after so many files of tensors have been written into a checkpoint that is not published."""
    written = []

    def write(*arguments: Any) -> str:
        digest = tensors.write_tensors(*arguments)
        written.append(digest)
        if len(written) == files:
            die()
        return digest

    run_folder.write_tensors = write


def resume(folder: Path) -> None:
    """One run to its end, and one that is killed five times on its way there."""
    assert wait(forked(lambda: train(config(folder, "whole")))) == 0
    run = config(folder, "killed", resume=True)

    def saving(files: int) -> None:
        killed_while_saving(files)
        train(run)

    for work in (
        lambda: train(run, killed_after(1)),  # before the first checkpoint
        lambda: saving(1),  # the weights of the first checkpoint are written, nothing else
        lambda: train(run, killed_after(3)),  # between two checkpoints
        lambda: saving(2),  # the second file of a checkpoint
        lambda: train(run, killed_after(STEPS)),  # all is learned, nothing is saved
    ):
        assert wait(forked(work)) == -signal.SIGKILL
    assert wait(forked(lambda: train(run))) == 0


def two(work: Callable[[], object]) -> list[int]:
    """Two processes of one run that do it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [forked(work, RANK=rank, LOCAL_RANK=rank, **world) for rank in "01"]


def both(work: Callable[[], object]) -> list[int]:
    """How two processes of one run that do it end."""
    return [wait(child) for child in two(work)]


PLAIN = ("precision=fp32", "lr=1e-3", "ema=none")


def processes(folder: Path) -> None:
    """One process with whole batches, in one part and in three; two with half of each. And batches of one group, of
    which one of two processes gets nothing, although it holds half of the weights."""
    assert wait(forked(lambda: train(config(folder, "one", *PLAIN)))) == 0
    assert wait(forked(lambda: train(config(folder, "parts", *PLAIN, "accumulate=3")))) == 0
    assert wait(forked(lambda: train(config(folder, "lone", *PLAIN, "batch=1")))) == 0
    assert both(lambda: train(config(folder, "two", *PLAIN, device="cpu"))) == [0, 0]
    assert both(lambda: train(config(folder, "idle", *PLAIN, "batch=1", device="cpu", shard=True))) == [0, 0]


SHARDS = ("precision=fp32", "lr=1e-3", "clip=0.5", "gradient_checkpointing=true")
WAYS = {
    "all": (*SHARDS, "accumulate=3"),
    "frozen": (*SHARDS, "image_blocks=2", "text_blocks=1", "ema=none", "batch=2", "accumulate=2"),
}
"""With a moving average; with the upper blocks alone, and on each of two processes a part of nothing."""


def shards(folder: Path) -> None:
    """On one process, on two and in shards on two. Then killed there and resumed, on two and on one."""
    for name, settings in WAYS.items():
        assert wait(forked(partial(train, config(folder, f"{name}-one", *settings)))) == 0
        assert both(partial(train, config(folder, f"{name}-two", *settings, device="cpu"))) == [0, 0]
        run = config(folder, f"{name}-shards", *settings, device="cpu", shard=True)
        assert both(partial(train, run)) == [0, 0]
    for name in ("killed", "moved"):
        run = config(folder, name, *WAYS["all"], device="cpu", shard=True, resume=True)
        first, second = two(partial(train, run, killed_after(3)))
        assert wait(first) == -signal.SIGKILL
        assert wait(second) != 0
    assert both(lambda: train(config(folder, "killed", *WAYS["all"], device="cpu", shard=True, resume=True))) == [0, 0]
    assert wait(forked(lambda: train(config(folder, "moved", *WAYS["all"], resume=True)))) == 0


def asked_to_stop(what: str, _done: int, _total: int | None, _line: Mapping[str, Any]) -> None:
    """Progress by which the second of two processes, and no other, is asked to end while it validates."""
    if what == "validating" and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)


def agreement(folder: Path) -> None:
    """Two processes of which one is asked to end; whose patience ends; that judge a validation otherwise."""
    calm = config(folder, "calm", *PLAIN, device="cpu")
    assert both(partial(train, calm)) == [0, 0]
    asked = config(folder, "asked", *PLAIN, device="cpu", resume=True)
    assert both(partial(train, asked, asked_to_stop)) == [1, 1]
    assert both(partial(train, asked)) == [0, 0]
    patient = ("precision=fp32", "validate_every=1", "patience=1", "lr=1e-12")
    assert both(lambda: train(config(folder, "patient", *patient, device="cpu", shard=True))) == [0, 0]

    calls = itertools.count()

    def of_two_minds() -> None:
        """To the second process each validation looks better than the one before, by less than a log shows."""
        found = trainer.validate
        less = 1e-9 * int(os.environ["RANK"])

        def validate(*args: Any) -> Any:
            figures, credit = found(*args)
            return {**figures, "loss": figures["loss"] - less * next(calls)}, credit

        trainer.validate = validate
        train(config(folder, "minds", *patient[:2], "patience=2", "lr=1e-12", device="cpu"))

    assert both(of_two_minds) == [0, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    (Path(sys.argv[2]) / "small.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(Path(sys.argv[2]) / "small.json")
    {case.__name__: case for case in (resume, processes, shards, agreement)}[sys.argv[1]](Path(sys.argv[2]))
