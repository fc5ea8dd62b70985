"""Trees, each drawn on a sheet of its own."""

from __future__ import annotations

import itertools
import math

import numpy as np

from hpskit.images.painter.canvas import Sheet, Sprite
from hpskit.images.painter.look import SNOW, Look
from hpskit.images.painter.palette import colour
from hpskit.images.painter.texture import Field

__all__ = ["palm", "pine", "tree"]


def tree(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 0.95)
    bark = look.tone((0.30, 0.21, 0.14)) if look.colour in ("white", "black") else colour(None, (0.30, 0.21, 0.14))
    _trunk(sheet, look, bark)
    usual = {"autumn": (0.82, 0.42, 0.10), "winter": (0.86, 0.89, 0.95)}.get(look.season, (0.28, 0.46, 0.17))
    leaves = look.tone(usual)
    clumps = [
        (0.0, 0.24, 0.2),
        (-0.22, 0.36, 0.17),
        (0.22, 0.36, 0.17),
        (-0.1, 0.45, 0.15),
        (0.12, 0.45, 0.15),
        (0.0, 0.36, 0.2),
    ]
    dabs = round((12 + 130 * look.detail) * min(1.0, height / 170 + 0.2))
    for x, y, r in clumps:
        sheet.ellipse(x, y, r * 0.93, r * 0.78, look.lit(leaves * 0.75, 0.1))
    tones = [look.lit(leaves * (0.82 + 0.04 * n), n / 9) for n in range(11)]
    for x, y, r in clumps:
        angle, reach = look.rng.uniform(0, 2 * math.pi, dabs), np.sqrt(look.rng.random(dabs)) * r
        for a, d, v in zip(angle.tolist(), reach.tolist(), look.rng.uniform(-1, 1, dabs).tolist(), strict=True):
            dx, dy = d * math.cos(a), d * math.sin(a)
            light = 0.45 + 1.6 * (dx * look.side - dy) + 0.7 * x * look.side + 0.8 * (0.36 - y) + 0.22 * v
            tone = tones[min(max(round(light * 9), 0), 10)]
            sheet.ellipse(x + dx * 1.08, y + dy * 0.95, 0.021 + 0.008 * v, 0.015, tone)
    return sheet.sprite(0.99)


def _trunk(sheet: Sheet, look: Look, bark: Field) -> None:
    outline = [(-0.055, 1), (-0.028, 0.7), (-0.02, 0.35), (0.02, 0.35), (0.028, 0.7), (0.055, 1)]
    sheet.polygon(outline, look.lit(bark, 0.25))
    s = look.side
    sheet.polygon(
        [(s * 0.005, 1), (s * 0.008, 0.4), (s * 0.02, 0.4), (s * 0.028, 0.7), (s * 0.05, 1)], look.lit(bark, 0.9)
    )
    for x in (-0.2, 0.2):
        sheet.line([(0, 0.62), (x * 0.6, 0.48), (x, 0.36)], look.lit(bark, 0.3), 0.018)


def pine(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 0.56)
    sheet.polygon([(-0.02, 1), (-0.014, 0.8), (0.014, 0.8), (0.02, 1)], look.lit(colour(None, (0.28, 0.19, 0.13)), 0.4))
    needles = look.tone((0.13, 0.31, 0.2))
    tiers = 6 + round(7 * look.detail)
    strokes = 3 + round(11 * look.detail)
    tones = [look.lit(needles * (0.8 + 0.05 * n), n / 9) for n in range(11)]
    white = [look.lit(SNOW, 0.3 + 0.07 * n) for n in range(11)]
    for tier in reversed(range(tiers)):
        share = (tier + 1) / tiers
        top, low = 0.8 * tier / tiers, 0.1 + 0.82 * share
        half = 0.02 + 0.23 * share**0.9
        sheet.polygon([(0, top), (half * 0.8, low - 0.02), (0, low), (-half * 0.8, low - 0.02)], tones[1])
        for x in look.rng.uniform(-1, 1, strokes).tolist():
            tip = (x * half, low - 0.035 * abs(x) + 0.008)
            light = 0.42 + 0.42 * x * look.side + float(look.rng.uniform(-0.18, 0.18))
            level = min(max(round(light * 10), 0), 10)
            root = (tip[0] * 0.35, tip[1] - 0.09 * share - 0.03)
            sheet.line([root, tip], tones[level], 0.014)
            if look.season == "winter" and level > 2:
                sheet.line([(root[0], root[1] - 0.012), (tip[0] * 0.9, tip[1] - 0.016)], white[level], 0.013)
    return sheet.sprite()


def palm(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.0)
    bend = look.rng.uniform(0.06, 0.14) * look.rng.choice([-1, 1])
    trunk = [(bend * (1 - t) ** 2 - bend * 0.3, 1 - 0.72 * t) for t in np.linspace(0, 1, 12).tolist()]
    bark = colour(None, (0.42, 0.31, 0.21))
    for (x0, y0), (x1, y1) in itertools.pairwise(trunk):
        sheet.line([(x0, y0), (x1, y1)], look.lit(bark, 0.35), 0.036 - 0.014 * (1 - y1))
        sheet.line([(x0 + 0.006 * look.side, y0), (x1 + 0.006 * look.side, y1)], look.lit(bark, 0.95), 0.01)
    crown_x, crown_y = trunk[-1]
    leaf = look.tone((0.22, 0.45, 0.18))
    for number in range(13):
        angle = math.pi * (1.08 - 1.16 * number / 12) + look.rng.uniform(-0.08, 0.08)
        reach = look.rng.uniform(0.3, 0.42) * (0.8 + 0.2 * abs(math.cos(angle)))
        light = 0.2 + 0.5 * (math.cos(angle) * look.side > -0.2) + look.rng.uniform(0, 0.25)
        spine = []
        for t in np.linspace(0, 1, 10).tolist():
            rise = reach * t * math.sin(angle) * 0.8 + 0.05 * t
            spine.append((crown_x + reach * t * math.cos(angle), crown_y - rise + 0.55 * reach * t**2.3))
        out = math.copysign(1, math.cos(angle))
        for n, (x, y) in enumerate(spine[1:], 1):
            drop = 0.1 * math.sin(math.pi * (n / 10) ** 0.7) + 0.01
            x0, y0 = spine[n - 1]
            for lean in (0.2, 0.75):
                sheet.line(
                    [((x0 + x) / 2, (y0 + y) / 2), (x + out * drop * lean, y + drop * (1.1 - lean))],
                    look.lit(leaf, light),
                    0.012,
                )
        sheet.line(spine, look.lit(leaf * 1.1, light + 0.2), 0.011)
    return sheet.sprite()
