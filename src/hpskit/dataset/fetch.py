"""Bring data sets of the hub to this machine: annotations as they are, archives unpacked beside them.

$HPSKIT_HOME/datasets/OWNER--NAME/     what `open_data("OWNER/NAME")` reads
$HPSKIT_HOME/listings/                 which files the hub has, for a machine that is off the network
the Hugging Face cache                 the downloads; they may be deleted once the data set is there
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hpskit.errors import InputError, listed, shown
from hpskit.files import publish, publish_folder
from hpskit.hub import HubFile, home, hub_file, hub_files
from hpskit.stage import goes_on

ARCHIVE = re.compile(
    r"(?P<stem>.+?)\.(?P<kind>tar\.gz|tgz|tar|zip)"
    r"(?P<part>(?!\.(?:xz|zst|bz|lz))[._-]?(?:part)?[._-]?(?:\d{1,5}|[a-z]{2,3}))?"
)
"""Name of an archive, `images.zip`, or of one of its parts, as `split` cuts them: `a.tar.gz.00`, `a.tar.partaa`."""

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RuntimeError)
"""Errors of the libraries for a damaged archive; the last for one with a password, or packed in an unknown way."""


_LARGEST_NOTE = 1 << 20
"""Bytes of a long name, or of other notes on the next member, which are read whole."""
_EXPANSION, _SMALL = 100, 1 << 28
"""Times its own size, besides 256 MB, that an archive may take; images get hardly smaller, annotations a tenth."""

_IMAGEREWARD = {
    split: (f"metadata-{split}.parquet", f"images/{split}/*.zip") for split in ("test", "validation", "train")
}
_PICKAPIC = {
    split: (f"data/{split}-*.parquet",) for split in ("test", "test_unique", "validation", "validation_unique", "train")
}
KNOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ymhao/HPDv2": {split: (f"{split}.json", f"{split}.tar.gz*") for split in ("test", "train")},
    "zhwang/HPDv2": {"benchmark": ("benchmark/*.json",), "test": ("test.json", "test.tar.gz*")},
    "MizzenAI/HPDv3": {split: (f"{split}.json", "images.tar.gz*") for split in ("test", "train")},
    "THUDM/ImageRewardDB": _IMAGEREWARD,
    "zai-org/ImageRewardDB": _IMAGEREWARD,
    "yuvalkirstain/pickapic_v1": _PICKAPIC,
    "yuvalkirstain/pickapic_v2": _PICKAPIC,
    "TIGER-Lab/GenAI-Bench": {split: (f"image_generation/{split}-*.parquet",) for split in ("test_v1", "test")},
    "DY-Evalab/EvalMuse": {"train": ("train_list.json", "images.zip*")},
    "Rapidata/700k_Human_Preference_Dataset_FLUX_SD3_MJ_DALLE3": {"train": ("data/train*.parquet",)},
}
"""The field's data sets: split -> patterns of its files, each of which must be there; the first split is the usual one.
`THUDM` is called `zai-org` today; the hub knows both."""
GENERATORS = {"zhwang/HPDv2": "benchmark/benchmark_imgs/{}.tar.gz*"}
"""Pattern of the archive with the images of one generator, for data sets that have such."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The files to bring of a data set."""

    name: str
    """`OWNER/NAME` of a data set on the hub."""
    split: str | None = None
    """A split of `KNOWN`; None is the first."""
    files: tuple[str, ...] = ()
    """Paths in the repository, or patterns of them, instead of a split; a must for what is not in `KNOWN`."""
    generators: tuple[str, ...] = ()
    """Generators whose images to bring too, where the data set has them in archives of their own."""
    images: bool = True
    """Bring archives too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """A file to be put in the folder, or an archive to be unpacked there."""

    files: tuple[HubFile, ...]
    """One, or the parts of an archive in their order."""
    target: PurePosixPath
    """The file, or the folder that the archive is unpacked to; from the folder of the data set."""
    archive: str | None
    """Name of the archive; None for a file."""

    @property
    def size(self) -> int:
        """Bytes to download; what the hub does not say counts as none."""
        return sum(file.size or 0 for file in self.files)

    def is_in(self, folder: Path) -> bool:
        """See whether it is there already: an archive appears whole; a file has the size that the hub says."""
        target = folder / self.target
        if self.archive is not None:
            return target.is_dir() and any(target.iterdir())
        return target.is_file() and target.stat().st_size == self.files[0].size


def folder_of(name: str) -> Path:
    """Return this machine's own folder of a data set, where it is found by its name."""
    return home() / "datasets" / name.replace("/", "--")


