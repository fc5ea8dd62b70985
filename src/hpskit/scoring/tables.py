"""Tables of images and prompts as people have them: JSON lines, CSV, parquet and tars, one file or many, row by row."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from hpskit.errors import ImageError, InputError, OutputError, RecordError, listed, shown
from hpskit.files import expand
from hpskit.pixels import LARGEST_FILE, Encoded, check_file
from hpskit.rows import (
    PROMPT_NAMES,
    as_option,
    guess,
    named_columns,
    parquet_batches,
    parquet_errors,
    parquet_rows,
    read_rows,
    readable,
    refuse,
    row_groups,
    usual,
)
from hpskit.scoring.addresses import Address, as_address
from hpskit.scoring.shards import IMAGES, SHARDS, read_shard

if TYPE_CHECKING:
    import pyarrow as pa

Row: TypeAlias = tuple[int, str, dict[str, Any]]
"""Number in the whole table, from 1; place in words; column -> value."""

ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet", *SHARDS)
_ROLES = {
    "image": (
        *("image", "image_path", "img", "img_path", "image_file", "file_name", "filename", "file_path", "filepath"),
        *("file", "path", "url", "image_url", "image_uri", "uri", "picture", "photo", *IMAGES),
    ),
    "prompt": PROMPT_NAMES,
}
"""Usual names of the columns. The first of each is the documented one, and taken whatever else is there."""
LOOKED_AT = 100
"""Rows that are read to see which columns there are."""
_BRACES = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MOST_FILES = 100_000


@dataclass(kw_only=True, slots=True)
class Table:
    """Rows of files of one kind, read anew each time, with what its columns are."""

    name: str
    files: tuple[Path, ...]
    image: str = ""
    """Name of the column."""
    prompt: str = ""
    schema: pa.Schema | None = None
    """Of parquet files, the same in all; of other rows that a parquet file is made of what `outputs.types` found."""
    columns: tuple[str, ...] = ()
    """Those of parquet files, else those of the first rows."""
    note: str = ""
    """What was guessed, for the person; empty if nothing was."""
    ignored: set[str] = field(default_factory=set)
    """Endings of members of tars that were not read."""
    _sizes: list[int] = field(default_factory=list)
    _stamps: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stamps = list(map(stamp, self.files))

    def check_unchanged(self) -> None:
        """See that the files are those that were opened, as they are read several times; else it is an OutputError."""
        for path, before in zip(self.files, self._stamps, strict=True):
            if stamp(path) != before:
                cure = "run the command again when nothing writes to it"
                raise OutputError(path, "has changed while it was read", cure=cure)

    def place(self, number: int) -> str:
        """Return the file of a row and its number there, in words."""
        if len(self.files) == 1:
            return f"{self.files[0]}: row {number}"
        path, first, _ = next(self.parts(range(number, number + 1)))
        return f"{path}: row {number - first}"

    @property
    def typed(self) -> bool:
        """Tell whether the rows come with types, as those of parquet files do."""
        return self.ending == ".parquet"

    @property
    def ending(self) -> str:
        """The kind of all files, one of `.jsonl`, `.csv`, `.tsv`, `.parquet`, `.tar`."""
        return ending(self.files[0])

    def sizes(self) -> list[int]:
        """Count the rows of each file; of parquet files from their metadata."""
        if not self._sizes:
            self._sizes = [count(path) for path in self.files]
        return self._sizes

    def rows(self, span: range | None = None, *, images: bool = True, only: Collection[str] = ()) -> Iterator[Row]:
        """Read rows.

        Args:
            span: numbers of the rows, from 1; None reads all.
            images: False leaves out what bytes there are in parquet files and tars.
            only: columns of a parquet file to read; all if there are none.
        """
        for path, first, inner in self.parts(span):
            for number, value in self._read(path, inner, images, only):
                yield first + number, f"{path}: row {number}", value

    def batches(self, span: range | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read record batches of parquet files, each with the number of its first row."""
        for path, first, inner in self.parts(span):
            for number, batch in parquet_batches(path, span=inner):
                yield first + number, batch

    def parts(self, span: range | None) -> Iterator[tuple[Path, int, range | None]]:
        """List the files that have rows of a span: the rows before each, and the span in its own numbers."""
        if span is None and len(self.files) == 1:
            yield self.files[0], 0, None
            return
        first = 0
        for path, size in zip(self.files, self.sizes(), strict=True):
            inner = (
                range(1, size + 1)
                if span is None
                else range(max(1, span.start - first), min(size + 1, span.stop - first))
            )
            if inner:
                yield path, first, None if len(inner) == size else inner
            first += size

    def _read(
        self, path: Path, span: range | None, images: bool, only: Collection[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        if self.typed:
            return parquet_rows(path, refuse, span=span, wanted=lambda schema: leaves(schema, images, only))
        if self.ending == ".tar":
            return read_shard(path, images=images, span=span, ignored=self.ignored.add)
        rows = read_rows(path)
        return rows if span is None else itertools.islice(rows, span.start - 1, span.stop - 1)

    def picture(self, value: Mapping[str, Any], root: Path, cache: Path | None) -> Path | Encoded | Address | None:
        """Find the image of a row; None if the row was read without the bytes that are its image.

        Raises:
            InputError: there is no such file, or the value is none that names or holds an image.
        """
        place, found = f"column {shown(self.image)}", value.get(self.image)
        if isinstance(found, dict) and found.keys() & {"bytes", "path"}:
            data, path = found.get("bytes"), found.get("path")
            if data is None and self.embeds and "bytes" not in found:
                return None
            found = path if data is None else data if isinstance(data, bytes) else found
        elif self.embeds and self.image not in value:
            return None
        if isinstance(found, bytes | Encoded):
            image = found if isinstance(found, Encoded) else Encoded(found, f"{len(found):,} bytes")
            if not 0 < len(image.data) <= LARGEST_FILE:
                raise ImageError(place, f"has {len(image.data):,} bytes", expected=f"1 to {LARGEST_FILE:,}")
            return image
        if not isinstance(found, str):
            expected = "a path, an address, bytes, or a struct of bytes and path"
            raise RecordError(
                place, f"is {shown(found, 40)}" if self.image in value else "is missing", expected=expected
            )
        if not found.strip():
            raise RecordError(place, "is empty")
        named = as_address(found, cache)
        if isinstance(named, Address):
            return named
        path = root / found if named is None else named
        check_file(path)
        return path

    def prompt_of(self, row: Mapping[str, Any]) -> str:
        """Return the prompt of a row; none, or an empty one, is a RecordError."""
        place, prompt = f"column {shown(self.prompt)}", row.get(self.prompt)
        if self.prompt not in row:
            raise RecordError(place, f"is missing (there are: {listed(map(shown, row), 20) or 'none'})")
        if not isinstance(prompt, str):
            raise RecordError(place, f"is {shown(prompt, 40)}", expected="a text")
        if not prompt.strip():
            raise RecordError(place, "is empty")
        return prompt

    @property
    def embeds(self) -> bool:
        """Tell whether the rows may hold the images themselves, as bytes or in a struct of `bytes` and `path`."""
        return self.typed and self.schema is not None and holds_image(self.schema.field(self.image).type)


def open_table(items: str | os.PathLike[str], columns: str = "") -> Table:
    """Open the files of a table, and see which columns are the image and the prompt.

    Args:
        items: a file, or several as `shard-{0000..0003}.tar` or `data/train-*.parquet`.
        columns: what a person says of them, `image=NAME,prompt=NAME`; what is not said is guessed by usual names.

    Raises:
        InputError: there is no such file, their kinds or columns differ, or it is not clear which column is meant.
    """
    table = Table(name=os.fspath(items), files=find_files(os.fspath(items)))
    if table.typed:
        table.schema = common_schema(table.files)
        table.columns = tuple(table.schema.names)
    else:
        first = itertools.islice(Table(name=table.name, files=table.files[:1]).rows(images=False), LOOKED_AT)
        table.columns = tuple(dict.fromkeys(name for _, _, value in first for name in value))
        if not table.columns:
            raise InputError(table.name, "has no rows", expected="at least one with an image and a prompt")
        for path in table.files[1:] if table.ending in (".csv", ".tsv") else ():
            check_header(path, next(read_rows(path), (0, {}))[1], table)
    choose_columns(table, columns)
    return table


def choose_columns(table: Table, columns: str) -> None:
    """Choose the image and the prompt among the columns that a table is known to have; see `open_table`."""
    said = named_columns(columns, _ROLES, table.files[0], table.columns)
    for role in _ROLES:
        setattr(table, role, said.get(role) or choose(table, role))
    guessed = {
        role: name
        for role in _ROLES
        if role not in said and (name := getattr(table, role)) not in documented(table, role)
    }
    if guessed:
        what = ", ".join(f"{role} is the column {shown(name)}" for role, name in guessed.items())
        table.note = f"{table.name}: {what}, by its name; {as_option(roles_of(table))} would say so"


def role_names(table: Table) -> str:
    """Write the columns as the record of a run has them."""
    return ",".join(f"{role}={name}" for role, name in roles_of(table).items())


def roles_of(table: Table) -> dict[str, str]:
    """Role -> name of its column."""
    return {role: getattr(table, role) for role in _ROLES}


def documented(table: Table, role: str) -> tuple[str, ...]:
    """List the names that are taken whatever else is there; in tars a `.txt` is the prompt."""
    return ("txt", role) if table.ending == ".tar" and role == "prompt" else (role,)


def choose(table: Table, role: str) -> str:
    """Choose the column of a role: as documented, else by a usual name or by what it holds."""
    for name in documented(table, role):
        if name in table.columns:
            return name
    found = usual(table.columns, _ROLES[role])
    if role == "image" and table.schema is not None:
        found += [f.name for f in table.schema if holds_image(f.type) and f.name not in found]
    return guess(table.files[0], role, found, table.columns)


def check_header(path: Path, row: Mapping[str, Any], table: Table) -> None:
    """See that a file of a table has the columns of the first, or no rows."""
    if row and row.keys() != {*table.columns}:
        names = ", ".join(map(shown, sorted(row.keys() ^ {*table.columns})[:8]))
        found, cure = f"has other columns than the first file ({names})", "score files of other columns by themselves"
        raise InputError(path, found, expected=f"those of {table.files[0]}", cure=cure)


def find_files(items: str) -> tuple[Path, ...]:
    """Find the files that a name means, with braces and wildcards in it, in order."""
    path = expand(items)
    if "://" in items:
        raise InputError(
            items, "is an address", expected="a file of rows", cure="bring it here; its images may be anywhere"
        )
    found = list[Path]()
    for name in [str(path)] if os.path.lexists(path) else unbraced(str(path)):
        pattern = glob.has_magic(name) and not os.path.lexists(name)
        fitting = sorted(glob.glob(name)) if pattern else [name]  # noqa: PTH207
        if not fitting:
            raise InputError(name, "fits no file", cure="check the path and the pattern")
        found += map(Path, fitting)
        if len(found) > _MOST_FILES:
            raise InputError(items, f"names more than {_MOST_FILES:,} files", cure="name fewer at once")
    check_kinds(items, found)
    return tuple(found)


def check_kinds(items: str, found: Collection[Path]) -> None:
    """See that files are of a kind that is read, all of one; else it is an InputError."""
    kinds = {ending(one) for one in found}
    wrong = next((one for one in found if ending(one) not in ENDINGS), None)
    if wrong is not None:
        raise InputError(wrong, f"ends in {wrong.suffix!r}", expected=f"one of {', '.join(ENDINGS)}", cure="convert it")
    if len(kinds) > 1:
        raise InputError(items, f"names files of several kinds ({', '.join(sorted(kinds))})", expected="one")


def stamp(path: Path) -> tuple[int, ...]:
    """Return what changes with a file: inode, size and time; nothing if it is not there, as whoever reads it says."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def ending(path: Path) -> str:
    """Return the kind of a file by its name; packed tars are tars."""
    return ".tar" if path.name.lower().endswith(SHARDS) else path.suffix.lower()


def unbraced(name: str) -> Iterator[str]:
    """Write out braces as a shell does: `{00..12}`."""
    if not (found := _BRACES.search(name)):
        yield name
        return
    low, high = found.groups()
    if int(high) < int(low):
        raise InputError(name, f"counts from {low} down to {high}", expected="{LOW..HIGH}")
    for number in range(int(low), int(high) + 1):
        yield from unbraced(f"{name[: found.start()]}{number:0{len(low)}}{name[found.end() :]}")


def fits(items: str | os.PathLike[str], path: Path) -> bool:
    """Tell whether a name of files, with braces and wildcards in it, means a file too that need not be there yet."""
    pattern, there = os.path.abspath(expand(items)), PurePath(os.path.abspath(path))  # noqa: PTH100  # links stay
    if os.path.lexists(pattern):
        return os.path.realpath(pattern) == os.path.realpath(path)
    names = itertools.islice(unbraced(pattern), _MOST_FILES)
    return any(there.match(name) if glob.has_magic(name) else name == str(there) for name in names)


def count(path: Path) -> int:
    """Count the rows of a file."""
    if ending(path) == ".parquet":
        return sum(rows for rows, *_ in row_groups(path))
    rows: Iterator[Any] = read_shard(path, images=False) if ending(path) == ".tar" else read_rows(path)
    return sum(1 for _ in rows)


def common_schema(files: Collection[Path]) -> pa.Schema:
    """Read the schema of parquet files; one of another is an InputError."""
    import pyarrow.parquet as pq

    found: pa.Schema | None = None
    for path in files:
        with readable(path), parquet_errors(path):
            schema = pq.read_schema(path)
        if found is not None and not schema.equals(found):
            cure = "score files of other columns or types by themselves"
            raise InputError(path, "has other columns or types than the first file", cure=cure)
        found = schema if found is None else found
    return found


def holds_image(kind: pa.DataType) -> bool:
    """Tell whether a type is bytes, or a struct with `bytes`, as Hugging Face has images."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return holds_bytes(kind) and not kind.num_fields
    at = kind.get_field_index("bytes")
    return at >= 0 and holds_image(kind.field(at).type)


def holds_bytes(kind: pa.DataType) -> bool:
    """Tell whether values of a type are bytes, or have bytes in them."""
    import pyarrow as pa

    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    if pa.types.is_dictionary(kind):
        return holds_bytes(kind.value_type)
    return any(holds_bytes(kind.field(number).type) for number in range(kind.num_fields))


def leaves(schema: Iterable[pa.Field], images: bool, only: Collection[str]) -> list[str]:
    """List what to read of a parquet file: `a`, or `a.path` of a struct whose bytes are left out."""
    import pyarrow as pa

    found: list[str] = []
    for one in schema:
        if only and one.name not in only:
            continue
        if images or not holds_bytes(one.type):
            found.append(one.name)
        elif pa.types.is_struct(one.type):
            inner = (one.type.field(number) for number in range(one.type.num_fields))
            found += [f"{one.name}.{part.name}" for part in inner if not holds_bytes(part.type)]
    return found
