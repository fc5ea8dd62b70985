"""What the benchmark reports for a style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError

__all__ = ["GROUP_SIZE", "StyleResult", "style_result"]

GROUP_SIZE = 80
"""Images in one of the consecutive groups over which the benchmark takes its deviation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleResult:
    """What the paper's table reports for one style."""

    mean: float
    """Mean of the group means."""
    deviation: float
    """Population standard deviation (ddof 0) of the group means: not an error of the mean."""


def style_result(scores: ArrayLike, group_size: int = GROUP_SIZE) -> StyleResult:
    """Mean and deviation over consecutive groups, as the official `evaluate` prints them.

    Args:
        scores: (N,) in the order of the prompts; the last group may be shorter. NaN is a prompt without a score: the
            groups stay where they are (in the official code they move), and one without any score drops out.
        group_size: prompts in a group.

    Raises:
        InputError: there are no scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).all():
        raise InputError(f"scores: shape is {values.shape}, expected (N,) with at least one score")
    groups = (values[start : start + group_size] for start in range(0, values.size, group_size))
    means = [group[~np.isnan(group)].mean() for group in groups if not np.isnan(group).all()]
    return StyleResult(mean=float(np.mean(means)), deviation=float(np.std(means)))
