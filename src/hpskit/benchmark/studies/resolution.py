"""`hpskit study resolution`: how scores, ranks of models and agreement with people depend on the size of images.

Two questions are asked of every scorer. *Size*: what does it say of the same picture with fewer pixels? *Detail*: which
spatial frequencies does it use at all? For the second an image is low-pass filtered: reduced to k pixels, which hold no
more than k / 2 cycles across it (Nyquist), and enlarged to its own size again, so that nothing but detail is lost.

Source: Parmar, Zhang & Zhu 2022, arXiv 2104.11222 (filters that antialias); Touvron et al. 2019, arXiv 1906.06423
(networks depend on the size at test time); Schuirmann 1987 (equivalence by an interval inside of a margin).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from hpskit.benchmark.result import Resampling, described, mean_intervals, text_numbers
from hpskit.benchmark.studies.folders import open_folders
from hpskit.dataset.reading import open_data
from hpskit.errors import ImageError, InputError, listed
from hpskit.evaluation.groups import OWN_RULE, EvaluationSet, read_groups
from hpskit.images.layout import find_images
from hpskit.pages.charts import Frame, Point, Series, axis_for, legend, line_chart, value_axis
from hpskit.pages.page import figure_file, page
from hpskit.pixels import Encoded, check_head, open_image
from hpskit.prompts.suites import open_suite
from hpskit.scoring.book import Book, Request
from hpskit.scoring.contract import Candidate, check_candidates
from hpskit.scoring.scorer import PreferenceScorer
from hpskit.stage import Ledger, Progress, check_free, heading, publish
from hpskit.stats.accuracy import Accuracy, pair_accuracy
from hpskit.stats.blocks import Floats, Index
from hpskit.stats.comparison import rank_intervals
from hpskit.stats.correlation import kendall_tau_b
from hpskit.stats.intervals import bootstrap_accuracy, bootstrap_difference
from hpskit.stats.model_scores import averaged_by_prompt
from hpskit.stats.rules import ACCURACY_RULES

_FORMAT = "hpskit resolution 1"
_RECORD = "resolution.json"
_PRODUCTS = ("resolution.html", "resolution.svg")
_DETAILS = (32, 64, 96, 128, 160, 192, 224, 256, 384, 512, 768)
"""Short sides of the detail test, as far as they are below the largest size."""
_LARGEST = 8192
_FILTERS = {name.lower(): Image.Resampling[name] for name in ("LANCZOS", "BICUBIC", "BILINEAR", "BOX")}
"""Filters by name. All of Pillow's antialias when they reduce."""

Source: TypeAlias = Path | Encoded


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """Settings of a study of resolution."""

    out: Path
    """Folder for `resolution.json`, `resolution.html`, `resolution.svg` and `scores.ledger`, which is used again."""
    images: Sequence[str] = ()
    """`NAME=DIR` or `DIR`, one for each model, in the layout of `prompts`; empty if there is `data`."""
    prompts: str | None = None
    """Suite that the images were made for."""
    data: str | None = None
    """Data set of people's choices instead of images and prompts: adds agreement; see `open_data`."""
    data_format: str = "auto"
    image_root: Path | None = None
    sizes: str = "128,256,512"
    """Pixels of the short side, with commas; proportions are kept."""
    details: str | None = None
    """Short sides of the detail test, with commas; `none` leaves it out, None is a list up to the largest size."""
    rendered: bool = False
    """Whether each folder of `images` holds one for each size, named by it, of images that were made at that size."""
    filter: str = "lanczos"
    """Resampling filter: `lanczos`, `bicubic`, `bilinear` or `box`; all antialias, the first keeps most of the detail
    that a size can hold."""
    enlarge: bool = False
    """Whether images with a short side below the largest size may be enlarged; else they are an error."""
    threshold: float = 0.1
    """A change of scores that does not matter, as a share of their deviation among images of one prompt."""
    resampling: Resampling = field(default_factory=Resampling)
    command: str = ""
    """The command that makes this again."""

    def __post_init__(self) -> None:
        if len(self.pixels) < 2:
            raise InputError("sizes", f"are {self.sizes!r}", expected="two or more")
        if any(k >= self.pixels[-1] for k in self.cutoffs):
            found = f"are {self.details!r}"
            raise InputError("details", found, expected=f"sizes below the largest, {self.pixels[-1]}")
        if self.filter not in _FILTERS:
            raise InputError("filter", f"is {self.filter!r}", expected=f"one of {', '.join(_FILTERS)}")
        if not 0 < self.threshold < 10:
            raise InputError("threshold", f"is {self.threshold}", expected="a share of a deviation, such as 0.1")
        if (self.data is None) == (not self.images) or (self.prompts is None) == bool(self.images):
            found = "were not given alone" if self.images or self.prompts else "were not given"
            raise InputError("images", found, expected="NAME=DIR with --prompts, or --data")
        if self.rendered and self.data is not None:
            raise InputError("rendered", "is for folders of images", cure="leave it out with --data")

    @property
    def pixels(self) -> tuple[int, ...]:
        """The sizes, ascending."""
        return _numbers("sizes", self.sizes)

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """The short sides of the detail test, ascending."""
        if self.details is None:
            return tuple(k for k in _DETAILS if k < self.pixels[-1])
        return () if self.details == "none" else _numbers("details", self.details)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    parts = text.split(",")
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in parts]
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= _LARGEST for number in numbers):
        expected = f"different numbers from 1 to {_LARGEST} with commas, such as 128,256,512"
        raise InputError(name, f"are {text!r}", expected=expected)
    return tuple(sorted(numbers))


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """The images of a study, in order, and what they are of; arrays are (images,)."""

    prompts: Sequence[str]
    models: Sequence[str]
    """Who made each image; there are none if that is not known."""
    sources: Callable[[], Iterable[Sequence[Source]]]
    """Each image, or its renderings by size; read anew at each call."""
    about: dict[str, Any]
    groups: EvaluationSet | None = None


