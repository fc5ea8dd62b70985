"""Whether validation asks about what training has shown: the same or nearly the same prompts, the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpskit.dataset.contents import Image, ImageIndex, groups_with_contents, images_of
from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.dataset.similarity import SIMILARITY, SimilarTexts, words
from hpskit.errors import InputError

__all__ = ["Leak", "Leaks", "check_leaks"]

Kind = Literal["same prompt", "near-duplicate prompt", "same image"]


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
    """What `check_leaks` has found."""

    found: tuple[Leak, ...]
    """In the order of the training data; a group may be in several."""
    train_groups: int
    validation_groups: int
    similarity: float
    """From which prompts were taken as near-duplicates."""
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
            cure = f"--drop-leaks trains without these {len(self.groups):,} of {self.train_groups:,} groups"
            raise InputError(
                f"validation: shares prompts or images with the training data ({counts}; first: {self.found[0]}); "
                f"{cure}, `hpskit data split` makes parts that share nothing"
            )


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
    if not 0 < similarity <= 1:
        raise InputError(f"similarity: is {similarity}, expected above 0 to 1")
    known = _Validation(validation, similarity, pixels, without)
    found, groups = list[Leak](), 0
    for data in train:
        for group in groups_with_contents(data, pixels=pixels):
            if group.place in without:
                continue
            found += known.leaks(data, group)
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
    """What training must not show."""

    def __init__(self, sources: Sequence[DataSet], similarity: float, pixels: bool, without: Collection[str]) -> None:
        self.places: list[str] = []
        self.images = ImageIndex()
        self._prompts: dict[str, int] = {}
        for data in sources:
            for group in groups_with_contents(data, pixels=pixels):
                if group.place in without:
                    continue
                self._prompts.setdefault(words(group.prompt), len(self.places))
                for _, image in images_of(data, group):
                    if self.images.find(image) is None:
                        self.images.add(image, len(self.places))
                self.places.append(group.place)
        self._similar = SimilarTexts([*self._prompts], similarity)
        self._owners = [*self._prompts.values()]
        self._asked: dict[str, tuple[Kind, int] | None] = {}
        self._looked: dict[Path, int | None] = {}

    def leaks(self, data: DataSet, group: Group) -> Iterator[Leak]:
        """At most one because of the prompt and one because of an image."""
        if (prompt := self._prompt(group.prompt)) is not None:
            kind, owner = prompt
            yield Leak(kind=kind, train=group.place, validation=self.places[owner], what=group.prompt)
        for name, image in images_of(data, group):
            if (same := self._image(image)) is not None:
                yield Leak(kind="same image", train=group.place, validation=self.places[same], what=name)
                return

    def _prompt(self, prompt: str) -> tuple[Kind, int] | None:
        """Rows of one prompt follow one another, and so do those of one image: a few answers are kept."""
        if prompt not in self._asked:
            _make_room(self._asked)
            self._asked[prompt] = self._compare(words(prompt))
        return self._asked[prompt]

    def _compare(self, text: str) -> tuple[Kind, int] | None:
        if (owner := self._prompts.get(text)) is not None:
            return "same prompt", owner
        similar = self._similar.like(text)
        return ("near-duplicate prompt", self._owners[similar[0]]) if similar else None

    def _image(self, image: Image) -> int | None:
        if not isinstance(image, Path):
            return self.images.find(image)
        if image not in self._looked:
            _make_room(self._looked)
            self._looked[image] = self.images.find(image)
        return self._looked[image]


_KEPT = 65_536


def _make_room(answers: dict[str, tuple[Kind, int] | None] | dict[Path, int | None]) -> None:
    if len(answers) >= _KEPT:
        answers.clear()
