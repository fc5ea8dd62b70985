"""The log of a run: JSON lines always, TensorBoard and Weights & Biases where they are asked for.

Every line has `kind` and `step` (steps done), and the fields of its kind. No step is there twice: a run that goes on
from a checkpoint takes back what was written after it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from hpskit.errors import InputError, MissingExtraError, OutputError
from hpskit.files import AppendLog, explain, publish, publish_json, read_json

__all__ = ["KINDS", "RunLog", "Sink", "log_lines", "tensorboard", "wandb"]

KINDS: Mapping[str, frozenset[str]] = {
    "start": frozenset({"time", "processes"}),
    "step": frozenset(
        {"loss", "chance", "accuracy", "lr", "logit_scale", "gradient_norm", "pairs", "images", "dropped", "skipped"}
        | {"seconds"}
    ),
    "estimate": frozenset({"seconds_per_step", "seconds_left", "peak_bytes"}),
    "validation": frozenset({"loss", "chance", "accuracy", "hpdv2", "groups", "pairs", "dropped"}),
    "warning": frozenset({"name", "text"}),
    "end": frozenset({"time", "reason"}),
}
"""Kinds of lines, and the fields of each beside `kind` and `step`; docs/training.md says what they mean."""

_CURVES = {
    "step": ("loss", "accuracy", "lr", "logit_scale", "gradient_norm"),
    "validation": ("loss", "accuracy", "hpdv2"),
}


class Sink(Protocol):
    """Draws curves."""

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Curve -> value after a step."""
        ...

    def close(self, *, failed: bool) -> None:
        """Bring everything to its place; `failed` is whether the run stopped before its end."""
        ...


class RunLog:
    """Writes the lines of a run; one process at a time."""

    def __init__(self, path: Path, *, after: int) -> None:
        """Open the log and take back what is of later steps.

        Args:
            path: the file.
            after: the step that the run goes on from; 0 is the beginning.

        Raises:
            InputError: a line is not of a training log.
            OutputError: another process writes it, or it cannot be written.
        """
        if path.exists():
            log_lines(path)
        self._log = AppendLog(path)
        self.sinks: list[Sink] = []
        """Also get the curves."""
        self.lines = [
            {**line, "step": min(line["step"], after)}
            for line in self._log.lines
            if line["step"] <= after or "image" in line  # a broken one, which may be mended later
        ]
        """What earlier parts of the run have written, up to that step."""
        if self.lines != self._log.lines:
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
        for sink in self.sinks if curves else ():
            sink.add(step, curves)
        return line

    def gap(self, after: int) -> str | None:
        """What is missing of the steps before the one that the run goes on from, in words; None if nothing is."""
        last = max((line["step"] for line in self.lines if line["kind"] == "step"), default=0)
        if last >= after:
            return None
        return f"{self._log.path}: ends at step {last}, the run goes on from step {after}; the curves have a gap"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        """Let go of the file and finish the curves."""
        self._log.close()
        for sink in self.sinks:
            sink.close(failed=kind is not None)


def _number(value: Any) -> float:
    return float(value["value"] if isinstance(value, Mapping) else value)


def log_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log, of a run that may still be going on; a line that is being written is left out.

    Raises:
        InputError: it cannot be read, or a line is not of a training log.
    """
    try:
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if data[end:] and not data[end:].startswith(b"{"):  # which is no beginning of a line
            end = len(data)
        lines = data[:end].decode().removesuffix("\n").split("\n") if end else []
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a log ({explain(error)}); give the folder of a run") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is damaged ({error}); put it back, or delete it and lose the curves") from error
    return [_line(f"{path}: line {number}", line) for number, line in enumerate(lines, 1)]


def _line(place: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    kind = value.get("kind") if isinstance(value, dict) else None
    missing = KINDS[kind] - value.keys() if isinstance(kind, str) and kind in KINDS else {"kind"}
    if missing or type(value.get("step")) is not int:
        lacks = ", ".join(sorted(missing)) or "step"
        raise InputError(f"{place}: is no line of a training log, it lacks {lacks}; correct or delete the line")
    return dict(value)


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
    try:
        return (_TensorBoard(SummaryWriter(str(folder), purge_step=after + 1)),)
    except OSError as error:
        raise _unwritten(folder, error) from error


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, step: int, values: Mapping[str, float]) -> None:
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:  # of the thread that writes, for an earlier value
            raise _unwritten(Path(self._writer.log_dir), error) from error

    def close(self, *, failed: bool) -> None:  # noqa: ARG002  # TensorBoard does not tell how a run ended
        try:
            self._writer.close()
        except OSError as error:
            raise _unwritten(Path(self._writer.log_dir), error) from error


def _unwritten(folder: Path, error: OSError) -> OutputError:
    cure = "make room and --resume, or leave the curves out by --no-tensorboard"
    return OutputError(f"{folder}: cannot be written ({explain(error)}); {cure}")


def wandb(folder: Path, config: Mapping[str, Any]) -> tuple[Sink, ...]:
    """Curves for Weights & Biases, by the name of the run's folder, in the project of WANDB_PROJECT or else `hpskit`.

    The id of the curves is drawn once and kept in the folder, so that a run that goes on continues them. Everything
    else, such as the account, is said by the variables and settings of `wandb` itself.

    Args:
        folder: of the run.
        config: its settings, which go along.

    Raises:
        MissingExtraError: it is not installed.
        InputError: it refuses, for example for lack of an account; or the id of the folder is damaged.
    """
    try:
        import wandb as client
    except ImportError as error:
        cure = "install it: pip install 'hpskit[wandb]'"
        raise MissingExtraError(f"--wandb: needs wandb, which is not installed; {cure}") from error
    try:
        run = client.init(
            project=os.environ.get("WANDB_PROJECT", "hpskit"),
            name=folder.resolve().name,
            id=_wandb_id(folder / "wandb.json"),
            dir=str(folder),
            config=dict(config),
            resume="allow",
        )
    except client.Error as error:
        cure = "`wandb login` names your account; WANDB_MODE=offline keeps the curves on this machine"
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"--wandb: Weights & Biases refuses ({reason}); {cure}") from error
    return (_Wandb(run),)


def _wandb_id(path: Path) -> str:
    if not path.exists():
        publish_json(path, {"id": secrets.token_hex(8)})
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise InputError(f'{path}: is {value!r}, expected {{"id": "…"}}; delete it to begin new curves')
    return str(value["id"])


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
