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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.benchmark.layout import ImageSet, find_images
from hpskit.benchmark.result import FORMAT, Result, figures, read_result, relative_to
from hpskit.benchmark.scores import Book, Progress, SuiteImage, hash_images, score_images
from hpskit.benchmark.suites import Suite, open_suite
from hpskit.errors import InputError, OutputError
from hpskit.evaluation.result import Candidate
from hpskit.files import AppendLog, publish_json

__all__ = ["BenchmarkRun", "Summary", "run", "suite_images"]

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
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".json":
            raise InputError(f"out: {self.out} ends in {self.out.suffix!r}, expected '.json'")
        if not self.name.strip():
            raise InputError("name: is empty, expected the name of the model")
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
    earlier = _earlier(config, suite)
    images = suite_images(suite, found, progress)
    identical = _identical(images)
    if identical and not config.allow_identical:
        raise InputError(_describe(config.images, identical))
    _check_unchanged(config, earlier, images)
    candidates = load()
    check_candidates(candidates)
    kept = _kept(config, earlier, candidates, images)
    with AppendLog(config.partial) as log:
        book = Book(log, suite.sha256)
        _learn(book, earlier)
        resumed = score_images(images, [candidate.scorer for candidate in candidates], book, progress)
        value = _value(config, suite, found, images, [*kept, *map(_about, candidates)], book)
        publish_json(config.out, value)
    config.partial.unlink()  # after it was closed: Windows removes no open file
    result = Result(path=config.out, value=value)
    return Summary(result=result, resumed=resumed, identical=identical, other_folders=found.other_folders)


def suite_images(suite: Suite, found: ImageSet, progress: Progress) -> list[SuiteImage]:
    """Every image with its prompt and hash, in the order of the suite.

    Raises:
        ImageError: files are empty or unreadable; they are listed.
    """
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


def _identical(images: Sequence[SuiteImage]) -> tuple[tuple[str, ...], ...]:
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


def _earlier(config: BenchmarkRun, suite: Suite) -> Result | None:
    """The result that is to be added to, if there is one."""
    if not config.out.exists():
        return None
    cure = "choose another --out, or delete it"
    try:
        earlier = read_result(config.out)
    except InputError as error:
        raise OutputError(f"{config.out}: exists and is no result of this command ({error}); {cure}") from error
    for what, found, wanted in (
        ("model", earlier.name, config.name),
        ("suite", earlier.suite["sha256"], suite.sha256),
    ):
        if found != wanted:
            raise OutputError(f"{config.out}: holds the result of {what} {found!r}, this run has {wanted!r}; {cure}")
    return earlier


def _check_unchanged(config: BenchmarkRun, earlier: Result | None, images: Sequence[SuiteImage]) -> None:
    """A result is replaced only by one that says at least as much of the same images."""
    if earlier is None:
        return
    now = {image.name: image.sha256 for image in images}
    before = {image["image"]: image["sha256"] for row in earlier.prompts for image in row["images"]}
    changed = [name for name, digest in before.items() if now.get(name) != digest]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        what = f"images have changed since it was made: {', '.join(changed[:3])}{more}"
        raise OutputError(f"{config.out}: {what}; choose another --out, or delete it to score them again")


def _kept(
    config: BenchmarkRun, earlier: Result | None, candidates: Sequence[Candidate], images: Sequence[SuiteImage]
) -> list[dict[str, Any]]:
    """Scorers of the earlier result that this run does not name; they stay in it."""
    if earlier is None:
        return []
    named = {candidate.label: candidate.scorer.info.identity for candidate in candidates}
    kept = []
    for scorer in earlier.value["scorers"]:
        label, identity = scorer["label"], scorer["info"]["identity"]
        if label in named and named[label] != identity:
            what = f"its scores by {label!r} are of {identity!r}, this run has {named[label]!r}"
            raise OutputError(f"{config.out}: {what}; choose another --out, or delete it")
        if label in named:
            continue
        if len(images) > sum(len(row["images"]) for row in earlier.prompts):
            raise OutputError(f"{config.out}: new images have no scores by {label!r} yet; add --scorer {label}")
        kept.append(scorer)
    return kept


def _learn(book: Book, earlier: Result | None) -> None:
    if earlier is None:
        return
    identities = {scorer["label"]: scorer["info"]["identity"] for scorer in earlier.value["scorers"]}
    for row in earlier.prompts:
        for image in row["images"]:
            for label, identity in identities.items():
                book.learn(identity, image["sha256"], row["prompt"], image["scores"][label])


def _about(candidate: Candidate) -> dict[str, Any]:
    factor = getattr(candidate.scorer, "log_odds_per_point", None)
    return {"label": candidate.label, "info": candidate.scorer.info.to_json(), "log_odds_per_point": factor}


def _value(
    config: BenchmarkRun,
    suite: Suite,
    found: ImageSet,
    images: Sequence[SuiteImage],
    scorers: Sequence[Mapping[str, Any]],
    book: Book,
) -> dict[str, Any]:
    rows = list(_rows(suite, images, scorers, book))
    sizes = {name: sum(prompt.category == name for prompt in suite.prompts) for name in suite.categories}
    about = [{name: s[name] for name in ("label", "info", "log_odds_per_point")} for s in scorers]
    return {
        "format": FORMAT,
        "package": f"hpskit {__version__}",
        "name": config.name,
        "command": config.command,
        "complete": not found.missing,
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
        "scorers": [{**scorer, **figures(rows, scorer["label"])} for scorer in about],
        "prompts": rows,
    }


def _rows(
    suite: Suite, images: Sequence[SuiteImage], scorers: Sequence[Mapping[str, Any]], book: Book
) -> Iterator[dict[str, Any]]:
    by_row: defaultdict[int, list[SuiteImage]] = defaultdict(list)
    for image in images:
        by_row[image.row].append(image)
    identities = {scorer["label"]: scorer["info"]["identity"] for scorer in scorers}
    for number, prompt in enumerate(suite.prompts):
        yield {
            "category": prompt.category,
            "number": prompt.number,
            "prompt": prompt.prompt,
            "images": [
                {
                    "image": image.name,
                    "sha256": image.sha256,
                    "scores": {label: book.score(identity, image) for label, identity in identities.items()},
                }
                for image in by_row[number]
            ],
        }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # installed by other means than a wheel
            found[name] = "unknown"
    return found
