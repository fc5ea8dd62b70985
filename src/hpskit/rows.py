"""Read rows of JSON arrays, JSON lines, CSV and parquet files, one by one, with errors that name file and row."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO, TypeAlias

from hpskit.errors import InputError, RecordError, listed, shown
from hpskit.files import JSON, check_regular, explain
from hpskit.schema import nearest

Report: TypeAlias = Callable[[RecordError], None]
"""Receives the error of a broken row: it raises, or notes the error and lets the reader go on."""
Filled = Literal["all", "none", "some"]
"""Rows in which columns have a value; `some` also if the file does not say."""
Row: TypeAlias = tuple[int, dict[str, Any]]
PROMPT_NAMES = ("prompt", "caption", "text", "txt", "description", "prompt_text", "text_prompt")
"""Usual names of the column of the prompt, the documented one first."""

CHUNK = 1 << 20
"""Characters of a JSON array that are read at once."""
_BATCH = 32 << 20
"""Bytes of a parquet file that are decoded at once, about."""
_WORST = 1 << 31
"""Bytes that they may be where every row repeats the one value of a dictionary, which 3 kB of file can say."""
_LONGEST = 64 << 20
"""Characters of a row: nothing that people wrote has a millionth of it, but a file of zeros has no end of a line."""
_MEND = "correct it or remove it"
_BLANK = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, in text that is opened with `errors="surrogateescape"`."""


def refuse(error: RecordError) -> NoReturn:
    """Raise the error of the first broken row: the strict `Report`."""
    raise error


def read_rows(path: Path) -> Iterator[Row]:
    """Read rows of a `.jsonl`, `.csv`, `.tsv` or `.parquet` file as (row number from 1, column -> value).

    Raises:
        InputError: the ending is unknown, or the file cannot be read.
        RecordError: a row is broken; file and row are named.
    """
    ending = path.suffix.lower()
    with readable(path):
        if ending == ".jsonl":
            yield from enumerate((value for _, value in json_lines(path, refuse)), 1)
        elif ending in (".csv", ".tsv"):
            yield from separated_rows(path, tabs=ending == ".tsv")
        elif ending == ".parquet":
            yield from parquet_rows(path, refuse)
        else:
            raise InputError(path, f"ends in {ending!r}", expected=".jsonl, .csv, .tsv or .parquet", cure="convert it")


