"""The chroma plane as pictures: a density in its own colours, lines around half and nine tenths of it, and a page."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpskit.pages import axis_for, environment
from hpskit.pixels.statistics import FINE_BIN, PLANE, gamut_outline, lab_to_srgb

__all__ = ["chrominance_page", "chrominance_plot", "contour"]

SHARES = (0.5, 0.9, 0.99)
"""Of the pixels, inside the lines."""
_COLOURS = 6
_TICKS = (-80, -40, 0, 40, 80)
_LEFT, _TOP, _ZOOM = 40, 8, 2
"""Where the plane begins in a panel, and pixels for each Lab unit."""
_FAINTEST = 1e-6
"""Share of the pixels in a bin that is not drawn any more."""
_BLUR = 1.0
"""Standard deviation in bins: takes the grain out of the picture; figures are of the densities as they are."""
_PER_ROW = 4

Floats = NDArray[np.float64]
Maps = Mapping[str, tuple[Floats, Floats]]
"""For each model mean density and density times L*, both (bins of half the width of `PLANE`,)."""
Segment = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One model's density, ready to be drawn."""

    name: str
    colour: str
    picture: str
    """`data:` address of a PNG that fills the plane."""
    lines: tuple[str, ...]
    """SVG path around each of `SHARES`."""


def chrominance_page(result: Mapping[str, Any], maps: Maps) -> str:
    """The page of a chrominance study.

    Args:
        result: what `chrominance.json` holds.
        maps: see `Maps`.
    """
    pairs = sorted(result["pairs"], key=lambda pair: -pair["wasserstein"]["value"])
    ends = [pair["wasserstein"][name] for pair in pairs for name in ("value", "high", "chance")]
    template = environment("hpskit.benchmark.studies", "hpskit.evaluation").get_template("chrominance.html")
    return template.render(
        result=result,
        pairs=pairs,
        axis=axis_for([0.0, *ends]),
        panels=_panels(maps),
        together=len(maps) in range(2, _COLOURS + 1),
        **_frame(),
    )


def chrominance_plot(result: Mapping[str, Any], maps: Maps) -> str:
    """The densities side by side as one SVG file for a paper; see `chrominance_page`."""
    per_row = min(_PER_ROW, len(maps))
    models = {model["name"]: model for model in result["models"]}
    template = environment("hpskit.benchmark.studies").get_template("chrominance.svg")
    return template.render(panels=_panels(maps), models=models, per_row=per_row, **_frame())


def _frame() -> dict[str, Any]:
    """What all panels have in common."""
    outline = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in gamut_outline())
    rows, columns = PLANE.shape
    plane = {"x": _LEFT, "y": _TOP, "width": columns * PLANE.width * _ZOOM, "height": rows * PLANE.width * _ZOOM}
    return {"outline": outline, "plane": plane, "ticks": _TICKS, "shares": SHARES, "x": _x, "y": _y}


def _x(a: float) -> float:
    return _LEFT + _ZOOM * (a - PLANE.a_low)


def _y(b: float) -> float:
    return _TOP + _ZOOM * (PLANE.b_low + PLANE.shape[0] * PLANE.width - b)


def _panels(maps: Maps) -> list[Panel]:
    from scipy.ndimage import gaussian_filter

    shape = (2 * PLANE.shape[0], 2 * PLANE.shape[1])
    smooth = {
        name: tuple(gaussian_filter(part.reshape(shape), _BLUR, mode="constant") for part in parts)
        for name, parts in maps.items()
    }
    highest = max(float(density.max()) for density, _ in smooth.values())
    return [
        Panel(
            name=name,
            colour=f"c{number % _COLOURS}",
            picture=_picture(density, light, highest),
            lines=tuple(_path(contour(density, _threshold(density, share))) for share in SHARES),
        )
        for number, (name, (density, light)) in enumerate(smooth.items())
    ]


def _picture(density: Floats, light: Floats, highest: float) -> str:
    """Each bin in the mean colour of its pixels, the more solid the more of them; by the logarithm of their share."""
    rows, columns = np.indices(density.shape)
    a, b = PLANE.a_low + FINE_BIN * (columns + 0.5), PLANE.b_low + FINE_BIN * (rows + 0.5)
    lightness = np.divide(light, density, out=np.full_like(density, 50.0), where=density > 0)
    colours = lab_to_srgb(np.stack([lightness, a, b], axis=-1))
    strength = np.log(np.maximum(density, _FAINTEST) / _FAINTEST) / np.log(highest / _FAINTEST)
    alpha = (255 * strength.clip(0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(np.dstack([colours, alpha])[::-1])
    data = io.BytesIO()
    picture.save(data, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _threshold(density: Floats, share: float) -> float:
    """The density that is exceeded in the smallest region with that share of the pixels."""
    ordered = np.sort(density.ravel())[::-1]
    inside = int(np.searchsorted(np.cumsum(ordered), share * ordered.sum()))
    return float(ordered[min(inside, len(ordered) - 1)])


def contour(values: Floats, level: float) -> list[Segment]:
    """Pieces (x, y, x, y) of the lines where a grid (rows, columns) passes through a level, in rows and columns.

    Each square between four points is cut into two triangles, in which the values are a plane and the line is straight.
    """
    pieces = []
    above = values >= level
    mixed = above[:-1, :-1].astype(int) + above[1:, :-1] + above[:-1, 1:] + above[1:, 1:]
    for row, column in np.argwhere((mixed > 0) & (mixed < 4)):
        square = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        for corners in ((square[0], square[1], square[2]), (square[0], square[2], square[3])):
            sides = itertools.combinations(corners, 2)
            ends = [_crossing(values, level, *side) for side in sides if above[side[0]] != above[side[1]]]
            if ends:
                pieces.append((*ends[0], *ends[1]))
    return pieces


def _crossing(values: Floats, level: float, one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    along = (level - values[one]) / (values[other] - values[one])
    return float(one[1] + along * (other[1] - one[1])), float(one[0] + along * (other[0] - one[0]))


def _path(pieces: list[Segment]) -> str:
    """As an SVG path in the coordinates of a panel."""
    half, zoom = FINE_BIN / 2, _ZOOM * FINE_BIN
    x, y = _x(PLANE.a_low + half), _y(PLANE.b_low + half)
    return "".join(
        f"M{x + zoom * x0:.1f} {y - zoom * y0:.1f}L{x + zoom * x1:.1f} {y - zoom * y1:.1f}" for x0, y0, x1, y1 in pieces
    )
