"""A suite, images and a scorer for the tests of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from hpskit.records import ScorerInfo


class Brightness:
    """A scorer of somebody's own: the mean grey level in points, 0 to 255, plus the length of the prompt."""

    log_odds_per_point = 0.5
    reads_prompt = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.calls = 0
        self.info = ScorerInfo(
            name="brightness",
            version=f"{weight:g}",
            architecture="none",
            weight_hash="sha256:" + "0" * 64,
            preprocessing="none",
            precision="fp32",
            scale="grey levels",
            licence="none",
            package="tests 1, hpskit 0.1",
        )

    def score(self, images: object, prompts: object) -> torch.Tensor:
        assert isinstance(images, Sequence)
        assert isinstance(prompts, Sequence)
        self.calls += len(images)
        levels = [float(np.asarray(image.convert("L"), dtype=np.float64).mean()) for image in images]
        return torch.tensor([self.weight * level + len(p) for level, p in zip(levels, prompts, strict=True)])


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


def grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)


def write_benchmark(folder: Path, photographs: Sequence[Image.Image]) -> None:
    """`suite.jsonl` with eight prompts in two categories, and `renders/ours`, `renders/base`: parts of photographs as
    they are, and the same blurred."""
    rows = []
    for category, photograph in zip(("temple", "flower"), photographs, strict=True):
        for number in range(4):
            rows.append({"category": category, "prompt": f"part {number} of a {category}"})
            part = photograph.crop((160 * number, 100, 160 * number + 160, 260))
            for model, image in (("ours", part), ("base", part.filter(ImageFilter.GaussianBlur(3)))):
                path = folder / f"renders/{model}/{category}/{number:05d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, quality=92)
    (folder / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
