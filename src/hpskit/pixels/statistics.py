"""Measure the colours of images: sRGB to CIELAB, and densities over the chroma plane a*b*."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_EPSILON, _KAPPA = 216 / 24389, 24389 / 27
"""Where the cube root of CIELAB ends, and the slope below; CIE 15:2004, section 8.2.1.1, as exact fractions."""

VIVID = 60.0
"""Chroma from which a pixel counts as vivid: people see the colour before anything else. An orange has about 70."""


def _primaries() -> Floats:
    """(3, 3): linear sRGB to XYZ, from the chromaticities of primaries and white that IEC 61966-2-1 gives."""
    x, y = np.array([0.64, 0.30, 0.15]), np.array([0.33, 0.60, 0.06])
    white = np.array([0.3127 / 0.3290, 1.0, (1 - 0.3127 - 0.3290) / 0.3290])
    columns = np.stack([x / y, np.ones(3), (1 - x - y) / y])
    return np.asarray(columns * np.linalg.solve(columns, white), dtype=np.float64)


_TO_XYZ = _primaries()
_WHITE = _TO_XYZ.sum(axis=1)
"""D65, as the sum of the primaries, so that grey has no chroma to the last digit."""
_TO_UNIT = (_TO_XYZ / _WHITE[:, None]).T
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)


def srgb_to_lab(pixels: NDArray[np.uint8]) -> Floats:
    """Convert 8-bit sRGB to CIELAB under D65, 2 degree observer.

    Args:
        pixels: (..., 3) uint8.

    Returns:
        (..., 3): L* 0 to 100, a* about -86 to 98, b* about -108 to 95.

    Source: IEC 61966-2-1:1999; CIE 15:2004, section 8.2.1.
    """
    xyz = _LINEAR[pixels] @ _TO_UNIT
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_srgb(lab: ArrayLike) -> NDArray[np.uint8]:
    """Convert CIELAB under D65 to the nearest 8-bit sRGB, (..., 3); what sRGB cannot show is cut off at its ends."""
    lightness, a, b = np.moveaxis(np.asarray(lab, dtype=np.float64), -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f**3 > _EPSILON, f**3, (116 * f - 16) / _KAPPA)
    linear = (xyz @ np.linalg.inv(_TO_UNIT)).clip(0, 1)
    levels = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray((255 * levels).round(), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """A grid of square bins over the a*b* plane that holds every colour of sRGB."""

    a_low: float
    """Lower edge of the first bin along a*, in Lab units."""
    b_low: float
    """Lower edge of the first bin along b*."""
    shape: tuple[int, int]
    """Number of bins along b* and along a*: rows and columns of a picture."""
    width: float
    """Side of a bin in Lab units."""

    @property
    def centres(self) -> Floats:
        """(bins, 2): a* and b* of the middle of each bin, row by row."""
        rows, columns = np.indices(self.shape)
        b, a = ((n + 0.5) * self.width + low for n, low in ((rows, self.b_low), (columns, self.a_low)))
        return np.stack([a.ravel(), b.ravel()], axis=1)

    def bins(self, a: Floats, b: Floats) -> NDArray[np.int64]:
        """Return the number of the bin that each colour is in."""
        column = np.floor((a - self.a_low) / self.width).astype(np.int64)
        row = np.floor((b - self.b_low) / self.width).astype(np.int64)
        return row * self.shape[1] + column

    def coarser(self, density: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum a density over bins of half the width up to the bins of this plane; both flat."""
        rows, columns = self.shape
        return np.asarray(density.reshape(rows, 2, columns, 2).sum(axis=(1, 3)).ravel())


BIN = 4.0
"""Side of the bins that distances are measured with, in Lab units."""
PLANE = Plane(a_low=-87.0, b_low=-109.0, shape=(51, 47), width=BIN)
"""Grey is on no edge of its bins: there the last digit, and so the processor, would say in which one it is."""
FINE = Plane(a_low=PLANE.a_low, b_low=PLANE.b_low, shape=(2 * 51, 2 * 47), width=BIN / 2)
"""What pictures are drawn with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChromaDensity:
    """The colours of one image; its shares sum to 1 whatever its size."""

    fine: NDArray[np.float32]
    """(rows * columns of half bins,): share of the pixels; sums to 1."""
    light: NDArray[np.float32]
    """The same, times the mean L* of the pixels that are there."""
    chroma: float
    """Mean of C* = sqrt(a*^2 + b*^2) over the pixels, in Lab units."""
    saturation: float
    """Mean of C* / sqrt(C*^2 + L*^2) over the pixels, 0 to 1; of black 0 (Luebbe 2010)."""
    vivid: float
    """Share of the pixels with C* of at least `VIVID`."""

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> ChromaDensity:
        """Measure an image (H, W, 3) in sRGB."""
        lightness, a, b = srgb_to_lab(pixels.reshape(-1, 3)).T
        chroma = np.hypot(a, b)
        length = np.hypot(chroma, lightness)
        bins = FINE.bins(a, b)
        count, size = len(bins), FINE.shape[0] * FINE.shape[1]
        return cls(
            fine=(np.bincount(bins, minlength=size) / count).astype(np.float32),
            light=(np.bincount(bins, weights=lightness, minlength=size) / count).astype(np.float32),
            chroma=float(chroma.mean()),
            saturation=float(np.divide(chroma, length, out=np.zeros_like(chroma), where=length > 0).mean()),
            vivid=float((chroma >= VIVID).mean()),
        )


def gamut_outline(steps: int = 16) -> Floats:
    """(6 * steps, 2): a* and b* along the border of what sRGB can show, seen along L*.

    These are the six edges of the sRGB cube that join its pure colours.
    """
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]])
    along = np.arange(steps)[:, None] / steps
    edges = [one + along * (other - one) for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    return srgb_to_lab((255 * np.concatenate(edges)).round().astype(np.uint8))[:, 1:]
