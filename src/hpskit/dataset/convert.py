"""Convert a data set to another layout without loss; what the other cannot hold is an error, or is named."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from hpskit.dataset.formats import Loss
from hpskit.dataset.formats.hpd import test_rows, train_rows
from hpskit.dataset.formats.labelstudio import task_rows
from hpskit.dataset.formats.ours import RankingRows, pair_rows
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, OutputError, shown
from hpskit.files import publish, publish_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversion:
    """The result of a conversion."""

    out: Path
    groups: int
    images: int
    """Files of images written, or images embedded."""
    lost: Mapping[str, int]
    """Things that the target has no place for -> groups that have them; empty without `allow_loss`."""


Rows: TypeAlias = Callable[[Group, Loss], Iterator[dict[str, Any]]]
TEXT: dict[str, tuple[str, str, Callable[[], Rows]]] = {
    "hpdv2": ("test.json", "test", lambda: test_rows),
    "hpdv2-train": ("train.json", "train", lambda: train_rows),
    "jsonl": ("rankings.jsonl", "images", RankingRows),
    "pairs": ("pairs.jsonl", "images", lambda: pair_rows),
    "labelstudio": ("labelstudio.json", "images", lambda: task_rows),
}
"""Name of each text layout -> its file, the folder beside it that the images lie in, and what writes its rows."""


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
        InputError: `to` is unknown, or a loss is not allowed; the error names the group and what would be lost. Or an
            image lies outside of the data set's own folders; see `DataSet.own_image_path`.
        RecordError: a row of the data set is broken, or an image is missing or no image.
        OutputError: it cannot be written, or something stands there.
    """
    if to not in (*TEXT, "parquet"):
        raise InputError("--to", f"is {to!r}", expected=f"one of {', '.join(TEXT)}, parquet")
    if to == "parquet":
        return to_parquet(data, out, images, progress)
    lost: Counter[str] = Counter()

    def lose(place: str, what: str) -> None:
        if not allow_loss:
            cure = "--allow-loss leaves such things out, --to parquet keeps everything"
            raise InputError(place, f"does not fit: {to} has no place for {what}", cure=cure)
        lost[what] += 1

    number, written = 0, set[str]()
    file, images_folder, rows_of = TEXT[to]
    write = rows_of()
    with publish_folder(out) as folder:

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal number
            for number, group in enumerate(data, 1):
                yield from write(group, partial(lose, group.place))
                if images:
                    copy_images(data, group, folder / images_folder, written)
                progress(number)

        write_rows(rows(), folder / file)
    return Conversion(out=out, groups=number, images=len(written), lost=dict(lost))


def to_parquet(data: DataSet, out: Path, images: bool, progress: Callable[[int], None]) -> Conversion:
    """Write a data set as hpskit's parquet file, which holds everything; see `convert`."""
    if out.suffix.lower() != ".parquet":
        raise OutputError(out, f"ends in {out.suffix!r}", expected=".parquet")
    if os.path.lexists(out):
        raise OutputError(out, "exists", expected="a new file", cure="remove it or choose another")
    number = carried = 0
    with publish(out) as temporary, ParquetWriter(temporary) as writer:
        for number, group in enumerate(data, 1):
            carry = group.images if images else ()
            writer.write(replace(group, embedded={name: data.own_image(group, name).data for name in carry}))
            carried += len(carry)
            progress(number)
    return Conversion(out=out, groups=number, images=carried, lost={})


def write_rows(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """Write rows one in a line, as a JSON array or as JSON lines."""
    array = path.suffix == ".json"
    with path.open("w", encoding="utf-8") as handle:
        handle.write("[" if array else "")
        for number, row in enumerate(rows):
            text = json.dumps(row, ensure_ascii=False, allow_nan=False)
            handle.write(f"{',' if number else ''}\n{text}" if array else f"{text}\n")
        handle.write("\n]\n" if array else "")


def copy_images(data: DataSet, group: Group, folder: Path, written: set[str]) -> None:
    """Write the images of a group, as files under their names, that are not yet in `written`, and add them to it."""
    for name in group.images:
        if name in written and name not in group.embedded:
            continue
        place, target = f"{group.place}: image {shown(name)}", folder / name
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name:
            cure = "convert with --no-images, or rename the image"
            raise InputError(place, "would lie outside the new folder", cure=cure)
        content = data.own_image(group, name).data
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            written.add(name)
        elif name not in written or target.read_bytes() != content:
            found = "is not the one of that name seen before, or that name was written in another way"
            raise InputError(place, found, cure="rename it")