def plan(wanted: Wanted) -> list[Download]:
    """List what a fetch brings. The hub is asked which files there are; offline, the last answer counts.

    Raises:
        InputError: the name, the split or a generator is not known, or the data set has no such file.
        NotCachedError: the hub cannot be asked, and has not been before.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", wanted.name):
        raise InputError(repr(wanted.name), "is not the name of a data set on the hub", expected="OWNER/NAME")
    patterns = patterns_of(wanted)
    there = hub_files(wanted.name, cure=_cure(wanted.name))
    cure = f"name files with --file: {_some(there)}"
    if not patterns:
        raise InputError(wanted.name, "is not known here", expected=f"one of {', '.join(KNOWN)}", cure=cure)
    found: dict[str, HubFile] = {}
    for pattern in patterns:
        matching = {file.path: file for file in there if fnmatchcase(file.path, pattern)}
        if not matching:
            raise InputError(wanted.name, f"has no file {pattern}", cure=cure)
        found |= matching
    downloads, archives = list[Download](), dict[PurePosixPath, list[HubFile]]()
    for file in found.values():
        path = PurePosixPath(file.path)
        if match := ARCHIVE.fullmatch(path.name):
            archives.setdefault(path.with_name(f"{match['stem']}.{match['kind']}"), []).append(file)
        else:
            downloads.append(Download(files=(file,), target=path, archive=None))
    for path, parts in archives.items() if wanted.images else ():
        parts.sort(key=lambda file: part_order(PurePosixPath(file.path).name))
        stem = re.sub(r"\.(tar\.gz|tgz|tar|zip)$", "", path.name)
        downloads.append(Download(files=tuple(parts), target=path.with_name(stem), archive=path.name))
    return downloads


def patterns_of(wanted: Wanted) -> tuple[str, ...]:
    """Return the patterns of the files that are wanted; none if it is not known which these are."""
    if wanted.generators and wanted.name not in GENERATORS:
        found = f"is given, but {wanted.name} has no images by generator"
        raise InputError("--generator", found, expected=", ".join(GENERATORS))
    images = tuple(GENERATORS[wanted.name].format(name) for name in wanted.generators)
    splits = KNOWN.get(wanted.name)
    if wanted.files or splits is None:
        return wanted.files + images
    split = next(iter(splits)) if wanted.split is None else wanted.split
    if split not in splits:
        raise InputError("--split", f"is {split!r}", expected=f"one of {', '.join(splits)} for {wanted.name}")
    return splits[split] + images


def _some(files: Iterable[HubFile]) -> str:
    """Name the first files of a listing; those of one folder and ending are one pattern."""
    paths = [PurePosixPath(file.path) for file in files]
    names = [str(path.with_name(f"*{''.join(path.suffixes[-2:])}") if path.parent.name else path) for path in paths]
    return listed(dict.fromkeys(names), 12)


def _cure(name: str) -> str:
    return f"On a connected machine run `hpskit data fetch {name} --to DIR`, bring DIR here, and give it as PATH"


def fetch(wanted: Wanted, to: Path | None = None, progress: Callable[[str, int], None] = lambda *_: None) -> Path:
    """Bring a data set here, or go on where that was interrupted.

    Args:
        wanted: what of it.
        to: folder to put it in; None is this machine's own.
        progress: is told what is unpacked, and how many files of it are.

    Returns:
        The folder.

    Raises:
        InputError: as `plan`, or an archive is broken.
        NotCachedError: a file is not here and cannot be downloaded.
        HashMismatchError: what arrived is not what the hub announced.
        OutputError: it cannot be stored.
    """
    folder = to or folder_of(wanted.name)
    for download in plan(wanted):
        target = download.target
        if target.is_absolute() or ".." in target.parts:
            found = f"names a file {str(target)!r}"
            raise InputError(wanted.name, found, expected="one inside the repository", cure="do not trust it")
        if download.is_in(folder):
            continue
        cure = _cure(wanted.name)
        sources = [hub_file(wanted.name, file.path, repo_type="dataset", cure=cure) for file in download.files]
        if download.archive is not None:
            with goes_on():
                unpack(download.archive, sources, folder / target, progress)
            continue
        with publish(folder / target) as temporary:
            if target.suffix != ".parquet" or not link(sources[0], temporary):
                shutil.copyfile(sources[0], temporary)
    return folder


def link(source: Path, target: Path) -> bool:
    """Give a second name to the same bytes, which nobody edits in a parquet file: 200 GB need not be there twice.

    False on another disk, or on one that has no links.
    """
    target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def part_order(name: str) -> tuple[int, str]:
    """Return what sorts the parts of an archive: numbers count, letters follow the alphabet, `z` before `aa`."""
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
    kind = match["kind"] if match else "tar"
    with publish_folder(folder) as temporary:
        try:
            members = Members(sum(part.stat().st_size for part in parts))
            with io.BufferedReader(Joined(parts)) as stream:
                plain: Any = gzip.GzipFile(fileobj=stream) if kind in ("tar.gz", "tgz") else stream
                done = unzip(stream, temporary, members) if kind == "zip" else untar(plain, temporary, members)
                for number, _ in enumerate(done, 1):
                    progress(folder.name, number)
        except _BROKEN as error:
            found = f"is not a whole archive that can be trusted ({error})"
            raise InputError(parts[0], found, cure="delete it and run the same command again") from error
        inside = [*temporary.iterdir()]
        if len(inside) == 1 and inside[0].is_dir():
            top = inside[0].rename(temporary / f".{inside[0].name}.top")
            for child in top.iterdir():
                child.rename(temporary / child.name)
            top.rmdir()


class Header(tarfile.TarInfo):
    """A member of a tar file whose header is sound: one that is damaged is no end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if bytes(buf).strip(b"\0"):
                raise tarfile.ReadError(f"a header is damaged ({error})") from error
            raise
        if header.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE) and header.size > _LARGEST_NOTE:
            raise tarfile.ReadError(f"a header says that it is {header.size:,} bytes long")
        return header


