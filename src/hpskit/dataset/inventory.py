"""The images of a data set before they are used: which files are not there, and whether all are still the same."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpskit.dataset.inspect import find_files
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError
from hpskit.files import explain, sha256_file

__all__ = ["Inventory", "changed_files", "take_inventory"]

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
    listing: bytes
    """The image files that are there, JSON lines in gzip: a line with the name of the data set, then name, size in
    bytes and, of those whose bytes were read, SHA-256 of each. Listings can be joined; see `changed_files`."""

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
    hashes = _hashes(data, [*sizes])
    for part in (
        *_of_files(sizes, hashes),
        *(_carried(data) if any(part.filled != "none" for part in data.parts()) else ()),
    ):
        digest.update(part + b"\n")
    return Inventory(
        path=data.path,
        missing=tuple(missing),
        incomplete=_naming(data, places.keys() - sizes.keys()) if missing else frozenset(),
        digest=digest.hexdigest(),
        listing=_listing(data, sizes, hashes),
    )


def _listing(data: DataSet, sizes: Mapping[str, int], hashes: Mapping[str, str]) -> bytes:
    lines = [json.dumps({"data": data.name})]
    lines += [json.dumps([name, size, *([hashes[name]] if name in hashes else [])]) for name, size in sizes.items()]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=3, mtime=0)


def changed_files(before: bytes, now: bytes) -> dict[str, str]:
    """Image files that are not the same in two listings: the name of each, and what has become of it in words.

    Raises:
        ValueError, OSError, EOFError: a listing is damaged.
    """
    old, new = _listed(before), _listed(now)
    changes = {}
    for key in [*old, *(key for key in new if key not in old)]:
        text = _change(old.get(key), new.get(key))
        if text:
            changes[key[1]] = f"{key[1]}: {text}"
    return changes


def _listed(listing: bytes) -> dict[tuple[int, str], tuple[int, str | None]]:
    """Number of the data set and name of each file -> its size, and its hash if it was taken."""
    found: dict[tuple[int, str], tuple[int, str | None]] = {}
    number = 0
    for line in gzip.decompress(listing).splitlines():
        entry = json.loads(line)
        if isinstance(entry, dict):
            number += 1
        else:
            found[number, entry[0]] = (entry[1], entry[2] if len(entry) > 2 else None)
    return found


def _change(old: tuple[int, str | None] | None, new: tuple[int, str | None] | None) -> str:
    """Empty if there is none that can be seen."""
    if old is None or new is None:
        return "was not there" if old is None else "is not there any more"
    if old[0] != new[0]:
        return f"was {old[0]:,} bytes, is {new[0]:,}"
    return f"has {new[0]:,} bytes as before, but others" if old[1] and new[1] and old[1] != new[1] else ""


def _naming(data: DataSet, names: Collection[str]) -> frozenset[str]:
    return frozenset(group.place for group, files in data.with_files() if any(name in names for name in files))


def _of_files(sizes: Mapping[str, int], hashes: Mapping[str, str]) -> Iterator[bytes]:
    """Every file with its size, then the contents of some, in an order that the data set decides."""
    for name, size in sizes.items():
        yield f"{size} {name}".encode("utf-8", "surrogateescape")
    for content in hashes.values():
        yield content.encode()


def _hashes(data: DataSet, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of some files, evenly spread, by their names."""
    found = {}
    for number in _spread(len(names), _READ):
        try:
            found[names[number]] = sha256_file(data.image_path(names[number]))
        except OSError:  # what cannot be read is told of when it is decoded
            found[names[number]] = "unreadable"
    return found


def _carried(data: DataSet) -> Iterator[bytes]:
    for path in data.files if any(part.filled != "none" for part in data.parts()) else ():
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
