"""Images by model for studies that need no prompts: every image below a folder, each measured once."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit.errors import InputError
from hpskit.files import expand, explain
from hpskit.images.layout import ENDINGS
from hpskit.pixels import Encoded, check_files
from hpskit.stage import Ledger

_AT_ONCE = 32
"""Images that are measured and brought to the disk together: what a kill can cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolder:
    """The images of one model."""

    name: str
    root: Path
    files: tuple[Path, ...]
    """Every image below `root`, sorted by `keys`; at least one."""
    others: int
    """Number of files below `root` that have another ending and were not looked at."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Path of each image from `root`, with `/` and without ending. Equal keys mean one prompt."""
        return tuple(path.relative_to(self.root).with_suffix("").as_posix() for path in self.files)

    def facts(self, digests: Sequence[str]) -> dict[str, Any]:
        """Return what a result says of the folder; `digests` are the SHA-256 of its files, in order."""
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
    """Open the folders that a command names: `NAME=DIR`, or `DIR`, whose own name is then that of the model.

    Raises:
        InputError: none is given, two have one name, or one cannot be used; see `open_folder`.
    """
    if not given:
        raise InputError("images", "are none", expected="NAME=DIR, once for each model", cure="name a folder")
    folders = []
    for value in given:
        name, equals, path = value.partition("=")
        whole = not equals or expand(value).is_dir()
        folders.append(open_folder(expand(value if whole else path), "" if whole else name))
    name, count = Counter(folder.name for folder in folders).most_common(1)[0]
    if count > 1:
        raise InputError("images", f"has {count} folders called {name!r}", expected="one", cure="write NAME=DIR")
    return folders


def open_folder(root: Path, name: str = "") -> ImageFolder:
    """Find every image below a folder, whatever the depth.

    Raises:
        InputError: it is not a folder, cannot be read, or has no image.
        ImageError: a file that should be an image is empty or cannot be read.
    """
    if not root.is_dir():
        raise InputError(root, "is not a folder", expected="the images of a model", cure="give DIR or NAME=DIR")
    try:
        below = [path for path in root.rglob("*") if not path.is_dir()]
    except OSError as error:
        raise InputError(root, f"cannot be read ({explain(error)})", cure="change its permissions") from error
    files = [path for path in below if path.suffix.lower() in ENDINGS]
    if not files:
        found = f"holds no image ({len(below)} other files)"
        raise InputError(root, found, expected="some of .jpg, .jpeg, .png or .webp", cure="check the folder")
    check_files(files)
    files.sort(key=lambda path: (path.relative_to(root).with_suffix("").as_posix(), path.suffix))
    return ImageFolder(name=name or root.resolve().name, root=root, files=tuple(files), others=len(below) - len(files))


def measured(
    files: Sequence[Path],
    ledger: Ledger,
    by: str,
    measure: Callable[[Sequence[Encoded], Executor], Sequence[Any]],
) -> Iterator[tuple[str, Any]]:
    """Measure each image once, whatever its name and however often a run is killed: its SHA-256 and value, in order.

    Args:
        files: images; one that is missing or broken is an ImageError.
        ledger: what is measured already.
        by: what measures them, with all settings that a value depends on.
        measure: called with some images and threads to decode them; returns a value for each, ready for JSON.
    """
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hpskit-decode")
    try:
        for start in range(0, len(files), _AT_ONCE):
            own = files[start : start + _AT_ONCE]
            images = [(image.sha256, image) for image in pool.map(Encoded.read, own)]
            known = ledger.get([(by, digest) for digest, _ in images])
            values = {digest: value for (digest, _), value in zip(images, known, strict=True)}
            new = {digest: image for digest, image in images if values[digest] is None}
            values |= zip(new, measure(list(new.values()), pool), strict=True)
            ledger.put(((by, digest), values[digest]) for digest in new)
            yield from ((digest, values[digest]) for digest, _ in images)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
