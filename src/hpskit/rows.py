"""Reading rows: JSON arrays, JSON lines, CSV and parquet, streamed, with errors that name file and row."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from hpskit.errors import InputError, RecordError
from hpskit.files import explain

__all__ = ["Report", "read_entries", "read_rows", "refuse"]

Row = tuple[int, dict[str, Any]]
Report = Callable[[RecordError], None]
"""What is told of a broken row: it raises, or notes the error and lets the reader go on."""

_CHUNK = 1 << 20
"""Characters of a JSON array that are read at once."""
_BATCH = 32 << 20
"""Bytes of a parquet file that are decoded at once, about."""


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a `.jsonl`, `.csv` or `.parquet` file as (row number from 1, column -> value), streamed.

    Raises:
        InputError: unknown ending, or the file cannot be read.
        RecordError: a row is broken; file and row are named.
    """
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: ending is {path.suffix!r}, expected one of {', '.join(readers)}")
    with _readable(path):
        yield from reader(path)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What the operating system and the encoding have to say becomes an error of the file."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file, which is read more than once; save it first")
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({explain(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, (_, value) in enumerate(_jsonl_lines(path, refuse), 1):
        yield number, value


def refuse(error: RecordError) -> NoReturn:
    """The strict `Report`: the first broken row ends the reading."""
    raise error


def read_entries(path: Path, report: Report = refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a JSON array, of JSON lines or of a `.parquet` file, streamed, each with its place in words.

    Places read `a.json: entry 17 (line 301)`, `a.jsonl: line 17` and `a.parquet: row 17`. A broken line is told to
    `report`, and the next one is read; what is wrong with an array ends the reading.

    Raises:
        InputError: the file cannot be read, or is of no such kind.
        RecordError: an entry of an array is broken, or `report` raises.
    """
    with _readable(path):
        if path.suffix.lower() == ".parquet":
            for number, row in _parquet_rows(path):
                yield f"{path}: row {number}", row
            return
        with path.open(encoding="utf-8-sig") as handle:
            start = ""
            while not start.strip() and (chunk := handle.read(_CHUNK)):
                start += chunk
            if start.lstrip()[:1] == "[":
                yield from _array_entries(path, handle, start)
                return
        for number, value in _jsonl_lines(path, report):
            yield f"{path}: line {number}", value


class _ArrayText:
    """The part of a JSON array that is in memory, where its next entry starts, and on which line that is."""

    def __init__(self, path: Path, handle: TextIO, start: str) -> None:
        self.path, self.handle, self.text = path, handle, start
        self.at, self.entry, self._line, self._counted = 0, 0, 1, 0

    def place(self, at: int) -> str:
        """In words; `at` does not lie before the place that was asked for last."""
        self._line += self.text.count("\n", self._counted, at)
        self._counted = at
        return f"{self.path}: entry {self.entry} (line {self._line})"

    def more(self) -> bool:
        """Forget what has been read, and read on."""
        self.place(self.at)
        chunk = self.handle.read(_CHUNK)
        self.text, self.at, self._counted = self.text[self.at :] + chunk, 0, 0
        return bool(chunk)

    def token(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            match = _BLANK.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def object(self) -> dict[str, Any]:
        """The entry that starts here; what has not arrived yet is read."""
        while True:
            try:
                value, self.at = _DECODER.raw_decode(self.text, self.at)
                return value  # type: ignore[no-any-return]
            except json.JSONDecodeError as error:
                torn = error.pos > len(self.text) - 8 or error.msg.startswith("Unterminated string")
                if not (torn and self.more()):
                    raise RecordError(f"{self.place(max(self.at, error.pos))} is not JSON ({error.msg})") from error
            except (ValueError, RecursionError) as error:
                raise RecordError(f"{self.place(self.at)} is not JSON ({error})") from error


def _array_entries(path: Path, handle: TextIO, start: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """ijson 3.6 with its C parser takes half the time (0.2 s for 186,000 pairs), but cannot say on which line an entry
    is, and reading is a fifth of the work of an inspection."""
    text = _ArrayText(path, handle, start)
    text.token()
    text.at += 1
    found = text.token()
    while found != "]":
        text.entry += 1
        place = text.place(text.at)
        if found != "{":
            what = f"starts with {found!r}" if found else "is missing: the file ends here"
            raise RecordError(f"{place} {what}, expected an object {{…}}")
        yield place, text.object()
        found = text.token()
        if found == ",":
            text.at += 1
            found = text.token()
        elif found != "]":
            what = f"followed by {found!r}" if found else "the last: the file ends without ']'; it was cut off"
            raise RecordError(f"{text.place(text.at)} is {what}, expected ',' or ']'")
    text.at += 1
    if found := text.token():
        raise RecordError(f"{text.place(text.at)} and its ']' are followed by {found!r}, expected the end of the file")


def _jsonl_lines(path: Path, report: Report) -> Iterator[Row]:
    """Like `_jsonl_rows`, with numbers of lines."""
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                report(RecordError(f"{path}: line {number} is not JSON ({error})"))
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                report(RecordError(f"{path}: line {number} is {type(value).__name__}, expected an object {{…}}"))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_distinct)
_BLANK = re.compile(r"[ \t\r\n]*")


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        number = 0
        try:
            columns = next(reader, [])
            _check_columns(path, columns)
            for values in filter(None, reader):
                number += 1
                if len(values) != len(columns):
                    cure = "quote values that contain commas"
                    found = f"{len(values)} values for {len(columns)} columns"
                    raise RecordError(f"{path}: row {number} has {found}; {cure}")
                yield number, dict(zip(columns, values, strict=True))
        except csv.Error as error:
            raise RecordError(f"{path}: line {reader.line_num} is not CSV ({error})") from error


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise RecordError(f"{path}: column {name!r} is there twice; rename one")
    if len(columns) == 1 and (sign := re.search(r"[;\t]", columns[0])):
        raise RecordError(f"{path}: columns are separated by {sign[0]!r}, expected commas; save it with commas")


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa  # here, not above: it takes 0.1 s to import and only parquet files need it
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            _check_columns(path, table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=_batch_size(table.metadata)):
                try:
                    rows = batch.to_pylist()
                except (ValueError, OverflowError) as error:  # times that Python's own types cannot hold
                    where = f"rows {number + 1} to {number + batch.num_rows}"
                    cure = "save such columns as text"
                    raise RecordError(f"{path}: {where}: a value cannot be read ({_first(error)}); {cure}") from error
                for row in rows:
                    number += 1
                    yield number, row
    except RecordError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the content
        what = f"is damaged after row {number}" if number else "is not a parquet file, or a damaged one"
        raise InputError(f"{path}: {what} ({_first(error)})") from error


def _first(error: Exception) -> str:
    """The first line of a message that may have several."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _batch_size(metadata: Any) -> int:
    """Rows read at once: about 32 MB of them, because they may hold images."""
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return int(min(4096, max(1, _BATCH * metadata.num_rows // max(1, size))))
