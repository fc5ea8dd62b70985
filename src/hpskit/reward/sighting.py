"""The signs that the watch looks at, and what it saw in one step: a line of its log. Knows no torch."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from hpskit.errors import InputError, shown
from hpskit.rows import read_rows
from hpskit.schema import Strict, parse

SIGNS = {
    "saturation": "saturation of the colours",
    "clipped": "share of values at black or white",
    "brightness": "mean luminance",
    "contrast": "deviation of the luminance",
    "red_green": "mean of red less green",
    "yellow_blue": "mean of yellow less blue",
    "sharpness": "log variance of the Laplacian, relative to contrast",
    "noise": "log median of the second differences",
    "edges": "steepest hundredth of the differences between neighbours",
    "slope": "fall of the spectrum",
    "high_band": "log share of power above a quarter of the sampling rate",
    "periodic": "log height of the highest peak over its ring of the spectrum",
    "seam": "log of the steepest whole row or column over its neighbours",
}
"""Name of each sign, and what it is."""

GROUP_SIGNS = {
    "alike": "nearest other image of the same prompt, as a cosine",
    "alike_across": "nearest image of another prompt, as a cosine",
    "spread": "log deviation of the reward within a prompt",
}
"""Signs of a group of images, the images of one prompt in one step."""


class Sighting(Strict):
    """The watch on one step; a line of its log."""

    step: int
    reward: float
    held_out: float | None
    """Mean score of the sampled images by the held-out scorer."""
    signs: dict[str, float]
    """Means over the step."""
    z: dict[str, float]
    """How far reward, held-out score and signs are from the reference, in robust deviations of one step's mean.
    Empty while the reference is being taken."""
    out: list[str]
    """Signs that have left their range."""
    rises: bool
    """Whether the reward has risen since the reference."""
    falls: bool
    """Whether the held-out score has fallen."""
    same: list[str]
    """Groups all of whose rewards are equal: they teach nothing."""
    worst: list[str]
    """The five images that are furthest out of range, if a sign is."""
    alarm: bool
    """The reward rises, and the held-out score falls or two signs have left their range."""

    def why(self) -> str:
        """Say in words what an alarm is about."""
        signs = ", ".join(self.out).replace("_", " ")
        left = f"{signs} had left {'its' if len(self.out) == 1 else 'their'} range" if signs else ""
        fallen = "the held-out score had fallen" if self.falls else ""
        return " and ".join(part for part in ("the reward had risen", fallen, left) if part)

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(self.model_dump(), ensure_ascii=False, allow_nan=False) + "\n"


def read_log(log: Path) -> list[Sighting]:
    """Read the log of a watch.

    Raises:
        InputError: it is none, or has no steps.
    """
    lines = [parse(Sighting, value, f"{log}: line {number}") for number, value in read_rows(log)]
    if not lines:
        raise InputError(log, "has no steps yet")
    return lines


def episodes(lines: Sequence[Sighting]) -> list[Sighting]:
    """Return the steps at which an alarm began."""
    return [line for k, line in enumerate(lines) if line.alarm and not (k and lines[k - 1].alarm)]


def compared_from(lines: Sequence[Sighting]) -> int | None:
    """Return the first step that was compared with the reference; None if that was never complete."""
    return next((line.step for line in lines if line.z), None)


def members(group_ids: Iterable[Hashable]) -> dict[Hashable, list[int]]:
    """Mark -> the indices that have it. Marks are compared by value, in tensors and arrays too.

    Raises:
        InputError: a mark cannot be one, as the rows of a matrix.
    """
    # The elements of a tensor are tensors, each equal to itself alone.
    marks = group_ids.tolist() if hasattr(group_ids, "tolist") else list(group_ids)
    found: dict[Hashable, list[int]] = {}
    for k, given in enumerate(marks):
        mark = given.tolist() if hasattr(given, "tolist") else given
        try:
            found.setdefault(mark, []).append(k)
        except TypeError:
            raise InputError(f"group_ids[{k}]", f"is {shown(mark)}", expected="a number or a text") from None
    return found
