"""Describe what a model would learn from a data set, to see trouble before anything is spent."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hpskit.dataset.group import Group, compared
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, RecordError

__all__ = ["Context", "Description", "describe"]

_SAMPLE = 500
"""Images whose size is looked at: enough to see what kind of images these are."""
_ONE_SIDED = (0.4, 0.6)
"""Shares beyond which the order of images seems to tell the label."""
_MANY_TIES = 0.5
_MANY_CONTRADICTIONS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """The length of a prompt that a network reads."""

    tokens: int
    """Tokens, the two at the ends included."""
    count: Callable[[str], int]
    """Counts all tokens of a prompt, with the two at its ends; never more than its bytes in UTF-8 and two."""

    def cuts(self, prompt: str) -> bool:
        """See whether the end of a prompt is not read."""
        return len(prompt.encode()) + 2 > self.tokens and self.count(prompt) > self.tokens


class Description:
    """Labels, sizes and repetitions of a data set, counted in compared pairs of images."""

    def __init__(self, name: str, context: Context | None) -> None:
        self.name, self.context = name, context
        self.counts: Counter[str] = Counter()
        """Of groups: judged, unjudged. Of prompts: prompts, cut (the network does not read their end). Of pairs: pairs,
        tied exactly, first (the image named first has more votes), duplicates of an earlier one, and contradictions,
        which are duplicates that prefer the other image."""
        self.group_sizes: Counter[int] = Counter()
        """Images in a group -> groups."""
        self.sizes: list[tuple[int, int]] = []
        """Width and height in pixels of a sample of the images."""
        self.broken: list[str] = []
        """Problems of images that were looked at, a line for each."""
        self._prompts: set[int] = set()
        self._signs: dict[int, int] = {}
        """Hash of prompt and images of a pair -> 1 if the image whose name comes first is preferred, -1, or 0."""

    def add(self, group: Group) -> bool:
        """Count a group; False if nobody compared two of its images."""
        before = self.counts["pairs"]
        for one, other, halves, votes in compared(group):
            self.counts["pairs"] += 1
            sign = (halves > votes) - (halves < votes)
            self.counts["tied"] += sign == 0
            self.counts["first"] += sign > 0
            first, second = group.images[one], group.images[other]
            sign = -sign if first > second else sign
            key = hash((group.prompt, frozenset((first, second))))
            if key in self._signs:
                self.counts["duplicates"] += 1
                self.counts["contradictions"] += self._signs[key] * sign < 0
            self._signs.setdefault(key, sign)
        if self.counts["pairs"] == before:
            self.counts["unjudged"] += 1
            return False
        self.counts["judged"] += 1
        self.group_sizes[len(group.images)] += 1
        if (prompt := hash(group.prompt)) not in self._prompts:
            self._prompts.add(prompt)
            self.counts["prompts"] += 1
            self.counts["cut"] += self.context is not None and self.context.cuts(group.prompt)
        return True

    @property
    def first_preferred(self) -> float | None:
        """Share of the pairs without ties whose image that is named first has more votes, 0 to 1."""
        decided = self.counts["pairs"] - self.counts["tied"]
        return self.counts["first"] / decided if decided else None

    def lines(self) -> list[str]:
        """Report a fact in each line."""
        n = self.counts
        unjudged = f" ({n['unjudged']:,} more are not judged)" if n["unjudged"] else ""
        sizes = ", ".join(f"{size}: {count:,}" for size, count in sorted(self.group_sizes.items()))
        report = [
            f"{self.name}: {n['judged']:,} groups{unjudged}, {n['prompts']:,} prompts, {n['pairs']:,} compared pairs",
            f"images in a group: {sizes}",
            f"pairs tied exactly: {n['tied']:,}",
            f"pairs that an earlier row has: {n['duplicates']:,}, the other way round {n['contradictions']:,}",
        ]
        if self.first_preferred is not None:
            report.append(f"the image named first is preferred in {self.first_preferred:.1%} of the pairs without ties")
        if self.sizes:
            width, height = (sorted(sides)[len(sides) // 2] for sides in zip(*self.sizes, strict=True))
            extremes = f"sides from {min(map(min, self.sizes)):,} to {max(map(max, self.sizes)):,}"
            report.append(f"{len(self.sizes):,} images looked at: median {width}x{height} pixels, {extremes}")
        return report

    def warnings(self) -> list[str]:
        """Say what is worth a look before training, a line each; most often nothing."""
        n, found = self.counts, list[str]()
        if n["cut"] and self.context:
            what = f"{n['cut']:,} of {n['prompts']:,} prompts are longer than the {self.context.tokens} tokens"
            found.append(f"{what} that the network reads; nothing is learned from the rest of them")
        share = self.first_preferred
        if share is not None and not _ONE_SIDED[0] <= share <= _ONE_SIDED[1] and n["pairs"] > 100:
            what = f"the image named first is preferred in {share:.1%} of the pairs"
            found.append(f"{what}; no loss here sees the order, but look whether labels were lost")
        if n["tied"] > _MANY_TIES * n["pairs"]:
            found.append(f"{n['tied']:,} of {n['pairs']:,} pairs are tied and say little")
        if n["contradictions"] > _MANY_CONTRADICTIONS * n["pairs"]:
            what = f"{n['contradictions']:,} of {n['pairs']:,} pairs say the opposite of an earlier one"
            found.append(f"{what}; no model can agree with both")
        return [*self.broken, *(f"{self.name}: {line}" for line in found)]


def describe(
    data: DataSet,
    *,
    without: Collection[str] = (),
    context: Context | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Description:
    """Read all rows, and the headers of a sample of the images.

    The sample is 500 image files drawn at random, always the same ones, or the first 500 images of a data set that
    carries all of them. Memory grows with the pairs, some 100 bytes for each.

    Args:
        data: the data set.
        without: `place` of groups to leave out.
        context: of the network that shall learn from it, to find prompts that it would not read to their end.
        progress: is told how many groups are done.

    Raises:
        RecordError: a row is broken.
        InputError: a file cannot be read, or no group has a compared pair.
    """
    found, sample = Description(data.name, context), Sample()
    for number, (group, files) in enumerate(data.with_files()):
        if number % 1024 == 0:
            progress(number)
        if group.place not in without and found.add(group):
            sample.add(group, files)
    if not found.counts["pairs"]:
        raise InputError(data.path, "has no group in which somebody compared two images", cure="give judged groups")
    looked_at: dict[str, Group] = {}
    for group, name in sample.images or first_carried(data, without):
        looked_at.setdefault(name, group)
    for name, group in looked_at.items():
        try:
            found.sizes.append(image_size(data, group, name))
        except RecordError as error:
            found.broken.append(str(error))
    return found


class Sample:
    """A random sample of the image files, the same one at every run."""

    def __init__(self) -> None:
        self.images: list[tuple[Group, str]] = []
        self._seen = 0
        self._random = random.Random(0)  # noqa: S311  # nothing secret

    def add(self, group: Group, names: Iterable[str]) -> None:
        """Draw some of the images of a group."""
        for name in names:
            self._seen += 1
            slot = self._seen - 1 if self._seen <= _SAMPLE else self._random.randrange(self._seen)
            if slot < _SAMPLE:
                self.images[slot : slot + 1] = [(group, name)]


def first_carried(data: DataSet, without: Collection[str]) -> Iterator[tuple[Group, str]]:
    """Read the first images of a data set that has no image files."""
    groups = (group for part in data.parts() for group in data.read_part(part) if group.place not in without)
    return itertools.islice(((group, name) for group in groups for name in group.images), _SAMPLE)


def image_size(data: DataSet, group: Group, name: str) -> tuple[int, int]:
    """Return width and height of an image as they are stored; it is not decoded.

    Raises:
        RecordError: it is not there or cannot be opened.
    """
    image = data.image(group, name)
    try:
        with Image.open(image) if isinstance(image, Path) else image as opened:
            return opened.size
    except Exception as error:  # formats raise what they like while their headers are read
        place = f"{group.place}: image {name!r}"
        raise RecordError(place, f"cannot be opened ({error})", cure="make or download it") from error
