"""`hpskit agreement` as a stage: how far the people of a data set agree, and how many of them one needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hpskit.dataset.reading import open_data
from hpskit.errors import InputError
from hpskit.evaluation import judging
from hpskit.evaluation.groups import OWN_RULE, EvaluationSet, check_same_data, read_groups
from hpskit.evaluation.judging import Intervals, Settings
from hpskit.evaluation.report import agreement_page
from hpskit.files import json_text
from hpskit.stage import Manifest, check_folder, heading, publish, read_manifest
from hpskit.stats.agreement import PEOPLE_RULES, agreement_by_gap, krippendorff_alpha
from hpskit.stats.blocks import Floats, require
from hpskit.stats.reliability import accuracy_by_annotators, split_half

_FORMAT = "hpskit agreement 1"
_MANIFEST = f"{_FORMAT} manifest"
_PRODUCTS = ("result.json", "report.html")
_TARGETS = (0.85, 0.9, 0.95)

Votes = Sequence[Floats]
Measured = TypeVar("Measured")


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Settings of `hpskit agreement`: the data, the rule, and the place of the result."""

    data: str | os.PathLike[str]
    """File, folder or name of a data set; see `hpskit.dataset.reading.open_data`."""
    out: Path | None = None
    """Folder for `result.json`, `report.html` and `manifest.json`; None publishes nothing."""
    data_format: str = "auto"
    rule: str | None = None
    """One of `PEOPLE_RULES`; None is the rule of the data set's own paper if it is one of them, else `ties-half`."""
    persons: bool = False
    """Whether the same annotator name means the same person in all groups, so that persons can be resampled."""
    resamples: int = 10_000
    seed: int = 0
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        require(self.rule in (None, *PEOPLE_RULES), "rule", self.rule, f"one of {', '.join(PEOPLE_RULES)}")
        self.settings("hpdv2-test")

    def settings(self, layout: str) -> Settings:
        """Check the settings, with the rule that suits a layout if none was asked for."""
        rule = self.rule or OWN_RULE.get(layout)
        rule = rule if rule in PEOPLE_RULES else "ties-half"
        return Settings(rule=rule, persons=self.persons, resamples=self.resamples, seed=self.seed)


def run(config: Agreement) -> dict[str, Any]:
    """Read the judgements, study them, and publish if a folder is given. Images are not looked at.

    Raises:
        InputError: the data cannot be used, or no group has two judgements.
        OutputError: the output cannot be written.
    """
    if config.out is not None:
        check_folder(config.out)
    data = open_data(config.data, format=config.data_format)
    settings = config.settings(data.format)
    before = None if config.out is None else read_manifest(config.out, _MANIFEST, _PRODUCTS, model=Manifest)
    found = read_groups(data, images=False)
    check_same_data(config.out or Path(), before, found.sha256)
    result = heading(_FORMAT, config.command) | study(found, settings)
    if config.out is not None:
        run = {"data_sha256": found.sha256, "settings": result["settings"], "package": result["package"]}
        products = (json_text(result).encode(), agreement_page(result).encode())
        manifest = {"format": _MANIFEST, "run": run}
        publish(config.out, "manifest.json", manifest, dict(zip(_PRODUCTS, products, strict=True)))
    return result


def study(data: EvaluationSet, settings: Settings) -> dict[str, Any]:
    """Study the people of a data set, ready for JSON; see docs/evaluation.md.

    What the data are too few for is None, and `not_measured` says why. One prompt has no intervals.

    Raises:
        InputError: no two people can be compared; or persons are to be resampled and annotators have no names.
    """
    every = Intervals(clusters=data.clusters(), settings=settings)
    kept, intervals = judging.judged_twice(data.groups, every)
    expected = "two people who judged the same images"
    if not kept:
        cure = "give a split that keeps single judgements"
        raise InputError(data.data.path, "has no group with two judgements", expected=expected, cure=cure)
    groups = [data.groups[number] for number in kept]
    votes = [judging.places(group) for group in groups]
    rules = {}
    for rule in PEOPLE_RULES:
        by_rule = replace(intervals, settings=replace(settings, rule=rule))
        rules[rule] = judging.ceilings(groups, by_rule, judging.test_set_of(data.data.format, rule))
    measured = {row["key"] for row in rules[settings.rule]}
    ceilings = [own for own in judging.CEILINGS if own.key in measured]
    if not measured and rules["ties-half"]:
        found = f"has only pairs that people tied as the rule {settings.rule!r} looks at them"
        raise InputError(data.data.path, found, cure="choose another --rule")
    if not measured:
        found, cure = "has no two images that two people ranked", "give a split with several judgements of a group"
        raise InputError(data.data.path, found, expected=expected, cure=cure)
    reasons: dict[str, str] = {}

    def by_gap() -> list[dict[str, Any]]:
        return [
            {"gap": [part.low, part.high], "comparisons": part.people.pairs, **intervals.accuracy(part.people)}
            for part in agreement_by_gap(votes, bins=judging.GAP_BINS)
        ]

    return {
        "data": data.facts(),
        "judged_groups": len(groups),
        "judged_prompts": len(np.unique(intervals.clusters)),
        "settings": {**asdict(settings), "resampled": "prompts"},
        "rules": rules,
        "two_way": [judging.two_way_of_people(own, groups, intervals) for own in ceilings],
        "split_half": _or_reason(reasons, "split-half reliability", lambda: _split_half(votes, settings)),
        "krippendorff_alpha": _or_reason(reasons, "Krippendorff's alpha", lambda: krippendorff_alpha(votes)),
        "gap": _or_reason(reasons, "agreement by gap", by_gap),
        "growth": _or_reason(reasons, "accuracy by annotators", lambda: _growth(votes, intervals)),
        "not_measured": reasons,
    }


def _or_reason(reasons: dict[str, str], figure: str, measure: Callable[[], Measured]) -> Measured | None:
    """Measure, or note the reason: votes are sound by now, so they can only be too few."""
    try:
        return measure()
    except InputError as error:
        reasons[figure] = str(error).replace("votes: ", "votes ", 1)
        return None


def _split_half(votes: Votes, settings: Settings) -> dict[str, Any]:
    found = split_half(votes, seed=settings.seed)
    values = {"reliability": found.reliability, "low": found.low, "high": found.high}
    return {
        "correlation": found.correlation,
        # Halves that contradict one another have no reliability; the formula would give numbers below 0 without bound
        **{name: value if value >= 0 else None for name, value in values.items()},
        "splits": found.splits,
    }


def _growth(votes: Votes, intervals: Intervals) -> dict[str, Any]:
    """Measure how well the mean of k people predicts the mean of people held out.

    Raises:
        InputError: no group has three judgements, or nothing is left to compare.
    """
    if (most := max(len(own) for own in votes)) < 3:
        raise InputError("votes", f"have {most} judgements of a group", expected="three or more")
    curve = accuracy_by_annotators(votes, seed=intervals.settings.seed)
    points = [{"annotators": k, **intervals.accuracy(point)} for k, point in enumerate(curve.points, start=1)]
    return {
        "held_out": curve.held_out,
        "points": points,
        "model": [{"annotators": k, "value": curve.extrapolated(k)} for k in (1, 2, 3, 5, 10, 20, 50)],
        "needed": [{"accuracy": target, "annotators": curve.annotators_for(target)} for target in _TARGETS],
        "worst_residual": curve.worst_residual,
    }
