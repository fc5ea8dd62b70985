"""Single bodies: spheres, cubes and cones, fruit, bottles, vases, candles, with light and shadow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpskit.images.painter.canvas import Canvas, Sheet, Sprite
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Thing
from hpskit.images.painter.texture import Field, fractal, mix
from hpskit.images.painter.vocabulary import COLOURS, RGB

__all__ = ["SOLID_HEIGHTS", "solid"]

_CYCLE = ("red", "blue", "golden", "turquoise", "green", "orange", "purple")
_USUAL: dict[str, RGB] = {
    "apple": (0.76, 0.13, 0.11),
    "orange": (0.95, 0.52, 0.10),
    "lemon": (0.96, 0.84, 0.22),
    "pear": (0.72, 0.74, 0.26),
    "plum": (0.36, 0.14, 0.34),
    "bottle": (0.16, 0.36, 0.24),
    "vase": (0.25, 0.42, 0.62),
    "bowl": (0.86, 0.82, 0.74),
    "candle": (0.95, 0.92, 0.84),
}
SOLID_HEIGHTS = {
    "sphere": 1.0,
    "cube": 1.0,
    "cone": 1.25,
    "cylinder": 1.2,
    "pyramid": 1.1,
    "apple": 0.72,
    "orange": 0.7,
    "lemon": 0.58,
    "pear": 0.95,
    "plum": 0.55,
    "bottle": 1.9,
    "vase": 1.6,
    "bowl": 0.72,
    "candle": 1.5,
}
"""Height, where a sphere is 1."""

_VIEW = 0.2
"""How much a circle is foreshortened, seen from a little above."""
_Profile = Callable[[Field], Field]


def _lathe(canvas: Canvas, height: float, body: Lathed, tone: Field) -> Sprite:
    """A body turned on a lathe, seen a little from above, lit from the side."""
    rows, columns = max(8, round(height)), max(8, round(height * body.width))
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / rows)[:, None]
    x = ((np.arange(columns, dtype=np.float32) + 0.5 - columns / 2) / rows)[None]
    rim, base = (float(body.profile(np.array([[end]], np.float32))[0, 0]) for end in (0.0, 1.0))
    t = np.clip((y - _VIEW * rim) / (1 - _VIEW * rim), 0, 1)
    half = np.maximum(body.profile(t), 1e-4)
    inside = np.clip((half - np.abs(x)) * rows + 0.5, 0, 1)
    curve = np.sqrt(np.clip(1 - (x / max(base, 1e-4)) ** 2, 0, 1))
    inside = inside * np.clip((1 - _VIEW * base * (1 - curve) - y) * rows + 0.5, 0, 1)
    inside = inside * np.clip((y - _VIEW * rim) * rows + 0.5, 0, 1)
    across = np.clip(x / half, -1, 1)
    tilt = -np.gradient(half[:, 0]).astype(np.float32)[:, None] * rows  # positive where it narrows downwards
    length = np.sqrt(1 + tilt**2)
    normal = (across / length, -tilt / length, np.sqrt(np.clip(1 - across**2, 0, 1)) / length)
    sprite = _shaded(canvas, normal, inside, tone, gloss=body.gloss * canvas.settings.light)
    if rim > 0.02:
        _rim(canvas, sprite, (x, y), rim, tone, hollow=body.hollow)
    return sprite


def _rim(canvas: Canvas, sprite: Sprite, place: tuple[Field, Field], rim: float, tone: Field, *, hollow: bool) -> None:
    """The upper end: a lid, or the dark inside behind an edge."""
    x, y = place
    p, rows = canvas.palette, sprite.pixels.shape[0]
    distance = np.sqrt((x / rim) ** 2 + ((y - _VIEW * rim) / (_VIEW * rim)) ** 2)
    ellipse = np.clip((1 - distance) * rim * _VIEW * rows + 0.5, 0, 1)
    lid = np.clip(tone * mix(p.shade, p.light, 0.95), 0, 1)
    for share, mask in (
        (lid, ellipse),
        (np.clip(tone * p.shade * 0.55, 0, 1), np.clip((0.88 - distance) * rim * _VIEW * rows + 0.5, 0, 1)),
    ):
        if share is not lid and not hollow:
            return
        sprite.pixels[..., :3] = mix(sprite.pixels[..., :3], share, mask)
        sprite.pixels[..., 3] = np.maximum(sprite.pixels[..., 3], mask)


def _shaded(canvas: Canvas, normal: tuple[Field, Field, Field], inside: Field, tone: Field, *, gloss: float) -> Sprite:
    """Lambert and Blinn-Phong shading, with light thrown back by the table."""
    nx, ny, nz = normal
    light = np.array([0.55 * canvas.side, 0.62, 0.56])
    diffuse = np.clip(nx * light[0] + ny * light[1] + nz * light[2], 0, 1)
    half = np.array([light[0], light[1], light[2] + 1])
    half /= np.sqrt((half**2).sum())
    shine = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1) ** 42 * gloss
    s, p = canvas.settings, canvas.palette
    amount = 0.5 + s.light * (diffuse * 0.9 - 0.42 + 0.14 * np.clip(-ny, 0, 1))
    shaded = tone * mix(p.shade * 0.55, p.light * 1.05, np.clip(amount, 0, 1.1)) + shine[..., None] * p.light
    return Sprite(np.dstack([np.clip(shaded, 0, 1), inside]).astype(np.float32))


def _sphere(canvas: Canvas, height: float, tone: Field, *, gloss: float = 0.8) -> Sprite:
    return _ellipsoid(canvas, height, 1.0, tone, gloss=gloss)


def _ellipsoid(canvas: Canvas, height: float, width: float, tone: Field, *, gloss: float) -> Sprite:
    rows, columns = max(4, round(height)), max(4, round(height * width))
    y = (((np.arange(rows, dtype=np.float32) + 0.5) / rows) * 2 - 1)[:, None]
    x = (((np.arange(columns, dtype=np.float32) + 0.5) / columns) * 2 - 1)[None]
    square = x**2 + y**2
    inside = np.clip((1 - np.sqrt(square)) * rows / 2 + 0.5, 0, 1)
    nz = np.sqrt(np.clip(1 - square, 0, 1))
    ones = np.ones_like(square)
    return _shaded(canvas, (x * ones, -y * ones, nz), inside, tone, gloss=gloss)


def _fruit(canvas: Canvas, kind: str, height: float, tone: Field, rng: np.random.Generator) -> Sprite:
    width = {"apple": 1.08, "orange": 1.0, "lemon": 1.4, "plum": 1.08}[kind]
    sprite = _ellipsoid(canvas, height, width, tone, gloss=0.5)
    rows, columns = sprite.pixels.shape[:2]
    grain = fractal(rng, (rows, columns), (4, 9) if kind == "apple" else (24, 24), 3) - 0.5
    if canvas.settings.detail:
        other = colour("yellow", (0, 0, 0)) if kind == "apple" else tone * 0.6
        share = np.clip(grain * (0.75 if kind == "apple" else 0.35), 0, 1) * canvas.settings.detail
        brightness = sprite.pixels[..., :3].mean(axis=2) / max(float(tone.mean()), 0.1)
        sprite.pixels[..., :3] = mix(sprite.pixels[..., :3], np.clip(other * brightness[..., None], 0, 1), share)
    if kind == "apple":
        return _with_stalk(canvas, sprite, height)
    return sprite


def _with_stalk(canvas: Canvas, sprite: Sprite, height: float) -> Sprite:
    """A dimple, a stalk and a leaf on top."""
    extra = max(2, round(height * 0.2))
    pixels = np.pad(sprite.pixels, ((extra, 0), (0, 0), (0, 0)))
    rows, columns = pixels.shape[:2]
    sheet = Sheet(rows, columns / rows)
    p = canvas.palette
    sheet.ellipse(0, 0.225, 0.15, 0.035, np.clip(pixels[extra + rows // 12, columns // 2, :3] * 0.45, 0, 1), 0.7)
    sheet.line([(0, 0.235), (0.02, 0.12), (0.05, 0.03)], np.array([0.3, 0.2, 0.1]) * p.light, 0.028)
    leaf = [(0.02, 0.14), (0.1, 0.05), (0.24, 0.05), (0.15, 0.14)]
    sheet.polygon(leaf, np.array([0.3, 0.5, 0.18]) * p.light)
    top = sheet.sprite().pixels[:rows, :columns]
    alpha = top[..., 3]
    pixels[..., :3] = mix(pixels[..., :3], top[..., :3], alpha)
    pixels[..., 3] = np.maximum(pixels[..., 3], alpha)
    return Sprite(pixels)


def _turned(*knots: tuple[float, float]) -> _Profile:
    """A soft outline through points: share of the height from the top, half the width."""
    places, halves = np.array([k[0] for k in knots]), np.array([k[1] for k in knots])
    fine = np.linspace(-0.05, 1.05, 221)
    soft = np.convolve(np.pad(np.interp(fine, places, halves), 8, mode="edge"), np.ones(17) / 17, mode="valid")

    def profile(t: Field) -> Field:
        return np.interp(t, fine, soft).astype(np.float32)

    return profile


@dataclass(frozen=True, kw_only=True, slots=True)
class Lathed:
    """A body turned on a lathe."""

    profile: _Profile
    """Half the width for shares of the height from the top, both as shares of the height."""
    width: float
    """Of the sheet, as a share of the height."""
    gloss: float
    hollow: bool = False
    """Whether it is open at the top."""


_LATHED = {
    "cone": Lathed(profile=lambda t: 0.38 * t, width=0.8, gloss=0.3),
    "cylinder": Lathed(profile=lambda t: np.full_like(t, 0.34), width=0.72, gloss=0.35),
    "candle": Lathed(profile=lambda t: np.full_like(t, 0.11), width=0.26, gloss=0.2),
    "pear": Lathed(
        profile=_turned(
            (0, 0.02), (0.04, 0.1), (0.2, 0.16), (0.42, 0.22), (0.62, 0.34), (0.8, 0.35), (0.94, 0.27), (1, 0.14)
        ),
        width=0.76,
        gloss=0.45,
    ),
    "bottle": Lathed(
        profile=_turned((0, 0.058), (0.05, 0.058), (0.06, 0.048), (0.3, 0.05), (0.44, 0.15), (0.5, 0.16), (1, 0.155)),
        width=0.36,
        gloss=1.0,
        hollow=True,
    ),
    "vase": Lathed(
        profile=_turned((0, 0.15), (0.1, 0.1), (0.2, 0.1), (0.45, 0.27), (0.6, 0.27), (0.9, 0.14), (1, 0.14)),
        width=0.6,
        gloss=0.9,
        hollow=True,
    ),
    "bowl": Lathed(
        profile=_turned((0, 0.85), (0.2, 0.82), (0.5, 0.66), (0.8, 0.38), (0.88, 0.3), (1, 0.32)),
        width=1.76,
        gloss=0.6,
        hollow=True,
    ),
}


def _flame(sprite: Sprite) -> Sprite:
    """A candle with a wick and a flame above it."""
    rows, columns = sprite.pixels.shape[:2]
    extra = round(rows * 0.3)
    pixels = np.pad(sprite.pixels, ((extra, 0), (0, 0), (0, 0)))
    sheet = Sheet(extra * 1.1, columns / (extra * 1.1))
    sheet.line([(0, 1), (0, 0.72)], np.array([0.12, 0.1, 0.1], np.float32), 0.05)
    for grow, tone in ((1.0, (1.0, 0.62, 0.15)), (0.62, (1.0, 0.86, 0.45)), (0.34, (1.0, 0.98, 0.85))):
        drop = [
            (0.17 * grow * math.sin(a) * math.sin(a / 2) ** 1.2, 0.62 - 0.46 * grow * math.cos(a))
            for a in np.linspace(0, 2 * math.pi, 40).tolist()
        ]
        sheet.polygon(drop, np.array(tone, np.float32))
    top = sheet.sprite().pixels[:, :columns]
    part = pixels[: top.shape[0], : top.shape[1]]
    part[..., :3] = mix(part[..., :3], top[..., :3], top[..., 3])
    part[..., 3] = np.maximum(part[..., 3], top[..., 3])
    return Sprite(pixels, sprite.foot)


def _box(canvas: Canvas, height: float, tone: Field, *, pyramid: bool = False) -> Sprite:
    """A cube, or a pyramid, seen over a corner."""
    sheet = Sheet(height, 1.15)
    p, s = canvas.palette, canvas.side
    light = canvas.settings.light

    def face(points: list[tuple[float, float]], amount: float) -> None:
        share = 0.55 + light * (amount - 0.55)
        sheet.polygon([(s * x, y) for x, y in points], np.clip(tone * mix(p.shade * 0.6, p.light * 1.05, share), 0, 1))

    if pyramid:
        face([(-0.56, 0.86), (0.08, 0.02), (0.04, 1.0)], 0.22)
        face([(0.56, 0.84), (0.08, 0.02), (0.04, 1.0)], 0.9)
        return sheet.sprite(0.97)
    face([(-0.52, 0.24), (0.0, 0.42), (0.0, 1.0), (-0.5, 0.8)], 0.2)
    face([(0.52, 0.24), (0.0, 0.42), (0.0, 1.0), (0.5, 0.8)], 0.66)
    face([(-0.52, 0.24), (0.02, 0.08), (0.52, 0.24), (0.0, 0.42)], 1.0)
    return sheet.sprite(0.95)


def solid(canvas: Canvas, thing: Thing, height: float, rng: np.random.Generator) -> Sprite:
    """One body; a sphere is `height` pixels high."""
    default = _USUAL.get(thing.kind, COLOURS[_CYCLE[int(rng.integers(len(_CYCLE)))]])
    tone = colour(thing.colour, default)
    high = height * SOLID_HEIGHTS[thing.kind]
    if thing.kind in ("cube", "pyramid"):
        return _box(canvas, high, tone, pyramid=thing.kind == "pyramid")
    if thing.kind in ("apple", "orange", "lemon", "plum"):
        return _fruit(canvas, thing.kind, high, tone, rng)
    if thing.kind == "sphere":
        return _sphere(canvas, high, tone)
    sprite = _lathe(canvas, high, _LATHED[thing.kind], tone)
    return _flame(sprite) if thing.kind == "candle" else sprite
