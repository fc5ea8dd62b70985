"""How a thing is to look: in which light, in which colour, at which time of the year."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpskit.images.painter.palette import Palette, colour
from hpskit.images.painter.texture import Field, mix

__all__ = ["SNOW", "Look"]

SNOW = np.array([0.97, 0.98, 1.0], dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How one thing is to look."""

    palette: Palette
    side: int
    """Where the light comes from, -1 or 1."""
    detail: float
    colour: str | None
    season: str
    """`summer`, `autumn` or `winter`."""
    rng: np.random.Generator

    def tone(self, default: tuple[float, float, float]) -> Field:
        """The colour asked for, or the usual one, in neutral light."""
        return colour(self.colour, default)

    def lit(self, tone: Field, light: float) -> Field:
        """A colour in light (1) or shadow (0), 8-bit safe."""
        result: Field = np.clip(tone * mix(self.palette.shade, self.palette.light, light), 0, 1)
        return result

    def window(self) -> Field:
        """Glass: dark by day, lit after dark."""
        lamp = np.array([1.0, 0.80, 0.42], dtype=np.float32)
        return lamp if self.palette.dark >= 0.3 else self.lit(np.array([0.25, 0.3, 0.38], np.float32), 0.5)
