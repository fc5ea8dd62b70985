"""`hpskit compare` as a stage: two folders of images for the same prompts in; whether the second is better out.

OUT/scores.jsonl    the score of every image by every scorer; survives a kill, is continued and used again
OUT/compare.html    to be read and handed on: one file, opens offline
OUT/contact.jpg     the pairs that differ most by the first scorer, for slides
OUT/compare.json    every figure and every score; written last: it says that the others are complete
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit import __version__
from hpskit.benchmark.comparison.earlier import about, gathered, scorers_before
from hpskit.benchmark.comparison.figures import agreement_of, compared
from hpskit.benchmark.comparison.page import compare_page, compare_sheet
from hpskit.benchmark.layout import ImageSet, find_images
from hpskit.benchmark.result import Resampling, ScoredImage, mean_scores, relative_to, repeats_note, text_numbers
from hpskit.benchmark.run import check_candidates, suite_images
from hpskit.benchmark.scores import Book, Progress, SuiteImage, score_images
from hpskit.benchmark.suites import Suite, SuitePrompt, open_suite
from hpskit.errors import InputError, RecordError
from hpskit.files import AppendLog, expand, publish_set
from hpskit.scoring.contract import Candidate

__all__ = ["Compare", "Summary", "run"]

_FORMAT = "hpskit comparison 1"

_SIDES = ("first", "second")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Which images to compare, how, and where to put it."""

    first: Path
    """The folder of the images that are the measure; see `hpskit.benchmark.layout.find_images`."""
    second: Path
    """The folder of those of which one asks whether they are better."""
    prompts: str | os.PathLike[str]
    """Name, file or folder of the suite; see `hpskit.benchmark.suites.open_suite`."""
    out: Path
    """Folder for the results; the scores in it are used again."""
    manifests: tuple[Path | None, Path | None] = (None, None)
    """Which image of the first and of the second folder belongs to which prompt; None is the official layout."""
    names: tuple[str, str] = ("", "")
    """What to call the two; empty is the name of the folder."""
    allow_missing: bool = False
    """Compare the prompts that have an image in both."""
    resampling: Resampling = field(default_factory=Resampling)
    command: str = ""
    """How to make this again; stands on the page."""

    def __post_init__(self) -> None:
        for folder in (self.first, self.second):
            if self.out.resolve() == folder.resolve():
                raise InputError(f"out: {self.out} is the folder of the images, expected another one for the results")

    def called(self) -> tuple[str, str]:
        """Names that differ."""
        own = [name.strip() for name in self.names]
        folders = [expand(folder).resolve() for folder in (self.first, self.second)]
        if folders[0].name != folders[1].name or all(own):
            first, second = (name or folder.name for name, folder in zip(own, folders, strict=True))
        else:
            first, second = (name or str(path) for name, path in zip(own, (self.first, self.second), strict=True))
        return (first, second) if first != second else (f"{first} (A)", f"{second} (B)")


