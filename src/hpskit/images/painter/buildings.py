"""Buildings, each drawn on a sheet of its own."""

from __future__ import annotations

import math

import numpy as np

from hpskit.images.painter.canvas import Sheet, Sprite
from hpskit.images.painter.look import SNOW, Look
from hpskit.images.painter.palette import colour
from hpskit.images.painter.texture import Field

__all__ = ["castle", "church", "house", "lighthouse", "tent", "windmill"]


def house(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.7)
    s = look.side
    wall, roof = look.tone((0.90, 0.85, 0.74)), colour(None, (0.55, 0.24, 0.17))
    if look.season == "winter":
        roof = SNOW
    gable = [(s * 0.1, 1), (s * 0.1, 0.48), (s * 0.38, 0.14), (s * 0.66, 0.48), (s * 0.66, 1)]
    front = [(-s * 0.66, 1), (-s * 0.66, 0.48), (s * 0.1, 0.48), (s * 0.1, 1)]
    sheet.polygon(
        [(-s * 0.42, 0.3), (-s * 0.42, 0.02), (-s * 0.28, 0.02), (-s * 0.28, 0.3)],
        look.lit(colour(None, (0.5, 0.35, 0.3)), 0.5),
    )
    sheet.polygon(front, look.lit(wall, 0.22))
    sheet.polygon(gable, look.lit(wall, 0.92))
    sheet.polygon([(-s * 0.72, 0.53), (-s * 0.46, 0.12), (s * 0.38, 0.12), (s * 0.1, 0.53)], look.lit(roof, 0.5))
    sheet.polygon(
        [
            (s * 0.06, 0.53),
            (s * 0.36, 0.1),
            (s * 0.41, 0.1),
            (s * 0.72, 0.53),
            (s * 0.66, 0.53),
            (s * 0.38, 0.18),
            (s * 0.12, 0.53),
        ],
        look.lit(roof, 0.85),
    )
    frame, pane = look.lit(SNOW, 0.7), look.window()
    for x, y, w, h in ((-s * 0.48, 0.72, 0.085, 0.1), (-s * 0.2, 0.72, 0.085, 0.1), (s * 0.38, 0.5, 0.06, 0.075)):
        _pane(sheet, (x, y, w, h), frame, pane, look.detail)
    sheet.polygon(
        [(s * 0.3, 1), (s * 0.3, 0.7), (s * 0.46, 0.7), (s * 0.46, 1)], look.lit(colour(None, (0.35, 0.2, 0.13)), 0.6)
    )
    if look.detail > 0.5:
        for row in range(1, 5):
            y, t = 0.12 + 0.41 * row / 5, row / 5
            sheet.line([(-s * (0.46 + 0.26 * t), y), (s * (0.38 - 0.28 * t), y)], look.lit(roof * 0.8, 0.3), 0.008)
    return sheet.sprite()


def _pane(sheet: Sheet, place: tuple[float, float, float, float], frame: Field, glass: Field, detail: float) -> None:
    """A window: centre and half axes."""
    x, y, w, h = place
    for grow, tone in ((0.018, frame), (0.0, glass)):
        sheet.polygon(
            [
                (x - w - grow, y - h - grow),
                (x + w + grow, y - h - grow),
                (x + w + grow, y + h + grow),
                (x - w - grow, y + h + grow),
            ],
            tone,
        )
    if detail > 0.5:
        sheet.line([(x, y - h), (x, y + h)], frame, 0.014)
        sheet.line([(x - w, y), (x + w, y)], frame, 0.014)


def church(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.0)
    s, wall = look.side, look.tone((0.90, 0.88, 0.82))
    roof = SNOW if look.season == "winter" else colour(None, (0.33, 0.30, 0.36))
    sheet.polygon([(-s * 0.1, 1), (-s * 0.1, 0.66), (-s * 0.46, 0.66), (-s * 0.46, 1)], look.lit(wall, 0.25))
    sheet.polygon([(-s * 0.08, 0.68), (-s * 0.1, 0.5), (-s * 0.4, 0.5), (-s * 0.5, 0.68)], look.lit(roof, 0.5))
    for x in (-0.2, -0.33):
        sheet.polygon(
            [(s * x - 0.025, 0.92), (s * x - 0.025, 0.78), (s * x, 0.74), (s * x + 0.025, 0.78), (s * x + 0.025, 0.92)],
            look.window(),
        )
    _turret(sheet, look, (s * 0.06, 0.14, 0.36, 1.0), wall, roof, spire=0.34)
    sheet.line([(s * 0.06, 0.0), (s * 0.06, 0.06)], look.lit(colour("golden", (0, 0, 0)), 0.9), 0.01)
    sheet.polygon(
        [
            (s * 0.06 - 0.03, 0.56),
            (s * 0.06 - 0.03, 0.47),
            (s * 0.06, 0.43),
            (s * 0.06 + 0.03, 0.47),
            (s * 0.06 + 0.03, 0.56),
        ],
        look.window(),
    )
    return sheet.sprite()


