"""Shards of rows to score, at paths and addresses, and their rows in blocks of a bounded size.

A shard is a file of rows, or some images of a folder with their prompts in text files beside them. Every row has a
position in its shard, also one that cannot be read: it comes with the reason then. The last block of a shard ends with
a row that says how many there were, so that whoever counts the output knows what should be there.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import json
import os
import posixpath
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import pyarrow as pa

from hpskit.errors import HpskitError, InputError, OutputError, RecordError, printable, shown
from hpskit.files import expand
from hpskit.pixels import Encoded
from hpskit.remote import pause
from hpskit.rows import Report, Row, guess, parquet_rows, read_entries, row_groups
from hpskit.scoring.addresses import Address, as_address
from hpskit.scoring.shards import IMAGES, read_shard
from hpskit.scoring.tables import ENDINGS, LOOKED_AT, Table, check_kinds, choose_columns, common_schema, unbraced

__all__ = ["END", "ROWS", "Columns", "Shard", "blocks", "columns_of", "find_shards", "reachable", "storage"]

ROWS = 512
"""Rows of a block, at most."""
BYTES = 64 << 20
"""Bytes of images in a block, about; one image may have more."""
TEXTS = ("shard", "id", "prompt", "path", "error")
SCHEMA = pa.schema({"position": pa.int64(), "image": pa.binary(), **dict.fromkeys(TEXTS, pa.string())})
"""A row to score: an image as bytes or as a path or address, or the reason why there is none."""
SHIFT = 32
"""A position is the number of the shard, from 0, times 2^32, and the number of the row in it, from 1."""
END = "end"
"""Stands in the place of an error in the row behind the last of a shard."""
_PICTURES = tuple(f".{kind}" for kind in IMAGES)
_IN_SHARD = 1_000
"""Images of a folder that are a shard, at most."""
_CAPTION = 1 << 20
"""Bytes that are read of a text beside an image."""
_READERS = 16
_ATTEMPTS = 4
Entry: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of rows, or images of a folder."""

    number: int
    name: str
    """What differs from the paths of the others; its ids and its part of the output are called so."""
    place: str
    """Path or address."""
    version: str
    """Changes if the file does: its size, and its tag or time."""
    images: tuple[str, ...] = ()
    """Their names in the folder that `place` is; empty if it is a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The columns that are read."""

    image: str
    prompt: str
    id: str = ""
    """Empty if rows are to be called SHARD:NUMBER."""


