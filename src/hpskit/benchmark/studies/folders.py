"""Images by model for studies that need no prompts: `NAME=DIR`, and every image below the folder."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit.errors import InputError
from hpskit.files import expand, explain
from hpskit.pixels import check_files

__all__ = ["ImageFolder", "open_folder", "open_folders"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder:
    """The images of one model."""

    name: str
    root: Path
    files: tuple[Path, ...]
    """Every image below `root`, sorted by `keys`; at least one."""
    others: int
    """Files below `root` that have another ending and were not looked at."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The path of each image from `root`, with `/` and without ending. Equal keys mean one prompt."""
        return tuple(path.relative_to(self.root).with_suffix("").as_posix() for path in self.files)

    def facts(self, digests: Sequence[str]) -> dict[str, Any]:
        """What a result says of the folder; `digests` are the SHA-256 of its files, in order."""
        both = zip(self.files, digests, strict=True)
        lines = "".join(f"{digest}  {path.relative_to(self.root).as_posix()}\n" for path, digest in both)
        return {
            "name": self.name,
            "folder": str(self.root),
            "images": len(self.files),
            "other_files": self.others,
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }


def open_folders(given: Sequence[str]) -> list[ImageFolder]:
    """The folders of a command: `NAME=DIR`, or `DIR`, whose own name is then that of the model.

    Raises:
        InputError: none is given, two have one name, or one cannot be used.
        ImageError: a file that should be an image cannot be read.
    """
    if not given:
        raise InputError("images: no folder is given, expected NAME=DIR, once for each model")
    folders = []
    for value in given:
        name, equals, path = value.partition("=")
        if not equals or expand(value).is_dir():
            name, path = "", value
        folders.append(open_folder(expand(path), name))
    twice = [name for name, count in Counter(folder.name for folder in folders).items() if count > 1]
    if twice:
        raise InputError(f"images: {len(folders)} folders, and more than one is called {twice[0]!r}; write NAME=DIR")
    return folders


def open_folder(root: Path, name: str = "") -> ImageFolder:
    """Every image below a folder, whatever the depth.

    Raises:
        InputError: it is not a folder, cannot be read, or has no image.
        ImageError: a file that should be an image is empty or cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder, expected the images of a model; give DIR or NAME=DIR")
    try:
        below = [path for path in root.rglob("*") if not path.is_dir()]
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({explain(error)}); change its permissions") from error
    files = [path for path in below if path.suffix.lower() in _ENDINGS]
    if not files:
        expected = "expected some of .jpg, .jpeg, .png or .webp"
        raise InputError(f"{root}: holds no image ({len(below)} other files), {expected}; check the folder")
    check_files(files)
    files.sort(key=lambda path: (path.relative_to(root).with_suffix("").as_posix(), path.suffix))
    return ImageFolder(name=name or root.resolve().name, root=root, files=tuple(files), others=len(below) - len(files))
