"""What can be seen of a training run that goes wrong, from its figures alone.

The checks are pure functions: each gives a sentence that says what is wrong and what to do, or None.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from hpskit.stats import Accuracy
from hpskit.training.recipes import Recipe

__all__ = ["Watch", "exploding_scale", "inverted_labels", "overflowing", "stuck_at_chance", "window"]

_LEAST_GAIN = 0.01
"""A loss that is below chance by a smaller part of it counts as stuck."""
_GROWTH = 5.0
_MOST_SKIPPED = 20
_SURE = 0.001


def window(recipe: Recipe) -> int:
    """Steps over which a loss is looked at: a tenth of the run, 20 to 100."""
    return min(100, max(20, recipe.steps // 10))


def stuck_at_chance(losses: Sequence[float], chances: Sequence[float]) -> str | None:
    """Whether the loss sits where it would if the network could not tell any images apart, ln 2 for pairs.

    Args:
        losses: of the last steps.
        chances: the loss of equal scores in the same steps.
    """
    loss, chance = fmean(losses), fmean(chances)
    if loss < (1 - _LEAST_GAIN) * chance:
        return None
    cause = "see that labels belong to their images (hpskit data inspect --decode), then try a higher lr"
    return f"the loss of the last {len(losses)} steps is {loss:.3f}, guessing gives {chance:.3f}; {cause}"


def exploding_scale(first: float, now: float, limit: float) -> str | None:
    """Whether logit_scale has run away: to five times what it was, or from below half of its limit up to it.

    Args:
        first: logit_scale before training.
        now: logit_scale now.
        limit: the recipe's `max_logit_scale`.
    """
    if now < _GROWTH * first and not (now >= 0.999 * limit and first < limit / 2):
        return None
    cause = "the network grows sure of what it has seen; lower lr, or look for pairs that come twice"
    return f"logit_scale is {now:.1f}, it began with {first:.1f}; {cause}"


def inverted_labels(credit: Accuracy) -> str | None:
    """Whether the validation data are ordered the wrong way round, more clearly than chance would do once in 1,000
    times: a sign test over the groups (a group is won if more than half of its credit is got).

    Args:
        credit: of every group.
    """
    got, of = credit.terms()
    share = got[of > 0] / of[of > 0]
    lost, won = int((share < 0.5).sum()), int((share > 0.5).sum())
    if lost <= won or _tail(lost, lost + won) >= _SURE:
        return None
    cause = "the labels of the training or of the validation data are probably the wrong way round"
    return f"validation accuracy is {100 * credit.value:.1f} %, which is surely below 50 %; {cause}"


def _tail(successes: int, trials: int) -> float:
    """Probability of at least so many heads of a fair coin."""
    if trials > 1000:  # the exact sum takes long, and the normal distribution is right to a few per cent there
        return 0.5 * math.erfc((successes - trials / 2 - 0.5) / math.sqrt(trials / 2))
    heads = sum(math.comb(trials, k) for k in range(successes, trials + 1))
    return heads / (1 << trials)  # whole numbers up to here: nothing overflows


def overflowing(skipped: int) -> str | None:
    """Whether fp16 has overflowed in so many steps one after the other that the run is not getting anywhere."""
    if skipped < _MOST_SKIPPED:
        return None
    return f"fp16 has overflowed in {skipped} steps in a row, nothing was learned in them; use --set precision=bf16"


class Watch:
    """Follows a run and says each thing once."""

    def __init__(self, recipe: Recipe, logit_scale: float) -> None:
        """
        Args:
            recipe: of the run.
            logit_scale: before training.
        """
        self._recipe, self._first_scale = recipe, logit_scale
        self._losses = deque[float](maxlen=window(recipe))
        self._chances = deque[float](maxlen=window(recipe))
        self._skipped = 0
        self._told = set[str]()

    def replay(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Take over what the log of an earlier part of the run says."""
        for line in lines:
            if line["kind"] == "warning":
                self._told.add(line["name"])
            elif line["kind"] == "step":
                self._take(line)

    def step(self, line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Name and text of what is to be said after a step, given its line in the log."""
        self._take(line)
        settled = line["step"] >= self._recipe.warmup + window(self._recipe)
        stuck = stuck_at_chance(self._losses, self._chances) if settled else None
        yield from self._once("stuck", stuck)
        scale = exploding_scale(self._first_scale, line["logit_scale"], self._recipe.max_logit_scale)
        yield from self._once("logit_scale", scale)
        yield from self._once("overflow", overflowing(self._skipped))

    def validation(self, credit: Accuracy) -> Iterator[tuple[str, str]]:
        """Name and text of what is to be said after a validation."""
        yield from self._once("inverted", inverted_labels(credit))

    def _take(self, line: Mapping[str, Any]) -> None:
        self._losses.append(line["loss"])
        self._chances.append(line["chance"])
        self._skipped = self._skipped + 1 if line["skipped"] else 0

    def _once(self, name: str, text: str | None) -> Iterator[tuple[str, str]]:
        if text is not None and name not in self._told:
            self._told.add(name)
            yield name, text
