"""`hpskit agreement` as a stage: the people of a data set alone. How far do they agree, and how many does one need?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit import __version__
from hpskit.dataset.group import Group
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, OutputError
from hpskit.evaluation.judging import Settings, interval_of
from hpskit.evaluation.material import Material, read_material
from hpskit.evaluation.people import CEILINGS, GAP_BINS, PEOPLE_RULES, Ceiling, ceilings, judged, places
from hpskit.evaluation.published import test_set_of
from hpskit.evaluation.report import agreement_page
from hpskit.files import publish, publish_json, read_json, sha256_file
from hpskit.stats import (
    accuracy_by_annotators,
    agreement_by_gap,
    bootstrap_people,
    krippendorff_alpha,
    split_half,
)

__all__ = ["Agreement", "run", "study"]

_FORMAT = "hpskit agreement 1"
_MANIFEST = f"{_FORMAT} manifest"
_TARGETS = (0.85, 0.9, 0.95)

Votes = Sequence[NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Whose agreement, how, and where to put it."""

    data: str | os.PathLike[str]
    """File, folder or name of a data set; see `hpskit.dataset.reading.open_data`."""
    out: Path | None = None
    """Folder for `result.json`, `report.html` and `manifest.json`; None publishes nothing."""
    data_format: str = "auto"
    rule: str = "hpdv2"
    """One of `PEOPLE_RULES`."""
    persons: bool = False
    """Whether the same annotator name means the same person in all groups, so that persons can be resampled."""
    resamples: int = 10_000
    seed: int = 0
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        if self.rule not in PEOPLE_RULES:
            raise InputError(f"rule: is {self.rule!r}, expected one of {', '.join(PEOPLE_RULES)}")

    @property
    def settings(self) -> Settings:
        return Settings(rule=self.rule, resamples=self.resamples, seed=self.seed)


def run(config: Agreement) -> dict[str, Any]:
    """Read the judgements, study them, and publish if a folder is given. Images are not looked at.

    Raises:
        InputError: the data cannot be used, or no group has two judgements.
        OutputError: the output cannot be written.
    """
    settings = config.settings
    data = open_data(config.data, format=config.data_format)
    material = read_material(data, images=False)
    result = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        **study(material, settings, persons=config.persons),
    }
    if config.out is not None:
        _publish(config.out, result)
    return result


def study(material: Material, settings: Settings, *, persons: bool = False) -> dict[str, Any]:
    """Everything that is to be said of the people, ready for JSON; see docs/evaluation.md.

    Raises:
        InputError: no group has two judgements; or `persons` is asked for and annotators have no names.
    """
    kept = judged(material.groups)
    if not kept.any():
        cure = "agreement needs single judgements, which this data set does not publish"
        raise InputError(f"{material.data.path}: no group has two judgements; {cure}")
    groups = [group for group, keep in zip(material.groups, kept, strict=True) if keep]
    clusters = material.clusters()[kept]
    votes = [places(group) for group in groups]
    names = _names(groups) if persons else None
    layout = material.data.format
    rules = {
        rule: ceilings(groups, clusters, _with_rule(settings, rule), test_set_of(layout, rule)) for rule in PEOPLE_RULES
    }
    return {
        "data": material.facts(),
        "judged_groups": len(groups),
        "settings": {**asdict(settings), "resampled": "prompts", "persons": persons},
        "rules": rules,
        "two_way": [_two_way(ceiling, votes, names, clusters, settings) for ceiling in CEILINGS],
        "split_half": _split_half(votes, settings),
        "krippendorff_alpha": float(krippendorff_alpha(votes)),
        "gap": _by_gap(votes, clusters, settings),
        "growth": _growth(votes, clusters, settings),
    }


def _with_rule(settings: Settings, rule: str) -> Settings:
    return Settings(rule=rule, resamples=settings.resamples, level=settings.level, seed=settings.seed)


def _names(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """(annotators,) for each group, in the order of `Group.ranks`."""
    result = []
    for group in groups:
        own = [judgement.annotator for judgement in group.judgements for _ in range(judgement.votes)]
        named = tuple(name for name in own if name is not None)
        if len(named) != len(own):
            cure = "leave --persons out; judgements are then resampled within each group"
            raise InputError(f"{group.place}: a judgement has no annotator, expected a name for each; {cure}")
        result.append(named)
    return result


def _two_way(
    ceiling: Ceiling,
    votes: Votes,
    names: Sequence[tuple[str, ...]] | None,
    clusters: NDArray[np.int64],
    settings: Settings,
) -> dict[str, Any]:
    found = bootstrap_people(
        votes,
        ceiling.resampled,
        rule=settings.rule,
        annotators=names,
        clusters=clusters,
        resamples=min(settings.resamples, 1000),
        level=settings.level,
        seed=settings.seed,
    )
    return {
        "key": ceiling.key,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "resamples": found.resamples,
    }


def _split_half(votes: Votes, settings: Settings) -> dict[str, Any]:
    found = split_half(votes, seed=settings.seed)
    values = {"reliability": found.reliability, "low": found.low, "high": found.high}
    return {
        "correlation": found.correlation,
        # Halves that contradict one another have no reliability; the formula would give numbers below 0 without bound
        **{name: value if value >= 0 else None for name, value in values.items()},
        "splits": found.splits,
    }


def _by_gap(votes: Votes, clusters: NDArray[np.int64], settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "gap": [part.low, part.high],
            "comparisons": part.people.pairs,
            **interval_of(part.people, clusters, settings),
        }
        for part in agreement_by_gap(votes, bins=GAP_BINS)
    ]


def _growth(votes: Votes, clusters: NDArray[np.int64], settings: Settings) -> dict[str, Any] | None:
    """How well the mean of k people predicts the mean of people held out; None if no group has three judgements."""
    if max(len(own) for own in votes) < 3:
        return None
    curve = accuracy_by_annotators(votes, seed=settings.seed)
    points = [
        {"annotators": point.annotators, **interval_of(point.accuracy, clusters, settings)} for point in curve.points
    ]
    return {
        "held_out": curve.held_out,
        "points": points,
        "model": [{"annotators": k, "value": float(curve.extrapolated(k))} for k in (1, 2, 3, 5, 10, 20, 50)],
        "needed": [{"accuracy": target, "annotators": curve.annotators_for(target)} for target in _TARGETS],
        "worst_residual": float(curve.worst_residual),
    }


def _check_free(out: Path, data_sha256: str) -> None:
    """See that the folder holds nothing but an earlier result of the same."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, expected a folder; choose another --out")
    path = out / "manifest.json"
    if not path.exists():
        return
    manifest = read_json(path)
    run = manifest.get("run") if isinstance(manifest, dict) else None
    if not isinstance(run, dict) or manifest.get("format") != _MANIFEST or run.get("data_sha256") != data_sha256:
        raise OutputError(f"{out}: holds another result ({path.name}); choose another --out")


def _publish(out: Path, result: dict[str, Any]) -> None:
    """Result and page, and the manifest last."""
    _check_free(out, result["data"]["sha256"])
    (out / "manifest.json").unlink(missing_ok=True)
    page = agreement_page(result)
    publish_json(out / "result.json", result)
    with publish(out / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    files = {name: sha256_file(out / name) for name in ("result.json", "report.html")}
    run = {"data_sha256": result["data"]["sha256"], "settings": result["settings"], "package": result["package"]}
    publish_json(out / "manifest.json", {"format": _MANIFEST, "run": run, "files": files})
