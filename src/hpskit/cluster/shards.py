"""Shards of rows to score, at paths and addresses, and their rows in blocks of a bounded size.

A shard is a file of rows, or some images of a folder with their prompts in text files beside them. Every row has a
position in its shard, also one that cannot be read: it comes with the reason then. The last block of a shard ends with
a row that says how many there were, so that whoever counts the output knows what should be there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import posixpath
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import pyarrow as pa

from hpskit.errors import HpskitError, ImageError, InputError, OutputError, RecordError, listed, printable, shown
from hpskit.files import expand
from hpskit.pixels import Encoded
from hpskit.remote import pause
from hpskit.rows import Report, Row, parquet_rows, read_entries, row_groups
from hpskit.scoring.addresses import Address, as_address
from hpskit.scoring.shards import read_shard
from hpskit.scoring.tables import LOOKED_AT, Table, choose_columns, common_schema

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
_CAPTION = 1 << 16
"""Bytes of a text beside an image, at most."""
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
    images: tuple[tuple[str, str], ...] = ()
    """Their names in the folder that `place` is, each with that of its prompt, or none; empty if it is a file."""


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


def is_missing(error: BaseException) -> bool:
    """Tell whether an error says that something is not there; fsspec says so of broken connections, too."""
    behind = error.__cause__
    broken = isinstance(behind, OSError) and not isinstance(behind, FileNotFoundError)
    return isinstance(error, FileNotFoundError) and not broken


@contextlib.contextmanager
def reachable(place: str, error: type[HpskitError] = InputError) -> Iterator[None]:
    """Turn what a file system raises into an error of the place: each service has exceptions of its own."""
    try:
        yield
    except HpskitError:
        raise
    except Exception as problem:
        if is_missing(problem):
            raise error(place, "is not there", cure="check the name") from problem
        said = problem.__cause__ if isinstance(problem, FileNotFoundError) else problem
        found = f"cannot be reached ({printable(f'{type(said).__name__}: {said}', 300)})"
        raise error(place, found, cure="check the name, the network, and that you may go there") from problem


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
        patiently(shard.place, lambda: files.get_file(path, str(here)))
        try:
            yield here
        except InputError as error:
            place = error.place.replace(str(here), shard.place)
            raise InputError(place, error.found, expected=error.expected, cure=error.cure) from error


def patiently(place: str, bring: Callable[[], Any]) -> Any:
    """Bring something from elsewhere, with four attempts; the error is that of the last."""
    for failed in range(_ATTEMPTS - 1):
        try:
            with reachable(place):
                return bring()
        except InputError:
            time.sleep(pause(failed, None))
    with reachable(place):
        return bring()


def columns_of(shards: Sequence[Shard], columns: str, id_column: str) -> tuple[Columns, str]:
    """See which columns are what, from what a person said and the first shard; and return what was guessed, in words.

    Raises:
        InputError: there is no such column, or it is not clear which one is meant.
    """
    if shards[0].images:
        for option, value in (("--columns", columns), ("--id", id_column)):
            if value:
                cure = "leave it out: images are called by their names"
                raise InputError(option, "goes with files of rows", cure=cure)
        return Columns(image="image", prompt="prompt"), ""
    broken = list[str]()
    for shard in shards:
        with brought(shard) as path:
            table = Table(name=shard.place, files=(path,))
            rows = readable(table, path, broken)
            table.columns = tuple(dict.fromkeys(name for row in itertools.islice(rows, LOOKED_AT) for name in row))
            if table.columns:
                choose_columns(table, columns)
                if id_column and id_column not in table.columns:
                    found = f"names {shown(id_column)}, which {shard.name} does not have"
                    raise InputError("--id", found, expected=f"one of {listed(map(shown, table.columns), 20)}")
                return Columns(image=table.image, prompt=table.prompt, id=id_column), table.note
    expected = "at least one with an image and a prompt"
    raise InputError("--input", f"has no row that can be read{''.join(broken)}", expected=expected)


def readable(table: Table, path: Path, broken: list[str]) -> Iterator[dict[str, Any]]:
    """Read the rows of a file that can be read; the reason of the first of all others is kept."""
    for _, value in numbered(table, path):
        if not isinstance(value, InputError):
            yield value
        elif not broken:
            broken.append(f" ({str(value).replace(str(path), table.name)})")


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
            size += len(row.get("image") or b"") + len(row.get("prompt") or "")
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
    """Read the prompts of the images of a folder.

    Raises:
        InputError: one that was there cannot be brought here.
    """
    files, root = storage(shard.place)

    def read(names: tuple[str, str]) -> Entry:
        image, caption = (posixpath.join(root, name) if name else "" for name in names)
        own = {"id": posixpath.join(posixpath.dirname(shard.name), names[0])}
        own["path"] = image if is_local(files) else files.unstrip_protocol(image)
        if not caption:
            return own | {"error": f"{own['path']}: has no prompt: {posixpath.splitext(names[0])[0]}.txt is not there"}
        try:
            own["prompt"] = text_of(files, caption)
        except ImageError as error:
            own["error"] = str(error)
        return own

    with ThreadPoolExecutor(_READERS) as pool:
        yield from enumerate(pool.map(read, shard.images), 1)


def text_of(files: fsspec.AbstractFileSystem, path: str) -> str:
    """Read the prompt of an image.

    Raises:
        ImageError: it is none.
        InputError: it cannot be brought here.
    """
    expected = f"a prompt of at most {_CAPTION:,} bytes"

    def bring() -> bytes:
        with files.open(path, "rb") as handle:
            return bytes(handle.read(_CAPTION + 1))

    if is_local(files):
        if not Path(path).is_file():  # a pipe would never end
            raise ImageError(path, "is no file", expected=expected)
        try:
            data = bring()
        except OSError as error:
            raise ImageError(path, f"cannot be read ({error.strerror})", cure="check its rights") from error
    else:
        data = patiently(path, bring)
    if len(data) > _CAPTION:
        raise ImageError(path, "is longer", expected=expected)
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ImageError(path, f"is not Unicode text ({error.reason})", expected=expected) from error
    if not text.strip():
        raise ImageError(path, "is empty", expected=expected)
    return text


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
