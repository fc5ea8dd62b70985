"""The ground from the horizon to the feet: grass, flowers, snow, sand, earth, and a river through it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from hpskit.images.painter.canvas import Canvas, eight_bits
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Scene
from hpskit.images.painter.texture import Field, fractal, ground, jagged, mix, tile
from hpskit.images.painter.vocabulary import BLOOMS

__all__ = ["paint_dunes", "paint_flowers", "paint_grass", "paint_ground", "river_bed"]

_TONES = {
    "meadow": ((0.36, 0.52, 0.20), (0.56, 0.60, 0.26)),
    "autumn": ((0.52, 0.40, 0.16), (0.70, 0.52, 0.20)),
    "snow": ((0.86, 0.90, 0.97), (0.99, 0.99, 1.0)),
    "sand": ((0.82, 0.68, 0.47), (0.93, 0.82, 0.62)),
}


def paint_ground(canvas: Canvas, kind: str, named: str | None, top: int, edge: Field | None = None) -> None:
    """Ground of a kind (`meadow`, `autumn`, `snow`, `sand`) from the row `top` down, below the edge (width,)."""
    s, p = canvas.settings, canvas.palette
    rng = canvas.dice.of(f"ground {kind}")
    shape = (canvas.size - top, canvas.size)
    if shape[0] < 2:
        return
    low, high = (colour(named, tone) for tone in _TONES[kind])
    if named:
        low, high = low * 0.8, np.clip(high * 1.08, 0, 1)
    whole = (canvas.size - int(canvas.horizon) - 1, canvas.size)
    coarse = ground(tile(rng, 256, 4, 4), whole, stretch=1.6)[-shape[0] :]
    fine = ground(tile(rng, 256, 26, 3), whole, stretch=1.3)[-shape[0] :]
    rough = 0.45 if kind == "snow" else 0.7 if kind == "sand" else 1.0
    texture = np.clip(0.5 + rough * s.detail * ((coarse - 0.5) * 1.3 + (fine - 0.5) * 0.9), 0, 1)
    t = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    body: Field = mix(low, high, texture) * mix(p.shade, p.light, np.clip(0.45 + 0.6 * texture, 0, 1))
    body = body * (1 - 0.3 * s.light * t**1.5)[..., None]
    body = mix(body, p.haze, np.broadcast_to(0.5 * s.light * np.exp(-t / 0.12), shape))
    mask: Field | float = 1.0
    if edge is not None:
        mask = np.clip(np.arange(top, canvas.size, dtype=np.float32)[:, None] - edge[None] + 0.5, 0, 1)
    canvas.lay(body, mask, top)


def paint_dunes(canvas: Canvas, named: str | None) -> None:
    """Sand in crests: the side to the light, the side in shadow, and ripples."""
    s, p = canvas.settings, canvas.palette
    tone = colour(named, (0.90, 0.66, 0.40))
    top = int(canvas.horizon * 0.9)
    count = 1 + s.layers
    for number in range(count):
        rng = canvas.dice.of(f"dune {number}")
        near = number / (count - 1)
        crest = jagged(rng, canvas.size, 1.6 + 1.4 * (1 - near), 2, rough=0.3)
        kernel = np.ones(41) / 41
        crest = np.convolve(np.pad(crest, 20, mode="edge"), kernel, mode="valid").astype(np.float32)
        start = canvas.horizon + (canvas.size - canvas.horizon) * 0.8 * near**1.4
        edge = start - crest * (26 + 50 * near) * canvas.unit
        rows = np.arange(top, canvas.size, dtype=np.float32)[:, None]
        depth = rows - edge[None]
        slope = np.tanh(np.gradient(edge).astype(np.float32) * 3.5 * canvas.side)[None]
        wind = fractal(rng, depth.shape, (6, 3), 3)
        ripples = np.sin((depth * 0.8 + wind * 22) / canvas.unit) * 0.03 * near * s.detail
        fall = np.clip(depth / ((30 + 90 * near) * canvas.unit), 0, 1)
        shading = np.clip(0.62 + 0.5 * slope * (1 - fall) + ripples + 0.2 * (wind - 0.5) * s.detail, 0, 1)
        haze = np.broadcast_to(s.light * 0.6 * (1 - near) ** 1.5, depth.shape)
        canvas.lay(mix(tone * mix(p.shade, p.light, shading), p.haze, haze), np.clip(depth + 0.5, 0, 1), top)


def river_bed(canvas: Canvas) -> Field:
    """Where a winding river flows: (rows below the horizon, width), 0 to 1."""
    rng = canvas.dice.of("river")
    top = int(canvas.horizon) + 1
    shape = (canvas.size - top, canvas.size)
    t = np.linspace(0, 1, shape[0], dtype=np.float32)
    phase, turn = rng.uniform(0, 6.28), rng.uniform(0.1, 0.2) * canvas.side
    centre = canvas.size * (0.5 + turn * np.sin(phase + 5.5 * np.sqrt(t)) * (0.25 + t))
    half = canvas.size * (0.006 + 0.2 * t**1.4) + 5 * canvas.unit * jagged(rng, shape[0], 14, 3) * t
    return np.clip(half[:, None] - np.abs(canvas.columns - centre[:, None]) + 0.5, 0, 1).astype(np.float32)


def paint_flowers(canvas: Canvas, scene: Scene, top: int) -> None:
    """Flowers all over the ground, small at the back and with petals at the front."""
    wanted = [thing for thing in scene.things if thing.kind in BLOOMS]
    if not wanted:
        return
    rng = canvas.dice.of("flowers")
    depth = canvas.size - top
    count = round(250 + 1500 * canvas.settings.detail)
    t = np.sort(rng.random(count) ** 0.75)
    x = rng.uniform(-0.02, 1.02, count) * canvas.size
    rows = any(thing.kind == "lavender" for thing in wanted)
    if rows:
        lane = np.round(rng.uniform(-14, 14, count)) + rng.normal(0, 0.14, count)
        x = canvas.size / 2 + lane * canvas.size * (0.02 + 0.13 * t)
    kinds = rng.integers(len(wanted), size=count)
    tones = [colour(thing.colour or BLOOMS[thing.kind], (1, 1, 1)) for thing in wanted]
    light = rng.uniform(0.55, 1.1, count)
    image = Image.new("RGBA", (canvas.size * 2, depth * 2), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    shades = canvas.palette.shade, canvas.palette.light
    for a, d, k, bright in zip(x.tolist(), t.tolist(), kinds.tolist(), light.tolist(), strict=True):
        tone = np.clip(tones[k] * mix(shades[0], shades[1], bright), 0, 1)
        fade = mix(tone, canvas.palette.haze, 0.35 * canvas.settings.light * (1 - d) ** 3)
        _flower(pen, (a * 2, d * depth * 2), (1.2 + 11 * d**1.7) * canvas.unit, eight_bits(fade), wanted[k].kind)
    sheet = np.asarray(image.reduce(2), dtype=np.float32) / 255
    canvas.lay(sheet[..., :3], sheet[..., 3], top)


def _flower(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], radius: float, fill: tuple[int, ...], kind: str
) -> None:
    x, y = place
    if kind == "lavender":
        pen.ellipse([x - radius * 0.5, y - radius * 2.4, x + radius * 0.5, y + radius * 0.8], fill=fill)
        return
    pen.ellipse([x - radius, y - radius * 0.75, x + radius, y + radius * 0.75], fill=fill)
    if radius > 3:
        darker = tuple(int(v * 0.72) for v in fill[:3])
        pen.pieslice([x - radius, y - radius * 0.75, x + radius, y + radius * 0.75], 20, 160, fill=(*darker, 255))
        heart = (
            (70, 45, 20, 255) if kind == "sunflower" else (45, 30, 35, 255) if kind == "poppy" else (245, 205, 80, 255)
        )
        core = radius * (0.5 if kind == "sunflower" else 0.3)
        pen.ellipse([x - core, y - core * 0.7, x + core, y + core * 0.7], fill=heart)


def paint_grass(canvas: Canvas, named: str | None, top: int, *, autumn: bool = False) -> None:
    """Blades of grass, longer towards the front."""
    if not canvas.settings.detail:
        return
    rng = canvas.dice.of("grass")
    count = round(1900 * canvas.settings.detail)
    t = np.sort(rng.random(count) ** 0.6)
    x, lean = rng.random(count) * canvas.size, rng.uniform(-0.35, 0.35, count)
    low, high = (colour(named, tone) for tone in _TONES["autumn" if autumn else "meadow"])
    p = canvas.palette
    image = Image.new("RGBA", (canvas.size * 2, (canvas.size - top) * 2), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    shades = [
        eight_bits(np.clip(mix(low, high, n / 7) * mix(p.shade, p.light, 0.2 + n / 9), 0, 1), 0.85) for n in range(8)
    ]
    picks = rng.integers(8, size=count)
    for a, d, k, n in zip(x.tolist(), t.tolist(), lean.tolist(), picks.tolist(), strict=True):
        length = (1.5 + 22 * d**2) * canvas.unit * 2
        foot = d * (canvas.size - top) * 2 + length * 0.4
        pen.line(
            [(a * 2, foot), (a * 2 + k * length, foot - length)], fill=shades[n], width=1 + int(1.6 * d * canvas.unit)
        )
    sheet = np.asarray(image.reduce(2), dtype=np.float32) / 255
    canvas.lay(sheet[..., :3], sheet[..., 3], top)
