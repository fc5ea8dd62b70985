"""Single things out of doors, each drawn on a sheet of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hpskit.images.painter.buildings import castle, church, house, lighthouse, tent, windmill
from hpskit.images.painter.canvas import Sheet, Sprite
from hpskit.images.painter.look import SNOW, Look
from hpskit.images.painter.palette import colour
from hpskit.images.painter.plants import palm, pine, tree
from hpskit.images.painter.texture import mix

__all__ = ["OUTDOORS"]


def _boat(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 0.95)
    s = look.side
    hull, sail = look.tone((0.93, 0.92, 0.88)), np.array([0.97, 0.95, 0.9], np.float32)
    cloth = mix(sail, hull, 0.85) if look.colour and look.rng.random() < 0.5 else sail
    sheet.line([(0, 0.02), (0, 0.84)], look.lit(colour(None, (0.35, 0.24, 0.15)), 0.5), 0.013)
    sheet.polygon([(s * 0.02, 0.05), (s * 0.1, 0.4), (s * 0.34, 0.76), (s * 0.02, 0.78)], look.lit(cloth, 0.95))
    sheet.polygon([(-s * 0.02, 0.12), (-s * 0.09, 0.5), (-s * 0.27, 0.77), (-s * 0.02, 0.78)], look.lit(cloth, 0.55))
    sheet.polygon([(-0.36, 0.84), (0.42, 0.82), (0.3, 0.99), (-0.27, 0.99)], look.lit(hull, 0.35))
    sheet.polygon([(-0.36, 0.84), (0.42, 0.82), (0.395, 0.87), (-0.34, 0.89)], look.lit(hull, 0.95))
    sheet.line([(-0.3, 0.955), (0.33, 0.94)], look.lit(hull * 0.5, 0.4), 0.016)
    return sheet.sprite(0.975)


def _rock(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.7)
    tone, s = look.tone((0.45, 0.42, 0.40)), look.side
    jitter = look.rng.uniform(-0.07, 0.07, 12)
    outline = [(-0.75, 1), (-0.66, 0.62), (-0.35, 0.28), (0.08, 0.12), (0.42, 0.32), (0.7, 0.66), (0.78, 1)]
    points = [(x + j, y if y == 1 else y - abs(j)) for (x, y), j in zip(outline, jitter, strict=False)]
    sheet.polygon(points, look.lit(tone, 0.25))
    top = [points[2], points[3], points[4], (0.2, 0.55), (-0.2, 0.5)]
    sheet.polygon(top, look.lit(SNOW if look.season == "winter" else tone, 0.85))
    flank = (
        [points[4], points[5], points[6], (0.3, 1), (0.2, 0.55)]
        if s > 0
        else [points[2], points[1], points[0], (-0.3, 1), (-0.2, 0.5)]
    )
    sheet.polygon(flank, look.lit(tone, 0.65))
    return sheet.sprite(0.93)


def _bird(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 2.4)
    lift = look.rng.uniform(0.1, 0.45)
    tone = look.tone((0.16, 0.17, 0.22))
    for s in (-1, 1):
        wing = [
            (0, 0.62),
            (s * 0.4, 0.3 + 0.2 * (1 - lift)),
            (s * 1.1, 0.5 - lift + 0.25),
            (s * 0.45, 0.5 + 0.12 * (1 - lift)),
            (0, 0.8),
        ]
        sheet.polygon(wing, look.lit(tone, 0.5))
    return sheet.sprite(0.5)


def _balloon(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 0.8)
    names = ("red", "orange", "golden", "turquoise", "blue", "purple")
    main = colour(look.colour or names[int(look.rng.integers(len(names)))], (0, 0, 0))
    other = np.array([0.97, 0.90, 0.72], np.float32)
    gores = 8
    for n in range(gores):
        a, b = 2 * n / gores - 1, 2 * (n + 1) / gores - 1
        a, b = math.sin(a * math.pi / 2), math.sin(b * math.pi / 2)
        tone = look.lit(main if n % 2 == 0 else other, 0.58 + 0.5 * (a + b) / 2 * look.side)
        profile = [(t, _envelope(t)) for t in np.linspace(0.01, 0.76, 18).tolist()]
        sheet.polygon([*[(a * w, t) for t, w in profile], *[(b * w + 0.002, t) for t, w in reversed(profile)]], tone)
    for s in (-1, 1):
        sheet.line([(s * 0.07, 0.75), (s * 0.045, 0.88)], look.lit(colour("brown", (0, 0, 0)), 0.4), 0.008)
    sheet.polygon(
        [(-0.055, 0.88), (0.055, 0.88), (0.045, 0.98), (-0.045, 0.98)], look.lit(colour("brown", (0, 0, 0)), 0.8)
    )
    return sheet.sprite(0.5)


def _envelope(t: float) -> float:
    """Half the width of a balloon at a height, both as shares of its height."""
    return (
        0.36 * math.sqrt(max(0.0, 1 - ((t - 0.37) / 0.37) ** 2))
        if t < 0.37
        else 0.36 - 0.285 * ((t - 0.37) / 0.39) ** 1.7
    )


OUTDOORS: dict[str, Callable[[Look, float], Sprite]] = {
    "tree": tree,
    "pine": pine,
    "palm": palm,
    "house": house,
    "church": church,
    "castle": castle,
    "lighthouse": lighthouse,
    "windmill": windmill,
    "tent": tent,
    "boat": _boat,
    "rock": _rock,
    "bird": _bird,
    "balloon": _balloon,
}
"""Kind -> draws one, so many pixels high."""
