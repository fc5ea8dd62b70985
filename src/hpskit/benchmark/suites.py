"""Prompt suites: the benchmark of HPS v2, DrawBench, PartiPrompts, or any list of prompts. The package ships none.

A named suite is looked for in `$HPSKIT_HOME/suites/NAME…` first, where it can be put by hand, and then on the hub. A
suite has categories (the four styles of `hpsv2`) or none; prompts are numbered from 0 within their category, and the
image of a prompt has that number as its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpskit.errors import InputError, OutputError, RecordError
from hpskit.files import expand, explain, publish, read_json
from hpskit.hub import home, hub_file
from hpskit.rows import read_rows
from hpskit.schema import Strict

__all__ = [
    "KNOWN",
    "STYLES",
    "SUITES",
    "Suite",
    "SuitePrompt",
    "image_name",
    "open_suite",
    "prompts_sha256",
    "style_prompts",
    "write_prompts",
]

STYLES = ("anime", "concept-art", "paintings", "photo")
"""The official names of the styles of `hpsv2`, in the official order."""

KNOWN = {"hpsv2": "9efced44e673c1e81bbf48a8117e29e3afec57fce6624aec647e9845c2c8170a"}
"""SHA-256 of suites whose prompts are fixed for good: a folder that holds them is that suite, whatever it is called."""

_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt")
_LONGEST = 120
"""Bytes of a category's name."""
_Row = tuple[str, object, object, object]
"""Place, category, prompt, and the number that the row states (None if it does not)."""
_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


class SuitePrompt(Strict):
    """One prompt of a suite, and where its image belongs."""

    category: str
    """Style or kind; empty in a suite without categories."""
    number: int
    """From 0, within the category."""
    prompt: str
    """Not empty."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The prompts that models are compared on, in order."""

    name: str
    """`hpsv2`, or what the file is called."""
    source: str
    """Where the prompts came from: a repository of the hub, or the name of a file or folder."""
    prompts: tuple[SuitePrompt, ...]
    """At least one; those of a category need not follow one another."""

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """In the order of their first prompts; `("",)` if the suite has none."""
        return tuple(dict.fromkeys(prompt.category for prompt in self.prompts))

    @cached_property
    def sha256(self) -> str:
        """64 hex digits over category and text of every prompt in order, whatever file holds them."""
        return prompts_sha256((prompt.category, prompt.prompt) for prompt in self.prompts)

    def only(self, categories: Sequence[str]) -> Suite:
        """The same without the other categories."""
        kept = tuple(prompt for prompt in self.prompts if prompt.category in categories)
        return Suite(name=self.name, source=self.source, prompts=kept)


