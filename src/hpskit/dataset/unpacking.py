"""Archives of images, whole or in parts: their names, and what is in them brought into a folder, and nowhere else."""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from hpskit.errors import InputError
from hpskit.files import publish_folder

__all__ = ["ARCHIVE", "part_order", "unpack"]

ARCHIVE = re.compile(
    r"(?P<stem>.+?)\.(?P<kind>tar\.gz|tgz|tar|zip)"
    r"(?P<part>(?!\.(?:xz|zst|bz|lz))[._-]?(?:part)?[._-]?(?:\d{1,5}|[a-z]{2,3}))?"
)
"""Name of an archive, `images.zip`, or of one of its parts, as `split` cuts them: `a.tar.gz.00`, `a.tar.partaa`."""

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RuntimeError)
"""What the libraries raise for a damaged archive; the last for one with a password, or packed in an unknown way."""


def part_order(name: str) -> tuple[int, str]:
    """By this the parts of an archive are sorted: numbers count, letters follow the alphabet, `z` before `aa`."""
    match = ARCHIVE.fullmatch(name)
    part = re.sub(r"^[._-]?(part)?[._-]?", "", (match and match["part"]) or "")
    return (int(part), "") if part.isdigit() else (len(part), part)


def unpack(archive: str, parts: Sequence[Path], folder: Path, progress: Callable[[str, int], None]) -> None:
    """Unpack into a folder that appears whole; a single folder at the top of the archive is the folder itself.

    Args:
        archive: its name, whose ending says what it is.
        parts: the files that make it up, in order.
        folder: a new one.
        progress: is told the name of the folder, and how many files are in it.

    Raises:
        InputError: it is damaged, cut off, or has something in it that is neither a file nor a folder inside.
        OutputError: the folder cannot be written, or is there already.
    """
    match = ARCHIVE.fullmatch(archive)
    extract = _unzip if match and match["kind"] == "zip" else _untar
    with publish_folder(folder) as temporary:
        try:
            with io.BufferedReader(_Joined(parts)) as stream:
                for number, _ in enumerate(extract(stream, temporary, match is not None and match["kind"] != "tar"), 1):
                    progress(folder.name, number)
        except _BROKEN as error:
            cure = "delete it and run the same command again"
            raise InputError(f"{parts[0]}: is not a whole archive that can be trusted ({error}); {cure}") from error
        _lift(temporary)


def _untar(stream: IO[bytes], folder: Path, compressed: bool) -> Iterator[None]:
    unpacked = gzip.GzipFile(fileobj=stream) if compressed else stream
    with tarfile.open(fileobj=unpacked, mode="r|") as packed:
        for member in packed:
            if not (member.isfile() or member.isdir()):
                raise tarfile.TarError(f"{member.name!r} is a link or a device, expected files and folders")
            packed.extract(member, folder, filter="data")  # refuses what would lie outside
            yield
    if compressed:
        while unpacked.read(1 << 20):  # to the checksum: tarfile is content with an archive that is cut off
            pass
    else:
        stream.seek(-tarfile.BLOCKSIZE, io.SEEK_END)
        if stream.read().strip(b"\0"):
            raise EOFError("it was cut off: no empty block marks its end")


def _unzip(stream: IO[bytes], folder: Path, _: bool) -> Iterator[None]:
    with zipfile.ZipFile(stream) as packed:
        for member in packed.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                raise zipfile.BadZipFile(f"{member.filename!r} would lie outside the folder")
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise zipfile.BadZipFile(f"{member.filename!r} is a link or a device, expected files and folders")
            packed.extract(member, folder)  # compares the checksum
            yield


def _lift(folder: Path) -> None:
    inside = [*folder.iterdir()]
    if len(inside) == 1 and inside[0].is_dir():
        top = inside[0].rename(folder / f".{inside[0].name}.top")
        for child in top.iterdir():
            child.rename(folder / child.name)
        top.rmdir()


class _Joined(io.RawIOBase):
    """Files one after another, read as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._sizes = [path.stat().st_size for path in paths]
        self._at = 0
        self._handle: IO[bytes] | None = None
        self._open = -1
        """Which of the files `_handle` is."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: sum(self._sizes)}[whence]
        if self._at < 0:
            raise EOFError("it is too short")
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        number, inside = 0, self._at
        while number < len(self._sizes) and inside >= self._sizes[number]:
            inside -= self._sizes[number]
            number += 1
        if number == len(self._sizes):
            return 0
        if self._open != number:
            self.close_part()
            self._handle, self._open = self._paths[number].open("rb"), number
        assert self._handle is not None
        self._handle.seek(inside)
        data = self._handle.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close_part(self) -> None:
        if self._handle is not None:
            self._handle.close()

    def close(self) -> None:
        self.close_part()
        super().close()
