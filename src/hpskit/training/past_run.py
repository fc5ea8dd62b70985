"""A training run as those who come after it see it: settings, log, weights. Reads, and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit.errors import InputError
from hpskit.files import read_json
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.log import KINDS, log_lines
from hpskit.training.run_folder import RunFolder

__all__ = ["Line", "PastRun", "best_checkpoint", "best_validation", "left_out", "lines_of", "open_run"]

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
        return self.folder.name

    def weights(self, checkpoint: str = "best") -> tuple[Path, int]:
        """The weights after some step, and that step.

        Args:
            checkpoint: `best` by validation, `last`, or the number of a step.

        Raises:
            InputError: there is no such checkpoint.
            CheckpointError, OutputError: the file that says which is the best is damaged.
        """
        found = Checkpoints(self.folder.checkpoints, keep=1)
        steps = found.steps()
        if checkpoint.isdecimal():
            step: int | None = int(checkpoint)
        else:
            step = {"last": max(steps, default=None), "best": self._best(found)}.get(checkpoint)
        if step is None or step not in steps:
            expected = ", ".join(["best", "last", *map(str, steps)]) if steps else "one, but none was saved yet"
            raise InputError(f"{self.folder.path}: has no checkpoint {checkpoint!r}, expected {expected}")
        return found.model(step), step

    def _best(self, checkpoints: Checkpoints) -> int | None:
        """Not from the log alone, of which somebody may have deleted a part."""
        if (summary := self.folder.finished()) is not None:
            return int(summary["best_step"])
        last = max(checkpoints.steps(), default=None)
        return None if last is None else best_checkpoint(self.folder, checkpoints.state(last))[0]


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


def left_out(config: Mapping[str, Any]) -> list[str]:
    """Which groups of its data a run did not use, and why, a sentence each.

    Args:
        config: what `config.json` holds.
    """
    found = []
    if leaks := config.get("leaks"):
        kinds = ", ".join(f"{kind}: {count:,}" for kind, count in leaks.items())
        groups = f"{config['dropped_leaks']:,} ({kinds})"
        found.append(f"Training groups left out because they share something with the validation data: {groups}.")
    found += [
        f"Groups of {entry['name']} left out because image files were missing or empty: {entry['incomplete']:,}."
        for entry in (*config.get("data", ()), *config.get("validation", ()))
        if entry.get("incomplete")
    ]
    return found


def best_validation(log: Sequence[Line]) -> Line | None:
    """The validation that the best checkpoint is of: the highest accuracy; of equals the lowest loss, then the first.
    None if there was none."""
    found = lines_of(log, "validation")
    return min(found, key=lambda line: (-line["accuracy"]["value"], line["loss"]), default=None)


def best_checkpoint(
    folder: RunFolder, state: Mapping[str, Any]
) -> tuple[int | None, dict[str, Any] | None, str | None]:
    """The best checkpoint of a run that goes on, and the best of the others if somebody has deleted it.

    Args:
        folder: of the run.
        state: of the last checkpoint.

    Returns:
        Its step and its figures, None if nothing that is left was validated; and what is to be said of it.

    Raises:
        InputError: the log, which knows how good the others are, is damaged.
    """
    best, there = state["best"], Checkpoints(folder.checkpoints, keep=1).steps()
    if best is None or best in there:
        return best, state["validation"], None
    log = log_lines(folder.log) if folder.log.exists() else []
    line = best_validation([line for line in log if line["step"] in there])
    lost = f"the best checkpoint, of step {best}, is not there any more"
    if line is None:
        return None, None, f"{lost}, and no other was validated; the next validation takes its place"
    figures = {name: line[name] for name in sorted(KINDS["validation"])}
    return line["step"], figures, f"{lost}; that of step {line['step']} is the best of the others"
