"""The picture while it is being painted, and the sheet on which a single thing is drawn first."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from hpskit.images.painter.palette import Palette
from hpskit.images.painter.settings import PainterSettings
from hpskit.images.painter.texture import Field, mix

__all__ = ["Canvas", "Dice", "Sheet", "Sprite", "draw_mask", "eight_bits"]

_FINER = 3  # how much larger a sheet is drawn than it is used: soft edges


class Dice:
    """Random numbers for each part of a picture on its own, so that one part does not depend on how another is made.

    The settings are left out on purpose: with the same prompt and seed, good and bad settings paint one composition.
    """

    def __init__(self, prompt: str, seed: int) -> None:
        self._key = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()

    def of(self, part: str) -> np.random.Generator:
        """The same numbers for the same prompt, seed and part, everywhere."""
        digest = hashlib.sha256(self._key + part.encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


@dataclass(frozen=True, slots=True)
class Sprite:
    """One thing, drawn apart."""

    pixels: Field
    """(height, width, 4): red, green, blue and opacity from 0 to 1."""
    foot: float = 1.0
    """Where it touches the ground, as a share of its height from the top."""


class Sheet:
    """Transparent paper for one thing. Coordinates are shares of its height; x is 0 in the middle, y at the top."""

    def __init__(self, height: float, width: float) -> None:
        """Height in pixels of the picture, width as a share of the height."""
        self.height = max(4, round(height))
        self._scale = self.height * _FINER
        self._columns = max(4, round(self.height * width))
        self._image = Image.new("RGBA", (self._columns * _FINER, self._scale), (0, 0, 0, 0))
        self._pen = ImageDraw.Draw(self._image)

    def _point(self, x: float, y: float) -> tuple[float, float]:
        return (x * self._scale + self._columns * _FINER / 2, y * self._scale)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Field, opacity: float = 1.0) -> None:
        self._pen.polygon([self._point(*p) for p in points], fill=eight_bits(colour, opacity))

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Field, opacity: float = 1.0) -> None:
        """Centre and half axes."""
        corners = [self._point(x - across, y - down), self._point(x + across, y + down)]
        self._pen.ellipse(corners, fill=eight_bits(colour, opacity))

    def line(self, points: Sequence[tuple[float, float]], colour: Field, width: float, opacity: float = 1.0) -> None:
        pixels = max(1, round(width * self._scale))
        self._pen.line([self._point(*p) for p in points], fill=eight_bits(colour, opacity), width=pixels, joint="curve")

    def sprite(self, foot: float = 1.0) -> Sprite:
        small = self._image.reduce(_FINER)
        return Sprite(np.asarray(small, dtype=np.float32) / 255, foot)


def eight_bits(colour: Field, opacity: float = 1.0) -> tuple[int, int, int, int]:
    """A colour (3,) from 0 to 1 as Pillow wants it; what is brighter than white is white."""
    red, green, blue = (int(min(max(float(v), 0), 1) * 255 + 0.5) for v in colour)
    return red, green, blue, int(opacity * 255 + 0.5)


def draw_mask(shape: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, int], None], *, finer: int = 2) -> Field:
    """A stencil (height, width), 0 to 1: `draw` gets a pen and how much larger than the picture it draws."""
    height, width = shape
    image = Image.new("L", (width * finer, height * finer))
    draw(ImageDraw.Draw(image), finer)
    return np.asarray(image.reduce(finer), dtype=np.float32) / 255


class Canvas:
    """A square picture, painted from the back to the front."""

    def __init__(self, settings: PainterSettings, palette: Palette, dice: Dice) -> None:
        self.settings = settings
        self.palette = palette
        self.dice = dice
        self.size = settings.size
        self.unit = settings.size / 512
        """Pixels, for what is given in pixels of an image of 512."""
        self.pixels: Field = np.zeros((self.size, self.size, 3), dtype=np.float32)
        self.side = 1 if dice.of("side").random() < 0.5 else -1
        """Where the light comes from: -1 from the left, 1 from the right."""
        self.horizon = 0.6 * self.size
        """Row of the horizon."""
        self.taken: frozenset[str] = frozenset()
        """Colours that the prompt gives to something else."""
        self.lamp: tuple[float, float] | None = None
        """Column and row of the sun or the moon."""

    @functools.cached_property
    def rows(self) -> Field:
        """(size, 1): the number of each row."""
        return np.arange(self.size, dtype=np.float32)[:, None]

    @functools.cached_property
    def columns(self) -> Field:
        """(1, size): the number of each column."""
        return np.arange(self.size, dtype=np.float32)[None]

    def lay(self, colour: Field, mask: Field | float, top: int = 0) -> None:
        """Paint a colour (3,) or (rows, width, 3) where the mask (rows, width) lets it, from the row `top` down."""
        rows = mask.shape[0] if isinstance(mask, np.ndarray) else self.size - top
        part = self.pixels[top : top + rows]
        part[:] = mix(part, colour, mask)

    def add(self, colour: Field, mask: Field, top: int = 0) -> None:
        """Add light, as screens do: bright stays below 1."""
        part = self.pixels[top : top + mask.shape[0]]
        part += (1 - np.clip(part, 0, 1)) * mask[..., None] * colour

    def paste(self, sprite: Sprite, x: float, foot: float, *, haze: float = 0.0) -> None:
        """Put a thing with its foot at column x and row `foot`; what hangs over the edge is cut off."""
        height, width = sprite.pixels.shape[:2]
        top, left = round(foot - height * sprite.foot), round(x - width / 2)
        y0, x0 = max(0, top), max(0, left)
        y1, x1 = min(self.size, top + height), min(self.size, left + width)
        if y0 >= y1 or x0 >= x1:
            return
        part = sprite.pixels[y0 - top : y1 - top, x0 - left : x1 - left]
        colours = mix(part[..., :3], self.palette.haze, haze) if haze else part[..., :3]
        below = self.pixels[y0:y1, x0:x1]
        below[:] = mix(below, colours, part[..., 3])

    def shadow(self, x: float, foot: float, half: float, *, strength: float = 0.42) -> None:
        """Darken the ground under a thing, `half` of it to each side, and away from the light."""
        half *= 1.5
        centre = x - self.side * half * 0.35
        y0, y1 = max(0, round(foot - half * 0.4)), min(self.size, round(foot + half * 0.45))
        x0, x1 = max(0, round(centre - half * 1.6)), min(self.size, round(centre + half * 1.6))
        if y0 >= y1 or x0 >= x1:
            return
        across, down = (self.columns[:, x0:x1] - centre) / (half * 0.75), (self.rows[y0:y1] - foot) / (half * 0.16)
        soft = np.exp(-((across**2 + down**2) ** 1.2)) * strength * self.settings.light
        self.pixels[y0:y1, x0:x1] *= (1 - soft)[..., None]

    def blurred(self, field: Field, radius: float) -> Field:
        """A field (height, width), 0 to 1, with a Gaussian blur; `radius` in pixels of an image of 512."""
        image = Image.fromarray((np.clip(field, 0, 1) * 255).astype(np.uint8))
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius * self.unit)), dtype=np.float32) / 255
