"""A made-up task with a known optimum: preference is a function of image and prompt, and votes are drawn from it.

An image is a disc of one of four colours and of some size. A prompt asks for a colour, among words that mean nothing.
People like discs of the colour that was asked for, and large ones; P(first preferred) is the logistic function of the
difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220), "yellow": (235, 210, 50)}
_WORDS = (  # noqa: SIM905
    "grass night room sea snow table fog tree river sand stone cloud lamp street garden window morning winter roof "
    "field bridge train ship forest hill tower market island valley desert castle bird music paper glass wind summer "
    "harbour village dream mirror candle clock door wood iron letter shadow circle autumn"
).split()
_SIZE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Disc:
    """What is in an image."""

    colour: str
    radius: float
    """Share of half the side, 0.2 to 0.8."""

    def worth(self, prompt: str) -> float:
        """The true score, in log-odds."""
        return 5.0 * (self.colour in prompt.split()) + 8.0 * self.radius


def write_task(folder: Path, *, pairs: int, seed: int, shuffled: bool = False, held_out: bool = False) -> float:
    """Write `train.json`, or `held-out.json` with `held_out`: single pairs, and their images beside it.

    The meaningless words make each prompt different from all others. With `shuffled` the votes are drawn without
    regard to the images.

    Returns:
        The accuracy of the true function on the votes, 0 to 1.
    """
    rng = np.random.default_rng([seed, held_out])
    name = "held-out" if held_out else "train"
    rows, right = [], 0.0
    (folder / "train").mkdir(parents=True, exist_ok=True)  # where the layout looks for images
    for number in range(pairs):
        prompt = _prompt(rng)
        discs = [_disc(rng) for _ in range(2)]
        files = [f"{name}-{number}-{which}.png" for which in "ab"]
        for disc, file in zip(discs, files, strict=True):
            _draw(disc, rng).save(folder / "train" / file)
        ahead = discs[0].worth(prompt) - discs[1].worth(prompt)
        chance = 0.5 if shuffled else 1 / (1 + np.exp(-ahead))
        first = bool(rng.random() < chance)
        right += first == (ahead > 0)
        rows.append({"prompt": prompt, "file_path": files, "human_preference": [int(first), int(not first)]})
    (folder / f"{name}.json").write_text(json.dumps(rows))
    return right / pairs


def write_rated(folder: Path, *, groups: int, seed: int, held_out: bool = False) -> None:
    """Write `train/rankings.jsonl`, or `held-out/` with `held_out`: groups of four images, rated from 1 to 7 by one
    person each, and ranked as they are rated."""
    rng = np.random.default_rng([seed, held_out])
    folder = folder / ("held-out" if held_out else "train")
    folder.mkdir()
    lines = []
    for number in range(groups):
        prompt = _prompt(rng)
        discs = [_disc(rng) for _ in range(4)]
        files = [f"{number}-{which}.png" for which in range(4)]
        for disc, file in zip(discs, files, strict=True):
            _draw(disc, rng).save(folder / file)
        worth = np.array([disc.worth(prompt) for disc in discs]) + rng.normal(0, 1, 4)
        ratings = np.clip(np.round(worth / 1.6), 1, 7)
        ranks = [1 + int((ratings > rating).sum()) for rating in ratings]
        row = {"group": str(number), "prompt": prompt, "images": files, "ranks": ranks, "annotator": "one"}
        lines.append(json.dumps({**row, "meta": {"overall_rating": ratings.tolist()}}) + "\n")
    (folder / "rankings.jsonl").write_text("".join(lines))


def _prompt(rng: np.random.Generator) -> str:
    return f"a {rng.choice([*COLOURS])} ball, {' '.join(rng.choice(_WORDS, 10, replace=False))}"


def _disc(rng: np.random.Generator) -> Disc:
    return Disc(colour=str(rng.choice([*COLOURS])), radius=float(rng.uniform(0.2, 0.8)))


def _draw(disc: Disc, rng: np.random.Generator) -> Image.Image:
    grey = int(rng.integers(60, 200))
    image = Image.new("RGB", (_SIZE, _SIZE), (grey, grey, grey))
    radius = disc.radius * _SIZE / 2
    x, y = rng.uniform(radius, _SIZE - radius, size=2)
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(image).ellipse(box, fill=COLOURS[disc.colour])
    noise = rng.integers(-12, 13, size=(_SIZE, _SIZE, 1))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
