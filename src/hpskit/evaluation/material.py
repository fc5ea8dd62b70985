"""What is evaluated: the groups of a data set whose images are all there, and what is to be known about them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError
from hpskit.pixels import check_head
from hpskit.stats import ACCURACY_RULES, AccuracyRule, pair_accuracy

__all__ = ["Material", "OnError", "Skipped", "image_stamp", "read_material"]

OnError = Literal["fail", "skip"]

_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A group that is left out, for every scorer alike."""

    place: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """The groups of a data set, in order, without the bytes of embedded images."""

    data: DataSet
    groups: tuple[Group, ...]
    sha256: str
    """Over prompts, image names and judgements of all groups, whatever file format holds them; not over pixels."""
    images_stamp: str = ""
    """One hash for the state of all image files, see `image_stamp`; empty if nobody looked at them."""
    skipped: tuple[Skipped, ...] = ()

    def without(self, broken: Mapping[str, str]) -> Material:
        """The same without the groups at these places; the values say why."""
        kept = tuple(group for group in self.groups if group.place not in broken)
        if not kept:
            first = next(iter(broken.items()))
            raise InputError(f"{first[0]}: {first[1]}; no group is left to evaluate")
        skipped = tuple(Skipped(place=place, reason=reason) for place, reason in broken.items())
        return replace(self, groups=kept, skipped=self.skipped + skipped)

    def check_judged(self, rule: AccuracyRule) -> None:
        """See, before anything is scored, that people have said what the rule needs.

        Raises:
            InputError: the rule finds nothing to compare.
        """
        people = [group.verdicts() for group in self.groups]
        scores = [np.zeros(len(group.images)) for group in self.groups]
        nobody = "nobody has compared two images, expected ranks or votes of people; give the split that has them"
        tied = f"people tied what the rule {rule.name!r} looks at, or compared too little; choose another --rule"
        for tried, cure in ((ACCURACY_RULES["ties-half"], nobody), (rule, tied)):
            try:
                pair_accuracy(scores, people, tried)
            except InputError as error:
                raise InputError(f"{self.data.path}: in {len(people)} groups {cure}") from error

    def clusters(self) -> NDArray[np.int64]:
        """(groups,): equal numbers for groups of one prompt, which intervals must not take for independent."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(group.prompt, len(numbers)) for group in self.groups], dtype=np.int64)

    def duplicates(self) -> list[list[str]]:
        """Places of groups that show the same images for the same prompt, where there are two or more."""
        places: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for group in self.groups:
            places[group.prompt, tuple(sorted(group.images))].append(group.place)
        return [same for same in places.values() if len(same) > 1]

    def facts(self) -> dict[str, Any]:
        """What a reader must know of the data, for result and report."""
        sizes = sorted({len(group.images) for group in self.groups})
        votes = [sum(judgement.votes for judgement in group.judgements) for group in self.groups]
        people = {judgement.annotator for group in self.groups for judgement in group.judgements}
        return {
            "name": self.data.name,
            "format": self.data.format,
            "sha256": self.sha256,
            "groups": len(self.groups),
            "prompts": len({group.prompt for group in self.groups}),
            "images": len({image for group in self.groups for image in group.images}),
            "images_per_group": [sizes[0], sizes[-1]],
            "judgements": sum(votes),
            "judgements_per_group": [min(votes), max(votes)],
            "annotator_names": len(people - {None}),
            "duplicates": self.duplicates(),
            "skipped": [{"place": skipped.place, "reason": skipped.reason} for skipped in self.skipped],
        }


def read_material(data: DataSet, *, on_error: OnError = "fail", images: bool = True) -> Material:
    """Read all groups and see that their images are there and look like images, without decoding them.

    Args:
        data: the data set; it is read once from beginning to end.
        on_error: what to do with a group of which an image cannot be used: `fail`, or leave it out and list it.
        images: False leaves the images alone, for those who only look at people.

    Raises:
        InputError: there is no group, or (with `fail`) images are missing or broken; files and rows are named.
        RecordError: a row is not what it should be.
    """
    digest, stamps = hashlib.sha256(), hashlib.sha256()
    groups: list[Group] = []
    skipped: list[Skipped] = []
    for group in data:
        digest.update(_canonical(group))
        if images and (reason := _problem(data, group)):
            skipped.append(Skipped(place=group.place, reason=reason))
        else:
            for name in group.images if images else ():
                stamps.update(f"{name} {image_stamp(data, group, name)}\n".encode())
            groups.append(replace(group, embedded={}))
    if skipped and (on_error == "fail" or not groups):
        raise InputError(_describe(data, skipped, len(groups) + len(skipped)))
    if not groups:
        raise InputError(f"{data.path}: has no groups, expected at least one")
    return Material(
        data=data,
        groups=tuple(groups),
        sha256=digest.hexdigest(),
        images_stamp=stamps.hexdigest() if images else "",
        skipped=tuple(skipped),
    )


def image_stamp(data: DataSet, group: Group, name: str) -> str:
    """What changes when an image is replaced: size and time of its file, or the hash of its embedded bytes."""
    if name in group.embedded:
        return f"sha256 {hashlib.sha256(group.embedded[name]).hexdigest()[:16]}"
    status = data.image_path(name).stat()
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def _canonical(group: Group) -> bytes:
    judgements = [[j.ranks, j.annotator, j.votes] for j in group.judgements]
    row = [group.prompt, group.images, judgements, group.rank]
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _problem(data: DataSet, group: Group) -> str:
    """Why the first bad image of a group cannot be used; empty if all can, as far as their heads tell."""
    try:
        for name in group.images:
            image = data.image(group, name)
            if isinstance(image, Path):
                check_head(image)
    except InputError as error:
        return str(error).removeprefix(f"{group.place}: ")
    return ""


def _describe(data: DataSet, skipped: list[Skipped], total: int) -> str:
    shown = "; ".join(f"{group.place}: {group.reason}" for group in skipped[:_SHOWN_PROBLEMS])
    more = f"; and {len(skipped) - _SHOWN_PROBLEMS} more" if len(skipped) > _SHOWN_PROBLEMS else ""
    cure = "mend them, or leave these groups out for every scorer with --on-error skip"
    return f"{data.path}: {len(skipped)} of {total} groups have an image that cannot be used: {shown}{more}; {cure}"
