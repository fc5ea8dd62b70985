"""A landscape: what goes where, and in which order it is painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpskit.images.painter.canvas import Canvas
from hpskit.images.painter.flat import flat_shape
from hpskit.images.painter.ground import paint_dunes, paint_flowers, paint_grass, paint_ground, river_bed
from hpskit.images.painter.land import (
    paint_city,
    paint_forest,
    paint_headland,
    paint_hedge,
    paint_hills,
    paint_islands,
    paint_mound,
    paint_mountains,
)
from hpskit.images.painter.look import Look
from hpskit.images.painter.outdoors import OUTDOORS
from hpskit.images.painter.scene import Scene, Thing
from hpskit.images.painter.sky import paint_sky, paint_weather
from hpskit.images.painter.solids import solid
from hpskit.images.painter.texture import Field, jagged
from hpskit.images.painter.vocabulary import BLOOMS
from hpskit.images.painter.water import paint_water

__all__ = ["Plan", "make_plan", "paint_landscape"]

Ground = Literal["meadow", "autumn", "snow", "sand", "dunes"]
Water = Literal["", "sea", "lake", "river"]

_KEEPS_DRY = (*BLOOMS, "tree", "pine", "windmill", "tent")
_BUILT = frozenset({"house", "church", "castle", "lighthouse", "windmill"})
_DARK = frozenset({"storm", "rain", "fog", "overcast"})
_TALL = {
    "tree": 0.32,
    "pine": 0.32,
    "palm": 0.40,
    "house": 0.15,
    "church": 0.24,
    "castle": 0.26,
    "lighthouse": 0.34,
    "windmill": 0.28,
    "tent": 0.11,
    "boat": 0.19,
    "rock": 0.07,
    "bird": 0.03,
    "balloon": 0.24,
}
"""Height as a share of the picture, of one thing in the middle distance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How the picture is divided."""

    horizon: float
    """Share of the height above it."""
    water: Water
    ground: Ground
    bank: float
    """Where the ground in front of the water begins, as a share of the height; 1 if there is none."""


def make_plan(scene: Scene) -> Plan:
    """The division that suits what is to be seen."""
    water = _water(scene)
    bank = 1.0
    if scene.has("beach"):
        bank = 0.8
    elif water == "lake" or (water == "sea" and scene.has("tree", "pine", "palm", "tent", "rock", "meadow")):
        bank = 0.86
    near = water or any(t.kind in _TALL or t.kind in _KEEPS_DRY for t in scene.things)
    horizon = 0.6 if scene.has("mountain", "city", "forest") else 0.54 if near else 0.62
    if scene.has("aurora", "balloon", "rainbow", "lightning", "stars"):
        horizon = 0.66
    return Plan(horizon=horizon, water=water, ground=_ground(scene), bank=bank if water in ("sea", "lake") else 1.0)


def _water(scene: Scene) -> Water:
    if scene.has("sea", "wave", "island", "beach"):
        return "sea"
    if scene.has("lake"):
        return "lake"
    if scene.has("river"):
        return "river"
    if scene.has("water", "boat", "lighthouse"):
        return "lake" if scene.has("mountain", "hill", "forest") else "sea"
    return "sea" if scene.has("city") and not scene.has("meadow", "snow", "desert", *_KEEPS_DRY) else ""


def _ground(scene: Scene) -> Ground:
    if scene.has("desert"):
        return "dunes"
    if scene.has("snow") or scene.weather & {"winter", "snowfall"}:
        return "snow"
    if scene.has("beach", "palm"):
        return "sand"
    return "autumn" if "autumn" in scene.weather else "meadow"


def paint_landscape(canvas: Canvas, scene: Scene) -> None:
    """From the sky to the blades of grass."""
    plan = make_plan(scene)
    canvas.horizon = plan.horizon * canvas.size
    paint_sky(canvas, scene)
    _paint_distance(canvas, scene, plan)
    built = _paint_heights(canvas, scene, plan)
    _paint_below(canvas, scene, plan)
    _paint_things(canvas, scene, plan, built=built)
    paint_weather(canvas, scene)


def _paint_distance(canvas: Canvas, scene: Scene, plan: Plan) -> None:
    mountain, hill, forest, city, island = (scene.find(k) for k in ("mountain", "hill", "forest", "city", "island"))
    if mountain:
        paint_mountains(canvas, scene, mountain)
    if hill or (
        not mountain and not forest and not city and plan.water != "sea" and plan.ground in ("meadow", "autumn", "snow")
    ):
        paint_hills(canvas, scene, hill or Thing(kind="hill", count=5))
    if city:
        paint_city(canvas, city)
    if forest:
        paint_forest(canvas, scene, forest)
    if island:
        paint_islands(canvas, island)


def _paint_heights(canvas: Canvas, scene: Scene, plan: Plan) -> bool:
    """Buildings on a headland or on the one hill, before the water mirrors them. Returns whether there are any."""
    things = [t for t in _standing(scene) if t.kind in _BUILT]
    hill = scene.find("hill")
    one_hill = hill is not None and hill.count == 1
    if not things or not (one_hill or plan.water in ("sea", "lake")):
        return False
    if hill is not None and one_hill:
        heights = paint_mound(canvas, scene, hill)
        first, span = float(np.argmax(heights)) / canvas.size - 0.2, 0.4
    else:
        heights = paint_headland(canvas, scene)
        first, span = (0.46, 0.5) if canvas.side > 0 else (0.04, 0.5)
    total = sum(thing.count for thing in things)
    rng = canvas.dice.of("heights")
    shares = iter((first + span * (np.arange(total) + rng.uniform(0.38, 0.62, total)) / total).tolist())
    for thing in things:
        for _ in range(thing.count):
            x = canvas.size * next(shares)
            foot = canvas.horizon - float(heights[min(canvas.size - 1, max(0, int(x)))]) + 4 * canvas.unit
            _put(canvas, scene, thing, (x, foot), scale=0.85 / total**0.25, haze=0.1)
    return True


def _paint_below(canvas: Canvas, scene: Scene, plan: Plan) -> None:
    top = int(canvas.horizon) + 1
    edge: Field | None = None
    if plan.water in ("sea", "lake"):
        lively = 0.5 if plan.water == "sea" and not scene.has("city") else 0.12
        if scene.has("wave") or "storm" in scene.weather:
            lively = 1.0
        paint_water(canvas, scene, lively=lively)
        if plan.bank == 1:
            return
        rng = canvas.dice.of("bank")
        edge = (canvas.size * (plan.bank + 0.07 * jagged(rng, canvas.size, 2, 6, rough=0.4))).astype(np.float32)
        top = min(canvas.size - 2, int(edge.min()))
    field = scene.find("meadow", "snow", "desert", "beach")
    named = field.colour if field else None
    if plan.ground == "dunes":
        paint_dunes(canvas, named)
    else:
        paint_ground(canvas, plan.ground, named, top, edge)
    start = top if edge is None else int(edge.max())
    if plan.ground in ("meadow", "autumn"):
        if edge is None and not scene.has("forest", "city"):
            paint_hedge(canvas)
        paint_grass(canvas, named, start, autumn=plan.ground == "autumn")
    paint_flowers(canvas, scene, start)
    if plan.water == "river":
        paint_water(canvas, scene, lively=0.12, mask=river_bed(canvas))


def _standing(scene: Scene) -> list[Thing]:
    """What stands, swims and flies, one entry for each kind and colour; a village is made of houses."""
    village = [Thing(kind="house", count=6, colour=t.colour) for t in scene.things if t.kind == "village"]
    return [t for t in scene.things if t.kind in _TALL] + village


def _paint_things(canvas: Canvas, scene: Scene, plan: Plan, *, built: bool) -> None:
    """From the back to the front."""
    places: list[tuple[float, float, Thing, float]] = []  # foot, column, thing, scale
    for number, thing in enumerate(_standing(scene)):
        if thing.kind in _BUILT and built:
            continue
        rng = canvas.dice.of(f"place {number}")
        for x, foot, scale in _places(canvas, plan, thing, rng):
            places.append((foot, x, thing, scale))
    for foot, x, thing, scale in sorted(places, key=lambda place: place[:2]):
        if thing.kind not in ("bird", "balloon", "boat"):
            canvas.shadow(x, foot, _TALL[thing.kind] * scale * canvas.size * 0.55)
        _put(canvas, scene, thing, (x, foot), scale=scale, haze=0.16 * max(0.0, 1 - scale))
    _paint_others(canvas, scene)


def _places(canvas: Canvas, plan: Plan, thing: Thing, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Column, row of the foot, and scale of each one: spread from side to side, so that each can be counted."""
    count, size = thing.count, canvas.size
    across = 0.06 + 0.88 * (np.arange(count) + rng.uniform(0.34, 0.66, count)) / count
    if count == 1:
        third = 0.5 - canvas.side * 0.2 if thing.kind in ("boat", "balloon") else 0.5 + canvas.side * 0.22
        across = np.array([third + rng.uniform(-0.06, 0.06)])
    depth = rng.uniform(0.0, 1.0, count)
    crowd = 1 / max(1.0, count / 2.4) ** 0.65
    top, span = plan.horizon, 1 - plan.horizon
    if thing.kind in ("bird", "balloon"):
        rows = plan.horizon * (0.18 + 0.5 * depth)
        scales = (0.7 + 0.6 * rng.random(count)) * crowd
    elif thing.kind == "boat":
        rows = top + (min(plan.bank, 0.97) - top) * (0.12 + 0.6 * depth**1.3)
        scales = (0.35 + 1.5 * (rows - top) / span) * crowd**0.5
    elif plan.bank < 1:
        rows = plan.bank + (1 - plan.bank) * (0.62 + 0.38 * depth)
        scales = (0.85 + 0.65 * depth) * crowd
    else:
        rows = top + span * (0.12 + 0.42 * depth)
        scales = (0.62 + 0.85 * depth) * crowd
    if thing.kind == "rock":
        scales = scales * rng.uniform(0.6, 1.9, count)
    return [(float(x * size), float(y * size), float(s)) for x, y, s in zip(across, rows, scales, strict=True)]


