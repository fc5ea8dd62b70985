"""The two steps of tiny.sh that hpskit has no command for: images of three models, and people who judge them.

    python runs/tiny.py paint SUITE.jsonl IMAGES/
    python runs/tiny.py vote SUITE.jsonl IMAGES/ VOTES/

The "models" are the embedded painter with good, middling and deliberately poor settings, so that the truth is known:
their order must come out of everything that follows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpskit.images.painter import Painter

MODELS = {"fine": 4.0, "plain": 2.0, "poor": 0.0}
"""What an image of each is worth, in log-odds: the better of two is preferred with a probability of 88 %."""
PEOPLE = 5


def images(suite: Path) -> Iterator[tuple[str, str]]:
    """Each prompt with the name of its image in the official layout: CATEGORY/00000.jpg and so on."""
    numbers: dict[str, int] = {}
    for line in suite.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        number = numbers[row["category"]] = numbers.get(row["category"], -1) + 1
        yield row["prompt"], f"{row['category']}/{number:05d}.jpg"


def paint(suite: Path, folder: Path) -> None:
    """Write the images of each model to `folder/MODEL/`, and its settings beside them."""
    for model in MODELS:
        painter = Painter(model)
        for prompt, name in images(suite):
            path = folder / model / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (image,) = painter.generate([prompt], [0])
            image.save(path, quality=92)
        (folder / f"{model}.json").write_text(json.dumps(painter.info.to_json(), indent=2) + "\n")


def vote(suite: Path, folder: Path, out: Path) -> None:
    """Write `out/rankings.jsonl`: people rank the images of each prompt, and err as the Plackett-Luce model says.

    Somebody who errs so adds a draw of the Gumbel distribution to each worth and ranks by the sums.
    """
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for prompt, name in images(suite):
        for person in range(PEOPLE):
            felt = np.array(list(MODELS.values())) + rng.gumbel(size=len(MODELS))
            ranks = (-felt).argsort().argsort() + 1
            row = {"group": name, "prompt": prompt, "images": [f"{model}/{name}" for model in MODELS]}
            rows.append(row | {"ranks": ranks.tolist(), "annotator": f"person {person}"})
    out.mkdir(parents=True, exist_ok=True)
    (out / "images").unlink(missing_ok=True)
    (out / "images").symlink_to(folder.resolve())
    (out / "rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    step, *paths = sys.argv[1:]
    {"paint": paint, "vote": vote}[step](*map(Path, paths))
