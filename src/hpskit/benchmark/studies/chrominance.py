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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from hpskit.benchmark.result import Resampling, mean_interval
from hpskit.benchmark.studies.folders import ImageFolder, measured, open_folders
from hpskit.errors import InputError
from hpskit.pages.charts import Axis, Frame, axis_for, element
from hpskit.pages.page import figure_file, page
from hpskit.pixels import Encoded, open_image
from hpskit.pixels.statistics import BIN, FINE, PLANE, VIVID, ChromaDensity, gamut_outline, lab_to_srgb
from hpskit.stage import Ledger, Progress, check_free, heading, ledger_until_published, publish
from hpskit.stats.blocks import Floats
from hpskit.stats.comparison import holm
from hpskit.stats.density import SlicedWasserstein, compare_densities, draw_weights, jensen_shannon

_FORMAT = "hpskit chrominance 1"
_RECORD = "chrominance.json"
_DIRECTIONS = 16
_FIGURES = ("chroma", "saturation", "vivid")
"""Figures of each image besides its densities; see `ChromaDensity`."""

_FAINTEST = 1e-6
"""Share of the pixels in a bin that is not drawn any more."""
_BLUR = 1.0
"""Standard deviation in bins: takes the grain out of the picture; figures are of the densities as they are."""
_TICKS = (-80.0, -40.0, 0.0, 40.0, 80.0)
_A_HIGH, _B_HIGH = PLANE.a_low + PLANE.shape[1] * PLANE.width, PLANE.b_low + PLANE.shape[0] * PLANE.width
_FRAME = Frame(
    x=Axis(low=PLANE.a_low, high=_A_HIGH, ticks=_TICKS, title="a* (green to red)"),
    y=Axis(low=PLANE.b_low, high=_B_HIGH, ticks=_TICKS, title="b* (blue to yellow)"),
    height=296 * PLANE.shape[0] / PLANE.shape[1],
    grid="xy",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chrominance:
    """Settings of a chrominance study."""

    images: Sequence[str]
    """`NAME=DIR` or `DIR`, one for each model; every image below the folder counts."""
    out: Path
    """Folder for `chrominance.json`, `chrominance.html` and `chrominance.svg`."""
    size: int = 256
    """Longest side in pixels that images are reduced to before their colours are taken; smaller ones are left."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1000))
    """Bootstraps of the images, and deals of the permutation test."""
    command: str = ""
    """The command that makes this again."""

    def __post_init__(self) -> None:
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


def run(config: Chrominance, progress: Progress = lambda *_: None) -> dict[str, Any]:
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
    check_free(config.out, _RECORD, ("chrominance.html", "chrominance.svg"), _FORMAT)
    total, done = sum(len(folder.files) for folder in folders), itertools.count(1)
    settings = {"format": _FORMAT, "size": config.size}
    with ledger_until_published(config.out / f"{_RECORD}.partial", settings) as ledger:
        samples = [
            measure(folder, ledger, config.size, lambda: progress("measuring", next(done), total)) for folder in folders
        ]
        result = heading(_FORMAT, config.command) | compare(samples, config)
        publish(config.out, _RECORD, result, products(result, samples))
    return result


# Measure


def measure(folder: ImageFolder, ledger: Ledger, size: int, tick: Any = lambda: None) -> Sample:
    """Measure the colours of every image of a folder, reduced to `size`; `tick` is called after each image."""
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
    pairs = [compare_two(first, second, config.resampling) for first, second in itertools.combinations(samples, 2)]
    for name in ("wasserstein", "jensen_shannon"):
        for pair, p_value in zip(pairs, holm([pair[name]["p_value"] for pair in pairs]), strict=True):
            pair[name]["p_adjusted"] = float(p_value)
    models, resampling = [], asdict(config.resampling)
    for sample in samples:
        both = zip(_FIGURES, sample.figures, strict=True)
        intervals = {name: mean_interval(values, **resampling) for name, values in both}
        a, b = sample.fine @ FINE.centres
        models.append({**sample.folder.facts(sample.digests), **intervals, "mean_a": float(a), "mean_b": float(b)})
    settings = {"size": config.size, "bin": BIN, "vivid": VIVID, "directions": _DIRECTIONS, **resampling}
    return {"settings": settings, "models": models, "pairs": pairs}


def compare_two(first: Sample, second: Sample, resampling: Resampling) -> dict[str, Any]:
    """Compute the distances of two samples, and the difference of their mean chroma with its percentile interval."""
    paired = first.folder.keys == second.folder.keys
    measures = (SlicedWasserstein(PLANE.centres, _DIRECTIONS), jensen_shannon)
    densities, options = (first.densities, second.densities), asdict(resampling)
    wasserstein, js = compare_densities(*densities, measures, paired=paired, **options)
    rng = np.random.default_rng(resampling.seed)
    chroma, other_chroma = first.figures[0], second.figures[0]
    drawn = draw_weights(len(chroma), resampling.resamples, rng)
    other = drawn if paired else draw_weights(len(other_chroma), resampling.resamples, rng)
    ends = ((1 - resampling.level) / 2, (1 + resampling.level) / 2)
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


# Draw and publish


def products(result: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, bytes]:
    """Make the page and the plot; `result` is what `chrominance.json` holds."""
    maps = {sample.folder.name: (sample.fine, sample.light) for sample in samples}
    pictures = density_map(maps)
    pairs = sorted(result["pairs"], key=lambda pair: -pair["wasserstein"]["value"])
    ends = [pair["wasserstein"][name] for pair in pairs for name in ("value", "high", "chance")]
    html = page(
        "hpskit.benchmark.studies",
        "chrominance.html",
        result=result,
        pairs=pairs,
        axis=axis_for([0.0, *ends]),
        panels=[panel(name, picture) for name, picture in pictures.items()],
    )
    named = []
    for model in result["models"]:
        figures = f"n = {model['images']:,}, mean C* = {model['chroma']['value']:.1f}"
        named.append(panel(model["name"], pictures[model["name"]], figures))
    plot = figure_file("Chrominance", named, columns=4, cell=(430, 470), note="Dashed: what sRGB can show.")
    return {"chrominance.html": html.encode(), "chrominance.svg": plot.encode()}


def panel(name: str, picture: str, figures: str = "") -> Markup:
    """Draw the plane of one model; with `figures` the name stands above it, and they beside the name."""
    (left, top), (right, bottom) = _FRAME.at(PLANE.a_low, _B_HIGH), _FRAME.at(_A_HIGH, PLANE.b_low)
    place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_FRAME.at(a, b) for a, b in gamut_outline()))
    content = [element("polygon", class_="axis", stroke_dasharray="6 4", points=points)]
    content.append(element("image", preserveAspectRatio="none", href=picture, **place))
    if figures:
        content.append(element("text", name, class_="name", x=left, y=11))
        content.append(element("text", figures, x=right, y=11, text_anchor="end"))
    return _FRAME.draw(f"Density of the chroma plane, {name}", *content)


def density_map(maps: Mapping[str, tuple[Floats, Floats]]) -> dict[str, str]:
    """Draw the densities of several models on one scale: `data:` addresses of PNGs that fill the plane.

    `maps` are mean density and density times L* of each model, both (bins of half the width of `PLANE`,).
    """
    from scipy.ndimage import gaussian_filter

    shape = (2 * PLANE.shape[0], 2 * PLANE.shape[1])
    smooth = {
        name: [gaussian_filter(part.reshape(shape), _BLUR, mode="constant") for part in parts]
        for name, parts in maps.items()
    }
    highest = max(float(density.max()) for density, _ in smooth.values())
    return {name: picture_of(density, light, highest) for name, (density, light) in smooth.items()}


def picture_of(density: Floats, light: Floats, highest: float) -> str:
    """Colour each bin as the mean of its pixels, the more solid the more of them, by the logarithm of their share."""
    rows, columns = np.indices(density.shape)
    a, b = FINE.a_low + FINE.width * (columns + 0.5), FINE.b_low + FINE.width * (rows + 0.5)
    lightness = np.divide(light, density, out=np.full_like(density, 50.0), where=density > 0)
    colours = lab_to_srgb(np.stack([lightness, a, b], axis=-1))
    strength = np.log(np.maximum(density, _FAINTEST) / _FAINTEST) / np.log(highest / _FAINTEST)
    alpha = (255 * strength.clip(0, 1)).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(np.dstack([colours, alpha])[::-1]).save(data, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
