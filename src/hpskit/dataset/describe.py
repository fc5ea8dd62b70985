"""Describe what a model would learn from a data set, to see trouble before anything is spent."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from hpskit.dataset.group import Group, compared
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, RecordError

__all__ = ["Context", "Description", "describe"]

_SAMPLE = 500
"""Images whose size is looked at: enough to see what kind of images these are."""
_ONE_SIDED = 0.6
"""A share from which the order of images seems to tell the label."""
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


@dataclass(kw_only=True, slots=True)
class Description:
    """Labels, sizes and repetitions of a data set, counted in compared pairs of images."""

    name: str
    context: int | None = None
    """Tokens that the network reads."""
    groups: int = 0
    """Groups with a pair that somebody compared."""
    unjudged: int = 0
    """Groups without; nothing is learned from them."""
    prompts: int = 0
    """Distinct prompts of judged groups."""
    cut: int = 0
    """Prompts of which the network does not read the end; 0 if no network was named."""
    group_sizes: Counter[int] = field(default_factory=Counter)
    """Images in a group -> groups."""
    pairs: int = 0
    tied: int = 0
    """Pairs whose votes are balanced exactly."""
    first_better: int = 0
    """Pairs whose image that is named first has more votes."""
    duplicates: int = 0
    """Pairs with the prompt and the images of an earlier one."""
    contradictions: int = 0
    """Those of them that prefer the other image."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Width and height in pixels of a sample of the images."""
    broken: list[str] = field(default_factory=list)
    """Problems of images that were looked at, a line for each."""

    @property
    def first_preferred(self) -> float | None:
        """Share of the pairs without ties whose image that is named first has more votes, 0 to 1."""
        return self.first_better / (self.pairs - self.tied) if self.pairs > self.tied else None

    @property
    def median_size(self) -> tuple[int, int]:
        """Width and height in pixels, each the median; at least one image must have been looked at."""
        widths, heights = (sorted(values) for values in zip(*self.sizes, strict=True))
        return widths[len(widths) // 2], heights[len(heights) // 2]

    def lines(self) -> list[str]:
        """Report a fact in each line."""
        unjudged = f" ({self.unjudged:,} more are not judged)" if self.unjudged else ""
        sizes = ", ".join(f"{size}: {count:,}" for size, count in sorted(self.group_sizes.items()))
        report = [
            f"{self.name}: {self.groups:,} groups{unjudged}, {self.prompts:,} prompts, {self.pairs:,} compared pairs",
            f"images in a group: {sizes}",
            f"pairs tied exactly: {self.tied:,}",
            f"pairs that an earlier row has: {self.duplicates:,}, the other way round {self.contradictions:,}",
        ]
        if self.first_preferred is not None:
            report.append(f"the image named first is preferred in {self.first_preferred:.1%} of the pairs without ties")
        if self.sizes:
            width, height = self.median_size
            extremes = f"sides from {min(map(min, self.sizes)):,} to {max(map(max, self.sizes)):,}"
            report.append(f"{len(self.sizes):,} images looked at: median {width}x{height} pixels, {extremes}")
        return report

    def warnings(self) -> list[str]:
        """Say what is worth a look before training, a line each; most often nothing."""
        found = [*self.broken]
        if self.cut:
            what = f"{self.cut:,} of {self.prompts:,} prompts are longer than the {self.context} tokens"
            found.append(f"{self.name}: {what} that the network reads; nothing is learned from the rest of them")
        if self.first_preferred is not None and abs(self.first_preferred - 0.5) > _ONE_SIDED - 0.5 and self.pairs > 100:
            share = f"the image named first is preferred in {self.first_preferred:.1%} of the pairs"
            found.append(f"{self.name}: {share}; no loss here sees the order, but look whether labels were lost")
        if self.tied > _MANY_TIES * self.pairs:
            found.append(f"{self.name}: {self.tied:,} of {self.pairs:,} pairs are tied and say little")
        if self.contradictions > _MANY_CONTRADICTIONS * self.pairs:
            what = f"{self.contradictions:,} of {self.pairs:,} pairs say the opposite of an earlier one"
            found.append(f"{self.name}: {what}; no model can agree with both")
        return found


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
    found = Description(name=data.name, context=context.tokens if context else None)
    prompts, signs, sample = set[int](), dict[int, int](), Sample()
    for number, (group, files) in enumerate(data.with_files()):
        if number % 1024 == 0:
            progress(number)
        if group.place in without:
            continue
        before = found.pairs
        add_pairs(found, group, signs)
        if found.pairs == before:
            found.unjudged += 1
            continue
        found.groups += 1
        found.group_sizes[len(group.images)] += 1
        if (prompt := hash(group.prompt)) not in prompts:
            prompts.add(prompt)
            found.cut += context is not None and context.cuts(group.prompt)
        sample.add(group, files)
    if not found.pairs:
        raise InputError(data.path, "has no group in which somebody compared two images", cure="give judged groups")
    found.prompts = len(prompts)
    looked_at: dict[str, Group] = {}
    for group, name in sample.images or first_carried(data, without):
        looked_at.setdefault(name, group)
    for name, group in looked_at.items():
        try:
            found.sizes.append(image_size(data, group, name))
        except RecordError as error:
            found.broken.append(str(error))
    return found


def add_pairs(found: Description, group: Group, signs: dict[int, int]) -> None:
    """Count the compared pairs of a group.

    `signs` holds, for the hash of prompt and images of each pair before, 1 if the image whose name comes first in the
    alphabet is preferred, else -1 or 0.
    """
    for one, other, halves, votes in compared(group):
        found.pairs += 1
        sign = (halves > votes) - (halves < votes)
        found.tied += sign == 0
        found.first_better += sign > 0
        first, second = group.images[one], group.images[other]
        if first > second:
            sign = -sign
        key = hash((group.prompt, frozenset((first, second))))
        known = signs.setdefault(key, 2)
        if known == 2:
            signs[key] = sign
        else:
            found.duplicates += 1
            found.contradictions += known * sign < 0


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
