"""Say which images a run makes, before the first of them: every prompt x generator x sample, each with its seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from hpskit.errors import InputError
from hpskit.files import read_toml
from hpskit.images.contract import Generator, GeneratorSettings
from hpskit.prompts.suites import Suite, SuitePrompt, image_name
from hpskit.schema import nearest, parse

KINDS = {
    "painter": "hpskit.images.painter",
    "diffusers": "hpskit.images.diffusion",
    "openai": "hpskit.images.openai_api",
    "command": "hpskit.images.command",
    "captions": "hpskit.images.captions",
}
"""Kind of a generator -> the module with its `Settings` and `load(settings)`."""


class _Head(GeneratorSettings):
    """A table, as far as all kinds have it."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One image that is to be made."""

    id: str
    """32 hex digits over prompt, name of the generator, its settings, and seed."""
    prompt: SuitePrompt
    generator: str
    sample: int
    """From 0, among the images of one prompt by this generator."""
    seed: int
    stem: str
    """File without its ending, from the folder of the run: `GENERATOR/STYLE/00012` or `…/00012_1`."""


def read_generators(path: Path) -> tuple[GeneratorSettings, ...]:
    """Read the generators of a run: a TOML file with a table `[[generator]]` for each.

    Raises:
        InputError: it cannot be read, or a setting is not what it should be.
    """
    value = read_toml(path)
    tables = value.pop("generator", None)
    if value or not isinstance(tables, list) or not tables:
        found = f"has {', '.join(map(repr, value))} at its top" if value else "has no [[generator]]"
        raise InputError(path, found, expected="a table [[generator]] for each", cure="see docs/images.md")
    found_all: list[GeneratorSettings] = []
    for number, table in enumerate(tables, 1):
        place = f"{path}: generator {number}"
        kind = parse(_Head, table, place).kind
        if kind not in KINDS:
            cure = f"did you mean {near!r}?" if (near := nearest(kind, KINDS)) else "correct it"
            raise InputError(f"{place}: kind", f"is {kind!r}", expected=f"one of {', '.join(KINDS)}", cure=cure)
        settings = parse(import_module(KINDS[kind]).Settings, table, place)
        if settings.name.casefold() in {other.name.casefold() for other in found_all}:
            raise InputError(f"{place}: name", f"is {settings.name!r} again", expected="another name for each")
        found_all.append(settings)
    return tuple(found_all)


def load_generator(settings: GeneratorSettings) -> Generator:
    """Make a generator. That is cheap: weights are loaded when the first image is made.

    Raises:
        HpskitError: the settings do not fit, or a file or an extra is missing.
    """
    generator: Generator = import_module(KINDS[settings.kind]).load(settings)
    return generator


def seed_of(seed: int, prompt: SuitePrompt, sample: int) -> int:
    """Return the seed of an image, below 2^31: equal for all generators, so that two begin from the same noise."""
    text = json.dumps([seed, prompt.category, prompt.number, sample])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def make_plan(suite: Suite, settings: GeneratorSettings, info: Mapping[str, Any], seed: int) -> Sequence[Cell]:
    """List all images that a generator makes for a suite, in the order of the prompts."""
    cells = []
    for prompt in suite.prompts:
        for sample in range(settings.images):
            own = seed_of(seed, prompt, sample)
            text = json.dumps([prompt.prompt, settings.name, dict(info), own])
            ending = f"_{sample}" if settings.images > 1 else ""
            cell = Cell(
                id=hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
                prompt=prompt,
                generator=settings.name,
                sample=sample,
                seed=own,
                stem=f"{settings.name}/{image_name(prompt, ending)}",
            )
            cells.append(cell)
    return cells
