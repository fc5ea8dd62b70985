"""A crowd for tests: honest people see quality with normal noise, others do not look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Crowd:
    quality: np.ndarray
    votes: np.ndarray
    names: np.ndarray
    orders: np.ndarray
    bad: np.ndarray

    def tau(self, scores: list[np.ndarray] | np.ndarray | tuple[np.ndarray, ...]) -> float:
        """Mean of tau-a with the truth, lower scores are better. (tau-b would pay for ties, and few ranks tie.)"""
        table = np.stack([*scores])
        first, second = np.triu_indices(table.shape[1], k=1)
        ahead = np.sign(np.round(table[:, second] - table[:, first], 9))
        return float((ahead * np.sign(self.quality[:, first] - self.quality[:, second])).mean())


def crowd(
    seed: int, *, tasks: int = 150, images: int = 9, overlap: int = 5, people: int = 50, noise: float = 0.3,
    bad: tuple[float, float, float] = (0.2, 0.04, 0.06),
) -> Crowd:  # fmt: skip
    """`bad` are the shares of people who rank at random, upside down, and as the images stand on the page."""
    rng = np.random.default_rng(seed)
    counts = np.round(np.array(bad) * people).astype(int)
    kind = np.repeat([1, 2, 3, 0], [*counts, people - counts.sum()])
    names = rng.random((tasks, people)).argsort(axis=1)[:, :overlap]
    quality = rng.normal(size=(tasks, images))
    seen = quality[:, None] + np.sqrt(noise) * rng.normal(size=(tasks, overlap, images))
    orders = rng.random(seen.shape).argsort(axis=2)
    own = kind[names][:, :, None]
    seen = np.choose(own, [seen, rng.normal(size=seen.shape), -seen, -orders])
    return Crowd(quality, (-seen).argsort(axis=2).argsort(axis=2) + 1.0, names, orders, kind > 0)
