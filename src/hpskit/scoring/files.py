"""Files in, files out: thousands of (image, prompt) rows, scored once each, whatever happens in between.

While it runs, finished rows stand in `OUT.partial`, a log that survives a kill; the same command continues there.
At the end `OUT` appears whole, in the order of the input, then `OUT.manifest.json`, which says that it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpskit.errors import ImageError, InputError, OutputError, RecordError
from hpskit.files import AppendLog, publish, publish_json, read_json, read_rows, sha256_file
from hpskit.pixels import check_file
from hpskit.records import Item, ScorerInfo
from hpskit.scoring.scorer import PreferenceScorer

__all__ = ["ScoreFile", "Summary", "run"]

OUTPUT_COLUMNS = ("row", "score", "scorer", "error")
_SHOWN_PROBLEMS = 5

Problems = dict[int, str]


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
        if self.items.resolve() == self.out.resolve():
            raise InputError(f"out: {self.out} is the input itself; choose another name")

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
    """Rows that an earlier run had done already."""


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
    items, problems = _read(config)
    if problems and config.on_error == "fail":
        raise InputError(_describe(config, problems, len(items) + len(problems)))
    total = len(items) + len(problems)
    scorer = load()
    header = _header(config, scorer.info)
    if (finished := _finished(config, header)) is not None:
        return finished
    with AppendLog(config.partial) as log:
        done = _begin(log, header, config)
        resumed = len(done)
        for number, reason in problems.items():
            done.setdefault(number, {"row": number, "score": None, "error": reason})
        progress(len(done), total)
        todo = [item for item in items if item.row not in done]
        for lines in _scored(scorer, todo, config):
            log.append(*lines)
            done |= {line["row"]: line for line in lines}
            progress(len(done), total)
        skipped = _publish(config, items, done, scorer.info, header)
        config.partial.unlink()
    return Summary(out=config.out, rows=total, skipped=skipped, resumed=resumed)


def _read(config: ScoreFile) -> tuple[list[Item], Problems]:
    """Rows that look usable, and the reasons against the others."""
    root = config.image_root if config.image_root is not None else config.items.parent
    items: list[Item] = []
    problems: Problems = {}
    for number, row in read_rows(config.items):
        try:
            item = _item(number, row)
            check_file(root / item.image)
            items.append(item)
        except InputError as error:
            problems[number] = str(error)
    if not items and not problems:
        raise InputError(f"{config.items}: has no rows, expected at least one with 'image' and 'prompt'")
    return items, problems


def _item(number: int, row: Mapping[str, Any]) -> Item:
    for column in ("image", "prompt"):
        if column not in row:
            raise RecordError(f"column {column!r} is missing (there are: {', '.join(row) or 'none'})")
        if not isinstance(row[column], str):
            raise RecordError(f"{column} is {row[column]!r}, expected a string")
        if not row[column].strip():
            raise RecordError(f"{column} is empty")
    extra = {name: value for name, value in row.items() if name not in ("image", "prompt")}
    for name, value in extra.items():
        if name in OUTPUT_COLUMNS:
            raise RecordError(f"column {name!r} is needed for the output; rename it")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise RecordError(f"column {name!r} cannot be handed on as JSON ({error}); leave it out") from error
    return Item(row=number, image=row["image"], prompt=row["prompt"], extra=extra)


def _describe(config: ScoreFile, problems: Problems, total: int) -> str:
    shown = "; ".join(f"row {number}: {reason}" for number, reason in [*problems.items()][:_SHOWN_PROBLEMS])
    more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    cure = "mend them, or score the others with --on-error skip"
    return (
        f"{config.items}: {len(problems)} of {total} rows cannot be scored: {shown}{more}. Nothing was scored; {cure}"
    )


def _header(config: ScoreFile, info: ScorerInfo) -> dict[str, Any]:
    """What must be equal for two runs to be parts of one."""
    root = config.image_root if config.image_root is not None else config.items.parent
    return {
        "scorer": info.identity,
        "items_sha256": sha256_file(config.items),
        "image_root": os.fspath(root.resolve()),
        "on_error": config.on_error,
    }


def _finished(config: ScoreFile, header: Mapping[str, Any]) -> Summary | None:
    """The summary of an earlier complete run of the same thing, if its output stands there."""
    if config.partial.exists() or not config.out.exists():
        return None
    cure = "choose another --out, or delete the file"
    if not config.manifest.exists():
        raise OutputError(f"{config.out}: exists and was not made by this command; {cure}")
    manifest = read_json(config.manifest)
    _same(config.manifest, manifest.get("run", {}), header, cure)
    if manifest.get("out_sha256") != sha256_file(config.out):
        raise OutputError(f"{config.out}: has changed since it was made; {cure} to score again")
    rows, skipped = int(manifest["rows"]), int(manifest["skipped"])
    return Summary(out=config.out, rows=rows, skipped=skipped, resumed=rows)


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
    root = config.image_root if config.image_root is not None else config.items.parent
    rest = iter(items)
    for outcomes in scorer.stream((root / item.image for item in items), (item.prompt for item in items)):
        lines: list[dict[str, Any]] = []
        failure = ""
        for outcome, item in zip(outcomes, rest, strict=False):
            if not isinstance(outcome, ImageError):
                lines.append({"row": item.row, "score": _shortest(outcome)})
            elif config.on_error == "skip":
                lines.append({"row": item.row, "score": None, "error": str(outcome)})
            else:
                failure = failure or f"{config.items}: row {item.row}: {outcome}"
        yield lines
        if failure:
            cure = "mend it and run the same command again, or use --on-error skip (in a new --out)"
            raise RecordError(f"{failure}. The rows done so far are kept; {cure}")


def _shortest(score: float) -> float:
    """The shortest decimal that gives the same float32."""
    return float(f"{score:.9g}")


def _publish(
    config: ScoreFile,
    items: list[Item],
    done: Mapping[int, Mapping[str, Any]],
    info: ScorerInfo,
    header: Mapping[str, Any],
) -> int:
    by_row = {item.row: item for item in items}
    skipped = 0
    with publish(config.out) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for number in sorted(done):
            line = done[number]
            skipped += line["score"] is None
            item = by_row.get(number)
            known = {**item.extra, "image": item.image, "prompt": item.prompt} if item else {}
            value = {"row": number, **known, **line, "scorer": info.identity}
            handle.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    manifest = {
        "format": "hpskit scores 1",
        "rows": len(done),
        "skipped": skipped,
        "out_sha256": sha256_file(config.out),
        "items": config.items.name,
        "run": dict(header),
        "scorer": info.to_json(),
    }
    publish_json(config.manifest, manifest)
    return skipped
