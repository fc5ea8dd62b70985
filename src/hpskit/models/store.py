"""The places of weights on this machine, and their way there.

    $HPSKIT_HOME/models/NAME.safetensors       a named model, ready to load; put there by `fetch`, or by hand
    $HPSKIT_HOME/originals/NAME/…              published files that a person has to bring, because no hub has them
    $HPSKIT_HOME/converted/…safetensors        a local pickle, converted at its first use
    $HPSKIT_HOME/receipts/…json                the weight hash of files already read whole (by path, size and time)
    the Hugging Face cache                     the original download, shared with every other tool; see `hpskit.hub`

`HPSKIT_HOME` is `~/.cache/hpskit` unless set.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
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
    is_pickle,
    read_tensors,
    sound,
    weight_hash,
    write_tensors,
)
from hpskit.models.registry import (
    MODELS,
    OPEN_CLIP_FILE,
    OPEN_CLIP_SAFE_FILE,
    SAFE_FILE,
    Model,
    Source,
    find,
    network_class,
)

_ENDINGS = (".safetensors", *PICKLE_SUFFIXES)
_INSTEAD = {OPEN_CLIP_FILE: OPEN_CLIP_SAFE_FILE, SAFE_FILE: f"{SAFE_FILE}.index.json"}
"""What a repository may have instead: the newer of open_clip's two files, or the list of the parts of a large file."""
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

    @property
    def recorded(self) -> str | None:
        """The hash that was recorded when the file was made, or converted; None if nobody recorded one."""
        return self.metadata.get("weight_hash")


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Tell if a `--model` value means a file: it exists, has a separator or the ending of a checkpoint."""
    if not isinstance(name_or_path, str):
        return True
    if name_or_path in MODELS or name_or_path.partition(":")[0] in MODELS:  # a file of that name is ./mini
        return False
    has_separator = any(s in name_or_path for s in (os.sep, os.altsep) if s)
    ending = Path(name_or_path).suffix.lower()
    return has_separator or ending in _ENDINGS or os.path.isfile(name_or_path)  # may be any text


def cached(model: Model) -> Path | None:
    """Return the ready file of a named model, or None if using it would download or convert first."""
    path = model.embedded or _ready(model)
    return path if path.is_file() else None


def locate(name_or_path: str | os.PathLike[str]) -> Located:
    """Find the weights of a named model or of a local file; download and convert them if need be.

    Raises:
        UnknownModelError, NotCachedError, CheckpointError, HashMismatchError: see `hpskit.errors`.
    """
    found = _model_or_file(name_or_path)
    if isinstance(found, Model):
        return _located(cached(found) or fetch(found), found)
    return _located(_converted(found) if is_pickle(found) else found, None, origin=found)


def verify(name_or_path: str | os.PathLike[str]) -> Located:
    """Read a model's file from end to end and compare it with the hash recorded when it was made.

    Both files of a pickle are read: its conversion, because that is what gets loaded, and the original, because it
    is what was named. The hash of the original is compared with the one recorded at its conversion; a pickle that was
    never converted has nothing to be compared with, and is not converted here.

    Raises:
        HashMismatchError: they differ.
        CheckpointError: it is not a checkpoint.
        NotCachedError: a named model is not on this machine (nothing is downloaded).
    """
    found = _model_or_file(name_or_path)
    if isinstance(found, Model):
        if (path := cached(found)) is None:
            raise NotCachedError(found.name, "is not on this machine", cure=f"run `hpskit models fetch {found.name}`")
        return _located(path, found, trust_receipt=False)
    if not is_pickle(found):
        return _located(found, None, trust_receipt=False)
    twin = _kept("converted", found, ".safetensors")
    metadata = _located(twin, None, trust_receipt=False).metadata if twin.is_file() else {}
    digest = weight_hash(sound(found, sorted(read_tensors(found).items())))
    pickled = Weights(path=found, origin=found)
    located = Located(weights=pickled, model=None, name=found.stem, weight_hash=digest, metadata=metadata)
    if located.recorded not in (None, located.weight_hash):
        what = f"has the weight hash {located.weight_hash}, but had {located.recorded} at its first use"
        cure = f"copy it again, or delete {twin} to go on with the file as it is, under its new hash"
        raise HashMismatchError(found, f"{what}: it is another file now", cure=cure)
    return located


def _model_or_file(name_or_path: str | os.PathLike[str]) -> Model | Path:
    """Find what is meant: a model of the registry, or a file that could be a checkpoint."""
    if not is_path(name_or_path):
        try:
            return find(str(name_or_path))
        except UnknownModelError:
            if not os.path.isdir(name_or_path):  # not an error if the name is too long for a file
                raise
    path = expand(name_or_path)
    try:
        path.stat()
    except OSError as error:
        cure = "give a checkpoint or one of `hpskit models list`"
        raise CheckpointError(path, f"cannot be read ({explain(error)})", cure=cure) from error
    if path.is_dir():
        cure = "give the checkpoint file itself"
        if (path / "image.onnx").is_file():
            cure = "hpskit does not score with an ONNX export; give the weights that it was made of"
        elif held := [file for name in _IN_FOLDERS for file in sorted(path.glob(name))[-1:]]:
            cure = f"give the weights in it, {held[0]}"
        raise CheckpointError(path, "is a directory", cure=cure)
    if path.suffix.lower() not in _ENDINGS:
        found = f"has the ending {path.suffix!r}"
        raise CheckpointError(path, found, expected=f"one of {', '.join(_ENDINGS)}", cure="rename it to what it is")
    return path


def _located(path: Path, model: Model | None, *, origin: Path | None = None, trust_receipt: bool = True) -> Located:
    """Know the hash of a file: from its receipt if the file has not changed since, else by reading it whole."""
    weights = Weights(path=path, origin=origin or path)
    metadata = weights.metadata()
    digest = (_recall(path) if trust_receipt else None) or weight_hash(sound(weights.origin, weights.tensors()))
    recorded = metadata.get("weight_hash", digest)
    if digest != recorded:
        found, cure = (
            f"has the weight hash {digest}",
            "it was damaged or changed; delete it and fetch or convert it again",
        )
        raise HashMismatchError(path, found, expected=f"{recorded}, which was recorded", cure=cure)
    if model and not model.embedded and metadata.get("name") != (model.variant_of or model.name):
        found = f"is {metadata.get('name', 'a file that no `hpskit models fetch` has made')}"
        cure = f"name it as a file, or move it away and run `hpskit models fetch {model.name}`"
        raise HashMismatchError(path, found, expected=model.name, cure=cure)
    _remember(path, digest)
    name = model.name if model else metadata.get("name", weights.origin.stem)
    return Located(weights=weights, model=model, name=name, weight_hash=digest, metadata=metadata)


def fetch(model: Model, to: Path | None = None) -> Path:
    """Make the ready file of a model, from the cache or from the hub.

    Args:
        model: a model of the registry.
        to: folder for a copy to carry to another machine; None is this machine's own store.

    Returns:
        The file `NAME.safetensors`, verified.

    Raises:
        NotCachedError: it is not here and cannot be downloaded; the error says how to bring it.
        HashMismatchError: what arrived is not what the hub announced, or the ready file has changed.
        OutputError: it cannot be stored.
    """
    model = MODELS.get(model.variant_of, model)
    have = cached(model)
    target = _ready(model) if to is None else to / f"{model.stem}.safetensors"
    if have is not None and to is None:
        _located(have, model)
        return have
    with _one_maker(target):
        if target.exists() and to is not None:
            _located(target, model, trust_receipt=False)  # a copy that is there already, or somebody's file
            if have is not None and sha256_file(target) != sha256_file(have):
                cure = "choose another --to, or move it away"
                raise OutputError(target, "is there already and is something else", cure=cure)
        elif have is not None:
            _located(have, model, trust_receipt=False)
            with publish(target) as temporary:
                shutil.copyfile(have, temporary)
        elif to is not None or cached(model) is None:  # else another process has made it meanwhile
            _make(model, target)
    return target


def _make(model: Model, target: Path) -> None:
    """Bring the published files of a model, and write what they hold as one."""
    if model.embedded:
        raise NotCachedError(model.name, f"{model.embedded} is missing", cure="install hpskit again")
    parts = [_bring(model, source) for source in model.sources]
    hashes = [[sha256_file(file) for file in files] for files in parts]
    named = [(file, source) for source, files in zip(model.sources, parts, strict=True) for file in files]
    for (file, source), found in zip(named, itertools.chain(*hashes), strict=True):
        for expected, who in ((announced_sha256(file), "the hub announced"), (source.sha256, "its authors published")):
            if expected not in (None, found):
                remove_download(file)
                cure = "the file was removed; run the same command again"
                raise HashMismatchError(
                    file, f"has the SHA-256 {found}", expected=f"{expected}, which {who}", cure=cure
                )
    names = [
        Path(source.repository or "") / (files[0].name if len(files) == 1 else _INSTEAD[source.file])
        for source, files in zip(model.sources, parts, strict=True)
    ]
    metadata = {
        "name": model.name,
        "version": model.version,
        "architecture": model.architecture,
        "licence": model.licence,
        "source": ", ".join(name.as_posix() for name in names),
        "source_sha256": ", ".join(
            found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest() for found in hashes
        ),
    }
    if model.kind != "hps":
        metadata |= {"kind": model.kind, **model.settings}
    published = (dict(pair for file in files for pair in read_tensors(file).items()) for files in parts)
    state = network_class(model.kind).arrange(*published)
    _remember(target, write_tensors(dict(sound(model.name, state.items())), target, metadata))


def _bring(model: Model, source: Source) -> list[Path]:
    """Download a published file, whole or in its parts, or find it where a person has put it."""
    if source.repository is None:
        path = home() / "originals" / model.name / source.file
        if not path.is_file():
            cure = f"download {source.file} from {source.page}, put it at {path}, and run the same command again"
            raise NotCachedError(model.name, "has a file that is not on the hub", cure=cure)
        return [path]
    size = f" ({model.size / 1e9:.1f} GB)" if model.size else ""
    cure = (
        f"on a connected machine run `hpskit models fetch {model.name} --to DIR`{size}, then put "
        f"DIR/{model.stem}.safetensors into {home() / 'models'} here, or name that file instead of the model"
    )
    try:
        return [hub_file(source.repository, source.file, cure=cure)]
    except NotCachedError:
        if source.file not in _INSTEAD:
            raise
        try:
            other = hub_file(source.repository, _INSTEAD[source.file], cure=cure)
        except NotCachedError:
            other = None
        if other is None:
            raise
    if other.suffix != ".json":
        return [other]
    return [hub_file(source.repository, name, cure=cure) for name in _listed_parts(other)]


def _listed_parts(index: Path) -> list[str]:
    """Return the names of the files that an index of safetensors lists."""
    listed = read_json(index)
    places = listed.get("weight_map") if isinstance(listed, dict) else None
    names = [*dict.fromkeys(places.values())] if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
        found, expected = "lists no parts", "weight_map: tensor -> file.safetensors"
        raise CheckpointError(index, found, expected=expected, cure="ask its author")
    return sorted(names)


def _ready(model: Model) -> Path:
    return home() / "models" / f"{model.stem}.safetensors"


def _converted(source: Path) -> Path:
    """Return the safetensors twin of a local pickle, made at the first use and whenever the pickle has changed."""
    target, stamp = _kept("converted", source, ".safetensors"), _stamp(source)

    def is_current() -> bool:
        with contextlib.suppress(CheckpointError):  # absent or damaged: it is made again
            return Weights(path=target, origin=target).metadata().get("source_stamp") == stamp
        return False

    if not is_current():
        with _one_maker(target):
            if not is_current():
                metadata = {"source": source.name, "source_stamp": stamp}
                tensors = dict(sound(source, read_tensors(source).items()))
                _remember(target, write_tensors(tensors, target, metadata))
    return target


@contextlib.contextmanager
def _one_maker(target: Path) -> Iterator[None]:
    """Let one process at a time make a file; the others wait.

    Raises:
        OutputError: the folder cannot be written.
    """
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(target.with_name(f".{target.name}.lock")))
        except OSError as error:
            cure = "choose a folder that you may write to, for example by HPSKIT_HOME"
            raise OutputError(target, f"cannot be written ({explain(error)})", cure=cure) from error
        yield


def _recall(path: Path) -> str | None:
    """Return the weight hash that a receipt has for a file, unless the file has changed since."""
    with contextlib.suppress(HpskitError):  # absent or damaged: the file is read whole instead
        value = read_json(_kept("receipts", path, ".json"))
        if isinstance(value, dict) and value.get("stamp") == _stamp(path):
            return str(value.get("weight_hash"))
    return None


def _remember(path: Path, digest: str) -> None:
    with contextlib.suppress(OutputError):  # a read-only home costs time at the next start, nothing else
        if _recall(path) != digest:
            publish_json(
                _kept("receipts", path, ".json"), {"path": str(path), "stamp": _stamp(path), "weight_hash": digest}
            )


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _kept(folder: str, source: Path, ending: str) -> Path:
    """Return the place of what is kept about a file: its conversion, or its receipt."""
    key = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:16]
    return home() / folder / f"{source.stem}-{key}{ending}"