class ComparedPrompt(SuitePrompt):
    """A prompt and its images on both sides."""

    first: tuple[ScoredImage, ...]
    second: tuple[ScoredImage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has made."""

    result: dict[str, Any]
    """What `compare.json` holds."""
    resumed: int
    """Scores that earlier runs had made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Material:
    """The images of both sides."""

    suite: Suite
    names: tuple[str, str]
    sets: tuple[ImageSet, ImageSet]
    images: tuple[list[SuiteImage], list[SuiteImage]]
    one_folder: bool
    """Whether the two sides are one and the same."""


def run(
    config: Compare,
    load: Callable[[], Sequence[Candidate]],
    progress: Progress = lambda _what, _done, _total: None,
) -> Summary:
    """Score what is not scored yet, compare, and publish.

    Args:
        config: what and where.
        load: makes the scorers; called only after all images have been found and read.
        progress: called with what is being done, images done and images in all.

    Raises:
        InputError: images do not fit the prompts (of both folders in one error), are broken, or fewer than two prompts
            have one in both.
        OutputError: the output cannot be written, or holds a comparison of other images or prompts.
    """
    suite = open_suite(config.prompts)
    sets = _find_both(config, suite)
    _check_common(config, sets)
    roots = (sets[0].root, sets[1].root)
    before = scorers_before(config.out / "compare.json", _FORMAT, roots, suite)
    images = (suite_images(suite, sets[0], progress), suite_images(suite, sets[1], progress))
    one = roots[0].resolve() == roots[1].resolve()
    material = _Material(suite=suite, names=config.called(), sets=sets, images=images, one_folder=one)
    candidates = load()
    check_candidates(candidates)
    with AppendLog(config.out / "scores.jsonl") as log:
        book = Book(log, suite.sha256)
        distinct = {(image.sha256, image.prompt): image for image in (*images[0], *images[1])}  # a copy costs nothing
        scorers = [candidate.scorer for candidate in candidates]
        resumed = score_images(list(distinct.values()), scorers, book, progress)
    named = [about(candidate, suite) for candidate in candidates]
    known, left_out = gathered(before, named, list(distinct.values()), book)
    result = _result(config, material, known, _rows(material, known, book))
    result["notes"] += left_out
    _publish(config, result)
    return Summary(result=result, resumed=resumed)


# What is compared


def _find_both(config: Compare, suite: Suite) -> tuple[ImageSet, ImageSet]:
    found, problems = [], []
    for folder, manifest in zip((config.first, config.second), config.manifests, strict=True):
        try:
            found.append(find_images(suite, folder, manifest=manifest, allow_missing=config.allow_missing))
        except RecordError:
            raise
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(" | ".join(dict.fromkeys(problems)))
    return found[0], found[1]


def _check_common(config: Compare, sets: tuple[ImageSet, ImageSet]) -> None:
    common = sum(bool(first and second) for first, second in zip(sets[0].images, sets[1].images, strict=True))
    if common < 2:
        own = [sum(map(bool, found.images)) for found in sets]
        there = f"{config.first} has images for {own[0]} prompts, {config.second} for {own[1]}, both for {common}"
        raise InputError(f"compare: {there}, expected at least 2 in common; make images for the same prompts")


def _rows(material: _Material, scorers: Sequence[Mapping[str, Any]], book: Book) -> list[ComparedPrompt]:
    """Every prompt with its images on both sides and their scores."""
    identities = {scorer["label"]: scorer["info"]["identity"] for scorer in scorers}
    first, second = (book.by_prompt(images, identities) for images in material.images)
    return [
        ComparedPrompt(**prompt.model_dump(), first=tuple(first.get(n, ())), second=tuple(second.get(n, ())))
        for n, prompt in enumerate(material.suite.prompts)
    ]


def _in_both(rows: Sequence[ComparedPrompt]) -> list[ComparedPrompt]:
    return [row for row in rows if row.first and row.second]


# What it says


def _result(
    config: Compare, material: _Material, known: Sequence[dict[str, Any]], rows: Sequence[ComparedPrompt]
) -> dict[str, Any]:
    scorers = [_by_scorer(scorer, material, rows, config.resampling) for scorer in known]
    differences = [_differences(rows, scorer["label"]) for scorer in scorers]
    agreement = agreement_of(scorers, differences, material.names[1])
    return {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "verdict": scorers[0]["verdict"],
        "settings": asdict(config.resampling),
        "suite": {
            "name": material.suite.name,
            "source": material.suite.source,
            "sha256": material.suite.sha256,
            "prompts": len(rows),
        },
        "compared": len(_in_both(rows)),
        **{side: _side(config, material, number) for number, side in enumerate(_SIDES)},
        "notes": _notes(material, scorers, rows),
        "scorers": scorers,
        "agreement": agreement,
        "prompts": [row.model_dump(mode="json") for row in rows],
    }


def _differences(rows: Sequence[ComparedPrompt], label: str) -> NDArray[np.float64]:
    """(prompts,): second less first, NaN where an image is missing."""
    first, second = _both_scores(rows, label)
    return second - first


def _both_scores(rows: Sequence[ComparedPrompt], label: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return mean_scores((row.first for row in rows), label), mean_scores((row.second for row in rows), label)


def _side(config: Compare, material: _Material, number: int) -> dict[str, Any]:
    counts = [len(images) for images in material.sets[number].images if images]
    return {
        "name": material.names[number],
        "root": relative_to(material.sets[number].root, config.out),
        "prompts": len(counts),
        "images": sum(counts),
        "images_per_prompt": [min(counts), max(counts)],
    }


def _by_scorer(
    scorer: Mapping[str, Any], material: _Material, rows: Sequence[ComparedPrompt], resampling: Resampling
) -> dict[str, Any]:
    first, second = _both_scores(rows, scorer["label"])
    categories = np.array([row.category for row in rows])
    texts = text_numbers([row.prompt for row in rows])
    found = compared(first, second, categories, material.names, resampling, texts)
    if material.one_folder and found["outcome"] == "equal":
        found["verdict"] = "No difference: {} and {} are one and the same folder".format(*material.names)
    extremes = {
        direction: [{**case, **_shown(rows[case["prompt"]], scorer["label"])} for case in cases]
        for direction, cases in found["extremes"].items()
    }
    return {**scorer, **found, "extremes": extremes}


def _shown(row: ComparedPrompt, label: str) -> dict[str, Any]:
    """The image that stands for each side: of several the one whose score is nearest their mean."""
    shown = {}
    for side, images in (("first", row.first), ("second", row.second)):
        scores = [image.scores[label] for image in images]
        mean = float(np.mean(scores))
        nearest = min(range(len(scores)), key=lambda n: abs(scores[n] - mean))
        shown[side] = {"image": images[nearest].image, "score": mean}
    return shown


# What a reader must know


def _notes(material: _Material, scorers: Sequence[Mapping[str, Any]], rows: Sequence[ComparedPrompt]) -> list[str]:
    notes = [*_notes_on_files(material, rows), *_notes_on_prompts(material, rows)]
    for scorer in scorers:
        if fitted := scorer["fitted_to"]:
            what = f"was fitted to {fitted['prompts']:,} of these {len(rows):,} prompts ({fitted['data']})"
            notes.append(f"{scorer['label']} {what}: it may be surer of them than of others.")
    return notes


def _notes_on_files(material: _Material, rows: Sequence[ComparedPrompt]) -> list[str]:
    notes = []
    first, second = material.names
    both = _in_both(rows)
    same = sum(_digests(row.first) == _digests(row.second) for row in both)
    if material.one_folder:
        notes.append(f"{first} and {second} are one and the same folder.")
    elif same:
        what = "all" if same == len(both) else f"{same:,} of {len(both):,}"
        notes.append(f"{first} and {second} have the same files, to the byte, for {what} prompts.")
    for name, images, found in zip(material.names, material.images, material.sets, strict=True):
        if found.other_folders:
            listed = ", ".join(found.other_folders[:5])
            notes.append(f"{name} has folders that are not of these prompts and were not looked into: {listed}.")
        prompts_of = defaultdict(set)
        for image in images:
            prompts_of[image.sha256].add(image.prompt)
        repeated = sum(len(prompts) for prompts in prompts_of.values() if len(prompts) > 1)
        if repeated:
            what = "have an image that stands for another prompt too (a filter's black square, perhaps)"
            notes.append(f"{name}: {repeated:,} prompts {what}.")
    return notes


def _digests(images: Sequence[ScoredImage]) -> list[str]:
    return sorted(image.sha256 for image in images)


def _notes_on_prompts(material: _Material, rows: Sequence[ComparedPrompt]) -> list[str]:
    notes = []
    lacking = dict(
        zip(material.names, (sum(not row.first for row in rows), sum(not row.second for row in rows)), strict=True)
    )
    if any(lacking.values()):
        gone = " and ".join(f"{count:,} in {name}" for name, count in lacking.items() if count)
        what = f"compared are the {len(_in_both(rows)):,} of {len(rows):,} that have one in both"
        notes.append(f"Prompts without an image: {gone}; {what}.")
    if any(len(row.first) != len(row.second) for row in _in_both(rows)):
        what = "The number of images differs between the two for some prompts"
        notes.append(f"{what}; the mean of a prompt's images is compared, and that of more images varies less.")
    if note := repeats_note(text_numbers([row.prompt for row in rows])):
        notes.append(note)
    return notes


def _publish(config: Compare, result: dict[str, Any]) -> None:
    roots = {"first": config.first, "second": config.second}
    sheet = io.BytesIO()
    compare_sheet(result, roots).save(sheet, "JPEG", quality=88, optimize=True)
    products = {"compare.html": compare_page(result, roots).encode(), "contact.jpg": sheet.getvalue()}
    publish_set(config.out, "compare.json", result, products)
