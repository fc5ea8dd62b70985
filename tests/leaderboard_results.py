"""Result files of made-up models, for tests of what is done with results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from hpskit.benchmark.result import FORMAT, ScoredImage, ScoredPrompt, SuiteInfo, figures
from hpskit.prompts.suites import Suite
from hpskit.records import ScorerInfo
from small_inputs import information

Prompts = Sequence[tuple[str, str]]
"""(category, text) of each."""


def info(name: str, digest: str = "a") -> ScorerInfo:
    """A scorer; another digit is another identity."""
    return information(name, version="v1", weight_hash=f"sha256:{digest * 64}", package="hpskit 0.0")


def two_styles(count: int) -> list[tuple[str, str]]:
    """Prompts of two categories, `count` of each."""
    return [(style, f"{style} picture {n}") for style in ("anime", "photo") for n in range(count)]


def write_result(
    path: Path,
    name: str,
    scores: Mapping[str, ArrayLike],
    prompts: Prompts,
    *,
    suite: str = "ours",
    digest: str = "a",
    colour: int | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """A result file whose figures are those of its scores, of which one that is NaN is an image that is missing; with
    `colour`, 0 to 255, images in that red are made beside it, in `images/`."""
    columns = {label: np.asarray(column, dtype=float) for label, column in scores.items()}
    seen: dict[str, int] = {}
    rows = []
    for n, (category, text) in enumerate(prompts):
        number = seen[category] = seen.get(category, -1) + 1
        place = f"{category}/{number:05d}.jpg" if category else f"{number:05d}.jpg"
        images = []
        if not np.isnan(next(iter(columns.values()))[n]):
            sha256 = _draw(path.parent / "images" / place, colour, n) if colour is not None else "0" * 64
            own = {label: float(column[n]) for label, column in columns.items()}
            images = [ScoredImage(image=place, sha256=sha256, scores=own)]
        rows.append(ScoredPrompt(category=category, number=number, prompt=text, images=tuple(images)))
    value = {
        "format": FORMAT,
        "package": "hpskit 0.0",
        "name": name,
        "command": "hpskit benchmark run",
        "complete": all(row.images for row in rows),
        "meta": dict(meta or {}),
        "versions": {"python": "3.11"},
        "images_root": "images",
        "suite": SuiteInfo.of(Suite(name=suite, source="a test", prompts=rows)).model_dump(),
        "scorers": [
            {
                "label": label,
                "info": info(label, digest).to_json(),
                "log_odds_per_point": 1.0,
                **figures(rows, label, resamples=100),
            }
            for label in columns
        ],
        "prompts": [row.model_dump(mode="json") for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def _draw(path: Path, red: int, number: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (48, 32), (red, 5 * number % 256, 90)).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
