"""Runs of the trainer that are killed by the system at chosen moments, or that are several processes.

Run as a script: `killed_runs.py CASE FOLDER`. Every run is a forked child of a process that has imported everything but
computed nothing, which makes a run cost what it computes and not its imports.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch

from hpskit.models import checkpoint as tensors
from hpskit.training import checkpoints
from hpskit.training.recipes import tiny
from hpskit.training.trainer import TrainRun, train

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


def config(folder: Path, name: str, *settings: str, **changes: Any) -> TrainRun:
    return TrainRun(
        recipe=tiny().with_settings([*SETTINGS, *settings]),
        data=(str(folder / "train.json"),),
        validation=str(folder / "held-out.json"),
        out=folder / name,
        tensorboard=False,
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

    checkpoints.write_tensors = write


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


def processes(folder: Path) -> None:
    """One process with whole batches, in one part and in three; two with half of each. And batches of one group, of
    which one of two processes gets nothing."""
    settings = ("precision=fp32", "lr=1e-3", "ema=none")
    assert wait(forked(lambda: train(config(folder, "one", *settings)))) == 0
    assert wait(forked(lambda: train(config(folder, "parts", *settings, "accumulate=3")))) == 0
    assert wait(forked(lambda: train(config(folder, "lone", *settings, "batch=1")))) == 0
    for name, more in (("two", ()), ("idle", ("batch=1",))):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        run = config(folder, name, *settings, *more, device="cpu")
        both = [forked(lambda run=run: train(run), RANK=rank, LOCAL_RANK=rank, **world) for rank in "01"]  # type: ignore[misc]
        assert [wait(child) for child in both] == [0, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    (Path(sys.argv[2]) / "small.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(Path(sys.argv[2]) / "small.json")
    {"resume": resume, "processes": processes}[sys.argv[1]](Path(sys.argv[2]))
