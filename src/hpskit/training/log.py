"""The log of a run: JSON lines always, TensorBoard and Weights & Biases where they are asked for.

Every line has `kind` and `step` (steps done): `start`, `step`, `validation`, `warning`, `end`. No step is there twice:
a run that goes on from a checkpoint takes back what was written after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from hpskit.errors import InputError, MissingExtraError
from hpskit.files import AppendLog, publish

__all__ = ["RunLog", "Sink", "log_lines", "tensorboard", "wandb"]

_CURVES = {
    "step": ("loss", "accuracy", "lr", "logit_scale", "gradient_norm"),
    "validation": ("loss", "accuracy", "hpdv2"),
}


class Sink(Protocol):
    """Draws curves."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Curve -> value after a step."""
        ...

    def close(self) -> None:
        """Bring everything to its place."""
        ...


class RunLog:
    """Writes the lines of a run; one process at a time."""

    def __init__(self, path: Path, *, after: int, sinks: tuple[Sink, ...] = ()) -> None:
        """Open the log and take back what is of later steps.

        Args:
            path: the file.
            after: the step that the run goes on from; 0 is the beginning.
            sinks: also get the curves.

        Raises:
            OutputError: another process writes it, or it cannot be written.
        """
        self._log = AppendLog(path)
        self._sinks = sinks
        self.lines = [line for line in self._log.lines if line["step"] <= after]
        """What earlier parts of the run have written, up to that step."""
        if len(self.lines) < len(self._log.lines):
            self._log.close()
            with publish(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
            self._log = AppendLog(path)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add a line, which is on the disk afterwards, and give it back.

        Raises:
            OutputError: it cannot be written.
        """
        line = {"kind": kind, "step": step, **values}
        self._log.append(line)
        curves = {f"{kind}/{name}": _number(line[name]) for name in _CURVES.get(kind, ()) if line[name] is not None}
        for sink in self._sinks if curves else ():
            sink.add(step, curves)
        return line

    def close(self) -> None:
        """Let go of the file and finish the curves."""
        self._log.close()
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def _number(value: Any) -> float:
    return float(value["value"] if isinstance(value, Mapping) else value)


def log_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log, of a run that may still be going on; a line that is being written is left out.

    Raises:
        InputError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a log ({error}); give the folder of a run") from error


def tensorboard(folder: Path, *, after: int, wanted: bool | None) -> tuple[Sink, ...]:
    """Curves for TensorBoard in `folder`.

    Args:
        folder: for event files.
        after: the step that the run goes on from.
        wanted: None is if it is installed.

    Raises:
        MissingExtraError: it is wanted but not installed.
    """
    if wanted is False:
        return ()
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        if wanted is None:
            return ()
        cure = "install it: pip install 'hpskit[train]'"
        raise MissingExtraError(f"--tensorboard: needs tensorboard, which is not installed; {cure}") from error
    return (_TensorBoard(SummaryWriter(str(folder), purge_step=after + 1)),)


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


def wandb(folder: Path, config: Mapping[str, Any]) -> tuple[Sink, ...]:
    """Curves for Weights & Biases, under the name of the run's folder; its own variables say which account.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import wandb as client
    except ImportError as error:
        raise MissingExtraError("--wandb: needs wandb, which is not installed; pip install wandb") from error
    name = folder.resolve().name
    run = client.init(project="hpskit", name=name, id=name, dir=str(folder), config=dict(config), resume="allow")
    return (_Wandb(run),)


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
