"""Files in, files out: thousands of (image, prompt) rows, scored once each, whatever happens in between.

While it runs, finished rows stand in `OUT.partial`, a log that survives a kill; the same command continues there.
At the end `OUT` appears whole, in the order of the input, then `OUT.manifest.json`, which says that it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpskit.errors import ImageError, InputError, OutputError, RecordError
from hpskit.files import AppendLog, publish, publish_json, read_json, sha256_file
from hpskit.pixels import check_file
from hpskit.records import Item, ScorerInfo
from hpskit.rows import read_rows
from hpskit.scoring.scorer import PreferenceScorer

__all__ = ["ScoreFile", "Summary", "run"]

OUTPUT_COLUMNS = ("row", "score", "scorer", "error")
_SHOWN_PROBLEMS = 5

Problems = dict[int, str]
Rows = dict[int, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreFile:
    """What to score and where to put it."""

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
            raise InputError(f"out: {self.out} ends in {self.out.suffix!r}, expected '.jsonl'")
        if self.on_error not in ("fail", "skip"):
            raise InputError(f"on_error: is {self.on_error!r}, expected 'fail' or 'skip'")
        if os.path.realpath(self.items) == os.path.realpath(self.out):
            raise InputError(f"out: {self.out} is the input itself; choose another name")

    @property
    def root(self) -> Path:
        """Where relative image paths start."""
        return self.items.parent if self.image_root is None else self.image_root

    @property
    def partial(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def manifest(self) -> Path:
        return self.out.with_name(f"{self.out.name}.manifest.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has done."""

    out: Path
    rows: int
    skipped: int
    resumed: int
    """Rows that an earlier run had scored already."""


def run(
    config: ScoreFile,
    load: Callable[[], PreferenceScorer],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Summary:
    """Score every row; continue where a killed run stopped.

    Args:
        config: what and where.
        load: makes the scorer; called only after all rows have been checked.
        progress: called with rows done and rows in all.

    Raises:
        InputError: rows that cannot be scored, in mode `fail`: before any scoring if their cause shows without
            decoding (columns, prompts, files that are missing or empty), else when they are reached.
        OutputError: the output cannot be written, or belongs to another input or another scorer.
    """
    items, problems, known = _read(config)
    if problems and (config.on_error == "fail" or not items):
        raise InputError(_describe(config, problems, len(items) + len(problems)))
    total = len(items) + len(problems)
    scorer = load()
    header = _header(config, scorer.info)
    if (finished := _finished(config, header, items)) is not None:
        return finished
    with AppendLog(config.partial) as log:
        done = _still_valid(_begin(log, header, config), items, config)
        resumed = len(done)
        done |= {number: {"row": number, "score": None, "error": reason} for number, reason in problems.items()}
        progress(len(done), total)
        todo = [item for item in items if item.row not in done]
        for lines in _scored(scorer, todo, config):
            log.append(*lines)
            done |= {line["row"]: line for line in lines}
            progress(len(done), total)
        skipped = _publish(config, items, known, done, scorer.info, header)
    config.partial.unlink()  # after it was closed: Windows removes no open file
    return Summary(out=config.out, rows=total, skipped=skipped, resumed=resumed)


def _read(config: ScoreFile) -> tuple[list[Item], Problems, Rows]:
    """Rows that look usable, the reasons against the others, and what of each row is handed on to the output."""
    items: list[Item] = []
    problems: Problems = {}
    known: Rows = {}
    for number, row in read_rows(config.items):
        known[number] = {name: value for name, value in row.items() if _can_be_kept(name, value)}
        try:
            item = _item(number, row)
            check_file(config.root / item.image)
            items.append(item)
        except InputError as error:
            problems[number] = str(error)
    if not items and not problems:
        raise InputError(f"{config.items}: has no rows, expected at least one with 'image' and 'prompt'")
    return items, problems, known


def _can_be_kept(name: str, value: Any) -> bool:
    """Whether a column can stand in the output, also of a row that is skipped (because of another column, perhaps)."""
    return name not in OUTPUT_COLUMNS and not _objection(value)


def _objection(value: Any) -> str:
    """Why a value cannot be written as JSON in UTF-8; empty if it can."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def _item(number: int, row: Mapping[str, Any]) -> Item:
    for column in ("image", "prompt"):
        if column not in row:
            raise RecordError(f"column {column!r} is missing (there are: {', '.join(row) or 'none'})")
        if not isinstance(row[column], str):
            raise RecordError(f"{column} is {row[column]!r}, expected a string")
        if not row[column].strip():
            raise RecordError(f"{column} is empty")
        if objection := _objection(row[column]):
            raise RecordError(f"{column} is not Unicode text ({objection})")
    extra = {name: value for name, value in row.items() if name not in ("image", "prompt")}
    for name, value in extra.items():
        if name in OUTPUT_COLUMNS:
            raise RecordError(f"column {name!r} is needed for the output; rename it")
        if objection := _objection(value):
            raise RecordError(f"column {name!r} cannot be handed on as JSON ({objection}); leave it out")
    return Item(row=number, image=row["image"], prompt=row["prompt"], extra=extra)


def _describe(config: ScoreFile, problems: Problems, total: int) -> str:
    shown = "; ".join(f"row {number}: {reason}" for number, reason in [*problems.items()][:_SHOWN_PROBLEMS])
    more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    cure = "mend them, or score the others with --on-error skip" if len(problems) < total else "mend the file"
    return (
        f"{config.items}: {len(problems)} of {total} rows cannot be scored: {shown}{more}. Nothing was scored; {cure}"
    )


def _header(config: ScoreFile, info: ScorerInfo) -> dict[str, Any]:
    """What must be equal for two runs to be parts of one."""
    return {
        "scorer": info.identity,
        "items_sha256": sha256_file(config.items),
        "image_root": os.path.realpath(config.root),
    }


def _stamp(path: Path) -> str:
    """What changes when an image is overwritten."""
    status = path.stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _stamps(items: list[Item], config: ScoreFile) -> str:
    """One hash for the state of all images."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.row} {_stamp(config.root / item.image)}\n".encode())
    return digest.hexdigest()


