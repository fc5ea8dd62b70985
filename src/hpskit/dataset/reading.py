"""Open a data set by path or name: find its files, know its layout, read it as groups."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.dataset.formats import (
    Layout,
    choices,
    evalmuse,
    genaibench,
    hpd,
    imagereward,
    labelstudio,
    ours,
    parquet,
    pickapic,
    rapidata,
)
from hpskit.dataset.group import Group
from hpskit.errors import ImageError, InputError, RecordError, shown
from hpskit.files import check_regular, expand, explain, inside
from hpskit.hub import home
from hpskit.rows import Filled, Report, read_entries, read_row_group, refuse, row_groups

if TYPE_CHECKING:
    from hpskit.pixels import Encoded

_LAYOUTS: tuple[type[Layout], ...] = (
    *(hpd.RankedRow, hpd.PairRow, imagereward.RankedRow, imagereward.ImageRow, pickapic.ChoiceRow, hpd.VotedRow),
    *(genaibench.VoteRow, rapidata.VotedRow, rapidata.ShareRow, evalmuse.ScoredRow),
    *(ours.RankingRow, ours.PairRow, parquet.WholeRow, labelstudio.TaskRow),
)
FORMATS = {layout.layout: layout for layout in _LAYOUTS}
"""Every layout, by its name."""

_SUFFIXES = (".json", ".jsonl", ".parquet")
_TABLES = (".csv", ".tsv")
"""Tables of choices alone; in a folder they are looked for where there is nothing else."""
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")
_ROW = 4096
"""Bytes of a group in memory besides its images: ten images and ten judgements."""
_LOOKED_AT = 100
"""Rows by which a layout is known, in case that the first ones are broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A row group of a parquet file that may carry images, which can be read without those before it."""

    path: Path
    number: int
    """In the file."""
    groups: int
    size: int
    """Bytes that it takes in memory, about."""
    filled: Filled
    """The share of its images that it carries."""

    @property
    def place(self) -> str:
        """File and number, for errors."""
        return f"{self.path}: row group {self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """Groups of images that people have judged, read anew from the files at each iteration.

    Whatever reads raises a RecordError where a row is broken, which names file and row, and an InputError where a file
    cannot be read.
    """

    path: Path
    """The file or folder that was opened."""
    files: tuple[Path, ...]
    """The files that are read, in order."""
    layout: type[Layout] | choices.ChoiceTable
    name: str
    """For reports: the folder and the file, or the name on the hub."""
    image_root: Path
    """The folder that image names start from."""
    allow_outside: bool = False
    """Whether images of other folders may be copied, embedded or shown too."""

    @property
    def format(self) -> str:
        """The name of the layout, a key of `FORMATS` or `choices`."""
        return self.layout.layout

    def __iter__(self) -> Iterator[Group]:
        return self.groups()

    def groups(self, report: Report = refuse) -> Iterator[Group]:
        """Read every group, in order; `report` receives the error of a broken row, and the next one is read."""
        entries = itertools.chain.from_iterable(read_entries(path, report) for path in self.files)
        return self.layout.read(entries, report)

    def parts(self) -> tuple[Part, ...]:
        """List the row groups, in order, where rows may have images in them; else there is none."""
        carries = self.layout.carries
        return tuple(
            Part(path=path, number=number, groups=rows, size=size + _ROW * rows, filled=filled)
            for path in self.files
            if carries and path.suffix.lower() == ".parquet"
            for number, (rows, size, filled) in enumerate(row_groups(path, carries))
        )

    def read_part(self, part: Part) -> Iterator[Group]:
        """Read the groups of a part, with the images that they carry."""
        return self.layout.read(read_row_group(part.path, part.number), refuse)

    def outline(self) -> Iterator[Group]:
        """Read every group, in order, without the images that the data set carries: little is read."""
        return (group for group, _ in self.with_files())

    def with_files(self) -> Iterator[tuple[Group, tuple[str, ...]]]:
        """Read every group as `outline` gives it, and the names of those of its images that are files.

        Images in rows are read only where a row group has some of them and others are files.
        """
        parts = self.parts()
        if not parts:
            yield from ((group, group.images) for group in self)
        for part in parts:
            without = () if part.filled == "some" else self.layout.carries
            for group in self.layout.read(read_row_group(part.path, part.number, without=without), refuse):
                files = tuple(name for name in group.images if part.filled != "all" and name not in group.embedded)
                yield replace(group, embedded={}), files

    def image_path(self, name: str) -> Path:
        """Return where the file of an image is expected."""
        return self.image_root / name

    def own_image_path(self, group: Group, name: str) -> Path:
        """Return where an image's file is expected, if it may be copied, embedded or shown: see `files.inside`.

        Raises:
            InputError: it lies outside of the data set's own folders, and that is not allowed.
        """
        path = self.image_path(name)
        if self.allow_outside:
            return path
        folders = (self.image_root, *dict.fromkeys(file.parent for file in self.files))
        return inside(path, folders, f"{group.place}: image {shown(name)}")

    def own_image(self, group: Group, name: str) -> Encoded:
        """Read an image to copy or embed it: one that rows carry, or a file of the data set's own; see `encoded`.

        Raises:
            InputError: see `own_image_path`.
        """
        if name not in group.embedded:
            self.own_image_path(group, name)
        return self.encoded(group, name)

    def encoded(self, group: Group, name: str) -> Encoded:
        """Read the bytes of an image, which begin like one.

        Raises:
            RecordError: see `image`; or a file begins like no image.
        """
        from hpskit.pixels import Encoded, check_head

        with self._usable(group, name):
            data = group.embedded.get(name)
            found = Encoded.read(self.image_path(name)) if data is None else Encoded(data, name)
            check_head(found)
        return found

    def image(self, group: Group, name: str) -> Path | Encoded:
        """Return the path of an image's file, or its bytes if the data set carries them; both can be scored and opened.

        Raises:
            RecordError: there is no such file, or it is empty, or the bytes are no image.
        """
        from hpskit import pixels

        with self._usable(group, name):
            if (data := group.embedded.get(name)) is not None:
                encoded = pixels.Encoded(data, f"{len(data):,} bytes")
                pixels.check_head(encoded)
                return encoded
            pixels.check_file(self.image_path(name))
        return self.image_path(name)

    def missing(self, images: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
        """Look for image files, without opening them.

        Args:
            images: name -> place of the group that names it.

        Yields:
            Of each that is not there or empty: name, `missing image` or `empty image`, and a line that says where.
        """
        there: dict[str, frozenset[str] | None] = {}  # of each folder, listed once: most sets miss all images or none
        for name, place in images.items():
            path = os.path.join(self.image_root, name)  # noqa: PTH118  # ten times as fast as Path, like what follows
            folder, _, own = path.rpartition(os.sep)
            if folder not in there:
                there[folder] = _names_in(folder)
            known, reason = there[folder], ""
            try:
                gone = known is not None and own not in known and len(own) < 200  # else the disk says why
                status = None if gone else os.stat(path)  # noqa: PTH116
            except (OSError, ValueError) as error:
                status, reason = None, "" if isinstance(error, FileNotFoundError) else f" ({explain(error)})"
            if status is None:
                yield name, "missing image", f"{place}: image {shown(name)} is not in {folder}{reason}"
            elif not stat.S_ISREG(status.st_mode):
                yield name, "missing image", f"{place}: image {shown(name)} is no file"
            elif not status.st_size:
                yield name, "empty image", f"{place}: image {shown(name)} has 0 bytes in {folder}"

    @contextlib.contextmanager
    def _usable(self, group: Group, name: str) -> Iterator[None]:
        """Turn the error of an image into one that names group and image."""
        try:
            yield
        except ImageError as error:
            cure = "bring the image or remove the row; `hpskit data inspect` lists all, --image-root names their folder"
            raise RecordError(f"{group.place}: image {shown(name)}", f"cannot be used ({error})", cure=cure) from error


def _names_in(folder: str) -> frozenset[str] | None:
    """List a folder; None if that cannot be done, or names may differ in capitals or accents from what is asked for."""
    if sys.platform in ("win32", "darwin"):
        return None
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208
    except OSError as error:
        return frozenset() if isinstance(error, FileNotFoundError) else None
    except ValueError:
        return None


def open_data(
    path_or_name: str | os.PathLike[str],
    *,
    format: str = "auto",  # noqa: A002  # the name of the option
    image_root: str | os.PathLike[str] | None = None,
    allow_outside: bool = False,
) -> DataSet:
    """Open a data set.

    Args:
        path_or_name: a file; a folder with one data set in it; FOLDER/SPLIT for the parquet files of one split; or the
            name of a data set that `hpskit data fetch` has brought, such as `ymhao/HPDv2`, alone or followed by /FILE
            or /SPLIT.
        format: a key of `FORMATS`, or `auto`: the layout is known by the fields of the first rows. `choices`, or what
            its columns are, as `first=NAME,second=NAME,winner=NAME`, is a table of pairwise choices.
        image_root: folder that image names start from; None is the layout's folder beside the file if there is one
            (`test`, `train`, `images`), else the folder of the file.
        allow_outside: see `DataSet`.

    Raises:
        InputError: there is no such thing, or it is not clear which file or layout is meant.
    """
    if format not in ("auto", "choices", *FORMATS) and "=" not in format:
        expected = f"auto or one of {', '.join(FORMATS)}, choices"
        raise InputError("--format", f"is {shown(format)}", expected=expected)
    path, name = locate(path_or_name)
    files = find_files(path)
    layout = FORMATS[format] if format in FORMATS else detect(files[0], format)
    if image_root is None:
        beside = (files[0].parent / folder for folder in layout.folders)
        root = next((folder for folder in beside if folder.is_dir()), files[0].parent)
    else:
        root = Path(image_root)
        if not root.is_dir():
            raise InputError(root, "is not a folder", expected="the one that image names start from")
    return DataSet(path=path, files=files, layout=layout, name=name, image_root=root, allow_outside=allow_outside)


def locate(path_or_name: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the path that is meant, which may be that of a fetched data set, and its name for reports."""
    path = expand(path_or_name)
    owner, *parts = str(path_or_name).split("/")
    if parts and not os.path.lexists(path):
        fetched = home() / "datasets" / f"{owner}--{parts[0]}"
        if fetched.is_dir():
            return fetched.joinpath(*parts[1:]), str(path_or_name)
    whole = Path(os.path.realpath(path))
    return path, whole.name if path.is_dir() else f"{whole.parent.name}/{whole.name}"


