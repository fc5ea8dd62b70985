"""Drawing with replacement, which is all that a bootstrap does."""

from __future__ import annotations

import numpy as np

from hpskit.stats.blocks import Floats

__all__ = ["times_drawn"]


def times_drawn(rng: np.random.Generator, draws: int, things: int, size: int | None = None) -> Floats:
    """(draws, things): how often each thing comes up among `size` drawn with replacement, by default all of them."""
    drawn = rng.integers(things, size=(draws, things if size is None else size)) + np.arange(draws)[:, None] * things
    return np.bincount(drawn.reshape(-1), minlength=draws * things).reshape(draws, things).astype(np.float64)
