"""Describe what a model would learn from a data set, to see trouble before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hpskit.dataset.group import Group, compared
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, RecordError
from hpskit.pixels import check_head

_SAMPLE = 500
"""Images whose size is looked at, the first ones: enough to see what kind of images these are."""
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

    def add(self, group: Group) -> None:
        """Count a group."""
        before = self.counts["pairs"]
        for one, other, wins, losses, _ in compared(group):
            self.counts["pairs"] += 1
            sign = (wins > losses) - (wins < losses)
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
            return
        self.counts["judged"] += 1
        self.group_sizes[len(group.images)] += 1
        if (prompt := hash(group.prompt)) not in self._prompts:
            self._prompts.add(prompt)
            self.counts["prompts"] += 1
            self.counts["cut"] += self.context is not None and self.context.cuts(group.prompt)

    def look_at(self, data: DataSet, group: Group, name: str) -> None:
        """Note width and height of an image as they are stored, or what is wrong with it; it is not decoded."""
        try:
            self.sizes.append(check_head(data.encoded(group, name)))
        except RecordError as error:
            self.broken.append(str(error))

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
    """Read all rows, and the headers of the first 500 images.

    Memory grows with the pairs, some 100 bytes for each.

    Args:
        data: the data set.
        without: `place` of groups to leave out.
        context: of the network that shall learn from it, to find prompts that it would not read to their end.
        progress: is told how many groups are done.

    Raises:
        RecordError: a row is broken.
        InputError: a file cannot be read, or no group has a compared pair.
    """
    found = Description(data.name, context)
    for number, group in enumerate(data.outline()):
        if number % 1024 == 0:
            progress(number)
        if group.place not in without:
            found.add(group)
    if not found.counts["pairs"]:
        raise InputError(data.path, "has no group in which somebody compared two images", cure="give judged groups")
    seen = set[str]()
    for group in data:
        for name in group.images if group.place not in without and len(seen) < _SAMPLE else ():
            if name not in seen:
                seen.add(name)
                found.look_at(data, group, name)
        if len(seen) >= _SAMPLE:
            break
    return found
