"""Reading rows, publishing files whole, and logs that survive a kill. Knows nothing of images or models."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hpskit.errors import InputError, OutputError, RecordError

__all__ = [
    "AppendLog",
    "explain",
    "publish",
    "publish_json",
    "read_json",
    "read_rows",
    "sha256_file",
]

Row = tuple[int, dict[str, Any]]


def explain(error: OSError) -> str:
    """The reason of an operating system error in a few words, for example `No space left on device`."""
    return error.strerror or str(error) or type(error).__name__


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Write a file that appears whole under its name or not at all.

    Yields the name of an empty temporary file in the same folder. When the block ends, its bytes are brought to
    the disk and it takes the name `path` in one step; a kill, an exception or a full disk leaves what stood there
    before.

    Raises:
        OutputError: the folder cannot be made or the file cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        cure = "make room or choose a folder that you may write to; nothing was changed"
        raise OutputError(f"{path}: cannot be written ({explain(error)}); {cure}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def publish_json(path: Path, value: Any) -> None:
    """Publish one JSON document, indented, ending in a newline."""
    with publish(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        InputError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({explain(error)})") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


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
    try:
        yield from reader(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({explain(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as handle:
        number = 0
        for line_number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            number += 1
            try:
                value = json.loads(line)
            except ValueError as error:
                raise RecordError(f"{path}: line {line_number} is not JSON ({error})") from error
            if not isinstance(value, dict):
                raise RecordError(f"{path}: line {line_number} is {type(value).__name__}, expected an object {{…}}")
            yield number, value


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        try:
            for number, row in enumerate(reader, 1):
                if None in row:
                    found, expected = len(row) - 1 + len(row[None]), len(reader.fieldnames or ())
                    cure = "quote values that contain commas"
                    raise RecordError(f"{path}: row {number} has {found} values for {expected} columns; {cure}")
                yield number, {name: value for name, value in row.items() if value is not None}
        except csv.Error as error:
            raise RecordError(f"{path}: line {reader.line_num} is not CSV ({error})") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa  # here, not above: it takes 0.1 s to import and only parquet files need it
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: is not a parquet file ({str(error).splitlines()[0]})") from error


class AppendLog:
    """A JSONL file that only grows, and what it held when it was opened.

    A line torn by a kill is cut off at opening, so that every line left was written whole. `append` returns after
    the lines have reached the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = path.open("a+b")
            self._lock()
            self._handle.seek(0)
            data = self._handle.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._handle.truncate(len(whole))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({explain(error)})") from error
        self.lines: list[dict[str, Any]] = []
        for number, line in enumerate(io.BytesIO(whole), 1):
            try:
                self.lines.append(json.loads(line))
            except ValueError as error:
                self._handle.close()
                raise OutputError(f"{path}: line {number} is damaged; delete the file to start anew") from error

    def _lock(self) -> None:
        """One writer at a time; the operating system lets go when the process ends, however it ends."""
        if sys.platform == "win32":  # no such lock there: two runs at once are the user's affair
            return
        import fcntl

        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._handle.close()
            cure = "wait for it, or choose another output"
            raise OutputError(f"{self.path}: another process is writing this file; {cure}") from error

    def append(self, *lines: Mapping[str, Any]) -> None:
        """Add lines; all of them are on disk afterwards, or an error says that they are not.

        Raises:
            OutputError: they could not be written, for example because the disk is full.
        """
        data = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        try:
            self._handle.write(data.encode())
            self._handle.flush()
            os.fsync(self._handle.fileno())
        except OSError as error:
            cure = "what was written before is safe; make room and run the same command again"
            raise OutputError(f"{self.path}: cannot be written ({explain(error)}); {cure}") from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a flush that failed in `append` has been reported there
            self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.close()
