"""Files in, files out: thousands of (image, prompt) rows, scored once each, whatever happens in between.

While it runs, scores stand in `OUT.partial`, a ledger that survives a kill; the same command continues there. At the
end `OUT` appears whole, in the order of the input, then `OUT.manifest.json`, which says that it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpskit.errors import ImageError, InputError, OutputError, RecordError, listed, shown
from hpskit.files import sha256_file
from hpskit.pixels import check_file
from hpskit.records import ScorerInfo
from hpskit.rows import read_rows
from hpskit.scoring.book import Book, Filled, read_images, stopped
from hpskit.scoring.scorer import PreferenceScorer
from hpskit.stage import Manifest, Progress, check_same_run, ledger_until_published, publish, read_manifest

__all__ = ["ScoreFile", "Summary", "run"]

_FORMAT = "hpskit scores 1"
_COLUMNS = {"image": "the path of a file", "prompt": "a text"}
"""Columns of the input, and what they hold."""
_OUTPUT_COLUMNS = ("row", "score", "scorer", "error")
_CURE = "choose another --out, or delete the file"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreFile:
    """Settings of a run over a file of rows."""

    items: Path
    """`.jsonl`, `.csv` or `.parquet` with the columns `image` and `prompt`; other columns are handed on."""
    out: Path
    """The `.jsonl` file to make."""
    image_root: Path | None = None
    """Folder that relative image paths start from; None is the folder of `items`."""
    on_error: Literal["fail", "skip"] = "fail"
    """What to do with a row that cannot be scored: stop, or go on and say why in that row of the output."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".jsonl":
            raise InputError("out", f"is {str(self.out)!r}", expected="a name that ends in '.jsonl'")
        if os.path.realpath(self.out) == os.path.realpath(self.items):
            raise InputError("out", f"is the input itself, {str(self.items)!r}", cure="choose another name")

    @property
    def root(self) -> Path:
        """Return the folder that relative image paths start from."""
        return self.items.parent if self.image_root is None else self.image_root

    @property
    def partial(self) -> Path:
        """The ledger of a run that is not finished."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def manifest(self) -> Path:
        """The record that the output is complete."""
        return self.out.with_name(f"{self.out.name}.manifest.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A finished run."""

    rows: int
    skipped: int
    resumed: int
    """Rows that an earlier run had scored already."""


@dataclass(kw_only=True, slots=True)
class _Row:
    number: int
    kept: dict[str, Any]
    """Columns that go into the output."""
    image: Path | None = None
    """None if the row cannot be scored."""
    prompt: str = ""
    problem: str = ""
    """Why the row cannot be scored."""


class _Manifest(Manifest):
    """The record beside a finished output."""

    rows: int
    skipped: int
    images_sha256: str
    """One hash over the SHA-256 of every image."""
    scorer: dict[str, Any]


def run(config: ScoreFile, load: Callable[[], PreferenceScorer], progress: Progress = lambda *_: None) -> Summary:
    """Score every row; continue where a killed run stopped.

    `load` makes the scorer; it is called only after all rows have been checked.

    Raises:
        InputError: rows that cannot be scored, in mode `fail`: before any scoring if their cause shows without
            decoding (columns, prompts, files that are missing or empty), else when they are reached.
        OutputError: the output cannot be written, or belongs to another input or another scorer.
    """
    rows = _read(config)
    good = [row for row in rows if not row.problem]
    if len(good) < len(rows) and (config.on_error == "fail" or not good):
        raise _refusal(config, rows, len(good))
    place = (config.out.parent, _FORMAT, (config.out.name,))
    before = read_manifest(*place, record=config.manifest.name, model=_Manifest)
    scorer = load()
    header = {
        "scorer": scorer.info.identity,
        "items_sha256": sha256_file(config.items),
        "image_root": os.path.realpath(config.root),
    }
    if before is not None:
        _check_finished(config, before, header, good)
        if not config.partial.exists():
            return _summary(config)
    with ledger_until_published(config.partial, header) as ledger:
        book = Book(ledger)
        filled = _fill(config, scorer, book, rows, good, progress)
        skipped = sum(bool(row.problem) for row in rows)
        digests = {row.number: digest for row, digest in zip(good, filled.digests, strict=True)}
        record = {
            "format": _FORMAT,
            "run": header,
            "rows": len(rows),
            "skipped": skipped,
            "images_sha256": _hash_of(filled.digests),
            "scorer": scorer.info.to_json(),
        }
        products = {config.out.name: _lines(scorer.info, book, rows, digests)}
        publish(config.out.parent, config.manifest.name, record, products)
    return Summary(rows=len(rows), skipped=skipped, resumed=filled.known)


