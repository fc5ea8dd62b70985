"""Data sets of the hub on this machine: annotations as they are, archives unpacked beside them.

$HPSKIT_HOME/datasets/OWNER--NAME/     what `open_data("OWNER/NAME")` reads
$HPSKIT_HOME/listings/                 which files the hub has, for a machine that is off the network
the Hugging Face cache                 the downloads; they may be deleted once the data set is there
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from hpskit.dataset.unpacking import ARCHIVE, part_order, unpack
from hpskit.errors import InputError
from hpskit.files import publish
from hpskit.hub import HubFile, home, hub_file, hub_files

__all__ = ["KNOWN", "Part", "Source", "Wanted", "fetch", "folder_of", "plan"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the parts of a published data set lie in its repository, as patterns like `data/test-*.parquet`."""

    splits: Mapping[str, tuple[str, ...]]
    """Split -> patterns of its files, each of which must be there; the first split is the usual one."""
    generators: str = ""
    """Pattern of the archive with the images of one generator, `{}` being its name; empty if there are none."""


_IMAGEREWARD = Source(
    splits={split: (f"metadata-{split}.parquet", f"images/{split}/*.zip") for split in ("test", "validation", "train")}
)
_PICKAPIC = Source(
    splits={
        split: (f"data/{split}-*.parquet",)
        for split in ("test", "test_unique", "validation", "validation_unique", "train")
    }
)
KNOWN: Mapping[str, Source] = {
    "ymhao/HPDv2": Source(splits={s: (f"{s}.json", f"{s}.tar.gz*") for s in ("test", "train")}),
    "zhwang/HPDv2": Source(
        splits={"benchmark": ("benchmark/*.json",), "test": ("test.json", "test.tar.gz*")},
        generators="benchmark/benchmark_imgs/{}.tar.gz*",
    ),
    "MizzenAI/HPDv3": Source(splits={s: (f"{s}.json", "images.tar.gz*") for s in ("test", "train")}),
    "THUDM/ImageRewardDB": _IMAGEREWARD,
    "zai-org/ImageRewardDB": _IMAGEREWARD,
    "yuvalkirstain/pickapic_v1": _PICKAPIC,
    "yuvalkirstain/pickapic_v2": _PICKAPIC,
}
"""The field's data sets. `THUDM` is called `zai-org` today; the hub knows both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to bring of a data set."""

    name: str
    """`OWNER/NAME` of a data set on the hub."""
    split: str | None = None
    """A key of `Source.splits`; None is the first."""
    files: tuple[str, ...] = ()
    """Paths in the repository, or patterns of them, instead of a split; a must for what is not in `KNOWN`."""
    generators: tuple[str, ...] = ()
    """Generators whose images to bring too, where the data set has them in archives of their own."""
    images: bool = True
    """Bring archives too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
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
        """Whether it is there already: an archive appears whole; a file has the size that the hub says."""
        target = folder / self.target
        if self.archive is not None:
            return target.is_dir() and any(target.iterdir())
        return target.is_file() and target.stat().st_size == self.files[0].size


def folder_of(name: str) -> Path:
    """This machine's own folder of a data set, where it is found by its name."""
    return home() / "datasets" / name.replace("/", "--")


def plan(wanted: Wanted) -> list[Part]:
    """What a fetch brings. The hub is asked which files there are; offline, the last answer counts.

    Raises:
        InputError: the name, the split or a generator is not known, or the data set has no such file.
        NotCachedError: the hub cannot be asked, and has not been before.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", wanted.name):
        raise InputError(f"{wanted.name!r}: is not the name of a data set on the hub, expected OWNER/NAME")
    patterns = _patterns(wanted)
    there = hub_files(wanted.name, cure=_cure(wanted.name))
    if not patterns:
        known = f"the splits of {', '.join(KNOWN)} are"
        raise InputError(f"{wanted.name}: is not known here ({known}); name files with --file: {_some(there)}")
    found: dict[str, HubFile] = {}
    for pattern in patterns:
        matching = {file.path: file for file in there if fnmatchcase(file.path, pattern)}
        if not matching:
            raise InputError(f"{wanted.name}: has no file {pattern}; name files with --file: {_some(there)}")
        found |= matching
    parts = _parts(found.values())
    return parts if wanted.images else [part for part in parts if part.archive is None]


def _patterns(wanted: Wanted) -> tuple[str, ...]:
    source = KNOWN.get(wanted.name)
    if wanted.generators and (source is None or not source.generators):
        having = ", ".join(name for name, other in KNOWN.items() if other.generators)
        raise InputError(f"--generator: {wanted.name} has no images by generator, expected one of {having}")
    images = tuple(source.generators.format(name) for name in wanted.generators) if source else ()
    if wanted.files or source is None:
        return wanted.files + images
    split = next(iter(source.splits)) if wanted.split is None else wanted.split
    if split not in source.splits:
        raise InputError(f"--split: is {split!r}, expected one of {', '.join(source.splits)} for {wanted.name}")
    return source.splits[split] + images


def _some(files: Iterable[HubFile]) -> str:
    """The first names of a listing; those of one folder and ending are one pattern."""
    paths = [PurePosixPath(file.path) for file in files]
    names = [str(path.with_name(f"*{''.join(path.suffixes[-2:])}") if path.parent.name else path) for path in paths]
    names = [*dict.fromkeys(names)]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _parts(files: Iterable[HubFile]) -> list[Part]:
    archives: dict[PurePosixPath, list[HubFile]] = {}
    parts = []
    for file in files:
        path = PurePosixPath(file.path)
        if match := ARCHIVE.fullmatch(path.name):
            archives.setdefault(path.with_name(f"{match['stem']}.{match['kind']}"), []).append(file)
        else:
            parts.append(Part(files=(file,), target=path, archive=None))
    for path, those in archives.items():
        match = ARCHIVE.fullmatch(path.name)
        assert match is not None
        order = tuple(sorted(those, key=lambda file: part_order(PurePosixPath(file.path).name)))
        parts.append(Part(files=order, target=path.with_name(match["stem"]), archive=path.name))
    return parts


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
    for part in plan(wanted):
        if not part.is_in(folder):
            _bring(wanted.name, part, folder, progress)
    return folder


def _bring(name: str, part: Part, folder: Path, progress: Callable[[str, int], None]) -> None:
    relative = part.target
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{name}: names a file {str(relative)!r}, expected one inside the repository; do not trust it")
    sources = [hub_file(name, file.path, repo_type="dataset", cure=_cure(name)) for file in part.files]
    if part.archive is not None:
        unpack(part.archive, sources, folder / relative, progress)
        return
    with publish(folder / relative, sweep=True) as temporary:
        if relative.suffix != ".parquet" or not _link(sources[0], temporary):
            shutil.copyfile(sources[0], temporary)


def _link(source: Path, target: Path) -> bool:
    """A second name for the same bytes, which nobody edits in a parquet file: 200 GB need not be there twice."""
    target.unlink()
    try:
        os.link(source.resolve(), target)
    except OSError:  # on another disk, or one that has no links: the caller copies
        return False
    return True


def _cure(name: str) -> str:
    return f"On a connected machine run `hpskit data fetch {name} --to DIR`, bring DIR here, and give it as PATH"
