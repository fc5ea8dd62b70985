"""Fit the honest ranking of `hpskit.stats.vigilance` to real groups, and measure how soon and how wrongly it pauses.

    python benchmarks/vigilance.py TEST_JSON      # of HPD v2, such as ../shared/data/hpdv2_sample/test.json

Everybody simulated draws taus from the file: each of its rankings against the mean of others of the group, on all or on
some of the images. Bad peers are rankings at random in the place of that share of the others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from hpskit.stats import vigilance as subject
from hpskit.stats.vigilance import taus_with_peers, vigilance

Votes = list[np.ndarray]
TASKS = 500


def read(path: Path) -> Votes:
    groups = json.loads(path.read_text())
    return [np.array([row["rank"] for row in group["raw_annotations"]], dtype=float) for group in groups]


def fit(votes: Votes) -> None:
    """Compare what real and modelled taus with the other nine look like, for some settings of the model."""
    real = taus_with_peers(votes, [range(len(rows)) for rows in votes]).tau
    print("tau with the mean of the others: mean, sd, quantiles at 0.5, 1, 2, 5, 50, 95 %")
    chosen = subject.NOISE, subject.SPREAD
    for noise, spread in [(None, None), (0.29, 0.0), (0.28, 0.5), (0.275, 0.8), (0.27, 1.0), chosen]:
        if noise is None or spread is None:
            found, name = real, f"{len(real)} real ones"
        else:
            subject.NOISE, subject.SPREAD = noise, spread
            found, name = subject.honest_taus(9, 9, bad_peers=0), f"noise {noise}, spread {spread}"
        quantiles = np.quantile(found, [0.005, 0.01, 0.02, 0.05, 0.5, 0.95])
        print(f"{name:26} {found.mean():.3f} {found.std():.3f} ", *(f"{q:6.3f}" for q in quantiles))


def draw(
    votes: Votes, images: int, peers: int, bad: float, kind: str, people: int, tasks: int, rng: np.random.Generator
) -> np.ndarray:
    """(people, tasks) taus of somebody honest, random or reversed with real peers, a share of them random."""
    total = people * tasks
    big = np.stack([rows for rows in votes if rows.shape == (10, 9)])
    rows = big[rng.integers(len(big), size=total)]
    rows = np.take_along_axis(rows, rng.random((total, 1, 9)).argsort(axis=2)[:, :, :images], axis=2)
    rows = np.take_along_axis(rows, rng.random((total, 10, 1)).argsort(axis=1)[:, : peers + 1], axis=1)
    spam = rng.random(rows.shape).argsort(axis=2)
    replaced = rng.random((total, peers + 1)) < bad
    replaced[:, 0] = kind == "random"
    rows = np.where(replaced[:, :, None], spam, rows)
    if kind == "reversed":
        rows[:, 0] *= -1
    taus = np.array(taus_with_peers(rows, [range(peers + 1)] * total).tau)
    return taus.reshape(total, peers + 1)[:, 0].reshape(people, tasks)


def found_at(taus: np.ndarray, images: int, peers: int) -> np.ndarray:
    """Number of tasks until the pause of each person; infinite if there is none."""
    places = [vigilance(row, np.full(len(row), images), np.full(len(row), peers)).at for row in taus]
    return np.array([np.inf if place is None else place + 1 for place in places])


def measure(votes: Votes, people: int) -> None:
    print("tasks until the pause: median and 95 % quantile; honest people paused within 500 tasks")
    for images in (2, 4, 9):
        for peers in (1, 2, 4, 9):
            for bad in (0.0, 0.3):
                rng = np.random.default_rng(images * 100 + peers)
                row = f"{images} images, {peers} peers, {bad:3.0%} bad:"
                for kind in ("random", "reversed"):
                    taus = draw(votes, images, peers, bad, kind, people // 2, 60, rng)
                    at = found_at(taus, images, peers)
                    row += f"  {kind} {np.median(at):4.0f} {np.sort(at)[int(0.95 * len(at))]:4.0f}"
                at = found_at(draw(votes, images, peers, bad, "honest", people, TASKS, rng), images, peers)
                print(f"{row}  honest {np.isfinite(at).mean():.2%}", flush=True)


if __name__ == "__main__":
    sample = read(Path(sys.argv[1]))
    fit(sample)
    measure(sample, int(sys.argv[2]) if len(sys.argv) > 2 else 400)
