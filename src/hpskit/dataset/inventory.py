"""The images of a data set before they are used: which files are not there, and whether all are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpskit.dataset.checking import find_files
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError
from hpskit.files import explain, sha256_file

__all__ = ["Inventory", "take_inventory"]

_READ = 256
"""Files whose bytes are read: some 100 MB of images of 512 x 512 pixels."""
_PIECE = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """What `take_inventory` has found."""

    path: Path
    """Of the data set."""
    missing: tuple[str, ...]
    """A line for each image file that is missing or empty, with the place of the first group that names it."""
    incomplete: frozenset[str]
    """Places of all groups that name such a file."""
    digest: str
    """SHA-256 over the names and sizes of all image files that are there, and the bytes of 256 of them, evenly spread;
    of images that the data set carries, see `take_inventory`."""

    def refuse(self) -> None:
        """Raise if an image file is missing or empty.

        Raises:
            InputError: the first of them, how many there are, and what to do.
        """
        if self.missing:
            more = f" and {len(self.missing) - 1:,} more" if len(self.missing) > 1 else ""
            cure = "bring them or remove the rows, which --on-broken drop does; `hpskit data inspect` lists all"
            raise InputError(f"{self.missing[0]}{more}; {cure}")


def take_inventory(data: DataSet) -> Inventory:
    """Look for all image files of a data set, and note by what a replaced image can be noticed.

    Each folder is listed once. Of parquet files with images in their rows the digest holds the sizes, and 256 pieces
    of 64 kB, evenly spread, which is all of a file of up to 16 MB; of shards the SHA-256 that their index gives. No
    times and no folders are in it: a data set may be moved or copied.

    Raises:
        RecordError: a row is broken.
        InputError: a file cannot be read.
    """
    places: dict[str, str] = {}
    for group, files in data.with_files():
        for name in files:
            places.setdefault(name, group.place)
    missing: list[str] = []
    sizes = find_files(data, places, lambda _, line: missing.append(line))
    digest = hashlib.sha256()
    for part in (*_of_files(data, sizes), *(_carried(data) if data.carries_images else ())):
        digest.update(part + b"\n")
    return Inventory(
        path=data.path,
        missing=tuple(missing),
        incomplete=_naming(data, places.keys() - sizes.keys()) if missing else frozenset(),
        digest=digest.hexdigest(),
    )


def _naming(data: DataSet, names: Collection[str]) -> frozenset[str]:
    return frozenset(group.place for group, files in data.with_files() if any(name in names for name in files))


def _of_files(data: DataSet, sizes: Mapping[str, int]) -> Iterator[bytes]:
    """Every file with its size, then the contents of some, in an order that the data set decides."""
    names = [*sizes]
    for name in names:
        yield f"{sizes[name]} {name}".encode("utf-8", "surrogateescape")
    for number in _spread(len(names), _READ):
        try:
            yield sha256_file(data.image_path(names[number])).encode()
        except OSError:  # what cannot be read is told of when it is decoded
            yield b"unreadable"


def _carried(data: DataSet) -> Iterator[bytes]:
    if data.shards is not None:
        yield from (shard.sha256.encode() for shard in data.shards.shards)
        return
    for path in data.files:
        try:
            size = path.stat().st_size
            with path.open("rb") as handle:
                yield str(size).encode()
                for number in _spread(-(-size // _PIECE), _READ):
                    handle.seek(number * _PIECE)
                    yield hashlib.sha256(handle.read(_PIECE)).digest()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({explain(error)})") from error


def _spread(count: int, most: int) -> list[int]:
    """Numbers below `count`, evenly spread, at most so many; the last one is among them."""
    chosen = min(count, most)
    return [(number + 1) * count // chosen - 1 for number in range(chosen)]
