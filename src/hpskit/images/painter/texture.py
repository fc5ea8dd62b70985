"""Noise that looks like nature: fractal fields, ridge lines, and the ground seen at an angle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Field", "fractal", "ground", "jagged", "mix", "smooth_step", "tile"]

Field = NDArray[np.floating[Any]]
"""(height, width), mostly from 0 to 1; or (height, width, 3) of colours. Float32 where it is as large as a picture."""


def smooth_step(low: float, high: float, value: Field) -> Field:
    """0 below `low`, 1 above `high`, and a soft passage between; `high` may be below `low`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    result: Field = (t * t * (3 - 2 * t)).astype(np.float32)
    return result


def mix(first: Field, second: Field, share: Field | float) -> Field:
    """From `first` (share 0) to `second` (share 1); colours (…, 3) with shares (…)."""
    if isinstance(share, np.ndarray) and share.ndim:
        share = share[..., None]
    return first + (second - first) * share


def fractal(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float], octaves: int) -> Field:
    """Sum of octaves of smooth noise, stretched to 0 to 1.

    Args:
        rng: where the noise comes from.
        shape: height and width of the result.
        cells: lumps of the coarsest octave, down and across.
        octaves: each twice as fine and half as strong as the one before.
    """
    height, width = shape
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        rows, columns = (max(2, round(n * 2**octave) + 1) for n in cells)
        if rows > height or columns > width:
            break
        grid = rng.random((rows, columns), dtype=np.float32)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)) * 0.5**octave
    total -= total.min()
    peak = float(total.max())
    return total / peak if peak else total


def tile(rng: np.random.Generator, size: int, cells: int, octaves: int) -> Field:
    """A square of noise that continues at the opposite edge, 0 to 1."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        if count > size:
            break
        grid = np.pad(rng.random((count, count), dtype=np.float32), 3, mode="wrap")
        wide = Image.fromarray(grid)
        box = (3.0, 3.0, 3.0 + count, 3.0 + count)
        total += np.asarray(wide.resize((size, size), Image.Resampling.BICUBIC, box=box)) * 0.55**octave
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def jagged(rng: np.random.Generator, width: int, cells: float, octaves: int, *, rough: float = 0.5) -> Field:
    """A line of noise with corners, like a ridge: (width,), 0 to 1. `rough` is the strength of the next octave."""
    total = np.zeros(width, dtype=np.float32)
    across = np.linspace(0, 1, width)
    for octave in range(octaves):
        count = max(2, round(cells * 2**octave) + 1)
        shifted = np.linspace(-0.5 / count, 1 + 0.5 / count, count)
        total += np.interp(across, shifted, rng.random(count)).astype(np.float32) * rough**octave
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def ground(
    texture: Field, shape: tuple[int, int], *, stretch: float = 1.0, drift: float = 0.0, fade: float = 0.18
) -> Field:
    """A tile laid out to the horizon: (rows, width), the horizon at the first row.

    `stretch` widens it across, `drift` moves it. Within the share `fade` of the rows below the horizon, where it would
    flicker, it fades to 0.5.
    """
    rows, width = shape
    size = texture.shape[0]
    below = np.arange(rows, dtype=np.float32)[:, None] + 1.5
    distance = rows / below
    across = (np.arange(width, dtype=np.float32)[None] - width / 2) * distance / (rows * stretch)
    v = (distance * size * 0.35 + drift).astype(np.int64) % size
    u = (across * size * 0.5 + drift).astype(np.int64) % size
    clear = np.clip(below / (rows * fade), 0, 1)
    result: Field = (texture[v, u] - 0.5) * clear + 0.5
    return result
