"""Where weights are on this machine, and how they get there.

    $HPSKIT_HOME/models/NAME.safetensors       a named model, ready to load; put there by `fetch`, or by hand
    $HPSKIT_HOME/converted/…safetensors        a local pickle, converted at its first use
    $HPSKIT_HOME/receipts/…json                the weight hash of files already read whole (by path, size and time)
    the Hugging Face cache                     the original download, shared with every other tool

`HPSKIT_HOME` is `~/.cache/hpskit` unless set. The Hugging Face cache is where `HF_HOME` or `HF_HUB_CACHE` say; if
neither is set but `HPSKIT_HOME` is, downloads go to `$HPSKIT_HOME/hub`, so that one variable moves everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from hpskit.errors import CheckpointError, HashMismatchError, HpskitError, NotCachedError, OutputError
from hpskit.files import explain, publish, publish_json, read_json, sha256_file
from hpskit.models.checkpoint import PICKLE_SUFFIXES, Weights, convert, weight_hash
from hpskit.models.registry import Model, find

__all__ = ["Located", "Verification", "cached", "fetch", "home", "hub_file", "locate", "verify"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """Weights that are on this machine, read whole at least once."""

    weights: Weights
    model: Model | None
    """None for a local file."""
    name: str
    weight_hash: str
    metadata: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What reading a file of weights from end to end has shown."""

    name: str
    path: Path
    weight_hash: str
    recorded: str | None
    """The hash that was recorded when the file was made; None if nobody recorded one."""


def home() -> Path:
    """The folder of everything that hpskit keeps between runs."""
    if value := os.environ.get("HPSKIT_HOME"):
        return Path(value).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hpskit"


def cached(model: Model) -> Path | None:
    """The ready file of a named model, or None if using it would download or convert first."""
    path = model.embedded or _ready(model)
    return path if path.is_file() else None


