"""The folder of a run: what it was started with, whether it may go on, and what it leaves behind.

config.json           recipe, data, first weights, versions
images.jsonl.gz       names and sizes of the image files, so that a replaced one can be named
log.jsonl             see `hpskit.training.log`
checkpoints/          see `hpskit.training.checkpoints`
model.safetensors     the best checkpoint's weights
model.training.json   hashes of the prompts, so that an evaluation can say what the model has seen and was chosen on
summary.json          written last: it says that the rest is complete
wandb.json            the id of the curves in Weights & Biases, if there are any
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpskit.dataset.inventory import changed_files
from hpskit.errors import InputError, OutputError
from hpskit.files import publish, publish_json, read_json
from hpskit.training.log import log_lines

__all__ = ["RunFolder"]

_FORMAT = "hpskit training run 1"
_SHOWN = 5
_POLICY = ("save_every", "keep", "keep_every")
"""Fields of the recipe that decide which checkpoints are there, and not what is learned."""
_WRITE_AGAIN = "put back what the run wrote there; the same command with another --out writes the same"
_SUMMARY = {"steps": int, "best_step": int, "validation": dict, "weight_hash": str}


class RunFolder:
    """Where the files of a run are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.images = path / "images.jsonl.gz"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.report = path / "report.html"
        self.summary = path / "summary.json"

    @property
    def name(self) -> str:
        """Of the run."""
        return self.path.resolve().name

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
            if self.checkpoints.is_dir():
                raise OutputError(f"{self.config}: is not there, but checkpoints of a run are; {_WRITE_AGAIN}")
            raise OutputError(f"{self.path}: is not empty and not a run; choose another folder")

    def begin(self, config: Mapping[str, Any], listing: bytes = b"") -> list[str]:
        """Write down what a new run is started with, or see that a started one goes on with the same.

        Args:
            config: all of it.
            listing: its image files, see `hpskit.dataset.inventory.Inventory.listing`.

        Returns:
            What is to be said of images that were mended.

        Raises:
            OutputError: see `check_same`; or it cannot be written.
        """
        if not self.config.is_file():
            for path in self.path.glob(".*.tmp"):  # of a run that was killed while it wrote its first file
                if _unfinished(path):
                    path.unlink()
            publish_json(self.config, {"format": _FORMAT, **config})
            replaced = []
        else:
            replaced = self.check_same(config, listing)
            before = self._started_with()
            allowed = {name: config.get(name) for name in ("on_broken", *(("data", "validation") if replaced else ()))}
            if {**before, **allowed} != before:
                publish_json(self.config, {**before, **allowed})
        if not self.images.is_file() or replaced:
            with publish(self.images) as temporary:
                temporary.write_bytes(listing)
        return replaced

    def check_same(self, config: Mapping[str, Any], listing: bytes = b"") -> list[str]:
        """See that the run that is here would go on with what it was started with.

        Which checkpoints are saved and kept may change: that is no part of what is learned. So may what becomes of
        broken images, as long as none was left out; and an image that stopped the run may have been mended.

        Returns:
            What is to be said of images that were mended.

        Raises:
            OutputError: it would go on with something else, which the message lists; or its `config.json` is damaged.
        """
        before = self._started_with()
        changes = _changes(_decisive(before), _decisive(config))
        was, now = before.get("on_broken"), config.get("on_broken")
        if was != now and not (was == "fail" or self._left_none_out()):
            changes.append(f"on_broken was {was}, is {now}, and groups were left out")
        if changes:
            listed = "; ".join(changes[:_SHOWN]) + (f"; and {len(changes) - _SHOWN} more" * (len(changes) > _SHOWN))
            cure = "resume with what the run was started with, or start a new one in another folder"
            raise OutputError(f"{self.path}: the run would go on with other settings: {listed}; {cure}")
        if all(old in (None, new) for old, new in zip(_images(before), _images(config), strict=True)):
            return []
        return self._mended(listing)

    def _mended(self, listing: bytes) -> list[str]:
        """What is to be said of images that are not the same any more, if each has stopped the run before."""
        cure = "bring back what the run was started with, or start a new one in another folder"
        try:
            files = changed_files(self.images.read_bytes(), listing) if self.images.is_file() else {}
        except (ValueError, EOFError, OSError) as error:
            raise OutputError(f"{self.images}: is damaged ({error}), and images have changed; {cure}") from error
        known = log_lines(self.log) if self.log.is_file() else []
        broken = {line.get("image") for line in known}
        others = [text for name, text in files.items() if name not in broken]
        if others or not files:
            listed = "; ".join(others[:_SHOWN]) + (f"; and {len(others) - _SHOWN:,} more" * (len(others) > _SHOWN))
            raise OutputError(f"{self.path}: images have changed: {listed or 'those that the data carry'}; {cure}")
        return [f"image {text}; it could not be decoded before" for text in files.values()]

    def _left_none_out(self) -> bool:
        """Whether no image was found broken so far."""
        return self.log.is_file() and not any(line.get("dropped") for line in log_lines(self.log))

    def _started_with(self) -> dict[str, Any]:
        try:
            value = read_json(self.config)
        except InputError as error:
            raise OutputError(f"{error}; {_WRITE_AGAIN}") from error
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise OutputError(f"{self.config}: is not a run of this version ({_FORMAT!r}); choose another folder")
        objects = [value.get("recipe"), value.get("base") or {}]
        if not (_is_table(objects) and _is_table(value.get("data")) and _is_table(value.get("validation"))):
            raise OutputError(f"{self.config}: is damaged, its recipe, data or base is not there; {_WRITE_AGAIN}")
        return value

    def finished(self) -> dict[str, Any] | None:
        """The summary of a run that is complete, else None.

        Raises:
            OutputError: it is damaged, or the weights that it speaks of are gone.
        """
        if not self.summary.is_file():
            return None
        cure = f"delete {self.summary}, and --resume makes it again from the checkpoints"
        try:
            value = read_json(self.summary)
        except InputError as error:
            raise OutputError(f"{error}; {cure}") from error
        if not isinstance(value, dict) or any(type(value.get(name)) is not kind for name, kind in _SUMMARY.items()):
            raise OutputError(f"{self.summary}: is damaged, expected {', '.join(_SUMMARY)}; {cure}")
        if not self.model.is_file():
            raise OutputError(f"{self.model}: is not there, but the run is finished; {cure}")
        return value


def _unfinished(path: Path) -> bool:
    """Whether it is a `config.json` that was being written when a run was killed."""
    return path.name.startswith(".config.json.") and path.suffix == ".tmp"


def _is_table(value: Any) -> bool:
    """Whether it is a list of objects."""
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what comes out, by a flat name."""
    flat = {f"recipe.{name}": value for name, value in config["recipe"].items() if name not in _POLICY}
    for role in ("data", "validation"):
        sets = config.get(role, [])
        flat[f"{role}, number of sets"] = len(sets)
        for number, entry in enumerate(sets):
            flat |= {f"{role} {number + 1}: {key}": entry.get(key) for key in ("digest", "ratio")}
    base = config.get("base") or {}
    return {**flat, "first weights": base.get("weight_hash")}


def _images(config: Mapping[str, Any]) -> list[str | None]:
    """Digests of the images of all data sets; None where it was not noted yet."""
    return [entry.get("images") for role in ("data", "validation") for entry in config.get(role, [])]


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
