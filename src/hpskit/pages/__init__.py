"""What HTML pages share: how figures are written, charts, and the shell of a page."""

from __future__ import annotations

from hpskit.pages.axes import Axis, axis_for, round_step
from hpskit.pages.format import counted, digits_for, duration, number, p_figure, p_words, percent, signed, whole
from hpskit.pages.page import environment

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