def _put(canvas: Canvas, scene: Scene, thing: Thing, place: tuple[float, float], *, scale: float, haze: float) -> None:
    """Draw one thing; careless settings put it elsewhere."""
    rng = canvas.dice.of(f"{thing.kind} {place[0]:.0f} {place[1]:.0f}")
    season = "winter" if scene.weather & {"winter", "snowfall"} else "autumn" if "autumn" in scene.weather else "summer"
    look = Look(
        palette=canvas.palette,
        side=canvas.side,
        detail=canvas.settings.detail,
        colour=thing.colour,
        season=season,
        rng=rng,
    )
    x, foot = place
    if rng.random() > canvas.settings.placement:
        x, foot = rng.random() * canvas.size, rng.uniform(0.2, 1) * canvas.size
        scale *= rng.uniform(0.5, 2)
    high = _TALL[thing.kind] * scale * canvas.size
    canvas.paste(OUTDOORS[thing.kind](look, high), x, foot, haze=haze * canvas.settings.light)
    if thing.kind == "lighthouse":
        _beam(canvas, x, foot - 0.835 * high, scene)


def _beam(canvas: Canvas, x: float, y: float, scene: Scene) -> None:
    """The light of a lighthouse, when there is need of it."""
    if canvas.palette.dark < 0.3 and not scene.weather & _DARK:
        return
    across, down = (canvas.columns - x) / canvas.size, (canvas.rows - y) / canvas.size
    reach = np.where(across * canvas.side < 0, np.abs(across), np.abs(across) * 2.2) + 1e-3
    cone = np.exp(-(((down + 0.06 * reach) / (0.012 + 0.11 * reach)) ** 2)) * np.exp(-reach / 0.5)
    spot = np.exp(-np.hypot(across, down) / 0.025)
    warm = np.array([1.0, 0.93, 0.7], dtype=np.float32)
    canvas.add(warm, (0.5 * cone + 0.9 * spot).astype(np.float32) * canvas.settings.light)


def _paint_others(canvas: Canvas, scene: Scene) -> None:
    """Shapes hang in the air and bodies lie on the ground, even in a landscape, if the prompt says so."""
    for number, thing in enumerate(scene.group("flat", "solid")):
        rng = canvas.dice.of(f"other {number}")
        flat = thing in scene.group("flat")
        for n in range(thing.count):
            x = (n + rng.uniform(0.35, 0.65)) / thing.count * canvas.size
            high = canvas.size * 0.2 / max(1.0, thing.count / 3)
            draw = flat_shape if flat else solid
            sprite = draw(canvas, thing, high, rng)
            canvas.paste(sprite, x, canvas.size * (rng.uniform(0.15, 0.4) + 0.5 * high / canvas.size if flat else 0.9))