def _turret(
    sheet: Sheet, look: Look, place: tuple[float, float, float, float], wall: Field, roof: Field, *, spire: float
) -> None:
    """A tower with a pointed roof: `place` is its middle, half width, top and foot."""
    x, half, top, foot = place
    steps = 6 if look.detail > 0.3 else 2
    for n in range(steps):  # round: lighter towards the light
        a, b = x - half + 2 * half * n / steps, x - half + 2 * half * (n + 1) / steps
        middle = ((a + b) / 2 - x) / half * look.side
        sheet.polygon([(a, foot), (a, top), (b + 0.002, top), (b + 0.002, foot)], look.lit(wall, 0.5 + 0.45 * middle))
    over = half * 1.22
    sheet.polygon([(x - over, top), (x, top - spire), (x + over, top)], look.lit(roof, 0.3))
    sheet.polygon(
        [(x + look.side * over * 0.15, top), (x, top - spire), (x + look.side * over, top)], look.lit(roof, 0.9)
    )


def castle(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.35)
    wall = look.tone((0.74, 0.70, 0.66))
    roof = (
        SNOW
        if look.season == "winter"
        else colour(None, (0.28, 0.33, 0.47))
        if look.colour != "blue"
        else colour(None, (0.45, 0.2, 0.2))
    )
    for x, half, top in ((-0.34, 0.075, 0.42), (0.36, 0.075, 0.46), (0.08, 0.1, 0.26)):
        _turret(sheet, look, (x, half, top, 1.0), wall, roof, spire=0.24)
    for a, b, top in ((-0.5, 0.52, 0.66), (-0.22, 0.26, 0.54)):
        sheet.polygon([(a, 1), (a, top), (b, top), (b, 1)], look.lit(wall, 0.62))
        teeth = round((b - a) / 0.06)
        for n in range(teeth):
            x = a + (b - a) * (n + 0.15) / teeth
            sheet.polygon(
                [(x, top + 0.01), (x, top - 0.035), (x + 0.035, top - 0.035), (x + 0.035, top + 0.01)],
                look.lit(wall, 0.62),
            )
    for x, half, top in ((-0.5, 0.085, 0.55), (0.53, 0.085, 0.52), (-0.13, 0.06, 0.4)):
        _turret(sheet, look, (x, half, top, 1.0), wall, roof, spire=0.22)
    sheet.polygon(
        [(-0.06, 1), (-0.06, 0.82), (0, 0.75), (0.06, 0.82), (0.06, 1)], look.lit(colour(None, (0.2, 0.14, 0.12)), 0.4)
    )
    for x, y in (
        (-0.5, 0.68),
        (0.53, 0.66),
        (-0.34, 0.53),
        (0.36, 0.56),
        (0.08, 0.38),
        (-0.13, 0.5),
        (0.13, 0.66),
        (0.26, 0.78),
        (-0.28, 0.8),
    ):
        sheet.polygon(
            [
                (x - 0.014, y + 0.04),
                (x - 0.014, y - 0.02),
                (x, y - 0.035),
                (x + 0.014, y - 0.02),
                (x + 0.014, y + 0.04),
            ],
            look.window(),
        )
    return sheet.sprite()


