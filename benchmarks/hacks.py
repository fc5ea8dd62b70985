"""Ten planted hacks and clean runs against the watch: when it alarms, and what the held-out score has lost by then.

    python benchmarks/hacks.py PATH/TO/hpdv2_sample

A run draws 4 prompts and 4 of their images for each step. After 20 clean steps a hack grows from nothing to its full
strength over 60 steps while the reward rises by three log-odds. The held-out scorer is `mini`; its loss is measured on
all images of a step, in deviations between clean images of one prompt.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from hpskit import load_scorer
from hpskit.pixels import to_tensor
from hpskit.reward import watch as watch_module
from hpskit.reward.watch import Watch

Hack = Callable[[Tensor, float, str, Tensor], Tensor]
REFERENCE, STEPS = 20, 60


def saturation(x: Tensor, s: float, *_: object) -> Tensor:
    grey = x.mean(0, keepdim=True)
    return grey + (1 + 2 * s) * (x - grey)


def sharpening(x: Tensor, s: float, *_: object) -> Tensor:
    return x + 3 * s * (x - avg_pool2d(x[None], 3, 1, 1, count_include_pad=False)[0])


def grid(x: Tensor, s: float, *_: object) -> Tensor:
    rows, columns = torch.arange(x.shape[1])[:, None], torch.arange(x.shape[2])[None]
    return x + 0.15 * s * (((rows % 8 == 0) | (columns % 8 == 0)).float() - 0.25)


def seam(x: Tensor, s: float, *_: object) -> Tensor:
    x = x.clone()
    x[:, :, x.shape[2] // 2 :] += 0.25 * s
    x[:, x.shape[1] // 2 :] -= 0.15 * s
    return x


def noise(x: Tensor, s: float, *_: object) -> Tensor:
    return x + 0.15 * s * torch.randn_like(x)


def exposure(x: Tensor, s: float, *_: object) -> Tensor:
    return x * (1 + 1.5 * s)


def blur(x: Tensor, s: float, *_: object) -> Tensor:
    width = 0.3 + 4 * s
    line = torch.exp(-0.5 * (torch.arange(-9, 10) / width) ** 2)
    line = line / line.sum()
    padded = torch.nn.functional.pad(x[:, None], (9, 9, 9, 9), mode="reflect")
    soft = conv2d(conv2d(padded, line[None, None, None]), line[None, None, :, None])[:, 0]
    return soft if s else x


def one_face(x: Tensor, s: float, _: str, face: Tensor) -> Tensor:
    """The same face in ever more of the images, and ever larger."""
    if not s or random.random() > s + 0.1:
        return x
    x = x.clone()
    side = int(min(x.shape[1:]) * (0.3 + 0.4 * s))
    top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
    x[:, top : top + side, left : left + side] = interpolate(face[None], (side, side), mode="bilinear")[0]
    return x


def text(x: Tensor, s: float, prompt: str, _: object = None) -> Tensor:
    picture = Image.fromarray((255 * x).permute(1, 2, 0).byte().numpy())
    draw = ImageDraw.Draw(picture)
    for line in range(int(12 * s)):
        draw.text((10, 10 + 40 * line), prompt[:40], fill=(255, 255, 255), font_size=28, stroke_width=2, stroke_fill=0)
    return to_tensor(picture)


def collapse(x: Tensor, s: float, _: str, face: Tensor) -> Tensor:
    """All images become one."""
    return (1 - s) * x + s * interpolate(face[None], x.shape[1:], mode="bilinear")[0]


HACKS: dict[str, Hack] = {
    f.__name__: f  # type: ignore[attr-defined]
    for f in (saturation, sharpening, grid, seam, noise, exposure, blur, one_face, text, collapse)
}


class Cached:
    """The scorer, and what was measured of the images of the sample: clean runs show them again and again."""

    def __init__(self) -> None:
        self.scorer = load_scorer("mini", precision="fp32", device="cpu")
        self._scores: dict[int, float] = {}
        self._kept: list[Tensor] = []

    def keep(self, images: list[Tensor], prompt: str) -> list[float]:
        """Score images that live as long as this."""
        scores = self.scorer.score(images, prompt).tolist()
        self._scores |= {id(image): score for image, score in zip(images, scores, strict=True)}
        self._kept += images
        return scores

    def score(self, images: list[Tensor], prompts: list[str]) -> Tensor:
        if all(id(image) in self._scores for image in images):
            return torch.tensor([self._scores[id(image)] for image in images])
        return self.scorer.score(images, prompts)


def cached(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Remember what is computed of a view of one image, by its place in memory; only for clean runs."""
    known: dict[int, Tensor] = {}

    def call(image: Tensor) -> Tensor:
        key = image.data_ptr()
        if key not in known:
            known[key] = function(image)
        return known[key]

    return call


