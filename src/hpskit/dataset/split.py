"""Divide a data set into two parts that share no prompt, no near-duplicate of one, and no image."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpskit.dataset.duplicates import SIMILARITY, Image, ImageIndex, SimilarTexts, groups_with_images, words
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError
from hpskit.files import publish_folder, publish_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The groups of a data set that are kept for validation, and how they were chosen."""

    held_out: bytes
    """(groups,): 1 for validation, 0 for training, in the order of the data set."""
    share: float
    """The share that was asked for."""
    seed: int
    similarity: float
    pixels: bool
    """True if images were compared by their pixels, not by their bytes alone."""
    components: int
    """Sets of groups that share nothing with one another; each is on one side."""
    largest: int
    """Groups in the largest of them."""
    prompts: int
    """Distinct prompts, without case, accents and punctuation."""
    unread_images: int
    """Files that could not be read, and so were compared with none."""

    @property
    def validation(self) -> int:
        """Groups for validation."""
        return sum(self.held_out)

    @property
    def train(self) -> int:
        """Groups for training."""
        return len(self.held_out) - self.validation

    def to_json(self) -> dict[str, Any]:
        """Return all but the groups, and how many are on each side."""
        value = {name: field for name, field in asdict(self).items() if name != "held_out"}
        return {"train": self.train, "validation": self.validation, **value}


def split(
    data: DataSet,
    *,
    share: float = 0.1,
    seed: int = 0,
    similarity: float = SIMILARITY,
    pixels: bool = True,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Split:
    """Divide a data set by prompt.

    Groups stay together if their prompts or images are the same or nearly so, as `check_leaks` has it, and if they hang
    together by several such steps. A hash of the seed and of the first prompt in the alphabet decides which part such a
    component falls into, not the order of the rows: components are held out in the order of their hashes, each that
    brings the part nearer to the share.

    Args:
        data: the data set.
        share: of the groups that are held out, above 0 and below 1.
        seed: another one gives other parts.
        similarity: least Jaccard similarity of near-duplicates, above 0 to 1.
        pixels: decode all images, and compare what they look like; else their bytes, and files are read only where
            sizes are equal.
        progress: is told what is being done, how much of it is done, and of how much (None: not known).

    Raises:
        InputError: a number is out of range, or the data set hangs together so much that one part would be empty.
        RecordError: a row is broken.
    """
    if not 0 < share < 1:
        raise InputError("share", f"is {share}", expected="above 0 and below 1")
    if not 0 < similarity <= 1:
        raise InputError("similarity", f"is {similarity}", expected="above 0 and at most 1")
    bonds = Bonds()
    for number, (group, images) in enumerate(groups_with_images(data, pixels=pixels)):
        bonds.add(group.prompt, (image for _, image in images))
        if number % 256 == 0:
            progress("reading", number, None)
    bonds.join_similar(similarity, lambda done: progress("comparing prompts", done, len(bonds.texts)))
    sizes = Counter(map(bonds.root, bonds.nodes))
    held_out = bonds.choose(sizes, share, seed)
    chosen = bytes(bonds.root(node) in held_out for node in bonds.nodes)
    if not 0 < sum(chosen) < len(chosen):
        largest = f"{max(sizes.values(), default=0):,} of {len(chosen):,} groups hang together"
        found = f"cannot be split by prompt: {largest} and one part would be empty"
        raise InputError(data.path, found, cure="give more data, another share, or a higher similarity")
    return Split(
        held_out=chosen,
        share=share,
        seed=seed,
        similarity=similarity,
        pixels=pixels,
        components=len(sizes),
        largest=max(sizes.values()),
        prompts=len(bonds.texts),
        unread_images=bonds.images.unread,
    )


class Bonds:
    """Distinct prompts as nodes, joined where they must stay together.

    Memory: some 500 bytes for each prompt and 300 for each image.
    """

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.nodes = array("i")
        """The node of each group."""
        self.images = ImageIndex()
        self._parents = array("i")

    def add(self, prompt: str, images: Iterable[Image]) -> None:
        """Add a group."""
        node = self.texts.setdefault(words(prompt), len(self.texts))
        if node == len(self._parents):
            self._parents.append(node)
        self.nodes.append(node)
        for image in images:
            owner = self.images.find(image)
            if owner is None:
                self.images.add(image, node)
            else:
                self.join(owner, node)

    def join_similar(self, similarity: float, progress: Callable[[int], None] = lambda _: None) -> None:
        """Join all prompts that are near-duplicates."""
        similar = SimilarTexts([*self.texts], similarity)
        for text, node in self.texts.items():
            for other in similar.like(text):
                self.join(other, node)
            if node % 256 == 0:
                progress(node)

    def root(self, node: int) -> int:
        """Return the node that stands for all that are joined with this one."""
        while (parent := self._parents[node]) != node:
            self._parents[node] = self._parents[parent]
            node = parent
        return node

    def join(self, one: int, other: int) -> None:
        """Keep two nodes together."""
        self._parents[self.root(one)] = self.root(other)

    def choose(self, sizes: Counter[int], share: float, seed: int) -> set[int]:
        """Return the roots of the components for validation; `sizes` counts the groups of each."""
        first = {self.root(node): text for text, node in sorted(self.texts.items(), reverse=True)}
        hashes = {root: hashlib.sha256(f"{seed} {text}".encode()).digest() for root, text in first.items()}
        missing, chosen = share * sizes.total(), set[int]()
        for root in sorted(hashes, key=hashes.__getitem__):
            if abs(missing - sizes[root]) < missing:
                chosen.add(root)
                missing -= sizes[root]
        return chosen


def write_split(data: DataSet, parts: Split, out: Path) -> None:
    """Write `train.parquet`, `validation.parquet` and `split.json` into a new folder, which appears whole.

    Images stay where they are: names of files start from the new folder. Images in the data set's own rows travel.

    Raises:
        OutputError: it cannot be written, or something stands there.
        InputError: the data set has grown since it was split, or an image lies outside of its own folders, which the
            new names would hide; see `DataSet.own_image_path`.
    """
    here = Path(os.path.realpath(out))
    with publish_folder(out) as folder:
        with ParquetWriter(folder / "train.parquet") as train, ParquetWriter(folder / "validation.parquet") as held:
            for number, group in enumerate(data):
                if number == len(parts.held_out):
                    raise InputError(data.path, "has more groups than when it was split", cure="split it again")
                images = tuple(
                    name
                    if name in group.embedded
                    else os.path.relpath(data.own_image_path(group, name).absolute(), here)
                    for name in group.images
                )
                (held if parts.held_out[number] else train).write(replace(group, images=images))
        publish_json(folder / "split.json", {"data": data.name, **parts.to_json()})
