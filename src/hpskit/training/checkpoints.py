"""Checkpoints of a run: each a folder that is there whole or not at all.

    checkpoints/index.json                        names of the last and of the best, for readers
    checkpoints/step-000200/model.safetensors     the network as it is validated; `hpskit score --model` reads it
    checkpoints/step-000200/training.safetensors  AdamW's state, and the weights behind a moving average
    checkpoints/step-000200/state.json            step, position in the data, random numbers, best step so far

The folders are the truth: the last of them is where a run goes on, and the index is written again from them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hpskit.errors import CheckpointError, OutputError
from hpskit.files import explain, publish_folder, publish_json, read_json
from hpskit.models.checkpoint import read_tensors, write_tensors

__all__ = ["Checkpoint", "Checkpoints"]

_FORMAT = "hpskit training state 1"
_NAME = re.compile(r"step-(\d{6,})")
_DOOMED = ".old.tmp"
_MODEL, _TRAINING, _STATE = "model.safetensors", "training.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Everything that the next step depends on."""

    step: int
    """Steps done."""
    weights: Mapping[str, Tensor]
    training: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """What is not a tensor, as JSON has it; `best` is the best step so far or None."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int) -> None:
        """
        Args:
            folder: need not exist yet.
            keep: how many of the last ones stay, beside the best one.
        """
        self.folder, self.keep = folder, keep

    def path(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.folder / f"step-{step:06d}"

    def model(self, step: int) -> Path:
        """The weights of a checkpoint."""
        return self.path(step) / _MODEL

    def steps(self) -> list[int]:
        """The steps whose checkpoints are there, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def save(self, checkpoint: Checkpoint, metadata: Mapping[str, str]) -> None:
        """Publish a checkpoint, then remove those that need not be kept.

        Args:
            checkpoint: what to save.
            metadata: of the weights.

        Raises:
            OutputError: it cannot be written; what was there before is still there.
        """
        with publish_folder(self.path(checkpoint.step)) as folder:
            digest = write_tensors(checkpoint.weights, folder / _MODEL, metadata)
            write_tensors(checkpoint.training, folder / _TRAINING, {})
            publish_json(
                folder / _STATE,
                {"format": _FORMAT, "step": checkpoint.step, "weight_hash": digest, **checkpoint.state},
            )
        self.tidy(checkpoint.state.get("best"))

    def tidy(self, best: int | None) -> None:
        """Write the index, and remove what need not be kept and what a killed process has left half removed.

        Raises:
            OutputError: the folder cannot be written.
        """
        steps = self.steps()
        for left in self.folder.glob(f".step-*{_DOOMED}"):
            shutil.rmtree(left, ignore_errors=True)
        kept = {*steps[-self.keep :], best}
        names = {"last": self.path(steps[-1]).name, "best": self.path(best).name if best is not None else None}
        publish_json(self.folder / "index.json", names)
        for step in steps:
            if step not in kept:
                _remove(self.path(step))

    def last(self) -> Checkpoint | None:
        """The last checkpoint, or None if there is none yet.

        Raises:
            CheckpointError: it is damaged.
        """
        steps = self.steps()
        return self.load(steps[-1]) if steps else None

    def load(self, step: int) -> Checkpoint:
        """Read a checkpoint; tensors are memory-mapped.

        Raises:
            CheckpointError: it is damaged.
        """
        folder = self.path(step)
        state = read_json(folder / _STATE)
        if not isinstance(state, dict) or state.get("format") != _FORMAT or state.get("step") != step:
            cure = "delete this checkpoint to go on from the one before"
            raise CheckpointError(f"{folder / _STATE}: is not the state of step {step} ({_FORMAT!r}); {cure}")
        weights, training = read_tensors(folder / _MODEL), read_tensors(folder / _TRAINING)
        return Checkpoint(step=step, weights=weights, training=training, state=state)


def _remove(path: Path) -> None:
    """Under another name first, so that a kill halfway leaves nothing that looks like a checkpoint."""
    doomed = path.with_name(f".{path.name}{_DOOMED}")
    try:
        path.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise OutputError(f"{path}: an old checkpoint cannot be removed ({explain(error)}); remove it") from error
