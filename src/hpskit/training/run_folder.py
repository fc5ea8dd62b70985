"""The folder of a run: what it was started with, whether it may go on, and what it leaves behind.

config.json           recipe, data, first weights, versions
log.jsonl             see `hpskit.training.log`
checkpoints/          see `hpskit.training.checkpoints`
model.safetensors     the best checkpoint's weights
model.training.json   hashes of the training prompts, so that an evaluation can say what the model has seen
summary.json          written last: it says that the rest is complete
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpskit.errors import OutputError
from hpskit.files import publish_json, read_json

__all__ = ["RunFolder"]

_FORMAT = "hpskit training run 1"
_SHOWN = 5


class RunFolder:
    """Where the files of a run are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.report = path / "report.html"
        self.summary = path / "summary.json"

    def check_free(self, resume: bool) -> None:
        """See that a run may write here.

        Raises:
            OutputError: another run is here and shall not go on, or something else is.
        """
        if self.config.is_file():
            if not resume:
                cure = "--resume goes on with it; or choose another folder"
                raise OutputError(f"{self.path}: holds a run already; {cure}")
            return
        if self.path.exists() and (not self.path.is_dir() or any(not _unfinished(p) for p in self.path.iterdir())):
            raise OutputError(f"{self.path}: is not empty and not a run; choose another folder")

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write down what a new run is started with, or see that a started one goes on with the same.

        Raises:
            OutputError: it would go on with something else; the message lists what.
        """
        if not self.config.is_file():
            for path in self.path.glob(".*.tmp"):  # of a run that was killed while it wrote its first file
                if _unfinished(path):
                    path.unlink()
            publish_json(self.config, {"format": _FORMAT, **config})
            return
        before = read_json(self.config)
        if not isinstance(before, dict) or before.get("format") != _FORMAT:
            raise OutputError(f"{self.config}: is not a run of this version ({_FORMAT!r}); choose another folder")
        changes = _changes(_decisive(before), _decisive(config))
        if changes:
            listed = "; ".join(changes[:_SHOWN]) + (f"; and {len(changes) - _SHOWN} more" * (len(changes) > _SHOWN))
            cure = "resume with what the run was started with, or start a new one in another folder"
            raise OutputError(f"{self.path}: the run would go on with other settings: {listed}; {cure}")

    def finished(self) -> dict[str, Any] | None:
        """The summary of a run that is complete, else None."""
        value = read_json(self.summary) if self.summary.is_file() else None
        return value if isinstance(value, dict) else None


def _unfinished(path: Path) -> bool:
    """Whether it is a `config.json` that was being written when a run was killed."""
    return path.name.startswith(".config.json.") and path.suffix == ".tmp"


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what comes out, by a flat name."""
    flat = {f"recipe.{name}": value for name, value in config.get("recipe", {}).items()}
    for role in ("data", "validation"):
        sets = config.get(role, [])
        flat[f"{role}, number of sets"] = len(sets)
        for number, entry in enumerate(sets):
            flat |= {f"{role} {number + 1}: {key}": entry.get(key) for key in ("digest", "ratio")}
    base = config.get("base") or {}
    return {**flat, "first weights": base.get("weight_hash"), "on_broken": config.get("on_broken")}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:20]}…"
