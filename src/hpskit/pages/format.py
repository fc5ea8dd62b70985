"""Figures as people read them: numbers, signs, percent, counts, durations, p-values; texts in Markdown and CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from markupsafe import Markup

__all__ = [
    "between",
    "counted",
    "decimals",
    "digits_for",
    "duration",
    "number",
    "p_figure",
    "p_words",
    "percent",
    "plain",
    "points",
    "signed",
    "thousands",
    "tied",
    "unharmful",
    "whole",
]

_MINUS = "\N{MINUS SIGN}"
_LARGEST = 1e12


def number(value: float, digits: int = 2) -> str:
    """Write a number with a real minus sign, and none before 0; from a million millions on with its power of ten."""
    text = f"{value:.{digits}f}" if abs(value) < _LARGEST else f"{value:.4g}"
    return text.replace("-", _MINUS) if float(text) else text.removeprefix("-")


def signed(value: float, digits: int = 2) -> str:
    """Write a difference with its sign, unless it is 0."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(f"{value:.{digits}f}") else text


def digits_for(values: Iterable[float], least: int = 2, most: int = 6) -> int:
    """Decimals, from `least` to `most`, with which the smallest of the values that is not 0 has two figures."""
    sizes = [abs(value) for value in values if value]
    return min(most, max(least, 1 - math.floor(math.log10(min(sizes))))) if sizes else least


def decimals(low: float | None, high: float | None) -> int:
    """Decimals that a figure with this interval needs: as far as the first figure of its width, at least two."""
    width = 0.0 if low is None or high is None else high - low
    return 2 if width <= 0 else min(6, max(2, -math.floor(math.log10(width))))


def between(low: float | None, high: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Write an interval, `1.20 to 1.40`; empty where there is none."""
    if low is None or high is None:
        return ""
    write = signed if sign else number
    return f"{write(low, digits)} to {write(high, digits)}"


def percent(share: float, digits: int = 0) -> str:
    """Write a share from 0 to 1 in percent; without decimals it is rounded by `whole`."""
    return f"{whole(share)} %" if digits == 0 else f"{number(100 * share, digits)} %"


def points(share: float | None) -> str:
    """Write a share from 0 to 1 in percent, to one decimal and without the sign; None is an empty text."""
    return "" if share is None else number(100 * share, 1)


def whole(share: float) -> int:
    """Round a share from 0 to 1 to whole percent, such that a share and its rest are 100 together.

    Of the two the one with the larger remainder goes up; if both have a half, the larger share does.
    """
    larger = math.floor(100 * max(share, 1 - share) + 0.5 + 1e-9)
    return larger if share >= 0.5 else 100 - larger


def thousands(value: int) -> str:
    """Write an integer with commas."""
    return f"{value:,}"


def counted(count: int, word: str) -> str:
    """Write a count with its noun: `1 prompt` or `3,200 prompts`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def duration(seconds: float) -> str:
    """Write a span of time to about two figures: `50 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def p_figure(p_value: float, least: float = 0.001) -> str:
    """Write a p-value as tables give it: `< 0.001` or `0.012`; `least` is the smallest that can be told."""
    if p_value < least:
        return f"< {least:.2g}"
    return f"{p_value:.2f}" if p_value >= 0.1 else f"{p_value:#.2g}"


def p_words(p_value: float) -> str:
    """Write a p-value as sentences give it: `p < 0.001` or `p = 0.012`."""
    figure = p_figure(p_value)
    return f"p {figure}" if figure.startswith("<") else f"p = {figure}"


def tied(text: str) -> str:
    """Keep a short text on one line: its spaces become ones that no line is broken at."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def plain(text: str) -> Markup:
    """Put text on one line, with nothing that Markdown or HTML would take for its own."""
    safe = re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")
    return Markup(safe)  # noqa: S704  # what means something was escaped above


def unharmful(value: object) -> object:
    """Put a quote before text that a spreadsheet would take for a formula in a cell of CSV."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(tuple("=+-@\t\r\n")) else value
