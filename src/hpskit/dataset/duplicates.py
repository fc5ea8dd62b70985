"""Find duplicates: prompts of the same or nearly the same words, images of the same bytes or pixels.

`check_leaks` finds those that training data share with validation data.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.errors import ImageError, InputError
from hpskit.files import sha256_file
from hpskit.pixels import Encoded, open_image

SIMILARITY = 0.8
"""Share of common words (Jaccard) from which two prompts are near-duplicates: one word of ten may differ."""

# Chinese, Japanese and Korean characters are words of their own, because there are no spaces between words.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
# Vowel signs and points belong to the letter before: of Hebrew, Arabic, the scripts of India, Thai, Burmese and Khmer.
_SIGNS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0df3"
    "\u0e31-\u0e3a\u0e47-\u0e4e\u102b-\u103e\u17b4-\u17d3"
)
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}_])\w)(?:(?![{_CJK}_])[\w{_SIGNS}])*")  # long_hair: two words
# Of Latin letters alone: marks on kana, Hangul and Indic letters make other letters of them.
_ACCENTS = re.compile(r"([a-z\u00df-\u024f\u1e00-\u1eff])[\u0300-\u036f]+")
_ARTICLES = ("a", "an", "the")
_WITH_E = ("se", "xe", "che", "she", "oe")
"""Endings whose e may be of the word or of the plural: `axes` and `boxes`, `shoes` and `heroes`."""
_ROUNDING = 1e-9
_AT_ONCE = 32
"""Groups whose images are decoded side by side."""


def words(prompt: str) -> str:
    """Return the words of a prompt with single spaces, without case, accents, punctuation and forms of a character.

    A prompt without any word, such as one of punctuation or pictures, is itself.
    """
    plain = prompt.casefold()
    if not prompt.isascii():
        apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", prompt).casefold())
        plain = unicodedata.normalize("NFKC", _ACCENTS.sub(r"\1", apart))
    return " ".join(_WORD.findall(plain)) or " ".join(plain.split())


def stem(word: str) -> str:
    """Return a word without what looks like an English plural or verb ending; `glass`, `bus` and `this` have none.

    What is left need be no word (`hous`), only the same for one and several.
    """
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "isu":
        word = word[:-1]
    if len(word) > 3 and word.endswith("ie"):  # cities, zombies
        return f"{word[:-2]}y"
    return word[:-1] if len(word) > 3 and word.endswith(_WITH_E) else word


class SimilarTexts:
    """Finds all texts that have enough words in common with a given one. Exact, at any size.

    Words are compared without the -s of plurals. Two texts are similar if the Jaccard similarity of their sets of words
    reaches a limit; or if these are the same but for the articles, because in a short prompt one article more or less
    is a large share of the words (`a chair`, `chairs`).

    Two sets whose Jaccard similarity is at least t have a word in common among the rarest n - ceil(t n) + 1 words of
    each (n its size), so only those are indexed (Bayardo, Ma & Srikant 2007, Scaling Up All Pairs Similarity Search).
    Articles count as the most frequent words, so that sets which differ in them alone have their rarest word in common.
    """

    def __init__(self, texts: Sequence[str], similarity: float = SIMILARITY) -> None:
        """Index texts.

        Args:
            texts: as `words` makes them; order and repetition of words do not matter.
            similarity: least Jaccard similarity, above 0 to 1.
        """
        self.similarity = similarity
        frequency = Counter(word for text in texts for word in {*map(stem, text.split())})
        others = sorted(frequency.keys() - set(_ARTICLES), key=lambda word: (frequency[word], word))
        self._ranks = {word: rank for rank, word in enumerate([*others, *_ARTICLES])}
        self._articles = len(others)
        self._texts: list[array[int]] = []
        self._with: dict[int, array[int]] = {}
        for number, text in enumerate(texts):
            known, size = self._sorted(text)
            self._texts.append(array("i", known))
            for rank in known[: self._prefix(size)]:
                self._with.setdefault(rank, array("i")).append(number)

    def like(self, text: str) -> list[int]:
        """Return the numbers of all texts that are similar to this one, in order."""
        known, size = self._sorted(text)
        prefix = known[: max(0, self._prefix(size) - (size - len(known)))]  # unknown words are the rarest
        candidates = {number for rank in prefix for number in self._with.get(rank, ())}
        own, bare = set(known), [rank for rank in known if rank < self._articles]

        def similar(other: array[int]) -> bool:
            needed = self.similarity / (1 + self.similarity) * (size + len(other)) - _ROUNDING
            if min(size, len(other)) >= needed and len(own.intersection(other)) >= needed:
                return True
            return len(known) == size and bool(bare) and bare == [rank for rank in other if rank < self._articles]

        return sorted(number for number in candidates if similar(self._texts[number]))

    def _sorted(self, text: str) -> tuple[list[int], int]:
        """Return the ranks of the known words of a text, the rarest first, and how many different words it has."""
        different = {*map(stem, text.split())}
        return sorted(self._ranks[word] for word in different if word in self._ranks), len(different)

    def _prefix(self, size: int) -> int:
        return size - math.ceil(self.similarity * size - _ROUNDING) + 1


class Pixels(NamedTuple):
    """Size and hash of the pixels of an image, which no other image has."""

    size: int
    """Bytes."""
    digest: bytes
    """SHA-256 of width, height and pixels."""


Image: TypeAlias = bytes | Pixels | Path
"""An image in the form in which it is compared: the bytes that a data set carries, its pixels, or its file."""


def pixels_of(image: bytes | Path) -> Pixels:
    """Decode an image as `open_image` does: upright, RGB, transparency on white, not resized.

    Raises:
        ImageError: it cannot be decoded.
    """
    decoded = open_image(image if isinstance(image, Path) else Encoded(image, "an embedded image"))
    pixels = decoded.tobytes()
    digest = hashlib.sha256(f"{decoded.width}x{decoded.height}\n".encode())
    digest.update(pixels)
    return Pixels(len(pixels), digest.digest())


def groups_with_images(data: DataSet, *, pixels: bool) -> Iterator[tuple[Group, list[tuple[str, Image]]]]:
    """Read every group, in order, and each of its images under its name as it is compared.

    Args:
        data: the data set.
        pixels: compare what images look like. Every distinct image is decoded once, in threads; some 300 bytes of
            memory for each. One that cannot be decoded is compared by its bytes.

    Raises:
        RecordError: a row is broken.
        InputError: a file cannot be read.
    """

    def stored(group: Group) -> list[tuple[str, bytes | Path]]:
        embedded = group.embedded
        return [(name, embedded[name] if name in embedded else data.image_path(name)) for name in group.images]

    def decoded(image: bytes | Path) -> Pixels | None:
        try:
            return pixels_of(image)
        except ImageError:
            return None

    def key(image: bytes | Path) -> int:
        return hash(image if isinstance(image, bytes) else str(image))

    if not pixels:
        for group in data:
            yield group, [*stored(group)]
        return
    groups, seen = iter(data), dict[int, Pixels | None]()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        while batch := [(group, stored(group)) for group in itertools.islice(groups, _AT_ONCE)]:
            new = {k: image for _, images in batch for _, image in images if (k := key(image)) not in seen}
            seen.update(zip(new, pool.map(decoded, new.values()), strict=True))
            for group, images in batch:
                yield group, [(name, seen[key(image)] or image) for name, image in images]


class ImageIndex:
    """Images and who has them first.

    A file is read only when an image of the same size is asked for, because no other can have its content. About 300
    bytes of memory for each image.
    """

    def __init__(self) -> None:
        self._unread: set[int] = set()
        self._of_path: dict[int, int] = {}
        self._of_digest: dict[bytes, int] = {}
        self._of_size: dict[int, list[tuple[Path, int]]] = {}
        """Size of each image, and the files of that size that have not been read."""

    @property
    def unread(self) -> int:
        """Files that are not there or cannot be read; they are like no other."""
        return len(self._unread)

    def add(self, image: Image, owner: int) -> None:
        """Note whose an image is that `find` does not know."""
        if isinstance(image, Path):
            self._of_path[hash(str(image))] = owner
        if (size := self._size(image)) is not None:
            waiting = self._of_size.setdefault(size, [])
            if isinstance(image, Path):
                waiting.append((image, owner))
            else:
                self._of_digest.setdefault(self._digest(image), owner)

    def find(self, image: Image) -> int | None:
        """Return the owner of the same file, or of an image of the same content."""
        if isinstance(image, Path) and (owner := self._of_path.get(hash(str(image)))) is not None:
            return owner
        size = self._size(image)
        if size is None or size not in self._of_size:
            return None
        for path, owner in self._of_size[size]:
            if known := self._digest(path):
                self._of_digest.setdefault(known, owner)
        self._of_size[size].clear()
        return self._of_digest.get(self._digest(image))

    def _size(self, image: Image) -> int | None:
        if not isinstance(image, Path):
            return len(image) if isinstance(image, bytes) else image.size
        try:
            return image.stat().st_size
        except (OSError, ValueError):  # a NUL in its name
            self._unread.add(hash(str(image)))
            return None

    def _digest(self, image: Image) -> bytes:
        """Hash the content; nothing of a file that cannot be read."""
        if not isinstance(image, Path):
            return hashlib.sha256(image).digest() if isinstance(image, bytes) else image.digest
        try:
            return bytes.fromhex(sha256_file(image))
        except OSError:
            self._unread.add(hash(str(image)))
            return b""


# What training shows of validation

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

    def used(sources: Sequence[DataSet]) -> Iterator[tuple[Group, list[tuple[str, Image]]]]:
        together = (groups_with_images(data, pixels=pixels) for data in sources)
        return (found for found in itertools.chain.from_iterable(together) if found[0].place not in without)

    places, prompts, index = list[str](), dict[str, int](), ImageIndex()
    for group, images in used(validation):
        prompts.setdefault(words(group.prompt), len(places))
        for _, image in images:
            if index.find(image) is None:
                index.add(image, len(places))
        places.append(group.place)
    same_prompt = functools.lru_cache(_KEPT)(prompt_finder(prompts, similarity))
    same_file = functools.lru_cache(_KEPT)(index.find)
    leaks, groups = list[Leak](), 0
    for groups, (group, images) in enumerate(used(train), 1):
        if shared := same_prompt(group.prompt):
            kind, owner = shared
            leaks.append(Leak(kind=kind, train=group.place, validation=places[owner], what=group.prompt))
        owners = ((name, same_file(i) if isinstance(i, Path) else index.find(i)) for name, i in images)
        for name, owner in itertools.islice(((name, owner) for name, owner in owners if owner is not None), 1):
            leaks.append(Leak(kind="same image", train=group.place, validation=places[owner], what=name))
        if groups % 256 == 0:
            progress(groups)
    return Leaks(found=tuple(leaks), train_groups=groups)


def prompt_finder(prompts: Mapping[str, int], similarity: float) -> Callable[[str], tuple[Kind, int] | None]:
    """Return what finds the first of `prompts` that is the same as another one, or else the first similar one."""
    similar, owners = SimilarTexts([*prompts], similarity), [*prompts.values()]

    def find(prompt: str) -> tuple[Kind, int] | None:
        text = words(prompt)
        if (owner := prompts.get(text)) is not None:
            return "same prompt", owner
        return next((("near-duplicate prompt", owners[number]) for number in similar.like(text)), None)

    return find
