"""Writing shards: tar files for training from a disk that likes to read from front to back, or from a distant store.

Python's own `tarfile` writes them. The webdataset library would add nothing here: its writer knows no hashes and
nothing of a run that was killed, and its readers skip or shuffle on their own account.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hpskit.dataset.converting import with_bytes
from hpskit.dataset.formats.parquet import group_row
from hpskit.dataset.formats.shards import INDEX, LAYOUT, UNFINISHED, Block, Shard, open_shards
from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, OutputError
from hpskit.files import AppendLog, publish, publish_json, read_json

__all__ = ["WrittenShards", "parse_size", "write_shards"]

_BLOCK = 16 << 20
"""Bytes that are read at once: a quarter of a second from a store that gives 64 MB/s."""
_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenShards:
    """What `write_shards` has written, now or before it was interrupted."""

    out: Path
    shards: int
    groups: int
    images: int
    size: int
    """Bytes of all tar files."""


def parse_size(text: str) -> int:
    """Bytes from a text such as `1GB`, `500 MB` or `2GiB`.

    Raises:
        InputError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", text.strip())
    units = {name.lower(): factor for name, factor in _UNITS.items()}
    if match is None or match[2].lower() not in units or not float(match[1]):
        raise InputError(f"--size: is {text!r}, expected a size such as 500MB, 1GB or 2GiB")
    return round(float(match[1]) * units[match[2].lower()])


def write_shards(
    data: DataSet, out: Path, *, size: int = 10**9, progress: Callable[[int], None] = lambda _: None
) -> WrittenShards:
    """Write a data set with its images as tar files of about one size, and an index of them.

    Each tar file appears whole, and the index last. Where a run was killed, the next one with the same data and size
    goes on after the last whole file; where one was finished, nothing is done.

    Args:
        data: the data set.
        out: a new folder, or one that was begun.
        size: of a tar file, in bytes, if no single group is larger.
        progress: is told how many groups are done.

    Raises:
        RecordError: a row is broken, or an image is missing.
        InputError: the data set has no groups.
        OutputError: the folder holds something else, or cannot be written.
    """
    settings = {"data": data.name, "files": _state(data), "shard_size": size}
    if (out / INDEX).exists():
        return _finished(out, settings)
    if out.exists() and not (out / UNFINISHED).exists() and any(out.iterdir()):
        raise OutputError(f"{out}: exists, expected a new or an empty folder; remove it or choose another")
    with AppendLog(out / UNFINISHED) as log:
        if not log.lines:
            log.append(settings)
        elif log.lines[0] != settings:
            cure = "give the same, or choose another folder"
            raise OutputError(f"{out}: was begun with other data or another size; {cure}")
        shards = [Shard.from_json(line) for line in log.lines[1:]]
        done = sum(shard.groups for shard in shards)
        groups = itertools.islice(data, done, None)
        for shard in _write(data, groups, out, len(shards), done, size, progress):
            log.append(asdict(shard))
            shards.append(shard)
        if not shards:
            raise InputError(f"{data.path}: has no groups, expected at least one")
        publish_json(out / INDEX, {"format": LAYOUT, **_totals(shards), **settings, "shards": [*map(asdict, shards)]})
    (out / UNFINISHED).unlink()
    return _finished(out, settings)


def _state(data: DataSet) -> list[list[Any]]:
    """By what it is known that the data set is still the same."""
    if data.shards is not None:
        return [[shard.file, shard.sha256] for shard in data.shards.shards]
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in data.files]


def _totals(shards: list[Shard]) -> dict[str, int]:
    return {"groups": sum(shard.groups for shard in shards), "images": sum(shard.images for shard in shards)}


def _finished(out: Path, settings: dict[str, Any]) -> WrittenShards:
    value = read_json(out / INDEX)
    if not isinstance(value, dict) or {name: value.get(name) for name in settings} != settings:
        raise OutputError(f"{out}: holds something else than these shards; remove it or choose another folder")
    shards = [*open_shards(str(out)).shards]
    return WrittenShards(out=out, shards=len(shards), size=sum(shard.size for shard in shards), **_totals(shards))


