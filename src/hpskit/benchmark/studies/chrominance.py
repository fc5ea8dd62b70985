"""`hpskit study chrominance` as a stage: where in the chroma plane do the images of each model lie?

The paper compares generators by the distribution of their colours. It also shows a reward that is being gamed: images
tuned too long for a preference score grow oily and saturated.

While it works, what is measured goes into `OUT/chrominance.json.partial`; killed and run again it continues there.
"""

from __future__ import annotations

import base64
import io
import itertools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpskit import __version__
from hpskit.benchmark.studies.chrominance_page import chrominance_page, chrominance_plot
from hpskit.benchmark.studies.folders import ImageFolder, open_folders
from hpskit.benchmark.unfinished import begin, unfinished
from hpskit.errors import InputError
from hpskit.files import AppendLog, check_free, publish_set, sha256_file
from hpskit.pixels import check_file, open_image
from hpskit.pixels.statistics import BIN, FINE_BIN, PLANE, VIVID, ChromaDensity
from hpskit.stats import bootstrap_mean, check_settings, holm
from hpskit.stats.density import SlicedWasserstein, compare_densities, draw_weights, jensen_shannon

__all__ = ["Chrominance", "Measures", "Sample", "measure", "run"]

_FORMAT = "hpskit chrominance 1"
_RECORD = "chrominance.json"
_LOG_FORMAT = "hpskit chrominance measures 1"
_DIRECTIONS = 16
_FIGURES = ("chroma", "saturation", "vivid")
"""Of each image, besides its densities; see `ChromaDensity`."""
_AT_ONCE = 16
"""Images that are logged together: what a kill can cost; to bring each to the disk alone would take longer."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chrominance:
    """Whose colours, how measured, and where to put it."""

    images: Sequence[str]
    """`NAME=DIR` or `DIR`, one for each model; every image below the folder counts."""
    out: Path
    """Folder for `chrominance.json`, `chrominance.html`, `chrominance.svg` and `densities.npz`."""
    size: int = 256
    """Longest side in pixels that images are reduced to before their colours are taken; smaller ones are left."""
    resamples: int = 1000
    """Of the bootstrap over images, and deals of the permutation test."""
    level: float = 0.95
    """Nominal coverage of the intervals, 0 to 1."""
    seed: int = 0
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        check_settings(self.resamples, self.level)
        if not 16 <= self.size <= 4096:
            raise InputError(f"size: is {self.size}, expected 16 to 4096 pixels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The colours of one model's images."""

    folder: ImageFolder
    digests: tuple[str, ...]
    """SHA-256 of each file."""
    densities: NDArray[np.float32]
    """(images, bins of `PLANE`): share of the pixels."""
    fine: NDArray[np.float64]
    """(bins of half the width,): mean share of the pixels."""
    light: NDArray[np.float64]
    """The same, times the L* of those pixels."""
    chroma: NDArray[np.float64]
    """(images,), see `ChromaDensity`."""
    saturation: NDArray[np.float64]
    """(images,)."""
    vivid: NDArray[np.float64]
    """(images,)."""


