"""Flat shapes, and pictures made of nothing else."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from hpskit.images.painter.canvas import Canvas, Sheet, Sprite
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Scene, Thing
from hpskit.images.painter.texture import Field, fractal, mix
from hpskit.images.painter.vocabulary import COLOURS, RGB

__all__ = ["flat_shape", "paint_abstract"]

_SIDES = {"triangle": 3, "square": 4, "diamond": 4, "hexagon": 6}
_CYCLE = ("red", "blue", "golden", "turquoise", "orange", "black")
"""Colours for shapes without one."""


def _outline(kind: str) -> list[tuple[float, float]]:
    """Corners around (0, 0.5), within half a unit."""
    if kind == "rectangle":
        return [(-0.48, 0.22), (0.48, 0.22), (0.48, 0.78), (-0.48, 0.78)]
    if kind == "star":
        radii = [0.49 if n % 2 == 0 else 0.2 for n in range(10)]
        return [(r * math.sin(n * math.pi / 5), 0.5 - r * math.cos(n * math.pi / 5)) for n, r in enumerate(radii)]
    sides, turn = _SIDES[kind], math.pi / 4 if kind == "square" else 0.0
    return [
        (0.49 * math.sin(turn + 2 * math.pi * n / sides), 0.5 - 0.49 * math.cos(turn + 2 * math.pi * n / sides))
        for n in range(sides)
    ]


def flat_shape(canvas: Canvas, thing: Thing, height: float, rng: np.random.Generator) -> Sprite:
    """One shape, `height` pixels high."""
    free = [name for name in _CYCLE if name not in canvas.taken] or _CYCLE
    default: RGB = COLOURS[free[int(rng.integers(len(free)))]]
    tone = colour(thing.colour, default)
    sheet = Sheet(height, 1.0)
    if thing.kind in ("circle", "ring"):
        sheet.ellipse(0, 0.5, 0.49, 0.49, tone)
    else:
        sheet.polygon(_outline(thing.kind), tone)
    sprite = sheet.sprite()
    if thing.kind == "ring":
        hole = Sheet(height, 1.0)
        hole.ellipse(0, 0.5, 0.32, 0.32, tone)
        sprite.pixels[..., 3] *= 1 - hole.sprite().pixels[..., 3]
    return sprite


def paint_abstract(canvas: Canvas, scene: Scene) -> None:
    """Shapes cut from paper on a sheet of paper."""
    s, rng = canvas.settings, canvas.dice.of("abstract")
    ground = scene.find("background")
    canvas.taken = frozenset(t.colour for t in scene.things if t.colour)
    paper = colour(ground.colour if ground else None, (0.93, 0.89, 0.80))
    canvas.lay(_paper(canvas, rng, paper), 1.0)
    shapes = [thing for thing in scene.group("flat") for _ in range(thing.count)]
    for thing, (x, y, high) in zip(shapes, _arranged(canvas, len(shapes), rng), strict=True):
        sprite = _turned(flat_shape(canvas, thing, high, rng), rng, 0 if thing.kind == "circle" else 1 - s.placement)
        _drop_shadow(canvas, sprite, x, y + high / 2)
        grain = fractal(rng, sprite.pixels.shape[:2], (high / 9, high / 9), 3)
        slope = np.linspace(-1, 1, sprite.pixels.shape[1], dtype=np.float32)[None] * canvas.side
        sprite.pixels[..., :3] *= (1 + s.detail * 0.16 * (grain - 0.5) + s.light * 0.07 * slope)[..., None]
        canvas.paste(sprite, x, y + high / 2)


def _paper(canvas: Canvas, rng: np.random.Generator, tone: Field) -> Field:
    s, size = canvas.settings, canvas.size
    fibres = fractal(rng, (size, size), (60, 60), 3) - 0.5
    cloud = fractal(rng, (size, size), (2, 2), 3) - 0.5
    light = (canvas.columns / size - 0.5) * canvas.side - (canvas.rows / size - 0.5)
    return tone * (1 + s.detail * (0.14 * fibres + 0.08 * cloud) + 0.12 * s.light * light)[..., None]


def _arranged(canvas: Canvas, count: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centre and height of each shape, on a loose grid, none on top of another."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell = canvas.size * 0.88 / max(columns, rows)
    spots = []
    for n in range(count):
        row, column = divmod(n, columns)
        inside = min(columns, count - row * columns)
        high = cell * rng.uniform(0.62, 0.86)
        room = (cell - high) * 0.5
        x = canvas.size / 2 + (column - (inside - 1) / 2) * cell + rng.uniform(-room, room)
        y = canvas.size / 2 + (row - (rows - 1) / 2) * cell + rng.uniform(-room, room)
        if rng.random() > canvas.settings.placement:
            x, y, high = rng.random() * canvas.size, rng.random() * canvas.size, high * rng.uniform(0.5, 1.6)
        spots.append((float(x), float(y), float(high)))
    return spots


def _turned(sprite: Sprite, rng: np.random.Generator, carelessness: float) -> Sprite:
    """The shape as it is, or askew."""
    if not carelessness:
        return sprite
    image = Image.fromarray((np.clip(sprite.pixels, 0, 1) * 255).astype(np.uint8))
    turned = image.rotate(float(rng.uniform(-45, 45)) * carelessness, Image.Resampling.BILINEAR)
    return Sprite(np.asarray(turned, dtype=np.float32) / 255, sprite.foot)


def _drop_shadow(canvas: Canvas, sprite: Sprite, x: float, foot: float) -> None:
    if not canvas.settings.light:
        return
    margin = round(12 * canvas.unit)
    padded = np.pad(sprite.pixels[..., 3], margin)
    soft = canvas.blurred(padded, 5) * 0.45 * canvas.settings.light
    dark = np.zeros((*padded.shape, 4), dtype=np.float32)
    dark[..., :3] = mix(canvas.palette.shade * 0.3, canvas.palette.shade, 0.2)
    dark[..., 3] = soft
    canvas.paste(Sprite(dark), x - canvas.side * 5 * canvas.unit, foot + margin + 6 * canvas.unit)
