"""`hpskit benchmark verify`: is a result true of these images? Prompts, hashes, scores and figures, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.layout import find_images
from hpskit.benchmark.result import Result, ScoredImage, ScorerResult, figures, read_result
from hpskit.benchmark.scores import Progress, hash_images
from hpskit.benchmark.suites import KNOWN, SUITES, Suite, image_name, open_suite
from hpskit.errors import ImageError, InputError, ModelError, NotCachedError
from hpskit.records import ScorerInfo
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import streamed
from hpskit.scoring.streaming import stream

__all__ = ["Check", "Verification", "verify"]

_TOLERANCE = {"bf16": 0.1, "fp16": 0.1}
_STRICT = 1e-3
"""Points by which a score may differ on another machine, in low precision and else; one point of HPS is one unit of
log-odds."""
_SHOWN = 5
_PROMPTS = "prompts"


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
        """Nothing was found false, and everything could be looked at but, perhaps, where the prompts come from."""
        return all(check.passed or (check.passed is None and check.what == _PROMPTS) for check in self.checks)

    @property
    def verdict(self) -> str:
        """One sentence that claims no more than was looked at."""
        if any(check.passed is False for check in self.checks):
            return "is not what its images give"
        unseen = [check.what for check in self.checks if check.passed is None]
        return "is what its images give" + (f"; not checked: {', '.join(unseen)}" if unseen else "")

    def to_json(self) -> dict[str, Any]:
        checks = [asdict(check) for check in self.checks]
        return {"result": self.result, "name": self.name, "passed": self.passed, "checks": checks}


def verify(
    path: str | os.PathLike[str],
    folder: Path,
    load: Callable[[ScorerInfo], Scorer],
    *,
    suite: str | os.PathLike[str] | None = None,
    manifest: Path | None = None,
    tolerance: float | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Verification:
    """Check a result against the images that it speaks of.

    Args:
        path: the result file.
        folder: the images; their names in the result start from here.
        load: makes the scorer of an identity; a `ModelError` or `InputError` says that it cannot.
        suite: the prompts that the result should be of; None is the suite that it names.
        manifest: which image belongs to which prompt, if the result was made with one.
        tolerance: points by which a score may differ; None is 0.001 in fp32 and 0.1 in low precision.
        progress: called with what is being done, images done and images in all.

    Raises:
        InputError: the file is no result, or its own parts contradict one another.
    """
    result = read_result(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder, expected the images of {result.name!r}")
    checks = [_suite(result, suite), _figures(result), _places(result, folder, manifest)]
    files, hashes = _hashes(result, folder, progress)
    checks.append(hashes)
    if files:
        checks += [_scores(result, scorer, files, load, tolerance, progress) for scorer in result.scorers]
    return Verification(result=str(path), name=result.name, checks=tuple(checks))


def _suite(result: Result, given: str | os.PathLike[str] | None) -> Check:
    """Whether the prompts are those that they should be."""
    name, found = result.suite.name, result.suite.sha256
    if given is None and name in KNOWN:
        same = found == KNOWN[name]
        return Check(what=_PROMPTS, passed=same, detail=f"{'are' if same else 'are not'} the published ones of {name}")
    if given is None and name not in SUITES:
        detail = f"{name} is no published suite; compare with its file by --suite"
        return Check(what=_PROMPTS, passed=None, detail=detail)
    try:
        same = open_suite(given or name).sha256 == found
    except NotCachedError as error:
        return Check(what=_PROMPTS, passed=None, detail=f"those of {name} are not here to compare with ({error})")
    return Check(what=_PROMPTS, passed=same, detail=f"{'are' if same else 'are not'} those of {given or name}")


def _figures(result: Result) -> Check:
    """Whether means, deviations and intervals follow from the scores."""
    wrong = [f"{label} {what}" for label in result.labels for what in wrong_figures(result, label)]
    detail = "; ".join(wrong[:_SHOWN]) if wrong else "means, deviations and intervals follow from the scores"
    return Check(what="figures", passed=not wrong, detail=detail)


def wrong_figures(result: Result, label: str) -> list[str]:
    """List the figures of a scorer that do not follow from its scores, each in words."""
    stated = result.scorer(label).model_dump(mode="json")
    again = figures(result.prompts, label)
    parts = {part["name"]: part for part in stated["categories"]}
    wrong = []
    for place, old, new in (
        ("average", stated["average"], again["average"]),
        *((part["name"] or "all", parts.get(part["name"], {}), part) for part in again["categories"]),
    ):
        for name, value in new.items():
            before = old.get(name)
            numbers = isinstance(before, float | int) and isinstance(value, float)
            if not (np.isclose(before, value, rtol=1e-9, atol=1e-9) if numbers else before == value):
                wrong.append(f"{place} {name} is {before!r}, its scores give {value!r}")
    if len(stated["categories"]) != len(again["categories"]):
        wrong.append(f"there are {len(stated['categories'])} categories, its scores give {len(again['categories'])}")
    return wrong


def _places(result: Result, folder: Path, manifest: Path | None) -> Check:
    """Whether each prompt has the images that belong to it: all of them, and no other prompt's."""
    rows = result.prompts
    suite = Suite(name=result.suite.name, source="", prompts=rows)
    try:
        found = find_images(suite, folder, manifest=manifest, allow_missing=True)
    except InputError as error:
        return Check(what="places", passed=False, detail=str(error))
    wrong = [
        image_name(row, _ending([*map(str, paths), *(image.image for image in row.images)]))
        for paths, row in zip(found.images, rows, strict=True)
        if [found.name(path) for path in paths] != [image.image for image in row.images]
    ]
    what = f"{len(rows) - len(wrong)} of {len(rows)} prompts have the images of their place"
    hint = "" if manifest or not wrong else "; if the result was made with a manifest, give it (--manifest)"
    return Check(what="places", passed=not wrong, detail=what + (f"; not {_first(wrong)}{hint}" if wrong else ""))


