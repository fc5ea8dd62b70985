"""Find what training shows of validation: the same or nearly the same prompts, the same images."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from hpskit.dataset.duplicates import (
    SIMILARITY,
    Image,
    ImageIndex,
    SimilarTexts,
    check_similarity,
    groups_with_images,
    words,
)
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError

__all__ = ["Leak", "Leaks", "check_leaks"]

Kind: TypeAlias = Literal["same prompt", "near-duplicate prompt", "same image"]
_KEPT = 65_536
"""Answers that are kept: rows of one prompt follow one another, and so do those of one image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A group of the training data that shares something with one of the validation data."""

    kind: Kind
    train: str
    """File and row."""
    validation: str
    """File and row of the first that it is shared with."""
    what: str
    """The prompt or the image, as the training data have it."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.train} and {self.validation}: {self.what!r}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaks:
    """The findings of `check_leaks`."""

    found: tuple[Leak, ...]
    """In the order of the training data; a group may be in several."""
    train_groups: int
    validation_groups: int
    similarity: float
    """Share of common words from which prompts are near-duplicates."""
    unread_images: int
    """Files that could not be read, and so were compared with none."""

    @property
    def groups(self) -> frozenset[str]:
        """Places of all groups of the training data that share something."""
        return frozenset(leak.train for leak in self.found)

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> groups of the training data."""
        return dict(Counter(leak.kind for leak in self.found).most_common())

    def refuse(self) -> None:
        """Raise if anything was found.

        Raises:
            InputError: how much, the first of it, and what to do.
        """
        if self.found:
            counts = ", ".join(f"{kind}: {count:,}" for kind, count in self.counts.items())
            found = f"shares prompts or images with the training data ({counts}; first: {self.found[0]})"
            drop = f"--drop-leaks trains without these {len(self.groups):,} of {self.train_groups:,} groups"
            raise InputError("validation", found, cure=f"{drop}, `hpskit data split` makes parts that share nothing")


def check_leaks(
    train: Sequence[DataSet],
    validation: Sequence[DataSet],
    *,
    similarity: float = SIMILARITY,
    pixels: bool = False,
    without: Collection[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Leaks:
    """Compare every group of the training data with all of the validation data.

    Prompts are the same if their words are, without case, accents and punctuation, and near-duplicates if they have
    the share `similarity` of their words in common or differ in articles alone, plurals aside. Images are the same if
    their bytes are; a file of the training data is read only if a validation image has its size, and memory grows with
    the validation data alone. With `pixels` they are the same if they look the same to the last bit, however they are
    stored: all images are decoded, and memory grows with all of them.

    Args:
        train: what is learned.
        validation: what decides which checkpoint is best, and when to stop.
        similarity: least Jaccard similarity of near-duplicates, above 0 to 1.
        pixels: decode all images.
        without: `place` of groups that neither side uses.
        progress: is told how many groups of the training data are done.

    Raises:
        RecordError: a row is broken.
        InputError: the similarity is out of range.
    """
    check_similarity(similarity)
    known = _Validation(validation, similarity, pixels, without)
    found, groups = list[Leak](), 0
    for data in train:
        for group, images in groups_with_images(data, pixels=pixels):
            if group.place in without:
                continue
            if (prompt := known.prompt(group.prompt)) is not None:
                kind, owner = prompt
                place = known.places[owner]
                found.append(Leak(kind=kind, train=group.place, validation=place, what=group.prompt))
            for name, image in images:
                if (same := known.image(image)) is not None:
                    place = known.places[same]
                    found.append(Leak(kind="same image", train=group.place, validation=place, what=name))
                    break
            groups += 1
            if groups % 256 == 0:
                progress(groups)
    return Leaks(
        found=tuple(found),
        train_groups=groups,
        validation_groups=len(known.places),
        similarity=similarity,
        unread_images=known.images.unread,
    )


class _Validation:
    """The prompts and images that training must not show."""

    def __init__(self, sources: Sequence[DataSet], similarity: float, pixels: bool, without: Collection[str]) -> None:
        self.places: list[str] = []
        self.images = ImageIndex()
        self._prompts: dict[str, int] = {}
        for data in sources:
            for group, images in groups_with_images(data, pixels=pixels):
                if group.place in without:
                    continue
                self._prompts.setdefault(words(group.prompt), len(self.places))
                for _, image in images:
                    if self.images.find(image) is None:
                        self.images.add(image, len(self.places))
                self.places.append(group.place)
        self._similar = SimilarTexts([*self._prompts], similarity)
        self._owners = [*self._prompts.values()]
        self.prompt = functools.lru_cache(_KEPT)(self.find_prompt)
        self.find_file = functools.lru_cache(_KEPT)(self.images.find)

    def find_prompt(self, prompt: str) -> tuple[Kind, int] | None:
        """Find the first group with this prompt, or else with a similar one."""
        text = words(prompt)
        if (owner := self._prompts.get(text)) is not None:
            return "same prompt", owner
        similar = self._similar.like(text)
        return ("near-duplicate prompt", self._owners[similar[0]]) if similar else None

    def image(self, image: Image) -> int | None:
        """Find the first group with this image."""
        return self.find_file(image) if isinstance(image, Path) else self.images.find(image)
