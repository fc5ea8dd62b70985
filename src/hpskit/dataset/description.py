"""What a model would learn from a data set, in numbers that tell of trouble before anything is spent."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hpskit.dataset.group import Group
from hpskit.dataset.pairs import pairs
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
    """How much of a prompt a network reads."""

    tokens: int
    """With the two at the ends."""
    count: Callable[[str], int]
    """Counts all tokens of a prompt, with the two at its ends; never more than its bytes in UTF-8 and two."""

    def cuts(self, prompt: str) -> bool:
        """Whether the end of a prompt is not read."""
        return len(prompt.encode()) + 2 > self.tokens and self.count(prompt) > self.tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """Labels, sizes and repetitions of a data set."""

    name: str
    groups: int
    """With a pair that somebody compared."""
    unjudged: int
    """Groups without; nothing is learned from them."""
    prompts: int
    """Distinct prompts of judged groups."""
    cut: int
    """Prompts of which the network does not read the end; 0 if no network was named."""
    context: int | None
    """Tokens that it reads."""
    group_sizes: dict[int, int]
    """Images in a group -> groups."""
    pairs: int
    """Compared pairs of images."""
    tied: int
    """Pairs whose votes are balanced exactly."""
    first_preferred: float | None
    """Share of the pairs without ties whose image that is named first has more votes, 0 to 1."""
    duplicates: int
    """Pairs with the prompt and the images of an earlier one."""
    contradictions: int
    """Those of them that prefer the other image."""
    images_looked_at: int
    """A sample of the images, whose sizes follow."""
    shortest_side: int | None
    """Pixels, of the smallest image looked at."""
    median_size: tuple[int, int] | None
    """Width and height in pixels, each the median."""
    longest_side: int | None
    """Pixels, of the largest."""
    broken: tuple[str, ...]
    """What is wrong with images that were looked at, a line for each."""

    def lines(self) -> list[str]:
        """A report, a fact in each line."""
        unjudged = f" ({self.unjudged:,} more are not judged)" if self.unjudged else ""
        sizes = ", ".join(f"{size}: {count:,}" for size, count in self.group_sizes.items())
        report = [
            f"{self.name}: {self.groups:,} groups{unjudged}, {self.prompts:,} prompts, {self.pairs:,} compared pairs",
            f"images in a group: {sizes}",
            f"pairs tied exactly: {self.tied:,}",
            f"pairs that an earlier row has: {self.duplicates:,}, the other way round {self.contradictions:,}",
        ]
        if self.first_preferred is not None:
            report.append(f"the image named first is preferred in {self.first_preferred:.1%} of the pairs without ties")
        if self.median_size is not None:
            width, height = self.median_size
            extremes = f"sides from {self.shortest_side:,} to {self.longest_side:,}"
            report.append(f"{self.images_looked_at:,} images looked at: median {width}x{height} pixels, {extremes}")
        return report

    def warnings(self) -> list[str]:
        """What is worth a look before training, a line each; most often nothing."""
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

    The sample is 500 image files that a hash of their names chooses, or the first 500 images of a data set that carries
    all of them. Memory grows with the pairs, some 100 bytes for each.

    Args:
        data: the data set.
        without: `place` of groups to leave out.
        context: of the network that shall learn from it, to find prompts that it would not read to their end.
        progress: is told how many groups are done.

    Raises:
        RecordError: a row is broken.
        InputError: a file cannot be read, or no group has a compared pair.
    """
    tally, sample = _Tally(context), _Sample()
    for number, (group, files) in enumerate(data.with_files()):
        if number % 1024 == 0:
            progress(number)
        if group.place not in without and tally.add(group):
            sample.add(group, files)
    if not tally.pairs:
        raise InputError(f"{data.path}: has no group in which somebody compared two images; give judged groups")
    sizes, broken = list[tuple[int, int]](), list[str]()
    for group, name in sample.chosen() or _first_carried(data, without):
        try:
            sizes.append(_size(data, group, name))
        except RecordError as error:
            broken.append(str(error))
    decided = tally.pairs - tally.tied
    return Description(
        name=data.name,
        groups=tally.groups,
        unjudged=tally.unjudged,
        prompts=len(tally.prompts),
        cut=tally.cut,
        context=context.tokens if context else None,
        group_sizes=dict(sorted(tally.sizes.items())),
        pairs=tally.pairs,
        tied=tally.tied,
        first_preferred=tally.first / decided if decided else None,
        duplicates=tally.duplicates,
        contradictions=tally.contradictions,
        images_looked_at=len(sizes),
        shortest_side=min(map(min, sizes), default=None),
        median_size=(_median(w for w, _ in sizes), _median(h for _, h in sizes)) if sizes else None,
        longest_side=max(map(max, sizes), default=None),
        broken=tuple(broken),
    )


class _Tally:
    def __init__(self, context: Context | None) -> None:
        self.context = context
        self.groups = self.unjudged = self.pairs = self.tied = self.first = self.cut = 0
        self.duplicates = self.contradictions = 0
        self.prompts, self.sizes = set[int](), Counter[int]()
        self._seen: dict[int, int] = {}
        """Hash of prompt and images -> 1 if the image whose name comes first in the alphabet is preferred, -1, 0."""

    def add(self, group: Group) -> bool:
        """Count a group; False if nobody judged it."""
        before = self.pairs
        for pair in pairs(group):
            self.pairs += 1
            sign = (pair.first_share > 0.5) - (pair.first_share < 0.5)
            self.tied += sign == 0
            self.first += sign > 0
            if pair.first > pair.second:
                sign = -sign
            key = hash((group.prompt, frozenset((pair.first, pair.second))))
            known = self._seen.get(key)
            if known is None:
                self._seen[key] = sign
            else:
                self.duplicates += 1
                self.contradictions += known * sign < 0
        if self.pairs == before:
            self.unjudged += 1
            return False
        self.groups += 1
        self.sizes[len(group.images)] += 1
        if (prompt := hash(group.prompt)) not in self.prompts:
            self.prompts.add(prompt)
            self.cut += self.context is not None and self.context.cuts(group.prompt)
        return True


class _Sample:
    """Images with the smallest hashes of their names: the same ones in whatever order the rows are."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, Group]] = []
        self._names: set[str] = set()

    def add(self, group: Group, names: Iterable[str]) -> None:
        for name in names:
            entry = (-int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()), name, group)
            if name in self._names or (len(self._heap) == _SAMPLE and entry[0] <= self._heap[0][0]):
                continue
            self._names.add(name)
            if len(self._heap) < _SAMPLE:
                heapq.heappush(self._heap, entry)
            else:
                self._names.remove(heapq.heapreplace(self._heap, entry)[1])

    def chosen(self) -> list[tuple[Group, str]]:
        return [(group, name) for _, name, group in sorted(self._heap, key=lambda entry: entry[1])]


def _first_carried(data: DataSet, without: Collection[str]) -> Iterator[tuple[Group, str]]:
    """Of a data set that has no image files."""
    groups = (group for part in data.parts() for group in data.read_part(part) if group.place not in without)
    return itertools.islice(((group, name) for group in groups for name in group.images), _SAMPLE)


def _size(data: DataSet, group: Group, name: str) -> tuple[int, int]:
    """Width and height as they are stored; the image is not decoded."""
    image = data.image(group, name)
    if not isinstance(image, Path):
        with image:
            return image.size
    try:
        with Image.open(image) as opened:
            return opened.size
    except Exception as error:  # formats raise what they like while their headers are read
        raise RecordError(f"{group.place}: image {name!r}: cannot be opened ({error}); make or download it") from error


def _median(values: Iterator[int]) -> int:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
