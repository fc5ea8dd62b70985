"""`hpskit benchmark run`: a model's images for a suite of prompts in, `result.json` out.

While it works, scores go into `result.json.partial`; killed and run again it continues there. A result that exists is
added to: scorers that are named later join those in it, as long as the images are the same.
"""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpskit.benchmark.result import (
    FORMAT,
    Result,
    ScoredImage,
    ScoredPrompt,
    ScorerResult,
    SuiteInfo,
    check_meta,
    described,
    figures,
    read_result,
    relative_to,
)
from hpskit.errors import ImageError, InputError, OutputError, listed
from hpskit.files import publish_json
from hpskit.images.layout import ImageSet, Match, find_images
from hpskit.prompts.suites import Suite, open_suite
from hpskit.schema import parse
from hpskit.scoring.book import Book, read_images
from hpskit.scoring.contract import Candidate, Scorer, check_candidates
from hpskit.stage import Progress, heading, ledger_until_published

_SHOWN = 10
_VERSIONS = ("torch", "torchvision", "open_clip_torch", "timm", "pillow", "numpy")
"""Libraries that have a say in a score."""
_CURE = "choose another --out, or delete it"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRun:
    """Settings of a run."""

    suite: str | os.PathLike[str]
    """Name, file or folder; see `hpskit.prompts.suites.open_suite`."""
    images: Path
    """Folder of the model's images; see `hpskit.images.layout.find_images`."""
    name: str
    """Name of the model in tables."""
    out: Path
    """The result file, ending in `.json`."""
    manifest: Path | None = None
    """Table that says which image belongs to which prompt; None is the official layout."""
    match: Match = "auto"
    """How names of images are read; see `hpskit.images.layout.Match`."""
    allow_missing: bool = False
    """Score what is there; the result is marked as incomplete."""
    allow_identical: bool = False
    """Accept that one image stands for prompts that differ (copies, or the black square of a filter)."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Anything that JSON can hold about how the images were made: size, steps, guidance, seed …"""
    replace: bool = False
    """Let scorers of this run take the place of earlier ones that have the same label and another identity."""
    command: str = ""
    """The command that makes this again."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".json":
            raise InputError("out", f"is {str(self.out)!r}", expected="a name that ends in '.json'")
        if not self.name.strip() or not self.name.isprintable():
            cure = "use letters, digits, signs and spaces"
            raise InputError("name", f"is {self.name!r}", expected="the name of the model", cure=cure)
        try:
            check_meta(dict(self.meta))
        except (TypeError, ValueError) as error:
            cure = "use texts, numbers, lists, objects"
            raise InputError("meta", f"cannot be written as JSON ({error})", cure=cure) from error

    @property
    def partial(self) -> Path:
        """The ledger of a run that is not finished."""
        return self.out.with_name(f"{self.out.name}.partial")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A finished run."""

    result: Result
    resumed: int
    """Scores that earlier runs had made."""
    identical: tuple[tuple[str, ...], ...]
    """Names of images that are the same to the byte for prompts that differ."""
    found: ImageSet
    """The images, what of them was not looked into, and how their names were read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteImage:
    """One image of a suite as it is now."""

    row: int
    """Number of the prompt in the suite, from 0."""
    prompt: str
    path: Path
    name: str
    """Path from the folder of images, as results name it."""
    sha256: str
    """SHA-256 of the file, 64 hex digits."""


def run(config: BenchmarkRun, load: Callable[[], Sequence[Candidate]], progress: Progress = lambda *_: None) -> Summary:
    """Score the images of a suite, and publish the result.

    `load` makes the scorers; it is called only after all images have been found and read.

    Raises:
        InputError: the images do not fit the suite, are broken, or are the same for different prompts.
        OutputError: the output cannot be written, or is the result of something else.
    """
    suite = open_suite(config.suite)
    found = find_images(
        suite, config.images, manifest=config.manifest, match=config.match, allow_missing=config.allow_missing
    )
    images = suite_images(suite, found, progress)
    identical = identical_images(images)
    if identical and not config.allow_identical:
        what = f"holds {sum(map(len, identical))} images that are duplicates of one another though their prompts differ"
        cure = "nothing was scored; make them again (a filter may have replaced them), or add --allow-identical"
        groups = "; ".join(listed(names, 3) for names in identical[:_SHOWN])
        raise InputError(config.images, f"{what}: {groups}", cure=cure)
    settings = {"format": "hpskit benchmark scores 1", "suite_sha256": suite.sha256}
    with ledger_until_published(config.partial, settings) as ledger:  # from here on nobody else writes this result
        earlier = read_earlier(config.out, config.name, suite, images)
        candidates = load()
        check_candidates(candidates)
        book, kept = Book(ledger), []
        if earlier is not None:
            kept = kept_scorers(earlier, candidates, images, replace=config.replace)
            book.add(
                (scorer.info.identity, image.sha256, row.prompt, image.scores[scorer.label])
                for row in earlier.prompts
                for image in row.images
                for scorer in earlier.scorers
            )
        resumed = score_images(images, [candidate.scorer for candidate in candidates], book, progress)
        infos = {one.label: one.info for one in kept} | {one.label: one.scorer.info for one in candidates}
        identities = {label: info.identity for label, info in infos.items()}
        own = scored_images(images, book, identities)
        rows = [ScoredPrompt(**prompt.model_dump(), images=own[n]) for n, prompt in enumerate(suite.prompts)]
        result = make_result(config, suite, found, rows, kept, candidates, earlier)
        publish_json(config.out, result.model_dump(mode="json"))
    return Summary(result=result, resumed=resumed, identical=identical, found=found)


# Images and scores


def suite_images(suite: Suite, found: ImageSet, progress: Progress) -> list[SuiteImage]:
    """Read every image: its prompt and hash, in the order of the suite. One that cannot be read is an ImageError."""
    places = [(row, path) for row, paths in enumerate(found.images) for path in paths]
    digests = read_images((path for _, path in places), lambda done: progress("reading", done, len(places)))
    return [
        SuiteImage(row=row, prompt=suite.prompts[row].prompt, path=path, name=found.name(path), sha256=digest)
        for (row, path), digest in zip(places, digests, strict=True)
    ]


def identical_images(images: Sequence[SuiteImage]) -> tuple[tuple[str, ...], ...]:
    """Group the names of files that are equal to the byte though their prompts differ."""
    same: defaultdict[str, list[SuiteImage]] = defaultdict(list)
    for image in images:
        same[image.sha256].append(image)
    return tuple(
        tuple(image.name for image in group) for group in same.values() if len({image.prompt for image in group}) > 1
    )


def score_images(images: Sequence[SuiteImage], scorers: Sequence[Scorer], book: Book, progress: Progress) -> int:
    """Score what the book does not have yet; return the number of scores that it had.

    An image that cannot be decoded, or has changed meanwhile, is an error when all the others have been scored.
    """
    broken: list[ImageError] = []
    filled = book.fill(
        scorers,
        ((image.path, image.prompt) for image in images),
        broken=lambda _number, error: broken.append(error),
        progress=lambda done: progress("scoring", done, len(images)),
    )
    if broken:
        found = f"has {len(broken)} that cannot be scored: {listed([str(error) for error in broken], _SHOWN)}"
        cure = "or delete them and count them as missing with --allow-missing; the scores of the others are kept"
        raise InputError(f"{len(images)} images", found, cure=cure)
    for image, digest in zip(images, filled.digests, strict=True):
        if image.sha256 != digest:
            raise InputError(image.path, "was changed while it was scored", cure="run the same command again")
    return filled.known


def scored_images(
    images: Sequence[SuiteImage], book: Book, identities: Mapping[str, str]
) -> Mapping[int, tuple[ScoredImage, ...]]:
    """Collect the images of each prompt, by its number, with their scores by label; none if it has none.

    `identities` are those of the scorers by label.
    """
    rows: defaultdict[int, tuple[ScoredImage, ...]] = defaultdict(tuple)
    for image in images:
        scores = {label: book.score(one, image.sha256, image.prompt) for label, one in identities.items()}
        value = {"image": image.name, "sha256": image.sha256, "scores": scores}
        cure = "such a number cannot be put into figures: change the scorer"
        rows[image.row] += (parse(ScoredImage, value, image.path, cure=cure),)
    return rows


# The result


def make_result(
    config: BenchmarkRun,
    suite: Suite,
    found: ImageSet,
    rows: Sequence[ScoredPrompt],
    kept: Sequence[ScorerResult],
    candidates: Sequence[Candidate],
    earlier: Result | None,
) -> Result:
    """Put the result together; what an earlier one says of suite and settings stays if this run does not say it."""
    new = [
        {**described(candidate), "command": config.command, "versions": versions(), **figures(rows, candidate.label)}
        for candidate in candidates
    ]
    value = {
        "path": config.out,
        **heading(FORMAT, config.command),
        "name": config.name,
        "complete": found.complete,
        "meta": dict(config.meta) or (earlier.meta if earlier else {}),
        "versions": versions(),
        "images_root": relative_to(config.images, config.out.parent),
        "suite": earlier.suite if earlier else SuiteInfo.of(suite),  # of the same prompts
        "scorers": [*kept, *new],
        "prompts": rows,
    }
    return parse(Result, value, config.out)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that have a say in a score."""
    return {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}}