def run(config: Resolution, load: Callable[[], Sequence[Candidate]], progress: Progress = lambda *_: None) -> Any:
    """Score all images at all sizes, and publish; killed and run again it continues.

    `load` makes the scorers; it is called only after all images have been found and their sizes read.

    Returns:
        What `resolution.json` holds.

    Raises:
        InputError: images, prompts or data cannot be used, or an image is smaller than the largest size.
        ImageError: an image is missing or broken; nothing is skipped.
        OutputError: the output cannot be written, or holds something else.
    """
    check_free(config.out, _RECORD, _PRODUCTS, _FORMAT)
    material = rendered(config) if config.data is None else judged(config)
    facts = check_sizes(material, config)
    candidates = load()
    check_candidates(candidates)
    with Ledger(config.out / "scores.ledger", {"format": "hpskit resolution scores 1"}) as ledger:
        scores = score(material, candidates, Book(ledger), config, progress)
        settings = {name: getattr(config, name) for name in ("filter", "rendered", "enlarge", "threshold")}
        settings |= {"sizes": config.pixels, "details": config.cutoffs, **asdict(config.resampling)}
        result = {
            **heading(_FORMAT, config.command),
            "settings": settings,
            "source": material.about,
            "images": facts,
            "models": list(dict.fromkeys(material.models)),
            "scorers": [
                {**about(candidate), **figures_of(own, material, config)}
                for candidate, own in zip(candidates, scores, strict=True)
            ],
        }
        publish(config.out, _RECORD, result, products(result))
    return result


# Images


def judged(config: Resolution) -> Material:
    """Read a data set of people's choices; models are known if every group says who made its images."""
    data = open_data(config.data or "", format=config.data_format, image_root=config.image_root)
    groups = read_groups(data)
    rule = OWN_RULE.get(data.format, "ties-half")
    groups.check_judged(ACCURACY_RULES[rule])
    named = all(group.sources for group in groups.groups)
    return Material(
        prompts=[group.prompt for group in groups.groups for _ in group.images],
        models=[name for group in groups.groups for name in group.sources or ()] if named else [],
        sources=lambda: ((image,) for _, _, image in groups.images()),
        about={"data": groups.facts(), "rule": rule},
        groups=groups,
    )


def rendered(config: Resolution) -> Material:
    """Find the images of each model for a suite: one folder of them, or one for each size."""
    suite = open_suite(config.prompts or "", option="--prompts")
    found = list[tuple[str, str, tuple[Path, ...]]]()
    folders = open_folders(config.images)
    for folder in folders:
        places = [folder.root / str(size) for size in config.pixels] if config.rendered else [folder.root]
        sets = [find_images(suite, place).images for place in places]
        for prompt, *samples in zip(suite.prompts, *sets, strict=True):
            if len(counts := {len(paths) for paths in samples}) > 1:
                what, cure = f"has {min(counts)} to {max(counts)} images of {prompt.prompt!r}", "make what is missing"
                raise InputError(folder.root, what, expected="as many at each size", cure=cure)
            found += [(prompt.prompt, folder.name, paths) for paths in zip(*samples, strict=True)]
    named = [{"name": folder.name, "folder": str(folder.root)} for folder in folders]
    about = {"suite": {"name": suite.name, "sha256": suite.sha256}, "folders": named}
    prompts, models, paths = zip(*found, strict=True)
    return Material(prompts=prompts, models=models, sources=lambda: paths, about=about)