def run(config: Chrominance, progress: Progress = lambda _done, _total: None) -> dict[str, Any]:
    """Measure all images, compare the models, and publish.

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
            raise InputError(f"{folder.root}: holds one image, expected at least 2; one image is no sample of a model")
    check_free(config.out, _RECORD, (), _FORMAT)
    total = sum(len(folder.files) for folder in folders)
    done = itertools.count(1)
    with unfinished(config.out / f"{_RECORD}.partial") as log:
        measures = Measures(log, config.size)
        samples = [measure(folder, measures, lambda: progress(next(done), total)) for folder in folders]
        result = {
            "format": _FORMAT,
            "package": f"hpskit {__version__}",
            "command": config.command,
            **compare(samples, config),
        }
        _publish(config.out, result, samples)
    return result


class Measures:
    """The colours of images by the SHA-256 of their files: each measured once, kept in a log on disk."""

    def __init__(self, log: AppendLog, size: int) -> None:
        """`size` is the longest side that images are reduced to, see `Chrominance`.

        Raises:
            OutputError: the log is of another size.
        """
        begin(log, {"format": _LOG_FORMAT, "size": size}, "at another --size")
        self._log, self._size = log, size
        self._known = {line["sha256"]: line for line in log.lines[1:]}
        self._new: list[dict[str, Any]] = []

    def of(self, files: Sequence[Path]) -> Iterator[tuple[ChromaDensity, str]]:
        """The colours and the hash of each file, in order; several are read at once.

        Raises:
            ImageError: an image is missing or broken.
        """
        pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hpskit-decode")
        try:
            for found, digest in pool.map(self._one, files):
                if digest not in self._known:
                    self._keep(found, digest)
                yield found, digest
            self._write()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, path: Path) -> tuple[ChromaDensity, str]:
        check_file(path)
        digest = sha256_file(path)
        if (line := self._known.get(digest)) is not None:
            return _from_line(line), digest
        return ChromaDensity.of(np.asarray(_reduced(path, self._size))), digest

    def _keep(self, found: ChromaDensity, digest: str) -> None:
        line = {"sha256": digest, **_to_line(found)}
        self._known[digest] = line
        self._new.append(line)
        if len(self._new) >= _AT_ONCE:
            self._write()

    def _write(self) -> None:
        self._log.append(*self._new)
        self._new = []


def _to_line(found: ChromaDensity) -> dict[str, Any]:
    """Without loss; most bins are empty and take no room."""
    maps = zlib.compress(np.stack([found.fine, found.light]).tobytes(), 1)
    figures = {name: getattr(found, name) for name in _FIGURES}
    return {"maps": base64.b64encode(maps).decode(), **figures}


def _from_line(line: Mapping[str, Any]) -> ChromaDensity:
    fine, light = np.frombuffer(zlib.decompress(base64.b64decode(line["maps"])), np.float32).reshape(2, -1)
    return ChromaDensity(fine=fine, light=light, **{name: line[name] for name in _FIGURES})


def measure(folder: ImageFolder, measures: Measures, tick: Callable[[], object] = lambda: None) -> Sample:
    """The colours of every image of a folder.

    Raises:
        ImageError: an image is missing or broken.
    """
    densities = np.empty((len(folder.files), len(PLANE.centres)), dtype=np.float32)
    fine, light = np.zeros((2, 4 * len(PLANE.centres)))
    rows: list[tuple[float, ...]] = []
    digests: list[str] = []
    for found, digest in measures.of(folder.files):
        densities[len(rows)] = found.coarse
        fine += found.fine
        light += found.light
        rows.append(tuple(getattr(found, name) for name in _FIGURES))
        digests.append(digest)
        tick()
    chroma, saturation, vivid = np.array(rows).T
    return Sample(
        folder=folder,
        digests=tuple(digests),
        densities=densities,
        fine=fine / len(rows),
        light=light / len(rows),
        chroma=chroma,
        saturation=saturation,
        vivid=vivid,
    )


def _reduced(path: Path, size: int) -> Image.Image:
    """The image with its longest side at most `size` pixels, each the mean of those that it stands for."""
    image = open_image(path, draft=size)
    scale = size / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def compare(samples: Sequence[Sample], config: Chrominance) -> dict[str, Any]:
    """Everything that is to be said of the samples, ready for JSON; see docs/studies.md."""
    pairs = [_pair(first, second, config) for first, second in itertools.combinations(samples, 2)]
    for name in ("wasserstein", "jensen_shannon"):
        for pair, p_value in zip(pairs, holm([pair[name]["p_value"] for pair in pairs]), strict=True):
            pair[name]["p_adjusted"] = float(p_value)
    return {
        "settings": {
            "size": config.size,
            "bin": BIN,
            "vivid": VIVID,
            "directions": _DIRECTIONS,
            "resamples": config.resamples,
            "level": config.level,
            "seed": config.seed,
        },
        "models": [_model(sample, config) for sample in samples],
        "pairs": pairs,
    }


def _model(sample: Sample, config: Chrominance) -> dict[str, Any]:
    a, b = sample.densities.mean(axis=0, dtype=np.float64) @ PLANE.centres
    return {
        **sample.folder.facts(sample.digests),
        **{name: _interval(getattr(sample, name), config) for name in _FIGURES},
        "mean_a": float(a),
        "mean_b": float(b),
    }


def _interval(values: NDArray[np.float64], config: Chrominance) -> dict[str, float]:
    found = bootstrap_mean(values, resamples=config.resamples, level=config.level, seed=config.seed)
    return {"value": found.value, "low": found.low, "high": found.high}


def _pair(first: Sample, second: Sample, config: Chrominance) -> dict[str, Any]:
    paired = first.folder.keys == second.folder.keys
    wasserstein, js = compare_densities(
        first.densities,
        second.densities,
        (SlicedWasserstein(PLANE.centres, _DIRECTIONS), jensen_shannon),
        paired=paired,
        resamples=config.resamples,
        level=config.level,
        seed=config.seed,
    )
    return {
        "first": first.folder.name,
        "second": second.folder.name,
        "paired": paired,
        "wasserstein": asdict(wasserstein),
        "jensen_shannon": asdict(js),
        "chroma_difference": _difference(first.chroma, second.chroma, paired, config),
    }


def _difference(
    first: NDArray[np.float64], second: NDArray[np.float64], paired: bool, config: Chrominance
) -> dict[str, float]:
    """Mean of the second minus mean of the first, with its percentile interval over images."""
    rng = np.random.default_rng(config.seed)
    drawn = draw_weights(len(first), config.resamples, rng)
    other = drawn if paired else draw_weights(len(second), config.resamples, rng)
    ends = ((1 - config.level) / 2, (1 + config.level) / 2)
    low, high = np.quantile(other @ second - drawn @ first, ends)
    return {"value": float(second.mean() - first.mean()), "low": float(low), "high": float(high)}


def _publish(out: Path, result: dict[str, Any], samples: Sequence[Sample]) -> None:
    """Page, plot and densities, and the record with their hashes: it says that they are complete."""
    maps = {sample.folder.name: (sample.fine, sample.light) for sample in samples}
    arrays = io.BytesIO()
    shape = (2 * PLANE.shape[0], 2 * PLANE.shape[1])
    rows = {f"density_{number}": sample.fine.reshape(shape) for number, sample in enumerate(samples)}
    a, b = (low + FINE_BIN * (np.arange(n) + 0.5) for low, n in ((PLANE.a_low, shape[1]), (PLANE.b_low, shape[0])))
    np.savez_compressed(arrays, a=a, b=b, names=np.array(list(maps)), **rows)  # type: ignore[arg-type]
    written = {
        "chrominance.html": chrominance_page(result, maps).encode(),
        "chrominance.svg": chrominance_plot(result, maps).encode(),
        "densities.npz": arrays.getvalue(),
    }
    publish_set(out, _RECORD, result, written)
