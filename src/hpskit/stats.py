"""The arithmetic of preferences and benchmarks: pure NumPy, no files, no networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError

__all__ = ["GROUP_SIZE", "StyleResult", "accuracy_hpdv2", "style_result"]

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
        scores: (N,) in the order of the prompts; the last group may be shorter.
        group_size: images in a group.

    Raises:
        InputError: there are no scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise InputError(f"scores: shape is {values.shape}, expected (N,) with at least one score")
    means = [values[start : start + group_size].mean() for start in range(0, values.size, group_size)]
    return StyleResult(mean=float(np.mean(means)), deviation=float(np.std(means)))


def accuracy_hpdv2(scores: Sequence[ArrayLike], ranks: Sequence[ArrayLike]) -> float:
    """Pairwise accuracy by the definition of HPD v2: the mean over prompts of 1 - inversions / C(n, 2).

    A pair is an inversion if scores and people order it in opposite ways; a pair that people tied is correct
    whatever the scores. Equal scores are first ranked in the order in which the images stand, as the official code
    does, so that a scorer that never decides gains nothing by it.

    Args:
        scores: one array (n,) for each prompt; higher is better.
        ranks: one array (n,) for each prompt; 1 is best.

    Returns:
        0 to 1.

    Raises:
        InputError: lengths differ, or a prompt has fewer than two images.

    Source: `inversion_score` of the official package.
    """
    if len(scores) != len(ranks) or not scores:
        raise InputError(f"scores: there are {len(scores)} prompts for {len(ranks)} rankings, expected as many, not 0")
    accuracies = []
    for index, (given, expected) in enumerate(zip(scores, ranks, strict=True)):
        score, rank = np.asarray(given, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        if score.shape != rank.shape or score.ndim != 1 or score.size < 2:
            shapes = f"{score.shape} and {rank.shape}"
            raise InputError(f"prompt {index}: shapes of scores and ranks are {shapes}, expected the same (n,), n > 1")
        place = np.empty(score.size)
        place[np.argsort(-score, kind="stable")] = np.arange(score.size)
        first, second = np.triu_indices(score.size, k=1)
        inverted = (place[first] - place[second]) * (rank[first] - rank[second]) < 0
        accuracies.append(1 - inverted.mean())
    return float(np.mean(accuracies))
