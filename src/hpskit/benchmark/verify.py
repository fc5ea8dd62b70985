"""`hpskit benchmark verify`: see whether prompts, hashes, scores and figures of a result are true of its images."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpskit.benchmark.result import Result, ScoredImage, ScorerResult, figures, read_result
from hpskit.errors import InputError, ModelError, NotCachedError, listed
from hpskit.images.layout import Match, find_images
from hpskit.prompts.suites import KNOWN, SUITES, image_name, open_suite
from hpskit.records import ScorerInfo
from hpskit.scoring.book import read_images
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import streamed
from hpskit.stage import Progress

_TOLERANCE = {"bf16": 0.1, "fp16": 0.1}
_STRICT = 1e-3
"""Points by which a score may differ on another machine, in low precision and else; one point of HPS is one unit of
log-odds."""
_ROUNDING = 1e-6
"""Points. Smaller differences are those of the last digit, and the processor says which image has the largest."""
_SHOWN = 5
_PROMPTS = "prompts"

Kept = tuple[str, Path, ScoredImage]
"""Prompt, file and stated scores of an image whose file is the one that was scored."""


@dataclass(frozen=True, slots=True)
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
        """True if nothing was found false, and everything could be looked at but, perhaps, the source of prompts."""
        return all(check.passed or (check.passed is None and check.what == _PROMPTS) for check in self.checks)

    @property
    def verdict(self) -> str:
        """One sentence that claims no more than was looked at."""
        if any(check.passed is False for check in self.checks):
            return "is not what its images give"
        unseen = [check.what for check in self.checks if check.passed is None]
        return "is what its images give" + (f"; not checked: {', '.join(unseen)}" if unseen else "")

    def to_json(self) -> dict[str, Any]:
        """Return all checks, ready for `json.dumps`."""
        return {**asdict(self), "passed": self.passed}


def verify(
    path: str | os.PathLike[str],
    folder: Path,
    load: Callable[[ScorerInfo], Scorer],
    *,
    suite: str | os.PathLike[str] | None = None,
    manifest: Path | None = None,
    match: Match = "auto",
    tolerance: float | None = None,
    progress: Progress = lambda *_: None,
) -> Verification:
    """Check a result against the images that it speaks of.

    Args:
        path: the result file.
        folder: the images; their names in the result start from here.
        load: makes the scorer of an identity; a `ModelError` or `InputError` says that it cannot.
        suite: the prompts that the result should be of; None is the suite that it names.
        manifest: which image belongs to which prompt, if the result was made with one.
        match: how names are read, as when the result was made.
        tolerance: points by which a score may differ; None is 0.001 in fp32 and 0.1 in low precision.
        progress: see `hpskit.stage.Progress`.

    Raises:
        InputError: the file is no result, or its own parts contradict one another.
    """
    result = read_result(path)
    if not os.path.isdir(folder):
        raise InputError(folder, "is not a folder", expected=f"the images of {result.name!r}")
    checks = [check_suite(result, suite), check_figures(result), check_places(result, folder, manifest, match)]
    kept, hashes = check_images(result, folder, progress)
    checks.append(hashes)
    if kept:
        checks += [check_scores(scorer, kept, load, tolerance, progress) for scorer in result.scorers]
    return Verification(result=str(path), name=result.name, checks=tuple(checks))


def check_suite(result: Result, given: str | os.PathLike[str] | None) -> Check:
    """See whether the prompts are those that they should be."""
    name, source = result.suite.name, f"those of {given or result.suite.name}"
    if given is None and name in KNOWN:
        expected, source = KNOWN[name], f"the published ones of {name}"
    elif given is None and name not in SUITES:
        return Check(_PROMPTS, None, f"{name} is no published suite; compare with its file by --suite")
    else:
        try:
            expected = open_suite(given or name).sha256
        except NotCachedError as error:
            return Check(_PROMPTS, None, f"those of {name} are not here to compare with ({error})")
    same = result.suite.sha256 == expected
    return Check(_PROMPTS, same, f"{'are' if same else 'are not'} {source}")


def check_figures(result: Result) -> Check:
    """See whether means, deviations and intervals follow from the scores."""
    wrong = []
    for scorer in result.scorers:
        stated, again = scorer.model_dump(include={"average", "categories"}), figures(result.prompts, scorer.label)
        both = [[one["average"], *one["categories"]] for one in (stated, again)]
        for old, new in itertools.zip_longest(*both, fillvalue=dict[str, Any]()):
            place = new.get("name", old.get("name", "average")) or "all"
            for name in {**old, **new}:
                before, value = old.get(name), new.get(name)
                numbers = isinstance(before, float | int) and isinstance(value, float)
                if not (np.isclose(before, value, rtol=1e-9, atol=1e-9) if numbers else before == value):
                    wrong.append(f"{scorer.label} {place} {name} is {before!r}, its scores give {value!r}")
    detail = "; ".join(wrong[:_SHOWN]) if wrong else "means, deviations and intervals follow from the scores"
    return Check("figures", not wrong, detail)


def check_places(result: Result, folder: Path, manifest: Path | None, match: Match) -> Check:
    """See whether each prompt has the images that belong to it: all of them, and no other prompt's."""
    rows = result.prompts
    if needs := made_with(result.command) if manifest is None else "":
        return Check("places", None, f"the result was made with --manifest {needs}; give that file with --manifest")
    try:
        found = find_images(result.own_suite, folder, manifest=manifest, match=match, allow_missing=True)
    except InputError as error:
        return Check("places", False, str(error))
    wrong = []
    for paths, row in zip(found.images, rows, strict=True):
        there, stated = [found.name(path) for path in paths], [image.image for image in row.images]
        if there != stated:
            wrong.append(image_name(row, Path((there or stated)[0]).suffix))
    detail = f"{len(rows) - len(wrong)} of {len(rows)} prompts have the images of their place"
    if wrong:
        hint = "" if manifest else "; if the result was made with --manifest or --match, give them"
        detail += f"; not {listed(wrong, _SHOWN)}{hint}"
    return Check("places", not wrong, detail)


