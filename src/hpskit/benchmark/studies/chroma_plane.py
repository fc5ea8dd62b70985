"""The chroma plane as pictures: each density in its own colours, with lines around shares of the pixels."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from hpskit.pages.axes import Axis
from hpskit.pages.charts import Frame, colour_of, element
from hpskit.pixels.statistics import FINE_BIN, PLANE, gamut_outline, lab_to_srgb

__all__ = ["Panel", "contour", "density_map", "outline_map"]

SHARES = (0.5, 0.9, 0.99)
"""Shares of the pixels that the lines hold."""
_WIDTHS = (1.8, 1.2, 0.7)
_MOST_TOGETHER = 6
_FAINTEST = 1e-6
"""Share of the pixels in a bin that is not drawn any more."""
_BLUR = 1.0
"""Standard deviation in bins: takes the grain out of the picture; figures are of the densities as they are."""
_TICKS = (-80.0, -40.0, 0.0, 40.0, 80.0)
_A_HIGH, _B_HIGH = PLANE.a_low + PLANE.shape[1] * PLANE.width, PLANE.b_low + PLANE.shape[0] * PLANE.width
_FRAME = Frame(
    x=Axis(low=PLANE.a_low, high=_A_HIGH, ticks=_TICKS, title="a* (green to red)"),
    y=Axis(low=PLANE.b_low, high=_B_HIGH, ticks=_TICKS, title="b* (blue to yellow)"),
    height=296 * PLANE.shape[0] / PLANE.shape[1],
    grid="xy",
)

Floats = NDArray[np.float64]
Segment = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One model's density, ready to be drawn."""

    name: str
    picture: str
    """`data:` address of a PNG that fills the plane."""
    lines: tuple[str, ...]
    """SVG path around each of `SHARES`."""

    def draw(self, figures: str = "") -> Markup:
        """Draw the plane; with `figures` the name stands above it, and they beside the name."""
        (left, top), (right, bottom) = _FRAME.at(PLANE.a_low, _B_HIGH), _FRAME.at(_A_HIGH, PLANE.b_low)
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        content = [element("image", preserveAspectRatio="none", href=self.picture, **place)]
        for line, width in zip(self.lines, _WIDTHS, strict=True):
            content.append(element("path", class_="shape", stroke_width=width, d=line))
        if figures:
            content.append(element("text", self.name, class_="name", x=left, y=9))
            content.append(element("text", figures, x=right, y=9, text_anchor="end"))
        return _draw(f"Density of the chroma plane, {self.name}", content)


def _draw(title: str, content: Sequence[Markup]) -> Markup:
    points = (_FRAME.at(a, b) for a, b in gamut_outline())
    border = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return _FRAME.draw(title, element("polygon", class_="axis", stroke_dasharray="6 4", points=border), *content)


def density_map(maps: Mapping[str, tuple[Floats, Floats]]) -> list[Panel]:
    """Prepare the panels of several models, on one scale.

    Args:
        maps: for each model mean density and density times L*, both (bins of half the width of `PLANE`,).
    """
    from scipy.ndimage import gaussian_filter

    shape = (2 * PLANE.shape[0], 2 * PLANE.shape[1])
    smooth = {
        name: [gaussian_filter(part.reshape(shape), _BLUR, mode="constant") for part in parts]
        for name, parts in maps.items()
    }
    highest = max(float(density.max()) for density, _ in smooth.values())
    return [
        Panel(
            name=name,
            picture=_picture(density, light, highest),
            lines=tuple(_path(contour(density, _threshold(density, share))) for share in SHARES),
        )
        for name, (density, light) in smooth.items()
    ]


def outline_map(panels: Sequence[Panel]) -> Markup | None:
    """Draw the inner lines of two to six models in one plane; the first model's are the widest, so that equal ones do
    not hide one another."""
    if not 1 < len(panels) <= _MOST_TOGETHER:
        return None
    step = min(3.4, 6 / (len(panels) - 1))
    groups = []
    for n, panel in enumerate(panels):
        paths = [element("path", class_="shape", d=line) for line in panel.lines[:2]]
        groups.append(element("g", *paths, class_=colour_of(n), stroke_width=2.6 + step * (len(panels) - 1 - n)))
    return _draw("Outlines of all models in one chroma plane", groups)


def _picture(density: Floats, light: Floats, highest: float) -> str:
    """Colour each bin as the mean of its pixels, the more solid the more of them, by the logarithm of their share."""
    rows, columns = np.indices(density.shape)
    a, b = PLANE.a_low + FINE_BIN * (columns + 0.5), PLANE.b_low + FINE_BIN * (rows + 0.5)
    lightness = np.divide(light, density, out=np.full_like(density, 50.0), where=density > 0)
    colours = lab_to_srgb(np.stack([lightness, a, b], axis=-1))
    strength = np.log(np.maximum(density, _FAINTEST) / _FAINTEST) / np.log(highest / _FAINTEST)
    alpha = (255 * strength.clip(0, 1)).round().astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(np.dstack([colours, alpha])[::-1]).save(data, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _threshold(density: Floats, share: float) -> float:
    """Return the density that is exceeded in the smallest region with that share of the pixels."""
    ordered = np.sort(density.ravel())[::-1]
    inside = int(np.searchsorted(np.cumsum(ordered), share * ordered.sum()))
    return float(ordered[min(inside, len(ordered) - 1)])


def contour(values: Floats, level: float) -> list[Segment]:
    """Find the pieces (x, y, x, y) of the lines where a grid (rows, columns) passes through a level.

    Each square between four points is cut into two triangles, in which the values are a plane and the line is straight.
    """

    def crossing(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
        along = (level - values[one]) / (values[other] - values[one])
        return float(one[1] + along * (other[1] - one[1])), float(one[0] + along * (other[0] - one[0]))

    pieces = []
    above = values >= level
    mixed = above[:-1, :-1].astype(int) + above[1:, :-1] + above[:-1, 1:] + above[1:, 1:]
    for row, column in np.argwhere((mixed > 0) & (mixed < 4)):
        square = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        for corners in ((square[0], square[1], square[2]), (square[0], square[2], square[3])):
            sides = itertools.combinations(corners, 2)
            ends = [crossing(*side) for side in sides if above[side[0]] != above[side[1]]]
            if ends:
                pieces.append((*ends[0], *ends[1]))
    return pieces


def _path(pieces: Sequence[Segment]) -> str:
    """Write pieces of a line as an SVG path in the coordinates of a panel."""

    def at(column: float, row: float) -> str:
        x, y = _FRAME.at(PLANE.a_low + FINE_BIN * (column + 0.5), PLANE.b_low + FINE_BIN * (row + 0.5))
        return f"{x:.1f} {y:.1f}"

    return "".join(f"M{at(x0, y0)}L{at(x1, y1)}" for x0, y0, x1, y1 in pieces)