def _ending(names: Sequence[str]) -> str:
    """Of the image that is there, or else of the one that the result names."""
    return Path(names[0]).suffix if names else ""


def _hashes(result: Result, folder: Path, progress: Progress) -> tuple[list[tuple[str, Path, ScoredImage]], Check]:
    """Prompt, file and entry of every image that is unchanged; and what is to be said of the others."""
    entries = [(row.prompt, image) for row in result.prompts for image in row.images]
    there = [(prompt, folder / image.image, image) for prompt, image in entries if (folder / image.image).is_file()]
    digests = hash_images([path for _, path, _ in there], progress)
    same = [entry for entry, digest in zip(there, digests, strict=True) if digest == entry[2].sha256]
    missing = [image.image for _, image in entries if not (folder / image.image).is_file()]
    other = [e[2].image for e, digest in zip(there, digests, strict=True) if digest != e[2].sha256]
    parts = [f"{len(same)} of {len(entries)} are the same to the byte"]
    parts += [
        f"{len(names)} {what}: {_first(names)}" for what, names in (("missing", missing), ("others", other)) if names
    ]
    prompts: dict[str, set[str]] = {}
    for prompt, image in entries:
        prompts.setdefault(image.sha256, set()).add(prompt)
    if shared := sum(len(texts) > 1 for texts in prompts.values()):
        parts.append(f"{shared} stand for several prompts")
    return same, Check(what="images", passed=len(same) == len(entries), detail="; ".join(parts))


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")


def _scores(
    result: Result,
    stated: ScorerResult,
    files: Sequence[tuple[str, Path, ScoredImage]],
    load: Callable[[ScorerInfo], Scorer],
    tolerance: float | None,
    progress: Progress,
) -> Check:
    label, wanted = stated.label, stated.info
    what = f"scores by {label}" + (f" ({wanted.name})" if wanted.name != label else "")
    try:
        scorer = load(wanted)
    except (ModelError, InputError) as error:
        return Check(what=what, passed=None, detail=f"the scorer cannot be had here ({error})")
    if scorer.info.lasting_identity != wanted.lasting_identity:
        detail = (
            f"the result is by {wanted.identity!r}, here is {scorer.info.identity!r}; name the right one (--scorer)"
        )
        return Check(what=what, passed=None, detail=detail)
    factor = scorer.log_odds_per_point
    if factor != stated.log_odds_per_point:
        detail = f"log_odds_per_point is {stated.log_odds_per_point!r}, the scorer has {factor!r}"
        return Check(what=what, passed=False, detail=detail)
    allowed = _TOLERANCE.get(wanted.precision, _STRICT) if tolerance is None else tolerance
    differences = []
    for outcome, (_, path, image) in zip(_again(scorer, files, progress, label), files, strict=True):
        if isinstance(outcome, ImageError):
            raise InputError(f"{path}: was scored in {result.path}, but {outcome}")
        differences.append(image.scores[label] - outcome)
    return _agreement(what, np.array(differences), [image.image for _, _, image in files], allowed)


def _again(
    scorer: Scorer, files: Sequence[tuple[str, Path, ScoredImage]], progress: Progress, label: str
) -> Iterator[float | ImageError]:
    done = 0
    for outcomes in stream([streamed(scorer)], (path for _, path, _ in files), (prompt for prompt, _, _ in files)):
        yield from (outcome if isinstance(outcome, ImageError) else outcome[0] for outcome in outcomes)
        done += len(outcomes)
        progress(f"scoring by {label}", done, len(files))


def _agreement(what: str, differences: NDArray[np.float64], names: Sequence[str], allowed: float) -> Check:
    """Each score within what is allowed, and their mean within a tenth of it: rounding has no direction."""
    sizes = np.nan_to_num(np.abs(differences), nan=np.inf)
    beyond, shift, at = int((sizes > allowed).sum()), float(differences.mean()), int(sizes.argmax())
    detail = f"{len(sizes) - beyond} of {len(sizes)} agree within {allowed:g}"
    detail += f"; differences up to {sizes[at]:.2g} ({names[at]}), {shift:+.2g} on average"
    return Check(what=what, passed=not beyond and abs(shift) <= allowed / 10, detail=detail)