def made_with(command: str) -> str:
    """Return the manifest that the command of a result names; empty if there is none."""
    with contextlib.suppress(ValueError):  # no shell's command
        words = shlex.split(command)
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if word == "--manifest" or word.startswith("--manifest="):
                return word.partition("=")[2] or after
    return ""


def check_images(result: Result, folder: Path, progress: Progress) -> tuple[list[Kept], Check]:
    """Find the images that are unchanged, and say what became of the others."""
    entries = [(row.prompt, folder / image.image, image) for row in result.prompts for image in row.images]
    there = [path for _, path, _ in entries if path.is_file() and path.stat().st_size]
    digests = read_images(there, lambda done: progress("reading", done, len(there)))
    now = dict(zip(there, digests, strict=True))
    kept = [entry for entry in entries if now.get(entry[1]) == entry[2].sha256]
    missing = [image.image for _, path, image in entries if not path.is_file()]
    others = [image.image for _, path, image in entries if path.is_file() and now.get(path) != image.sha256]
    parts = [f"{len(kept)} of {len(entries)} are the same to the byte"]
    for names, what in ((missing, "missing"), (others, "others")):
        parts += [f"{len(names)} {what}: {listed(names, _SHOWN)}"] if names else []
    prompts: defaultdict[str, set[str]] = defaultdict(set)
    for prompt, _, image in entries:
        prompts[image.sha256].add(prompt)
    if shared := sum(len(texts) > 1 for texts in prompts.values()):
        parts.append(f"{shared} stand for several prompts")
    return kept, Check("images", len(kept) == len(entries), "; ".join(parts))


def check_scores(
    stated: ScorerResult,
    images: Sequence[Kept],
    load: Callable[[ScorerInfo], Scorer],
    tolerance: float | None,
    progress: Progress,
) -> Check:
    """Score the images again: each within what is allowed, and their mean within a tenth of it.

    Rounding has no direction, so a shift of all scores is found that each of them could hide.
    """
    label, wanted = stated.label, stated.info
    what = f"scores by {label}" + (f" ({wanted.name})" if wanted.name != label else "")
    try:
        scorer = load(wanted)
    except (ModelError, InputError) as error:
        return Check(what, None, f"the scorer cannot be had here ({error})")
    if scorer.info.lasting_identity != wanted.lasting_identity:
        both = f"the result is by {wanted.identity!r}, here is {scorer.info.identity!r}"
        return Check(what, None, f"{both}; name the right one (--scorer)")
    if scorer.log_odds_per_point != stated.log_odds_per_point:
        both = f"{stated.log_odds_per_point!r}, the scorer has {scorer.log_odds_per_point!r}"
        return Check(what, False, f"log_odds_per_point is {both}")
    scores = streamed(scorer).score(
        [path for _, path, _ in images],
        [prompt for prompt, _, _ in images],
        progress=lambda done: progress(f"scoring by {label}", done, len(images)),
    )
    allowed = _TOLERANCE.get(wanted.precision, _STRICT) if tolerance is None else tolerance
    differences = np.array([image.scores[label] for _, _, image in images]) - scores.double().numpy()
    sizes = np.abs(differences)
    beyond, shift, at = int((sizes > allowed).sum()), float(differences.mean()), int(sizes.argmax())
    detail = f"{len(sizes) - beyond} of {len(sizes)} agree within {allowed:g}"
    if sizes[at] < _ROUNDING:
        detail += f"; differences below {_ROUNDING:g}"
    else:
        detail += f"; differences up to {sizes[at]:.2g} ({images[at][2].image}), {shift:+.2g} on average"
    return Check(what, not beyond and abs(shift) <= allowed / 10, detail)
