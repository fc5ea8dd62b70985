"""Axes of charts: round ticks that hold all values, counts, values as they are, and names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpskit.pages.format import number

__all__ = ["Axis", "axis_for", "category_axis", "count_axis", "round_step", "text_width", "value_axis"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A stretch of the number line that figures are drawn on; it may run downwards."""

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...] = ()
    """One for each tick, of one or more lines; if empty, the ticks are written as numbers."""
    title: str = ""
    logarithmic: bool = False
    slant: bool = False
    """Slant labels that do not fit side by side; otherwise some are left out."""

    def at(self, value: float) -> float:
        """The place of a value as a share of the axis, 0 at `low` and 1 at `high`."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low)

    def holds(self, value: float) -> bool:
        """Tell whether a value lies on the axis."""
        return -1e-9 <= self.at(value) <= 1 + 1e-9

    def label(self, tick: float) -> str:
        """The label of a tick; a number has as many decimals as the step between ticks needs."""
        if self.labels:
            return self.labels[self.ticks.index(tick)]
        step = self.ticks[1] - self.ticks[0]
        return number(tick, max(0, -math.floor(math.log10(step) + 1e-9)))


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`, which is above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def axis_for(values: Iterable[float], steps: int = 5, *, title: str = "") -> Axis:
    """An axis that begins and ends at a round tick and holds all values; `steps` is about how many there are."""
    values = list(values)
    low, high = min(values), max(values)
    step = round_step((high - low) / steps) if high > low else 1.0
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(n * step for n in range(first, last + 1))
    return Axis(low=first * step, high=last * step, ticks=ticks, title=title)


def count_axis(highest: int, steps: int = 5, *, title: str = "") -> Axis:
    """An axis of counts, from 0 to exactly the highest, with whole numbers as ticks."""
    end = max(highest, 1)
    step = max(1, round(round_step(end / steps)))
    ticks = range(0, end + 1, step)
    return Axis(low=0, high=end, ticks=tuple(ticks), labels=tuple(f"{tick:,}" for tick in ticks), title=title)


def value_axis(values: Sequence[float], labels: Sequence[str], *, title: str = "", logarithmic: bool = False) -> Axis:
    """An axis whose ticks are the values themselves, in ascending order, with room at both ends."""
    low, high = values[0], values[-1]
    if logarithmic:
        factor = (high / low) ** 0.1 if high > low else 2.0
        low, high = low / factor, high * factor
    else:
        margin = 0.1 * (high - low) or 1.0
        low, high = low - margin, high + margin
    ticks, named = tuple(values), tuple(labels)
    return Axis(low=low, high=high, ticks=ticks, labels=named, title=title, logarithmic=logarithmic)


def category_axis(labels: Sequence[str], *, title: str = "", downwards: bool = False) -> Axis:
    """An axis of names side by side; the n-th, counted from 0, stands at n."""
    low, high = -0.5, len(labels) - 0.5
    low, high = (high, low) if downwards else (low, high)
    return Axis(low=low, high=high, ticks=tuple(range(len(labels))), labels=tuple(labels), title=title, slant=True)


def text_width(text: str) -> float:
    """Units of a panel that the longest line of a label needs at most; a browser sets it in the font that it has."""
    return 7.0 * max(map(len, text.split("\n")))
