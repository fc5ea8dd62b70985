"""Tars of WebDataset: members `KEY.jpg` and `KEY.txt` or `KEY.json` that follow one another are a row.

Source: the format of WebDataset, https://github.com/webdataset/webdataset. Nothing is unpacked to the disk, links are
refused, and no size that a header announces is believed: archives come from strangers.
"""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from hpskit.errors import InputError, RecordError, printable, shown
from hpskit.files import JSON
from hpskit.pixels import LARGEST_FILE, Encoded
from hpskit.rows import readable

__all__ = ["IMAGES", "SHARDS", "read_shard"]

SHARDS = (".tar", ".tar.gz", ".tgz")
IMAGES = ("jpg", "jpeg", "png", "webp")
_LARGEST_TEXT = 16 << 20
"""Bytes of a `.txt`, of a `.json`, and of the header of a member."""
_CHUNK = 1 << 20


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
    path: Path, *, images: bool = True, wanted: str = "", ignored: Callable[[str], object] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Read the samples of a tar as rows: `__key__`, `image`, `txt`, and the fields of a `.json`.

    Args:
        path: a `.tar`, `.tar.gz` or `.tgz`.
        images: False leaves the bytes of the images empty; of a tar that is not packed they are not read.
        wanted: the ending of the image, where samples have several.
        ignored: told the endings of members that are not read.

    Raises:
        InputError: it is no tar, or a damaged one.
        RecordError: a member is a link, too large, or not what its ending says.
    """
    packed = path.suffix.lower() in (".gz", ".tgz")
    with readable(path):
        try:
            with (
                gzip.open(path) if packed else path.open("rb") as handle,
                tarfile.open(fileobj=cast(IO[bytes], Bounded(handle)), mode="r:") as archive,
            ):
                yield from samples(path, members(path, archive, images=images, ignored=ignored), wanted)
                handle.seek(archive.offset)
                if any(handle.read(tarfile.BLOCKSIZE)):  # tarfile takes a broken header for the end
                    raise tarfile.ReadError(f"no header at byte {archive.offset:,}")
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError) as error:
            if isinstance(error, InputError | UnicodeDecodeError):
                raise
            found = f"is no tar, or a damaged one ({printable(str(error), 120)})"
            raise InputError(path, found, cure="bring the file again") from error


def members(
    path: Path, archive: tarfile.TarFile, *, images: bool, ignored: Callable[[str], object]
) -> Iterator[tuple[str, str, str, bytes]]:
    """Read members as key, ending, name and content."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all that it has seen
        if member.isdir():
            continue
        place = f"{path}: member {shown(member.name)}"
        folder, slash, own = member.name.rpartition("/")
        stem, _, ending = own.partition(".")
        ending = ending.lower()
        if ending not in (*IMAGES, "txt", "json"):
            ignored(ending)
            continue
        if not member.isreg() or member.issparse():
            raise RecordError(place, "is a link, or no file", expected="a file", cure="pack the archive again")
        most = LARGEST_FILE if ending in IMAGES else _LARGEST_TEXT
        if not 0 < member.size <= most:
            raise RecordError(place, f"has {member.size:,} bytes", expected=f"1 to {most:,}", cure="leave it out")
        wanted = images or ending not in IMAGES
        yield folder + slash + stem, ending, member.name, content(archive, member) if wanted else b""


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Read a member in parts."""
    handle = archive.extractfile(member)
    assert handle is not None
    return b"".join(iter(lambda: handle.read(_CHUNK), b""))


def samples(path: Path, found: Iterator[tuple[str, str, str, bytes]], wanted: str) -> Iterator[dict[str, Any]]:
    """Join the members of each key."""
    row: dict[str, Any] = {}
    for key, ending, name, data in found:
        if row and row["__key__"] != key:
            yield row
            row = {}
        row.setdefault("__key__", key)
        place = f"{path}: member {shown(name)}"
        if ending in IMAGES:
            if wanted and ending != wanted:
                continue
            add(row, {"image": Encoded(data, name)}, place)
        else:
            add(row, {"txt": text(data, place)} if ending == "txt" else fields(data, place), place)
    if row:
        yield row


def add(row: dict[str, Any], more: dict[str, Any], place: str) -> None:
    """Add columns to a row, none of which may be there already."""
    for name in more:
        if name in row:
            cure = "--columns image=png takes those alone" if name == "image" else "rename the field"
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
