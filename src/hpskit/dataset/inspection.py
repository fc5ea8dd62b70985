"""Everything about a data set on one page: what is in it, what is wrong with it, and what was not looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from hpskit.dataset.checking import Decoding, find_files
from hpskit.dataset.counting import Tally
from hpskit.dataset.reading import DataSet
from hpskit.errors import RecordError

__all__ = ["PROBLEMS", "Inspection", "inspect"]

PROBLEMS = {
    "broken row": "a row that cannot be read",
    "missing image": "an image that a row names and that is not there",
    "empty image": "an image of 0 bytes",
    "broken image": "an image that cannot be decoded (only with --decode)",
    "same image twice": "a group that compares an image with itself under another name (only with --decode)",
}
"""Kinds of findings that make a data set unsound."""
REMARKS = {
    "duplicate group": "a group with the prompt and the images of an earlier one",
    "contradiction": "a pair that prefers the other image than an earlier row with the same prompt and images",
    "published order": "a published order that reverses the mean of the votes",
    "same image": "images of the same pixels under several names (only with --decode)",
}
"""Kinds of findings that are worth a look; people may well contradict one another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What `inspect` has found."""

    name: str
    path: str
    format: str
    image_root: str
    groups: int
    unjudged_groups: int
    published_orders: int
    prompts: int
    """Distinct prompts."""
    images: int
    """Distinct images, files and embedded ones."""
    embedded_images: int
    pairs: int
    """Pairs of images within groups."""
    votes: int
    """Judgements, each as often as it was given."""
    comparisons: int
    """Votes times pairs of images that the vote ranked both; HPD v2 calls them choices."""
    decided: int
    """Comparisons that are not ties."""
    tied: int
    partial_votes: int
    """Votes that leave out an image."""
    first_preferred: float | None
    """Share of the decided comparisons that prefer the image listed first, 0 to 1; far from one half means that the
    order tells who wins."""
    annotators: int
    """Distinct annotators that the data set names."""
    anonymous_votes: int
    group_sizes: dict[int, int]
    """Images in a group -> groups."""
    votes_per_group: dict[int, int]
    """Votes for a group -> groups."""
    sources: dict[str, int]
    """Generator -> images, counted in each group anew."""
    categories: dict[str, int]
    """Category -> groups."""
    images_decoded: int | None
    """None without `decode`."""
    not_checked: list[str]
    problems: dict[str, int]
    """Kind -> how many; empty if the data set is sound."""
    remarks: dict[str, int]
    listed: dict[str, list[str]]
    """Kind -> the first of them, each with its place."""

    @property
    def sound(self) -> bool:
        """Whether there is no problem; remarks are none."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for `json.dumps`."""
        return {**asdict(self), "sound": self.sound}


@dataclass(kw_only=True, slots=True)
class _Findings:
    shown: int
    counts: Counter[str] = field(default_factory=Counter)
    listed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, line: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= self.shown:
            self.listed.setdefault(kind, []).append(line)


def inspect(
    data: DataSet,
    *,
    images: bool = True,
    decode: bool = False,
    shown: int = 5,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Inspection:
    """Read all rows and look for all images; nothing stops at the first thing that is wrong.

    Args:
        data: the data set.
        images: look for the image files.
        decode: decode every image, and compare their contents.
        shown: findings of each kind that are listed; all are counted.
        progress: is told what is being done, how much of it is done, and of how much (None: not known).

    Raises:
        InputError: a file cannot be read at all.
    """
    findings = _Findings(shown=shown)
    tally = Tally(remark=findings.add)

    def broken(error: RecordError) -> None:
        findings.add("broken row", str(error))

    for group in data.groups(broken):
        tally.add(group)
        if tally.groups % 1024 == 0:
            progress("reading", tally.groups, None)
    decoded = _check_images(data, tally, findings, decode, progress) if images else None
    return _inspection(data, tally, findings, _not_checked(tally, images, decode), decoded)


def _check_images(
    data: DataSet, tally: Tally, findings: _Findings, decode: bool, progress: Callable[[str, int, int | None], None]
) -> int | None:
    progress("looking for images", 0, None)
    found = find_files(data, tally.images, findings.add)
    if not decode:
        return None
    total = len(found) + len(tally.embedded)
    decoding = Decoding(data=data, remark=findings.add, progress=lambda done: progress("decoding", done, total))
    decoding.run(found, tally.images, bool(tally.embedded))
    return decoding.decoded


def _not_checked(tally: Tally, images: bool, decode: bool) -> list[str]:
    unchecked = []
    if not images and tally.images:
        unchecked.append("whether image files are there (--no-images)")
    if not (images and decode):
        unchecked.append("whether images can be decoded, and whether some are the same (--decode does)")
    return unchecked


def _inspection(
    data: DataSet, tally: Tally, findings: _Findings, not_checked: list[str], decoded: int | None
) -> Inspection:
    decided = tally.comparisons - tally.tied
    return Inspection(
        name=data.name,
        path=str(data.path),
        format=data.format,
        image_root=str(data.image_root),
        groups=tally.groups,
        unjudged_groups=tally.unjudged,
        published_orders=tally.published,
        prompts=len(tally.prompts),
        images=len(tally.images.keys() | tally.embedded),
        embedded_images=len(tally.embedded),
        pairs=tally.pairs,
        votes=sum(votes * groups for votes, groups in tally.votes.items()),
        comparisons=tally.comparisons,
        decided=decided,
        tied=tally.tied,
        partial_votes=tally.partial,
        first_preferred=tally.first_preferred / decided if decided else None,
        annotators=len(tally.annotators),
        anonymous_votes=tally.anonymous,
        group_sizes=dict(sorted(tally.sizes.items())),
        votes_per_group=dict(sorted(tally.votes.items())),
        sources=dict(tally.sources.most_common()),
        categories=dict(tally.categories.most_common()),
        images_decoded=decoded,
        not_checked=not_checked,
        problems={kind: findings.counts[kind] for kind in PROBLEMS if findings.counts[kind]},
        remarks={kind: findings.counts[kind] for kind in REMARKS if findings.counts[kind]},
        listed=findings.listed,
    )
