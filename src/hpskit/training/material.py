"""What a run learns from and is validated on, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.dataset.checking import find_files
from hpskit.dataset.description import Description, describe
from hpskit.dataset.leaks import Leaks, check_leaks
from hpskit.dataset.reading import DataSet, open_data
from hpskit.errors import InputError
from hpskit.models.store import locate
from hpskit.training.catalogue import Catalogue
from hpskit.training.examples import Source, Stream
from hpskit.training.recipes import Recipe
from hpskit.training.student import Student

__all__ = ["Material", "parse_source", "read_material"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Data sets of a run."""

    sources: tuple[Source, ...]
    validation: DataSet
    leaks: Leaks
    without: frozenset[str]
    """Places of the training groups that are left out because of `leaks`."""

    def settings(self, recipe: Recipe, stream: Stream, student: Student) -> dict[str, Any]:
        """What `config.json` says of a run: recipe, data, first weights, sizes, versions."""
        held_out = Catalogue(self.validation)
        pairs = int(held_out.deck.pairs.sum())
        facts = zip(self.sources, stream.digests, stream.groups, stream.pairs, strict=True)
        return {
            "recipe": recipe.to_dict(),
            "data": [
                {**_facts(source.data, digest, groups, pairs), "ratio": source.ratio}
                for source, digest, groups, pairs in facts
            ],
            "validation": [_facts(self.validation, held_out.digest, len(held_out), pairs)],
            "dropped_leaks": len(self.without),
            "base": _base(recipe),
            "parameters": {
                "trained": sum(p.numel() for p in student.parameters() if p.requires_grad),
                "all": sum(p.numel() for p in student.parameters()),
            },
            "preprocessing": student.preprocessing.name,
            "package": f"hpskit {__version__}",
            "versions": _versions(),
        }

    def describe(self, progress: Callable[[int], None] = lambda _: None) -> list[Description]:
        """Every data set in numbers, the validation data last, after a look whether all image files are there.

        Raises:
            InputError: images are missing or empty.
        """
        sets = [*(source.data for source in self.sources), self.validation]
        for data in sets:
            _check_files(data)
        return [describe(data, progress=progress) for data in sets]

    def prompts(self) -> set[str]:
        """Every prompt that is learned from."""
        return {
            group.prompt
            for source in self.sources
            for group in source.data.outline()
            if group.place not in self.without
        }


def read_material(
    data: Sequence[str],
    validation: str,
    *,
    drop_leaks: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Material:
    """Open all data sets and see that training and validation share nothing.

    Args:
        data: see `parse_source`.
        validation: path or name.
        drop_leaks: leave training groups out that share prompts or images with the validation data.
        progress: is told how many training groups have been compared.

    Raises:
        InputError: a data set cannot be opened, or they share something.
        RecordError: a row is broken.
    """
    if not data:
        raise InputError("--data: is missing, expected at least one data set to learn from")
    sources = tuple(parse_source(text) for text in data)
    held_out = open_data(validation)
    _check_two_prompts(held_out)
    leaks = check_leaks([source.data for source in sources], [held_out], progress=progress)
    if not drop_leaks:
        leaks.refuse()
    return Material(sources=sources, validation=held_out, leaks=leaks, without=leaks.groups)


def parse_source(text: str) -> Source:
    """A data set by path or name, alone or followed by `:RATIO`.

    Raises:
        InputError: it cannot be opened, or the ratio is not a number above 0.
    """
    path, colon, number = text.rpartition(":")
    if not colon or Path(text).exists():
        return Source(data=open_data(text))
    try:
        ratio = float(number)
    except ValueError:
        return Source(data=open_data(text))
    if not 0 < ratio < float("inf"):
        raise InputError(f"--data: {text!r} has the ratio {number}, expected a number above 0")
    return Source(data=open_data(path), ratio=ratio)


def _check_two_prompts(validation: DataSet) -> None:
    """One prompt has no interval, and says next to nothing."""
    seen: set[str] = set()
    for group in validation.outline():
        seen.add(group.prompt)
        if len(seen) > 1:
            return
    raise InputError(f"{validation.path}: has {len(seen)} prompts, expected at least two for validation")


def _check_files(data: DataSet) -> None:
    """Each folder is listed once, which takes seconds; the alternative is an error at some step of the night."""
    if data.parts():  # images travel in the rows
        return
    names: dict[str, str] = {}
    for group in data:
        for image in group.images:
            if image not in group.embedded:
                names.setdefault(image, group.place)
    wrong: list[str] = []
    find_files(data, names, lambda _, line: wrong.append(line))
    if wrong:
        more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        cure = "bring them or remove the rows; `hpskit data inspect` lists all"
        raise InputError(f"{wrong[0]}{more}; {cure}")


def _facts(data: DataSet, digest: str, groups: int, pairs: int) -> dict[str, Any]:
    return {
        "name": data.name,
        "path": str(data.path),
        "format": data.format,
        "groups": groups,
        "pairs": pairs,
        "digest": digest,
    }


def _base(recipe: Recipe) -> dict[str, str] | None:
    """The weights that a run begins with; None if they are drawn."""
    if recipe.weights is None:
        return None
    located = locate(recipe.weights)
    licence = located.model.licence if located.model else located.metadata.get("licence", "unknown")
    return {"name": located.name, "weight_hash": located.weight_hash, "licence": licence}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "open_clip_torch", "accelerate", "numpy", "pillow")}
