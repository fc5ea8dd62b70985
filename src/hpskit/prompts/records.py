"""The three files of prompts, one JSON object a line: raw, clean and chosen; and how each is published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import Field, StringConstraints

from hpskit.errors import InputError, RecordError
from hpskit.files import publish, publish_json, sha256_file
from hpskit.prompts.repair import Change
from hpskit.rows import read_rows
from hpskit.schema import Expected, Strict, parse
from hpskit.stage import check_free

M = TypeVar("M", bound=Strict)
Text = Annotated[str, StringConstraints(pattern=r"\S"), Expected("a text that is not blank, of whole characters")]
Style: TypeAlias = Literal["anime", "concept-art", "paintings", "photo"]
STYLES: tuple[Style, ...] = get_args(Style)
"""The official names of the styles: animation, concept art, painting and photo."""
State: TypeAlias = Literal["kept", "review", "rejected"]
"""Whether a prompt may be chosen, a person has to look at it first, or it may not."""


class RawPrompt(Strict):
    """A prompt as its source has it."""

    id: Text
    """`SOURCE:` and the source's own id, or the row."""
    prompt: Text
    source: Text
    nsfw: float | None = None
    """The source's score, 0 to 1, that it is not safe for work; DiffusionDB's 2.0 says that the image was blurred."""
    meta: dict[str, Text | int | float] = Field(default_factory=dict)


class Reason(Strict):
    """Why a prompt is not kept."""

    rule: str
    value: str
    """What the rule found."""


class CleanPrompt(Strict):
    """A prompt after rules and filters."""

    id: Text
    prompt: Text
    """After the rules."""
    raw: Text
    source: Text
    nsfw: float | None
    state: State
    reasons: Annotated[tuple[Reason, ...], Field(strict=False)]
    """Why it is not kept: all that was found, even of a prompt that one reason rejects."""
    changes: Annotated[tuple[Change, ...], Field(strict=False)]
    tokens: int
    """As the scorer counts them, with those at the ends."""
    language: str
    """ISO 639 code."""
    language_score: float
    """0 to 1."""
    style: Style
    style_score: float
    """Probability of the style, 0 to 1."""


class ChosenPrompt(Strict):
    """A prompt of a suite: what `hpskit benchmark run --suite` reads, and where it is from."""

    category: Style
    number: int
    """Within the style, from 0."""
    prompt: Text
    id: Text
    source: Text
    tokens: int


def parse_prompt(model: type[M], row: object, place: str) -> M:
    """Make a record of a row.

    Raises:
        RecordError: a field is not what it should be.
    """
    return parse(model, row, place, error=RecordError, cure="correct it or remove the row")


def read_prompts(path: Path, model: type[M]) -> Iterator[M]:
    """Read a file of prompts.

    Raises:
        InputError: it cannot be read or is empty.
        RecordError: a line is not what it should be.
    """
    number = 0
    for number, row in read_rows(path):
        yield parse_prompt(model, row, f"{path}: row {number}")
    if not number:
        raise InputError(path, "has no prompts", expected="at least one")


def check_output(out: Path, kind: str) -> None:
    """See that `publish_lines` may write there.

    Raises:
        InputError: the name does not end in .jsonl.
        OutputError: something that another command made is there.
    """
    if out.suffix != ".jsonl":
        raise InputError("--out", f"is {str(out)!r}", expected="a name that ends in .jsonl")
    check_free(out.parent, f"{out.stem}.manifest.json", [out.name], kind)


def publish_lines(out: Path, kind: str, facts: dict[str, Any], records: Iterable[Strict]) -> None:
    """Publish records as JSON lines, whole or not at all, then `NAME.manifest.json` with how they came about.

    Args:
        out: a .jsonl file; one that another command made is not replaced.
        kind: the `format` of the manifest.
        facts: its content; it may be filled while `records` are made.
        records: the lines.

    Raises:
        InputError: the name does not end in .jsonl.
        OutputError: the files cannot be written.
    """
    check_output(out, kind)
    manifest = f"{out.stem}.manifest.json"
    with publish(out) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(record.model_dump(), ensure_ascii=False) + "\n" for record in records)
    publish_json(out.parent / manifest, {"format": kind, **facts, "files": {out.name: sha256_file(out)}})
