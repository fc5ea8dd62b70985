"""hpskit's shards: tar files that are read from front to back, from a disk or from any store that fsspec knows.

    index.json      {"format": "hpskit shards 1", "groups", "images", "shards": [{"file", "rows", "size", "sha256",
                    "groups", "blocks": [{"start", "size", "groups", "sha256"}, …]}, …], …}
    00000.tar       for each group 000000017.json, then its images 000000017.0.jpg, 000000017.1.jpg, …
    00000.jsonl     the same JSON, a line for each group, with the size and the SHA-256 of each image

The JSON has the fields of the parquet file without `bytes`. A block is some 16 MB of a tar file; it is read at once,
and its hash is checked. The tar files alone are what WebDataset reads: the files of a sample have its number in common
and follow one another.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hpskit.dataset.formats.contract import Entries, Format
from hpskit.dataset.formats.parquet import PARQUET
from hpskit.dataset.group import Content, Group
from hpskit.errors import HpskitError, InputError, MissingExtraError, RecordError
from hpskit.files import explain
from hpskit.rows import Report

__all__ = ["INDEX", "LAYOUT", "SHARDS", "UNFINISHED", "Block", "Shard", "Shards", "open_shards", "sample_place"]

INDEX = "index.json"
LAYOUT = "hpskit shards 1"
UNFINISHED = ".unfinished.jsonl"
"""The log of what is written so far; it is there as long as the index is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Consecutive groups of a tar file."""

    start: int
    """Offset of the first byte in the tar file."""
    size: int
    """Bytes."""
    groups: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One tar file."""

    file: str
    rows: str
    """The file with its rows."""
    size: int
    """Bytes of the tar file."""
    sha256: str
    """Of the tar file."""
    groups: int
    images: int
    blocks: tuple[Block, ...]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Shard:
        """Read what `dataclasses.asdict` makes of one; anything else is a TypeError or a KeyError."""
        return cls(**{**value, "blocks": tuple(Block(**block) for block in value["blocks"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """A folder or an address with an index, and its content."""

    root: str
    shards: tuple[Shard, ...]

    def rows(self) -> Entries:
        """Every row without images, with their contents."""
        number = 0
        for shard in self.shards:
            lines = _read(self.root, shard.rows).splitlines()
            if len(lines) != shard.groups:
                cure = "copy the shards again"
                raise InputError(f"{self.root}/{shard.rows}: has {len(lines)} rows, expected {shard.groups}; {cure}")
            for line in lines:
                place = sample_place(self.root, number)
                yield place, _parsed(line, place)
                number += 1

    def blocks(self) -> Iterator[tuple[Block, str, Callable[[], Entries]]]:
        """Every block, what it is called in errors, and a function that reads its rows with their images."""
        first = 0
        for shard in self.shards:
            for block in shard.blocks:
                place = f"{self.root}/{shard.file}: samples {first:09d} to {first + block.groups - 1:09d}"
                yield block, place, partial(self._samples, shard, block, first, place)
                first += block.groups

    def _samples(self, shard: Shard, block: Block, first: int, place: str) -> Entries:
        data = _read(self.root, shard.file, block.start, block.start + block.size)
        if hashlib.sha256(data).hexdigest() != block.sha256:
            raise InputError(
                f"{place}: bytes {block.start:,} to {block.start + block.size:,} are damaged; copy it again"
            )
        rows = list[dict[str, Any]]()
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                handle = tar.extractfile(member)
                assert handle is not None, "the hash says that we wrote it"
                if member.name.endswith(".json"):
                    rows.append({**_parsed(handle.read(), place), "bytes": []})
                else:
                    rows[-1]["bytes"].append(handle.read())
        for number, row in enumerate(rows, first):
            yield sample_place(self.root, number), row


def sample_place(root: str, number: int) -> str:
    """A group of shards in words."""
    return f"{root}: sample {number:09d}"


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{place}: is not JSON ({error}); copy the shards again") from error
    if not isinstance(value, dict):
        raise RecordError(f"{place}: is {type(value).__name__}, expected an object; copy the shards again")
    return value


def open_shards(root: str) -> Shards:
    """Read the index of shards.

    Args:
        root: a folder, or an address such as `s3://bucket/folder`.

    Raises:
        InputError: there is no index, or it is damaged.
        MissingExtraError: the package that knows such addresses is not installed.
    """
    root = root.rstrip("/")
    try:
        value = json.loads(_read(root, INDEX))
        if value["format"] != LAYOUT:
            raise InputError(f"{root}/{INDEX}: format is {value['format']!r}, expected {LAYOUT!r}; write it anew")
        return Shards(root=root, shards=tuple(map(Shard.from_json, value["shards"])))
    except HpskitError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        cure = "copy it again, or write the shards anew"
        raise InputError(f"{root}/{INDEX}: is not an index of shards ({error!r}); {cure}") from error


def _read(root: str, file: str, start: int | None = None, end: int | None = None) -> bytes:
    import fsspec  # here: it takes longer to import than most data sets need

    place = f"{root}/{file}"
    try:
        system, path = fsspec.core.url_to_fs(place)
        data: bytes = system.cat_file(path, start=start, end=end)
    except ImportError as error:
        raise MissingExtraError(f"{place}: needs another package ({error})") from error
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({explain(error)}); check the path") from error
    except Exception as error:  # every kind of store raises its own
        raise InputError(f"{place}: cannot be read ({error}); check the address and your rights") from error
    return data


def _groups(entries: Entries, report: Report) -> Iterator[Group]:
    """Rows of tar files or of the lists beside them, which know the contents of images."""
    for place, value in entries:
        sizes, hashes = value.pop("sizes", ()), value.pop("sha256", ())
        for group in PARQUET.read(iter([(place, value)]), report):
            known = zip(group.images, sizes, hashes, strict=False)
            yield replace(group, contents={name: Content(size=size, sha256=digest) for name, size, digest in known})


SHARDS = Format(
    name="shards",
    summary="hpskit's shards: tar files with an index, on a disk or behind an address",
    needs=PARQUET.needs,
    read=_groups,
)
