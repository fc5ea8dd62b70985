"""Which images are the same, by their bytes or by their pixels, whatever they are called and wherever they lie."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hpskit.dataset.group import Content, Group
from hpskit.dataset.reading import DataSet, open_carried
from hpskit.errors import ImageError
from hpskit.files import sha256_file
from hpskit.pixels import open_image

__all__ = ["Image", "ImageIndex", "groups_with_contents", "images_of", "pixel_content"]

Image = bytes | Content | Path
"""The bytes of an image that a data set carries, what is known of them or of its pixels, or the file of one."""

_AT_ONCE = 32
"""Groups whose images are decoded side by side."""


def images_of(data: DataSet, group: Group) -> Iterator[tuple[str, Image]]:
    """Each image of a group under its name."""
    for name in group.images:
        yield name, group.contents.get(name) or group.embedded.get(name) or data.image_path(name)


def groups_with_contents(data: DataSet, *, pixels: bool) -> Iterator[Group]:
    """Every group, in order, with what `images_of` needs to tell its images apart.

    Args:
        data: the data set.
        pixels: tell them apart by what they look like: `contents` are those of the decoded pixels. Every distinct
            image is decoded once, in threads; some 300 bytes of memory for each. One that cannot be decoded keeps its
            bytes.

    Raises:
        RecordError: a row is broken.
        InputError: a file cannot be read.
    """
    if not pixels:
        yield from data.with_contents()
        return
    groups, seen = iter(data), dict[int, Content | None]()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        while batch := [*itertools.islice(groups, _AT_ONCE)]:
            images = {_key(image): image for group in batch for _, image in images_of(data, group)}
            new = {key: image for key, image in images.items() if key not in seen}
            seen.update(zip(new, pool.map(_pixels, new.values()), strict=True))
            for group in batch:
                found = {name: seen[_key(image)] for name, image in images_of(data, group)}
                yield replace(group, contents={name: content for name, content in found.items() if content})


def _key(image: Image) -> int:
    return hash(image if isinstance(image, bytes) else str(image))


def _pixels(image: Image) -> Content | None:
    """None if it cannot be decoded."""
    if isinstance(image, Content):
        return image
    try:
        return pixel_content(image)
    except ImageError:
        return None


def pixel_content(image: bytes | Path) -> Content:
    """The content of an image as `open_image` gives it: upright, RGB, transparency on white, not resized.

    Args:
        image: a file, or the bytes of one.

    Returns:
        Bytes of the pixels, and SHA-256 of width, height and pixels.

    Raises:
        ImageError: it cannot be decoded.
    """
    if isinstance(image, Path):
        decoded = open_image(image)
    else:
        with open_carried(image) as stored:
            decoded = open_image(stored)
    pixels = decoded.tobytes()
    digest = hashlib.sha256(f"{decoded.width}x{decoded.height}\n".encode())
    digest.update(pixels)
    return Content(size=len(pixels), sha256=digest.hexdigest())


class ImageIndex:
    """Images and who has them first.

    A file is read only when an image of the same size is asked for, because no other can have its content. About 300
    bytes of memory for each image.
    """

    def __init__(self) -> None:
        self._unread: set[int] = set()
        self._of_path: dict[int, int] = {}
        self._of_digest: dict[bytes, int] = {}
        self._of_size: dict[int, list[tuple[Path, int]]] = {}
        """Size of each image, and the files of that size that have not been read."""

    @property
    def unread(self) -> int:
        """Files that are not there or cannot be read; they are like no other."""
        return len(self._unread)

    def add(self, image: Image, owner: int) -> None:
        """Note whose an image is that `find` does not know."""
        if isinstance(image, Path):
            self._of_path[hash(str(image))] = owner
        if (size := self._size(image)) is not None:
            waiting = self._of_size.setdefault(size, [])
            if isinstance(image, Path):
                waiting.append((image, owner))
            else:
                self._of_digest.setdefault(self._digest(image), owner)

    def find(self, image: Image) -> int | None:
        """The owner of the same file, or of an image of the same bytes."""
        if isinstance(image, Path) and (owner := self._of_path.get(hash(str(image)))) is not None:
            return owner
        size = self._size(image)
        if size is None or size not in self._of_size:
            return None
        for path, owner in self._of_size[size]:
            if known := self._digest(path):
                self._of_digest.setdefault(known, owner)
        self._of_size[size].clear()
        digest = self._digest(image)
        return self._of_digest.get(digest) if digest else None

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
