"""Weights in a repository of the hub or in a folder, pinned: what is named today is what is loaded tomorrow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from hpskit.errors import HpskitError, InputError, ModelError
from hpskit.files import expand, sha256_file

_WEIGHTS = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Endings of the files that decide what a network gives: weights, configurations, vocabularies."""


class Repository:
    """A model as diffusers and transformers load it."""

    def __init__(self, model: str, revision: str, main: str, place: str) -> None:
        """Tell a folder from a repository.

        Args:
            model: path of a folder, or `owner/name`.
            revision: branch, tag or commit, of a repository.
            main: the file that says what the model is: `model_index.json`.
            place: the setting that names it, for errors.

        Raises:
            InputError: it is neither.
        """
        self.main, self.revision, self.place = main, revision, place
        path = expand(model)
        self.folder = path if path.is_dir() else None
        if not self.folder and model.count("/") != 1:
            raise InputError(place, f"is {model!r}", expected="a folder, or owner/name on the hub", cure="correct it")
        self.name = path.resolve().name if self.folder else model
        self.source = str(self.folder or model)

    def file(self, name: str) -> Path:
        """Return one file, from the hub if need be.

        Raises:
            ModelError: it is not there, or the hub cannot be reached.
        """
        from huggingface_hub import hf_hub_download

        if self.folder:
            return self.folder / name
        with self.loading():
            return Path(hf_hub_download(self.source, name, revision=self.revision))

    @cached_property
    def identity(self) -> str:
        """The commit of a repository; of a folder `sha256:` and a hash of its weights and configurations."""
        if not self.folder:
            return self.file(self.main).parent.name
        files = (path for path in self.folder.rglob("*") if path.suffix in _WEIGHTS)
        return f"sha256:{folder_sha256(self.folder, files)}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `from_pretrained` after the model's name."""
        return {} if self.folder else {"revision": self.identity}

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn whatever the libraries raise while they load it into a ModelError, and keep them quiet."""
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        except HpskitError:
            raise
        except Exception as error:
            cure = "check its name, revision and files, and the device"
            raise ModelError(self.place, f"cannot load {self.name} ({error})", cure=cure) from error


def folder_sha256(folder: Path, files: Iterable[Path]) -> str:
    """Return one SHA-256 of the names and bytes of files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()
