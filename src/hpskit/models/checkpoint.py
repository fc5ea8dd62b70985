"""Weights in files: one way to read them, name their content, and turn a pickle into safetensors.

Everything is loaded from safetensors, memory-mapped. A pickle (`.pt`, `.pth`, `.bin`, as the official files are) is
read once with `weights_only`, so that no code in it can run, and converted.

The *weight hash* names the content, not the file: SHA-256 over all tensors in order of their names (name, type,
shape, bytes). A pickle and its conversion have the same hash, so their scores have the same identity.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.errors import CheckpointError
from hpskit.files import explain, publish

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PICKLE_SUFFIXES", "Weights", "convert", "file_hash", "read_tensors", "weight_hash", "write_tensors"]

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

_METADATA_KEY = "hpskit"
_GROUP_BYTES = 256 * 1024**2
_HEAD_BYTES = 24
_HEADER_SIZE_BYTES = 8
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # 0x1950a86a20f9469cfc6c, the first object of the format before 1.6
_CODE = re.compile(r"GLOBAL|allowlisted|unrecognized function|must be imported|persistent")
"""In torch's errors: the pickle asks for a function or a class; without it, the pickle is damaged."""
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
        """What hpskit wrote beside the tensors; empty for other people's files.

        Raises:
            CheckpointError: the file is not safetensors.
        """
        with self._open("np") as handle:  # which spares the import of torch
            text = (handle.metadata() or {}).get(_METADATA_KEY, "{}")
        try:
            value = json.loads(text)
        except ValueError as error:
            raise CheckpointError(f"{self.origin}: its metadata is not JSON; fetch or convert it again") from error
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        with self._open() as handle:
            names = [name for name in [*handle.keys()] if name.startswith(self.prefix)]
            return {name.removeprefix(self.prefix): tuple(handle.get_slice(name).get_shape()) for name in names}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor in order of the names, memory-mapped. What is read is let go again in groups of 256 MB, so
        that a caller who casts as it goes never has the whole file in memory."""
        for group in self._groups():
            with self._open() as handle:
                for name in group:
                    yield name.removeprefix(self.prefix), handle.get_tensor(name)

    def part(self, prefix: str) -> Weights:
        """The tensors whose names begin with `prefix`, which is left out of them."""
        return replace(self, prefix=self.prefix + prefix)

    def _groups(self) -> list[list[str]]:
        groups: list[list[str]] = [[]]
        total = 0
        with self._open() as handle:
            for name in sorted(name for name in [*handle.keys()] if name.startswith(self.prefix)):
                part = handle.get_slice(name)
                size = 4
                for side in part.get_shape():
                    size *= side
                if total + size > _GROUP_BYTES and groups[-1]:
                    groups.append([])
                    total = 0
                groups[-1].append(name)
                total += size
        return groups

    @contextmanager
    def _open(self, framework: str = "pt") -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        try:
            self.path.open("rb").close()  # safe_open takes a file that may not be read for one that is not there
            with safe_open(self.path, framework=framework) as handle:
                yield handle
        except SafetensorError as error:
            cure = "it is damaged or cut short; copy or fetch it again"
            raise CheckpointError(f"{self.origin}: is not a safetensors file ({error}); {cure}") from error
        except OSError as error:
            raise CheckpointError(f"{self.origin}: cannot be read ({explain(error)})") from error


def weight_hash(tensors: Iterator[tuple[str, Tensor]]) -> str:
    """`sha256:` and 64 hex digits for tensors that come in order of their names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        kind = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name}\0{kind}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def file_hash(source: Path) -> str:
    """The weight hash of a checkpoint, pickle or safetensors, read from end to end; nothing is written.

    Raises:
        CheckpointError: `source` is not a checkpoint, or holds anything but tensors.
    """
    if not _is_pickle(source):
        return weight_hash(Weights(path=source, origin=source).tensors())
    state = _read_pickle(source)
    return weight_hash((name, state[name]) for name in sorted(state))


def convert(source: Path, target: Path, metadata: Mapping[str, str]) -> str:
    """Write the weights of a pickle (or of another safetensors file) as safetensors, whole or not at all.

    Args:
        source: a checkpoint; see the module.
        target: the file to publish.
        metadata: written beside the tensors, with `weight_hash` added.

    Returns:
        The weight hash.

    Raises:
        CheckpointError: `source` is not a checkpoint, or holds anything but tensors.
        OutputError: `target` cannot be written.
    """
    return write_tensors(read_tensors(source), target, metadata)


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, pickle or safetensors, memory-mapped where the file allows it. A text file is
    one tensor of bytes under its name.

    Raises:
        CheckpointError: `source` is not a checkpoint, or holds anything but tensors.
    """
    if source.suffix == ".txt":
        import torch

        return {source.name: torch.frombuffer(bytearray(source.read_bytes()), dtype=torch.uint8)}
    return _read_pickle(source) if _is_pickle(source) else dict(Weights(path=source, origin=source).tensors())


def write_tensors(state: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> str:
    """Publish tensors as safetensors with `metadata` and their weight hash, which is returned.

    Raises:
        OutputError: `target` cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    digest = weight_hash((name, state[name]) for name in sorted(state))
    text = json.dumps({**metadata, "weight_hash": digest})
    with publish(target) as temporary:
        try:
            save_file(dict(state), temporary, metadata={"format": "pt", _METADATA_KEY: text})
        except SafetensorError as error:  # a full disk arrives as this, not as OSError
            raise OSError(str(error)) from error
        _order_header(temporary)
    return digest


