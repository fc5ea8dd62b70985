"""Checkpoints of a run: each a folder that is there whole or not at all.

    checkpoints/index.json                        names of the last and of the best, for readers
    checkpoints/step-000200/model.safetensors     the network as it is validated; `hpskit score --model` reads it
    checkpoints/step-000200/training.safetensors  AdamW's state, and the weights behind a moving average
    checkpoints/step-000200/state.json            step, position in the data, random numbers, best step so far; and
                                                  the hashes of the other two and of itself

The folders are the truth: the last of them is where a run goes on, and the index is written again from them. What is
read back is what was written, or an error that says how the run goes on without it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hpskit.errors import CheckpointError, InputError, OutputError
from hpskit.files import explain, publish_folder, publish_json, read_json
from hpskit.models.checkpoint import file_hash, read_tensors, write_tensors

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
    """What is not a tensor, as JSON gives it back; `best` is the best step so far or None."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int, keep_every: int | None = None) -> None:
        """
        Args:
            folder: need not exist yet.
            keep: how many of the last ones stay, beside the best one.
            keep_every: those of multiples of so many steps stay too; None is none.
        """
        self.folder, self.keep, self.keep_every = folder, keep, keep_every

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
            hashes = {
                _MODEL: write_tensors(checkpoint.weights, folder / _MODEL, metadata),
                _TRAINING: write_tensors(checkpoint.training, folder / _TRAINING, {}),
            }
            state = {"format": _FORMAT, "step": checkpoint.step, "hashes": hashes, "state": checkpoint.state}
            publish_json(folder / _STATE, {**state, "digest": _digest(state)})
        self.tidy(checkpoint.state.get("best"))

    def tidy(self, best: int | None) -> None:
        """Write the index, and remove what need not be kept and what a killed process has left half written or half
        removed. One process at a time may save and tidy.

        Raises:
            OutputError: the folder cannot be written.
        """
        steps = self.steps()
        for left in self.folder.glob(".step-*.tmp"):  # of any step: a run that goes on may save at others
            shutil.rmtree(left, ignore_errors=True)
        kept = {*steps[-self.keep :], best}
        if self.keep_every is not None:
            kept |= {step for step in steps if step % self.keep_every == 0}
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
        """Read a checkpoint, every byte of it; tensors are memory-mapped.

        Raises:
            CheckpointError: it is not what was written.
        """
        written = self._written(step)
        for name in (_MODEL, _TRAINING):
            self._check(step, name, written["hashes"][name])
        weights, training = (read_tensors(self.path(step) / name) for name in (_MODEL, _TRAINING))
        return Checkpoint(step=step, weights=weights, training=training, state=written["state"])

    def state(self, step: int) -> dict[str, Any]:
        """The `state` of a checkpoint, without a look at its tensors.

        Raises:
            CheckpointError: it is not what was written.
        """
        state: dict[str, Any] = self._written(step)["state"]
        return state

    def weight_hash(self, step: int) -> str:
        """That of the weights of a checkpoint, after a look whether they still have it.

        Raises:
            CheckpointError: they have not.
        """
        digest: str = self._written(step)["hashes"][_MODEL]
        self._check(step, _MODEL, digest)
        return digest

    def _written(self, step: int) -> dict[str, Any]:
        """What `state.json` says."""
        path = self.path(step) / _STATE
        try:
            value = read_json(path)
        except InputError as error:
            raise self._damaged(step, str(error)) from error
        if not isinstance(value, dict) or value.get("format") != _FORMAT or value.get("step") != step:
            raise self._damaged(step, f"{path}: is not the state of step {step} ({_FORMAT!r})")
        if value.pop("digest", None) != _digest(value):
            raise self._damaged(step, f"{path}: is not as it was written")
        return value

    def _check(self, step: int, name: str, digest: str) -> None:
        path = self.path(step) / name
        try:
            found = file_hash(path)
        except CheckpointError as error:
            what = "is damaged or cut short" if path.is_file() else "is not there"
            raise self._damaged(step, f"{path}: {what}") from error
        if found != digest:
            raise self._damaged(step, f"{path}: is not as it was written")

    def _damaged(self, step: int, found: str) -> CheckpointError:
        """The error that says how the run goes on without this checkpoint."""
        steps = self.steps()
        if step != steps[-1]:
            then = "takes the best of the others"
        elif len(steps) > 1:
            then = f"goes on from step {steps[-2]}"
        else:
            then = "begins anew"
        return CheckpointError(f"{found}; delete the folder {self.path(step)}, and --resume {then}")


def _digest(state: Mapping[str, Any]) -> str:
    """Of a state as JSON has it, in whatever order."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    """Under another name first, so that a kill halfway leaves nothing that looks like a checkpoint."""
    doomed = path.with_name(f".{path.name}{_DOOMED}")
    try:
        path.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise OutputError(f"{path}: an old checkpoint cannot be removed ({explain(error)}); remove it") from error
