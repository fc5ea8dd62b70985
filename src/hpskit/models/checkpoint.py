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
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.errors import CheckpointError
from hpskit.files import explain, publish

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PICKLE_SUFFIXES", "Weights", "convert", "weight_hash"]

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")

_METADATA_KEY = "hpskit"
_GROUP_BYTES = 256 * 1024**2


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A safetensors file with the weights of one model."""

    path: Path
    origin: Path
    """The file that the caller named; differs from `path` for a converted pickle. Errors name this one."""

    def metadata(self) -> dict[str, str]:
        """What hpskit wrote beside the tensors; empty for other people's files.

        Raises:
            CheckpointError: the file is not safetensors.
        """
        with self._open() as handle:
            text = (handle.metadata() or {}).get(_METADATA_KEY, "{}")
        try:
            value = json.loads(text)
        except ValueError as error:
            raise CheckpointError(f"{self.origin}: its metadata is not JSON; fetch or convert it again") from error
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        with self._open() as handle:
            return {name: tuple(handle.get_slice(name).get_shape()) for name in [*handle.keys()]}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor in order of the names, memory-mapped. What is read is let go again in groups of 256 MB, so
        that a caller who casts as it goes never has the whole file in memory."""
        for group in self._groups():
            with self._open() as handle:
                for name in group:
                    yield name, handle.get_tensor(name)

    def _groups(self) -> list[list[str]]:
        groups: list[list[str]] = [[]]
        total = 0
        with self._open() as handle:
            for name in sorted(handle.keys()):
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
    def _open(self) -> Iterator[Any]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as handle:
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
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = (
        _read_pickle(source)
        if source.suffix in PICKLE_SUFFIXES
        else dict(Weights(path=source, origin=source).tensors())
    )
    digest = weight_hash((name, state[name]) for name in sorted(state))
    text = json.dumps({**metadata, "weight_hash": digest})
    with publish(target) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt", _METADATA_KEY: text})
        except SafetensorError as error:  # a full disk arrives as this, not as OSError
            raise OSError(str(error)) from error
    return digest


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The state dict of a `.pt` file, memory-mapped where the file allows it, each tensor with its own storage."""
    import torch

    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            cure = "ask its author for plain tensors (state_dict) or safetensors"
            raise CheckpointError(f"{path}: holds code, not only tensors, and was not run; {cure}") from error
        raise CheckpointError(f"{path}: is damaged ({_first_line(error)}); copy or fetch it again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({explain(error)})") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: is not a PyTorch checkpoint ({_first_line(error)})") from error
    state = value.get("state_dict", value) if isinstance(value, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        found = sorted(map(str, value))[:5] if isinstance(value, Mapping) else type(value).__name__
        raise CheckpointError(f"{path}: holds {found}, expected a state dict, or one under the key 'state_dict'")
    return _untangled({str(name).removeprefix("module."): tensor for name, tensor in state.items()})


def _untangled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share a storage are copied: safetensors refuses to write them."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.contiguous() if pointer not in seen else tensor.clone()
        seen.add(pointer)
    return result


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
