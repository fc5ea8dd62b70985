"""Water: what stands behind it upside down, broken by waves, and the light on it."""

from __future__ import annotations

import numpy as np

from hpskit.images.painter.canvas import Canvas
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Scene
from hpskit.images.painter.texture import Field, ground, mix, smooth_step, tile

__all__ = ["paint_water"]


def paint_water(canvas: Canvas, scene: Scene, *, lively: float, mask: Field | None = None) -> None:
    """Water from the horizon to the lower edge, or where the mask (rows, width) says.

    `lively` is the strength of the waves, 0 to 1.
    """
    s, p = canvas.settings, canvas.palette
    rng = canvas.dice.of("water")
    top = int(canvas.horizon) + 1
    shape = (canvas.size - top, canvas.size)
    t = (np.arange(shape[0], dtype=np.float32)[:, None] + 1) / shape[0]
    swell = ground(tile(rng, 256, 5, 3), shape, stretch=2.6, drift=float(rng.integers(256))) - 0.5
    ripple = ground(tile(rng, 256, 20, 3), shape, stretch=3.5) - 0.5
    waves = (swell * 0.7 + ripple * 0.6) * (0.25 + 0.75 * s.detail)
    shown: Field = np.broadcast_to(p.horizon, (*shape, 3))
    if s.light:
        shown = _mirror(canvas, top, shape, waves * (0.35 + lively))
    named = scene.find("sea", "lake", "river", "wave", "water")
    tone: Field = colour(named.colour if named else None, (0.08, 0.30, 0.42)) * mix(p.shade, p.light, 0.6)
    tone = mix(tone, p.middle, 0.0 if named and named.colour else 0.25)
    own = np.clip(0.22 + 0.42 * t * (0.5 + lively) + (0.16 if named and named.colour else 0) + 0.5 * waves, 0.05, 0.92)
    bright = (1 + waves * (0.35 + 0.9 * lively)) * (1 - 0.18 * t * s.light)
    water: Field = mix(shown, tone, np.broadcast_to(own, shape)) * bright[..., None]
    if lively > 0.7:
        foam = ground(tile(rng, 256, 44, 2), shape, stretch=2.8) - 0.5
        crests = smooth_step(0.02, 0.22, foam) * smooth_step(0.1, 0.3, swell + 0.4 * ripple)
        water = mix(water, np.clip(p.light * 1.25, 0, 1), crests * 0.8 * s.detail)
    canvas.lay(water, mask if mask is not None else 1.0, top)
    if s.light:
        _glitter(canvas, top, waves, mask)


def _mirror(canvas: Canvas, top: int, shape: tuple[int, int], waves: Field) -> Field:
    """What is above the horizon, upside down, moved by the waves."""
    below = np.arange(shape[0], dtype=np.float32)[:, None]
    reach = 3 * canvas.unit + below * 0.35
    source = top - 1 - below * 0.92 - np.abs(waves) * reach * 1.6
    rows = np.clip(source, 0, top - 1).astype(np.int64)
    columns = np.clip(canvas.columns + waves * reach * 0.7, 0, canvas.size - 1).astype(np.int64)
    mirrored: Field = canvas.pixels[rows, columns] * 0.9
    return mirrored


def _glitter(canvas: Canvas, top: int, waves: Field, mask: Field | None) -> None:
    """The path of light under the sun or the moon, if nothing stands before it."""
    p = canvas.palette
    if canvas.lamp is None:
        return
    x, y = canvas.lamp
    if not 0 <= x < canvas.size or canvas.pixels[int(y), int(x)].mean() < 0.75 * p.sun.mean():
        return
    t = (np.arange(waves.shape[0], dtype=np.float32)[:, None] + 1) / waves.shape[0]
    near = np.exp(-(((canvas.columns - x) / (canvas.size * (0.025 + 0.085 * t))) ** 2))
    fine = ground(tile(canvas.dice.of("glitter"), 256, 40, 2), waves.shape, stretch=2.2) - 0.5
    sparkle = smooth_step(0.04, 0.2, waves * 0.5 + fine * 0.8) * near * 0.95 + near * 0.2
    canvas.add(mix(p.sun, p.horizon, 0.15), sparkle * (mask if mask is not None else 1) * p.glow, top)