def lighthouse(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 0.6)
    stripe, white = look.tone((0.80, 0.16, 0.14)), np.array([0.95, 0.94, 0.92], np.float32)
    bands, steps = 5, 7
    for band in range(bands):
        y0, y1 = 0.24 + 0.76 * band / bands, 0.24 + 0.76 * (band + 1) / bands
        w0, w1 = 0.075 + 0.055 * band / bands, 0.075 + 0.055 * (band + 1) / bands
        for n in range(steps):
            a, b = 2 * n / steps - 1, 2 * (n + 1) / steps - 1
            tone = look.lit(stripe if band % 2 else white, 0.5 + 0.5 * (a + b) / 2 * look.side)
            sheet.polygon([(a * w1, y1), (a * w0, y0), (b * w0 + 0.002, y0), (b * w1 + 0.002, y1)], tone)
    sheet.polygon([(-0.1, 0.24), (-0.1, 0.22), (0.1, 0.22), (0.1, 0.24)], look.lit(stripe * 0.5, 0.5))
    lamp = np.array([1, 0.93, 0.65], np.float32) if look.palette.dark > 0.2 else np.array([0.75, 0.85, 0.9], np.float32)
    sheet.polygon([(-0.05, 0.22), (-0.05, 0.11), (0.05, 0.11), (0.05, 0.22)], lamp)
    for x in (-0.05, 0.0, 0.05):
        sheet.line([(x, 0.22), (x, 0.11)], look.lit(stripe * 0.4, 0.4), 0.01)
    sheet.polygon([(-0.075, 0.11), (0, 0.02), (0.075, 0.11)], look.lit(stripe * 0.8, 0.6))
    for x, y in ((0.0, 0.5), (0.0, 0.8)):
        sheet.polygon(
            [(x - 0.014, y + 0.03), (x - 0.014, y - 0.03), (x + 0.014, y - 0.03), (x + 0.014, y + 0.03)], look.window()
        )
    return sheet.sprite()


def windmill(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.0)
    wall = look.tone((0.92, 0.89, 0.82))
    for n in range(6):
        a, b = 2 * n / 6 - 1, 2 * (n + 1) / 6 - 1
        sheet.polygon(
            [(a * 0.17, 1), (a * 0.1, 0.42), (b * 0.1 + 0.002, 0.42), (b * 0.17 + 0.002, 1)],
            look.lit(wall, 0.5 + 0.5 * (a + b) / 2 * look.side),
        )
    cap = colour(None, (0.42, 0.26, 0.18))
    sheet.polygon([(-0.12, 0.43), (-0.06, 0.33), (0.06, 0.33), (0.12, 0.43)], look.lit(cap, 0.6))
    sheet.polygon([(-0.035, 1), (-0.035, 0.85), (0.035, 0.85), (0.035, 1)], look.lit(cap * 0.7, 0.5))
    for y in (0.58, 0.73):
        _pane(sheet, (0, y, 0.024, 0.03), look.lit(SNOW, 0.6), look.window(), 0)
    start = look.rng.uniform(0.2, 1.2)
    for quarter in range(4):
        angle = start + quarter * math.pi / 2
        c, d = math.cos(angle), math.sin(angle)
        tip = (0.4 * c, 0.4 + 0.4 * d)
        sheet.line([(0, 0.4), tip], look.lit(cap, 0.4), 0.014)
        corners = [
            (r * c - w * d, 0.4 + r * d + w * c) for r, w in ((0.1, 0.005), (0.4, 0.005), (0.4, 0.075), (0.1, 0.075))
        ]
        sheet.polygon(corners, look.lit(np.array([0.9, 0.85, 0.75], np.float32), 0.8), 0.9)
        for r in np.linspace(0.12, 0.4, 6).tolist():
            sheet.line(
                [(r * c - 0.005 * d, 0.4 + r * d + 0.005 * c), (r * c - 0.075 * d, 0.4 + r * d + 0.075 * c)],
                look.lit(cap, 0.4),
                0.006,
            )
    return sheet.sprite()


def tent(look: Look, height: float) -> Sprite:
    sheet = Sheet(height, 1.9)
    s, cloth = look.side, look.tone((0.88, 0.45, 0.13))
    glow = 1.25 if look.palette.dark > 0.5 else 0.9
    sheet.polygon([(-s * 0.8, 1), (-s * 0.3, 0.06), (s * 0.2, 0.06), (s * 0.02, 1)], look.lit(cloth, 0.3))
    sheet.polygon([(s * 0.02, 1), (s * 0.2, 0.06), (s * 0.8, 1)], look.lit(cloth, glow))
    inside = look.window() if look.palette.dark > 0.3 else look.lit(cloth * 0.35, 0.4)
    sheet.polygon([(s * 0.2, 1), (s * 0.2, 0.24), (s * 0.5, 1)], inside)
    return sheet.sprite()