def storage(place: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a path or an address, and the path in it.

    Raises:
        InputError: nobody knows such addresses.
        MissingExtraError: what reads them is not installed.
    """
    named = as_address(place)
    with reachable(place):
        if not isinstance(named, Address):
            return fsspec.filesystem("file"), os.path.abspath(expand(named or place))  # noqa: PTH100  # links stay
        return fsspec.core.url_to_fs(place)  # type: ignore[no-any-return]


def is_local(files: fsspec.AbstractFileSystem) -> bool:
    """Tell whether a file system is that of this machine."""
    return "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))


@contextlib.contextmanager
def reachable(place: str, error: type[HpskitError] = InputError) -> Iterator[None]:
    """Turn what a file system raises into an error of the place: each service has exceptions of its own."""
    try:
        yield
    except HpskitError:
        raise
    except Exception as problem:
        behind = problem.__cause__  # fsspec calls what is behind a broken connection not found, too
        if isinstance(problem, FileNotFoundError) and isinstance(behind, OSError):
            problem = behind
        if isinstance(problem, FileNotFoundError):
            raise error(place, "is not there", cure="check the name") from problem
        found = f"cannot be reached ({printable(f'{type(problem).__name__}: {problem}', 300)})"
        raise error(place, found, cure="check the name, the network, and that you may go there") from problem


def find_shards(inputs: Iterable[str]) -> list[Shard]:
    """Find the files that names mean: folders, files, with braces and wildcards, at paths or addresses.

    Raises:
        InputError: nothing is there, it cannot be reached, or a file is of no kind that is read.
    """
    found: dict[str, str] = {}
    for text in inputs:
        for name in [text] if os.path.lexists(text) else unbraced(text):
            files, path = storage(name)
            with reachable(name):
                there = listed_files(files, path, name)
                versions = [version(files.info(one)) for one in there]
            for one, stamp in zip(there, versions, strict=True):
                place = one if is_local(files) else files.unstrip_protocol(one)
                if place in found:
                    raise InputError("--input", f"names {place} twice", expected="each file once")
                found[place] = stamp
    parts = {place: place.split("/") for place in found}
    folders = zip(*(one[:-1] for one in parts.values()), strict=False)
    depth = sum(1 for _ in itertools.takewhile(lambda level: len({*level}) == 1, folders))
    names = sorted(("/".join(one[depth:]), place) for place, one in parts.items())
    if names and all(place.lower().endswith(_PICTURES) for place in found):
        return of_images(names, found)
    check_kinds("--input", [*map(Path, found)])
    return [Shard(number, name, place, found[place]) for number, (name, place) in enumerate(names)]


def of_images(images: Iterable[tuple[str, str]], versions: Mapping[str, str]) -> list[Shard]:
    """Make shards of images, given by name and place; those of a folder are called FOLDER/1, FOLDER/2 and so on."""
    found, folders = list[Shard](), dict[tuple[str, str], list[str]]()
    for name, place in images:
        folder, file = posixpath.split(place)
        folders.setdefault((posixpath.dirname(name), folder), []).append(file)
    for (name, folder), files in folders.items():
        for first in range(0, len(files), _IN_SHARD):
            part = tuple(files[first : first + _IN_SHARD])
            stamp = hashlib.sha256(json.dumps([[one, versions[f"{folder}/{one}"]] for one in part]).encode())
            called = posixpath.join(name, str(first // _IN_SHARD + 1))
            found.append(Shard(len(found), called, folder, stamp.hexdigest(), part))
    return found


def listed_files(files: fsspec.AbstractFileSystem, path: str, name: str) -> list[str]:
    """List the files that one name means, in order."""
    if glob.has_magic(path) and not (is_local(files) and os.path.lexists(path)):
        found = sorted(files.glob(path))
        if not found:
            raise InputError(name, "fits no file", cure="check the path and the pattern")
    elif not path.lower().endswith(ENDINGS) and files.isdir(path):
        every = sorted(files.find(path))
        kinds = (ENDINGS, _PICTURES)  # images beside a table are those that it names
        found = next((some for kind in kinds if (some := [one for one in every if one.lower().endswith(kind)])), [])
        if not found:
            expected = f"files that end in {', '.join(ENDINGS)}; or images, each with its prompt in a .txt beside it"
            raise InputError(name, "has neither rows nor images", expected=expected)
    else:
        found = [path]
    return found


def version(info: Mapping[str, Any]) -> str:
    """Return what tells a file from another that comes to stand in its place."""
    tag = next((info[name] for name in ("ETag", "etag", "mtime", "LastModified", "updated") if info.get(name)), "")
    return f"{info.get('size')} {tag}"


@contextlib.contextmanager
def brought(shard: Shard) -> Iterator[Path]:
    """Bring a shard here for as long as the block lasts, if it is elsewhere; errors of the file speak of where it was.

    Raises:
        InputError: nobody gives it, after four attempts.
        OutputError: it has changed since it was listed.
    """
    files, path = storage(shard.place)
    if shard.images:
        yield Path(path)
        return
    with reachable(shard.place):
        if version(files.info(path)) != shard.version:
            cure = "score what is there now into another --output"
            raise OutputError(shard.place, "has changed since the run began", cure=cure)
    if is_local(files):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="hpskit-shard-") as folder:
        here = Path(folder) / posixpath.basename(path)
        for failed in range(_ATTEMPTS):
            try:
                with reachable(shard.place):
                    files.get_file(path, str(here))
                break
            except InputError:
                if failed == _ATTEMPTS - 1:
                    raise
            time.sleep(pause(failed, None))
        try:
            yield here
        except InputError as error:
            place = error.place.replace(str(here), shard.place)
            raise InputError(place, error.found, expected=error.expected, cure=error.cure) from error


def columns_of(shards: Sequence[Shard], columns: str, id_column: str) -> tuple[Columns, str]:
    """See which columns are what, from what a person said and the first shard; and return what was guessed, in words.

    Raises:
        InputError: there is no such column, or it is not clear which one is meant.
    """
    if shards[0].images:
        for option, value in (("--columns", columns), ("--id", id_column)):
            if value:
                raise InputError(
                    option, "goes with files of rows", cure="leave it out: images are called by their names"
                )
        return Columns(image="image", prompt="prompt"), ""
    for shard in shards:
        with brought(shard) as path:
            table = Table(name=shard.place, files=(path,))
            rows = (value for _, value in numbered(table, path) if not isinstance(value, InputError))
            table.columns = tuple(dict.fromkeys(name for row in itertools.islice(rows, LOOKED_AT) for name in row))
            if table.columns:
                choose_columns(table, columns)
                if id_column and id_column not in table.columns:
                    guess(path, "id", [], table.columns)
                return Columns(image=table.image, prompt=table.prompt, id=id_column), table.note
    raise InputError("--input", "has no row that can be read", expected="at least one with an image and a prompt")


def blocks(shard: Shard, columns: Columns, most: int = ROWS) -> Iterator[pa.Table]:
    """Read a shard in blocks of SCHEMA; the same ones each time, as Ray reads again what a lost process had read.

    Raises:
        InputError: it cannot be brought here.
        OutputError: it has changed since the run began.
    """
    rows, size = list[Entry](), 0
    with brought(shard) as path:
        for row in entries(shard, path, columns):
            rows.append(row)
            size += len(row.get("image") or b"")
            if len(rows) >= most or size >= BYTES or row.get("error") == END:
                yield pa.Table.from_pylist(rows, SCHEMA)
                rows, size = [], 0


def entries(shard: Shard, path: Path, columns: Columns) -> Iterator[Entry]:
    """Read the rows of a shard, one after the other, and behind them its end."""
    base, number = shard.number << SHIFT, 0
    for number, own in captioned(shard) if shard.images else tabled(shard, path, columns):
        row: Entry = {"position": base + number, "shard": shard.name, "id": f"{shard.name}:{number}"}
        try:
            if isinstance(own, InputError):
                raise own
            "".join(text for text in own.values() if isinstance(text, str)).encode()
            row |= own
        except InputError as error:
            row["error"] = str(error).replace(str(path), shard.place)
        except UnicodeEncodeError as error:
            row["error"] = f"{shard.place}: row {number}: is not Unicode text ({error.reason}); mend its encoding"
        yield row
    yield {"position": base + number + 1, "shard": shard.name, "id": shard.name, "error": END}


def captioned(shard: Shard) -> Iterator[tuple[int, Entry]]:
    """Read the prompts of the images of a folder: the text of `NAME.jpg` is `NAME.txt`."""
    files, root = storage(shard.place)

    def read(image: str) -> Entry:
        path = posixpath.join(root, image)
        own = {"id": posixpath.join(posixpath.dirname(shard.name), image)}
        own["path"] = path if is_local(files) else files.unstrip_protocol(path)
        text = posixpath.splitext(path)[0] + ".txt"
        try:
            with files.open(text, "rb") as handle:
                own["prompt"] = handle.read(_CAPTION).decode("utf-8-sig").strip()
            found = "" if own["prompt"] else "is empty"
        except FileNotFoundError:
            found = "is not there"
        except Exception as error:  # noqa: BLE001  # each service has its own
            found = f"cannot be read ({printable(f'{type(error).__name__}: {error}', 200)})"
        return own | ({"error": f"{text}: {found}, expected the prompt of {image}"} if found else {})

    with ThreadPoolExecutor(_READERS) as pool:
        yield from enumerate(pool.map(read, shard.images), 1)


def tabled(shard: Shard, path: Path, columns: Columns) -> Iterator[tuple[int, Entry | InputError]]:
    """Read the rows of a file; one that cannot be used comes as its error."""
    table = Table(name=shard.place, files=(path,), image=columns.image, prompt=columns.prompt)
    for number, value in numbered(table, path):
        own: Entry | InputError
        try:
            if isinstance(value, InputError):
                raise value
            own = {"prompt": table.prompt_of(value)} | picture(table, value, shard, number)
            own |= {"id": id_of(value, columns.id)} if columns.id else {}
        except InputError as error:
            own = error.alone()
        yield number, own


def numbered(table: Table, path: Path) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Number the rows of a file; one that cannot be read comes as its error, and so does what ends the reading."""
    broken, last = list[RecordError](), 0

    def unread(until: int) -> Iterator[tuple[int, InputError]]:
        for number in range(last + 1, until):
            yield number, broken[min(number - last, len(broken)) - 1]
        broken.clear()

    try:
        if table.typed and table.image in (schema := common_schema([path])).names:  # else each row says that it is not
            table.schema = schema
        for found, value in rows_of(table, path, broken.append):
            number = found or last + len(broken) + 1
            yield from unread(number)
            yield number, value
            last = number
        rows = sum(size for size, *_ in row_groups(path)) if table.typed else last + len(broken)
        yield from unread(rows + 1)
    except InputError as error:
        number = last + len(broken) + 1
        yield from unread(number)
        cure = f"{error.cure or 'mend it'}; nothing behind it was read"
        yield number, RecordError(error.place, error.found, expected=error.expected, cure=cure)


def rows_of(table: Table, path: Path, report: Report) -> Iterator[Row]:
    """Read the rows of a file, numbered from 1, or as 0 where they are counted with those that are reported."""
    if table.typed:
        return parquet_rows(path, report)
    if table.ending == ".tar":
        return read_shard(path, report)
    return ((0, value) for _, value in read_entries(path, report))


def id_of(row: Mapping[str, Any], column: str) -> str:
    """Return the id that a row brings."""
    found = row.get(column)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise RecordError(f"column {shown(column)}", f"is {shown(found, 40)}", expected="a text or a whole number")
    return str(found)


def picture(table: Table, row: Mapping[str, Any], shard: Shard, number: int) -> Entry:
    """Find the image of a row: its bytes and how errors call it, or where it is; relative names start at the shard."""
    named = row.get(table.image)
    if isinstance(named, dict) and named.get("bytes") is None:
        named = named.get("path")
    elsewhere = isinstance(as_address(shard.place), Address)
    if elsewhere and isinstance(named, str) and named.strip() and as_address(named) is None and named[0] != "/":
        return {"path": posixpath.join(posixpath.dirname(shard.place), named)}
    image = table.picture(row, Path(shard.place).parent, None)
    if isinstance(image, Encoded):
        return {"image": image.data, "path": f"{shard.place}: row {number}: {image.place}"}
    return {"path": image.url if isinstance(image, Address) else str(image)}
