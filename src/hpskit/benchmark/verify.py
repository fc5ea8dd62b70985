"""`hpskit benchmark verify`: is a result true of these images? Prompts, hashes, scores and figures, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpskit.benchmark.result import Result, figures, read_result
from hpskit.benchmark.scores import Progress, hash_images
from hpskit.benchmark.suites import KNOWN, SUITES, open_suite
from hpskit.errors import ImageError, InputError, NotCachedError
from hpskit.records import ScorerInfo
from hpskit.scoring.contract import Scorer
from hpskit.scoring.several import stream_together

__all__ = ["Check", "Verification", "verify"]

_TOLERANCE = {"bf16": 0.1, "fp16": 0.1}
_STRICT = 1e-3
"""Points by which a score may differ on another machine, in low precision and else; one point of HPS is one unit of
log-odds."""
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    passed: bool | None
    """None if it could not be looked at."""
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """Everything that was looked at."""

    result: str
    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Nothing failed and every image was there."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        checks = [asdict(check) for check in self.checks]
        return {"result": self.result, "name": self.name, "passed": self.passed, "checks": checks}


def verify(
    path: str | os.PathLike[str],
    folder: Path,
    load: Callable[[ScorerInfo], Scorer],
    *,
    tolerance: float | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Verification:
    """Check a result against the images that it speaks of.

    Args:
        path: the result file.
        folder: the images; their names in the result start from here.
        load: makes the scorer of an identity.
        tolerance: points by which a score may differ; None is 0.001 in fp32 and 0.1 in low precision.
        progress: called with what is being done, images done and images in all.

    Raises:
        InputError: the file is no result, or its own parts contradict one another.
    """
    result = read_result(path)
    checks = [_suite(result), _figures(result)]
    files, hashes = _hashes(result, folder, progress)
    checks.append(hashes)
    if files:
        checks += [_scores(result, scorer, files, load, tolerance, progress) for scorer in result.value["scorers"]]
    return Verification(result=str(path), name=result.name, checks=tuple(checks))


def _suite(result: Result) -> Check:
    """Whether the prompts are those that the name of the suite promises."""
    name, what, found = result.suite["name"], "prompts", result.suite["sha256"]
    if name in KNOWN:
        same = found == KNOWN[name]
        return Check(what=what, passed=same, detail=f"{'are' if same else 'are not'} the published ones of {name}")
    if name not in SUITES:
        return Check(what=what, passed=None, detail=f"{name} is no published suite; its SHA-256 is {found}")
    try:
        same = open_suite(name).sha256 == found
    except NotCachedError as error:
        return Check(what=what, passed=None, detail=f"those of {name} are not here to compare with ({error})")
    return Check(what=what, passed=same, detail=f"{'are' if same else 'are not'} those of {name}")


def _figures(result: Result) -> Check:
    """Whether means, deviations and intervals follow from the scores."""
    wrong = []
    for scorer in result.value["scorers"]:
        again = figures(result.prompts, scorer["label"])
        for place, old, new in (
            ("average", scorer.get("average"), again["average"]),
            *((part["name"] or "all", _named(scorer, part["name"]), part) for part in again["categories"]),
        ):
            wrong += [
                f"{scorer['label']} {place} {name} is {(old or {}).get(name)!r}, its scores give {value!r}"
                for name, value in new.items()
                if not _same((old or {}).get(name), value)
            ]
    detail = "; ".join(wrong[:_SHOWN]) if wrong else "means, deviations and intervals follow from the scores"
    return Check(what="figures", passed=not wrong, detail=detail)


def _named(scorer: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((part for part in scorer.get("categories", ()) if part.get("name") == name), None)


def _same(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return bool(np.isclose(old, new, rtol=1e-9, atol=1e-9))
    return old == new


def _hashes(result: Result, folder: Path, progress: Progress) -> tuple[list[tuple[str, Path, dict[str, Any]]], Check]:
    """Prompt, file and entry of every image that is unchanged; and what is to be said of the others."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder, expected the images of {result.name!r}")
    entries = [(row["prompt"], image) for row in result.prompts for image in row["images"]]
    there = [
        (prompt, folder / image["image"], image) for prompt, image in entries if (folder / image["image"]).is_file()
    ]
    digests = hash_images([path for _, path, _ in there], progress)
    same = [entry for entry, digest in zip(there, digests, strict=True) if digest == entry[2]["sha256"]]
    missing = [image["image"] for _, image in entries if not (folder / image["image"]).is_file()]
    other = [e[2]["image"] for e, digest in zip(there, digests, strict=True) if digest != e[2]["sha256"]]
    parts = [f"{len(same)} of {len(entries)} are the same to the byte"]
    parts += [
        f"{len(names)} {what}: {_first(names)}" for what, names in (("missing", missing), ("others", other)) if names
    ]
    return same, Check(what="images", passed=len(same) == len(entries), detail="; ".join(parts))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")


def _scores(
    result: Result,
    about: dict[str, Any],
    files: Sequence[tuple[str, Path, dict[str, Any]]],
    load: Callable[[ScorerInfo], Scorer],
    tolerance: float | None,
    progress: Progress,
) -> Check:
    label = about["label"]
    what = f"scores by {label}"
    wanted = result.info(label)
    scorer = load(wanted)
    for name in ("architecture", "weight_hash", "preprocessing", "precision"):
        if (found := getattr(scorer.info, name)) != getattr(wanted, name):
            detail = f"{name} is {found!r} here and {getattr(wanted, name)!r} in the result; name the right scorer"
            return Check(what=what, passed=False, detail=detail)
    allowed = _TOLERANCE.get(wanted.precision, _STRICT) if tolerance is None else tolerance
    worst, worst_at, beyond, done = 0.0, "", 0, 0
    entries = iter(files)
    for outcomes in stream_together([scorer], (path for _, path, _ in files), (prompt for prompt, _, _ in files)):
        for outcome in outcomes:
            _, path, image = next(entries)
            if isinstance(outcome, ImageError):
                raise InputError(f"{path}: was scored in {result.path}, but {outcome}")
            difference = abs(outcome[0] - image["scores"][label])
            beyond += difference > allowed
            if difference > worst:
                worst, worst_at = difference, image["image"]
        done += len(outcomes)
        progress(f"scoring by {label}", done, len(files))
    where = f", the largest at {worst_at}" if worst_at else ""
    made_by = (
        "" if scorer.info.package == wanted.package else f"; made by {wanted.package}, checked by {scorer.info.package}"
    )
    detail = (
        f"{len(files) - beyond} of {len(files)} agree within {allowed:g}; differences up to {worst:.2g}{where}{made_by}"
    )
    return Check(what=what, passed=not beyond, detail=detail)
