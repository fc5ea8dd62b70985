"""From one layout to another without loss; what the other cannot hold is an error, or is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hpskit.dataset.formats.hpdv2 import test_rows, train_rows
from hpskit.dataset.formats.ours import pair_rows, ranking_lines
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group
from hpskit.dataset.pairs import Loss
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, OutputError
from hpskit.files import publish, publish_folder

__all__ = ["TARGETS", "Conversion", "convert", "with_bytes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """What a conversion has written."""

    out: Path
    groups: int
    images: int
    """Files of images written, or images embedded."""
    lost: Mapping[str, int]
    """What the target has no place for -> in how many groups; empty without `allow_loss`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Target:
    """A text layout: a file, and a folder for the images beside it."""

    file: str
    folder: str
    rows: Callable[[Group, int, Loss, set[str]], Iterator[dict[str, Any]]]
    """From a group, its number, and the names of the groups before, to which it adds its own."""
    array: bool
    """One JSON array, or JSON lines."""


def _ranking_rows(group: Group, number: int, lose: Loss, names: set[str]) -> Iterator[dict[str, Any]]:
    """Lines of `rankings.jsonl`, where one name is one group."""
    name = group.id
    if name is not None and name in names:
        lose("names that an earlier group has (written as a number)")
        group = replace(group, id=None)
    elif name is not None:
        names.add(name)
    yield from (line.to_json() for line in ranking_lines(group, number))


_TEXT = {
    "hpdv2": _Target(file="test.json", folder="test", rows=lambda g, _, lose, __: test_rows(g, lose), array=True),
    "hpdv2-train": _Target(
        file="train.json", folder="train", rows=lambda g, _, lose, __: train_rows(g, lose), array=True
    ),
    "jsonl": _Target(file="rankings.jsonl", folder="images", rows=_ranking_rows, array=False),
    "pairs": _Target(file="pairs.jsonl", folder="images", rows=lambda g, _, lose, __: pair_rows(g, lose), array=False),
}
TARGETS = (*_TEXT, "parquet")
"""What `convert` writes."""


def convert(
    data: DataSet,
    to: str,
    out: Path,
    *,
    images: bool = True,
    allow_loss: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Conversion:
    """Write a data set in another layout; it appears whole or not at all.

    Args:
        data: the data set.
        to: one of `TARGETS`.
        out: a `.parquet` file, or a new folder for the others.
        images: whether images travel with it, as files in a folder or as bytes in the parquet file.
        allow_loss: leave out what the target has no place for, and count it.
        progress: is told how many groups are done.

    Raises:
        InputError: `to` is unknown, or a loss is not allowed; the message names the group and what would be lost.
        RecordError: a row of the data set is broken, or an image is missing.
        OutputError: it cannot be written, or something stands there.
    """
    if to not in TARGETS:
        raise InputError(f"--to: is {to!r}, expected one of {', '.join(TARGETS)}")
    lost: Counter[str] = Counter()

    def lose(place: str, what: str) -> None:
        if not allow_loss:
            cure = "--allow-loss leaves such things out, --to parquet keeps everything"
            raise InputError(f"{place}: {to} has no place for {what}; {cure}")
        lost[what] += 1

    write = _write_parquet if to == "parquet" else _write_text
    groups, copied = write(data, to, out, images, lose, progress)
    return Conversion(out=out, groups=groups, images=copied, lost=dict(lost))


def _write_parquet(
    data: DataSet, _: str, out: Path, images: bool, __: Callable[[str, str], None], progress: Callable[[int], None]
) -> tuple[int, int]:
    if out.suffix.lower() != ".parquet":
        raise OutputError(f"{out}: ending is {out.suffix!r}, expected .parquet")
    groups = carried = 0
    with publish(out, sweep=True) as temporary, ParquetWriter(temporary) as writer:
        for groups, group in enumerate(data, 1):
            whole = with_bytes(data, group) if images else replace(group, embedded={})
            writer.write(whole)
            carried += len(whole.embedded)
            progress(groups)
    return groups, carried


def with_bytes(data: DataSet, group: Group) -> Group:
    """A group that carries all its images.

    Raises:
        RecordError: one is missing.
    """
    embedded = dict(group.embedded)
    for name in group.images:
        if name not in embedded:
            path = data.image(group, name)
            assert isinstance(path, Path)
            embedded[name] = path.read_bytes()
    return replace(group, embedded=embedded)


def _write_text(
    data: DataSet, to: str, out: Path, images: bool, lose: Callable[[str, str], None], progress: Callable[[int], None]
) -> tuple[int, int]:
    target = _TEXT[to]
    groups, names = 0, set[str]()
    with publish_folder(out) as temporary, (temporary / target.file).open("w", encoding="utf-8") as handle:
        copies = _Copies(data, temporary / target.folder) if images else None
        with _rows(handle, array=target.array) as write:
            for groups, group in enumerate(data, 1):
                for row in target.rows(group, groups, partial(lose, group.place), names):
                    write(row)
                if copies:
                    copies.take(group)
                progress(groups)
    return groups, len(copies.written) if copies else 0


@contextlib.contextmanager
def _rows(handle: IO[str], *, array: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write rows one in a line, as an array or as JSON lines."""
    first = True

    def write(row: Mapping[str, Any]) -> None:
        nonlocal first
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        handle.write(f"{'' if first else ','}\n{text}" if array else f"{text}\n")
        first = False

    handle.write("[" if array else "")
    yield write
    handle.write("\n]\n" if array else "")


class _Copies:
    """The images of a data set as files under their names, each written once."""

    def __init__(self, data: DataSet, folder: Path) -> None:
        self.data = data
        self.folder = folder
        self.written: dict[str, bytes | None] = {}
        """Name -> hash of embedded bytes, None of a file."""
        folder.mkdir()

    def take(self, group: Group) -> None:
        """Write the images of a group that are not there yet."""
        for name in group.images:
            data = group.embedded.get(name)
            digest = None if data is None else hashlib.sha256(data).digest()
            if name in self.written:
                if self.written[name] != digest:
                    raise InputError(
                        f"{group.place}: image {name!r} is not the one of that name seen before; rename it"
                    )
                continue
            self._write(group, name, data)
            self.written[name] = digest

    def _write(self, group: Group, name: str, data: bytes | None) -> None:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\\" in name or "\0" in name:
            cure = "convert with --no-images, or rename the image"
            raise InputError(f"{group.place}: image {name!r} would lie outside the new folder; {cure}")
        target = self.folder / relative
        if target.exists():
            raise InputError(f"{group.place}: image {name!r} is another way to write a name seen before; rename it")
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            target.write_bytes(data)
        else:
            source = self.data.image(group, name)
            assert isinstance(source, Path)
            shutil.copyfile(source, target)
