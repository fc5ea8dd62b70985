"""The pages of benchmarks: their templates, which may import `charts.html` of the evaluation report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpskit import pages
from hpskit.pages import (
    Axis,
    axis_for,
    counted,
    digits_for,
    number,
    p_figure,
    p_words,
    percent,
    round_step,
    signed,
)

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Axis",
    "axis_for",
    "counted",
    "digits_for",
    "environment",
    "number",
    "p_figure",
    "p_words",
    "percent",
    "round_step",
    "signed",
]


def environment() -> Environment:
    """Templates of this package, and those of the evaluation report."""
    return pages.environment("hpskit.benchmark", "hpskit.evaluation")
