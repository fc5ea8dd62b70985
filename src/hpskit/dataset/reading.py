"""Open a data set by path or name: find its files, know its layout, read it as groups."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpskit.dataset.formats.contract import Entries, Format
from hpskit.dataset.formats.hpdv2 import TEST, TRAIN
from hpskit.dataset.formats.hpdv3 import HPDV3
from hpskit.dataset.formats.imagereward import DATABASE, IMAGEREWARD
from hpskit.dataset.formats.ours import PAIRS, RANKINGS
from hpskit.dataset.formats.parquet import PARQUET
from hpskit.dataset.formats.pickapic import PICKAPIC
from hpskit.dataset.formats.shards import INDEX, LAYOUT, SHARDS, UNFINISHED, Shards, open_shards
from hpskit.dataset.group import Group
from hpskit.errors import ImageError, InputError, RecordError
from hpskit.files import expand, explain
from hpskit.hub import home
from hpskit.rows import Filled, Report, read_entries, read_row_group, refuse, row_groups

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FORMATS", "DataSet", "Part", "open_carried", "open_data"]

FORMATS = {
    layout.name: layout for layout in (TEST, TRAIN, IMAGEREWARD, DATABASE, PICKAPIC, HPDV3, RANKINGS, PAIRS, PARQUET)
}
"""Every layout of rows in files, by its name; shards are known by their index."""

_SUFFIXES = (".json", ".jsonl", ".parquet")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")
_ROW = 4096
"""Bytes of a group in memory besides its images: ten images and ten judgements."""
_LOOKED_AT = 100
"""Rows by which a layout is known, in case that the first ones are broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Consecutive groups of a data set that carries its images, which can be read without those before them."""

    place: str
    """What it is, for errors."""
    groups: int
    size: int
    """Bytes that it takes in memory, about."""
    entries: Callable[[], Entries]
    """Its rows with their images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """Groups of images that people have judged, read anew from the files at each iteration."""

    path: Path
    """The file, or the folder of shards."""
    files: tuple[Path, ...]
    """What is read, in order."""
    layout: Format
    name: str
    """For reports: the folder and the file, or the name on the hub."""
    image_root: Path
    """Where image names start from."""
    shards: Shards | None = None
    """What is read instead of files, if the data set is in shards."""

    @property
    def format(self) -> str:
        """The name of the layout, a key of `FORMATS`."""
        return self.layout.name

    def __iter__(self) -> Iterator[Group]:
        """Every group, in order.

        Raises:
            RecordError: a row is broken; file and row are named.
            InputError: the file cannot be read.
        """
        return self.groups()

    def groups(self, report: Report = refuse) -> Iterator[Group]:
        """Every group; what is wrong with a row is told to `report`, and the next is read if that is possible."""
        return self.layout.read(self._entries(report), report)

    def _entries(self, report: Report) -> Entries:
        if self.shards is not None:
            for part in self.parts():
                yield from part.entries()
        for path in self.files:
            try:
                yield from read_entries(path, report, fields=self.layout.needs)
            except RecordError as error:
                report(error)

    def parts(self) -> tuple[Part, ...]:
        """All groups in pieces, in order, where rows have images in them; else none.

        Raises:
            InputError: a file cannot be read.
        """
        if self.shards is not None:
            return tuple(
                Part(place=place, groups=block.groups, size=block.size, entries=entries)
                for block, place, entries in self.shards.blocks()
            )
        return tuple(
            Part(
                place=f"{path}: row group {number}",
                groups=rows,
                size=size + _ROW * rows,
                entries=partial(read_row_group, path, number),
            )
            for path, number, rows, size, _ in self._row_groups()
        )

    def _row_groups(self) -> Iterator[tuple[Path, int, int, int, Filled]]:
        for path in self.files if self.layout.carries else ():
            if path.suffix.lower() == ".parquet":
                for number, (rows, size, filled) in enumerate(row_groups(path, self.layout.carries)):
                    yield path, number, rows, size, filled

    @property
    def carries_images(self) -> bool:
        """Whether images are in tar files or in rows of parquet files, so that not all are files of their own.

        Raises:
            InputError: a file cannot be read.
        """
        return self.shards is not None or any(filled != "none" for *_, filled in self._row_groups())

    def read_part(self, part: Part) -> Iterator[Group]:
        """The groups of a part, with the images that they carry.

        Raises:
            RecordError: a row is broken.
            InputError: the part cannot be read.
        """
        return self.layout.read(part.entries(), refuse)

    def outline(self) -> Iterator[Group]:
        """Every group, in order, without the images that the data set carries: little is read.

        Raises:
            RecordError: a row is broken.
            InputError: a file cannot be read.
        """
        if self.shards is not None:
            return self.layout.read(self.shards.rows(), refuse)
        carries = self.layout.carries
        groups = ((path, number) for path, number, *_ in self._row_groups())
        entries = itertools.chain.from_iterable(read_row_group(*place, without=carries) for place in groups)
        first = next(entries, None)
        if first is None:
            return self.groups()
        return self.layout.read(itertools.chain([first], entries), refuse)

    def with_files(self) -> Iterator[tuple[Group, tuple[str, ...]]]:
        """Every group as `outline` gives it, and the names of those of its images that are files.

        Little is read: the images that rows carry only where some of a row group are carried and some are not.

        Raises:
            RecordError: a row is broken.
            InputError: a file cannot be read.
        """
        row_groups = [*self._row_groups()]
        if not row_groups:
            for group in self.outline():
                yield group, () if self.shards is not None else group.images
        for path, number, _, _, filled in row_groups:
            entries = read_row_group(path, number, without=() if filled == "some" else self.layout.carries)
            for group in self.layout.read(entries, refuse):
                files = tuple(name for name in group.images if filled != "all" and name not in group.embedded)
                yield replace(group, embedded={}), files

    def with_contents(self) -> Iterator[Group]:
        """Every group, with what tells its images apart: their bytes or their contents, if they are no files.

        Raises:
            RecordError: a row is broken.
            InputError: a file cannot be read.
        """
        return self.groups() if self.shards is None else self.outline()

    def image_path(self, name: str) -> Path:
        """Where the file of an image is expected."""
        return self.image_root / name

    def image(self, group: Group, name: str) -> Path | Image.Image:
        """An image of a group: the path of its file, or an image opened from embedded bytes, not decoded yet.

        Raises:
            RecordError: there is no such file, or it is empty, or the bytes are no image.
        """
        from hpskit import pixels

        data = group.embedded.get(name)
        try:
            if data is not None:
                return open_carried(data)
            pixels.check_file(self.image_path(name))
        except ImageError as error:
            cure = "bring the image or remove the row; `hpskit data inspect` lists all, --image-root names their folder"
            raise RecordError(f"{group.place}: image {name!r}: {error}; {cure}") from error
        return self.image_path(name)


