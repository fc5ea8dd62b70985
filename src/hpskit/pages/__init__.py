"""What HTML pages share: the house style, axes, and how figures are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Axis",
    "axis_for",
    "counted",
    "digits_for",
    "duration",
    "environment",
    "number",
    "p_figure",
    "p_words",
    "percent",
    "round_step",
    "signed",
    "whole",
]

_MINUS = "\N{MINUS SIGN}"


def environment(*packages: str) -> Environment:
    """Templates of these packages, the first that has one; they may extend `page.html` of this one."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined  # here: nothing but a page needs it

    loader = ChoiceLoader([PackageLoader(package) for package in (*packages, "hpskit.pages")])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    figures = {"number": number, "p_figure": p_figure, "percent": percent, "signed": signed, "whole": whole}
    found.globals.update(figures, counted=counted, digits_for=digits_for, pos=_position, thousands=_thousands)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A stretch of the number line that figures are drawn on."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def label(self, tick: float) -> str:
        """With as many decimals as the step between ticks has."""
        step = self.ticks[1] - self.ticks[0]
        return number(tick, max(0, -math.floor(math.log10(step) + 1e-9)))


def axis_for(values: Sequence[float], steps: int = 5) -> Axis:
    """An axis with round ticks that holds all values; `steps` is about how many there are."""
    low, high = min(values), max(values)
    step = round_step((high - low) / steps) if high > low else 1.0
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(low=first * step, high=last * step, ticks=tuple(n * step for n in range(first, last + 1)))


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`, which is above 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _position(value: float, axis: Axis) -> float:
    """Percent of the width; 3 % stay free at either end for tick labels."""
    return round(3 + 94 * (value - axis.low) / (axis.high - axis.low), 3)


def number(value: float, digits: int = 2) -> str:
    """With a real minus sign, and none before 0."""
    text = f"{value:.{digits}f}"
    return text.replace("-", _MINUS) if float(text) else text.removeprefix("-")


def signed(value: float, digits: int = 2) -> str:
    """A difference: with its sign, unless it is 0."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(f"{value:.{digits}f}") else text


def digits_for(values: Iterable[float], least: int = 2, most: int = 6) -> int:
    """Decimals, from `least` to `most`, with which the smallest of the values that is not 0 has two figures."""
    sizes = [abs(value) for value in values if value]
    return min(most, max(least, 1 - math.floor(math.log10(min(sizes))))) if sizes else least


def percent(share: float) -> str:
    """Of a share from 0 to 1, without decimals; see `whole`."""
    return f"{whole(share)} %"


def whole(share: float) -> int:
    """Percent of a share from 0 to 1, such that a share and its rest are 100 together.

    Of the two the one with the larger remainder goes up; if both have a half, the larger share does. The scripts of
    pages do the same.
    """
    larger = math.floor(100 * max(share, 1 - share) + 0.5 + 1e-9)
    return larger if share >= 0.5 else 100 - larger


def duration(seconds: float) -> str:
    """Seconds as a span of time, to two figures or so, for example 50 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def counted(count: int, word: str) -> str:
    """`1 prompt` or `3,200 prompts`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def p_figure(p_value: float) -> str:
    """As tables give it: `< 0.001` or `0.012`."""
    if p_value < 0.001:
        return "< 0.001"
    return f"{p_value:.2f}" if p_value >= 0.1 else f"{p_value:#.2g}"


def p_words(p_value: float) -> str:
    """As sentences give it: `p < 0.001` or `p = 0.012`."""
    figure = p_figure(p_value)
    return f"p {figure}" if figure.startswith("<") else f"p = {figure}"


def _thousands(value: int) -> str:
    return f"{value:,}"
