"""A training run as those who come after it see it: settings, log, weights. Reads, and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit.errors import InputError
from hpskit.files import read_json
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.log import log_lines
from hpskit.training.run_folder import RunFolder

__all__ = ["Line", "PastRun", "best_validation", "lines_of", "open_run"]

Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRun:
    """A run, finished or not."""

    folder: RunFolder
    config: Mapping[str, Any]
    """What `config.json` holds: recipe, data, validation data, command."""
    log: Sequence[Line]
    """What `log.jsonl` holds."""

    @property
    def name(self) -> str:
        """That of the folder."""
        return self.folder.path.resolve().name

    def weights(self, checkpoint: str = "best") -> tuple[Path, int]:
        """The weights after some step, and that step.

        Args:
            checkpoint: `best` by validation, `last`, or the number of a step.

        Raises:
            InputError: there is no such checkpoint.
        """
        found = Checkpoints(self.folder.checkpoints, keep=1)
        steps = found.steps()
        best = best_validation(self.log)
        named = {"last": steps[-1] if steps else None, "best": best["step"] if best else None}
        step = int(checkpoint) if checkpoint.isdecimal() else named.get(checkpoint)
        if step is None or step not in steps:
            expected = ", ".join(["best", "last", *map(str, steps)]) if steps else "one, but none was saved yet"
            raise InputError(f"{self.folder.path}: has no checkpoint {checkpoint!r}, expected {expected}")
        return found.model(step), step


def open_run(path: Path) -> PastRun:
    """Read what a run has left so far.

    Raises:
        InputError: it is not the folder of a training run.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise InputError(f"{path}: holds no config.json, expected the folder that `hpskit train --out` made")
    config = read_json(folder.config)
    if not isinstance(config, dict) or not isinstance(config.get("recipe"), dict):
        raise InputError(f"{folder.config}: has no recipe, expected what `hpskit train` writes there")
    return PastRun(folder=folder, config=config, log=log_lines(folder.log) if folder.log.is_file() else [])


def lines_of(log: Sequence[Line], kind: str) -> list[Line]:
    """The lines of one kind."""
    return [line for line in log if line["kind"] == kind]


def best_validation(log: Sequence[Line]) -> Line | None:
    """The validation that the best checkpoint is of: the highest accuracy; of equals the lowest loss, then the first.
    None if there was none."""
    found = lines_of(log, "validation")
    return min(found, key=lambda line: (-line["accuracy"]["value"], line["loss"]), default=None)
