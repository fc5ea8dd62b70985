"""What a run learns from and is validated on, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpskit import __version__
from hpskit.dataset.describe import Context, Description, describe
from hpskit.dataset.group import Group, compared_pairs
from hpskit.dataset.inventory import Inventory, take_inventory
from hpskit.dataset.leaks import Leaks, check_leaks
from hpskit.dataset.reading import DataSet, open_data
from hpskit.errors import InputError
from hpskit.models.clip import token_counter, tokenizer
from hpskit.models.store import locate
from hpskit.pages import counted
from hpskit.training.batch import ratings_of
from hpskit.training.catalogue import Catalogue
from hpskit.training.examples import OnBroken, Source, Stream
from hpskit.training.recipes import Recipe
from hpskit.training.student import Student

__all__ = ["Material", "parse_source", "read_material"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Data sets of a run."""

    sources: tuple[Source, ...]
    validation: DataSet
    leaks: Leaks
    """Of these training groups are left out."""
    inventories: tuple[Inventory, ...]
    """Of each source and of the validation data; groups with missing images are left out of all."""

    @property
    def sets(self) -> tuple[DataSet, ...]:
        """All that is learned from, and the validation data."""
        return (*(source.data for source in self.sources), self.validation)

    @property
    def incomplete(self) -> frozenset[str]:
        """Places of the groups that are left out because an image file is missing or empty."""
        return _incomplete(self.inventories)

    @property
    def without(self) -> frozenset[str]:
        """Places of all groups that are left out."""
        return self.leaks.groups | self.incomplete

    def settings(self, recipe: Recipe, stream: Stream, student: Student) -> dict[str, Any]:
        """What `config.json` says of a run: recipe, data, first weights, sizes, versions."""
        held_out = Catalogue(self.validation, without=self.incomplete, rating=recipe.rated)
        pairs = int(held_out.deck.pairs.sum())
        facts = zip(self.sources, stream.digests, self.inventories[:-1], stream.groups, stream.pairs, strict=True)
        return {
            "recipe": recipe.to_dict(),
            "data": [
                {**_facts(source.data, digest, inventory, groups, pairs), "ratio": source.ratio}
                for source, digest, inventory, groups, pairs in facts
            ],
            "validation": [_facts(self.validation, held_out.digest, self.inventories[-1], len(held_out), pairs)],
            "dropped_leaks": len(self.leaks.groups),
            "leaks": self.leaks.counts,
            "base": _base(recipe),
            "parameters": {
                "trained": sum(p.numel() for p in student.parameters() if p.requires_grad),
                "all": sum(p.numel() for p in student.parameters()),
            },
            "preprocessing": student.preprocessing.name,
            "package": f"hpskit {__version__}",
            "versions": _versions(),
        }

    def describe(self, recipe: Recipe, progress: Callable[[int], None] = lambda _: None) -> list[Description]:
        """Every data set in numbers, as far as it is used, the validation data last.

        Raises:
            InputError: nothing is left of one.
            RecordError: the loss needs ratings, and a group has none.
        """
        if recipe.rated is not None:
            for data in self.sets:
                _check_ratings(data, self.without, recipe.rated)
        reader = tokenizer(recipe.architecture)
        count = token_counter(reader)
        context = Context(tokens=reader.context_length, count=count) if count is not None else None
        without = self.without
        return [describe(data, without=without, context=context, progress=progress) for data in self.sets]

    def omissions(self) -> list[str]:
        """What is left out and why, a line each; most often nothing."""
        found = []
        if self.leaks.found:
            kinds = ", ".join(f"{kind}: {count:,}" for kind, count in self.leaks.counts.items())
            groups = f"{len(self.leaks.groups):,} of {self.leaks.train_groups:,}"
            found.append(
                f"training groups left out because they share prompts or images with --val: {groups} ({kinds})"
            )
        for inventory in self.inventories:
            if inventory.missing:
                why = f"{inventory.path}: groups left out because image files are missing or empty"
                found.append(f"{why}: {len(inventory.incomplete):,} (first: {inventory.missing[0]})")
        return found

    def listing(self) -> bytes:
        """The image files of all sets, see `Inventory.listing`."""
        return b"".join(inventory.listing for inventory in self.inventories)

    def prompts(self) -> set[str]:
        """Every prompt that is learned from."""
        return {
            group.prompt
            for source in self.sources
            for group in source.data.outline()
            if group.place not in self.without
        }

    def validation_prompts(self) -> set[str]:
        """Every prompt that checkpoints are chosen by."""
        return {group.prompt for group in self.validation.outline() if group.place not in self.incomplete}


