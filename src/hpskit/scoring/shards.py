"""Tars of WebDataset: members `KEY.jpg` and `KEY.txt` or `KEY.json` that follow one another are a row.

Source: the format of WebDataset, https://github.com/webdataset/webdataset. Nothing is unpacked to the disk, links are
refused, and no size that a header announces is believed: archives come from strangers.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from hpskit.errors import InputError, RecordError, printable, shown
from hpskit.files import JSON
from hpskit.pixels import LARGEST_FILE, Encoded
from hpskit.rows import Report, Row, readable, refuse

SHARDS = (".tar", ".tar.gz", ".tgz")
IMAGES = ("jpg", "jpeg", "png", "webp")
_LARGEST_TEXT = 16 << 20
"""Bytes of a `.txt`, of a `.json`, and of the header of a member."""
_CHUNK = 1 << 20
_UNREAD = b"\0"
"""Stands for the bytes of an image that are there and not read."""


class Bounded:
    """A file of which no more than a bounded part is read at once: a header may announce any size."""

    def __init__(self, handle: IO[bytes] | gzip.GzipFile) -> None:
        self.seek, self.tell, self._read = handle.seek, handle.tell, handle.read

    def read(self, size: int = -1) -> bytes:
        """Read a part."""
        if not 0 <= size <= _LARGEST_TEXT:
            raise tarfile.ReadError(f"a header announces {size:,} bytes")
        return self._read(size)


def read_shard(
    path: Path,
    report: Report = refuse,
    *,
    images: bool = True,
    span: range | None = None,
    ignored: Callable[[str], object] = lambda _: None,
) -> Iterator[Row]:
    """Read the samples of a tar as numbered rows: `__key__`, `image`, `txt`, and the fields of a `.json`.

    Args:
        path: a `.tar`, `.tar.gz` or `.tgz`.
        report: receives the error of a sample whose members are not what their endings say; it is left out then.
        images: False leaves out the bytes of the images; of a tar that is not packed they are not read.
        span: numbers of the samples, from 1; None reads all. What is before it is passed over, and nothing behind it is
            looked at.
        ignored: told the endings of members that are not read.

    Raises:
        InputError: it is no tar, a damaged one, or several in one file.
        RecordError: a member is a link, too large, or not what its ending says.
    """
    packed = path.suffix.lower() in (".gz", ".tgz")
    with readable(path):
        try:
            with (
                gzip.open(path) if packed else path.open("rb") as handle,
                tarfile.open(fileobj=cast(IO[bytes], Bounded(handle)), mode="r:") as archive,
            ):
                yield from samples(path, archive, report, images=images, span=span, ignored=ignored)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError) as error:
            if isinstance(error, InputError | UnicodeDecodeError):
                raise
            found = f"is no tar, or a damaged one ({printable(str(error), 120)})"
            raise InputError(path, found, cure="bring the file again") from error


def members(
    path: Path, archive: tarfile.TarFile, ignored: Callable[[str], object]
) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Find the members that are read, each with its key and ending."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all that it has seen
        if member.isdir():
            continue
        folder, slash, own = member.name.rpartition("/")
        stem, _, ending = own.partition(".")
        ending = ending.lower()
        if ending not in (*IMAGES, "txt", "json"):
            ignored(ending)
            continue
        place = f"{path}: member {shown(member.name)}"
        if not member.isreg() or member.issparse():
            raise RecordError(place, "is a link, or no file", expected="a file", cure="pack the archive again")
        most = LARGEST_FILE if ending in IMAGES else _LARGEST_TEXT
        if not 0 <= member.size <= most:
            raise RecordError(place, f"has {member.size:,} bytes", expected=f"at most {most:,}", cure="leave it out")
        yield folder + slash + stem, ending, member


def check_end(path: Path, archive: tarfile.TarFile) -> None:
    """See that a file ends with its archive: tarfile takes a broken header for the end, and does not look behind it."""
    handle = cast(IO[bytes], archive.fileobj)
    handle.seek(archive.offset)
    if any(handle.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"no header at byte {archive.offset:,}")
    if any(map(any, iter(lambda: handle.read(_CHUNK), b""))):
        found, cure = "goes on behind the end of its archive", "give tars that were joined one by one, x-{0..1}.tar"
        raise InputError(path, found, expected="one tar", cure=cure)


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Read a member in parts."""
    handle = archive.extractfile(member)
    assert handle is not None
    return b"".join(iter(lambda: handle.read(_CHUNK), b""))


def samples(
    path: Path,
    archive: tarfile.TarFile,
    report: Report,
    *,
    images: bool,
    span: range | None,
    ignored: Callable[[str], object],
) -> Iterator[Row]:
    """Join the members of each key."""
    start, number, row, broken = 1 if span is None else span.start, 0, dict[str, Any](), 0
    for key, ending, member in members(path, archive, ignored):
        if row.get("__key__") != key:
            if number >= start and number != broken:
                yield number, row
            number, row = number + 1, {"__key__": key}
        if span is not None and number >= span.stop:
            return
        if number < start or number == broken:
            continue
        place = f"{path}: member {shown(member.name)}"
        data = content(archive, member) if images or ending not in IMAGES else _UNREAD[: member.size]
        try:
            if ending in IMAGES:
                add(row, {"image": Encoded(data, member.name)}, place)
            else:
                add(row, {"txt": text(data, place)} if ending == "txt" else fields(data, place), place)
        except RecordError as error:
            report(error)
            broken = number
    if number >= start and number != broken:
        yield number, row
    check_end(path, archive)


def add(row: dict[str, Any], more: dict[str, Any], place: str) -> None:
    """Add columns to a row, none of which may be there already."""
    for name in more:
        if name in row:
            cure = "convert, or keep one kind in each tar" if name == "image" else "rename the field"
            raise RecordError(place, f"gives the column {shown(name)} of its sample again", expected="one", cure=cure)
    row |= more


def text(data: bytes, place: str) -> str:
    """Decode a `.txt`; the line break that editors leave at its end is none of it."""
    try:
        return data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RecordError(place, "is not UTF-8 text", cure="save it as UTF-8") from error


def fields(data: bytes, place: str) -> dict[str, Any]:
    """Decode a `.json`, an object."""
    try:
        value = JSON.decode(text(data, place))
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(place, f"is not JSON ({error})", expected="an object {…}") from error
    if not isinstance(value, dict):
        raise RecordError(place, f"is {type(value).__name__}", expected="an object {…}")
    return value
