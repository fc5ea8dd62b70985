"""Read prompts as other people keep them: DiffusionDB, COCO captions, Pick-a-Pic, and tables and lists of any kind.

Parquet files are streamed in parts of row groups, with the columns that are needed, so that the 14 million rows of
DiffusionDB take little memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hpskit import __version__
from hpskit.errors import InputError, RecordError
from hpskit.files import expand, read_json, sha256_file
from hpskit.prompts.records import RawPrompt, parse_prompt, publish_lines
from hpskit.prompts.suites import LONGEST
from hpskit.rows import Report, Row, json_lines, parquet_rows, read_rows, readable, refuse

FORMAT = "hpskit prompts import 1"
_TEXT = ("prompt", "caption", "text", "prompts", "captions")
_ID = ("id", "image_name", "ranking_id")
_NSFW = ("nsfw", "prompt_nsfw", "image_nsfw")
_META = ("image_id", "prompt_nsfw", "image_nsfw")


def import_prompts(
    sources: Sequence[str],
    out: Path,
    *,
    column: str = "",
    drop: bool = False,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> dict[str, Any]:
    """Write the prompts of all sources to one file, whole or not at all, and return its manifest.

    Args:
        sources: `PATH` or `NAME=PATH`; the name, else the stem of the path, is the `source` of the prompts.
        out: a .jsonl file.
        column: name of the column of prompts; if empty, it is known by its name.
        drop: leave rows out that cannot be used; the manifest lists them with what is wrong.

    Raises:
        InputError: a file cannot be read, has no such column, or two prompts have one id.
        RecordError: a row cannot be used.
        OutputError: the file cannot be written.
    """
    files = [(name or Path(path).stem, expand(path)) for name, _, path in map(_split, sources)]
    facts: dict[str, Any] = {"package": f"hpskit {__version__}", "column": column, "sources": {}, "left_out": []}

    def report(error: RecordError) -> None:
        if not drop:
            cure = f"{error.cure}, or leave such rows out (--on-broken drop)"
            raise RecordError(error.place, error.found, expected=error.expected, cure=cure)
        facts["left_out"].append(str(error))

    def prompts() -> Iterator[RawPrompt]:
        ids = array("Q")
        for name, path in files:
            before = len(ids)
            for prompt in raw_prompts(path, name, column, report):
                ids.append(int.from_bytes(hashlib.blake2b(prompt.id.encode(), digest_size=8).digest()))
                if len(ids) % 1000 == 0:
                    progress(f"reading {name}", len(ids) - before, None)
                yield prompt
            if len(ids) == before:
                raise InputError(path, "has no prompts", expected="at least one", cure="leave it out")
            digest = sha256_file(path)
            facts["sources"][f"{name}={path.name}"] = {"prompts": len(ids) - before, "sha256": digest}
        _check_distinct(ids, (p for name, path in files for p in raw_prompts(path, name, column, lambda _: None)))

    publish_lines(out, FORMAT, facts, prompts())
    return facts


def _split(source: str) -> tuple[str, str, str]:
    """Part `NAME=PATH`; a path alone has no name."""
    name, sign, path = source.partition("=")
    return (name, sign, path) if sign and not Path(source).exists() else ("", "", source)


def _check_distinct(ids: array[int], again: Iterator[RawPrompt]) -> None:
    """See that no id is there twice.

    Raises:
        InputError: one is.
    """
    _, first, counts = np.unique(np.frombuffer(ids, np.uint64), return_index=True, return_counts=True)
    if len(first) < len(ids):
        twice = next(islice(again, int(first[counts > 1].min()), None))
        cure = "correct the ids, or name the sources apart (NAME=PATH)"
        raise InputError("sources", f"have two prompts of the id {twice.id!r}", expected="each id once", cure=cure)


def raw_prompts(path: Path, source: str, column: str = "", report: Report = refuse) -> Iterator[RawPrompt]:
    """Read the prompts of one file.

    Args:
        path: .parquet, .jsonl, .csv, .tsv, .txt (a prompt a line), or .json: COCO captions, or a list of texts or rows.
        source: name of the source.
        column: name of the column of prompts; if empty, it is known by its name.
        report: receives the error of a row that cannot be used.

    Raises:
        InputError: the file cannot be read, or has no column of prompts.
    """
    text = ""
    for number, row in _rows(path, column, report):
        place = f"{path}: row {number}"
        text = text if text in row else _text_column(path, list(row), column)
        own = next((row[name] for name in _ID if _is_filled(row.get(name))), number)
        try:
            meta = {name: row[name] for name in _META if _is_filled(row.get(name))}
            value = {"id": f"{source}:{own}", "prompt": _usable(row[text], text), "source": source, "meta": meta}
            prompt = parse_prompt(RawPrompt, value | {"nsfw": _score(row)}, place)
        except InputError as error:
            inner = error if error.place.startswith(place) else error.within(place)
            report(RecordError(inner.place, inner.found, expected=inner.expected, cure=inner.cure))
        else:
            yield prompt


def _rows(path: Path, column: str, report: Report) -> Iterator[Row]:
    ending = path.suffix.lower()
    with readable(path):
        if ending == ".txt":
            with path.open(encoding="utf-8-sig", newline="\n") as handle:
                stripped = ((number, line.rstrip("\r\n")) for number, line in enumerate(handle, 1))
                yield from ((number, {column or "prompt": line}) for number, line in stripped if line.strip())
        elif ending == ".json":
            value = read_json(path)
            entries = value.get("annotations") if isinstance(value, dict) else value
            if not isinstance(entries, list):
                raise InputError(path, "has no list of prompts", expected="a list, or COCO's {'annotations': […]}")
            wrapped = (entry if isinstance(entry, dict) else {column or "prompt": entry} for entry in entries)
            yield from enumerate(wrapped, 1)
        elif ending == ".jsonl":
            yield from json_lines(path, report)
        elif ending == ".parquet":
            yield from parquet_rows(path, report, wanted=lambda schema: _needed(path, schema.names, column))
        else:
            yield from read_rows(path)


def _needed(path: Path, names: Sequence[str], column: str) -> list[str]:
    """Return the columns of a parquet file that are read: no images, times, settings."""
    needed = {_text_column(path, names, column), *_ID, *_NSFW, *_META}
    return [name for name in names if name in needed]


def _text_column(path: Path, names: Sequence[str], column: str) -> str:
    known = {name.casefold(): name for name in reversed(names)}
    found = [known[name] for name in ((column.casefold(),) if column else _TEXT) if name in known]
    if not found:
        wanted = repr(column) if column else "of prompts (prompt, caption, text)"
        cure = "name it by --column" if not column else "name another"
        raise InputError(path, f"has no column {wanted} (there are: {', '.join(names) or 'none'})", cure=cure)
    return found[0]


def _usable(prompt: object, column: str) -> object:
    """Return a prompt that can be stored and shown; what is no text is left to the schema.

    Raises:
        RecordError: it is too long, or holds a NUL.
    """
    if isinstance(prompt, str) and len(prompt) > LONGEST:
        cure = "look for a quotation mark that is not closed, or for the wrong column"
        raise RecordError(column, f"has {len(prompt):,} characters", expected=f"at most {LONGEST:,}", cure=cure)
    if isinstance(prompt, str) and "\0" in prompt:
        raise RecordError(column, "holds a NUL character", expected="text", cure="correct it or remove the row")
    return prompt


def _is_filled(value: object) -> bool:
    """Tell a value from none, which is NaN in tables that pandas wrote."""
    return value not in (None, "") and value == value


def _score(row: dict[str, Any]) -> float | None:
    """Return the highest of a row's scores; None if there is none."""
    found = []
    for name in _NSFW:
        value: Any = row.get(name)
        if _is_filled(value):
            try:
                found.append(float(value))
            except (TypeError, ValueError):
                raise RecordError(name, f"is {value!r}", expected="a number from 0 to 2", cure="correct it") from None
    return max(found, default=None)
