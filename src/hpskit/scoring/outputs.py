"""Scores beside the columns that they were asked for: JSON lines, CSV or parquet, as parts of a file's bytes."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from hpskit.errors import RecordError, shown
from hpskit.files import json_line
from hpskit.pixels import Encoded
from hpskit.scoring.tables import Row, Table, holds_bytes, leaves

if TYPE_CHECKING:
    import pyarrow as pa

OURS = ("row", "score", "error", "scorer")
"""Columns that are added."""
Outcome: TypeAlias = Callable[[int, str], tuple[float | None, str]]
"""Gives, for the number and the prompt of a row, the score, or None and why there is none."""
_AT_ONCE = 1000


def written(
    ending: str, table: Table, span: range, names: Sequence[str], identity: str, outcome: Outcome
) -> Iterator[bytes]:
    """Write the rows of a span with their scores.

    Args:
        ending: `.jsonl`, `.csv` or `.parquet`.
        table: the rows; for parquet with their types.
        span: their numbers.
        names: those of the added columns, as in `OURS`.
        identity: of the scorer.
        outcome: the scores.
    """
    if ending == ".parquet":
        batches = table.batches(span) if table.typed else typed_here(table, span, names)
        return parquet_parts(batches, table, names, identity, outcome)
    rows = scored(table, span, names, identity, outcome)
    return csv_parts(rows, columns_of(table, names)) if ending == ".csv" else map(json_line, rows)


def scored(
    table: Table, span: range, names: Sequence[str], identity: str, outcome: Outcome
) -> Iterator[dict[str, Any]]:
    """Join rows and scores; there is no error where there is a score."""
    row, score, error, scorer = names
    for number, _, value in table.rows(span, images=False):
        points, why = outcome(number, value.get(table.prompt, ""))
        if table.embeds and isinstance(named := value.get(table.image), dict) and named.keys() == {"path"}:
            value[table.image] = named["path"]
        # each row was checked: what JSON cannot hold is only in rows that are errors
        own, said = (kept(value, names), {error: why}) if why else (as_json(value), {})
        yield {row: number, **own, score: points, **said, scorer: identity}


def kept(value: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return what of a row can be written: without what JSON cannot hold, and without columns that have our names."""
    return {name: v for name, v in as_json(value).items() if name not in names and not objection({name: v})}