def _fill(
    config: ScoreFile,
    scorer: PreferenceScorer,
    book: Book,
    rows: Sequence[_Row],
    good: Sequence[_Row],
    progress: Progress,
) -> Filled:
    """Score the good rows; those whose image turns out to be broken get a problem."""

    def broken(number: int, error: ImageError) -> None:
        if config.on_error == "fail":
            raise stopped(error, f"{config.items}: row {good[number].number}") from error
        good[number].problem = str(error)

    others = len(rows) - len(good)
    return book.fill(
        [scorer],
        ((row.image, row.prompt) for row in good if row.image is not None),
        broken=broken,
        progress=lambda done: progress("scoring", others + done, len(rows)),
        continuing=lambda known: progress("continuing", others + known, len(rows)),
    )


def _read(config: ScoreFile) -> list[_Row]:
    """Read all rows, each with what of it is handed on and, if it cannot be scored, the reason."""
    rows = []
    for number, value in read_rows(config.items):
        kept = {name: v for name, v in value.items() if name not in _OUTPUT_COLUMNS and not _objection(v)}
        row = _Row(number=number, kept=kept)
        try:
            _check_columns(value)
            check_file(config.root / value["image"])
            row.image, row.prompt = config.root / value["image"], value["prompt"]
        except InputError as error:
            row.problem = str(error)
        rows.append(row)
    if not rows:
        raise InputError(config.items, "has no rows", expected="at least one with 'image' and 'prompt'")
    return rows


def _objection(value: Any) -> str:
    """Say why a value cannot be written as JSON in UTF-8; empty if it can."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def _check_columns(row: Mapping[str, Any]) -> None:
    for column, what in _COLUMNS.items():
        place = f"column {column!r}"
        if column not in row:
            raise RecordError(place, f"is missing (there are: {', '.join(row) or 'none'})")
        if not isinstance(value := row[column], str):
            raise RecordError(place, f"is {shown(value, 40)}", expected=what)
        if not value.strip():
            raise RecordError(place, "is empty")
    for name, value in row.items():
        if name in _OUTPUT_COLUMNS:
            raise RecordError(f"column {name!r}", "is needed for the output", cure="rename it")
        if objection := _objection(value):
            raise RecordError(f"column {name!r}", f"cannot be written as JSON ({objection})", cure="leave it out")


def _refusal(config: ScoreFile, rows: list[_Row], good: int) -> InputError:
    problems = [row for row in rows if row.problem]
    which = listed([f"row {row.number}: {row.problem}" for row in problems], between="; ")
    found = f"{len(problems)} of {len(rows)} rows cannot be scored: {which}. Nothing was scored"
    return InputError(
        config.items, found, cure="mend them, or score the others with --on-error skip" if good else "mend the file"
    )


def _check_finished(config: ScoreFile, before: _Manifest, header: Mapping[str, str], rows: list[_Row]) -> None:
    """See that a complete output is that of this run, of these images, and unchanged."""
    check_same_run(config.manifest, before.run, header, cure=_CURE)
    if not before.holds(config.out.parent):
        raise OutputError(config.out, "has changed since it was made", cure=f"{_CURE} to score again")
    if (skipped := _summary(config).skipped) and config.on_error == "fail":
        found = f"has {skipped} rows that --on-error skip left out"
        raise OutputError(config.out, found, cure=f"mend them, and {_CURE}")
    if before.images_sha256 != _hash_of(read_images(row.image for row in rows if row.image is not None)):
        raise OutputError(config.out, "is of images that have changed since", cure=f"{_CURE} to score again")


def _summary(config: ScoreFile) -> Summary:
    """Count the rows of a complete output, whose hash is known to be right."""
    scores = [row["score"] for _, row in read_rows(config.out)]
    skipped = scores.count(None)
    return Summary(rows=len(scores), skipped=skipped, resumed=len(scores) - skipped)


def _hash_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _lines(info: ScorerInfo, book: Book, rows: Iterable[_Row], digests: Mapping[int, str]) -> Iterator[bytes]:
    for row in rows:
        score = None if row.problem else book.score(info.identity, digests[row.number], row.prompt)
        outcome = {"score": score} | ({"error": row.problem} if row.problem else {})
        value = {"row": row.number, **row.kept, **outcome, "scorer": info.identity}
        yield (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
