"""Small inputs whose truth is known: a suite and its images, photographs of which people like the sharp ones, and
scorers that are right about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from hpskit.records import ScorerInfo

_WORDS = ("cat", "dog", "barn", "lake", "tower", "bridge", "garden", "violin", "teapot", "comet")
RADII = (0, 2, 4, 8)  # of the blur: image 0 is the best, image 3 the worst


def grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)


def write_suite(path: Path) -> Path:
    """Two categories, four and three prompts, in turn."""
    rows = [{"category": "a", "prompt": f"a {number}"} for number in range(4)]
    rows[1:1] = [{"category": "b c", "prompt": f"b c {number}"} for number in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_renders(root: Path) -> Path:
    """The images of that suite, each of one grey level: category a 10, 11, 12, 13, category b c 20, 21, 22."""
    for category, start, count in (("a", 10, 4), ("b c", 20, 3)):
        for number in range(count):
            grey(root / category / f"{number:05d}.png", start + number)
    return root


def entry(prompt: str, images: list[str], *ranks: list[int]) -> dict[str, Any]:
    """A group, with the order of the mean rank as its published one."""
    means = [sum(column) for column in zip(*ranks, strict=True)]
    return {
        "prompt": prompt,
        "image_path": images,
        "rank": [sorted(means).index(mean) + 1 for mean in means],
        "raw_annotations": [{"rank": rank, "user_hash": f"person-{number}"} for number, rank in enumerate(ranks)],
    }


def write_data(folder: Path, photographs: list[Image.Image], groups: int = 5) -> Path:
    """`test.json` and `test/`: groups of four, which three people rank; the second and the third are close."""
    (folder / "test").mkdir(parents=True)
    entries = []
    for number in range(groups):
        names = [f"{number}-{radius}.png" for radius in RADII]
        photograph = photographs[number % 2].crop((number * 15, number * 10, 320 + number * 15, 240 + number * 10))
        for name, radius in zip(names, RADII, strict=True):
            photograph.filter(ImageFilter.GaussianBlur(radius)).save(folder / "test" / name)
        entries.append(entry(f"a photograph, number {number}", names, [1, 2, 3, 4], [1, 3, 2, 4], [2, 1, 3, 4]))
    (folder / "test.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder / "test.json"


def write_votes(folder: Path, photographs: list[Image.Image]) -> Path:
    """`rankings.jsonl` and `images/`: ten prompts with two images each, of which two people like the sharp one."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, word in enumerate(_WORDS):
        sharp = photographs[number % 2].crop((20 * number, 8 * number, 20 * number + 200, 8 * number + 200))
        order = (1, 2) if number % 3 else (2, 1)
        names = [f"{number}-{place}.jpg" for place in range(2)]
        for name, rank in zip(names, order, strict=True):
            image = sharp if rank == 1 else sharp.filter(ImageFilter.GaussianBlur(1.2))
            image.save(folder / "images" / name, quality=95)
        line = {"group": number, "prompt": f"a {word}", "images": names, "ranks": order, "votes": 2}
        lines.append(json.dumps(line) + "\n")
    (folder / "rankings.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "rankings.jsonl"


def information(name: str, **known: str) -> ScorerInfo:
    """What is known of a scorer of the tests."""
    unknown = dict.fromkeys(("architecture", "weight_hash", "preprocessing", "scale", "licence"), "none")
    return ScorerInfo(name=name, **{"version": "1", "precision": "fp32", "package": "test", **unknown, **known})


class Brightness:
    """A scorer of somebody's own: the mean grey level in points, 0 to 255, plus the length of the prompt."""

    log_odds_per_point = 0.5
    reads_prompt = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.calls = 0
        self.info = information("brightness", version=f"{weight:g}", package="tests 1, hpskit 0.1")

    def score(self, images: object, prompts: object) -> torch.Tensor:
        assert isinstance(images, Sequence)
        assert isinstance(prompts, Sequence)
        self.calls += len(images)
        levels = [float(np.asarray(image.convert("L"), dtype=np.float64).mean()) for image in images]
        return torch.tensor([self.weight * level + len(p) for level, p in zip(levels, prompts, strict=True)])


@dataclass
class Sharpness:
    """Scores images by their finest detail, so that a blurred copy is always worse; `sign` -1 turns it round."""

    name: str = "sharp"
    sign: float = 1.0
    seen: list[str] = field(default_factory=list)
    """The prompt of every image that was scored."""
    log_odds_per_point: float | None = 1.0
    reads_prompt: bool = False

    @property
    def info(self) -> ScorerInfo:
        return information(self.name, weight_hash="sha256:none")

    def score(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        self.seen += prompts
        detail = [np.abs(np.diff(np.asarray(image.convert("L"), dtype=float))).mean() for image in images]
        return torch.tensor(detail, dtype=torch.float32) * self.sign


class Mixed(Sharpness):
    """Right about prompts that end in an even number, wrong about the others."""

    def score(self, images: list[Image.Image], prompts: list[str]) -> torch.Tensor:
        right = torch.tensor([1.0 if prompt[-1] in "02468" else -1.0 for prompt in prompts])
        return Sharpness.score(self, images, prompts) * right
