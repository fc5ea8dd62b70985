"""`result.json`: the scores of one model on one suite, image by image, and every figure that follows from them.

The scores are the facts. The figures are made from them and can be made again, as `hpskit benchmark verify` does. What
compares models reads these files and nothing else.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from hpskit.errors import InputError, RecordError, shown
from hpskit.files import read_json
from hpskit.prompts.suites import Suite, SuitePrompt
from hpskit.records import ScorerInfo
from hpskit.schema import Strict, parse
from hpskit.scoring.contract import Candidate
from hpskit.stats.blocks import Floats, Index
from hpskit.stats.intervals import bootstrap_means
from hpskit.stats.model_scores import style_result

FORMAT: Final = "hpskit benchmark result 1"
CURE = "make it again with `hpskit benchmark run`"

_LONGEST_PATH, _LONGEST_NAME = 1_000, 255
"""Bytes of the path of an image from its folder, and of a part of it, as disks have them."""
_HIGHEST = 1e12
"""No scorer's points are beyond it, and sums of squares stay far from the end of float64."""
_DEEPEST = 30
"""Lists and objects inside one another."""


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise RecordError("", f"is {shown(text)}", expected="a name that can be printed", cure=CURE)
    return text


def _inside(path: str) -> str:
    parts = path.split("/")  # no `PurePosixPath`, which takes longer than all else that is checked
    leaves = path.startswith("/") or ".." in parts or "\0" in path
    if leaves or len(path.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        raise RecordError("", f"is {shown(path)}", expected="a path inside the folder of images", cure=CURE)
    return path


def check_meta(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """See that settings of images can be written: texts and numbers, not too deep inside one another."""
    json.dumps(meta, ensure_ascii=False, allow_nan=False).encode()
    layer: list[Any] = [meta]
    for _ in range(_DEEPEST):
        layer = [part for one in layer for part in (one.values() if isinstance(one, Mapping) else one)]
        layer = [part for part in layer if isinstance(part, Mapping | list | tuple)]
    if layer:
        raise RecordError(
            "", "is nested", expected=f"at most {_DEEPEST} levels of lists and objects", cure="simplify it"
        )
    return meta


Printable = Annotated[str, AfterValidator(_printable)]
FromList = Field(strict=False)
"""Of tuples that JSON has as lists."""


class ResultPart(Strict):
    """Part of a result; fields that this version does not know are left alone."""

    model_config = ConfigDict(extra="ignore")


class ScoredImage(ResultPart):
    """An image and its scores."""

    image: Annotated[str, AfterValidator(_inside)]
    """Path from the folder of images, with `/`."""
    sha256: str
    """SHA-256 of the file, 64 hex digits."""
    scores: dict[str, Annotated[float, Field(ge=-_HIGHEST, le=_HIGHEST)]]
    """Label of each scorer -> score."""


class ScoredPrompt(SuitePrompt):
    """A prompt of the suite and its images."""

    model_config = ConfigDict(extra="ignore")

    images: Annotated[tuple[ScoredImage, ...], FromList]
    """Images in the order of their samples; none where they are missing."""


class Figures(ResultPart):
    """A mean over prompts and its 95 % interval."""

    value: float | None
    """None if there is no image."""
    low: float | None
    """None, as `high`, if fewer than two different prompts have an image."""
    high: float | None
    prompts: int
    """Number of prompts that have an image."""


class CategoryFigures(Figures):
    """The figures of one category; None, but for `prompts`, if it has no image."""

    name: str
    mean: float | None
    """The official figure: mean over consecutive groups of 80 prompts; `value` is the plain mean over prompts."""
    deviation: float | None
    """Standard deviation of the means of those groups."""


class ScorerAbout(ResultPart):
    """A scorer, as results name it."""

    label: Printable
    info: ScorerInfo
    log_odds_per_point: float | None
    """Log-odds of being preferred per point of score, if the scorer has such a scale."""
    reads_prompt: bool | None = None
    """False if the scores do not depend on the prompt; None if nobody said."""


def described(candidate: Candidate) -> dict[str, Any]:
    """Describe a scorer of this run; see `ScorerAbout`."""
    scorer = candidate.scorer
    return {
        "label": candidate.label,
        "info": scorer.info,
        "log_odds_per_point": scorer.log_odds_per_point,
        "reads_prompt": scorer.reads_prompt,
    }


class ScorerResult(ScorerAbout):
    """A scorer, how its scores were made, and what follows from them."""

    command: str | None = None
    versions: dict[str, str] | None = None
    average: Figures
    categories: Annotated[tuple[CategoryFigures, ...], FromList]


class CategorySize(ResultPart):
    """A category of a suite and its number of prompts."""

    name: str
    prompts: int


class SuiteInfo(ResultPart):
    """The suite that a result is of."""

    name: Printable
    source: str
    sha256: str
    prompts: int
    """Number of prompts."""
    categories: Annotated[tuple[CategorySize, ...], FromList]

    @classmethod
    def of(cls, suite: Suite) -> Self:
        """Describe a suite."""
        sizes = Counter(prompt.category for prompt in suite.prompts)
        return cls(
            name=suite.name,
            source=suite.source,
            sha256=suite.sha256,
            prompts=len(suite.prompts),
            categories=tuple(CategorySize(name=name, prompts=size) for name, size in sizes.items()),
        )


class ResultAbout(ResultPart):
    """Everything that a result file says, but for its prompts."""

    path: Path = Field(exclude=True)
    format: Literal["hpskit benchmark result 1"]
    package: str
    name: Printable
    """Name of the model."""
    command: str
    complete: bool
    """True if every prompt has as many images as the others."""
    meta: Annotated[dict[str, Any], AfterValidator(check_meta)]
    """Settings of the images, as their maker gave them."""
    versions: dict[str, str]
    images_root: str | None
    """Folder of the images, from that of the file; None if there is no way there."""
    suite: SuiteInfo
    scorers: Annotated[tuple[ScorerResult, ...], Field(strict=False, min_length=1)]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the scorers."""
        return tuple(scorer.label for scorer in self.scorers)

    def scorer(self, label: str) -> ScorerResult:
        """Return what the file says of a scorer.

        Raises:
            InputError: the result has no such scorer.
        """
        for scorer in self.scorers:
            if scorer.label == label:
                return scorer
        there = f"one of {', '.join(self.labels)}"
        raise InputError(self.path, f"has no scores by {label!r}", expected=there, cure="add them")


class Result(ResultAbout):
    """A result file that was read and checked."""

    prompts: Annotated[tuple[ScoredPrompt, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            contradiction("scorers", self.labels, "labels that differ")
        seen: Counter[str] = Counter()
        for n, row in enumerate(self.prompts):
            if row.number != seen[row.category]:
                contradiction(f"prompts[{n}].number", row.number, f"{seen[row.category]}, its place in the category")
            seen[row.category] += 1
            for m, image in enumerate(row.images):
                if missing := set(self.labels) - image.scores.keys():
                    contradiction(f"prompts[{n}].images[{m}].scores.{missing.pop()}", None, "a number")
        for name, value in SuiteInfo.of(self.own_suite):
            if (stated := getattr(self.suite, name)) != value:
                contradiction(f"suite.{name}", stated, f"{shown(value)}, which is that of its prompts")
        counts = {len(row.images) for row in self.prompts}
        if counts == {0}:
            contradiction("prompts", "without any image", "at least one image")
        if self.complete != (len(counts) == 1):
            contradiction("complete", self.complete, "true just when every prompt has as many images as the others")
        return self

    @property
    def own_suite(self) -> Suite:
        """The suite that the prompts make, whatever the file says of it."""
        return Suite(name=self.suite.name, source=self.suite.source, prompts=self.prompts)

    @cached_property
    def categories(self) -> NDArray[np.str_]:
        """(prompts,): the category of each."""
        return np.array([row.category for row in self.prompts], dtype=np.str_)

    def scores(self, label: str) -> Floats:
        """(prompts,): the mean score of each prompt's images, NaN where there is none."""
        self.scorer(label)
        return mean_scores((row.images for row in self.prompts), label)


class Entry(ResultAbout):
    """A result among many: arrays, aligned with the prompts of the suite, in place of a record for every image.

    The records of 3,200 prompts take 5 MB, an entry a seventh of it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompts: Sequence[SuitePrompt]
    """The suite's, which all entries share."""
    categories: NDArray[np.str_]
    """(prompts,): the category of each."""
    texts: Index
    """(prompts,): equal numbers for prompts with one text; see `text_numbers`."""
    counts: Index
    """(prompts,): number of images."""
    images: tuple[str | None, ...]
    """Path of the first image of each prompt, from the folder of images."""
    hashes: tuple[str | None, ...]
    """SHA-256 of the same."""
    means: dict[str, Floats]
    """Label of each scorer -> (prompts,): the mean score of each prompt's images, NaN where there is none."""

    @classmethod
    def of(cls, result: Result, like: Entry | None = None) -> Self:
        """Take a result to pieces; `like` is an entry for the same suite, if there is one."""
        prompts: Sequence[SuitePrompt]
        if like is None:
            prompts = [SuitePrompt.model_construct(**dict(row)) for row in result.prompts]
            categories, texts = result.categories, text_numbers([row.prompt for row in prompts])
        else:
            prompts, categories, texts = like.prompts, like.categories, like.texts
        return cls.model_construct(
            **dict(result)
            | {
                "prompts": prompts,
                "categories": categories,
                "texts": texts,
                "counts": np.array([len(row.images) for row in result.prompts]),
                "images": tuple(row.images[0].image if row.images else None for row in result.prompts),
                "hashes": tuple(row.images[0].sha256 if row.images else None for row in result.prompts),
                "means": {label: result.scores(label) for label in result.labels},
            }
        )

    def scores(self, label: str) -> Floats:
        """(prompts,): the mean score of each prompt's images, NaN where there is none.

        Raises:
            InputError: the result has no such scorer.
        """
        return self.means[self.scorer(label).label]


def contradiction(place: str, found: object, expected: str) -> None:
    """Refuse a result whose parts contradict one another."""
    raise RecordError(place, f"is {shown(found)}", expected=expected, cure=CURE)


# Figures


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampling:
    """Settings of intervals."""

    resamples: int = 10_000
    """Bootstrap resamples of the prompts, and sign flips of the permutation test."""
    level: float = 0.95
    """Nominal coverage of the intervals, 0 to 1."""
    seed: int = 0
    """Same seed, same intervals."""

    def __post_init__(self) -> None:
        if self.resamples < 100:
            raise InputError("resamples", f"is {self.resamples}", expected="100 or more")


def mean_scores(images: Iterable[Sequence[ScoredImage]], label: str) -> Floats:
    """(prompts,): the mean score of each prompt's images, NaN where there is none."""
    own = [[image.scores[label] for image in some] for some in images]
    single = all(len(scores) == 1 for scores in own)  # as mostly, and much faster
    means = [scores[0] if single else np.mean(scores) if scores else np.nan for scores in own]
    return np.array(means, dtype=np.float64)


def text_numbers(texts: Sequence[str]) -> Index:
    """(prompts,): the number of each text, from 0 in order of appearance.

    The images of one text are not independent of one another: whatever resamples prompts draws such prompts together.
    """
    known: dict[str, int] = {}
    numbers = [known.setdefault(text, len(known)) for text in texts]  # np.unique pads all to the longest
    return np.array(numbers, dtype=np.intp)


def mean_interval(values: Floats, clusters: Index | None = None, **options: Any) -> dict[str, float | None]:
    """Compute `value`, the mean of what is not NaN, and its interval `low`, `high` by `bootstrap_mean`.

    The ends are None if fewer than two different prompts have a value: one says nothing of others.
    """
    return mean_intervals(values[None], clusters, **options)[0]


def mean_intervals(rows: Floats, clusters: Index | None = None, **options: Any) -> list[dict[str, float | None]]:
    """Compute `mean_interval` of each row, (rows, prompts), at a small part of the cost of one by one."""
    there = ~np.isnan(rows)
    found: list[dict[str, float | None]] = [
        {"value": float(row[own].mean()), "low": None, "high": None} for row, own in zip(rows, there, strict=True)
    ]
    several = [n for n, own in enumerate(there) if clusters is None or len(np.unique(clusters[own])) > 1]
    for n, interval in zip(several, bootstrap_means(rows[several], clusters=clusters, **options), strict=True):
        found[n] |= {"low": interval.low, "high": interval.high}
    return found


def figures(rows: Sequence[ScoredPrompt], label: str, resamples: int = 10_000, level: float = 0.95) -> dict[str, Any]:
    """Compute the figures of one scorer: `average` and `categories`, ready for JSON; see `CategoryFigures`.

    The interval of the average is for these categories in these proportions: what is drawn is prompts within them, not
    categories. The seed is always 0, so that everybody gets the same figures; result files have the default settings.
    """
    scores = mean_scores((row.images for row in rows), label)[None]
    categories, texts = np.array([row.category for row in rows]), text_numbers([row.prompt for row in rows])
    return figures_of(scores, categories, texts, resamples, level)[0]


def figures_of(
    scores: Floats, categories: NDArray[np.str_], texts: Index, resamples: int = 10_000, level: float = 0.95
) -> list[dict[str, Any]]:
    """Compute `figures` of each of several models, (models, prompts)."""
    centred = np.full_like(scores, np.nan)
    parts: list[list[dict[str, Any]]] = [[] for _ in scores]
    for name in dict.fromkeys(categories.tolist()):
        inside = categories == name
        own = scores[:, inside]
        there = ~np.isnan(own)
        some = np.flatnonzero(there.any(axis=1))
        intervals = mean_intervals(own[some], texts[inside], resamples=resamples, level=level)
        known = dict(zip(some.tolist(), intervals, strict=True))
        for n, row in enumerate(own):
            part = {"name": name, **dict.fromkeys(("mean", "deviation", "value", "low", "high"))}
            if n in known:
                official = style_result(row)
                centred[n, inside] = row - row[there[n]].mean()
                part |= {"mean": official.mean, "deviation": official.deviation, **known[n]}
            parts[n].append({**part, "prompts": int(there[n].sum())})
    means = np.array([row[~np.isnan(row)].mean() for row in scores])
    averages = mean_intervals(centred + means[:, None], texts, resamples=resamples, level=level)
    sizes = (~np.isnan(scores)).sum(axis=1).tolist()
    return [
        {"average": {**average, "value": value, "prompts": size}, "categories": own}
        for average, value, size, own in zip(averages, means.tolist(), sizes, parts, strict=True)
    ]


def largest_differences(differences: Floats, count: int = 6) -> list[int]:
    """List the numbers of the largest differences above 0, largest first; equal ones in the order of the prompts."""
    order = np.argsort(np.where(np.isnan(differences), np.inf, -differences), kind="stable")
    return [int(n) for n in order[:count] if differences[n] > 0]


# Files


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read and check a result file.

    Raises:
        InputError: the file cannot be read.
        RecordError: a part of it is not what it should be; the place in the document is named.
    """
    file = Path(path)
    value = read_json(file)
    whole = {**value, "path": file} if isinstance(value, dict) else value
    return parse(Result, whole, file, error=RecordError, cure=CURE)


def read_results(paths: Sequence[Path], *, least: int = 1) -> list[Entry]:
    """Read results of one suite and of models with different names.

    Raises:
        InputError: there are fewer than `least`, they are of different suites, or two have one name.
        RecordError: one of them is not what it should be.
    """
    if len(paths) < least:
        cure = "name more files made by `hpskit benchmark run`"
        raise InputError("results", f"are {len(paths)}", expected=f"at least {least}", cure=cure)
    results: list[Entry] = []
    names: dict[str, Path] = {}
    for path in paths:
        result = read_result(path)
        first = results[0] if results else result
        if result.suite.sha256 != first.suite.sha256:
            place, both = f"{first.path} and {result.path}", (first.suite, result.suite)
            found = f"are of {' and '.join(f'{suite.name!r} ({suite.sha256[:12]})' for suite in both)}"
            raise InputError(place, found, expected="results of one suite", cure="take each suite alone")
        if result.name in names:
            cure = "leave one out, or make it again with another --name"
            raise InputError(f"{names[result.name]} and {result.path}", f"are both of {result.name!r}", cure=cure)
        names[result.name] = result.path
        results.append(Entry.of(result, results[0] if results else None))
    return results


def same_scorer(label: str, results: Sequence[ResultAbout]) -> None:
    """See that a label stands for one scorer. Versions of hpskit may differ: its known answers hold for all of them."""
    first = results[0]
    for other in results:
        one, two = first.scorer(label).info, other.scorer(label).info
        if one.lasting_identity != two.lasting_identity:
            place = f"{first.path} and {other.path}: scorer {label!r}"
            cure = "scores of different identities cannot be compared; score both with one"
            raise InputError(place, f"is {one.identity!r} and {two.identity!r}", cure=cure)


def common_scorers(results: Sequence[ResultAbout], wanted: Sequence[str] = ()) -> list[str]:
    """List the labels that every result has, or those that are wanted; each stands for one scorer.

    Raises:
        InputError: a label stands for two scorers, or a result lacks one that is wanted.
    """
    every = results[0].labels if results else ()
    labels = wanted or [label for label in every if all(label in result.labels for result in results)]
    for label in labels:
        same_scorer(label, results)
    return list(dict.fromkeys(labels))


def repeats_note(texts: Index) -> str | None:
    """Tell the reader that prompts repeat one another; None if none does. `texts` are as of `text_numbers`."""
    if not (repeated := len(texts) - len(np.unique(texts))):
        return None
    what = "those of one text are one prompt in intervals, tests and wins, and weigh in means as often as they stand"
    return f"{repeated:,} of {len(texts):,} prompts {'repeats' if repeated == 1 else 'repeat'} another; {what}."


def relative_to(path: Path, folder: Path) -> str | None:
    """Write a path as seen from a folder, with `/`; None if it is no text or there is no way, as between two drives."""
    try:
        return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))).as_posix().encode().decode()
    except ValueError:
        return None
