"""Where weights are on this machine, and how they get there.

    $HPSKIT_HOME/models/NAME.safetensors       a named model, ready to load; put there by `fetch`, or by hand
    $HPSKIT_HOME/originals/NAME/…              published files that a person has to bring, because no hub has them
    $HPSKIT_HOME/converted/…safetensors        a local pickle, converted at its first use
    $HPSKIT_HOME/receipts/…json                the weight hash of files already read whole (by path, size and time)
    the Hugging Face cache                     the original download, shared with every other tool

`HPSKIT_HOME` is `~/.cache/hpskit` unless set. The Hugging Face cache is where `HF_HOME` or `HF_HUB_CACHE` say; if
neither is set but `HPSKIT_HOME` is, downloads go to `$HPSKIT_HOME/hub`, so that one variable moves everything.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpskit.errors import (
    CheckpointError,
    HashMismatchError,
    HpskitError,
    NotCachedError,
    OutputError,
    UnknownModelError,
)
from hpskit.files import expand, explain, publish, publish_json, read_json, sha256_file
from hpskit.hub import announced_sha256, home, hub_file, remove_download
from hpskit.models.checkpoint import (
    PICKLE_SUFFIXES,
    Weights,
    convert,
    file_hash,
    read_tensors,
    weight_hash,
    write_tensors,
)
from hpskit.models.layouts import arrange
from hpskit.models.registry import MODELS, OPEN_CLIP_FILE, OPEN_CLIP_SAFE_FILE, Model, Source, find

__all__ = ["Located", "Verification", "cached", "fetch", "home", "hub_file", "locate", "verify"]

_IN_FOLDERS = ("model.safetensors", OPEN_CLIP_SAFE_FILE, "mini.safetensors", "checkpoints/step-*/model.safetensors")
"""Weights in the folder of a run, of an export, of a run of `mini`, and of a run that has not come to its end."""


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
    """The hash that was recorded when the file was made, or converted; None if nobody recorded one."""


def cached(model: Model) -> Path | None:
    """The ready file of a named model, or None if using it would download or convert first."""
    path = model.embedded or _ready(model)
    return path if _mode(path) is not None else None


def locate(name_or_path: str | os.PathLike[str]) -> Located:
    """Find the weights of a named model or of a local file; download and convert them if need be.

    Raises:
        UnknownModelError, NotCachedError, CheckpointError, HashMismatchError: see `hpskit.errors`.
    """
    if is_path(name_or_path):
        return _local(expand(name_or_path))
    model = _named(str(name_or_path))
    path = cached(model) or fetch(model)
    return _located(path, model)


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a `--model` value means a file: it exists, has a separator or the ending of a checkpoint."""
    if not isinstance(name_or_path, str):
        return True
    if name_or_path in MODELS:  # also where a file of that name lies about: write ./mini for that
        return False
    suffix = Path(name_or_path).suffix.lower()
    has_separator = any(s in name_or_path for s in (os.sep, os.altsep) if s)
    if has_separator or suffix in (*PICKLE_SUFFIXES, ".safetensors"):
        return True
    return stat.S_ISREG(_mode(Path(name_or_path)) or 0)


def fetch(model: Model, to: Path | None = None) -> Path:
    """Make the ready file of a model, from the cache or from the hub.

    Args:
        model: a model of the registry.
        to: folder for a copy to carry to another machine; None is this machine's own store.

    Returns:
        The file `NAME.safetensors`, verified.

    Raises:
        NotCachedError: it is not here and cannot be downloaded; the message says how to bring it.
        HashMismatchError: what arrived is not what the hub announced, or the ready file has changed.
        OutputError: it cannot be stored.
    """
    have = cached(model)
    if have is not None and to is None:
        _located(have, model)
        return have
    target = _ready(model) if to is None else to / f"{model.stem}.safetensors"
    if have is not None and _mode(target) is not None and have.samefile(target):
        return have
    with _sole_maker(target):
        if have is not None:
            _located(have, model, trust_receipt=False)
            _copy(have, target)
        elif to is not None or cached(model) is None:  # else another process has made it meanwhile
            _make(model, target)
    return target


