"""`hpskit compare`: two folders of images for the same prompts in; whether the second is better out.

OUT/scores.ledger   the score of every image by every scorer; survives a kill, is continued and used again
OUT/compare.html    to be read and handed on: one file, opens offline
OUT/contact.jpg     the pairs that differ most by the first scorer, for slides
OUT/compare.json    every figure and every score; written last: it says that the others are complete
"""

from __future__ import annotations

import io
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpskit.benchmark.compare_figures import agreement_of, compared
from hpskit.benchmark.compare_page import compare_page, compare_paper, compare_sheet, read_pictures
from hpskit.benchmark.result import (
    Resampling,
    ScoredImage,
    ScorerAbout,
    described,
    mean_scores,
    relative_to,
    repeats_note,
    text_numbers,
)
from hpskit.benchmark.run import SuiteImage, score_images, scored_images, suite_images
from hpskit.errors import InputError, OutputError, RecordError, listed, shown
from hpskit.files import expand, inside
from hpskit.images.layout import ImageSet, Match, find_images
from hpskit.pages.paper import file_names, formats_of, paper_files
from hpskit.prompts.suites import Suite, SuitePrompt, open_suite
from hpskit.schema import parse
from hpskit.scoring.book import Book
from hpskit.scoring.contract import Candidate, check_candidates
from hpskit.stage import Ledger, Progress, check_free, heading, publish