def _order_header(path: Path) -> None:
    """Sort the metadata, which safetensors writes in random order, in place: equal weights give equal files. Dropping
    the other key is no way, because huggingface_hub reads no file without `format`."""
    with path.open("r+b") as handle:
        size = int.from_bytes(handle.read(_HEADER_SIZE_BYTES), "little")
        header = json.loads(handle.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        if len(content) != size:  # the data begins where it did: both sides write JSON in the same compact way
            raise CheckpointError(f"{path}: its header cannot be put in order; rename its tensors in plain letters")
        handle.seek(_HEADER_SIZE_BYTES)
        handle.write(content)


def _is_pickle(path: Path) -> bool:
    return path.suffix.lower() in PICKLE_SUFFIXES


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pt` file, memory-mapped where the file allows it, each tensor with its own storage."""
    import torch

    mappable = _look_inside(path)
    try:
        with warnings.catch_warnings():  # on pickle protocols and storage classes: nothing that a user can act on
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except pickle.UnpicklingError as error:
        if _CODE.search(str(error)):
            raise CheckpointError(f"{path}: holds code, not only tensors, and was not run; {_ASK_AUTHOR}") from error
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise CheckpointError(f"{path}: is damaged, its pickle cannot be read ({reason}); {_COPY_AGAIN}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({explain(error)})") from error
    except Exception as error:
        raise CheckpointError(f"{path}: is damaged or cut short ({_first_line(error)}); {_COPY_AGAIN}") from error
    return _untangled(_named_tensors(path, value))


def _look_inside(path: Path) -> bool:
    """Whether the tensors can be memory-mapped; refuses what is certainly not a PyTorch checkpoint.

    torch.load finds most of this out too, but its errors do not say what the file is.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD_BYTES)
            if not head.startswith(_ZIP_MAGIC):
                if _LEGACY_MAGIC in head:
                    return False
                found = f"begins with {head!r}" if head else "is empty"
                raise CheckpointError(f"{path}: {found}, expected a PyTorch checkpoint; {_COPY_AGAIN}")
            with zipfile.ZipFile(handle) as archive:
                members = archive.infolist()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({explain(error)})") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: is damaged or cut short ({_first_line(error)}); {_COPY_AGAIN}") from error
    names = {member.filename.rpartition("/")[2] for member in members}
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: is a TorchScript program, not only tensors, and was not run; {_ASK_AUTHOR}")
    if "data.pkl" not in names:
        raise CheckpointError(
            f"{path}: is a zip archive without data.pkl, expected a PyTorch checkpoint; {_ASK_AUTHOR}"
        )
    return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _named_tensors(path: Path, value: Any) -> dict[str, Tensor]:
    """Name -> tensor, from what the pickle holds."""
    import torch

    expected = "expected a state dict (name -> tensor), or one under the key 'state_dict'"
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path}: holds a {type(value).__name__}, {expected}; {_ASK_AUTHOR}")
    state = value.get("state_dict", value)
    if not isinstance(state, Mapping) or not state:
        what = "nothing" if not state else f"a {type(state).__name__}"
        raise CheckpointError(f"{path}: holds {what} as its state dict, {expected}; {_ASK_AUTHOR}")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            found = f"{str(name)!r}, which is a {type(tensor).__name__}"
            raise CheckpointError(f"{path}: holds {found}, {expected}; {_ASK_AUTHOR}")
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            kind = f"{tensor.layout} {tensor.dtype} on {tensor.device}".replace("torch.", "")
            raise CheckpointError(f"{path}: {name} is {kind}, expected a dense tensor of real numbers; {_ASK_AUTHOR}")
    named = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    if len(named) != len(state):
        raise CheckpointError(f"{path}: holds names with and without 'module.' for one tensor; {_ASK_AUTHOR}")
    return named


def _untangled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share a storage are copied: safetensors refuses to write them."""
    import torch

    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        shared = pointer in seen
        result[name] = tensor.clone(memory_format=torch.contiguous_format) if shared else tensor.contiguous()
        seen.add(pointer)
    return result


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
