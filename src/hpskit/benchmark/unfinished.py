"""Logs of work that is not finished: they grow while it goes on, and are gone once its result is published."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpskit.errors import OutputError
from hpskit.files import AppendLog

__all__ = ["begin", "unfinished"]


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[AppendLog]:
    """The log of unfinished work, with nobody else writing to it.

    When the block ends well the log is removed: what it held is published by then. If it ends with an error the log
    stays, unless it holds nothing but its first line.

    Raises:
        OutputError: another process has the log, or it cannot be written.
    """
    keep = True
    try:
        with AppendLog(path) as log:
            try:
                yield log
                keep = False
            except BaseException:
                keep = path.read_bytes().count(b"\n") > 1
                raise
    finally:
        if not keep:  # after it was closed: Windows removes no open file
            path.unlink(missing_ok=True)


def begin(log: AppendLog, first: Mapping[str, Any], other: str) -> None:
    """See that a log is of this work.

    Args:
        log: may be new.
        first: its first line, which tells one work from another.
        other: what the work of another first line is, such as `on another suite`.

    Raises:
        OutputError: it is of other work.
    """
    if not log.lines:
        log.append(first)
    elif log.lines[0] != first:
        cure = f"choose another --out, or delete {log.path.name}"
        raise OutputError(f"{log.path}: is unfinished work {other}; {cure}")