_FORMAT = "hpskit comparison 1"
_RECORD, _LEDGER, _PRODUCTS = "compare.json", "scores.ledger", ("compare.html", "contact.jpg")
_CURE = "choose another --out, or delete it"
_SCORERS = ("scorers",)
"""Key, in the ledger, of the scorers that were compared; they stay in the comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Settings of a comparison."""

    first: Path
    """Folder of the images to compare with; see `hpskit.images.layout.find_images`."""
    second: Path
    """Folder of the images that may be better."""
    prompts: str | os.PathLike[str]
    """Name, file or folder of the suite; see `hpskit.prompts.suites.open_suite`."""
    out: Path
    """Folder for the results; the scores in it are used again."""
    manifests: tuple[Path | None, Path | None] = (None, None)
    """Tables that say which image of each folder belongs to which prompt; None is the official layout."""
    match: Match = "auto"
    """How names of images are read; see `hpskit.images.layout.Match`."""
    names: tuple[str, str] = ("", "")
    """Names of the two; empty is the name of the folder."""
    allow_missing: bool = False
    """Compare the prompts that have an image in both."""
    allow_outside: bool = False
    """Take images that a link in one of the folders leads to: they are shown to whoever gets the page."""
    resampling: Resampling = field(default_factory=Resampling)
    paper: tuple[str, ...] = ()
    """Formats for papers; see `hpskit.pages.paper`."""
    command: str = ""
    """The command that makes this again; stands on the page."""

    def __post_init__(self) -> None:
        for folder in (self.first, self.second):
            if os.path.realpath(self.out) == os.path.realpath(folder):
                raise InputError("out", f"is the folder of the images, {str(self.out)!r}", expected="another one")
        for name in self.called():
            if not name.isprintable():
                cure = "give one with --name-a or --name-b"
                raise InputError("names", f"has {shown(name)}", expected="a name that can be printed", cure=cure)

    def called(self) -> tuple[str, str]:
        """Return names that differ."""
        folders = [Path(os.path.realpath(expand(folder))).name for folder in (self.first, self.second)]
        if folders[0] == folders[1]:
            folders = [str(self.first), str(self.second)]
        first, second = (name.strip() or folder for name, folder in zip(self.names, folders, strict=True))
        return (first, second) if first != second else (f"{first} (A)", f"{second} (B)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A finished run."""

    result: dict[str, Any]
    """The content of `compare.json`."""
    resumed: int
    """Scores that earlier runs had made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """The images of one side."""

    name: str
    found: ImageSet
    images: list[SuiteImage]

    def facts(self, out: Path) -> dict[str, Any]:
        """Return what `compare.json` in the folder `out` says of this side."""
        counts = [len(images) for images in self.found.images if images]
        return {
            "name": self.name,
            "root": relative_to(self.found.root, out),
            "prompts": len(counts),
            "images": sum(counts),
            "images_per_prompt": [min(counts), max(counts)],
        }


class ComparedPrompt(SuitePrompt):
    """A prompt and its images on both sides."""

    first: tuple[ScoredImage, ...]
    second: tuple[ScoredImage, ...]


class ComparedScorer(ScorerAbout):
    """Facts of `compare.json` about a scorer that do not follow from its scores."""

    fitted_to: dict[str, Any] | None
    """Number of these prompts that the scorer was fitted to, and the data that they were part of."""


def run(config: Compare, load: Callable[[], Sequence[Candidate]], progress: Progress = lambda *_: None) -> Summary:
    """Score what is not scored yet, compare, and publish.

    `load` makes the scorers; it is called only after all images have been found and read.

    Raises:
        InputError: images do not fit the prompts (of both folders in one error), are broken, or fewer than two prompts
            have one in both.
        OutputError: the output cannot be written, or holds a comparison of other images or prompts.
    """
    suite = open_suite(config.prompts, option="--prompts")
    both = find_both(config, suite)
    formats = formats_of(config.out, "compare", config.paper)
    check_free(config.out, _RECORD, [*_PRODUCTS, *file_names("compare", formats)], _FORMAT)
    before = os.path.exists(config.out / _RECORD)
    if before and not os.path.exists(config.out / _LEDGER):
        raise OutputError(config.out / _RECORD, f"stands there without its {_LEDGER}", cure=_CURE)
    roots = {"first": config.first, "second": config.second}
    settings = {"format": "hpskit comparison scores 1", "suite_sha256": suite.sha256}
    settings |= {side: str(relative_to(root, config.out) or os.path.realpath(root)) for side, root in roots.items()}
    with Ledger(config.out / _LEDGER, settings) as ledger:  # until all is published: nobody else writes here
        first, second = (
            Side(name=name, found=found, images=suite_images(suite, found, progress))
            for name, found in zip(config.called(), both, strict=True)
        )
        candidates = load()
        check_candidates(candidates)
        distinct = {(image.sha256, image.prompt): image for side in (first, second) for image in side.images}
        images, book = list(distinct.values()), Book(ledger)
        resumed = score_images(images, [candidate.scorer for candidate in candidates], book, progress)
        (known,) = ledger.get([_SCORERS])
        if before and known is None:
            raise OutputError(config.out / _LEDGER, "is damaged: it names no scorer", cure=_CURE)
        earlier = [parse(ComparedScorer, scorer, config.out / _LEDGER) for scorer in known or ()]
        scorers, left_out = gathered(earlier, [about(candidate, suite) for candidate in candidates], images, book)
        ledger.put([(_SCORERS, [scorer.model_dump(mode="json") for scorer in scorers])])
        identities = {scorer.label: scorer.info.identity for scorer in scorers}
        own, other = (scored_images(side.images, book, identities) for side in (first, second))
        prompts = enumerate(suite.prompts)
        rows = [ComparedPrompt(**prompt.model_dump(), first=own[n], second=other[n]) for n, prompt in prompts]
        result = comparison(config, suite, (first, second), scorers, rows)
        result["notes"] += left_out
        pictures = read_pictures(result, roots)
        sheet = io.BytesIO()
        compare_sheet(result, pictures).save(sheet, "JPEG", quality=88, optimize=True)
        products = dict(zip(_PRODUCTS, (compare_page(result, pictures).encode(), sheet.getvalue()), strict=True))
        products |= paper_files(compare_paper(result), "compare", formats)
        publish(config.out, _RECORD, result, products)
    return Summary(result=result, resumed=resumed)


def find_both(config: Compare, suite: Suite) -> tuple[ImageSet, ImageSet]:
    """Find the images of both folders; everything that is wrong with either is in one error."""
    found: list[ImageSet] = []
    problems: list[InputError] = []
    for folder, manifest, side in zip((config.first, config.second), config.manifests, "ab", strict=True):
        try:
            found.append(
                find_images(
                    suite,
                    folder,
                    manifest=manifest,
                    match=config.match,
                    allow_missing=config.allow_missing,
                    option=f"--manifest-{side}",
                )
            )
            if not config.allow_outside:
                for path in itertools.chain(*found[-1].images):
                    inside(path, [folder], str(path))
        except RecordError:
            raise
        except InputError as error:
            problems.append(error.alone())
    if problems:
        one = problems[0]
        also = "".join(f"; and {other.place} {other.found}" for other in problems[1:] if str(other) != str(one))
        raise InputError(one.place, one.found + also, expected=one.expected, cure=one.cure)
    first, second = found
    own = [sum(map(bool, one.images)) for one in found]
    common = sum(bool(one and other) for one, other in zip(first.images, second.images, strict=True))
    if common < 2:
        there = f"have images for {own[0]} and {own[1]} prompts, for {common} of them both"
        expected, cure = "at least 2 in common", "make images for the same prompts"
        raise InputError(f"{config.first} and {config.second}", there, expected=expected, cure=cure)
    return first, second


def about(candidate: Candidate, suite: Suite) -> ComparedScorer:
    """Describe a scorer of this run."""
    training = candidate.training
    seen = training.overlap([prompt.prompt for prompt in suite.prompts]) if training else 0
    fitted = {"prompts": seen, "data": training.data} if training and seen else None
    return parse(ComparedScorer, {**described(candidate), "fitted_to": fitted}, "scorer")


def gathered(
    before: Sequence[ComparedScorer], named: Sequence[ComparedScorer], images: Sequence[SuiteImage], book: Book
) -> tuple[list[ComparedScorer], list[str]]:
    """Collect the scorers that were compared before and those that are named now, which replace those of their label.

    Returns:
        The scorers, and a note for each that has not scored all of these images and is left out.
    """
    by_label = {scorer.label: scorer for scorer in named}
    kept, notes = [], []
    for scorer in before:
        if scorer.label in by_label:
            kept.append(by_label.pop(scorer.label))
        elif all(book.get(scorer.info.identity, image.sha256, image.prompt) is not None for image in images):
            kept.append(scorer)
        else:
            what = "is left out: the comparison that was here before had it, but it has not scored all of these images"
            notes.append(f"{scorer.label} {what}; name it with --scorer to have it again.")
    return [*kept, *by_label.values()], notes


# The comparison


def comparison(
    config: Compare,
    suite: Suite,
    sides: Sequence[Side],
    scorers: Sequence[ComparedScorer],
    rows: Sequence[ComparedPrompt],
) -> dict[str, Any]:
    """Compute everything that `compare.json` holds; see docs/compare.md."""
    first, second = sides
    one_folder = os.path.realpath(config.first) == os.path.realpath(config.second)
    categories = np.array([row.category for row in rows])
    texts = text_numbers([row.prompt for row in rows])
    found, differences = [], []
    for scorer in scorers:
        a = mean_scores((row.first for row in rows), scorer.label)
        b = mean_scores((row.second for row in rows), scorer.label)
        own = compared(a, b, categories, (first.name, second.name), config.resampling, texts)
        if one_folder and own["outcome"] == "equal":
            own["verdict"] = f"No difference: {first.name} and {second.name} are one and the same folder"
        for case in itertools.chain(*own["extremes"].values()):
            row = rows[case["prompt"]]
            case |= {"first": typical(row.first, scorer.label), "second": typical(row.second, scorer.label)}
        found.append({**scorer.model_dump(mode="json"), **own})
        differences.append(b - a)
    return {
        **heading(_FORMAT, config.command),
        "verdict": found[0]["verdict"],
        "settings": asdict(config.resampling),
        "suite": {"name": suite.name, "source": suite.source, "sha256": suite.sha256, "prompts": len(rows)},
        "compared": sum(bool(row.first and row.second) for row in rows),
        "first": first.facts(config.out),
        "second": second.facts(config.out),
        "notes": [*notes_on_files(sides, one_folder, rows), *notes_on_prompts(sides, scorers, rows)],
        "scorers": found,
        "agreement": agreement_of(found, differences, second.name),
        "prompts": [row.model_dump(mode="json") for row in rows],
    }


def typical(images: Sequence[ScoredImage], label: str) -> dict[str, Any]:
    """Choose the image that stands for a side: of several the one whose score is nearest their mean."""
    mean = float(np.mean([image.scores[label] for image in images]))
    return {"image": min(images, key=lambda image: abs(image.scores[label] - mean)).image, "score": mean}


def notes_on_files(sides: Sequence[Side], one_folder: bool, rows: Sequence[ComparedPrompt]) -> Iterator[str]:
    """Say what a reader must know of the images: equal files, and folders that were not looked into."""
    both = f"{sides[0].name} and {sides[1].name}"
    files = [[sorted(image.sha256 for image in side) for side in (row.first, row.second)] for row in rows]
    equal = [one == other for one, other in files if one and other]
    if one_folder:
        yield f"{both} are one and the same folder."
    elif any(equal):
        what = "all" if all(equal) else f"{sum(equal):,} of {len(equal):,}"
        yield f"{both} have the same files, to the byte, for {what} prompts."
    for side in sides:
        yield from (f"{side.name}: {note}." for note in side.found.notes)
        if side.found.other_folders:
            folders = listed(side.found.other_folders)
            yield f"{side.name} has folders that are not of these prompts and were not looked into: {folders}."
        prompts_of = Counter(digest for digest, _ in {(image.sha256, image.prompt) for image in side.images})
        if repeated := sum(count for count in prompts_of.values() if count > 1):
            what = "have an image that stands for another prompt too (a filter's black square, perhaps)"
            yield f"{side.name}: {repeated:,} prompts {what}."


def notes_on_prompts(
    sides: Sequence[Side], scorers: Sequence[ComparedScorer], rows: Sequence[ComparedPrompt]
) -> Iterator[str]:
    """Say what a reader must know of the prompts: missing, repeated, and seen in training."""
    both = [row for row in rows if row.first and row.second]
    lacking = [sum(not images for images in side.found.images) for side in sides]
    if any(lacking):
        gone = " and ".join(f"{n:,} in {side.name}" for n, side in zip(lacking, sides, strict=True) if n)
        what = f"compared are the {len(both):,} of {len(rows):,} that have one in both"
        yield f"Prompts without an image: {gone}; {what}."
    if any(len(row.first) != len(row.second) for row in both):
        what = "The number of images differs between the two for some prompts"
        yield f"{what}; the mean of a prompt's images is compared, and that of more images varies less."
    if note := repeats_note(text_numbers([row.prompt for row in rows])):
        yield note
    for scorer in scorers:
        if fitted := scorer.fitted_to:
            what = f"was fitted to {fitted['prompts']:,} of these {len(rows):,} prompts ({fitted['data']})"
            yield f"{scorer.label} {what}: it may be surer of them than of others."
