"""The land behind the foreground: mountains, hills, forests, islands and cities, with the air before them."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from hpskit.images.painter.canvas import Canvas, draw_mask
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Scene, Thing
from hpskit.images.painter.texture import Field, fractal, jagged, mix, smooth_step, tile

__all__ = [
    "paint_city",
    "paint_forest",
    "paint_headland",
    "paint_hedge",
    "paint_hills",
    "paint_islands",
    "paint_mound",
    "paint_mountains",
]

_ROCK = (0.40, 0.38, 0.42)
_SNOW = np.array([0.96, 0.97, 1.0], dtype=np.float32)
_WOODED = (0.22, 0.36, 0.22)
_GRASS = (0.40, 0.54, 0.24)


def _depths(canvas: Canvas, most: int = 6) -> list[float]:
    """How far each range is, 1 at the back to 0."""
    count = min(canvas.settings.layers, most)
    return [1.0] if count == 1 else [1 - n / (count - 1) for n in range(count)]


def _peaks(rng: np.random.Generator, canvas: Canvas, count: int) -> Field:
    """The outline of a range with that many summits: (size,), 0 to 1."""
    x = canvas.columns[0] / canvas.size
    centres = (np.arange(count) + rng.uniform(0.3, 0.7, count)) / count
    heights = rng.uniform(0.72, 1, count)
    heights[int(rng.integers(count))] = 1
    width = 0.95 / max(count, 2)
    cones = [h - np.abs(x - c) / width * h * 0.72 for c, h in zip(centres, heights, strict=True)]
    outline: Field = np.clip(np.max(cones, axis=0), 0, 1).astype(np.float32) ** 1.25
    return outline


def paint_mountains(canvas: Canvas, scene: Scene, thing: Thing) -> None:
    """Ranges with light and shadow on their flanks and snow on the summits; as many summits in the first as asked."""
    for number, depth in enumerate(_depths(canvas)):
        rng = canvas.dice.of(f"mountains {number}")
        main = number == 0 if canvas.settings.layers < 3 else number == 1
        many = min(thing.count, 7) if main else int(rng.integers(3, 6))
        rough = jagged(rng, canvas.size, 9, 6, rough=0.58)
        share = 0.26 if main else 0.5
        outline = (1 - share) * _peaks(rng, canvas, many) + share * rough
        high = canvas.horizon * (0.66 if main else 0.5 if number == 0 else 0.3 * depth + 0.14)
        tone = mix(colour(thing.colour, _ROCK), colour(None, _WOODED), 0 if thing.colour or main else 0.7 * (1 - depth))
        snowy = 0.78 if "winter" in scene.weather or scene.has("snow") else 0.42 if main else 0.25
        _range(canvas, rng, outline * high, tone, haze=0.12 + 0.62 * depth**1.3, snow=snowy)


def _range(
    canvas: Canvas, rng: np.random.Generator, heights: Field, tone: Field, *, haze: float, snow: float = 0.0
) -> None:
    """One range: `heights` in pixels above the horizon, `snow` the share of its height that is white."""
    s, p = canvas.settings, canvas.palette
    bottom = min(canvas.size, int(canvas.horizon) + 1)
    top = max(0, bottom - int(heights.max()) - 2)
    shape = (bottom - top, canvas.size)
    ridge = (bottom - heights - top)[None]
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    depth = rows - ridge
    rocky = snow > 0
    coarse, fine = fractal(rng, shape, (2, 6), 4) - 0.5, fractal(rng, shape, (7, 16), 5) - 0.5
    smooth = np.convolve(np.pad(heights, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    slope = np.tanh(np.gradient(smooth).astype(np.float32) * -1.3 * canvas.side)
    warp = coarse * (10 * canvas.unit + np.clip(depth, 0, None) * 0.8)
    ribs = _ribs(canvas, rng, depth, warp)
    index = np.clip(canvas.columns + warp, 0, canvas.size - 1).astype(np.int64)
    relief = fine * 0.45 + ribs * 1.1 if rocky else fine * 0.75
    shading = np.clip(0.5 + s.detail * (0.46 * slope[index] + relief), 0, 1)
    body: Field = np.broadcast_to(tone, (*shape, 3))
    if snow:
        line = heights.max() * (1 - snow)
        altitude = bottom - top - rows
        ragged = (coarse * 0.5 + fine) * 0.55 * s.detail
        white = smooth_step(-0.05, 0.06, (altitude - line) / max(float(heights.max()), 1) + ragged)
        bare = smooth_step(0.42, 0.22, shading) * smooth_step(0.0, 0.12, fine + 0.06) * s.detail
        body = mix(body, _SNOW, white * (1 - 0.75 * bare))
    lit = body * mix(p.shade, p.light, shading)
    fog = haze * s.light + 0.5 * s.light * (rows / shape[0]) ** 2 * (0.35 + haze)
    canvas.lay(mix(lit, p.haze, np.clip(np.broadcast_to(fog, shape), 0, 0.97)), np.clip(depth + 0.5, 0, 1), top)


def _ribs(canvas: Canvas, rng: np.random.Generator, depth: Field, warp: Field) -> Field:
    """Light and shadow on spurs that run down from the ridge, about -0.5 to 0.5."""
    spurs = 1 - np.abs(2 * tile(rng, 256, 6, 4) - 1)  # sharp where the noise passes its middle
    lit = (np.roll(spurs, 3 * canvas.side, axis=1) - spurs) * 2.2
    v = (np.clip(depth, 0, None) / canvas.unit * 0.32).astype(np.int64) % 256
    u = ((canvas.columns + 0.5 * warp) / canvas.unit * 0.75).astype(np.int64) % 256
    result: Field = np.clip(lit[v, u], -0.5, 0.5)
    return result


def paint_hills(canvas: Canvas, scene: Scene, thing: Thing) -> None:
    """Round hills, one behind the other, wooded in patches."""
    tone = _grass(scene, thing)
    for number, depth in enumerate(_depths(canvas)):
        rng = canvas.dice.of(f"hills {number}")
        x = canvas.columns[0] / canvas.size
        count = thing.count if number == 0 and thing.count < 5 else 2 + int(rng.integers(3))
        centres = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count
        bumps = [rng.uniform(0.65, 1) * np.exp(-(((x - c) * count / rng.uniform(0.5, 0.8)) ** 2)) for c in centres]
        outline = (
            np.max(bumps, axis=0).astype(np.float32) + 0.08 * jagged(rng, canvas.size, 40, 3) * canvas.settings.detail
        )
        high = canvas.horizon * (0.12 + 0.26 * depth)
        patch = mix(tone, colour(None, _WOODED) if not thing.colour else tone * 0.7, 0.35 * rng.random())
        _range(canvas, rng, outline * high, patch, haze=0.08 + 0.62 * depth**1.3)


def paint_forest(canvas: Canvas, scene: Scene, thing: Thing) -> None:
    """Rows of conifers that grow darker and clearer towards the front."""
    winter = "winter" in scene.weather or "snowfall" in scene.weather or scene.has("snow")
    default = (0.62, 0.33, 0.10) if "autumn" in scene.weather else (0.10, 0.24, 0.16)
    tone = colour(thing.colour, default)
    rows = max(2, canvas.settings.layers)
    for number in range(rows):
        rng = canvas.dice.of(f"forest {number}")
        near = number / (rows - 1)
        high = canvas.horizon * (0.26 + 0.2 * near)
        count = round((46 - 16 * near) * (0.5 + 0.5 * canvas.settings.detail))
        x = (np.arange(count) + rng.uniform(-0.4, 0.4, count)) * canvas.size / (count - 1)
        tall = high * rng.uniform(0.5, 1, count)
        shape = (int(canvas.horizon) + 1, canvas.size)

        def draw(pen: ImageDraw.ImageDraw, finer: int, x: Field = x, tall: Field = tall, high: float = high) -> None:
            for a, h in zip(x.tolist(), tall.tolist(), strict=True):
                _conifer(pen, a * finer, canvas.horizon * finer, h * finer, canvas.settings.detail)
            pen.rectangle(
                [0, (canvas.horizon - high * 0.3) * finer, canvas.size * finer, canvas.size * finer], fill=255
            )

        mask = draw_mask(shape, draw)
        p = canvas.palette
        grain = fractal(rng, shape, (30, 30), 3)
        light = mix(p.shade, p.light, np.clip(0.15 + 0.6 * grain * canvas.settings.detail, 0, 1))
        body = mix(tone, _SNOW, smooth_step(0.5, 0.75, grain) * 0.7) if winter else np.broadcast_to(tone, (*shape, 3))
        fog = canvas.settings.light * (0.72 * (1 - near) ** 1.2 + 0.04)
        ramp = np.clip(fog + 0.3 * canvas.settings.light * (canvas.rows[: shape[0]] / canvas.horizon) ** 6, 0, 0.95)
        canvas.lay(mix(body * light, p.haze, np.broadcast_to(ramp, shape)), mask)


def _conifer(pen: ImageDraw.ImageDraw, x: float, foot: float, high: float, detail: float) -> None:
    tiers = 3 + round(4 * detail)
    for tier in range(tiers):
        top, low = foot - high * (1 - tier / tiers * 0.92), foot - high * max(0, 0.86 - (tier + 1) / tiers)
        half = high * (0.05 + 0.17 * (tier + 1) / tiers)
        pen.polygon([(x, top), (x + half, low), (x - half, low)], fill=255)


def paint_islands(canvas: Canvas, thing: Thing) -> None:
    """Humps in the water, apart from one another."""
    for number in range(thing.count):
        rng = canvas.dice.of(f"island {number}")
        centre = (number + rng.uniform(0.3, 0.7)) / thing.count
        x = canvas.columns[0] / canvas.size
        width = rng.uniform(0.26, 0.34) / (1 + 0.5 * (thing.count - 1))
        hump = np.clip(1 - ((x - centre) / width) ** 2, 0, 1) ** 0.8
        outline = hump * (0.75 + 0.25 * jagged(rng, canvas.size, 18, 4))
        _range(
            canvas,
            rng,
            outline.astype(np.float32) * canvas.horizon * 0.2,
            colour(thing.colour, (0.3, 0.4, 0.25)),
            haze=0.25,
        )


def paint_mound(canvas: Canvas, scene: Scene, thing: Thing) -> Field:
    """One hill, near by, for what stands on it. Returns its height in pixels, (size,)."""
    rng = canvas.dice.of("mound")
    x = canvas.columns[0] / canvas.size
    centre = 0.5 + canvas.side * rng.uniform(0.05, 0.2)
    outline = 0.85 * np.exp(-(((x - centre) / 0.3) ** 2)) + 0.15 * jagged(rng, canvas.size, 4, 3)
    heights: Field = outline.astype(np.float32) * canvas.horizon * 0.3
    _range(canvas, rng, heights, _grass(scene, thing), haze=0.1)
    return heights


def paint_hedge(canvas: Canvas) -> None:
    """Bushes and trees far off, where the plain ends."""
    rng = canvas.dice.of("hedge")
    heights = jagged(rng, canvas.size, 30, 4) * jagged(rng, canvas.size, 5, 2) * canvas.horizon * 0.045
    _range(canvas, rng, heights.astype(np.float32), colour(None, _WOODED), haze=0.22)


def _grass(scene: Scene, thing: Thing) -> Field:
    """The colour of a hill."""
    if thing.colour:
        return colour(thing.colour, _GRASS)
    if scene.weather & {"winter", "snowfall"} or scene.has("snow"):
        return np.array([0.9, 0.92, 0.97], dtype=np.float32)
    return colour("golden", _GRASS) * 0.85 if "autumn" in scene.weather else colour(None, _GRASS)


def paint_headland(canvas: Canvas, scene: Scene) -> Field:
    """Land that runs into the water from one side, for what is built there. Returns its height in pixels, (size,)."""
    rng = canvas.dice.of("headland")
    x = canvas.columns[0] / canvas.size
    inland = x if canvas.side > 0 else 1 - x  # on the side of the light, so that the shadow falls on the water
    outline = smooth_step(0.28, 0.7, inland) * (0.86 + 0.14 * jagged(rng, canvas.size, 20, 4))
    heights = outline.astype(np.float32) * canvas.horizon * 0.16
    tone = _SNOW if "winter" in scene.weather else colour(None, (0.36, 0.38, 0.26))
    _range(canvas, rng, heights, tone, haze=0.1)
    return heights


def paint_city(canvas: Canvas, thing: Thing) -> None:
    """A skyline in rows, with windows that are lit after dark."""
    p = canvas.palette
    rows = min(canvas.settings.layers, 3)
    for number in range(rows):
        rng = canvas.dice.of(f"city {number}")
        near = 1.0 if rows == 1 else number / (rows - 1)
        tone = colour(thing.colour, (0.5, 0.5, 0.56)) * rng.uniform(0.75, 1)
        x = -8.0 * canvas.unit
        while x < canvas.size:
            width = rng.uniform(22, 50) * canvas.unit * (0.75 + 0.3 * near)
            centre = 1 - abs((x + width / 2) / canvas.size - 0.5) * 1.3
            high = canvas.horizon * rng.uniform(0.3, 1) * (0.72 - 0.42 * near) * (0.45 + 0.55 * centre)
            _tower_block(canvas, rng, (x, width, high), tone * rng.uniform(0.85, 1.15), near)
            x += width * rng.uniform(0.8, 1.15)
    if canvas.settings.light:
        rows_up = (canvas.horizon - canvas.rows) / canvas.horizon
        mist = np.where(rows_up > 0, np.exp(-rows_up / 0.09), 0) * np.ones_like(canvas.columns)
        warm = mix(p.haze, np.array([1, 0.72, 0.4], np.float32), 0.5 * p.dark)
        canvas.add(warm, (0.35 * canvas.settings.light * mist).astype(np.float32))


def _tower_block(
    canvas: Canvas, rng: np.random.Generator, place: tuple[float, float, float], tone: Field, near: float
) -> None:
    """One building: `place` is its left edge, width and height in pixels."""
    s, p, u = canvas.settings, canvas.palette, canvas.unit
    left, right = max(0, round(place[0])), min(canvas.size, round(place[0] + place[1]))
    bottom, top = int(canvas.horizon) + 1, max(0, round(canvas.horizon - place[2]))
    if right - left < 3 or bottom - top < 3:
        return
    shape = (bottom - top, right - left)
    half = smooth_step(0.3, 0.34, np.linspace(0, 1, shape[1], dtype=np.float32)[:: canvas.side])[None]
    face = mix(p.shade, p.light, (0.2 + 0.55 * half * s.detail) * np.ones(shape, np.float32))
    body: Field = tone * face
    if s.detail > 0.2:
        gap = max(3, round(5 * u))
        rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
        pane = ((rows % (gap + 1) >= gap // 2) & (columns % gap >= max(1, gap // 2)) & (rows > gap)).astype(np.float32)
        cells = rng.random((shape[0] // (gap + 1) + 1, shape[1] // gap + 1), dtype=np.float32)
        on = (cells < (0.12 + 0.4 * p.dark))[rows // (gap + 1), columns // gap]
        lamp = (
            np.array([1, 0.8, 0.45], np.float32) * (0.75 + 0.25 * cells[rows // (gap + 1), columns // gap])[..., None]
        )
        glass = np.where((on & (p.dark > 0.2))[..., None], lamp, mix(p.middle, p.shade, 0.5)).astype(np.float32)
        body = mix(body, glass, pane * (0.55 + 0.4 * p.dark))
    fog = s.light * (0.5 * (1 - near) + 0.06)
    canvas.pixels[top:bottom, left:right] = mix(body, p.haze, fog)