def _make(model: Model, target: Path) -> None:
    """Bring the published files of a model, and write what they hold as one."""
    if model.embedded:
        raise NotCachedError(f"{model.name}: {model.embedded} is missing; install hpskit again")
    files = [_downloaded(model, source) for source in model.sources] or [_brought(model)]
    hashes = [sha256_file(file) for file in files]
    for file, source, found in zip(files, model.sources, hashes, strict=False):
        _check_download(file, source, found)
    pairs = zip(model.sources, files, strict=False)
    names = [f"{source.repository}/{file.name}" for source, file in pairs] or [files[0].name]
    metadata = {
        "name": model.name,
        "version": model.version,
        "architecture": model.architecture,
        "licence": model.licence,
        "source": ", ".join(names),
        "source_sha256": ", ".join(hashes),
    }
    if model.kind != "hps":
        metadata |= {"kind": model.kind, **model.settings}
    state = arrange(model.kind, [read_tensors(file) for file in files])
    _remember(target, write_tensors(state, target, metadata))


def _downloaded(model: Model, source: Source) -> Path:
    """A file of the hub. Some repositories have open_clip's weights in the newer of its two files alone."""
    cure = _how_to_bring(model)
    try:
        return hub_file(source.repository, source.file, cure=cure)
    except NotCachedError as error:
        if source.file != OPEN_CLIP_FILE:
            raise
        try:
            return hub_file(source.repository, OPEN_CLIP_SAFE_FILE, cure=cure)
        except NotCachedError:
            raise error from None


def _check_download(file: Path, source: Source, found: str) -> None:
    """Compare a file with what the hub announced, and with what its authors published."""
    for expected, who in ((announced_sha256(file), "the hub announced"), (source.sha256, "its authors published")):
        if expected not in (None, found):
            remove_download(file)
            cure = "the file was removed; run the same command again"
            raise HashMismatchError(f"{file}: SHA-256 is {found}, {who} {expected}; {cure}")


def _brought(model: Model) -> Path:
    """The file that a person has put where it is looked for."""
    path = home() / "originals" / model.name / model.file
    if _mode(path) is None:
        cure = f"download {model.file} from {model.page}, put it at {path}, and run the same command again"
        raise NotCachedError(f"{model.name}: its file is not on the hub; {cure}")
    return path


def verify(name_or_path: str | os.PathLike[str]) -> Verification:
    """Read a model's file from end to end and compare it with the hash recorded when it was made.

    Of a pickle, both files are read: its conversion, because that is what gets loaded, and the original, because it
    is what was named. The hash of the original is compared with the one recorded at its conversion; a pickle that was
    never converted has nothing to be compared with, and is not converted here.

    Raises:
        HashMismatchError: they differ.
        CheckpointError: it is not a checkpoint.
        NotCachedError: a named model is not on this machine (nothing is downloaded).
    """
    if is_path(name_or_path):
        path = _checked(expand(name_or_path))
        if path.suffix.lower() in PICKLE_SUFFIXES:
            return _verify_pickle(path)
        located = _located(path, None, trust_receipt=False)
    else:
        model = _named(str(name_or_path))
        ready = cached(model)
        if ready is None:
            raise NotCachedError(f"{model.name}: is not on this machine; run `hpskit models fetch {model.name}`")
        located = _located(ready, model, trust_receipt=False)
    recorded = located.metadata.get("weight_hash")
    return Verification(
        name=located.name, path=located.weights.path, weight_hash=located.weight_hash, recorded=recorded
    )


def _verify_pickle(path: Path) -> Verification:
    recorded = None
    twin = _twin(path)
    if _mode(twin) is not None:
        recorded = _located(twin, None, trust_receipt=False).weight_hash
    digest = file_hash(path)
    if recorded not in (None, digest):
        cure = f"copy it again, or delete {twin} to go on with the file as it is, under its new hash"
        raise HashMismatchError(
            f"{path}: weight hash is {digest}, but was {recorded} at its first use; it is another file now; {cure}"
        )
    return Verification(name=path.stem, path=path, weight_hash=digest, recorded=recorded)


def _ready(model: Model) -> Path:
    return home() / "models" / f"{model.stem}.safetensors"


