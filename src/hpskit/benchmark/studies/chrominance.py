"""`hpskit study chrominance`: where in the chroma plane the images of each model lie.

The paper compares generators by the distribution of their colours. It also shows a reward that is being gamed: images
tuned too long for a preference score grow oily and saturated.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpskit import __version__
from hpskit.benchmark.studies.chroma_plane import density_map, outline_map
from hpskit.benchmark.studies.folders import ImageFolder, measured, open_folders
from hpskit.errors import InputError
from hpskit.pages.axes import axis_for
from hpskit.pages.charts import colour_of
from hpskit.pages.page import figure_file, page
from hpskit.pixels import Encoded, open_image
from hpskit.pixels.statistics import BIN, FINE_BIN, PLANE, VIVID, ChromaDensity
from hpskit.stage import Ledger, Progress, check_free, ledger_until_published, publish
from hpskit.stats import bootstrap_mean, check_settings, holm
from hpskit.stats.density import SlicedWasserstein, compare_densities, draw_weights, jensen_shannon

__all__ = ["Chrominance", "Sample", "measure", "run"]

_FORMAT = "hpskit chrominance 1"
_RECORD = "chrominance.json"
_DIRECTIONS = 16
_FIGURES = ("chroma", "saturation", "vivid")
"""What is measured of each image besides its densities; see `ChromaDensity`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chrominance:
    """Settings of a chrominance study."""

    images: Sequence[str]
    """`NAME=DIR` or `DIR`, one for each model; every image below the folder counts."""
    out: Path
    """Folder for `chrominance.json`, `chrominance.html`, `chrominance.svg` and `densities.npz`."""
    size: int = 256
    """Longest side in pixels that images are reduced to before their colours are taken; smaller ones are left."""
    resamples: int = 1000
    """Bootstrap resamples of the images, and deals of the permutation test."""
    level: float = 0.95
    """Nominal coverage of the intervals, 0 to 1."""
    seed: int = 0
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        check_settings(self.resamples, self.level)
        if not 16 <= self.size <= 4096:
            raise InputError("size", f"is {self.size}", expected="16 to 4096 pixels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The colours of one model's images."""

    folder: ImageFolder
    digests: tuple[str, ...]
    """SHA-256 of each file."""
    densities: NDArray[np.float32]
    """(images, bins of `PLANE`): share of the pixels."""
    fine: Floats
    """(bins of half the width,): mean share of the pixels."""
    light: Floats
    """(bins of half the width,): the same, times the L* of those pixels."""
    figures: Floats
    """(3, images): chroma, saturation and share of vivid pixels; see `ChromaDensity`."""


def run(config: Chrominance, progress: Progress = lambda _what, _done, _total: None) -> dict[str, Any]:
    """Measure all images, compare the models, and publish; killed and run again it continues.

    Returns:
        What `chrominance.json` holds.

    Raises:
        InputError: a folder cannot be used, or has fewer than two images.
        ImageError: an image is missing or broken; nothing is skipped.
        OutputError: the output cannot be written, or holds something else.
    """
    folders = open_folders(config.images)
    for folder in folders:
        if len(folder.files) < 2:
            raise InputError(folder.root, "holds one image", expected="at least 2", cure="add images of that model")
    check_free(config.out, _RECORD, (), _FORMAT)
    total, done = sum(len(folder.files) for folder in folders), itertools.count(1)
    settings = {"format": _FORMAT, "size": config.size}
    with ledger_until_published(config.out / f"{_RECORD}.partial", settings) as ledger:
        samples = [
            measure(folder, ledger, config.size, lambda: progress("measuring", next(done), total)) for folder in folders
        ]
        about = {"format": _FORMAT, "package": f"hpskit {__version__}", "command": config.command}
        result = about | compare(samples, config)
        publish(config.out, _RECORD, result, products(result, samples))
    return result


# Measure


def measure(folder: ImageFolder, ledger: Ledger, size: int, tick: Any = lambda: None) -> Sample:
    """Measure the colours of every image of a folder.

    Args:
        folder: the images.
        ledger: keeps what is measured.
        size: longest side that images are reduced to.
        tick: called after each image.

    Raises:
        ImageError: an image is missing or broken.
    """
    densities = np.empty((len(folder.files), len(PLANE.centres)), dtype=np.float32)
    maps = np.zeros((2, 4 * len(PLANE.centres)))
    figures, digests = np.empty((len(_FIGURES), len(folder.files))), []
    colours = functools.partial(colours_of, size=size)
    for n, (digest, value) in enumerate(measured(folder.files, ledger, f"chrominance {size}", colours)):
        own = np.frombuffer(zlib.decompress(base64.b64decode(value["maps"])), np.float32).reshape(2, -1)
        densities[n] = PLANE.coarser(own[0])
        maps += own
        figures[:, n] = [value[name] for name in _FIGURES]
        digests.append(digest)
        tick()
    fine, light = maps / len(digests)
    return Sample(folder=folder, digests=tuple(digests), densities=densities, fine=fine, light=light, figures=figures)


def colours_of(images: Sequence[Encoded], pool: Executor, *, size: int) -> list[dict[str, Any]]:
    """Measure images, and write what is found for a ledger, without loss; most bins are empty and take no room."""

    def one(image: Encoded) -> dict[str, Any]:
        found = ChromaDensity.of(np.asarray(reduced(image, size)))
        maps = zlib.compress(np.stack([found.fine, found.light]).tobytes(), 1)
        return {"maps": base64.b64encode(maps).decode(), **{name: getattr(found, name) for name in _FIGURES}}

    return list(pool.map(one, images))


def reduced(encoded: Encoded, size: int) -> Image.Image:
    """Decode an image with its longest side at most `size` pixels, each the mean of those that it stands for."""
    image = open_image(encoded, draft=size)
    scale = size / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


# Compare


def compare(samples: Sequence[Sample], config: Chrominance) -> dict[str, Any]:
    """Compute everything that is said of the samples, ready for JSON; see docs/studies.md."""
    pairs = [compare_two(first, second, config) for first, second in itertools.combinations(samples, 2)]
    for name in ("wasserstein", "jensen_shannon"):
        for pair, p_value in zip(pairs, holm([pair[name]["p_value"] for pair in pairs]), strict=True):
            pair[name]["p_adjusted"] = float(p_value)
    models = []
    for sample in samples:
        intervals = {}
        for name, values in zip(_FIGURES, sample.figures, strict=True):
            found = bootstrap_mean(values, resamples=config.resamples, level=config.level, seed=config.seed)
            intervals[name] = {"value": found.value, "low": found.low, "high": found.high}
        a, b = sample.densities.mean(axis=0, dtype=np.float64) @ PLANE.centres
        models.append({**sample.folder.facts(sample.digests), **intervals, "mean_a": float(a), "mean_b": float(b)})
    settings = {
        "size": config.size,
        "bin": BIN,
        "vivid": VIVID,
        "directions": _DIRECTIONS,
        "resamples": config.resamples,
        "level": config.level,
        "seed": config.seed,
    }
    return {"settings": settings, "models": models, "pairs": pairs}


def compare_two(first: Sample, second: Sample, config: Chrominance) -> dict[str, Any]:
    """Compute the distances of two samples, and the difference of their mean chroma with its percentile interval."""
    paired = first.folder.keys == second.folder.keys
    settings: dict[str, Any] = {"resamples": config.resamples, "level": config.level, "seed": config.seed}
    measures = (SlicedWasserstein(PLANE.centres, _DIRECTIONS), jensen_shannon)
    wasserstein, js = compare_densities(first.densities, second.densities, measures, paired=paired, **settings)
    rng = np.random.default_rng(config.seed)
    chroma, other_chroma = first.figures[0], second.figures[0]
    drawn = draw_weights(len(chroma), config.resamples, rng)
    other = drawn if paired else draw_weights(len(other_chroma), config.resamples, rng)
    ends = ((1 - config.level) / 2, (1 + config.level) / 2)
    low, high = np.quantile(other @ other_chroma - drawn @ chroma, ends)
    difference = float(other_chroma.mean() - chroma.mean())
    return {
        "first": first.folder.name,
        "second": second.folder.name,
        "paired": paired,
        "wasserstein": asdict(wasserstein),
        "jensen_shannon": asdict(js),
        "chroma_difference": {"value": difference, "low": float(low), "high": float(high)},
    }


# Publish


def products(result: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, bytes]:
    """Make the page, the plot and the densities; `result` is what `chrominance.json` holds."""
    maps = {sample.folder.name: (sample.fine, sample.light) for sample in samples}
    panels = density_map(maps)
    pairs = sorted(result["pairs"], key=lambda pair: -pair["wasserstein"]["value"])
    ends = [pair["wasserstein"][name] for pair in pairs for name in ("value", "high", "chance")]
    html = page(
        "hpskit.benchmark.studies",
        "chrominance.html",
        result=result,
        pairs=pairs,
        axis=axis_for([0.0, *ends]),
        panels=[panel.draw() for panel in panels],
        colours=[colour_of(n) for n in range(len(panels))],
        outlines=outline_map(panels),
    )
    named = [
        panel.draw(f"n = {model['images']:,}, mean C* = {model['chroma']['value']:.1f}")
        for panel, model in zip(panels, result["models"], strict=True)
    ]
    note = "Lines: smallest regions with 50, 90 and 99 % of the pixels. Dashed: what sRGB can show."
    arrays, shape = io.BytesIO(), (2 * PLANE.shape[0], 2 * PLANE.shape[1])
    rows = {f"density_{number}": sample.fine.reshape(shape) for number, sample in enumerate(samples)}
    a, b = (low + FINE_BIN * (np.arange(n) + 0.5) for low, n in ((PLANE.a_low, shape[1]), (PLANE.b_low, shape[0])))
    np.savez_compressed(arrays, a=a, b=b, names=np.array(list(maps)), **rows)  # type: ignore[arg-type]
    return {
        "chrominance.html": html.encode(),
        "chrominance.svg": figure_file("Chrominance", named, columns=4, cell=(430, 470), note=note).encode(),
        "densities.npz": arrays.getvalue(),
    }
