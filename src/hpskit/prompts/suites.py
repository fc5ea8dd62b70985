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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from hpskit.errors import InputError, OutputError, RecordError, shown
from hpskit.files import expand, publish, read_bytes, read_json
from hpskit.hub import home, hub_file
from hpskit.rows import read_rows
from hpskit.schema import Strict, parse

STYLES = ("anime", "concept-art", "paintings", "photo")
"""The official names of the styles of `hpsv2`, in the official order."""

SUITES = ("hpsv2", "drawbench", "partiprompts")
"""Suites that have a name."""

KNOWN = {"hpsv2": "9efced44e673c1e81bbf48a8117e29e3afec57fce6624aec647e9845c2c8170a"}
"""SHA-256 of suites whose prompts are fixed for good: a folder that holds them is that suite, whatever it is called."""

_FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt")
_LONGEST = 120
"""Bytes of a category's name."""
LONGEST = 20_000
"""Characters of a prompt; more are a file in the wrong place, or a quotation mark that is never closed."""
_UNFIT = re.compile(r'[/\\:*?"<>|\x00-\x1f]')

Row = tuple[str, dict[str, Any]]
"""Place of a prompt, and its `prompt`, and perhaps `category`, `number` and `id`."""


def _folder_name(category: str) -> str:
    category = category.strip()
    unfit = _UNFIT.search(category) or category in (".", "..") or not category.isprintable()
    if unfit or len(category.encode()) > _LONGEST:
        cure = f'use letters, digits, spaces, "-" and "_", {_LONGEST} bytes at most'
        raise RecordError("", f"is {shown(category)}", expected="a name that a folder can have", cure=cure)
    return category


def _text(prompt: str) -> str:
    if not prompt.strip() or prompt.encode(errors="ignore").decode() != prompt:
        cure = "fill it in, remove the row, or save the file as UTF-8"
        raise RecordError("", f"is {shown(prompt)}", expected="Unicode text that is not blank", cure=cure)
    if len(prompt) > LONGEST:
        cure = "look for a quotation mark that is not closed, or for the wrong column"
        raise RecordError("", f"has {len(prompt):,} characters", expected=f"at most {LONGEST:,}", cure=cure)
    return prompt