def read_entries(path: Path, report: Report = refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read entries of a JSON array, of JSON lines, or of a table, each with its place in words.

    A table is `.csv`, `.tsv` or `.parquet`. Places read `a.json: entry 17 (line 301)`, `a.jsonl: line 17` and
    `a.parquet: row 17`. `report` receives the error of a broken line, or of a broken part of a parquet file, and the
    next one is read. A JSON array or a CSV file ends where it is broken.

    Raises:
        InputError: the file cannot be read.
        RecordError: `report` raises.
    """
    with readable(path):
        ending = path.suffix.lower()
        if ending in (".parquet", ".csv", ".tsv"):
            table = ending == ".parquet"
            rows = parquet_rows(path, report) if table else separated_rows(path, tabs=ending == ".tsv")
            yield from ((f"{path}: row {number}", value) for number, value in rows)
            return
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
            array = _Array(path, handle)
            if array.sign() == "[":
                yield from array.entries(report)
                return
        yield from ((f"{path}: line {number}", value) for number, value in json_lines(path, report))


def named_columns(text: str, roles: Collection[str], path: Path, there: Collection[str]) -> dict[str, str]:
    """Read what a person says of the columns of a table, `ROLE=NAME,ROLE=NAME`, as role -> name.

    A role that is a number stands for a value, and what is said of it need be no column.

    Raises:
        InputError: there is no such role or column, or a role is there twice or without a name.
    """
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        role, _, name = (word.strip() for word in part.partition("="))
        if role not in roles or not name or role in found:
            what = "is there twice" if role in found else "is no ROLE=NAME"
            raise InputError("--columns", f"has {shown(part)}, which {what}", expected=f"roles {', '.join(roles)}")
        if not role.isdecimal() and name not in there:
            near, expected = nearest(name, there), f"one of {listed(map(shown, there), 20)}"
            cure = f"did you mean {as_option({role: near})}?" if near else "correct --columns"
            raise InputError(path, f"has no column {shown(name)}", expected=expected, cure=cure)
        found[role] = name
    return found


def as_option(columns: Mapping[str, str]) -> str:
    """Write columns as the command line takes them, quoted for a shell: role -> name."""
    return "--columns " + shlex.quote(",".join(f"{role}={name}" for role, name in columns.items()))


def guess(path: Path, role: str, candidates: Collection[str], columns: Collection[str]) -> str:
    """Return the one column that may be meant by a role.

    Raises:
        InputError: none may, or several.
    """
    if len(candidates) == 1:
        return next(iter(candidates))
    found = f"may have its {role} in {listed(candidates, 8)}" if candidates else f"has no column that may be its {role}"
    there = "" if candidates else f" (there are: {listed(map(shown, columns), 20) or 'none'})"
    name = next(iter(candidates), "NAME")
    raise InputError(path, found + there, expected="one", cure=f"name it: {as_option({role: name})}")


def tokens(name: str) -> tuple[str, ...]:
    """Split a name into its words: `imageA`, `image_a` and `Image A` are the same."""
    return tuple(re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:200]).lower()))


def usual(there: Collection[str], names: Collection[str]) -> list[str]:
    """Return the columns that have one of the usual names; if the first of these is there, it alone."""
    words, first = {name: "_".join(tokens(name)) for name in there}, next(iter(names), "")
    alone = [first] if first in there else [name for name in there if words[name] == first]
    return alone or [name for word in names for name in there if words[name] == word]


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of the encoding into errors of the file."""
    check_regular(path)
    try:
        yield
    except OSError as error:
        raise InputError(path, f"cannot be read ({explain(error)})", cure="check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 text (byte {error.start})", cure="save it as UTF-8") from error


class _Array:
    """A JSON array that is read entry by entry, with one chunk of it in memory."""

    def __init__(self, path: Path, handle: TextIO) -> None:
        self.path, self.handle = path, handle
        self.text, self.at = "", 0
        """The chunk, and the next character of it."""
        self.number, self.line, self._counted = 0, 1, 0

    def more(self) -> bool:
        """Forget what has been read, and read on; at least as much as is held, so that a long entry is not slow."""
        self.line += self.text.count("\n", self._counted, self.at)
        chunk = self.handle.read(max(CHUNK, len(self.text) - self.at))
        self.text, self.at, self._counted = self.text[self.at :] + chunk, 0, 0
        return bool(chunk)

    def sign(self) -> str:
        """Return the next character that is not white space; empty at the end of the file."""
        while True:
            blank = _BLANK.match(self.text, self.at)
            self.at = blank.end() if blank else self.at
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def entries(self, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read all entries. The reader stands at the bracket that opens the array."""
        try:
            self.at += 1
            sign = self.sign()
            while sign != "]":
                self.number += 1
                place = self.place()
                yield place, self.entry()
                sign = self.sign()
                if sign == ",":
                    self.at += 1
                    self.sign()
                elif sign != "]":
                    found = f"is followed by {sign!r}" if sign else "is the last before the file ends"
                    raise self.broken(found, "',' or ']'")
            self.at += 1
            if sign := self.sign():
                raise self.broken(f"and the ']' behind it are followed by {sign!r}", "the end of the file")
        except RecordError as error:
            report(error)

    def entry(self) -> dict[str, Any]:
        """Decode the object that starts here."""
        if (sign := self.sign()) != "{":
            raise self.broken(f"starts with {sign!r}" if sign else "is missing", "an object {…}")
        while True:
            try:
                value, self.at = JSON.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                # an error near the end of the chunk may only say that the entry goes on behind it
                torn = error.pos > len(self.text) - 8 or error.msg.startswith("Unterminated string")
                if torn and len(self.text) - self.at > _LONGEST:
                    raise self.broken(f"has more than {_LONGEST:,} characters", "an object {…}") from error
                if torn and self.more():
                    continue
                self.at = error.pos
                raise self.broken(f"is not JSON, or the file was cut off ({error.msg})", "an object {…}") from error
            except (ValueError, RecursionError) as error:
                raise self.broken(f"is not JSON ({error})", "an object {…}") from error
            return value  # type: ignore[no-any-return]

    def place(self) -> str:
        """Name the entry that is read, and the line that the reader stands in."""
        self.line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return f"{self.path}: entry {self.number} (line {self.line})"

    def broken(self, found: str, expected: str) -> RecordError:
        """Make the error after which nothing of the array can be read."""
        cure = "bring the file again or mend it; nothing behind this place is read"
        return RecordError(self.place(), found, expected=expected, cure=cure)


def json_lines(path: Path, report: Report) -> Iterator[Row]:
    """Read JSON lines as (line number from 1, object); empty lines are left out."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
        for number, line in enumerate(_lines(path, handle), 1):
            if not line.strip():
                continue
            place = f"{path}: line {number}"
            try:
                value = JSON.decode(line)
            except (ValueError, RecursionError) as error:
                report(RecordError(place, f"is not JSON ({error})", expected="an object {…}", cure=_MEND))
                continue
            if not line.isascii() and _NOT_UTF8.search(line):
                report(RecordError(place, "has bytes that are not UTF-8 text", cure="save the file as UTF-8"))
            elif isinstance(value, dict):
                yield number, value
            else:
                report(RecordError(place, f"is {type(value).__name__}", expected="an object {…}", cure=_MEND))


def _lines(path: Path, handle: TextIO) -> Iterator[str]:
    """Read lines, of which none fills the memory."""
    for number in itertools.count(1):
        line = handle.readline(_LONGEST)
        if not line:
            return
        if len(line) == _LONGEST:
            cure = "check the path, or bring the file again"
            raise RecordError(f"{path}: line {number}", f"has more than {_LONGEST:,} characters", cure=cure)
        yield line


def separated_rows(path: Path, *, tabs: bool) -> Iterator[Row]:
    """Read a CSV file, or a TSV file, where quotation marks are plain text as in text/tab-separated-values."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        lines = _lines(path, handle)
        if tabs:
            reader = csv.reader(lines, strict=True, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(lines, strict=True)
        try:
            columns = next(reader, [])
            check_columns(path, columns)
            for number, values in enumerate(filter(None, reader), 1):
                place = f"{path}: row {number}"
                if len(values) != len(columns):
                    cure = "follow each value by one tab" if tabs else "quote values that contain commas"
                    raise RecordError(place, f"has {len(values)} values for {len(columns)} columns", cure=cure)
                row = dict(zip(columns, values, strict=True))
                for name, value in row.items():
                    if tabs and value[:1] == '"' == value[-1:] and '""' in value:
                        cure = "save it without quoting, or as .csv with commas"
                        raise RecordError(f"{place}: {name}", f"is quoted as in CSV ({shown(value, 40)})", cure=cure)
                yield number, row
        except csv.Error as error:
            raise RecordError(
                f"{path}: line {reader.line_num}", f"is not CSV ({error})", cure="save it again"
            ) from error


def check_columns(path: Path, columns: list[str]) -> None:
    """See that no column is there twice, and that a CSV file is separated by commas."""
    for name, count in Counter(columns).items():
        if count > 1:
            raise RecordError(path, f"has the column {shown(name)} twice", cure="rename one")
    if len(columns) == 1 and (sign := re.search(r"[;\t]", columns[0])):
        cure = "name it .tsv" if sign[0] == "\t" else "save it with commas"
        raise RecordError(path, f"has columns separated by {sign[0]!r}", expected="commas", cure=cure)


def row_groups(path: Path, columns: Collection[str] = ()) -> list[tuple[int, int, Filled]]:
    """Count the rows of each row group of a parquet file, and the bytes that they take in memory.

    Only the end of the file is read.

    Returns:
        Rows, bytes, and whether the `columns` are filled: a list is, if it is there and all of its items are.

    Raises:
        InputError: the file cannot be read or is not a parquet file.
    """
    import pyarrow.parquet as pq

    with readable(path), parquet_errors(path):
        metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [(group.num_rows, group.total_byte_size, filled(group, columns)) for group in groups]


def filled(group: Any, columns: Collection[str]) -> Filled:
    """Look at what the metadata of a row group say of the gaps in some columns."""
    gaps: list[tuple[int | None, int]] = []
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema.partition(".")[0] in columns:
            known = column.is_stats_set and column.statistics.has_null_count
            gaps.append((column.statistics.null_count if known else None, column.num_values))
    if all(nulls == values for nulls, values in gaps):
        return "none"
    return "all" if all(nulls == 0 for nulls, _ in gaps) else "some"


def read_row_group(path: Path, number: int, *, without: Collection[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read one row group of a parquet file as `read_entries` reads all; columns may be left out.

    Raises:
        InputError: the file cannot be read.
        RecordError: the row group is damaged.
    """
    with readable(path):
        rows = parquet_rows(path, refuse, only=number, wanted=lambda s: [n for n in s.names if n not in without])
        yield from ((f"{path}: row {row}", value) for row, value in rows)


def parquet_rows(path: Path, report: Report, **options: Any) -> Iterator[Row]:
    """Read the rows of a parquet file; see `parquet_batches` for the options."""
    for first, batch in parquet_batches(path, report, **options):
        with cells(path, report, first, batch.num_rows):
            yield from enumerate(batch.to_pylist(), first)


def parquet_batches(
    path: Path,
    report: Report = refuse,
    *,
    only: int | None = None,
    wanted: Callable[[Any], list[str] | None] = lambda _: None,
    span: range | None = None,
) -> Iterator[tuple[int, Any]]:
    """Read record batches of a parquet file, some 32 MB at once, as they may hold images, each with its first row.

    Args:
        path: the file.
        report: receives the error of a damaged row group.
        only: the number of a row group; None reads all.
        wanted: gives, for the Arrow schema, the columns to read, `a` or `a.b`; None for all.
        span: the rows to read, from 1; None reads all. Row groups outside of it are not read, nor what follows it.

    Yields:
        The number of the first row, from 1, and a `pyarrow.RecordBatch`.
    """
    import pyarrow.parquet as pq  # here, not above: it takes 0.1 s to import and only parquet files need it

    with readable(path), parquet_errors(path), pq.ParquetFile(path) as table:
        check_columns(path, table.schema_arrow.names)
        columns = wanted(table.schema_arrow)
        after = 0
        for group in range(table.num_row_groups):
            metadata = table.metadata.row_group(group)
            before, after = after, after + metadata.num_rows
            if only not in (None, group) or (span is not None and (after < span.start or before + 1 >= span.stop)):
                continue
            parts = [metadata.column(number) for number in range(metadata.num_columns)]
            widest = max((part.total_uncompressed_size for part in parts if part.has_dictionary_page), default=1)
            size = _BATCH * metadata.num_rows // max(1, metadata.total_byte_size)
            size = max(1, min(4096, size, _WORST // max(1, widest)))
            with cells(path, report, before + 1, metadata.num_rows):
                for batch in table.iter_batches(size, row_groups=[group], columns=columns):
                    skipped = 0 if span is None else max(0, span.start - before - 1)
                    kept = batch[skipped:] if span is None else batch[skipped : max(skipped, span.stop - before - 1)]
                    if kept.num_rows:
                        yield before + 1 + skipped, kept
                    before += batch.num_rows
                    if span is not None and before + 1 >= span.stop:
                        return


@contextlib.contextmanager
def cells(path: Path, report: Report, first: int, rows: int) -> Iterator[None]:
    """Turn what pyarrow raises for rows that it cannot read into an error of these rows.

    Besides damage: times that Python's own types cannot hold, text that is not UTF-8.
    """
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if of_the_disk(error):
            raise
        place, cure = f"{path}: rows {first:,} to {first + rows - 1:,}", "bring the file again, or save times as text"
        report(RecordError(place, f"cannot be read ({first_line(error)})", cure=cure))


@contextlib.contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into an error of the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if of_the_disk(error):
            raise
        found = f"is not a parquet file, or a damaged one ({first_line(error)})"
        raise InputError(path, found, cure="bring the file again") from error


def of_the_disk(error: Exception) -> bool:
    """Tell an error of the disk from one of the content, which pyarrow raises as OSError too."""
    return isinstance(error, OSError) and error.errno is not None


def first_line(error: Exception) -> str:
    """Return the first line of a message that may have several."""
    return (str(error).splitlines() or [type(error).__name__])[0]