def check_sizes(material: Material, config: Resolution) -> dict[str, Any]:
    """Read the size of every image without decoding it, and say what a result says of the images.

    Raises:
        InputError: an image is smaller than the largest size and may not be enlarged, or was not rendered at the size
            of its folder; or there is one prompt only.
        ImageError: an image is missing, or begins like none.
    """
    largest, small, shapes = config.pixels[-1], list[str](), list[list[int]]()
    for images in material.sources():
        for image, size in zip(images, config.pixels, strict=False):  # one image, or one for each size
            place = image.place if isinstance(image, Encoded) else str(image)
            shapes.append(sorted(check_head(image)))
            if config.rendered and shapes[-1][0] != size:
                cure = "put each size into a folder of its own, or leave out --rendered to resample one"
                raise InputError(place, f"has a short side of {shapes[-1][0]} px", expected=str(size), cure=cure)
            if not config.rendered and shapes[-1][0] < largest:
                small.append(f"{place} ({shapes[-1][0]} px)")
    if small and not config.enlarge:
        found = f"has {len(small)} of {len(shapes)} with a short side below {largest} px: {listed(small, 3)}"
        raise InputError("images", found, cure="take smaller --sizes, or allow --enlarge")
    if (texts := len(set(material.prompts))) < 2:
        raise InputError("images", f"are of {texts} prompt", expected="2 or more", cure="intervals are over prompts")
    return {
        "used": len(material.prompts),
        "prompts": texts,
        "enlarged": len(small),
        "not_square": sum(short != long for short, long in shapes),
    }


def resized(image: Image.Image, short: int, filter_name: str) -> Image.Image:
    """Resample an image to a short side in pixels; proportions are kept, the long side is rounded.

    An image that has this size is returned as it is.
    """
    width, height = (round(side * short / min(image.size)) for side in image.size)
    return image if (width, height) == image.size else image.resize((width, height), _FILTERS[filter_name])


def without_detail(image: Image.Image, short: int, filter_name: str) -> Image.Image:
    """Reduce an image to a short side and enlarge it to its own size again: the detail test."""
    return resized(image, short, filter_name).resize(image.size, _FILTERS[filter_name])


def versions_of(images: Sequence[Source], config: Resolution) -> Iterator[Encoded]:
    """Make what is scored of one image: each size, then each detail. An image that has a size is its own file."""
    files = [image if isinstance(image, Encoded) else Encoded.read(image) for image in images]
    base = open_image(files[-1])
    if config.rendered:
        yield from files
    for size in () if config.rendered else config.pixels:
        found = resized(base, size, config.filter)
        yield files[-1] if found is base else stored(found, f"{files[-1].place} at {size} px")
    base = resized(base, config.pixels[-1], config.filter)
    for k in config.cutoffs:
        yield stored(without_detail(base, k, config.filter), f"{files[-1].place} with the detail of {k} px")


def stored(image: Image.Image, place: str) -> Encoded:
    """Write pixels as a file in memory, without loss."""
    data = io.BytesIO()
    image.save(data, "BMP")
    return Encoded(data.getvalue(), place)


def score(
    material: Material, candidates: Sequence[Candidate], book: Book, config: Resolution, progress: Progress
) -> NDArray[np.float64]:
    """Score every version of every image: (scorers, sizes and details, images)."""
    versions, images = len(config.pixels) + len(config.cutoffs), len(material.prompts)
    asked = list[str]()

    def requests() -> Iterator[Request]:
        for prompt, own in zip(material.prompts, material.sources(), strict=True):
            for version in versions_of(own, config):
                asked.append(prompt)
                yield version, prompt

    def broken(_number: int, error: ImageError) -> None:
        raise error

    digests = book.fill(
        [candidate.scorer for candidate in candidates],
        requests(),
        broken=broken,
        progress=lambda done: progress("scoring", done, versions * images),
        continuing=lambda known: progress("continuing", known, versions * images),
    ).digests
    both = list(zip(digests, asked, strict=True))
    found = [[book.score(one.scorer.info.identity, *each) for each in both] for one in candidates]
    return np.array(found).reshape(len(candidates), images, versions).transpose(0, 2, 1)