def find_files(path: Path) -> tuple[Path, ...]:
    """Find the files of a data set: this one, the only one in this folder, or those of this split."""
    try:
        if path.is_file():
            return (path,)
        if not path.is_dir():
            found = splits(path.parent).get(path.name)
            if not found:
                if os.path.lexists(path):
                    check_regular(path)
                cure = "check the path; a data set of the hub is brought by `hpskit data fetch NAME`"
                raise InputError(path, "no such file or folder", cure=cure)
            return found
        names = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        by_split = splits(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"cannot be read ({explain(error)})", cure="check the path") from error
    parts = {file for files in by_split.values() for file in files}
    candidates = {file.name: (file,) for file in names if file not in parts} | by_split
    candidates = candidates or {file.name: (file,) for file in sorted(path.iterdir()) if file.suffix in _TABLES}
    if not candidates:
        raise InputError(path, "has no data set in it", expected=f"a {', '.join((*_SUFFIXES, *_TABLES))} file")
    if len(candidates) > 1:
        found_names = ", ".join(candidates)
        cure = f"name it: {path}/{next(iter(candidates))}"
        raise InputError(path, f"holds several files or splits ({found_names})", expected="one", cure=cure)
    return next(iter(candidates.values()))


def splits(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Find the parquet files of each split, as the hub names them: `test-00000-of-00003.parquet`, or so in `data`."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.glob("*.parquet")):
        if match := _SHARD.fullmatch(path.name):
            found[match[1]] = (*found.get(match[1], ()), path)
    return found or (splits(folder / "data") if folder.name != "data" else {})


def detect(path: Path, format: str = "auto") -> type[Layout] | choices.ChoiceTable:  # noqa: A002
    """Find the layout whose fields the first rows have that can be read; `format` may say that it is a table."""
    broken: list[RecordError] = []
    rows: list[dict[str, Any]] = []

    def report(error: RecordError) -> None:
        if not broken:
            broken.append(error)

    for _, value in itertools.islice(read_entries(path, report), _LOOKED_AT):
        rows.append(value)
        fitting = [layout for layout in FORMATS.values() if layout.needs() <= value.keys()]
        if fitting and format == "auto" and path.suffix.lower() not in _TABLES:
            return max(fitting, key=lambda layout: len(layout.needs()))
    if rows:
        return table_of(path, rows, format)
    if path.suffix.lower() not in (*_SUFFIXES, *_TABLES):
        raise InputError(path, "is not JSON", expected=f"a data set, which is a {', '.join(_SUFFIXES)} file")
    if broken:
        raise broken[0]
    raise InputError(path, "holds no rows", expected="a data set")


def table_of(path: Path, rows: list[dict[str, Any]], format: str) -> choices.ChoiceTable:  # noqa: A002
    """Read rows as a table of choices, or say which layouts there are."""
    try:
        return choices.choice_table(path, rows, format if "=" in format else "")
    except InputError as error:
        if format != "auto" or path.suffix.lower() in _TABLES or error.expected != choices.NO_TABLE:
            raise
        layouts = "; ".join(f"{name}: {', '.join(sorted(layout.needs()))}" for name, layout in FORMATS.items())
        fields = {name for row in rows for name in row}
        found = f"has fields of no layout that is known: {', '.join(sorted(fields))}"
        cure = "correct them, or name the columns of a table: --columns prompt=NAME,first=NAME,second=NAME,winner=NAME"
        raise InputError(path, found, expected=f"those of one ({layouts})", cure=cure) from error
