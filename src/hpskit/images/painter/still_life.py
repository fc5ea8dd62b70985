"""A still life: a wall, a table, and bodies on it."""

from __future__ import annotations

import math

import numpy as np

from hpskit.images.painter.canvas import Canvas, Sheet
from hpskit.images.painter.flat import flat_shape
from hpskit.images.painter.palette import colour
from hpskit.images.painter.scene import Scene, Thing
from hpskit.images.painter.solids import SOLID_HEIGHTS, solid
from hpskit.images.painter.texture import Field, fractal, mix
from hpskit.images.painter.vocabulary import BLOOMS

__all__ = ["paint_still_life"]


def paint_still_life(canvas: Canvas, scene: Scene) -> None:
    """A wall, a table, and what stands on it."""
    s, p, rng = canvas.settings, canvas.palette, canvas.dice.of("still life")
    wall = scene.find("background")
    table = scene.find("table")
    edge = int(canvas.size * 0.62)
    canvas.horizon = float(edge)
    tone = colour(wall.colour if wall else None, (0.50, 0.52, 0.50))
    cloud = fractal(rng, (edge, canvas.size), (3, 3), 5) - 0.5
    x = 0.5 + canvas.side * 0.28
    spot = np.exp(-(((canvas.columns / canvas.size - x) / 0.55) ** 2 + ((canvas.rows[:edge] / edge - 0.35) / 0.8) ** 2))
    amount = 0.62 + s.light * (spot * 0.6 - 0.4) + 0.22 * s.detail * cloud
    canvas.lay(tone * mix(p.shade, p.light, np.clip(amount, 0, 1)), np.ones((edge, canvas.size), np.float32))
    _table(canvas, rng, colour(table.colour if table else None, (0.50, 0.33, 0.20)), edge)
    _hang(canvas, scene, edge, rng)
    blooms = scene.find(*BLOOMS)
    bodies = [thing for thing in scene.group("solid") for _ in range(thing.count)]
    vase = next((body for body in bodies if body.kind == "vase"), None)
    if blooms and vase is None:
        vase = Thing(kind="vase")
        bodies.append(vase)
    places = _on_the_table(canvas, bodies, edge, rng)
    for foot, x, high, thing in sorted(places, key=lambda place: place[:2]):
        sprite = solid(canvas, thing, high, rng)
        half = sprite.pixels.shape[1] / 2
        canvas.shadow(x, foot - high * 0.02, half, strength=0.75)
        canvas.shadow(x, foot, half * 0.55, strength=0.6)
        if blooms and thing is vase:
            _bouquet(canvas, blooms, (x, foot - sprite.pixels.shape[0] * 0.93), high)
            blooms = None
        canvas.paste(sprite, x, foot)
        if thing.kind == "candle":
            _candlelight(canvas, x, foot - sprite.pixels.shape[0] * 0.88)


def _candlelight(canvas: Canvas, x: float, y: float) -> None:
    distance = np.hypot(canvas.columns - x, canvas.rows - y) / canvas.size
    warm = np.array([1.0, 0.68, 0.3], dtype=np.float32)
    canvas.add(warm, (0.55 * np.exp(-distance / 0.06) + 0.14 * np.exp(-distance / 0.3)) * canvas.settings.light)


def _table(canvas: Canvas, rng: np.random.Generator, tone: Field, edge: int) -> None:
    s, p = canvas.settings, canvas.palette
    shape = (canvas.size - edge, canvas.size)
    grain = fractal(rng, shape, (26, 1.2), 4) - 0.5
    t = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    side = (canvas.columns / canvas.size - 0.5) * canvas.side
    amount = 0.55 + s.light * (0.28 * side + 0.2 * np.sin(np.pi * t) - 0.05)
    wood = tone * (1 + 0.6 * s.detail * grain)[..., None]
    canvas.lay(wood * mix(p.shade, p.light, np.clip(amount, 0, 1)), np.ones(shape, np.float32), edge)
    line = np.exp(-t * shape[0] / (3 * canvas.unit)) * 0.5 * s.light * np.ones(shape, np.float32)
    canvas.lay(p.shade * tone * 0.4, line, edge)


def _on_the_table(
    canvas: Canvas, bodies: list[Thing], edge: int, rng: np.random.Generator
) -> list[tuple[float, float, float, Thing]]:
    """Foot, column, size and body: from side to side, tall ones further back."""
    count = len(bodies)
    if not count:
        return []
    order = rng.permutation(count)
    unit = canvas.size * min(0.3, 0.9 / max(count, 2) ** 0.8)
    room = canvas.size - edge
    places = []
    for n, body in zip(order.tolist(), bodies, strict=True):
        x = canvas.size * (0.1 + 0.8 * (n + rng.uniform(0.4, 0.6)) / count) if count > 1 else canvas.size * 0.5
        back = 0.3 if SOLID_HEIGHTS[body.kind] > 1.3 else 0.42 + 0.3 * (n % 2)
        foot = edge + room * (back + rng.uniform(-0.04, 0.04))
        if rng.random() > canvas.settings.placement:
            x, foot = rng.random() * canvas.size, rng.uniform(0.25, 1) * canvas.size
        places.append((float(foot), float(x), unit * (0.85 + 0.35 * (foot - edge) / room), body))
    return places


def _hang(canvas: Canvas, scene: Scene, edge: int, rng: np.random.Generator) -> None:
    """Flat shapes on the wall, side by side."""
    shapes = [thing for thing in scene.group("flat") for _ in range(thing.count)]
    for n, shape in enumerate(shapes):
        high = min(canvas.size * 0.2, canvas.size * 0.7 / len(shapes))
        x = canvas.size * (0.1 + 0.8 * (n + 0.5) / len(shapes))
        canvas.paste(flat_shape(canvas, shape, high, rng), x, edge * rng.uniform(0.3, 0.36) + high / 2)


def _bouquet(canvas: Canvas, thing: Thing, neck: tuple[float, float], high: float) -> None:
    """Flowers that stand in a vase whose neck is at that column and row."""
    rng, p = canvas.dice.of("bouquet"), canvas.palette
    sheet = Sheet(min(high * 1.3, neck[1] * 0.98), 1.3)
    green, tone = np.array([0.24, 0.42, 0.18]), colour(thing.colour or BLOOMS[thing.kind], (0, 0, 0))
    count = max(thing.count, 7)
    heads = []
    for n in range(count):
        angle = math.pi * (0.18 + 0.64 * (n + rng.uniform(0.2, 0.8)) / count)
        reach = rng.uniform(0.45, 0.78)
        heads.append((reach * math.cos(angle) * 0.85, 1 - reach * math.sin(angle)))
        sheet.line(
            [(0, 1.0), (heads[-1][0] * 0.4, 0.75), heads[-1]], green * mix(p.shade, p.light, rng.random()), 0.014
        )
    for x, y in heads:
        light = 0.55 + 0.5 * x * canvas.side
        for petal in range(6):
            turn = petal * math.pi / 3 + x
            shade = np.clip(tone * mix(p.shade, p.light, light + 0.25 * math.cos(turn) * canvas.side), 0, 1)
            sheet.ellipse(x + 0.05 * math.cos(turn), y + 0.045 * math.sin(turn), 0.045, 0.04, shade)
        sheet.ellipse(x, y, 0.032, 0.03, np.clip(colour("golden", (0, 0, 0)) * mix(p.shade, p.light, light), 0, 1))
    canvas.paste(sheet.sprite(), *neck)