# Figures


def about(candidate: Candidate) -> dict[str, Any]:
    """Describe a scorer, with the side of its network's input in pixels, if it has one."""
    own = candidate.scorer
    preprocessing = own.preprocessing if isinstance(own, PreferenceScorer) else None
    facts = described(candidate)
    return {**facts, "info": facts["info"].to_json(), "input": preprocessing.size if preprocessing else None}


def figures_of(scores: Floats, material: Material, config: Resolution) -> dict[str, Any]:
    """Compute what is said of one scorer: `scores` are (sizes and details, images), see `score`."""
    clusters, options = text_numbers(material.prompts), asdict(config.resampling)
    last = len(config.pixels) - 1
    reference, change = scores[last], scores - scores[last]
    deviation = deviation_within(reference, clusters)
    means, differences, changes = (
        mean_intervals(rows, clusters, **options) for rows in (scores, change, np.abs(change))
    )
    steps = [None, *mean_intervals(np.diff(scores[: last + 1], axis=0), clusters, **options)]
    accuracies = [accuracy_of(row, material) for row in scores]
    tables = [model_table(row, material.models, clusters) for row in scores]
    rows: list[dict[str, Any]] = []
    for n, short in enumerate((*config.pixels, *config.cutoffs)):
        row = {"short_side": short, "mean": means[n], "difference": differences[n], "change": changes[n]}
        row["verdict"] = verdict(changes[n], config.threshold * deviation)
        row |= {"step": steps[n] if n <= last else None, "tau": tau(tables[n], tables[last])}
        row |= agreement(accuracies[n], accuracies[last], material, options)
        rows.append(row | (ranks(tables[n], material.models, options) if n <= last else {}))
    sizes, details = rows[: last + 1], rows[last + 1 :]
    return {
        "deviation": deviation,
        "threshold": config.threshold * deviation,
        "sizes": sizes,
        "details": details,
        "size_alike": smallest_alike(sizes[:-1]),
        "detail_alike": smallest_alike(details),
    }


def verdict(change: Mapping[str, float | None], limit: float) -> str:
    """Say whether all of an interval is below the limit, above it, or neither."""
    low, high = change["low"], change["high"]
    assert low is not None, "see check_sizes: there are two prompts"
    assert high is not None
    return "alike" if high <= limit else "differs" if low > limit else "open"


def deviation_within(scores: Floats, clusters: Index) -> float:
    """Standard deviation of scores among the images of one prompt, pooled; of all if each prompt has one image."""
    counts = np.bincount(clusters)
    if len(counts) == len(scores):
        return float(scores.std(ddof=1))
    within = scores - (np.bincount(clusters, weights=scores) / counts)[clusters]
    return float(np.sqrt((within**2).sum() / (len(scores) - len(counts))))


