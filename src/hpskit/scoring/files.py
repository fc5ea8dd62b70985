"""Files in, files out: any number of (image, prompt) rows, scored once each, whatever happens in between.

While it runs, scores stand in `OUT.partial`, a ledger that survives a kill; the same command continues there. At the
end `OUT` appears whole, in the order of the input, then `OUT.manifest.json`, which says that it is complete. Rows are
read anew for each step, to be checked, to be scored, to be written: no more than 41 bytes of each are held, and of a
run that goes on some 70 more of each that it scores. Input that changes meanwhile is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt

from hpskit.errors import HpskitError, InputError, OutputError, RecordError, listed, shown
from hpskit.files import sha256_file
from hpskit.pixels import Encoded
from hpskit.records import ScorerInfo
from hpskit.scoring import outputs
from hpskit.scoring.addresses import Address
from hpskit.scoring.book import Book, Filled, Request, read_images, stopped
from hpskit.scoring.scorer import PreferenceScorer
from hpskit.scoring.tables import Table, fits, open_table, role_names
from hpskit.stage import Manifest, Progress, check_same_run, ledger_until_published, publish, read_manifest

_FORMAT = "hpskit scores 1"
_CURE = "choose another --out, or delete the file"
_ENDINGS = (".jsonl", ".csv", ".parquet")
_BRINGERS = 16
"""Images that are brought from addresses at a time."""
_TOLD = 10_000
"""Rows between two words on how far the check is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreFile:
    """Settings of a run over rows of images and prompts."""

    items: str | os.PathLike[str]
    """`.jsonl`, `.csv`, `.tsv`, `.parquet` or `.tar`; several as `shard-{00..12}.tar` or `data/*.parquet`."""
    out: Path
    """The `.jsonl`, `.csv` or `.parquet` file to make: all columns of the input, and the score."""
    image_root: Path | None = None
    """Folder that relative image paths start from; None is the folder of `items`."""
    on_error: Literal["fail", "skip"] = "fail"
    """What to do with a row that cannot be scored: stop, or go on and say why in that row of the output."""
    columns: str = ""
    """The columns, as `image=NAME,prompt=NAME`; what is not said is found by usual names."""
    part: str = "1/1"
    """The share of the rows, `2/8`: the parts, joined in order, are what one run gives."""
    prefix: str = ""
    """Stands before the names of the columns that are added, where the input has columns of their names."""
    cache: Path | None = None
    """Folder that keeps images brought from addresses; None keeps none."""

    def __post_init__(self) -> None:
        if self.out.suffix not in _ENDINGS:
            expected = f"a name that ends in {', '.join(_ENDINGS)}"
            raise InputError("--out", f"is {shown(str(self.out))}", expected=expected)
        if fits(self.items, self.out):
            found = f"is the input itself, or one of {shown(os.fspath(self.items))}"
            raise InputError("--out", found, cure="choose another name or folder")
        number, _, of = self.part.partition("/")
        if not re.fullmatch(r"[1-9][0-9]{0,8}/[1-9][0-9]{0,8}", self.part, re.ASCII) or int(number) > int(of):
            raise InputError("--part", f"is {shown(self.part)}", expected="I/N with I from 1 to N, as 2/8")

    def span(self, total: int) -> range:
        """Return the numbers of the rows of this part, from 1."""
        number, of = map(int, self.part.split("/"))
        return range(total * (number - 1) // of + 1, total * number // of + 1)

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


class _Manifest(Manifest):
    """The record beside a finished output."""

    rows: NonNegativeInt
    skipped: NonNegativeInt
    images_sha256: str
    """One hash over the SHA-256 of every image that is a file of its own."""
    scorer: dict[str, Any]


def run(config: ScoreFile, load: Callable[[], PreferenceScorer], progress: Progress = lambda *_: None) -> Summary:
    """Score every row; continue where a killed run stopped. What is guessed, or left out of the output, is a warning.

    `load` makes the scorer; it is called only after all rows have been checked.

    Raises:
        InputError: rows that cannot be scored, in mode `fail`: before any scoring if their cause shows without
            decoding (columns, prompts, files that are missing or empty), else when they are reached.
        OutputError: the output cannot be written, or belongs to another input or another scorer; or the input changes.
    """
    work = Work(config=config, table=open_table(config.items, config.columns))
    try:
        return finish(work, load, progress)
    except Exception:
        work.table.check_unchanged()  # else whatever is told of a row may be of another
        raise


def finish(work: Work, load: Callable[[], PreferenceScorer], progress: Progress) -> Summary:
    """Do what is left to be done; see `run`."""
    config = work.config
    work.check(progress)
    place = (config.out.parent, _FORMAT, (config.out.name,))
    before = read_manifest(*place, record=config.manifest.name, model=_Manifest)
    scorer = load()
    header = {"scorer": scorer.info.identity, **work.header()}
    if before is not None:
        _check_finished(work, before, header)
        if not config.partial.exists():
            return Summary(rows=before.rows, skipped=before.skipped, resumed=before.rows - before.skipped)
    with ledger_until_published(config.partial, header) as ledger:
        book = Book(ledger)
        filled = work.fill(scorer, book, progress)
        record = {
            "format": _FORMAT,
            "run": header,
            "rows": len(work.span),
            "skipped": len(work.problems),
            "images_sha256": _hash_of(d for d, own in zip(filled.digests, work.files, strict=True) if own),
            "scorer": scorer.info.to_json(),
        }
        parts = work.written(scorer.info, book, filled)
        publish(config.out.parent, config.manifest.name, record, {config.out.name: parts})
    return Summary(rows=len(work.span), skipped=len(work.problems), resumed=filled.known)


@dataclass(kw_only=True, slots=True)
class Work:
    """The rows of a run, and what becomes known of them."""

    config: ScoreFile
    table: Table
    span: range = range(0)
    problems: dict[int, str] = dataclass_field(default_factory=dict)
    """Number of a row -> why it cannot be scored."""
    numbers: array[int] = dataclass_field(default_factory=lambda: array("q"))
    """Of the rows that were asked of the book, in order."""
    files: bytearray = dataclass_field(default_factory=bytearray)
    """Of each of them, 1 if its image is a file of its own."""
    addresses: bool = False

    @property
    def root(self) -> Path:
        """Return the folder that relative image paths start from."""
        return self.table.files[0].parent if self.config.image_root is None else self.config.image_root

    @property
    def ours(self) -> list[str]:
        """Name the columns that are added."""
        return [self.config.prefix + name for name in outputs.OURS]

    @property
    def typed(self) -> bool:
        """Tell whether columns go as they are from one parquet file into another."""
        return self.config.out.suffix == ".parquet" and self.table.typed

    def header(self) -> dict[str, str]:
        """Say what must be equal for two runs to be parts of one."""
        if len(self.table.files) == 1:
            items = sha256_file(self.table.files[0])
        else:  # of the files that this part reads, and how many rows there are in each of all
            own = (sha256_file(path) for path, *_ in self.table.parts(self.span))
            items = _hash_of([*own, *map(str, self.table.sizes())])
        return {
            "items_sha256": items,
            "image_root": os.path.realpath(self.root),
            "columns": role_names(self.table),
            "part": self.config.part,
            "prefix": self.config.prefix,
        }

    def check(self, progress: Progress) -> None:
        """Read all rows but for what images they hold, and see that they can be scored and written."""
        table, config = self.table, self.config
        if taken := [name for name in self.ours if name in table.columns]:
            found = f"has the columns {listed(map(shown, taken))}, which the output adds"
            raise InputError(
                table.files[0], found, cure="rename them, or call ours otherwise: --prefix new_ gives new_score"
            )
        self.span = config.span(sum(table.sizes()) if config.part != "1/1" or len(table.files) > 1 else 0)
        every = None if config.part == "1/1" else self.span
        only = (table.image, table.prompt) if self.typed else ()
        count = 0
        for number, place, value in table.rows(every, images=False, only=only):
            count += 1
            try:
                self.check_row(value)
                self.addresses |= isinstance(table.picture(value, self.root, None), Address)
            except InputError as error:
                where = place.removeprefix(f"{table.files[0]}: ") if len(table.files) == 1 else place
                self.problems[number] = f"{where}\0{error}"
            if count % _TOLD == 0:
                progress("checking", count, len(self.span))
        if not count and config.part == "1/1":
            raise InputError(table.name, "has no rows", expected="at least one with an image and a prompt")
        self.span = self.span if config.part != "1/1" else range(1, count + 1)
        self.refuse(count)
        if config.out.suffix == ".parquet" and not table.typed:
            table.schema = outputs.types(table, self.ours)
        self.say()

    def check_row(self, row: Mapping[str, Any]) -> None:
        """See that a row has a prompt, and nothing that its output cannot have."""
        self.table.prompt_of(row)
        if taken := [name for name in self.ours if name in row]:
            raise RecordError(
                f"column {shown(taken[0])}", "is needed for the output", cure="rename it, or use --prefix"
            )
        if not self.typed and outputs.objection(row):
            name, why = next((name, why) for name in row if (why := outputs.objection({name: row[name]})))
            cure = "--out .parquet keeps it" if self.table.typed else "leave it out"
            raise RecordError(f"column {shown(name)}", f"cannot be written as JSON ({why})", cure=cure)

    def refuse(self, count: int) -> None:
        """Stop if rows cannot be scored and that is not to be passed over, or if none of the whole can be."""
        bad = len(self.problems)
        if bad and (self.config.on_error == "fail" or (bad == count and self.config.part == "1/1")):
            which = listed([text.replace("\0", ": ") for text in self.problems.values()], between="; ")
            found = f"{bad} of {count} rows cannot be scored: {which}. Nothing was scored"
            cure = "mend them, or score the others with --on-error skip" if bad < count else "mend the file"
            raise InputError(self.table.name, found, cure=cure)
        self.problems = {number: text.partition("\0")[2] for number, text in self.problems.items()}

    def say(self) -> None:
        """Warn of what was guessed, and of what is not in the output."""
        notes = [self.table.note]
        if self.config.out.suffix != ".parquet" and (names := outputs.left_out(self.table)):
            notes.append(
                f"{self.config.out}: is without the bytes of {listed(map(shown, names))}; --out .parquet keeps them"
            )
        if self.table.ignored:
            notes.append(f"{self.table.name}: members .{', .'.join(sorted(self.table.ignored)[:8])} are not read")
        for note in filter(None, notes):
            warnings.warn(note, stacklevel=5)

    def requests(self) -> Iterator[Request]:
        """Yield the rows that can be scored; those whose image turns out to be none get a problem."""
        table = self.table
        for number, place, value in table.rows(self.span, only=(table.image, table.prompt)):
            if number in self.problems:
                continue
            try:
                image = table.picture(value, self.root, self.config.cache)
                assert image is not None
            except InputError as error:
                self.fails(number, error)
                continue
            self.numbers.append(number)
            self.files.append(isinstance(image, Path))
            yield (
                Encoded(image.data, f"{place}: {image.place}") if isinstance(image, Encoded) else image,
                value[table.prompt],
            )

    def fails(self, number: int, error: HpskitError) -> None:
        """Stop at a row, or note why it has no score."""
        if self.config.on_error == "fail":
            raise stopped(error, self.table.place(number)) from error
        self.problems[number] = str(error)

    def fill(self, scorer: PreferenceScorer, book: Book, progress: Progress) -> Filled:
        """Score the rows."""
        others, every = len(self.problems), len(self.span)
        return book.fill(
            [scorer],
            self.requests(),
            broken=lambda at, error: self.fails(self.numbers[at], error),
            progress=lambda done: progress("scoring", others + done, every),
            continuing=lambda known: progress("continuing", others + known, every),
            **({"readers": _BRINGERS} if self.addresses else {}),
        )

    def files_now(self) -> Iterator[Path]:
        """Find the images that are files of their own, as `requests` does; those that were found broken stay so."""
        table = self.table
        for number, _, value in table.rows(self.span, images=table.embeds, only=(table.image,)):
            with contextlib.suppress(InputError):
                if number not in self.problems and isinstance(image := table.picture(value, self.root, None), Path):
                    yield image

    def written(self, info: ScorerInfo, book: Book, filled: Filled) -> Iterator[bytes]:
        """Write the output; if the input has changed at its end, that is an error, and nothing is published."""
        outcome = self.outcomes(info, book, filled)
        yield from outputs.written(self.config.out.suffix, self.table, self.span, self.ours, info.identity, outcome)
        self.table.check_unchanged()

    def outcomes(self, info: ScorerInfo, book: Book, filled: Filled) -> outputs.Outcome:
        """Return what tells the outcome of each row, asked in order."""
        at = 0

        def outcome(number: int, prompt: str) -> tuple[float | None, str]:
            nonlocal at
            digest = ""
            if at < len(self.numbers) and self.numbers[at] == number:
                digest = filled.digests[at]
                at += 1
            why = self.problems.get(number, "")
            return (None, why) if why else (book.score(info.identity, digest, prompt), "")

        return outcome


def _check_finished(work: Work, before: _Manifest, header: Mapping[str, str]) -> None:
    """See that a complete output is that of this run, of these images, and unchanged."""
    config = work.config
    check_same_run(config.manifest, before.run, header, cure=_CURE)
    if not before.holds(config.out.parent):
        raise OutputError(config.out, "has changed since it was made", cure=f"{_CURE} to score again")
    if config.on_error == "fail" and before.skipped:
        found = f"has {before.skipped} rows that --on-error skip left out"
        raise OutputError(config.out, found, cure=f"mend them, and {_CURE}")
    if before.images_sha256 != _hash_of(read_images(work.files_now(), broken=True)):
        raise OutputError(config.out, "is of images that have changed since", cure=f"{_CURE} to score again")


def _hash_of(digests: Iterable[str]) -> str:
    """Hash digests, one a line."""
    found, between = hashlib.sha256(), b""
    for digest in digests:
        found.update(between + digest.encode())
        between = b"\n"
    return found.hexdigest()