def locate(name_or_path: str | os.PathLike[str]) -> Located:
    """Find the weights of a named model or of a local file; download and convert them if need be.

    Raises:
        UnknownModelError, NotCachedError, CheckpointError, HashMismatchError: see `hpskit.errors`.
    """
    if is_path(name_or_path):
        return _local(Path(name_or_path).expanduser())
    model = find(str(name_or_path))
    path = cached(model) or fetch(model)
    return _located(path, model)


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a `--model` value means a file: it exists, has a separator or the ending of a checkpoint."""
    if not isinstance(name_or_path, str):
        return True
    suffix = Path(name_or_path).suffix.lower()
    has_separator = any(s in name_or_path for s in (os.sep, os.altsep) if s)
    return has_separator or suffix in (*PICKLE_SUFFIXES, ".safetensors") or Path(name_or_path).is_file()


def fetch(model: Model, to: Path | None = None) -> Path:
    """Make the ready file of a model, from the cache or from the hub.

    Args:
        model: a model of the registry.
        to: folder for a copy to carry to another machine; None is this machine's own store.

    Returns:
        The file `NAME.safetensors`, verified.

    Raises:
        NotCachedError: it is not here and cannot be downloaded; the message says how to bring it.
        HashMismatchError: what arrived is not what the hub announced.
    """
    target = _ready(model) if to is None else to / f"{model.name}.safetensors"
    have = cached(model)
    if have is not None:
        _located(have, model)
        if have.resolve() != target.resolve():
            _copy(have, target)
        return target
    source = hub_file(model.repository or "", model.file, cure=_how_to_bring(model))
    metadata = {
        "name": model.name,
        "version": model.version,
        "architecture": model.architecture,
        "licence": model.licence,
        "source": f"{model.repository}/{model.file}",
        "source_sha256": sha256_file(source),
    }
    announced = _announced_sha256(source)
    if announced not in (None, metadata["source_sha256"]):
        source.resolve().unlink()
        source.unlink(missing_ok=True)
        found = metadata["source_sha256"]
        cure = "the file was removed; run the same command again"
        raise HashMismatchError(f"{source}: SHA-256 is {found}, the hub announced {announced}; {cure}")
    _remember(target, convert(source, target, metadata))
    return target


def verify(name_or_path: str | os.PathLike[str]) -> Verification:
    """Read a model's file from end to end and compare it with the hash recorded when it was made.

    Raises:
        HashMismatchError: they differ.
        NotCachedError: a named model is not on this machine (nothing is downloaded).
    """
    if is_path(name_or_path):
        located = _local(Path(name_or_path).expanduser(), trust_receipt=False)
    else:
        model = find(str(name_or_path))
        path = cached(model)
        if path is None:
            raise NotCachedError(f"{model.name}: is not on this machine; run `hpskit models fetch {model.name}`")
        located = _located(path, model, trust_receipt=False)
    return Verification(
        name=located.name,
        path=located.weights.path,
        weight_hash=located.weight_hash,
        recorded=located.metadata.get("weight_hash"),
    )


def _ready(model: Model) -> Path:
    return home() / "models" / f"{model.name}.safetensors"


def _local(path: Path, *, trust_receipt: bool = True) -> Located:
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory, expected a checkpoint file inside it")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a checkpoint or one of `hpskit models list`")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _located(path, None, trust_receipt=trust_receipt)
    if suffix in PICKLE_SUFFIXES:
        return _located(_converted(path), None, origin=path, trust_receipt=trust_receipt)
    expected = ", ".join((".safetensors", *PICKLE_SUFFIXES))
    raise CheckpointError(f"{path}: ending is {suffix!r}, expected one of {expected}")


def _located(path: Path, model: Model | None, *, origin: Path | None = None, trust_receipt: bool = True) -> Located:
    """Know the hash of a file: from its receipt if the file has not changed since, else by reading it whole."""
    weights = Weights(path=path, origin=origin or path)
    metadata = weights.metadata()
    digest = _recall(path) if trust_receipt else None
    if digest is None:
        digest = weight_hash(weights.tensors())
    recorded = metadata.get("weight_hash", digest)
    if digest != recorded:
        cure = "it was damaged or changed; delete it and fetch or convert it again"
        raise HashMismatchError(f"{weights.path}: weight hash is {digest}, recorded is {recorded}; {cure}")
    _remember(path, digest)
    name = model.name if model else metadata.get("name", weights.origin.stem)
    return Located(weights=weights, model=model, name=name, weight_hash=digest, metadata=metadata)


def _converted(source: Path) -> Path:
    """The safetensors twin of a local pickle, made at the first use and again whenever the pickle has changed."""
    key = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    target = home() / "converted" / f"{source.stem}-{key}.safetensors"
    stamp = _stamp(source)
    if target.is_file() and Weights(path=target, origin=target).metadata().get("source_stamp") == stamp:
        return target
    _remember(target, convert(source, target, {"source": source.name, "source_stamp": stamp}))
    return target


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({explain(error)})") from error
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _receipt(path: Path) -> Path:
    return home() / "receipts" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}.json"


def _recall(path: Path) -> str | None:
    receipt = _receipt(path)
    with contextlib.suppress(HpskitError):  # absent or damaged: the file is read whole instead
        value = read_json(receipt)
        if isinstance(value, dict) and value.get("stamp") == _stamp(path):
            return str(value["weight_hash"])
    return None


def _remember(path: Path, digest: str) -> None:
    with contextlib.suppress(OutputError):  # a read-only home costs time at the next start, nothing else
        if _recall(path) != digest:
            publish_json(_receipt(path), {"path": str(path), "stamp": _stamp(path), "weight_hash": digest})


def _copy(source: Path, target: Path) -> None:
    with publish(target) as temporary:
        shutil.copyfile(source, temporary)


def _hub_cache() -> str:
    from huggingface_hub import constants

    if os.environ.get("HPSKIT_HOME") and not (os.environ.get("HF_HOME") or os.environ.get("HF_HUB_CACHE")):
        return str(home() / "hub")
    return constants.HF_HUB_CACHE


def hub_file(repository: str, file: str, *, repo_type: str = "model", cure: str) -> Path:
    """A file of the hub, in the Hugging Face cache; a download that was cut off goes on where it stopped.

    Args:
        repository: `owner/name`.
        file: path inside it.
        repo_type: `model` or `dataset`.
        cure: what to do if it cannot be had; closes the error.

    Raises:
        NotCachedError: it is not here and cannot be downloaded.
        OutputError: the cache cannot be written.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(repository, file, repo_type=repo_type, cache_dir=_hub_cache()))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = "HF_HUB_OFFLINE is set" if _offline() else "the hub cannot be reached"
        raise NotCachedError(f"{repository}/{file}: is not on this machine and {reason}. {cure}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        raise NotCachedError(f"{repository}/{file}: the hub answered with status {status}. {cure}") from error
    except OSError as error:
        if error.errno is not None:
            raise OutputError(f"{_hub_cache()}: {file} cannot be stored ({explain(error)}); make room") from error
        raise NotCachedError(f"{repository}/{file}: the download broke off ({explain(error)}). {cure}") from error


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _how_to_bring(model: Model) -> str:
    size = f"{model.size / 1e9:.1f} GB"
    return (
        f"On a connected machine run `hpskit models fetch {model.name} --to DIR` ({size}), then put "
        f"DIR/{model.name}.safetensors into {home() / 'models'} here, or pass that file to --model"
    )


def _announced_sha256(path: Path) -> str | None:
    """What the hub said the content is: it names a large file's blob in the cache by its SHA-256."""
    name = path.resolve().name
    return name if len(name) == 64 and set(name) <= set("0123456789abcdef") else None
