"""What is in a data set: counted group by group, in memory that grows with distinct images and prompts only."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hpskit.dataset.group import Group, Judgement

__all__ = ["Remark", "Tally"]

Remark = Callable[[str, str], None]
"""What is told of anything worth a look: its kind, and a line that says where it is."""


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts over all groups added so far."""

    remark: Remark
    groups: int = 0
    unjudged: int = 0
    """Groups with neither a judgement nor a published order."""
    published: int = 0
    """Groups with a published order."""
    prompts: set[str] = field(default_factory=set)
    images: dict[str, str] = field(default_factory=dict)
    """Name of each distinct image that is a file -> place of the group that named it first."""
    embedded: set[str] = field(default_factory=set)
    """Names of the distinct images that the data set carries."""
    sizes: Counter[int] = field(default_factory=Counter)
    """Images in a group -> groups."""
    votes: Counter[int] = field(default_factory=Counter)
    """Votes for a group -> groups."""
    pairs: int = 0
    """Pairs of images within groups."""
    comparisons: int = 0
    """Votes times pairs of images that the vote ranked both."""
    tied: int = 0
    """Comparisons that are ties."""
    first_preferred: int = 0
    """Comparisons that prefer the image that is listed first."""
    partial: int = 0
    """Votes that leave out an image."""
    annotators: Counter[str] = field(default_factory=Counter)
    """Annotator -> votes."""
    anonymous: int = 0
    """Votes of nobody in particular."""
    sources: Counter[str] = field(default_factory=Counter)
    """Generator -> images, counted in each group anew."""
    categories: Counter[str] = field(default_factory=Counter)
    """Category -> groups."""
    _seen: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Hash of prompt and images -> place, and for a pair which of the two is preferred."""

    def add(self, group: Group) -> None:
        """Count one group."""
        size = len(group.images)
        self.groups += 1
        self.sizes[size] += 1
        self.pairs += size * (size - 1) // 2
        self.prompts.add(group.prompt)
        if group.sources is not None:
            self.sources.update(group.sources)
        if group.category is not None:
            self.categories[group.category] += 1
        self._add_images(group)
        self._add_judgements(group)
        self._compare_with_seen(group)

    def _add_images(self, group: Group) -> None:
        for name in group.images:
            data = group.embedded.get(name)
            if data is None:
                self.images.setdefault(name, group.place)
            else:
                self.embedded.add(name)
                if not data:
                    self.remark("empty image", f"{group.place}: image {name!r} has 0 bytes")

    def _add_judgements(self, group: Group) -> None:
        self.votes[sum(j.votes for j in group.judgements)] += 1
        for judgement in group.judgements:
            self._add_judgement(judgement)
        if group.rank is None:
            self.unjudged += not group.judgements
        else:
            self.published += 1
            if group.judgements and _reverses(group):
                self.remark("published order", f"{group.place}: reverses the mean of the votes for at least one pair")

    def _add_judgement(self, judgement: Judgement) -> None:
        ranks, votes = judgement.ranks, judgement.votes
        if judgement.annotator is None:
            self.anonymous += votes
        else:
            self.annotators[judgement.annotator] += votes
        if None in ranks:
            self.partial += votes
        for first, second in itertools.combinations((rank for rank in ranks if rank is not None), 2):
            self.comparisons += votes
            if first == second:
                self.tied += votes
            elif first < second:
                self.first_preferred += votes

    def _compare_with_seen(self, group: Group) -> None:
        key = hash((group.prompt, frozenset(group.images)))
        preference = _preference(group)
        before = self._seen.get(key)
        if before is None:
            self._seen[key] = (group.place, preference)
        elif before[1] * preference < 0:
            self.remark("contradiction", f"{group.place}: prefers the other image of the pair that is {before[0]} too")
        else:
            self.remark("duplicate group", f"{group.place}: has the prompt and the images of {before[0]}")


def _preference(group: Group) -> float:
    """Of a pair: positive if the image whose name comes first in the alphabet is preferred, 0 if neither is."""
    if len(group.images) != 2:
        return 0.0
    if group.rank is not None:
        first, second = group.rank
        balance = second - first
    else:
        balance = sum(_sign(j.ranks) * j.votes for j in group.judgements)
    return balance if group.images[0] < group.images[1] else -balance


def _sign(ranks: tuple[int | None, ...]) -> int:
    first, second = ranks
    return 0 if first is None or second is None else (first < second) - (first > second)


def _reverses(group: Group) -> bool:
    """Whether the published order puts an image before another that has the better mean rank."""
    assert group.rank is not None
    order = group.rank
    means = [_mean([(j.ranks[n], j.votes) for j in group.judgements]) for n in range(len(order))]
    known = [(mean, rank) for mean, rank in zip(means, order, strict=True) if mean is not None]
    return any((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(known, 2))


def _mean(ranks: list[tuple[int | None, int]]) -> float | None:
    given = [(rank, votes) for rank, votes in ranks if rank is not None]
    return sum(rank * votes for rank, votes in given) / sum(votes for _, votes in given) if given else None
