"""The judged groups of a data set as the fit of mini sees them: numbered images, compared pairs, separate prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hpskit.dataset.duplicates import Image as Stored
from hpskit.dataset.duplicates import ImageIndex, SimilarTexts, words
from hpskit.dataset.group import Group, compared_pairs, orders
from hpskit.dataset.reading import DataSet
from hpskit.errors import ImageError, InputError, RecordError
from hpskit.pixels import open_image
from hpskit.stats import PairVotes, pair_votes
from hpskit.stats.blocks import Floats, Index

__all__ = ["Comparisons", "Material", "read_material"]

_FEWEST_PROMPTS = 10
"""That can be parted twice over: for the figures, and inside that for the penalty."""
_MOST_IMAGES = 5_000
"""Whose features, with those of the spoilt copies, are 2.1 GB."""
_ORDERED_SIZES = {9, 10}
"""Images in the groups of HPD v2's test set: nine generators in a fixed order, sometimes a photograph after them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparisons:
    """Every two images of a group that somebody compared."""

    prompt: Index
    """(pairs,): number of the prompt, see `Material`."""
    first: Index
    """(pairs,): number of the image that stands first."""
    second: Index
    """(pairs,)."""
    generators: Index | None
    """(pairs, 2): numbers of their generators, if these are known."""
    share: Floats
    """(pairs,): of the votes for the first image, 0 to 1; a tie counts one half to each."""
    weight: Floats
    """(pairs,): votes, over their mean in the whole data set."""

    def of(self, prompts: Index) -> Comparisons:
        """Those of some prompts, in the same order."""
        kept = np.isin(self.prompt, prompts)
        return Comparisons(
            prompt=self.prompt[kept],
            first=self.first[kept],
            second=self.second[kept],
            generators=None if self.generators is None else self.generators[kept],
            share=self.share[kept],
            weight=self.weight[kept],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What is fitted to. A *prompt* is everything that must not be parted: groups that share an image, or a prompt or
    nearly one, directly or through others. Prompts and images are numbered in the order in which they come."""

    data: DataSet
    groups: tuple[Group, ...]
    """In order, without the bytes of embedded images."""
    repeated: tuple[str, ...]
    """Places of groups that the data set holds twice, with the very same judgements of the same people; left out."""
    images: tuple[tuple[str, str], ...]
    """The place of the first group that has it, and its name there; images of the same bytes are one."""
    rows: tuple[Index, ...]
    """Number of each image of each group."""
    prompt: Index
    """(groups,): number of its prompt."""
    generators: tuple[Index, ...] | None
    """Number of the generator of each image of each group; None if they are not known or of no use."""
    how: str
    """How the generators are known, or why they are not used, in words."""
    pairs: Comparisons
    digest: str
    """SHA-256 over prompts, image names, judgements and the state of every image."""

    @property
    def prompts(self) -> int:
        """How many there are."""
        return int(self.prompt.max()) + 1

    @property
    def generator_count(self) -> int:
        """How many there are, 0 if they are not known."""
        return 0 if self.generators is None else 1 + max(int(own.max()) for own in self.generators)

    def images_of(self, prompts: Index) -> Index:
        """Numbers of their images, each once, in order."""
        return np.unique(np.concatenate([self.rows[group] for group in self._groups_of(prompts)]))

    def slots(self, prompts: Index) -> tuple[Index, Index]:
        """Number and generator of each image of each of their groups; the generators have to be known."""
        assert self.generators is not None
        chosen = self._groups_of(prompts)
        rows, generators = (np.concatenate([own[group] for group in chosen]) for own in (self.rows, self.generators))
        return rows, generators

    def _groups_of(self, prompts: Index) -> Index:
        return np.flatnonzero(np.isin(self.prompt, prompts))

    def opened(self, first: int) -> Iterator[Image.Image]:
        """Every image from number `first` on, in RGB, decoded when it is asked for.

        Raises:
            RecordError: an image cannot be used; file and row are named.
        """
        wanted = set(self.images[first:])
        for group in self.data:
            for name in group.images:
                if (group.place, name) in wanted:
                    yield _open(self.data, group, name)


def _open(data: DataSet, group: Group, name: str) -> Image.Image:
    try:
        return open_image(data.image(group, name))
    except RecordError:
        raise
    except ImageError as error:
        raise RecordError(f"{group.place}: image {name!r}: {error}; mend it or remove the row") from error


def read_material(data: DataSet) -> Material:
    """Read all groups and see that they can be fitted to and that their images are there, without decoding them.

    Raises:
        InputError: too few prompts with judgements, or too many images.
        RecordError: a row is not what it should be, or an image is missing.
    """
    read = _Reader(data)
    for group in data:
        if compared_pairs(group):
            read.add(group)
    groups, rows = tuple(read.groups), tuple(read.rows)
    prompt = _prompts(groups, rows, len(read.images))
    if (count := len(set(prompt.tolist()))) < _FEWEST_PROMPTS:
        what = f"has {count} judged prompts that share no image and are not nearly the same"
        raise InputError(f"{data.path}: {what}, expected at least {_FEWEST_PROMPTS} to fit mini; add some")
    generators, how = _generators(data, groups)
    return Material(
        data=data,
        groups=groups,
        repeated=tuple(read.repeated),
        images=tuple(read.images),
        rows=rows,
        prompt=prompt,
        generators=generators,
        how=how,
        pairs=_comparisons(groups, rows, prompt, generators),
        digest=read.digest.hexdigest(),
    )


class _Reader:
    """Takes judged groups one after the other and numbers their images."""

    def __init__(self, data: DataSet) -> None:
        self.data = data
        self.groups: list[Group] = []
        self.rows: list[Index] = []
        self.images: list[tuple[str, str]] = []
        self.repeated: list[str] = []
        self.digest = hashlib.sha256()
        self._index = ImageIndex()
        self._seen: set[str] = set()

    def add(self, group: Group) -> None:
        judgements = [(j.ranks, j.annotator, j.votes) for j in group.judgements]
        said = json.dumps([group.prompt, group.images, group.rank, group.sources, judgements])
        named = bool(judgements) and all(annotator is not None for _, annotator, _ in judgements)
        if named and said in self._seen:  # of people without a name, equal judgements may be those of two
            self.repeated.append(group.place)
            return
        self._seen.add(said)
        states = [self._state(group, name) for name in group.images]
        self.digest.update(json.dumps([said, states]).encode())
        self.rows.append(
            np.array(
                [
                    self._number(group, name, image)
                    for name in group.images
                    for image in [group.embedded.get(name) or self.data.image_path(name)]
                ]
            )
        )
        self.groups.append(replace(group, embedded={}))
        if len(self.images) > _MOST_IMAGES:
            what = f"has more than {_MOST_IMAGES:,} images, the most that mini is fitted to"
            raise InputError(f"{self.data.path}: {what}; give a part of it")

    def _number(self, group: Group, name: str, image: Stored) -> int:
        number = self._index.find(image)
        if number is None:
            number = len(self.images)
            self._index.add(image, number)
            self.images.append((group.place, name))
        return number

    def _state(self, group: Group, name: str) -> str:
        """What changes when an image is replaced; raises if there is none."""
        image = self.data.image(group, name)
        if isinstance(image, Path):
            status = image.stat()
            return f"{status.st_size} bytes, {status.st_mtime_ns} ns"
        return hashlib.sha256(group.embedded[name]).hexdigest()


def _prompts(groups: Sequence[Group], rows: Sequence[Index], images: int) -> Index:
    """(groups,): equal numbers for groups that must stay together, see `Material`."""
    if not groups:
        return np.zeros(0, dtype=np.intp)
    texts: dict[str, int] = {}
    own = [texts.setdefault(words(group.prompt), len(texts)) for group in groups]
    similar = SimilarTexts([*texts])
    links = [(group, len(groups) + image) for group, members in enumerate(rows) for image in members.tolist()]
    base = len(groups) + images
    links += [(group, base + text) for group, text in enumerate(own)]
    links += [(base + number, base + other) for text, number in texts.items() for other in similar.like(text)]
    ends = np.array(links).T
    graph = coo_array((np.ones(len(links)), (ends[0], ends[1])), shape=(base + len(texts), base + len(texts)))
    labels = connected_components(graph, directed=False)[1][: len(groups)]
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels.tolist()], dtype=np.intp)


def _generators(data: DataSet, groups: Sequence[Group]) -> tuple[tuple[Index, ...] | None, str]:
    """Number of the generator of each image, and how it is known; None, and why, if that helps nothing."""
    named = sum(group.sources is not None for group in groups)
    if 0 < named < len(groups):
        return None, f"not used: {len(groups) - named:,} of {len(groups):,} groups do not name them"
    names = [group.sources or tuple(f"place {n}" for n in range(1, 1 + len(group.images))) for group in groups]
    how = "named by the data"
    if not named:
        if data.format != "hpdv2-test" or not {len(own) for own in names} <= _ORDERED_SIZES:
            return None, "not used: the data do not name them"
        how = "known by their places, which are fixed in the groups of nine or ten of the HPD v2 test set"
    numbers: dict[str, int] = {}
    codes = tuple(np.array([numbers.setdefault(name, len(numbers)) for name in own], dtype=np.intp) for own in names)
    met = np.eye(len(numbers), dtype=bool)
    for own in codes:
        met[np.ix_(own, own)] = True
    if len(numbers) == 1:
        return None, "not used: there is only one"
    if not met.all():
        one, other = ([*numbers][place] for place in np.argwhere(~met)[0])
        return None, f"not used: {one!r} and {other!r} have no group in common"
    return codes, how


def _comparisons(
    groups: Sequence[Group], rows: Sequence[Index], prompt: Index, generators: Sequence[Index] | None
) -> Comparisons:
    votes: PairVotes = pair_votes([replace(group, judgements=orders(group)).ranks() for group in groups])
    starts = np.cumsum([0, *map(len, rows)])[votes.group]
    first, second = starts + votes.first, starts + votes.second
    images = np.concatenate(rows)
    codes = None if generators is None else np.concatenate(generators)
    return Comparisons(
        prompt=prompt[votes.group],
        first=images[first],
        second=images[second],
        generators=None if codes is None else np.column_stack([codes[first], codes[second]]),
        share=votes.share,
        weight=votes.votes / votes.votes.mean(),
    )