# A result that is there already


def read_earlier(out: Path, name: str, suite: Suite, images: Sequence[SuiteImage]) -> Result | None:
    """Read the result that is to be added to, if there is one.

    None of its images may have changed, be gone, or belong to another prompt.
    """
    if not os.path.lexists(out):
        return None
    try:
        earlier = read_result(out)
    except InputError as error:
        raise OutputError(out, f"exists and is no result of this command ({error})", cure=_CURE) from error
    if earlier.name != name:
        raise OutputError(out, f"holds the result of model {earlier.name!r}", expected=repr(name), cure=_CURE)
    if earlier.suite.sha256 != suite.sha256:
        found = f"holds a result on the prompts {earlier.suite.name!r} ({earlier.suite.sha256[:12]})"
        raise OutputError(out, found, expected=f"{suite.name!r} ({suite.sha256[:12]})", cure=_CURE)
    now = {(image.row, image.name): image.sha256 for image in images}
    old = ((n, image) for n, row in enumerate(earlier.prompts) for image in row.images)
    if changed := [image.image for n, image in old if now.get((n, image.image)) != image.sha256]:
        found = f"is of images that have changed since, or have other prompts: {listed(changed, 3)}"
        raise OutputError(out, found, cure=f"{_CURE} to score them again")
    return earlier


def kept_scorers(
    earlier: Result, candidates: Sequence[Candidate], images: Sequence[SuiteImage], *, replace: bool
) -> list[ScorerResult]:
    """List the scorers that a new run does not name; they stay in the result, and must have scored all images."""
    named = {candidate.label: candidate.scorer.info for candidate in candidates}
    new_images = len(images) > sum(len(row.images) for row in earlier.prompts)
    kept = []
    for scorer in earlier.scorers:
        now = named.get(scorer.label)
        if now is None and new_images:
            cure = f"add --scorer {scorer.label}"
            raise OutputError(earlier.path, f"has no scores by {scorer.label!r} of the new images", cure=cure)
        if now is None:
            kept.append(scorer)
        elif now.lasting_identity != scorer.info.lasting_identity and not replace:
            found = f"has scores by {scorer.label!r} of {scorer.info.identity!r}"
            cure = "choose another --out, or replace those scores with --replace"
            raise OutputError(earlier.path, found, expected=repr(now.identity), cure=cure)
    return kept