def as_json(value: Any) -> Any:
    """Return a value as JSON has it: a member of a tar is its name, times and decimals are text."""
    if isinstance(value, Encoded):
        return value.place
    if isinstance(value, dict):
        return {name: as_json(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal | datetime.timedelta) else value


def objection(value: Any) -> str:
    """Say why a value cannot be written as JSON in UTF-8; empty if it can."""
    try:
        json.dumps(as_json(value), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def csv_parts(rows: Iterator[dict[str, Any]], columns: Sequence[str]) -> Iterator[bytes]:
    """Write rows as CSV: an empty field is no value, lists and objects are JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([as_cell(row.get(name)) for name in columns])
        if text.tell() > 1 << 20:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def as_cell(value: Any) -> Any:
    """Return a value as CSV has it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) if isinstance(value, dict | list | bool) else value


def columns_of(table: Table, names: Sequence[str]) -> list[str]:
    """List the columns of a CSV file: ours around those of all rows; JSON lines and tars are read for them."""
    there = dict.fromkeys(table.columns)
    if table.schema is not None:
        there = dict.fromkeys(one.name for one in table.schema if leaves([one], False, ()))
    if table.ending in (".jsonl", ".tar"):
        there |= dict.fromkeys(name for _, _, value in table.rows(images=False) for name in value)
    inside = [name for name in there if name not in names]
    return [names[0], *inside, *names[1:]]


def left_out(table: Table) -> list[str]:
    """List the columns whose bytes only a parquet file can hold; the fields of a struct that have none are kept."""
    return [] if table.schema is None else [f.name for f in table.schema if holds_bytes(f.type)]


# Parquet


def types(table: Table, names: Sequence[str]) -> pa.Schema:
    """Find the types of the columns of rows that have none: what all their values have in common.

    `names` are those of the columns that will be added.

    Raises:
        RecordError: a column holds what no one type has, for example numbers and texts.
    """
    import pyarrow as pa

    found = pa.schema([])
    for rows in batched(table.rows(images=False)):
        place = f"{rows[0][1]} and the {len(rows) - 1} rows after it"
        try:
            values = [kept(value, names) for _, _, value in rows]
            every = dict.fromkeys(name for value in values for name in value)
            each = {name: [value.get(name) for value in values] for name in every}
            arrays = {name: column(name, column_values, place) for name, column_values in each.items()}
            new = pa.schema([(name, array.type) for name, array in arrays.items()])
            found = pa.unify_schemas([found, new], promote_options="permissive")
        except pa.ArrowException as error:
            raise untyped(place, error) from error
    return found


def column(name: str, values: list[Any], place: str) -> pa.Array:
    """Make an Arrow array of values of one type."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise untyped(f"{place}: column {shown(name)}", error) from error


def untyped(place: str, error: Exception) -> RecordError:
    """Make the error of values that have no type of parquet."""
    found = f"has no one type ({shown(str(error), 120)})"
    return RecordError(place, found, expected="values of one type for parquet", cure="--out .jsonl takes any")


def batched(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Collect rows."""
    while part := list(itertools.islice(rows, _AT_ONCE)):
        yield part


def typed_here(table: Table, span: range, names: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Make batches of rows."""
    import pyarrow as pa

    for rows in batched(table.rows(span, images=False)):
        values = [kept(value, names) for _, _, value in rows]
        try:
            yield rows[0][0], pa.RecordBatch.from_pylist(values, schema=table.schema)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            raise untyped(rows[0][1], error) from error


class Drain(io.RawIOBase):
    """A file whose bytes are taken away while it is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        """Keep a part."""
        self.parts.append(bytes(data))
        self._at += len(data)
        return len(data)

    def taken(self) -> Iterator[bytes]:
        """Give away what was written."""
        parts, self.parts = self.parts, []
        yield from parts


def parquet_parts(
    batches: Iterator[tuple[int, pa.RecordBatch]], table: Table, names: Sequence[str], identity: str, outcome: Outcome
) -> Iterator[bytes]:
    """Write batches with their scores; a row group is about as large as what is read at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = table.schema
    assert schema is not None
    row, score, error, scorer = names
    before, behind = (
        [pa.field(row, pa.int64())],
        [pa.field(score, pa.float64()), pa.field(error, pa.string()), pa.field(scorer, pa.string())],
    )
    whole = pa.schema([*before, *schema, *behind], metadata=schema.metadata)
    drain = Drain()
    with pq.ParquetWriter(drain, whole, compression="zstd") as writer:
        for part in grouped(batches):
            arrays: list[list[Any]] = [[], [], []]
            for first, batch in part:
                prompts = batch.column(table.prompt).to_pylist()
                outcomes = [outcome(number, prompt or "") for number, prompt in enumerate(prompts, first)]
                arrays[0] += range(first, first + batch.num_rows)
                arrays[1] += [points for points, _ in outcomes]
                arrays[2] += [why or None for _, why in outcomes]
            rows = pa.Table.from_batches([batch for _, batch in part], schema=schema)
            ours = [pa.array(values, f.type) for values, f in zip(arrays, [*before, *behind], strict=False)]
            last = pa.array([identity] * rows.num_rows, pa.string())
            writer.write_table(pa.Table.from_arrays([ours[0], *rows.columns, *ours[1:], last], schema=whole))
            yield from drain.taken()
    yield from drain.taken()


def grouped(batches: Iterator[tuple[int, pa.RecordBatch]]) -> Iterator[list[tuple[int, pa.RecordBatch]]]:
    """Collect batches to some 64 MB, or 100,000 rows: small row groups are slow to read."""
    part: list[tuple[int, pa.RecordBatch]] = []
    for one in batches:
        part.append(one)
        if sum(batch.nbytes for _, batch in part) > 64 << 20 or sum(batch.num_rows for _, batch in part) >= 100_000:
            yield part
            part = []
    if part:
        yield part
