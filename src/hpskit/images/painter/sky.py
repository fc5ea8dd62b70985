"""The sky and what is in it: sun, moon, stars, clouds, northern lights, rainbow, lightning."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from hpskit.images.painter.canvas import Canvas, draw_mask
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Scene, Thing
from hpskit.images.painter.texture import Field, fractal, ground, jagged, mix, smooth_step, tile

__all__ = ["paint_sky", "paint_weather"]

_COVER = {"clear": 0.0, "clouds": 0.55, "overcast": 0.85, "rain": 0.8, "storm": 0.9, "snowfall": 0.7}
_BAD = frozenset({"overcast", "fog", "rain", "storm", "snowfall"})


def paint_sky(canvas: Canvas, scene: Scene) -> None:
    """Everything above and behind the land."""
    _gradient(canvas)
    night = scene.time == "night"
    if scene.has("stars") or (night and not scene.weather & _BAD):
        _stars(canvas, many=scene.has("stars"))
    if scene.has("aurora"):
        _aurora(canvas, scene.find("aurora"))
    for number, (kind, thing) in enumerate(_lamps(scene)):
        _lamp(canvas, scene, kind, thing, number)
    _clouds(canvas, scene)
    for number in range(_count(scene, "rainbow")):
        _rainbow(canvas, number)
    for number in range(_count(scene, "lightning")):
        _lightning(canvas, number)


def _count(scene: Scene, kind: str) -> int:
    return sum(thing.count for thing in scene.things if thing.kind == kind)


def _gradient(canvas: Canvas) -> None:
    p = canvas.palette
    where = np.clip(canvas.rows[:, 0] / canvas.horizon, 0, 1)
    stops = np.stack([p.zenith, p.middle, p.horizon])
    line = np.stack([np.interp(where, [0.0, 0.6, 1.0], stops[:, n]) for n in range(3)], axis=1).astype(np.float32)
    canvas.pixels[:] = line[:, None]


def _lamps(scene: Scene) -> list[tuple[str, Thing | None]]:
    """Each sun and moon, named or taken for granted at a low sun in good weather."""
    named = [thing for thing in scene.things if thing.kind in ("sun", "moon", "crescent")]
    lamps: list[tuple[str, Thing | None]] = [(t.kind, t) for t in named for _ in range(t.count)]
    if not lamps and scene.time in ("dawn", "sunset") and not scene.weather & _BAD:
        lamps = [("sun", None)]
    return lamps


def _lamp(canvas: Canvas, scene: Scene, kind: str, thing: Thing | None, number: int) -> None:
    """The sun or the moon, and the glow around it."""
    rng = canvas.dice.of(f"lamp {number}")
    low = kind == "sun" and scene.time in ("dawn", "sunset", "dusk")
    height = rng.uniform(0.74, 0.86) if low else rng.uniform(0.24, 0.42)
    x = canvas.size * (0.5 + canvas.side * (rng.uniform(0.08, 0.28) - 0.36 * number))
    y = canvas.horizon * height
    radius = canvas.unit * (rng.uniform(24, 32) if low else rng.uniform(19, 27))
    tone = colour(thing.colour, (0, 0, 0)) if thing and thing.colour else canvas.palette.sun
    distance = np.sqrt((canvas.columns - x) ** 2 + (canvas.rows - y) ** 2)
    disc = np.clip(radius - distance + 0.5, 0, 1)
    strength = canvas.palette.glow * canvas.settings.light
    wide = mix(tone, canvas.palette.horizon, 0.5)
    canvas.add(wide, 0.75 * strength * np.exp(-distance / (canvas.size * (0.22 if low else 0.13))))
    canvas.add(tone, 0.6 * strength * np.exp(-np.maximum(distance - radius, 0) / (canvas.size * 0.03)))
    if kind == "crescent":
        other = np.sqrt((canvas.columns - x + 0.45 * radius * canvas.side) ** 2 + (canvas.rows - y + 0.1 * radius) ** 2)
        disc = disc * np.clip(other - radius * 0.95 + 0.5, 0, 1)
    face: Field = np.broadcast_to(tone, (canvas.size, canvas.size, 3))
    if kind == "moon" and canvas.settings.detail:
        spots = fractal(rng, (64, 64), (4, 4), 4)
        v = np.clip((canvas.rows - y) / radius * 31 + 32, 0, 63).astype(np.int64)
        u = np.clip((canvas.columns - x) / radius * 31 + 32, 0, 63).astype(np.int64)
        face = tone * (1 - 0.3 * canvas.settings.detail * smooth_step(0.42, 0.7, spots[v, u]))[..., None]
    canvas.lay(face, disc)
    if number == 0:
        canvas.lamp = (x, y)


def _stars(canvas: Canvas, *, many: bool) -> None:
    rng = canvas.dice.of("stars")
    count = round((900 if many else 420) * (0.15 + 0.85 * canvas.settings.detail))
    x, y = rng.integers(0, canvas.size, count), (rng.random(count) * canvas.horizon).astype(np.int64)
    bright = (0.25 + 0.75 * rng.random(count) ** 4).astype(np.float32)
    warmth = rng.random((count, 1)).astype(np.float32)
    tone = mix(np.array([0.75, 0.85, 1], np.float32), np.array([1, 0.92, 0.8], np.float32), warmth[:, 0])
    fade = 1 - (y / canvas.horizon).astype(np.float32) ** 3
    if many and canvas.settings.detail > 0.5:
        across = (canvas.columns - canvas.size / 2) / canvas.size * canvas.side
        band = np.exp(-(((canvas.rows / canvas.size - 0.28 + across * 0.55) / 0.13) ** 2))
        dust = fractal(rng, (canvas.size, canvas.size), (6, 6), 5)
        canvas.add(np.array([0.62, 0.6, 0.85], np.float32), 0.42 * band * smooth_step(0.3, 0.9, dust))
    points = np.zeros((canvas.size, canvas.size), dtype=np.float32)
    np.maximum.at(points, (y, x), bright * fade)
    canvas.pixels[y, x] = mix(canvas.pixels[y, x], tone, bright * fade)
    big = np.where(points > 0.62, points, 0)
    if canvas.settings.light:
        halo = canvas.blurred(big, 1.1) * 5 * canvas.settings.light
        canvas.add(np.array([0.8, 0.88, 1], np.float32), np.clip(halo, 0, 1))


def _clouds(canvas: Canvas, scene: Scene) -> None:
    named = scene.find("cloud")
    cover = max((_COVER.get(w, 0) for w in scene.weather), default=0.0)
    if named:
        cover = max(cover, 0.5)
    elif not scene.weather and scene.time != "night":
        cover = 0.32
    if not cover or "fog" in scene.weather:
        return
    rng = canvas.dice.of("clouds")
    rows = int(canvas.horizon)
    octaves = 2 + round(3 * canvas.settings.detail)
    flipped = ground(
        tile(rng, 512, 3, octaves), (rows, canvas.size), stretch=1.7, drift=float(rng.integers(512)), fade=0.4
    )
    density = flipped[::-1]
    padded = np.pad(density, 5, mode="edge")
    sideways = 5 + 4 * canvas.side
    toward = 0.5 * padded[5:-5, sideways : sideways + canvas.size] + 0.5 * padded[:-10, 5:-5]
    threshold = 0.74 - 0.42 * cover
    mask = smooth_step(threshold, threshold + 0.2, density) * (0.55 + 0.45 * min(1, cover * 1.4))
    lit = np.clip(0.62 + (toward - density) * 5 * canvas.settings.detail - (density - threshold) * 0.8, 0, 1)
    p = canvas.palette
    tone = colour(named.colour, (0, 0, 0)) if named and named.colour else np.array([1, 1, 1], np.float32)
    heavy = 0.55 if scene.weather & {"storm", "rain"} else 1.0
    bright = np.clip(mix(p.light, p.sun, 0.5) * 1.02 * heavy, 0, 1) * tone
    below = mix(p.middle, p.shade, 0.35 if heavy == 1 else 0.7) * tone
    canvas.lay(mix(below, bright, lit), mask * (0.75 if p.dark == 1 else 0.95))


def _aurora(canvas: Canvas, thing: Thing | None) -> None:
    rng = canvas.dice.of("aurora")
    tone = colour(thing.colour if thing else None, (0.25, 0.95, 0.6))
    for number in range(3):
        line = jagged(rng, canvas.size, 2.5, 2, rough=0.35)
        line = np.convolve(np.pad(line, 24, mode="edge"), np.ones(49) / 49, mode="valid").astype(np.float32)
        foot = canvas.horizon * (0.36 + 0.17 * number + 0.3 * (line - 0.5))
        streaks = (0.25 + 0.75 * jagged(rng, canvas.size, 46, 3)) * (0.3 + 0.7 * jagged(rng, canvas.size, 3, 2))
        above = (foot[None] - canvas.rows) / canvas.horizon
        body = np.where(above > 0, np.exp(-above / 0.22), np.exp(above / 0.06)) * streaks[None]
        top = mix(tone, np.array([0.55, 0.3, 0.9], np.float32), np.clip(above * 2.2, 0, 1))
        canvas.add(top, (0.6 - 0.12 * number) * body.astype(np.float32))


def _rainbow(canvas: Canvas, number: int) -> None:
    rng = canvas.dice.of(f"rainbow {number}")
    x = canvas.size * (0.5 - 0.18 * canvas.side + rng.uniform(-0.06, 0.06))
    radius = canvas.size * (0.42 + 0.13 * number)
    distance = np.sqrt((canvas.columns - x) ** 2 + (canvas.rows - canvas.horizon * 1.08) ** 2)
    t = (distance - radius) / (canvas.size * 0.045)
    stops = np.array([[0.5, 0.2, 0.8], [0.2, 0.4, 1], [0.2, 0.8, 0.3], [1, 0.9, 0.2], [1, 0.5, 0.1], [0.9, 0.1, 0.1]])
    places = np.linspace(0, 1, len(stops))
    bands = np.stack([np.interp(t, places, stops[:, n]) for n in range(3)], axis=-1).astype(np.float32)
    mask = smooth_step(-0.15, 0.15, t) * smooth_step(1.15, 0.85, t) * (canvas.rows < canvas.horizon)
    canvas.lay(bands, mask * (0.5 - 0.2 * number))


def _lightning(canvas: Canvas, number: int) -> None:
    rng = canvas.dice.of(f"lightning {number}")
    steps = 14
    x = canvas.size * rng.uniform(0.25, 0.75) + np.cumsum(rng.uniform(-1, 1, steps)) * canvas.size * 0.022
    y = np.linspace(0.02, 1, steps) * canvas.horizon

    def draw(pen: ImageDraw.ImageDraw, finer: int) -> None:
        points = [(float(a) * finer, float(b) * finer) for a, b in zip(x, y, strict=True)]
        pen.line(points, fill=255, width=max(1, round(2.4 * canvas.unit * finer)))
        for start in (4, 7):
            reach = np.cumsum(rng.uniform(0.2, 1, 4)) * canvas.size * 0.03 * (1 if start == 4 else -1)
            branch = [
                (points[start][0] + r * finer, points[start][1] + n * 16 * canvas.unit * finer)
                for n, r in enumerate(reach)
            ]
            pen.line([points[start], *branch], fill=200, width=max(1, round(1.2 * canvas.unit * finer)))

    bolt = draw_mask((canvas.size, canvas.size), draw)
    violet = np.array([0.78, 0.78, 1], np.float32)
    canvas.add(violet, np.clip(canvas.blurred(bolt, 14) * 3, 0, 0.8) * canvas.settings.light)
    canvas.lay(np.array([1, 1, 1], np.float32), bolt)


def paint_weather(canvas: Canvas, scene: Scene) -> None:
    """What falls or hangs between the eye and everything else."""
    rng = canvas.dice.of("weather")
    if "fog" in scene.weather:
        veil = fractal(rng, (canvas.size, canvas.size), (5, 2), 3)
        near = np.exp(-(((canvas.rows - canvas.horizon) / (canvas.size * 0.22)) ** 2))
        canvas.lay(canvas.palette.haze * 1.04, np.clip(near * (0.25 + 0.5 * veil), 0, 0.75))
    if scene.weather & {"rain", "storm"}:
        slant = 0.18 * canvas.side
        _streaks(canvas, rng, count=round(260 + 500 * canvas.settings.detail), slant=slant)
    if "snowfall" in scene.weather:
        _flakes(canvas, rng)


def _streaks(canvas: Canvas, rng: np.random.Generator, *, count: int, slant: float) -> None:
    x, y = rng.uniform(-0.1, 1.1, count) * canvas.size, rng.uniform(-0.1, 1, count) * canvas.size
    length = rng.uniform(8, 26, count) * canvas.unit

    def draw(pen: ImageDraw.ImageDraw, finer: int) -> None:
        for a, b, n in zip(x.tolist(), y.tolist(), length.tolist(), strict=True):
            pen.line([(a * finer, b * finer), ((a - slant * n) * finer, (b + n) * finer)], fill=150, width=1)

    canvas.add(np.array([0.75, 0.8, 0.88], np.float32), draw_mask((canvas.size, canvas.size), draw) * 0.38)


def _flakes(canvas: Canvas, rng: np.random.Generator) -> None:
    count = round(160 + 380 * canvas.settings.detail)
    x, y = rng.random(count) * canvas.size, rng.random(count) * canvas.size
    radius = (0.6 + 2.2 * rng.random(count) ** 3) * canvas.unit

    def draw(pen: ImageDraw.ImageDraw, finer: int) -> None:
        for a, b, r in zip(x.tolist(), y.tolist(), radius.tolist(), strict=True):
            box = [(a - r) * finer, (b - r) * finer, (a + r) * finer, (b + r) * finer]
            pen.ellipse(box, fill=255)

    canvas.lay(np.array([1, 1, 1], np.float32), draw_mask((canvas.size, canvas.size), draw) * 0.85)
