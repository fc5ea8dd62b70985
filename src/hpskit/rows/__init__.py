"""Reading rows: JSON arrays, JSON lines, CSV and parquet, streamed, with errors that name file and row."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

from hpskit.errors import InputError, RecordError
from hpskit.files import explain
from hpskit.rows.array import CHUNK, DECODER, RAW_BYTES, Report, array_entries

__all__ = ["Filled", "Report", "read_entries", "read_row_group", "read_rows", "refuse", "row_groups"]

Row = tuple[int, dict[str, Any]]

Filled = Literal["all", "none", "some"]
"""Whether columns have a value in every row; `some` also if the file does not say."""

_BATCH = 32 << 20
"""Bytes of a parquet file that are decoded at once, about."""


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a `.jsonl`, `.csv`, `.tsv` or `.parquet` file as (row number from 1, column -> value), streamed.

    Raises:
        InputError: unknown ending, or the file cannot be read.
        RecordError: a row is broken; file and row are named.
    """
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".jsonl": _jsonl_rows,
        ".csv": _csv_rows,
        ".tsv": _tsv_rows,
        ".parquet": partial(_parquet_rows, report=refuse),
    }
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


def read_entries(
    path: Path, report: Report = refuse, *, fields: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a JSON array, of JSON lines or of a `.parquet` file, streamed, each with its place in words.

    Places read `a.json: entry 17 (line 301)`, `a.jsonl: line 17` and `a.parquet: row 17`. What is wrong with an entry
    is told to `report`, and the next one is read. In an array that is the one after the bracket that closes the broken
    one; if none does, the next object that has all of `fields`.

    Raises:
        InputError: the file cannot be read, or is of no such kind.
        RecordError: `report` raises.
    """
    with _readable(path):
        if path.suffix.lower() == ".parquet":
            for number, row in _parquet_rows(path, report):
                yield f"{path}: row {number}", row
            return
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
            start = ""
            while not start.strip() and (chunk := handle.read(CHUNK)):
                start += chunk
            if start.lstrip()[:1] == "[":
                yield from array_entries(path, handle, start, report, fields)
                return
        for number, value in _jsonl_lines(path, report):
            yield f"{path}: line {number}", value


def _jsonl_lines(path: Path, report: Report) -> Iterator[Row]:
    """Like `_jsonl_rows`, with numbers of lines."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                report(RecordError(f"{path}: line {number} is not JSON ({error}); remove or mend it"))
                continue
            if not line.isascii() and RAW_BYTES.search(line):
                report(RecordError(f"{path}: line {number} has bytes that are not UTF-8 text; save the file as UTF-8"))
            elif isinstance(value, dict):
                yield number, value
            else:
                what = f"is {type(value).__name__}, expected an object {{…}}; remove or mend it"
                report(RecordError(f"{path}: line {number} {what}"))


def _tsv_rows(path: Path) -> Iterator[Row]:
    """Quotation marks are plain text, as in PartiPrompts and the registered type text/tab-separated-values."""
    for number, row in _separated_rows(path, delimiter="\t", quoting=csv.QUOTE_NONE):
        for name, value in row.items():
            if value[:1] == '"' == value[-1:] and '""' in value:
                cure = "save it without quoting, or as .csv with commas"
                raise RecordError(f"{path}: row {number}: {name} is quoted as in CSV ({value[:40]}…); {cure}")
        yield number, row


def _csv_rows(path: Path) -> Iterator[Row]:
    yield from _separated_rows(path, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _separated_rows(path: Path, *, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True, delimiter=delimiter, quoting=quoting)
        number = 0
        try:
            columns = next(reader, [])
            _check_columns(path, columns)
            for values in filter(None, reader):
                number += 1
                if len(values) != len(columns):
                    cure = (
                        "quote values that contain commas" if delimiter == "," else "each value is followed by one tab"
                    )
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
        cure = "name it .tsv" if sign[0] == "\t" else "save it with commas"
        raise RecordError(f"{path}: columns are separated by {sign[0]!r}, expected commas; {cure}")


def row_groups(path: Path, columns: Collection[str] = ()) -> list[tuple[int, int, Filled]]:
    """Rows of each row group of a parquet file, the bytes that they take in memory, and whether columns are filled.

    Only the end of the file is read. A list is filled if it is there and all of its items are.

    Raises:
        InputError: the file cannot be read or is not a parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path):
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            if _of_the_disk(error):
                raise
            raise InputError(f"{path}: is not a parquet file, or a damaged one ({_first(error)})") from error
        found = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        return [(group.num_rows, group.total_byte_size, _filled(group, columns)) for group in found]


def _filled(group: Any, columns: Collection[str]) -> Filled:
    """From what the file says of the gaps in the columns of a row group."""
    found = [group.column(number) for number in range(group.num_columns)]
    wanted = [column for column in found if column.path_in_schema.partition(".")[0] in columns]
    gaps: list[int | None] = [
        column.statistics.null_count if column.is_stats_set and column.statistics.has_null_count else None
        for column in wanted
    ]
    if all(count == column.num_values for count, column in zip(gaps, wanted, strict=True)):
        return "none"
    return "some" if any(count != 0 for count in gaps) else "all"


def read_row_group(
    path: Path, number: int, report: Report = refuse, *, without: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of one row group of a parquet file, as `read_entries` gives those of all; columns may be left out.

    Raises:
        InputError: the file cannot be read.
        RecordError: `report` raises.
    """
    with _readable(path):
        for row, value in _parquet_rows(path, report, only=number, without=without):
            yield f"{path}: row {row}", value


def _parquet_rows(
    path: Path, report: Report, *, only: int | None = None, without: Collection[str] = ()
) -> Iterator[Row]:
    import pyarrow as pa  # here, not above: it takes 0.1 s to import and only parquet files need it
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            _check_columns(path, table.schema_arrow.names)
            columns = [name for name in table.schema_arrow.names if name not in without] if without else None
            size, before = _batch_size(table.metadata), 0
            for group in range(table.num_row_groups):
                after = before + table.metadata.row_group(group).num_rows
                if only not in (None, group):
                    before = after
                    continue
                try:
                    for batch in table.iter_batches(size, row_groups=[group], columns=columns):
                        yield from _batch_rows(path, batch, before, report)
                        before += batch.num_rows
                except (pa.ArrowException, OSError) as error:
                    if _of_the_disk(error):
                        raise
                    what = f"rows {before + 1:,} to {after:,} are damaged ({_first(error)}); bring the file again"
                    report(RecordError(f"{path}: {what}"))
                before = after
    except (pa.ArrowException, OSError) as error:
        if _of_the_disk(error):
            raise
        raise InputError(f"{path}: is not a parquet file, or a damaged one ({_first(error)})") from error


def _of_the_disk(error: Exception) -> bool:
    """And not of the content."""
    return isinstance(error, OSError) and error.errno is not None


def _batch_rows(path: Path, batch: Any, before: int, report: Report) -> Iterator[Row]:
    """The rows of a batch; one by one if some of them cannot be read."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # times that Python's own types cannot hold, text that is not UTF-8
        for number in range(batch.num_rows):
            try:
                [row] = batch.slice(number, 1).to_pylist()
            except (ValueError, OverflowError) as error:
                what = f"a value cannot be read ({_first(error)}); save such columns as text"
                report(RecordError(f"{path}: row {before + number + 1}: {what}"))
            else:
                yield before + number + 1, row
    else:
        yield from enumerate(rows, before + 1)


def _first(error: Exception) -> str:
    """The first line of a message that may have several."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _batch_size(metadata: Any) -> int:
    """Rows read at once: about 32 MB of them, because they may hold images."""
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return int(min(4096, max(1, _BATCH * metadata.num_rows // max(1, size))))
