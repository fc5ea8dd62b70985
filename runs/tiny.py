"""The step of tiny.sh that hpskit has no command for: people who judge the images of three models.

    python runs/tiny.py SUITE.jsonl IMAGES/ VOTES/

The "models" are the embedded painter with good, middling and deliberately poor settings, so that the truth is known:
their order must come out of everything that follows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODELS = {"fine": 4.0, "plain": 2.0, "poor": 0.0}
"""What an image of each is worth, in log-odds: the better of two is preferred with a probability of 88 %."""
PEOPLE = 5


def vote(suite: Path, folder: Path, out: Path) -> None:
    """Write `out/rankings.jsonl`: people rank the images of each prompt, and err as the Plackett-Luce model says.

    Somebody who errs so adds a draw of the Gumbel distribution to each worth and ranks by the sums.
    """
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for line in suite.read_text(encoding="utf-8").splitlines():
        prompt = json.loads(line)
        name = f"{prompt['category']}/{prompt['number']:05d}.png"
        for person in range(PEOPLE):
            felt = np.array(list(MODELS.values())) + rng.gumbel(size=len(MODELS))
            ranks = (-felt).argsort().argsort() + 1
            row = {"group": name, "prompt": prompt["prompt"], "images": [f"{model}/{name}" for model in MODELS]}
            rows.append(row | {"ranks": ranks.tolist(), "annotator": f"person {person}"})
    out.mkdir(parents=True, exist_ok=True)
    (out / "images").unlink(missing_ok=True)
    (out / "images").symlink_to(folder.resolve())
    (out / "rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    vote(*map(Path, sys.argv[1:]))