def _write(
    data: DataSet,
    groups: Iterator[Group],
    out: Path,
    number: int,
    done: int,
    size: int,
    progress: Callable[[int], None],
) -> Iterator[Shard]:
    """Write one shard after another."""
    samples = (_Sample.of(data, group, n) for n, group in enumerate(groups, done))
    waiting = next(samples, None)
    while waiting is not None:
        tar, rows = out / f"{number:05d}.tar", out / f"{number:05d}.jsonl"
        with (
            publish(rows, sweep=True) as rows_file,
            publish(tar, sweep=True) as tar_file,
            rows_file.open("wb") as lines,
            tar_file.open("wb") as handle,
        ):
            writer = _TarWriter(handle)
            while waiting is not None and (not writer.groups or writer.size + waiting.size <= size):
                writer.write(waiting)
                lines.write(waiting.line)
                progress(waiting.number + 1)
                waiting = next(samples, None)
            shard = writer.close(tar.name, rows.name)
        yield shard
        number += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    """The files of one group."""

    number: int
    files: list[tuple[str, bytes]]
    line: bytes
    """What stands beside the tar file."""

    @classmethod
    def of(cls, data: DataSet, group: Group, number: int) -> _Sample:
        whole = with_bytes(data, group)
        row = {name: value for name, value in group_row(whole).items() if name != "bytes" and value is not None}
        images = [whole.embedded[name] for name in whole.images]
        content = {"sizes": [*map(len, images)], "sha256": [hashlib.sha256(image).hexdigest() for image in images]}
        names = (f"{number:09d}.{n}.{_ending(name)}" for n, name in enumerate(whole.images))
        files = [(f"{number:09d}.json", _json(row)), *zip(names, images, strict=True)]
        return cls(number=number, files=files, line=_json({**row, **content}) + b"\n")

    @property
    def size(self) -> int:
        """Bytes in a tar file: a header of 512 for each file, and its content in whole blocks of 512."""
        return sum(512 + -(-len(content) // 512) * 512 for _, content in self.files)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _ending(name: str) -> str:
    """By which readers of the tar file know what an image is."""
    ending = PurePosixPath(name).suffix[1:].lower()
    return ending if re.fullmatch("[a-z0-9]{1,5}", ending) and ending != "json" else "img"


class _TarWriter:
    """A tar file, and what its index says of it. The same groups give the same bytes."""

    def __init__(self, handle: IO[bytes]) -> None:
        self.groups = self.images = self.size = 0
        self._handle, self._whole, self._block = handle, hashlib.sha256(), hashlib.sha256()
        self._blocks = list[Block]()
        self._start = self._first = 0
        """Byte and group with which the block begins."""

    def write(self, sample: _Sample) -> None:
        for name, content in sample.files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            self._put(info.tobuf(tarfile.USTAR_FORMAT))
            self._put(content + bytes(-len(content) % 512))
        self.groups += 1
        self.images += len(sample.files) - 1
        if self.size - self._start >= _BLOCK:
            self._end_block()

    def _put(self, content: bytes) -> None:
        self._handle.write(content)
        self._whole.update(content)
        self._block.update(content)
        self.size += len(content)

    def _end_block(self) -> None:
        block = Block(
            start=self._start,
            size=self.size - self._start,
            groups=self.groups - self._first,
            sha256=self._block.hexdigest(),
        )
        self._blocks.append(block)
        self._start, self._first, self._block = self.size, self.groups, hashlib.sha256()

    def close(self, file: str, rows: str) -> Shard:
        if self.groups > self._first:
            self._end_block()
        self._put(bytes(1024))  # by which a tar file ends
        return Shard(
            file=file,
            rows=rows,
            size=self.size,
            sha256=self._whole.hexdigest(),
            groups=self.groups,
            images=self.images,
            blocks=tuple(self._blocks),
        )
