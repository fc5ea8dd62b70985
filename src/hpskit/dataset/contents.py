"""Which images are the same, byte by byte, whatever they are called and wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpskit.dataset.group import Content, Group
from hpskit.dataset.reading import DataSet
from hpskit.files import sha256_file

__all__ = ["Image", "ImageIndex", "images_of"]

Image = bytes | Content | Path
"""The bytes of an image that a data set carries, what it says of them, or the file of one."""


def images_of(data: DataSet, group: Group) -> Iterator[tuple[str, Image]]:
    """Each image of a group under its name."""
    for name in group.images:
        yield name, group.contents.get(name) or group.embedded.get(name) or data.image_path(name)


@dataclass(kw_only=True, slots=True)
class _Known:
    owner: int
    path: Path | None
    """None once the digest is known."""
    digest: bytes = b""


class ImageIndex:
    """Images and who has them first.

    A file is read only when an image of the same size is asked for, because no other can have its content. About 300
    bytes of memory for each image.
    """

    def __init__(self) -> None:
        self._unread: set[int] = set()
        self._of_path: dict[int, int] = {}
        self._of_size: dict[int, list[_Known]] = {}

    @property
    def unread(self) -> int:
        """Files that are not there or cannot be read; they are like no other."""
        return len(self._unread)

    def add(self, image: Image, owner: int) -> None:
        """Note whose an image is that `find` does not know."""
        if isinstance(image, Path):
            self._of_path[hash(str(image))] = owner
            known = _Known(owner=owner, path=image)
        else:
            known = _Known(owner=owner, path=None, digest=self._digest(image))
        if (size := self._size(image)) is not None:
            self._of_size.setdefault(size, []).append(known)

    def find(self, image: Image) -> int | None:
        """The owner of the same file, or of an image of the same bytes."""
        if isinstance(image, Path) and (owner := self._of_path.get(hash(str(image)))) is not None:
            return owner
        size = self._size(image)
        candidates = [] if size is None else self._of_size.get(size, [])
        digest = self._digest(image) if candidates else b""
        if not digest:
            return None
        for known in candidates:
            if known.path is not None:
                known.digest, known.path = self._digest(known.path), None
        return next((known.owner for known in candidates if known.digest == digest), None)

    def _size(self, image: Image) -> int | None:
        if isinstance(image, bytes):
            return len(image)
        if isinstance(image, Content):
            return image.size
        try:
            return image.stat().st_size
        except (OSError, ValueError):  # a NUL in its name
            self._unread.add(hash(str(image)))
            return None

    def _digest(self, image: Image) -> bytes:
        """Nothing of a file that cannot be read."""
        if isinstance(image, bytes):
            return hashlib.sha256(image).digest()
        if isinstance(image, Content):
            return bytes.fromhex(image.sha256)
        try:
            return bytes.fromhex(sha256_file(image))
        except OSError:
            self._unread.add(hash(str(image)))
            return b""