def _named(name: str) -> Model:
    """The model of that name; if it is the name of a folder alone, an error that says so."""
    try:
        return find(name)
    except UnknownModelError:
        if os.path.isdir(name):  # noqa: PTH112  # not an error if the name is too long for a file
            raise CheckpointError(f"{name}: is a directory; {_meant(Path(name))}") from None
        raise


def _local(path: Path) -> Located:
    path = _checked(path)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return _located(_converted(path), None, origin=path)
    return _located(path, None)


def _checked(path: Path) -> Path:
    """The path itself, if there is a file that could be a checkpoint."""
    mode = _mode(path)
    if mode is None:
        raise CheckpointError(f"{path}: no such file; give a checkpoint or one of `hpskit models list`")
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{path}: is a directory; {_meant(path)}")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path}: is not a regular file; give the checkpoint file itself")
    known = (".safetensors", *PICKLE_SUFFIXES)
    if path.suffix.lower() not in known:
        raise CheckpointError(
            f"{path}: ending is {path.suffix!r}, expected one of {', '.join(known)}; rename it to what it is"
        )
    return path


def _meant(folder: Path) -> str:
    """Which file to give instead of a folder."""
    if (folder / "image.onnx").is_file():
        return "hpskit does not score with an ONNX export; give the weights that it was made of"
    for name in _IN_FOLDERS:
        if found := sorted(folder.glob(name)):
            return f"give the weights in it, {found[-1]}"
    return "give the checkpoint file itself"


def _mode(path: Path) -> int | None:
    """What kind of file it is, or None if there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({explain(error)})") from error


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
    if model and not model.embedded and metadata.get("name") != model.name:
        found = metadata.get("name", "a file that no `hpskit models fetch` has made")
        cure = f"name it as a file, or move it away and run `hpskit models fetch {model.name}`"
        raise HashMismatchError(f"{weights.path}: is {found}, expected {model.name}; {cure}")
    _remember(path, digest)
    name = model.name if model else metadata.get("name", weights.origin.stem)
    return Located(weights=weights, model=model, name=name, weight_hash=digest, metadata=metadata)


def _converted(source: Path) -> Path:
    """The safetensors twin of a local pickle, made at the first use and again whenever the pickle has changed."""
    target = _twin(source)
    stamp = _stamp(source)
    if not _is_twin(target, stamp):
        with _sole_maker(target):
            if not _is_twin(target, stamp):
                _remember(target, convert(source, target, {"source": source.name, "source_stamp": stamp}))
    return target


def _twin(source: Path) -> Path:
    key = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    return home() / "converted" / f"{source.stem}-{key}.safetensors"


def _is_twin(target: Path, stamp: str) -> bool:
    with contextlib.suppress(CheckpointError):  # absent or damaged: it is made again
        return Weights(path=target, origin=target).metadata().get("source_stamp") == stamp
    return False


@contextlib.contextmanager
def _sole_maker(target: Path) -> Iterator[None]:
    """One process at a time makes a file, and what a killed one left half-made is swept away first.

    Raises:
        OutputError: the folder cannot be written.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(target.with_name(f".{target.name}.lock")))
            for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):  # the names that `publish` gives
                left.unlink(missing_ok=True)
        except OSError as error:
            cure = "choose a folder that you may write to, for example by HPSKIT_HOME"
            raise OutputError(f"{target}: cannot be written ({explain(error)}); {cure}") from error
        yield


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
            return str(value.get("weight_hash"))
    return None


def _remember(path: Path, digest: str) -> None:
    with contextlib.suppress(OutputError):  # a read-only home costs time at the next start, nothing else
        if _recall(path) != digest:
            publish_json(_receipt(path), {"path": str(path), "stamp": _stamp(path), "weight_hash": digest})


def _copy(source: Path, target: Path) -> None:
    with publish(target) as temporary:
        shutil.copyfile(source, temporary)


def _how_to_bring(model: Model) -> str:
    size = f" ({model.size / 1e9:.1f} GB)" if model.size else ""
    return (
        f"On a connected machine run `hpskit models fetch {model.name} --to DIR`{size}, then put "
        f"DIR/{model.stem}.safetensors into {home() / 'models'} here, or name that file instead of the model"
    )