def open_carried(data: bytes) -> Image.Image:
    """An image whose bytes a data set carries, not decoded yet.

    Raises:
        ImageError: they are no image.
    """
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # formats raise what they like while their headers are read
        raise ImageError(f"{len(data):,} embedded bytes are not an image that can be opened") from error


def open_data(
    path_or_name: str | os.PathLike[str],
    *,
    format: str = "auto",  # noqa: A002  # the name of the option
    image_root: str | os.PathLike[str] | None = None,
) -> DataSet:
    """Open a data set.

    Args:
        path_or_name: a file; a folder with one data set in it; FOLDER/SPLIT for the parquet shards of one split; the
            folder or the address (`s3://bucket/folder`) of what `hpskit data shards` has written; or the name of a
            data set that `hpskit data fetch` has brought, such as `ymhao/HPDv2`, alone or followed by /FILE or
            /SPLIT.
        format: a key of `FORMATS`, or `auto`: the layout is known by the fields of the first rows.
        image_root: folder that image names start from; None is the layout's folder beside the file if there is one
            (`test`, `train`, `images`), else the folder of the file.

    Raises:
        InputError: there is no such thing, or it is not clear which file or layout is meant.
    """
    if format != "auto" and format not in FORMATS:
        raise InputError(f"--format: is {format!r}, expected auto or one of {', '.join(FORMATS)}")
    path, name = _path(path_or_name)
    if (shards := _root_of_shards(str(path_or_name), path)) is not None:
        return _open_shards(shards, path, format=format, image_root=image_root)
    files = _files(path)
    layout = _detect(files[0]) if format == "auto" else FORMATS[format]
    if image_root is None:
        beside = (files[0].parent / folder for folder in layout.folders)
        root = next((folder for folder in beside if folder.is_dir()), files[0].parent)
    else:
        root = Path(image_root)
        if not root.is_dir():
            raise InputError(f"{root}: is not a folder, expected the one that image names start from")
    return DataSet(path=path, files=files, layout=layout, name=name, image_root=root)


