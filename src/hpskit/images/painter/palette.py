"""The light of a scene: what time and weather make of every colour."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpskit.images.painter.scene import Scene
from hpskit.images.painter.settings import PainterSettings
from hpskit.images.painter.texture import Field, mix
from hpskit.images.painter.vocabulary import COLOURS, RGB

__all__ = ["Palette", "colour", "make_palette"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """Colours of air and light, each (3,) float32 from 0 to 1."""

    zenith: Field
    """Of the sky at the top."""
    middle: Field
    """Half way down."""
    horizon: Field
    """At the horizon."""
    sun: Field
    """Of the sun's disc and its glow, or the moon's."""
    haze: Field
    """What distance turns everything to."""
    light: Field
    """Multiplies colours where light falls."""
    shade: Field
    """Multiplies colours in shadow."""
    dark: float
    """0 in full day, 1 at night; windows are lit from 0.5."""
    glow: float
    """Strength of the light around the sun or the moon, 0 to 1."""


def _palette(text: str, *, dark: float, glow: float) -> Palette:
    """Six-digit colours: zenith, middle, horizon, sun, haze, light, shade."""
    names = ("zenith", "middle", "horizon", "sun", "haze", "light", "shade")
    values = {name: _hexadecimal(code) for name, code in zip(names, text.split(), strict=True)}
    return Palette(**values, dark=dark, glow=glow)


def _hexadecimal(code: str) -> Field:
    return np.array([int(code[n : n + 2], 16) / 255 for n in (0, 2, 4)], dtype=np.float32)


_TIMES = {
    "dawn": _palette("5b7fb5 c3a5bd ffd9ae fff1cf e9c3b9 ffe3cb 675f86", dark=0.1, glow=0.8),
    "day": _palette("2467b8 72b1e2 d3e8f2 fffbe8 bcd6e8 fffaec 6a7da0", dark=0.0, glow=0.5),
    "sunset": _palette("36417a c0607a ffb45e ffe9ad e58d6c ffc792 54405f", dark=0.3, glow=1.0),
    "dusk": _palette("161d45 544a80 e0848a ffd2b0 7a6390 b29fc0 2c2a4c", dark=0.65, glow=0.7),
    "night": _palette("050b22 10214a 2b4674 f4f1dc 233a63 7f97c8 141c38", dark=1.0, glow=0.6),
}
_AIR = ("zenith", "middle", "horizon", "haze", "light", "shade")
_SKY_SHARES = {"zenith": 0.8, "middle": 0.75, "horizon": 0.45, "haze": 0.35, "light": 0.15, "shade": 0.0}
"""How far each part takes the colour that a prompt gives to the sky."""
_GREY = {"overcast": 0.6, "fog": 0.5, "rain": 0.75, "storm": 0.85, "snowfall": 0.55}
"""Weather -> how much colour the air loses."""
_DIM = {"overcast": 0.9, "rain": 0.72, "storm": 0.48}
"""Weather -> what is left of the light."""


def colour(name: str | None, default: RGB) -> Field:
    """The colour of that name, or the default: (3,) from 0 to 1."""
    return np.array(COLOURS[name] if name else default, dtype=np.float32)


def _shift_hue(value: Field, turn: float) -> Field:
    """Turn the hue of a colour by a share of the circle."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(float(v) for v in np.clip(value, 0, 1)))
    turned = colorsys.hls_to_rgb((hue + turn) % 1, lightness, saturation)
    return np.array(turned, dtype=np.float32)


def _tinted(value: Field, target: Field, share: float) -> Field:
    """A colour drawn towards another without losing its own brightness."""
    brightness = float(value.mean()) / max(float(target.mean()), 0.05)
    result: Field = np.clip(value + (np.clip(target * brightness, 0, 1) - value) * share, 0, 1)
    return result


def make_palette(scene: Scene, settings: PainterSettings, rng: np.random.Generator) -> Palette:
    """The light of a scene; settings without harmony turn the hue of each of its parts on its own."""
    palette = _weathered(_TIMES[scene.time], scene.weather)
    sky = scene.find("sky")
    if sky and sky.colour:
        palette = _drawn_to(palette, sky.colour, _SKY_SHARES)
    for mood in scene.mood:
        palette = _drawn_to(palette, mood, dict.fromkeys(_AIR, 0.5))
    if settings.harmony == 1:
        return palette
    turns = dict(zip(_AIR, (rng.random(len(_AIR)) - 0.5) * (1 - settings.harmony), strict=True))
    return _changed(palette, lambda name, value: _shift_hue(value, float(turns[name])))


def _changed(palette: Palette, change: Callable[[str, Field], Field]) -> Palette:
    """`change` gets the name and the colour of each part of air and light."""
    parts: dict[str, Any] = {name: change(name, getattr(palette, name)) for name in _AIR}
    return replace(palette, **parts)


def _drawn_to(palette: Palette, name: str, shares: Mapping[str, float]) -> Palette:
    """Each part drawn towards the colour of that name, as far as its share says."""
    target = colour(name, (0, 0, 0))
    return _changed(palette, lambda part, value: _tinted(value, target, shares[part]))


def _weathered(palette: Palette, weather: frozenset[str]) -> Palette:
    grey = max((_GREY.get(w, 0) for w in weather), default=0.0)
    dim = min((_DIM.get(w, 1) for w in weather), default=1.0)

    def worn(name: str, value: Field) -> Field:
        return value if name == "shade" else (value + (value.mean() - value) * grey) * dim

    worn_out = _changed(palette, worn)
    zenith = mix(worn_out.zenith, worn_out.horizon, 0.6 if "fog" in weather else 0.0)
    return replace(worn_out, zenith=zenith, glow=palette.glow * (1 - grey * 0.7))