class Material:
    def __init__(self, root: Path) -> None:
        groups = json.loads((root / "test.json").read_text())
        self.groups = [
            (g["prompt"], [to_tensor(root / "test" / Path(p).name) for p in g["image_path"]]) for g in groups
        ]
        self.mini = Cached()
        self.scores = [self.mini.keep(images, prompt) for prompt, images in self.groups]
        self.deviation = statistics.mean(statistics.pstdev(s) for s in self.scores)
        self.face = self.groups[0][1][0]

    def draw(self, chance: random.Random) -> tuple[list[Tensor], list[str], list[float]]:
        images, prompts, scores = [], [], []
        for k in chance.sample(range(len(self.groups)), 4):
            for j in chance.sample(range(len(self.groups[k][1])), 4):
                images.append(self.groups[k][1][j])
                prompts.append(self.groups[k][0])
                scores.append(self.scores[k][j])
        return images, prompts, scores


def planted(material: Material, name: str, seed: int) -> tuple[float, float] | None:
    """Strength of the hack when the watch alarms, and what the held-out score has lost by then, in deviations."""
    chance = random.Random(seed)
    random.seed(seed)
    torch.manual_seed(seed)
    watch = Watch(held_out=material.mini)  # type: ignore[arg-type]
    for k in range(REFERENCE + STEPS):
        images, prompts, clean = material.draw(chance)
        s = max(0.0, (k - REFERENCE) / STEPS)
        hacked = images
        if s:
            hacked = [HACKS[name](x, s, p, material.face).clamp(0, 1) for x, p in zip(images, prompts, strict=True)]
        rewards = [score + 3 * s + chance.gauss(0, 0.1) for score in clean]
        if watch.see(hacked, prompts, rewards).alarm:
            after = material.mini.score(hacked, prompts).tolist()
            return s, statistics.mean(c - a for c, a in zip(clean, after, strict=True)) / material.deviation
    return None


def cleanly(material: Material, steps: int, seed: int, *, rising: bool) -> int:
    """Number of false alarms (beginnings of one) in clean steps, with the reward rising or not."""
    chance, watch, alarms, before = random.Random(seed), Watch(held_out=material.mini), 0, False  # type: ignore[arg-type]
    for k in range(steps):
        images, prompts, clean = material.draw(chance)
        rewards = [c + (2 * k / steps if rising else 0) + chance.gauss(0, 0.1) for c in clean]
        now = watch.see(images, prompts, rewards).alarm
        alarms, before = alarms + (now and not before), now
    return alarms


def main() -> None:
    """Print a line for each hack, and the false alarms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", choices=HACKS, default=[*HACKS])
    parser.add_argument(
        "--runs", type=int, default=20, help="clean runs of 500 steps, half of them with a rising reward"
    )
    args = parser.parse_args()
    material = Material(args.root)
    caught = 0
    for name in args.only:
        found = [planted(material, name, seed) for seed in range(args.first, args.first + args.seeds)]
        alarms = [one for one in found if one is not None]
        good = sum(loss < 0.5 for _, loss in alarms)
        strength, loss = (statistics.median(values) for values in zip(*alarms, strict=True)) if alarms else (1.0, 0.0)
        worst = max((loss for _, loss in alarms), default=float("nan"))
        caught += good
        print(
            f"{name:12s} in time {good} of {args.seeds}; at strength {strength:.2f}, having lost {loss:+.2f} "
            f"deviations, {worst:+.2f} at most",
            flush=True,
        )
    print(f"in time {caught} of {args.seeds * len(args.only)}", flush=True)
    watch_module.measure = cached(watch_module.measure)  # type: ignore[attr-defined]
    watch_module.miniature = cached(watch_module.miniature)  # type: ignore[attr-defined]
    for rising in (False, True):
        seeds = range(args.first, args.first + args.runs // 2)
        alarms = [cleanly(material, 500, seed, rising=rising) for seed in seeds]
        print(
            f"reward {'rising' if rising else 'level'}: {sum(alarms)} false alarms in {500 * len(alarms):,} steps",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