def _still_valid(done: Rows, items: list[Item], config: ScoreFile) -> Rows:
    """Rows of an earlier run that got a score and whose image is still the same file."""
    stamps = {item.row: _stamp(config.root / item.image) for item in items if item.row in done}
    return {n: line for n, line in done.items() if line["score"] is not None and line["image"] == stamps.get(n)}


def _finished(config: ScoreFile, header: Mapping[str, Any], items: list[Item]) -> Summary | None:
    """The summary of an earlier complete run of the same thing, if its output stands there."""
    if config.partial.exists() or not config.out.exists():
        return None
    cure = "choose another --out, or delete the file"
    if not config.manifest.exists():
        raise OutputError(f"{config.out}: exists and was not made by this command; {cure}")
    manifest = read_json(config.manifest)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("run"), dict):
        raise OutputError(f"{config.manifest}: was not made by this command; {cure}")
    _same(config.manifest, manifest["run"], header, cure)
    if manifest.get("out_sha256") != sha256_file(config.out):
        raise OutputError(f"{config.out}: has changed since it was made; {cure} to score again")
    if manifest.get("images_stamp") != _stamps(items, config):
        raise OutputError(f"{config.out}: images have changed since they were scored; {cure} to score again")
    rows, skipped = int(manifest["rows"]), int(manifest["skipped"])
    if skipped and config.on_error == "fail":
        raise OutputError(f"{config.out}: {skipped} of its rows were skipped by --on-error skip; mend them, and {cure}")
    return Summary(out=config.out, rows=rows, skipped=skipped, resumed=rows - skipped)


def _begin(log: AppendLog, header: Mapping[str, Any], config: ScoreFile) -> dict[int, dict[str, Any]]:
    """The rows that an interrupted run has left; starts the log if it is new."""
    if not log.lines:
        log.append(header)
        return {}
    _same(log.path, log.lines[0], header, f"finish that run first, or delete {config.partial.name} to start anew")
    return {line["row"]: line for line in log.lines[1:]}


def _same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any], cure: str) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise OutputError(f"{path}: {name} is {found.get(name)!r}, this run has {value!r}; {cure}")


def _scored(scorer: PreferenceScorer, items: list[Item], config: ScoreFile) -> Iterator[list[dict[str, Any]]]:
    rest = iter(items)
    paths = (config.root / item.image for item in items)
    for outcomes in scorer.stream(paths, (item.prompt for item in items)):
        lines: list[dict[str, Any]] = []
        failure = ""
        for outcome, item in zip(outcomes, rest, strict=False):
            if not isinstance(outcome, ImageError):
                stamp = _stamp(config.root / item.image)
                lines.append({"row": item.row, "score": _shortest(outcome), "image": stamp})
            elif config.on_error == "skip":
                lines.append({"row": item.row, "score": None, "error": str(outcome)})
            else:
                failure = failure or f"{config.items}: row {item.row}: {outcome}"
        yield lines
        if failure:
            cure = "mend it and run the same command again, or use --on-error skip"
            raise RecordError(f"{failure}. The rows done so far are kept; {cure}")


def _shortest(score: float) -> float:
    """The shortest decimal that gives the same float32."""
    return float(f"{score:.9g}")


def _publish(
    config: ScoreFile,
    items: list[Item],
    known: Rows,
    done: Mapping[int, Mapping[str, Any]],
    info: ScorerInfo,
    header: Mapping[str, Any],
) -> int:
    skipped = 0
    with publish(config.out) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for number in sorted(done):
            line = done[number]
            skipped += line["score"] is None
            outcome = {name: line[name] for name in ("score", "error") if name in line}
            value = {"row": number, **known[number], **outcome, "scorer": info.identity}
            handle.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    manifest = {
        "format": "hpskit scores 1",
        "rows": len(done),
        "skipped": skipped,
        "out_sha256": sha256_file(config.out),
        "items": config.items.name,
        "images_stamp": _stamps(items, config),
        "run": dict(header),
        "scorer": info.to_json(),
    }
    publish_json(config.manifest, manifest)
    return skipped
