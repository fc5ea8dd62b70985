"""Count what is in a data set and find what is wrong with it; nothing stops at the first finding."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hpskit.dataset.duplicates import pixels_of
from hpskit.dataset.group import Group, Pair, compared
from hpskit.dataset.reading import DataSet
from hpskit.errors import ImageError, listed, shown

PROBLEMS = ("broken row", "missing image", "empty image", "broken image", "same image twice")
"""Kinds of findings that make a data set unsound; the last is a group that compares an image with itself."""
REMARKS = ("duplicate group", "contradiction", "published order", "same image")
"""Kinds of findings that are worth a look; people may well contradict one another."""

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Receives a step, how much of it is done, and of how much (None: not known)."""

_AT_ONCE = 256
"""Images that are decoded side by side."""


class Inspection:
    """Counts and findings. Memory grows with distinct images and prompts only."""

    def __init__(self, data: DataSet, show: int) -> None:
        self.data, self.show = data, show
        self.counts: Counter[str] = Counter()
        """Numbers of `to_json`, and `first`: comparisons that prefer the image that is listed first."""
        self.group_sizes: Counter[int] = Counter()
        self.votes_per_group: Counter[int] = Counter()
        self.annotators: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.categories: Counter[str] = Counter()
        self.prompts: set[str] = set()
        self.embedded: set[str] = set()
        self.files: dict[str, str] = {}
        """Name of each distinct image that is a file -> place of the group that named it first."""
        self.images_decoded: int | None = None
        self.not_checked: list[str] = []
        self.findings: Counter[str] = Counter()
        self.listed: dict[str, list[str]] = {}
        self._seen: dict[int, tuple[str, int]] = {}
        """Hash of prompt and images -> place, and for a pair which of the two is preferred."""

    @property
    def sound(self) -> bool:
        """True if there is no problem; remarks are none."""
        return not self.findings.keys() & PROBLEMS

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for `json.dumps`."""
        data, n = self.data, self.counts
        decided = n["comparisons"] - n["tied"]
        return {
            "name": data.name,
            "path": str(data.path),
            "format": data.format,
            "image_root": str(data.image_root),
            "groups": n["groups"],
            "unjudged_groups": n["unjudged_groups"],  # neither a judgement nor a published order
            "published_orders": n["published_orders"],
            "prompts": len(self.prompts),
            "images": len(self.files.keys() | self.embedded),
            "embedded_images": len(self.embedded),
            "pairs": n["pairs"],  # of images within groups
            "votes": n["votes"],
            "comparisons": n["comparisons"],  # votes times pairs that the vote ranked; HPD v2 calls them choices
            "decided": decided,
            "tied": n["tied"],
            "partial_votes": n["partial_votes"],  # leave out an image
            "first_preferred": n["first"] / decided if decided else None,  # far from one half, the order tells who wins
            "annotators": len(self.annotators),
            "anonymous_votes": n["anonymous_votes"],
            "group_sizes": dict(sorted(self.group_sizes.items())),  # images in a group -> groups
            "votes_per_group": dict(sorted(self.votes_per_group.items())),  # votes for a group -> groups
            "sources": dict(self.sources.most_common()),  # generator -> images, counted in each group anew
            "categories": dict(self.categories.most_common()),
            "images_decoded": self.images_decoded,  # null without `decode`
            "not_checked": self.not_checked,
            "problems": {kind: self.findings[kind] for kind in PROBLEMS if self.findings[kind]},
            "remarks": {kind: self.findings[kind] for kind in REMARKS if self.findings[kind]},
            "listed": self.listed,  # kind -> the first findings, each with its place
            "sound": self.sound,
        }

    def remark(self, kind: str, line: str) -> None:
        """Count a finding, and list it if it is one of the first."""
        self.findings[kind] += 1
        if self.findings[kind] <= self.show:
            self.listed.setdefault(kind, []).append(line)

    def add(self, group: Group) -> None:
        """Count a group."""
        size = len(group.images)
        self.counts["groups"] += 1
        self.counts["pairs"] += size * (size - 1) // 2
        self.group_sizes[size] += 1
        self.prompts.add(group.prompt)
        self.sources.update(group.sources or ())
        if group.category is not None:
            self.categories[group.category] += 1
        for name in group.images:
            if name not in group.embedded:
                self.files.setdefault(name, group.place)
        for name, data in group.embedded.items():
            self.embedded.add(name)
            if not data:
                self.remark("empty image", f"{group.place}: image {shown(name)} has 0 bytes")
        pairs = list(compared(group))
        self.add_judgements(group, pairs)
        self.compare_with_seen(group, pairs)

    def add_judgements(self, group: Group, pairs: Sequence[Pair]) -> None:
        """Count the votes of a group, and what they say of pairs."""
        n, given = self.counts, 0
        for judgement in group.judgements:
            votes = judgement.votes
            given += votes
            if judgement.annotator is None:
                n["anonymous_votes"] += votes
            else:
                self.annotators[judgement.annotator] += votes
            n["partial_votes"] += votes * (None in judgement.ranks)
        for _, _, wins, losses, ties in pairs if group.judgements else ():
            n["comparisons"] += wins + losses + ties
            n["tied"] += ties
            n["first"] += wins
        n["votes"] += given
        self.votes_per_group[given] += 1
        if group.rank is not None:
            n["published_orders"] += 1
            if group.judgements and reverses_the_votes(group):
                line = f"{group.place}: reverses the mean of the votes for at least one pair"
                self.remark("published order", line)
        elif not group.judgements:
            n["unjudged_groups"] += 1

    def compare_with_seen(self, group: Group, pairs: Sequence[Pair]) -> None:
        """See whether an earlier group has the same prompt and images, and prefers another one."""
        key = hash((group.prompt, frozenset(group.images)))
        preference = preferred(group, pairs)
        before = self._seen.get(key)
        if before is None:
            self._seen[key] = (group.place, preference)
        elif before[1] * preference < 0:
            self.remark("contradiction", f"{group.place}: prefers the other image of the pair that is {before[0]} too")
        else:
            self.remark("duplicate group", f"{group.place}: has the prompt and the images of {before[0]}")


def preferred(group: Group, pairs: Sequence[Pair]) -> int:
    """Return a positive number if of a pair the image whose name comes first is preferred, 0 if neither is."""
    if len(group.images) != 2:
        return 0
    if group.rank is not None and group.judgements:
        pairs = list(compared(replace(group, judgements=())))
    balance = sum(wins - losses for _, _, wins, losses, _ in pairs)
    return balance if group.images[0] < group.images[1] else -balance


def reverses_the_votes(group: Group) -> bool:
    """See whether the published order puts an image before another that has the better mean rank."""
    published, means = group.consensus(), replace(group, rank=None).consensus()
    return bool((np.subtract.outer(means, means) * np.subtract.outer(published, published) < 0).any())  # never for NaN


def inspect(
    data: DataSet,
    *,
    images: bool = True,
    decode: bool = False,
    show: int = 5,
    progress: Progress = lambda *_: None,
) -> Inspection:
    """Read all rows and look for all images; nothing stops at the first thing that is wrong.

    Args:
        data: the data set.
        images: look for the image files.
        decode: decode every image, and compare their contents.
        show: findings of each kind that are listed; all are counted.
        progress: see `Progress`.

    Raises:
        InputError: a file cannot be read at all.
    """
    found = Inspection(data, show)
    for number, group in enumerate(data.groups(lambda error: found.remark("broken row", str(error))), 1):
        found.add(group)
        if number % 1024 == 0:
            progress("reading", number, None)
    if images:
        progress("looking for images", 0, None)
        missing = set[str]()
        for name, kind, line in data.missing(found.files):
            missing.add(name)
            found.remark(kind, line)
        if decode:
            _decode(found, [name for name in found.files if name not in missing], progress)
    elif found.files:
        found.not_checked.append("whether image files are there (--no-images)")
    if not (images and decode):
        found.not_checked.append("whether images can be decoded, and whether some are the same (--decode does)")
    return found


def _decode(found: Inspection, names: Sequence[str], progress: Progress) -> None:
    """Decode every distinct image once, in threads, and find those of the same pixels."""
    data, total = found.data, len(found.embedded) + len(names)
    by_pixels: dict[bytes, list[str]] = {}
    found.images_decoded = 0
    images = itertools.chain(((name, found.files[name], data.image_path(name)) for name in names), _carried(found))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        while batch := [*itertools.islice(images, _AT_ONCE)]:
            outcomes = pool.map(pixels_or_problem, (image for *_, image in batch))
            for (name, place, _), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, str):
                    found.remark("broken image", f"{place}: image {shown(name)}: {outcome}")
                else:
                    by_pixels.setdefault(outcome, []).append(name)
            found.images_decoded += len(batch)
            progress("decoding", found.images_decoded, total)
    same = {name: pixels for pixels, names in by_pixels.items() if len(names) > 1 for name in names}
    for pixels in dict.fromkeys(same.values()):
        names = by_pixels[pixels]
        found.remark("same image", f"{len(names)} names of one picture: {listed(map(shown, names))}")
    for group in data.groups(lambda _: None) if same else ():
        pictures = [same[name] for name in group.images if name in same]
        if len(set(pictures)) < len(pictures):
            found.remark("same image twice", f"{group.place}: compares an image with itself under another name")


def _carried(found: Inspection) -> Iterator[tuple[str, str, bytes]]:
    """Read each distinct image that rows carry: its name, its place and its bytes. Broken rows have been told of."""
    seen: set[str] = set()
    for group in found.data.groups(lambda _: None) if found.embedded else ():
        for name, image in group.embedded.items():
            if image and name not in seen:
                seen.add(name)
                yield name, group.place, image


def pixels_or_problem(image: Path | bytes) -> bytes | str:
    """Return a hash of the pixels of an image, or what is wrong with it."""
    try:
        return pixels_of(image).digest
    except ImageError as error:
        return str(error)
