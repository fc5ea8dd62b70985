"""What a layout says about itself, so that one loop reads them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hpskit.dataset.group import Group
from hpskit.errors import RecordError
from hpskit.records import Row
from hpskit.rows import Report

__all__ = ["Entries", "Format", "label_ranks", "row_by_row"]

Entries = Iterator[tuple[str, dict[str, Any]]]
"""Place in words and content of each row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One layout."""

    name: str
    summary: str
    """What it is, for `--help` and for errors."""
    needs: frozenset[str]
    """Fields that every row has; by them the layout is known."""
    read: Callable[[Entries, Report], Iterator[Group]]
    """Reads all rows, in order. What is wrong with one is told to the report, and the next is read."""
    folders: tuple[str, ...] = ()
    """Folders beside the file of which the first that exists holds the images; if none exists it is the file's own."""
    carries: frozenset[str] = frozenset()
    """Fields that may hold the bytes of images. Each row of such a layout is a group by itself."""


def row_by_row(parse: Callable[[Row], Group], known: frozenset[str]) -> Callable[[Entries, Report], Iterator[Group]]:
    """The reader of a layout whose rows are groups; `known` are all fields that a row may have."""

    def read(entries: Entries, report: Report) -> Iterator[Group]:
        for place, value in entries:
            try:
                group = parse(Row(place, value, known))
            except RecordError as error:
                report(error)
            else:
                yield group

    return read


def label_ranks(first: Any, second: Any) -> tuple[int, int] | None:
    """Ranks of two images from labels that are 1 and 0, or one half each for a tie; None from anything else."""
    if isinstance(first, bool) or isinstance(second, bool):
        return None
    if first == 1 and second == 0:
        return 1, 2
    if first == 0 and second == 1:
        return 2, 1
    return (1, 1) if first == second == 0.5 else None