def _root_of_shards(given: str, path: Path) -> str | None:
    """Where shards are, if this is an address, or a folder that says that it holds some."""
    if re.match(r"[a-z][a-z0-9+.-]+://", given):
        return given
    if (path / UNFINISHED).exists():
        raise InputError(f"{path}: is not finished; run the same `hpskit data shards` again, which continues it")
    try:
        with (path / INDEX).open("rb") as handle:
            return str(path) if LAYOUT.encode() in handle.read(200) else None
    except (OSError, ValueError):  # no such folder, or nothing in it that is an index; a NUL in the name
        return None


def _open_shards(root: str, path: Path, *, format: str, image_root: str | os.PathLike[str] | None) -> DataSet:  # noqa: A002
    for option, given in (("--format", format != "auto"), ("--image-root", image_root is not None)):
        if given:
            raise InputError(
                f"{option}: is given with {root}, whose index says the layout and the images; leave it out"
            )
    shards = open_shards(root)
    name = shards.root if "://" in root else path.resolve().name
    return DataSet(path=path, files=(), layout=SHARDS, name=name, image_root=path, shards=shards)


def _path(path_or_name: str | os.PathLike[str]) -> tuple[Path, str]:
    path = expand(path_or_name)
    owner, *parts = str(path_or_name).split("/")
    if parts and not path.exists():
        fetched = home() / "datasets" / f"{owner}--{parts[0]}"
        if fetched.is_dir():
            return fetched.joinpath(*parts[1:]), str(path_or_name)
    whole = path.resolve()
    return path, whole.name if path.is_dir() else f"{whole.parent.name}/{whole.name}"


def _files(path: Path) -> tuple[Path, ...]:
    try:
        if path.is_file():
            return (path,)
        if path.is_dir():
            return _in_folder(path)
        found = (_shards(path.parent) or _shards(path.parent / "data")).get(path.name)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({explain(error)})") from error
    if found:
        return found
    cure = "check the path; a data set of the hub is brought by `hpskit data fetch NAME`"
    raise InputError(f"{path}: no such file or folder; {cure}")


def _in_folder(folder: Path) -> tuple[Path, ...]:
    candidates: dict[str, tuple[Path, ...]] = {
        path.name: (path,) for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES and path.is_file()
    }
    shards = _shards(folder) or _shards(folder / "data")
    for split, paths in shards.items():
        candidates = {name: files for name, files in candidates.items() if files[0] not in paths}
        candidates[split] = paths
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        raise InputError(f"{folder}: has no {', '.join(_SUFFIXES)} file in it, expected a data set")
    names = ", ".join(candidates)
    raise InputError(
        f"{folder}: holds several files or splits ({names}), expected one; name it: {folder}/{names.split(',')[0]}"
    )


def _shards(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The parquet shards of a folder by split, as the hub names them: `test-00000-of-00003.parquet`."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        if match := _SHARD.fullmatch(path.name):
            splits.setdefault(match[1], []).append(path)
    return {split: tuple(paths) for split, paths in splits.items()}


def _detect(path: Path) -> Format:
    """The layout whose fields the first rows have that can be read."""
    broken: list[RecordError] = []

    def report(error: RecordError) -> None:
        if not broken:
            broken.append(error)

    for fields in (frozenset[str](), *(layout.needs for layout in FORMATS.values())):
        found: set[str] = set()
        for _, value in itertools.islice(read_entries(path, report, fields=fields), _LOOKED_AT):
            found |= value.keys()
            if fitting := [layout for layout in FORMATS.values() if layout.needs <= value.keys()]:
                return max(fitting, key=lambda layout: len(layout.needs))
        if found:
            raise _unknown(path, found)
        if not broken:
            raise InputError(f"{path}: holds no rows, expected a data set")
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: is not JSON, expected a data set, which is a {', '.join(_SUFFIXES)} file or shards")
    raise broken[0]


def _unknown(path: Path, found: set[str]) -> InputError:
    fields = ", ".join(sorted(found))
    layouts = "; ".join(f"{layout.name}: {', '.join(sorted(layout.needs))}" for layout in FORMATS.values())
    return InputError(
        f"{path}: fields {fields} are of no layout that is known ({layouts}); correct them or use --format"
    )
