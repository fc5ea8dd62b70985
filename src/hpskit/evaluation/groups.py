"""The groups of a data set that scorers are judged on, and what a reader must know about them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError, OutputError, listed
from hpskit.pixels import Encoded, check_head
from hpskit.stage import Manifest
from hpskit.stats.accuracy import pair_accuracy
from hpskit.stats.rules import ACCURACY_RULES, AccuracyRule

OnError = Literal["fail", "skip"]

OWN_RULE = {"hpdv2-test": "hpdv2", "imagereward": "imagereward", "pickapic": "pickapic", "genai-bench": "imagereward"}
"""The rule of each data set's own paper, by layout; of GenAI-Bench, whose paper has four answers, that of others who
score single images on it. Elsewhere ties count one half: `hpdv2` gives a tied score to the image that is listed first,
which in many layouts of pairs is always the preferred one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSet:
    """The groups of a data set, in order, without the bytes of embedded images."""

    data: DataSet
    groups: tuple[Group, ...]
    sha256: str
    """Over prompts, image names and judgements of all groups, whatever file format holds them; not over pixels."""
    skipped: Mapping[str, str]
    """Place of each group that is left out, for every scorer alike, and why."""

    def without(self, broken: Mapping[str, str]) -> EvaluationSet:
        """Return the same without the groups at these places; the values say why.

        Raises:
            InputError: no group is left.
        """
        kept = tuple(group for group in self.groups if group.place not in broken)
        if not kept:
            place, reason = next(iter(broken.items()))
            raise InputError(place, f"{reason}; no group is left to evaluate")
        return replace(self, groups=kept, skipped={**self.skipped, **broken})

    def images(self) -> Iterator[tuple[Group, str, Path | Encoded]]:
        """Yield every image of every group, in order; the data set is read once more for those that it carries."""
        wanted = {group.place for group in self.groups}
        for group in self.data:
            if group.place in wanted:
                for name in group.images:
                    data = group.embedded.get(name)
                    place = f"{group.place}: image {name!r}"
                    yield group, name, self.data.image_path(name) if data is None else Encoded(data, place)

    def check_judged(self, rule: AccuracyRule) -> None:
        """See, before anything is scored, that people have said what the rule needs.

        Raises:
            InputError: the rule finds nothing to compare.
        """
        people = [group.verdicts() for group in self.groups]
        scores = [np.zeros(len(group.images)) for group in self.groups]
        count = f"in {len(people)} groups"
        tied = f"{count} people tied what the rule {rule.name!r} looks at, or compared too little"
        for tried, found, expected, cure in (
            (
                ACCURACY_RULES["ties-half"],
                f"{count} nobody has compared two images",
                "ranks or votes of people",
                "give the split that has them",
            ),
            (rule, tied, "pairs that they parted", "choose another --rule"),
        ):
            try:
                pair_accuracy(scores, people, tried)
            except InputError as error:
                raise InputError(self.data.path, found, expected=expected, cure=cure) from error

    def clusters(self) -> NDArray[np.int64]:
        """Number the prompts of the groups, (groups,): intervals must not take groups of one prompt as independent."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(group.prompt, len(numbers)) for group in self.groups], dtype=np.int64)

    def facts(self) -> dict[str, Any]:
        """Describe the data for result and report, ready for JSON."""
        sizes = sorted({len(group.images) for group in self.groups})
        votes = [sum(judgement.votes for judgement in group.judgements) for group in self.groups]
        people = {judgement.annotator for group in self.groups for judgement in group.judgements}
        places: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for group in self.groups:
            places[group.prompt, tuple(sorted(group.images))].append(group.place)
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
            "duplicates": [same for same in places.values() if len(same) > 1],
            "skipped": [{"place": place, "reason": reason} for place, reason in self.skipped.items()],
        }


def read_groups(data: DataSet, *, on_error: OnError = "fail", images: bool = True) -> EvaluationSet:
    """Read all groups and see that their images are there and look like images, without decoding them.

    Args:
        data: the data set; it is read once from beginning to end.
        on_error: what to do with a group of which an image cannot be used: `fail`, or leave it out and list it.
        images: False leaves the images alone, for those who only look at people.

    Raises:
        InputError: there is no group, or (with `fail`) images are missing or broken; files and rows are named.
        RecordError: a row is not what it should be.
    """
    digest = hashlib.sha256()
    groups: list[Group] = []
    problems: dict[str, InputError] = {}
    for group in data:
        judgements = [[j.ranks, j.annotator, j.votes] for j in group.judgements]
        row = [group.prompt, group.images, judgements, group.rank]
        digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        try:
            for name in group.images if images else ():
                if isinstance(image := data.image(group, name), Path):
                    check_head(image)
            groups.append(replace(group, embedded={}))
        except InputError as error:
            problems[group.place] = error.alone()
    total = len(groups) + len(problems)
    if problems and (on_error == "fail" or not groups):
        which = listed([f"{place}: {_reason(place, error)}" for place, error in problems.items()], between="; ")
        found = f"has {len(problems)} of {total} groups with an image that cannot be used: {which}"
        cure = "mend them, or leave these groups out for every scorer with --on-error skip"
        raise InputError(data.path, found, cure=cure)
    if not groups:
        raise InputError(data.path, "has no groups", expected="at least one")
    skipped = {place: _reason(place, error) for place, error in problems.items()}
    return EvaluationSet(data=data, groups=tuple(groups), sha256=digest.hexdigest(), skipped=skipped)


def check_same_data(out: Path, manifest: Manifest | None, data_sha256: str) -> None:
    """See that a folder holds nothing about other data."""
    if manifest is not None and (found := manifest.run.get("data_sha256")) != data_sha256:
        cure = "choose another --out"
        raise OutputError(out, f"holds results on other data ({found!r})", expected=repr(data_sha256), cure=cure)


def _reason(place: str, error: InputError) -> str:
    return str(error).removeprefix(f"{place}: ")