def prompts_sha256(prompts: Iterable[tuple[str, str]]) -> str:
    """64 hex digits over (category, prompt) in order."""
    text = json.dumps([list(both) for both in prompts], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def image_name(prompt: SuitePrompt, ending: str = ".jpg") -> str:
    """The name of a prompt's image in the official layout, for example `anime/00012.jpg`."""
    return f"{prompt.category}/{prompt.number:05d}{ending}" if prompt.category else f"{prompt.number:05d}{ending}"


def open_suite(name: str | os.PathLike[str]) -> Suite:
    """Read a suite.

    Args:
        name: one of `SUITES`; or a file: a JSON list of prompts, a text file with one prompt a line, or JSONL, CSV, TSV
            or parquet with a column `prompt` and perhaps `category` (capitals do not matter); or a folder with
            `prompts.jsonl`, or with one JSON list for each category.

    Raises:
        InputError: no such file or suite, or it has no prompts.
        RecordError: a prompt is not a text, or a category cannot be the name of a folder; file and row are named.
        NotCachedError: a named suite is not on this machine and cannot be fetched.
    """
    if (text := os.fspath(name)) in SUITES:
        local = _put_by_hand(text)
        return _read(local, text, local.name) if local else SUITES[text]()
    path = expand(text)
    if not path.exists():
        named = ", ".join(SUITES)
        raise InputError(f"suite: {text!r} is neither a file or folder nor one of {named}; name one of them")
    return _read(path, path.stem if path.is_file() else path.resolve().name, path.name or path.resolve().name)


def _put_by_hand(name: str) -> Path | None:
    folder = home() / "suites"
    found = [path for path in (folder / name, *(folder / f"{name}{ending}" for ending in _FILES)) if path.exists()]
    if len(found) > 1:
        raise InputError(f"{folder}: holds {found[0].name} and {found[1].name}, expected one of them; remove the other")
    return found[0] if found else None


def _read(path: Path, name: str, source: str) -> Suite:
    return _suite(name, source, path, _rows(path))


def _suite(name: str, source: str, path: Path, rows: Iterable[_Row]) -> Suite:
    """Number the prompts."""
    counts: dict[str, int] = {}
    prompts = []
    for place, found, prompt, stated in rows:
        category = _category(place, found)
        number = counts.get(category, 0)
        if stated is not None and str(stated).strip() != str(number):
            cure = "sort the rows, or remove the column"
            raise RecordError(f"{place}: number is {stated!r}, expected {number}, its place in the category; {cure}")
        counts[category] = number + 1
        prompts.append(SuitePrompt(category=category, number=number, prompt=_prompt(place, prompt)))
    if not prompts:
        raise InputError(f"{path}: has no prompts, expected at least one")
    _check_folders(path, counts)
    suite = Suite(name=name, source=source, prompts=tuple(prompts))
    known = next((name for name, digest in KNOWN.items() if digest == suite.sha256), None)
    if known is None and name in KNOWN:
        warnings.warn(
            f"{path}: these are not the published prompts of {name}, do not compare with its tables", stacklevel=3
        )
    return Suite(name=known or name, source=source, prompts=suite.prompts)


def _prompt(place: str, value: object) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{place}: prompt is {value!r}, expected a text; put it in quotes or remove the row")
    if not value.strip():
        raise RecordError(f"{place}: prompt is empty, expected a text; fill it in or remove the row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecordError(f"{place}: prompt is not Unicode text ({error.reason}); save the file as UTF-8") from error
    return value


def _category(place: str, value: object) -> str:
    """Without white space at the ends, which a folder's name had better not have."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RecordError(f"{place}: category is {value!r}, expected a text; put it in quotes")
    category = value.strip()
    if _UNFIT.search(category) or category in (".", "..") or len(category.encode()) > _LONGEST:
        cure = f'use letters, digits, spaces, "-" and "_", {_LONGEST} bytes at most'
        raise RecordError(f"{place}: category is {value!r}, expected what can be the name of a folder; {cure}")
    return category


def _check_folders(path: Path, categories: Iterable[str]) -> None:
    """Each category has a folder of its own, also where capitals do not count."""
    seen: dict[str, str] = {}
    for category in categories:
        other = seen.setdefault(category.casefold(), category)
        if other != category:
            raise InputError(f"{path}: categories {other!r} and {category!r} differ in capitals only; rename one")
    if "" in seen and len(seen) > 1:
        what = "some prompts have a category and some have none"
        raise InputError(f"{path}: {what}, expected all or none; fill in the column 'category'")


def _rows(path: Path) -> Iterator[_Row]:
    if path.is_dir():
        yield from _folder_rows(path)
    elif path.suffix.lower() == ".json":
        yield from _list_rows(path, None)
    elif path.suffix.lower() == ".txt":
        yield from _text_rows(path)
    else:
        yield from _table_rows(path)


def _folder_rows(folder: Path) -> Iterator[_Row]:
    if (whole := folder / "prompts.jsonl").is_file():
        yield from _rows(whole)
        return
    lists = sorted(folder.glob("*.json"))
    if not lists:
        raise InputError(f"{folder}: has neither prompts.jsonl nor CATEGORY.json, expected a suite; name a file")
    for path in lists:
        yield from _list_rows(path, path.stem)


def _list_rows(path: Path, category: str | None) -> Iterator[_Row]:
    value = read_json(path)
    if not isinstance(value, list):
        raise InputError(f"{path}: is {type(value).__name__}, expected a list of prompts")
    for number, entry in enumerate(value, 1):
        place = f"{path}: entry {number}"
        if isinstance(entry, dict) and category is None:
            yield place, *_fields(place, entry)
        else:
            yield place, category, entry, None


def _text_rows(path: Path) -> Iterator[_Row]:
    try:
        lines = re.split(r"\r?\n", path.read_text(encoding="utf-8-sig"))  # splitlines() knows ten more line ends
    except (OSError, UnicodeDecodeError) as error:
        reason = explain(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}: line {number}", None, line, None


def _table_rows(path: Path) -> Iterator[_Row]:
    for number, row in read_rows(path):
        place = f"{path}: row {number}"
        yield place, *_fields(place, row)


def _fields(place: str, row: dict[str, Any]) -> tuple[object, object, object]:
    """Category, prompt and number of a row; DrawBench and PartiPrompts write them with capitals."""
    found = {name.casefold(): value for name, value in row.items()}
    if "prompt" not in found:
        columns = ", ".join(row) or "none"
        raise RecordError(f"{place}: column 'prompt' is missing (there are: {columns}); add or rename it")
    return found.get("category"), found["prompt"], found.get("number")


def style_prompts(style: str) -> Path:
    """The file with the prompts of one style of `hpsv2`, or of `drawbench`: a JSON list.

    It is taken from `$HPSKIT_HOME/suites/hpsv2/STYLE.json` (DrawBench: `suites/drawbench.json`), from
    `$HPS_ROOT/datasets/benchmark` (where the official package keeps it, `~/.cache/hpsv2` if HPS_ROOT is not set), or
    from the hub.

    Raises:
        NotCachedError: it is not on this machine and cannot be fetched.
    """
    name = f"{style}.json"
    own = home() / "suites" / (name if style == "drawbench" else f"hpsv2/{name}")
    official = expand(os.environ.get("HPS_ROOT") or "~/.cache/hpsv2") / "datasets/benchmark" / name
    for path in (own, official):
        if path.is_file():
            return path
    cure = f"Fetch it elsewhere and put it at {own}, or name prompts of your own (--suite FILE)"
    return hub_file("zhwang/HPDv2", f"benchmark/{name}", repo_type="dataset", cure=cure)


def _hpsv2() -> Suite:
    paths = {style: style_prompts(style) for style in STYLES}
    rows = (row for style, path in paths.items() for row in _list_rows(path, style))
    return _suite("hpsv2", "zhwang/HPDv2", paths[STYLES[0]].parent, rows)


def _drawbench() -> Suite:
    return _read(style_prompts("drawbench"), "drawbench", "zhwang/HPDv2")


def _partiprompts() -> Suite:
    cure = f"Fetch PartiPrompts.tsv elsewhere and put it at {home() / 'suites/partiprompts.tsv'}"
    path = hub_file("nateraw/parti-prompts", "PartiPrompts.tsv", repo_type="dataset", cure=cure)
    return _read(path, "partiprompts", "nateraw/parti-prompts")


SUITES: dict[str, Callable[[], Suite]] = {"hpsv2": _hpsv2, "drawbench": _drawbench, "partiprompts": _partiprompts}
"""Suites that have a name, and where they come from."""


def write_prompts(suite: Suite, folder: Path) -> Path:
    """Write `prompts.jsonl`: category, number, prompt and the name that the image must have, one line for each prompt.

    The file is a suite itself, and with its column `image` it is what `hpskit score --pairs` reads.

    Raises:
        OutputError: it cannot be written, or something else has its name.
    """
    path = folder / "prompts.jsonl"
    lines = []
    for prompt in suite.prompts:
        row: dict[str, Any] = {"category": prompt.category} if prompt.category else {}
        row |= {"number": prompt.number, "image": image_name(prompt), "prompt": prompt.prompt}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    text = "".join(lines).encode()
    if path.exists() and not (path.is_file() and path.read_bytes() == text):
        raise OutputError(f"{path}: is there already and is something else; choose another --out, or move it away")
    with publish(path) as temporary:
        temporary.write_bytes(text)
    return path