def untar(stream: IO[bytes], folder: Path, members: Members) -> Iterator[None]:
    """Unpack a tar file, one member at a time."""
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as packed:
        for member in packed:
            members.check(member.name, member.size, file=member.isreg(), folder=member.isdir())
            packed.extract(member, folder, filter="data")
            yield
        tail = packed.fileobj
        assert tail is not None
        if tail.tell() <= packed.offset:
            raise EOFError("it was cut off: no empty block marks its end")
        while rest := tail.read(1 << 20):  # to the end, where a compressed file has its checksum
            if rest.strip(b"\0"):
                raise tarfile.ReadError("something follows the block that marks its end")
        if tail.tell() % tarfile.BLOCKSIZE:
            raise EOFError("it does not consist of whole blocks")


def unzip(stream: IO[bytes], folder: Path, members: Members) -> Iterator[None]:
    """Unpack a zip file, one member at a time."""
    with zipfile.ZipFile(stream) as packed:
        for member in packed.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            members.check(
                member.filename,
                member.file_size,
                file=not member.is_dir() and kind in (0, stat.S_IFREG),
                folder=member.is_dir() and kind in (0, stat.S_IFDIR),
            )
            packed.extract(member, folder)  # compares the checksum
            yield


class Members:
    """Count of what has come out of an archive so far, to see whether the next member can be trusted."""

    def __init__(self, packed: int) -> None:
        self._room = _EXPANSION * packed + _SMALL
        self._names: set[str] = set()

    def check(self, name: str, size: int, *, file: bool, folder: bool) -> None:
        """See that a member is a file or a folder inside, is there once, and no bomb."""
        if not (file or folder):
            raise ValueError(f"{shown(name)} is a link or a device, expected files and folders")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise ValueError(f"{shown(name)} would lie outside the folder")
        if file and str(path) in self._names:
            raise ValueError(f"{shown(name)} is there twice")
        self._names.add(str(path))
        self._room -= size
        if self._room < 0:
            raise ValueError(f"it would take more than {_EXPANSION} times its size on the disk")


class Joined(io.RawIOBase):
    """Files one after another, read as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._handles = [path.open("rb", buffering=0) for path in paths]
        self._starts = [0, *itertools.accumulate(path.stat().st_size for path in paths)]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if self._at < 0:
            raise EOFError("it is too short")
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        number = bisect_right(self._starts, self._at) - 1  # behind empty files
        if number >= len(self._handles):
            return 0
        self._handles[number].seek(self._at - self._starts[number])
        count = self._handles[number].readinto(buffer)
        self._at += count
        return count

    def close(self) -> None:
        for handle in self._handles:
            handle.close()
        super().close()