def read_material(
    data: Sequence[str],
    validation: str,
    *,
    data_format: str = "auto",
    image_root: Path | None = None,
    drop_leaks: bool = False,
    compare_pixels: bool = False,
    on_broken: OnBroken = "fail",
    progress: Callable[[int], None] = lambda _: None,
) -> Material:
    """Open all data sets, and see that their images are there and that training and validation share nothing.

    Args:
        data: see `parse_source`.
        validation: path or name.
        data_format: layout of all of them; see `open_data`.
        image_root: folder that the image names of all of them start from; None is as their layout says.
        drop_leaks: leave training groups out that share prompts or images with the validation data.
        compare_pixels: decode all images to find those that are the same but for how they are stored.
        on_broken: `drop` leaves groups out with image files that are missing or empty.
        progress: is told how many training groups have been compared.

    Raises:
        InputError: a data set cannot be opened, image files are missing or empty, or they share something.
        RecordError: a row is broken.
    """
    if not data:
        raise InputError("--data: is missing, expected at least one data set to learn from")
    opened = partial(open_data, format=data_format, image_root=image_root)
    sources = tuple(parse_source(text, opened) for text in data)
    held_out = opened(validation)
    train = [source.data for source in sources]
    inventories = tuple(map(take_inventory, (*train, held_out)))
    if on_broken == "fail":
        for inventory in inventories:
            inventory.refuse()
    without = _incomplete(inventories)
    _check_two_prompts(held_out, without)
    leaks = check_leaks(train, [held_out], pixels=compare_pixels, without=without, progress=progress)
    if not drop_leaks:
        leaks.refuse()
    return Material(sources=sources, validation=held_out, leaks=leaks, inventories=inventories)


def _incomplete(inventories: Iterable[Inventory]) -> frozenset[str]:
    return frozenset().union(*(inventory.incomplete for inventory in inventories))


def parse_source(text: str, opened: Callable[[str], DataSet] = open_data) -> Source:
    """A data set by path or name, alone or followed by `:RATIO`; `opened` opens it.

    Raises:
        InputError: it cannot be opened, or the ratio is not a number above 0.
    """
    path, colon, number = text.rpartition(":")
    if not colon or Path(text).exists():
        return Source(data=opened(text))
    try:
        ratio = float(number)
    except ValueError:
        return Source(data=opened(text))
    if not 0 < ratio < float("inf"):
        raise InputError(f"--data: {text!r} has the ratio {number}, expected a number above 0")
    return Source(data=opened(path), ratio=ratio)


def _check_ratings(data: DataSet, without: Collection[str], rating: str) -> None:
    for group in data.outline():
        if group.place not in without and compared_pairs(group):
            ratings_of(group, rating)


def _check_two_prompts(validation: DataSet, without: Collection[str]) -> None:
    """One prompt has no interval, and says next to nothing; images that people tied throughout say nothing at all."""
    seen: set[str] = set()
    for group in validation.outline():
        if group.place not in without and _decides(group):
            seen.add(group.prompt)
        if len(seen) > 1:
            return
    found = f"has {counted(len(seen), 'prompt')} with images of which people preferred one"
    raise InputError(f"{validation.path}: {found}, expected at least two for validation")


def _decides(group: Group) -> bool:
    """Whether anybody put one of two images before the other."""
    return any(len(set(row[~np.isnan(row)])) > 1 for row in group.verdicts())


def _facts(data: DataSet, digest: str, inventory: Inventory, groups: int, pairs: int) -> dict[str, Any]:
    return {
        "name": data.name,
        "path": str(data.path),
        "format": data.format,
        "groups": groups,
        "pairs": pairs,
        "digest": digest,
        "images": inventory.digest,
        "incomplete": len(inventory.incomplete),
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
