"""Weights in files: read them, name their content, and turn a pickle into safetensors.

Everything is loaded from safetensors, memory-mapped. A pickle (`.pt`, `.pth`, `.bin`, as the official files are) is
read once with `weights_only`, so that no code in it can run, and converted.

The *weight hash* names the content, not the file: SHA-256 over all tensors in order of their names (name, type,
shape, bytes). A pickle and its conversion have the same hash, so their scores have the same identity.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import stat
import warnings
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.errors import CheckpointError, listed, shown
from hpskit.files import explain, publish

if TYPE_CHECKING:
    from torch import Tensor, nn

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

_METADATA_KEY = "hpskit"
_MAPPED_BYTES = 256 * 1024**2
_HEADER_SIZE_BYTES = 8
_SHOWN_NAMES, _LONGEST_NAME = 3, 80
_CODE = re.compile(r"GLOBAL|allowlisted|unrecognized function|must be imported|persistent|TorchScript")
"""Words in torch's errors that say that a file holds a program or asks for a function or a class."""
_GROWTH = 8
"""Times its file that the tensors of a pickle may take: tied weights are in it once, a trap names them without end."""
_TRAP = re.compile(rb"c(__builtin__|builtins)\nbytearray\n")
"""In a pickle, the one function that torch lets a file call and that takes as much memory as the file says."""
_LONGEST_FACT = 1_000
_STATE_DICT = "a state dict (name -> tensor), or one under the key 'state_dict'"
_ASK_AUTHOR = "ask its author for plain tensors (state_dict) or safetensors"
_COPY_AGAIN = "copy or fetch it again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A safetensors file with the weights of one model."""

    path: Path
    origin: Path
    """The file that the caller named; differs from `path` for a converted pickle. Errors name this one."""
    prefix: str = ""
    """Only the tensors whose names begin with this are seen, without it: a part of a model."""

    def metadata(self) -> dict[str, str]:
        """Return what hpskit wrote beside the tensors; empty for other people's files.

        Raises:
            CheckpointError: the file is not safetensors, or somebody else has written there.
        """
        with self._open("np") as handle:  # which spares the import of torch
            text = (handle.metadata() or {}).get(_METADATA_KEY, "{}")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not all(map(_is_fact, value.values())):
            found, expected = f"has metadata that hpskit did not write: {shown(text)}", "texts by name"
            raise CheckpointError(self.origin, found, expected=expected, cure="convert it again")
        return value

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        with self._open() as handle:
            names = [name for name in [*handle.keys()] if name.startswith(self.prefix)]
            return {name.removeprefix(self.prefix): tuple(handle.get_slice(name).get_shape()) for name in names}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor in order of the names, memory-mapped.

        The mapping is let go every 256 MB, so that a caller who casts as it goes never has the whole file in memory.
        """
        names = deque(sorted(self.shapes()))
        while names:
            mapped = 0
            with self._open() as handle:
                while names and mapped < _MAPPED_BYTES:
                    name = names.popleft()
                    tensor = handle.get_tensor(self.prefix + name)
                    mapped += tensor.nbytes
                    yield name, tensor

    def part(self, prefix: str) -> Weights:
        """Return the tensors whose names begin with `prefix`, which is left out of the names."""
        return replace(self, prefix=self.prefix + prefix)

    def text(self, name: str, expected: str) -> str:
        """Return a text file that lies among the tensors.

        Raises:
            CheckpointError: there is none, so that this is not what was `expected`.
        """
        content = dict(self.part(name).tensors())
        if not content:
            raise self.lacks(name, expected)
        return bytes(content[""].tolist()).decode()

    def lacks(self, missing: str, expected: str) -> CheckpointError:
        """Make the error of weights in which something is missing."""
        return CheckpointError(self.origin, f"has no {missing}", expected=expected, cure="fetch it again")

    @contextmanager
    def _open(self, framework: str = "pt") -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        try:
            check_file(self.path, self.origin)
            with safe_open(self.path, framework=framework) as handle:
                yield handle
        except SafetensorError as error:
            raise CheckpointError(self.origin, f"is no intact safetensors file ({error})", cure=_COPY_AGAIN) from error
        except OSError as error:
            raise _unreadable(self.origin, error) from error


def _is_fact(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_FACT


def check_file(path: Path, origin: Path) -> None:
    """See that a checkpoint is a file that can be read, and that most of it was ever written.

    Raises:
        CheckpointError: about `origin`; it is a pipe, a device, a folder, or nearly all holes, as a download leaves
            that has reserved its space and was cut off.
        OSError: it cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise CheckpointError(origin, "is not a regular file", cure="give the checkpoint file itself")
    with path.open("rb") as handle:
        size, end, written = path.stat().st_size, 0, 0
        while hasattr(os, "SEEK_DATA") and end < size:
            try:
                start = os.lseek(handle.fileno(), end, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            end = os.lseek(handle.fileno(), start, os.SEEK_HOLE)
            written += end - start
        if hasattr(os, "SEEK_DATA") and written < size / 2:
            found = f"has {size:,} bytes, of which {written:,} were ever written"
            raise CheckpointError(origin, found, cure=_COPY_AGAIN)


def sound(origin: str | os.PathLike[str], tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Pass on the tensors of a model, each after a look at its type and its values.

    Raises:
        CheckpointError: one has complex or 8-bit numbers, or one that is not finite.
    """
    for name, tensor in tensors:
        place, kind = f"{os.fspath(origin)}: {_short(name)}", str(tensor.dtype).removeprefix("torch.")
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.itemsize < 2):
            expected = "real numbers of at least 16 bits"
            raise CheckpointError(place, f"holds {kind}", expected=expected, cure="convert the checkpoint")
        if tensor.is_floating_point() and tensor.numel():
            for end in map(float, tensor.aminmax()):  # through which NaN comes; ten times as fast as isfinite()
                if not math.isfinite(end):
                    cure = "take an earlier checkpoint of its training, or fetch it again"
                    raise CheckpointError(place, f"holds {end}", expected="finite numbers", cure=cure)
        yield name, tensor


def weight_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return `sha256:` and 64 hex digits for tensors that come in order of their names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        kind = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\0{kind}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def file_hash(source: Path) -> str:
    """Return the weight hash of a checkpoint, pickle or safetensors, read from end to end; nothing is written.

    Raises:
        CheckpointError: `source` is not a checkpoint, or holds anything but tensors.
    """
    if is_pickle(source):
        return weight_hash(sorted(_read_pickle(source).items()))
    return weight_hash(Weights(path=source, origin=source).tensors())


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Read every tensor of a checkpoint, pickle or safetensors, memory-mapped where the file allows it.

    A text file, `.txt` or `.json`, is one tensor of bytes under its name.

    Raises:
        CheckpointError: `source` is not a checkpoint, or holds anything but tensors.
    """
    if source.suffix in (".txt", ".json"):
        import torch

        return {source.name: torch.frombuffer(bytearray(source.read_bytes()), dtype=torch.uint8)}
    return _read_pickle(source) if is_pickle(source) else dict(Weights(path=source, origin=source).tensors())


def write_tensors(state: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> str:
    """Publish tensors as safetensors, whole or not at all, with `metadata` and their weight hash.

    Returns:
        The weight hash.

    Raises:
        OutputError: `target` cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    digest = weight_hash(sorted(state.items()))
    text = json.dumps({**metadata, "weight_hash": digest})
    with publish(target) as temporary:
        try:
            save_file(dict(state), temporary, metadata={"format": "pt", _METADATA_KEY: text})
        except SafetensorError as error:  # a full disk arrives as this, not as OSError
            raise OSError(str(error)) from error
        _sort_metadata(temporary)
    return digest


def check_names(model: nn.Module, weights: Weights, architecture: str, *, option: str | None = "--arch") -> None:
    """See that a file holds the tensors of a network, all of them and no others.

    Args:
        model: the network.
        weights: the file.
        architecture: name of the network, for the error.
        option: the user's way to name another architecture, for the error; None if that cannot be the cure.

    Raises:
        CheckpointError: it does not; the error names a few.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = weights.shapes()
    problems = []
    for what, names in (("missing", expected.keys() - found), ("unexpected", found.keys() - expected)):
        if names:
            problems.append(f"{what} {listed(map(_short, sorted(names)), _SHOWN_NAMES)}")
    wrong = [name for name in expected.keys() & found if expected[name] != found[name]]
    problems += [f"{name} is {shown(found[name])}, expected {expected[name]}" for name in sorted(wrong)[:_SHOWN_NAMES]]
    if problems:
        cure = f"give the architecture that it was trained with by {option}" if option else "fetch it again"
        raise CheckpointError(
            weights.origin, f"is not a checkpoint of {architecture}: {'; '.join(problems)}", cure=cure
        )


def _short(name: str) -> str:
    """Cut the name of a tensor to what a line holds."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _sort_metadata(path: Path) -> None:
    """Sort the metadata, which safetensors writes in random order, in place: equal weights give equal files.

    The other key cannot be left out, because huggingface_hub reads no file without `format`.
    """
    with path.open("r+b") as handle:
        size = int.from_bytes(handle.read(_HEADER_SIZE_BYTES), "little")
        header = json.loads(handle.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        if len(content) != size:  # the data begins where it did: both sides write JSON in the same compact way
            raise CheckpointError(
                path, "has a header that cannot be sorted", cure="rename its tensors in plain letters"
            )
        handle.seek(_HEADER_SIZE_BYTES)
        handle.write(content)


def is_pickle(path: Path) -> bool:
    """Tell by its ending if a checkpoint is a pickle."""
    return path.suffix.lower() in PICKLE_SUFFIXES


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a `.pt` file, memory-mapped where the file allows it, each tensor with its own storage."""
    import torch

    try:
        check_file(path, path)
        mappable = _check_pickle(path)
        with warnings.catch_warnings():  # on pickle protocols and storage classes: nothing that a user can act on
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except CheckpointError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except Exception as error:
        if _CODE.search(str(error)):
            raise _code(path) from error
        with path.open("rb") as handle:
            head = handle.read(24)
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__
        found = f"is damaged, cut short or something else: begins with {head!r} ({reason.splitlines()[0][:200]})"
        raise CheckpointError(path, found, expected="a PyTorch checkpoint", cure=_COPY_AGAIN) from error
    state = _state_dict(path, value)
    _check_growth(path, sum(math.prod(tensor.shape) * tensor.itemsize for tensor in state.values()))
    # Tensors that share a storage are copied: safetensors refuses to write them.
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        shared = pointer in seen
        result[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        seen.add(pointer)
    return result


def _check_pickle(path: Path) -> bool:
    """See that reading a pickle takes no more memory than its size justifies; return whether it can be mapped."""
    if not zipfile.is_zipfile(path):  # the format before torch 1.6
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if _TRAP.search(content):
                raise _code(path)
        return False
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_growth(path, sum(member.file_size for member in members))
        if any(_TRAP.search(archive.read(member)) for member in members if member.filename.endswith("data.pkl")):
            raise _code(path)
    return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _check_growth(path: Path, needed: int) -> None:
    size = path.stat().st_size
    if needed > _GROWTH * size:
        found, expected = f"has {size:,} bytes, and says that they are {needed:,}", f"at most {_GROWTH} times as many"
        raise CheckpointError(path, found, expected=expected, cure=_ASK_AUTHOR)


def _code(path: Path) -> CheckpointError:
    return CheckpointError(path, "holds code, not only tensors, and was not run", cure=_ASK_AUTHOR)


def _state_dict(path: Path, value: Any) -> dict[str, Tensor]:
    """Find name -> tensor in what the pickle holds."""
    import torch

    def refuse(found: str, expected: str = _STATE_DICT) -> CheckpointError:
        return CheckpointError(path, found, expected=expected, cure=_ASK_AUTHOR)

    state = value.get("state_dict", value) if isinstance(value, Mapping) else value
    if not isinstance(state, Mapping):
        raise refuse(f"holds a {type(state).__name__}")
    if not state:
        raise refuse("holds nothing")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise refuse(f"holds {shown(name)}, which is a {type(tensor).__name__}")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            kind = f"{tensor.layout} {tensor.dtype} on {tensor.device}".replace("torch.", "")
            raise refuse(f"holds {_short(str(name))}, which is {kind}", "a dense tensor of real numbers")
    named = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    if len(named) != len(state):
        raise refuse("holds names with and without 'module.' for one tensor", "one name for each")
    return named


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(path, f"cannot be read ({explain(error)})", cure="check the path and its permissions")
