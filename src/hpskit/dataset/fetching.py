"""Data sets of the hub on this machine: annotations as they are, archives unpacked beside them.

$HPSKIT_HOME/datasets/OWNER--NAME/     what `open_data("OWNER/NAME")` reads
the Hugging Face cache                 the downloads; they may be deleted once the data set is there
"""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from hpskit.errors import InputError
from hpskit.files import publish, publish_folder
from hpskit.hub import home, hub_file

__all__ = ["KNOWN", "fetch"]

KNOWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ymhao/HPDv2": {"test": ("test.json", "test.tar.gz"), "train": ("train.json", "train.tar.gz")},
    "zhwang/HPDv2": {
        "benchmark": tuple(f"benchmark/{s}.json" for s in ("anime", "concept-art", "paintings", "photo", "drawbench"))
    },
}
"""Data set -> split -> files. The training images of HPD v2 are 31.7 GB packed, and as much again unpacked."""

_ARCHIVE = ".tar.gz"


def fetch(
    name: str,
    *,
    split: str | None = None,
    files: Sequence[str] = (),
    images: bool = True,
    to: Path | None = None,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> Path:
    """Bring a data set here, or go on where that was interrupted.

    Args:
        name: `OWNER/NAME` of a data set on the hub.
        split: a key of `KNOWN[name]`; None is its first.
        files: paths in the repository, instead of a split; a must for data sets that are not in `KNOWN`.
        images: bring the archives of images too.
        to: folder to put it in; None is this machine's own, where it is found by its name.
        progress: is told what is unpacked, and how many files of it are.

    Returns:
        The folder.

    Raises:
        InputError: the name or the split is not known, or an archive is broken.
        NotCachedError: a file is not here and cannot be downloaded.
        OutputError: it cannot be stored.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"{name!r}: is not the name of a data set on the hub, expected OWNER/NAME")
    wanted = files or _files(name, split)
    folder = to or home() / "datasets" / name.replace("/", "--")
    for file in wanted:
        if images or not file.endswith(_ARCHIVE):
            _bring(name, file, folder, progress)
    return folder


def _files(name: str, split: str | None) -> tuple[str, ...]:
    splits = KNOWN.get(name)
    if splits is None:
        raise InputError(f"{name}: its files are not known here ({', '.join(KNOWN)} are); name them with --file")
    if split is None:
        return next(iter(splits.values()))
    if split not in splits:
        raise InputError(f"--split: is {split!r}, expected one of {', '.join(splits)} for {name}")
    return splits[split]


def _bring(name: str, file: str, folder: Path, progress: Callable[[str, int], None]) -> None:
    relative = PurePosixPath(file)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"--file: is {file!r}, expected a path inside the repository {name}")
    unpacked = folder / relative.parent / relative.name.removesuffix(_ARCHIVE)
    if file.endswith(_ARCHIVE) and unpacked.is_dir() and any(unpacked.iterdir()):
        return  # it appeared whole
    cure = f"On a connected machine run `hpskit data fetch {name} --to DIR`, bring DIR here, and give it as PATH"
    source = hub_file(name, file, repo_type="dataset", cure=cure)
    if file.endswith(_ARCHIVE):
        _unpack(source, unpacked, progress)
        return
    with publish(folder / relative) as temporary:
        shutil.copyfile(source, temporary)


def _unpack(archive: Path, folder: Path, progress: Callable[[str, int], None]) -> None:
    """Unpack into a folder that appears whole; a single folder at the top of the archive is the folder itself."""
    with publish_folder(folder) as temporary:
        try:
            with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as packed:
                for number, member in enumerate(packed, 1):
                    packed.extract(member, temporary, filter="data")  # refuses what would lie outside
                    progress(folder.name, number)
                while stream.read(1 << 20):  # to the checksum: tarfile is content with an archive that is cut off
                    pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            cure = "delete it and run the same command again"
            raise InputError(f"{archive}: is not a whole archive that can be trusted ({error}); {cure}") from error
        inside = [*temporary.iterdir()]
        if len(inside) == 1 and inside[0].is_dir():
            top = inside[0].rename(temporary / f".{inside[0].name}.top")
            for child in top.iterdir():
                child.rename(temporary / child.name)
            top.rmdir()