def smallest_alike(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """Find the smallest short side from which on, of all that were tried, scores are alike; None if there is none."""
    found = None
    for row in reversed(rows):
        if row["verdict"] != "alike":
            break
        found = row["short_side"]
    return found


def accuracy_of(scores: Floats, material: Material) -> Accuracy | None:
    """Measure the agreement with people; None where nobody was asked."""
    if material.groups is None:
        return None
    groups = material.groups.groups
    own = np.split(scores, np.cumsum([len(group.images) for group in groups])[:-1])
    return pair_accuracy(own, [group.verdicts() for group in groups], material.about["rule"])


def agreement(
    own: Accuracy | None, reference: Accuracy | None, material: Material, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Give the accuracy and its paired difference from that at the largest size, shares from 0 to 1, with intervals."""
    if own is None or reference is None or material.groups is None:
        return {"accuracy": None, "accuracy_difference": None}
    clusters = material.groups.clusters()
    found: dict[str, Any] = {
        "accuracy": {"value": own.value, "low": None, "high": None},
        "accuracy_difference": {"value": own.value - reference.value, "low": None, "high": None, "p_value": None},
    }
    if len(np.unique(clusters[own.weight > 0])) > 1:  # one prompt says nothing of others
        options = {"clusters": clusters, **options}
        value, difference = bootstrap_accuracy(own, **options), bootstrap_difference(own, reference, **options)
        found["accuracy"] |= {"low": value.low, "high": value.high}
        found["accuracy_difference"] |= {name: getattr(difference, name) for name in ("low", "high", "p_value")}
    return found


def model_table(scores: Floats, models: Sequence[str], clusters: Index) -> Floats | None:
    """Average the scores of each model for each prompt that all of them have: (models, prompts).

    None if there are not two models and two such prompts.
    """
    names = list(dict.fromkeys(models))
    if len(names) < 2:
        return None
    table = np.full((len(names), len(models)), np.nan)
    table[[names.index(name) for name in models], np.arange(len(models))] = scores
    averaged = averaged_by_prompt(table, clusters)
    common = ~np.isnan(averaged).any(axis=0)
    return averaged[:, common] if common.sum() > 1 else None


def tau(own: Floats | None, reference: Floats | None) -> float | None:
    """Correlate the order of the models' means (Kendall's tau-b) with that at the largest size.

    It has no interval: bootstrapped ranks are noisier than those of the data, so percentiles lie too low.
    """
    if own is None or reference is None:
        return None
    found = float(kendall_tau_b([own.mean(axis=1)], [-reference.mean(axis=1)])[0])
    return None if np.isnan(found) else found


def ranks(own: Floats | None, models: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Rank the models."""
    if own is None:
        return {"ranks": [], "rank_prompts": 0}
    found = rank_intervals(own, **options)
    columns = (own.mean(axis=1).tolist(), found.rank.tolist(), found.low.tolist(), found.high.tolist())
    rows = zip(dict.fromkeys(models), *columns, strict=True)
    named = [dict(zip(("model", "mean", "rank", "low", "high"), row, strict=True)) for row in rows]
    return {"ranks": named, "rank_prompts": found.prompts}


# Page and plot


def products(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Make the page and the plot; `result` is what `resolution.json` holds."""
    shown = {scorer["label"]: panels(scorer) for scorer in result["scorers"]}
    ways = legend([Series(name=name, colour=colour, points=()) for name, colour in _WAYS.values()])
    html = page("hpskit.benchmark.studies", "resolution.html", result=result, shown=shown, ways=ways)
    drawn = [chart for charts in shown.values() for chart in charts.values()]
    columns = max(map(len, shown.values()))
    note = "Blue: images of that size. Orange: reduced to that size and enlarged again."
    plot = figure_file("Resolution", drawn, columns=columns, cell=(380, 280), note=note)
    return {"resolution.html": html.encode(), "resolution.svg": plot.encode()}


_WAYS = {"sizes": ("images of that size", "c0"), "details": ("reduced to that size and enlarged again", "c1")}


def panels(scorer: Mapping[str, Any]) -> dict[str, Markup]:
    """Draw the charts of a scorer, each by its title."""
    charts = {
        "Mean score": panel(scorer, "mean", "points", 1.0),
        "Change of a score": panel(scorer, "change", "mean absolute change, points", 1.0, scorer["threshold"]),
    }
    if scorer["sizes"][0]["accuracy"]:
        charts["Agreement with people"] = panel(scorer, "accuracy", "accuracy, %", 100.0)
    return charts


def panel(scorer: Mapping[str, Any], figure: str, y_title: str, scale: float, threshold: float | None = None) -> Markup:
    """Draw a figure against the short side, by size and by detail, with the input of the network as a dotted line."""

    def point(row: Mapping[str, Any]) -> Point:
        side = row["short_side"]
        y, low, high = (
            None if (end := row[figure][name]) is None else scale * end for name in ("value", "low", "high")
        )
        return Point(x=side, y=y, low=low, high=high, title=f"{side} px")

    series = [
        Series(name=name, colour=colour, points=[point(row) for row in scorer[way]])
        for way, (name, colour) in _WAYS.items()
        if scorer[way]
    ]
    sides = sorted({point.x for one in series for point in one.points})
    ends = [
        end for one in series for point in one.points for end in (point.y, point.low, point.high) if end is not None
    ]
    if threshold is not None:
        ends += [0.0, threshold]
        limit = [Point(x=side, y=threshold) for side in (sides[0], sides[-1])]
        series.append(Series(name="threshold", colour="quoted", points=limit, marks=False, dashed=True))
    x = value_axis(sides, [f"{side:g}" for side in sides], title="short side, pixels", logarithmic=True)
    rule = (scorer["input"], "input of the network") if scorer["input"] and x.holds(scorer["input"]) else None
    frame = Frame(x=x, y=axis_for(ends, steps=4, title=y_title), rule=rule)
    return line_chart(f"{y_title} against the short side", frame, series)
