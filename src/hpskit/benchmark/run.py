"""`hpskit benchmark run` as a stage: a model's images for a suite of prompts in, `result.json` out.

While it works, scores go into `result.json.partial`; killed and run again it continues there. A result that exists is
added to: scorers that are named later join those in it, as long as the images are the same.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.benchmark.earlier import check_unchanged, kept_scorers, learn, read_earlier
from hpskit.benchmark.layout import ImageSet, find_images
from hpskit.benchmark.result import Result, ScoredImage, ScoredPrompt, ScorerResult, figures, relative_to
from hpskit.benchmark.scores import Progress, SuiteImage, hash_images, open_book, score_images
from hpskit.benchmark.suites import Suite, open_suite
from hpskit.errors import InputError
from hpskit.files import publish_json
from hpskit.schema import parse
from hpskit.scoring.contract import Candidate

__all__ = ["BenchmarkRun", "Summary", "check_candidates", "run", "suite_images"]

_SHOWN_PROBLEMS = 10
_VERSIONS = ("torch", "torchvision", "open_clip_torch", "timm", "pillow", "numpy")
"""Libraries that have a say in a score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRun:
    """What to score, and where to put the result."""

    suite: str | os.PathLike[str]
    """Name, file or folder; see `hpskit.benchmark.suites.open_suite`."""
    images: Path
    """The folder of the model's images; see `hpskit.benchmark.layout.find_images`."""
    name: str
    """Of the model, as tables are to call it."""
    out: Path
    """The result file, ending in `.json`."""
    manifest: Path | None = None
    """Which image belongs to which prompt; None is the official layout."""
    allow_missing: bool = False
    """Score what is there; the result is marked as incomplete."""
    allow_identical: bool = False
    """Accept that one image stands for prompts that differ (copies, or the black square of a filter)."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything that JSON can hold about how the images were made: size, steps, guidance, seed …"""
    replace: bool = False
    """Let scorers of this run take the place of earlier ones that have the same label and another identity."""
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".json":
            raise InputError(f"out: {self.out} ends in {self.out.suffix!r}, expected '.json'")
        if not self.name.strip() or not self.name.isprintable():
            cure = "use letters, digits, signs and spaces"
            raise InputError(f"name: is {self.name!r}, expected the name of the model; {cure}")
        try:
            json.dumps(dict(self.meta), ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InputError(
                f"meta: cannot be written as JSON ({error}); use texts, numbers, lists, objects"
            ) from error

    @property
    def partial(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has made."""

    result: Result
    resumed: int
    """Scores that earlier runs had made."""
    identical: tuple[tuple[str, ...], ...]
    """Names of images that are the same to the byte for prompts that differ."""
    other_folders: tuple[str, ...]
    """Folders that are not part of the suite."""


def run(
    config: BenchmarkRun,
    load: Callable[[], Sequence[Candidate]],
    progress: Progress = lambda _what, _done, _total: None,
) -> Summary:
    """Score the images of a suite, and publish the result.

    Args:
        config: what and where.
        load: makes the scorers; called only after all images have been found and read.
        progress: called with what is being done, images done and images in all.

    Raises:
        InputError: the images do not fit the suite, are broken, or are the same for different prompts.
        OutputError: the output cannot be written, or is the result of something else.
    """
    suite = open_suite(config.suite)
    found = find_images(suite, config.images, manifest=config.manifest, allow_missing=config.allow_missing)
    images = suite_images(suite, found, progress)
    identical = _identical_images(images)
    if identical and not config.allow_identical:
        raise InputError(_describe(config.images, identical))
    with open_book(config.partial, suite.sha256) as book:  # from here on nobody else writes this result
        earlier = read_earlier(config.out, config.name, suite)
        kept: list[ScorerResult] = []
        if earlier is not None:
            check_unchanged(earlier, images)
            # the prompts are the same, whatever their file is called today
            suite = Suite(name=earlier.suite.name, source=earlier.suite.source, prompts=suite.prompts)
        candidates = load()
        check_candidates(candidates)
        if earlier is not None:
            kept = kept_scorers(earlier, candidates, images, replace=config.replace)
            learn(book, earlier)
        resumed = score_images(images, [candidate.scorer for candidate in candidates], book, progress)
        about = {scorer.label: scorer.model_dump(exclude={"average", "categories"}) for scorer in kept}
        about |= {candidate.label: _about(candidate, config.command) for candidate in candidates}
        value = _value(
            config, suite, found, book.by_prompt(images, {k: v["info"]["identity"] for k, v in about.items()}), about
        )
        value["meta"] = dict(config.meta) or (earlier.meta if earlier else {})
        result = parse(Result, value, config.out)
        publish_json(config.out, result.to_json())
    return Summary(result=result, resumed=resumed, identical=identical, other_folders=found.other_folders)


def suite_images(suite: Suite, found: ImageSet, progress: Progress) -> list[SuiteImage]:
    """Every image with its prompt and hash, in the order of the suite."""
    places = [(row, path) for row, paths in enumerate(found.images) for path in paths]
    digests = hash_images([path for _, path in places], progress)
    return [
        SuiteImage(row=row, prompt=suite.prompts[row].prompt, path=path, name=found.name(path), sha256=digest)
        for (row, path), digest in zip(places, digests, strict=True)
    ]


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """See that scorers can be told apart.

    Raises:
        InputError: two have the same label or the same identity.
    """
    for what, names in (
        ("scorers: {!r} is named twice", [candidate.label for candidate in candidates]),
        ("scorers: two are {!r}", [candidate.scorer.info.identity for candidate in candidates]),
    ):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{what.format(twice)}; name each scorer once")


def _identical_images(images: Sequence[SuiteImage]) -> tuple[tuple[str, ...], ...]:
    """Groups of files that are equal to the byte though their prompts differ."""
    same: defaultdict[str, list[SuiteImage]] = defaultdict(list)
    for image in images:
        same[image.sha256].append(image)
    return tuple(
        tuple(image.name for image in group) for group in same.values() if len({image.prompt for image in group}) > 1
    )


def _describe(folder: Path, identical: Sequence[Sequence[str]]) -> str:
    shown = "; ".join(
        ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for names in identical[:_SHOWN_PROBLEMS]
    )
    more = f"; and {len(identical) - _SHOWN_PROBLEMS} more" if len(identical) > _SHOWN_PROBLEMS else ""
    what = f"{sum(map(len, identical))} images are duplicates of one another though their prompts differ"
    cure = "make them again (a filter may have replaced them), or accept them with --allow-identical"
    return f"{folder}: {what}: {shown}{more}. Nothing was scored; {cure}"


def _about(candidate: Candidate, command: str) -> dict[str, Any]:
    return {
        "label": candidate.label,
        "info": candidate.scorer.info.to_json(),
        "log_odds_per_point": candidate.scorer.log_odds_per_point,
        "reads_prompt": candidate.scorer.reads_prompt,
        "command": command,
        "versions": _versions(),
    }


def _value(
    config: BenchmarkRun,
    suite: Suite,
    found: ImageSet,
    images: Mapping[int, Sequence[ScoredImage]],
    scorers: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    rows = [
        ScoredPrompt(**prompt.model_dump(), images=tuple(images.get(number, ())))
        for number, prompt in enumerate(suite.prompts)
    ]
    sizes = {name: sum(prompt.category == name for prompt in suite.prompts) for name in suite.categories}
    return {
        "path": config.out,
        "package": f"hpskit {__version__}",
        "name": config.name,
        "command": config.command,
        "complete": found.complete,
        "meta": dict(config.meta),
        "versions": _versions(),
        "images_root": relative_to(config.images, config.out.parent),
        "suite": {
            "name": suite.name,
            "source": suite.source,
            "sha256": suite.sha256,
            "prompts": len(suite.prompts),
            "categories": [{"name": name, "prompts": size} for name, size in sizes.items()],
        },
        "scorers": [{**about, **figures(rows, label)} for label, about in scorers.items()],
        "prompts": rows,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # installed by other means than a wheel
            found[name] = "unknown"
    return found
