"""Drop-in for the official package: `from hpskit import hpsv2` instead of `import hpsv2`.

The scale is the official one (raw cosines), the defaults too, v2.0 for `score` and v2.1 for `evaluate` among them.
What differs: a model is loaded once and kept; a missing or broken image is an error instead of a gap; `evaluate`
returns what the official one prints. For new code use `hpskit.load_scorer`.

    from hpskit import hpsv2
    hpsv2.score(["a.jpg", "b.jpg"], "a cat with two horns on its head", hps_version="v2.1")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from hpskit.errors import InputError
from hpskit.files import expand, read_json
from hpskit.models.loading import load_network
from hpskit.models.network import Network, choose_device
from hpskit.models.store import hub_file
from hpskit.pixels import check_file
from hpskit.records import ScorerInfo
from hpskit.scoring.scorer import PreferenceScorer
from hpskit.stats import style_result

if TYPE_CHECKING:
    from hpskit.scoring.contract import ImageLike

__all__ = ["STYLES", "StyleScore", "benchmark_prompts", "evaluate", "score"]

STYLES = ("anime", "concept-art", "paintings", "photo")
"""The official names, in the official order."""

_VERSIONS = {"v2.0": "hps-v2.0", "v2.1": "hps-v2.1"}


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
    """Score images for one prompt, as `hpsv2.score`.

    Args:
        imgs_path: path or PIL image, or a list of them.
        prompt: what they were made for.
        hps_version: `v2.0` or `v2.1`.
        cp: checkpoint file to use instead, of the architecture ViT-H-14.

    Returns:
        One cosine for each image (not multiplied by 100).
    """
    scores = _scorer(hps_version, cp).score(imgs_path, prompt).numpy() / np.float32(100)
    return [*scores]


def benchmark_prompts(style: str = "all") -> dict[str, list[str]] | list[str]:
    """The prompts of the benchmark: 800 for one style, or all four styles by name.

    They come from `$HPS_ROOT/datasets/benchmark` (where the official package keeps them, `~/.cache/hpsv2` if
    HPS_ROOT is not set), else from the hub.

    Raises:
        InputError: unknown style.
        NotCachedError: they are not on this machine and cannot be fetched.
    """
    if style == "all":
        return {name: _prompts(name) for name in STYLES}
    if style not in STYLES:
        raise InputError(f"style: is {style!r}, expected 'all' or one of {', '.join(STYLES)}")
    return _prompts(style)


def evaluate(
    imgs_path: str | os.PathLike[str], batch_size: int = 20, hps_version: str = "v2.1", *, cp: str | None = None
) -> dict[str, StyleScore]:
    """The benchmark of a folder of images, as `hpsv2.evaluate`.

    Args:
        imgs_path: folder with `STYLE/00000.jpg` and so on, for one or more of the four styles.
        batch_size: images per step; does not change the result.
        hps_version: `v2.0` or `v2.1`.
        cp: checkpoint file to use instead, of the architecture ViT-H-14.

    Returns:
        Style -> mean, deviation and number of images, and `average` over all images.

    Raises:
        InputError: the folder has none of the styles, or an image is missing; all missing ones are counted.
    """
    root = Path(imgs_path)
    styles = [style for style in STYLES if (root / style).is_dir()]
    if not styles:
        raise InputError(f"{root}: has none of the folders {', '.join(STYLES)}")
    pairs = {style: _pairs(root / style, _prompts(style)) for style in styles}
    scorer = PreferenceScorer(*_network(hps_version, cp), batch_size=batch_size)
    result: dict[str, StyleScore] = {}
    everything: list[float] = []
    for style in styles:
        images, prompts = zip(*pairs[style], strict=True)
        scores = scorer.score(images, prompts).double().tolist()
        everything += scores
        summary = style_result(scores)
        result[style] = StyleScore(mean=summary.mean, deviation=summary.deviation, images=len(scores))
    result["average"] = StyleScore(mean=float(np.mean(everything)), deviation=0.0, images=len(everything))
    return result


@lru_cache(maxsize=2)
def _scorer(hps_version: str, cp: str | None) -> PreferenceScorer:
    return PreferenceScorer(*_network(hps_version, cp))


@lru_cache(maxsize=2)
def _network(hps_version: str, cp: str | None) -> tuple[Network, ScorerInfo]:
    if hps_version not in _VERSIONS:
        raise InputError(f"hps_version: is {hps_version!r}, expected one of {', '.join(_VERSIONS)}")
    device = choose_device("auto")
    precision = "fp16" if device.type == "cuda" else "fp32"  # what the official code computes in
    return load_network(cp or _VERSIONS[hps_version], precision=precision, device=str(device))


def _prompts(style: str) -> list[str]:
    local = expand(os.environ.get("HPS_ROOT") or "~/.cache/hpsv2") / "datasets/benchmark" / f"{style}.json"
    cure = f"Fetch it elsewhere and put it at {local}"
    path = (
        local
        if local.is_file()
        else hub_file("zhwang/HPDv2", f"benchmark/{style}.json", repo_type="dataset", cure=cure)
    )
    prompts = read_json(path)
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError(f"{path}: is not a JSON list of prompts; delete it to fetch it again")
    return prompts


def _pairs(folder: Path, prompts: list[str]) -> list[tuple[Path, str]]:
    """Image `00000.jpg` belongs to the first prompt, and so on; all must be there."""
    pairs = [(folder / f"{number:05d}.jpg", prompt) for number, prompt in enumerate(prompts)]
    missing = [path.name for path, _ in pairs if not path.exists()]
    if missing:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise InputError(f"{folder}: {len(missing)} of {len(pairs)} images are missing: {shown}; make them")
    for path, _ in pairs:
        check_file(path)
    return pairs