class SuitePrompt(Strict):
    """One prompt of a suite, and where its image belongs."""

    category: Annotated[str, AfterValidator(_folder_name)]
    """Style or kind; empty in a suite without categories."""
    number: int
    """Number within the category, from 0."""
    prompt: Annotated[str, AfterValidator(_text)]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The prompts that models are compared on, in order."""

    name: str
    """`hpsv2`, or the name of the file."""
    source: str
    """Origin of the prompts: a repository of the hub, or the name of a file or folder."""
    prompts: Sequence[SuitePrompt]
    """At least one; those of a category need not follow one another."""

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Categories in the order of their first prompts; `("",)` if the suite has none."""
        return tuple(dict.fromkeys(prompt.category for prompt in self.prompts))

    @cached_property
    def sha256(self) -> str:
        """64 hex digits over category and text of every prompt in order, whatever file holds them."""
        rows = [[prompt.category, prompt.prompt] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def image_name(prompt: SuitePrompt, ending: str = ".jpg") -> str:
    """Return the name of a prompt's image in the official layout, for example `anime/00012.jpg`."""
    return f"{prompt.category}/{prompt.number:05d}{ending}" if prompt.category else f"{prompt.number:05d}{ending}"


def open_suite(name: str | os.PathLike[str], *, option: str = "--suite") -> Suite:
    """Read a suite.

    Args:
        name: one of `SUITES`; or a file: a JSON list of prompts, a text file with one prompt a line, or JSONL, CSV, TSV
            or parquet with a column `prompt` and perhaps `category` (capitals do not matter); or a folder with
            `prompts.jsonl`, or with one JSON list for each category.
        option: what the caller's users name it by, for errors.

    Raises:
        InputError: no such file or suite, its name cannot be printed, or it has no prompts.
        RecordError: a prompt is not a text, or a category cannot be the name of a folder; file and row are named.
        NotCachedError: a named suite is not on this machine and cannot be fetched.
    """
    if (text := os.fspath(name)) in SUITES:
        folder = home() / "suites"
        places = [path for end in ("", *_FILES) if (path := folder / f"{text}{end}").exists()]
        if len(places) > 1:
            both = f"holds {places[0].name} and {places[1].name}"
            raise InputError(folder, both, expected="one of them", cure="remove the other")
        return make_suite(text, places[0].name, places[0], rows_of(places[0])) if places else published_suite(text)
    path = expand(text)
    if not os.path.exists(path):
        raise InputError(option, f"is {shown(text)}", expected=f"a file or folder, or one of {', '.join(SUITES)}")
    whole = path.resolve()
    if not whole.name.isprintable():
        raise InputError(option, f"is {shown(text)}", expected="a name that can be printed", cure="rename it")
    return make_suite(whole.name if path.is_dir() else path.stem, whole.name, path, rows_of(path))


def published_suite(name: str) -> Suite:
    """Read one of `SUITES` from the hub, or where the official package keeps it; see `open_suite`."""
    if name == "partiprompts":
        cure = f"Fetch PartiPrompts.tsv elsewhere and put it at {home() / 'suites/partiprompts.tsv'}"
        path = hub_file("nateraw/parti-prompts", "PartiPrompts.tsv", repo_type="dataset", cure=cure)
        return make_suite(name, "nateraw/parti-prompts", path, rows_of(path))
    paths = {style: style_prompts(style) for style in (STYLES if name == "hpsv2" else (name,))}
    rows = (row for style, path in paths.items() for row in rows_of(path, style if name == "hpsv2" else None))
    return make_suite(name, "zhwang/HPDv2", next(iter(paths.values())), rows)


def make_suite(name: str, source: str, path: Path, rows: Iterable[Row]) -> Suite:
    """Number and check the prompts of a suite; their categories must be able to be folders side by side."""
    counts: Counter[str] = Counter()
    prompts, ids = [], dict[str, str]()
    for place, row in rows:
        own = shown(row.pop("id", ""), 400)
        if own not in ("''", "None", "nan") and (other := ids.setdefault(own, place)) != place:
            cure = "correct it, or give the column another name"
            raise RecordError(f"{place}: id", f"is {own}, as in {other}", expected="each id once", cure=cure)
        if (state := row.pop("state", "kept")) in ("review", "rejected"):
            cure = "choose prompts by `hpskit prompts select`"
            raise RecordError(f"{place}: state", f"is {state!r}", expected="a prompt that was kept", cure=cure)
        stated = row.pop("number", None)
        category = row.pop("category", None)
        value = {**row, "category": "" if category is None else category, "number": 0}
        prompt = parse(SuitePrompt, value, place, error=RecordError, cure="correct it or remove the row")
        number = counts[prompt.category]
        if stated is not None and str(stated).strip() != str(number):
            expected, cure = f"{number}, its place in the category", "sort the rows, or remove the column"
            raise RecordError(f"{place}: number", f"is {stated!r}", expected=expected, cure=cure)
        counts[prompt.category] += 1
        prompts.append(prompt.model_copy(update={"number": number}))
    if not prompts:
        raise InputError(path, "has no prompts", expected="at least one", cure="add some")
    seen: dict[str, str] = {}
    for category in counts:
        twin = seen.setdefault(category.casefold(), category)
        if twin != category:  # where capitals do not count they would share a folder
            raise InputError(path, f"has categories {twin!r} and {category!r}, which differ in capitals only")
    if "" in seen and len(seen) > 1:
        found = "has some prompts with a category and some without"
        raise InputError(path, found, expected="all or none", cure="fill in the column 'category'")
    suite = Suite(name=name, source=source, prompts=tuple(prompts))
    known = next((one for one, digest in KNOWN.items() if digest == suite.sha256), None)
    if known is None and name in KNOWN:
        what = f"{path}: these are not the published prompts of {name}, do not compare with its tables"
        warnings.warn(what, stacklevel=3)
    return replace(suite, name=known or name)


def rows_of(path: Path, category: str | None = None) -> Iterator[Row]:
    """Read the rows of a file or folder; those of a JSON list of texts are of `category`."""
    if path.is_dir():
        whole, lists = path / "prompts.jsonl", sorted(path.glob("*.json"))
        if not whole.is_file() and not lists:
            found = "has neither prompts.jsonl nor CATEGORY.json"
            raise InputError(path, found, expected="a suite", cure="name a file")
        for file in [whole] if whole.is_file() else lists:
            yield from rows_of(file, None if file == whole else file.stem)
    elif path.suffix.lower() == ".json":
        entries = read_json(path)
        if not isinstance(entries, list):
            raise InputError(path, f"is {type(entries).__name__}", expected="a JSON list of prompts")
        for number, entry in enumerate(entries, 1):
            whole_row = isinstance(entry, dict) and category is None
            place = f"{path}: entry {number}"
            yield place, columns(place, entry) if whole_row else {"category": category, "prompt": entry}
    elif path.suffix.lower() == ".txt":
        content = read_bytes(path)
        try:
            lines = re.split(r"\r?\n", content.decode("utf-8-sig"))  # splitlines() knows ten more line ends
        except UnicodeDecodeError as error:
            raise InputError(path, "cannot be read (it is not UTF-8 text)", cure="save it as UTF-8") from error
        yield from ((f"{path}: line {n}", {"prompt": line}) for n, line in enumerate(lines, 1) if line.strip())
    else:
        for number, row in read_rows(path):
            yield f"{path}: row {number}", columns(f"{path}: row {number}", row)


def columns(place: str, row: dict[str, Any]) -> dict[str, Any]:
    """Keep what a suite reads of a row; DrawBench and PartiPrompts write the names with capitals."""
    found = {name.casefold(): value for name, value in row.items()}
    if "prompt" not in found:
        there = f"is missing (there are: {', '.join(row) or 'none'})"
        raise RecordError(f"{place}: column 'prompt'", there, cure="add or rename it")
    return {name: found[name] for name in ("category", "prompt", "number", "id", "state") if name in found}


def style_prompts(style: str) -> Path:
    """Find the file with the prompts of one style of `hpsv2`, or of `drawbench`: a JSON list.

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
    cure = f"Fetch it elsewhere and put it at {own}, or name a file with prompts of your own"
    return hub_file("zhwang/HPDv2", f"benchmark/{name}", repo_type="dataset", cure=cure)


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
    if os.path.lexists(path) and not (os.path.isfile(path) and path.read_bytes() == text):
        raise OutputError(path, "is there already and is something else", cure="choose another --out, or move it away")
    with publish(path) as temporary:
        temporary.write_bytes(text)
    return path
