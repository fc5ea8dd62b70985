"""Drop-in for the official package: `from hpskit import hpsv2` instead of `import hpsv2`.

The scale is the official one (raw cosines), and so are the defaults, v2.0 for `score` and v2.1 for `evaluate` among
them. Three things differ: a model is loaded once and kept; a missing or broken image is an error instead of a gap;
`evaluate` and `evaluate_benchmark` return what the official ones print. For new code use `hpskit.load_scorer`.

`hps_version` is `v2.0` or `v2.1`; `cp` is a checkpoint file to use instead, of the architecture ViT-H-14.

    from hpskit import hpsv2
    hpsv2.score(["a.jpg", "b.jpg"], "a cat with two horns on its head", hps_version="v2.1")
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from hpskit.dataset.fetch import Wanted, fetch
from hpskit.errors import InputError
from hpskit.hub import hub_files
from hpskit.images.layout import find_images
from hpskit.models.loading import load_network
from hpskit.models.network import Network, choose_device
from hpskit.pixels import check_files
from hpskit.prompts.suites import STYLES, Suite, make_suite, rows_of, style_prompts
from hpskit.records import ScorerInfo
from hpskit.scoring.scorer import NetworkScorer
from hpskit.stats.model_scores import style_result

if TYPE_CHECKING:
    from hpskit.scoring.contract import ImageLike

__all__ = [
    "STYLES",
    "StyleScore",
    "benchmark_prompts",
    "evaluate",
    "evaluate_benchmark",
    "get_available_models",
    "score",
]

_VERSIONS = {"v2.0": "hps-v2.0", "v2.1": "hps-v2.1"}
_DATA = "zhwang/HPDv2"
_ARCHIVES = {
    "ChilloutMix": "CM",
    "CogView2": "Cog2",
    "DALL·E mini": "DALLE-mini",
    "DALL·E 2": "DALLE",
    "DeepFloyd-XL": "DF-IF",
    "Dreamlike Photoreal 2.0": "DL",
    "Deliberate": "Deliberate",
    "Epic Diffusion": "ED",
    "FuseDream": "FD",
    "Latent Diffusion": "LDM",
    "LAFITE": "Laf",
    "MajicMix Realistic": "MM",
    "Openjourney": "OJ",
    "Realistic Vision": "RV",
    "SDXL Base 0.9": "SDXL-base-0.9",
    "SDXL Refiner 0.9": "SDXL-refiner-0.9",
    "SDXL Base 1.0": "SDXL-base-1.0",
    "SDXL Refiner 1.0": "SDXL-refiner-1.0",
    "Versatile Diffusion": "VD",
    "VQ-Diffusion": "VQD",
    "VQGAN + CLIP": "VQGAN",
    "GLIDE": "glide",
    "Stable Diffusion v1.4": "sdv1",
    "Stable Diffusion v2.0": "sdv2",
}
"""Names of the published image archives by model, as in `hpsv2.model_ab_dict`."""


class StyleScore(TypedDict):
    """One line of the official print-out."""

    mean: float
    """Mean of the means of groups of 80, x100 scale."""
    deviation: float
    """Population standard deviation of those means; 0 for the average."""
    images: int


def score(
    imgs_path: ImageLike | Sequence[ImageLike], prompt: str, hps_version: str = "v2.0", *, cp: str | None = None
) -> list[np.float32]:
    """Score one image or a list of them for one prompt, as `hpsv2.score`: one cosine each (not multiplied by 100)."""
    return [*(_scorer(hps_version, cp).score(imgs_path, prompt).numpy() / np.float32(100))]


def benchmark_prompts(style: str = "all") -> dict[str, list[str]] | list[str]:
    """Return the prompts of the benchmark: 800 for one style, or all four styles by name.

    They come from `$HPS_ROOT/datasets/benchmark` (where the official package keeps them, `~/.cache/hpsv2` if
    HPS_ROOT is not set), else from the hub.

    Raises:
        InputError: the style is unknown.
        NotCachedError: they are not on this machine and cannot be fetched.
    """
    if style not in ("all", *STYLES):
        raise InputError("style", f"is {style!r}", expected=f"one of all, {', '.join(STYLES)}", cure="correct it")
    wanted = STYLES if style == "all" else (style,)
    prompts = {name: [prompt.prompt for prompt in _suite([name]).prompts] for name in wanted}
    return prompts if style == "all" else prompts[style]


def evaluate(
    imgs_path: str | os.PathLike[str], batch_size: int = 20, hps_version: str = "v2.1", *, cp: str | None = None
) -> dict[str, StyleScore]:
    """Run the benchmark on a folder of images, as `hpsv2.evaluate`.

    Args:
        imgs_path: folder with `STYLE/00000.jpg` and so on (or `.png`, `.webp`), for one or more of the four styles.
        batch_size: images per step; does not change the result.
        hps_version: see the module, as for `cp`.
        cp: a checkpoint file.

    Returns:
        Style -> mean, deviation and number of images, and `average` over all images.

    Raises:
        InputError: the folder has none of the styles, or its images do not fit the prompts; see `find_images`.
    """
    root = Path(imgs_path)
    styles = [style for style in STYLES if (root / style).is_dir()]
    if not styles:
        raise InputError(root, f"has none of the folders {', '.join(STYLES)}", cure="name the folder above them")
    suite = _suite(styles)
    found = find_images(suite, root)
    images = found.images
    for note in found.notes:
        warnings.warn(f"{root}: {note}", stacklevel=2)
    check_files([path for paths in images for path in paths])
    pairs = [(path, prompt.prompt) for prompt, paths in zip(suite.prompts, images, strict=True) for path in paths]
    scorer = NetworkScorer(*_network(hps_version, cp), batch_size=batch_size)
    flat = iter(scorer.score(*map(list, zip(*pairs, strict=True))).double().tolist())
    scores = np.array([np.mean([next(flat) for _ in paths]) for paths in images])
    categories = np.array([prompt.category for prompt in suite.prompts])
    result: dict[str, StyleScore] = {}
    for style in styles:
        summary = style_result(scores[categories == style])
        count = int((categories == style).sum())
        result[style] = StyleScore(mean=summary.mean, deviation=summary.deviation, images=count)
    result["average"] = StyleScore(mean=float(scores.mean()), deviation=0.0, images=len(scores))
    return result


def get_available_models() -> list[str]:
    """List the models whose benchmark images are published, as `hpsv2.get_available_models`.

    Raises:
        NotCachedError: the hub cannot be asked, and has not been before.
    """
    names = {archive: name for name, archive in _ARCHIVES.items()}
    found = (PurePosixPath(file.path) for file in hub_files(_DATA, cure="score a folder of images with `evaluate`"))
    stems = (path.name.split(".tar", 1)[0] for path in found if str(path.parent) == "benchmark/benchmark_imgs")
    return [names.get(stem, stem) for stem in dict.fromkeys(stems)]


def evaluate_benchmark(
    model_id: str, batch_size: int = 20, hps_version: str = "v2.1", *, cp: str | None = None
) -> dict[str, StyleScore]:
    """Fetch the published images of one of `get_available_models()`, and run the benchmark on them; see `evaluate`.

    Raises:
        InputError: there is no such model.
        NotCachedError: the images are not on this machine and cannot be fetched.
    """
    if model_id not in (known := get_available_models()):
        raise InputError("model_id", f"is {model_id!r}", expected=f"one of {', '.join(known)}", cure="correct it")
    archive = _ARCHIVES.get(model_id, model_id)
    folder = fetch(Wanted(name=_DATA, files=(f"benchmark/benchmark_imgs/{archive}.tar.gz*",)))
    return evaluate(folder / "benchmark/benchmark_imgs" / archive, batch_size, hps_version, cp=cp)


@lru_cache(maxsize=2)
def _scorer(hps_version: str, cp: str | None) -> NetworkScorer:
    return NetworkScorer(*_network(hps_version, cp))


@lru_cache(maxsize=2)
def _network(hps_version: str, cp: str | None) -> tuple[Network, ScorerInfo]:
    if hps_version not in _VERSIONS:
        raise InputError("hps_version", f"is {hps_version!r}", expected=" or ".join(_VERSIONS), cure="correct it")
    device = choose_device("auto")
    precision = "fp16" if device.type == "cuda" else "fp32"  # as the official code computes
    return load_network(cp or _VERSIONS[hps_version], precision=precision, device=str(device))


def _suite(styles: Sequence[str]) -> Suite:
    paths = {style: style_prompts(style) for style in styles}
    rows = (row for style, path in paths.items() for row in rows_of(path, style))
    return make_suite("some styles of hpsv2", _DATA, paths[styles[0]], rows)
