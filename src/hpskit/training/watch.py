"""What can be seen of a training run that goes wrong, from its figures alone.

The checks are pure functions: each gives a sentence that says what is wrong and what to do, or None.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, variance
from typing import Any

from hpskit.stats import Accuracy
from hpskit.training.past_run import best_validation, lines_of
from hpskit.training.recipes import Recipe

__all__ = [
    "Watch",
    "above_chance",
    "exploding_scale",
    "inverted_labels",
    "overflowing",
    "overtaken",
    "recovery",
    "stuck_at_chance",
    "window",
]

_LEAST_GAIN = 0.01
"""A loss that is below chance by a smaller part of it counts as stuck."""
_ERRORS = 2.0
"""A mean of steps differs from something if it is so many standard errors away."""
_WORSE = 0.05
"""A loss that is higher by a larger part of chance is worse."""
_GROWTH = 5.0
_MOST_SKIPPED = 20
_SURE = 0.001


def window(steps: int) -> int:
    """Steps over which a loss is looked at: a tenth of the run, 20 to 100."""
    return min(100, max(20, steps // 10))


def stuck_at_chance(losses: Sequence[float], chances: Sequence[float]) -> str | None:
    """Whether the loss sits where it would if the network could not tell any images apart, ln 2 for pairs.

    Args:
        losses: of the last steps.
        chances: the loss of equal scores in the same steps.
    """
    loss, chance = fmean(losses), fmean(chances)
    if loss < (1 - _LEAST_GAIN) * chance or _is_above(losses, chances):
        return None
    cause = "see that labels belong to their images (hpskit data inspect --decode), then try a higher lr"
    return f"the loss of the last {len(losses)} steps is {loss:.3f}, guessing gives {chance:.3f}; {cause}"


def above_chance(losses: Sequence[float], chances: Sequence[float]) -> str | None:
    """Whether the loss is clearly above that of guessing: by more than 1 % and than two standard errors of its mean, or
    by more than 5 %, as a few large steps at the beginning make for a large error.

    Args:
        losses: of the last steps.
        chances: the loss of equal scores in the same steps.
    """
    if not _is_above(losses, chances):
        return None
    found = f"the loss of the last {len(losses)} steps is {fmean(losses):.3f}"
    cause = "its steps are too large: a lower lr, a longer warmup or clip=1; if that does not help, see the labels"
    return f"{found}, worse than guessing ({fmean(chances):.3f}); {cause}"


def _is_above(losses: Sequence[float], chances: Sequence[float]) -> bool:
    excess = [loss - chance for loss, chance in zip(losses, chances, strict=True)]
    chance, noise = fmean(chances), _ERRORS * math.sqrt(_error(excess))
    return fmean(excess) > max(_LEAST_GAIN * chance, min(noise, _WORSE * chance))


def _error(values: Sequence[float]) -> float:
    """The squared standard error of their mean; of a single one nobody knows it."""
    return variance(values) / len(values) if len(values) > 1 else math.inf


def overtaken(
    best: Mapping[str, Any], last: Sequence[Mapping[str, Any]], before: Sequence[float], since: Sequence[float]
) -> str | None:
    """Whether the network learns its data by heart: the validation loss is worse than it was, by more than 5 % of
    chance, twice in a row, while the training loss has fallen by more than two standard errors.

    Args:
        best: the validation with the lowest loss.
        last: the last two.
        before: training losses of the steps before the best one, at most a window.
        since: of the last steps since then, at most a window.
    """
    if len(last) < 2 or min(line["loss"] - best["loss"] - _WORSE * line["chance"] for line in last) <= 0:
        return None
    if len(before) < 2 or len(since) < 2:
        return None
    fall = fmean(before) - fmean(since)
    if fall <= _ERRORS * math.sqrt(_error(before) + _error(since)):
        return None
    rise = f"validation loss {last[-1]['loss']:.3f} is worse than at step {best['step']:,} ({best['loss']:.3f})"
    return (
        f"{rise} while the training loss falls ({fmean(before):.3f} to {fmean(since):.3f}): it learns its data by heart"
    )


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


def recovery(warning: Mapping[str, Any], log: Sequence[Mapping[str, Any]], steps: int) -> str | None:
    """What has become better since something was said, in words; None if nothing has.

    Args:
        warning: line of the log.
        log: all lines.
        steps: of the recipe.
    """
    if warning["name"] in ("stuck", "above"):
        last = [line for line in lines_of(log, "step") if line["step"] > warning["step"]][-window(steps) :]
        if len(last) < window(steps):
            return None
        loss, chance = fmean(line["loss"] for line in last), fmean(line["chance"] for line in last)
        return f"later the loss fell to {loss:.3f}" if loss < (1 - _LEAST_GAIN) * chance else None
    if warning["name"] == "overfitted":
        found = lines_of(log, "validation")
        lowest = min(line["loss"] for line in found if line["step"] <= warning["step"])
        later = min(found, key=lambda line: line["loss"])
        step = f"at step {later['step']:,}"
        return f"later, {step}, the validation loss was {later['loss']:.3f}" if later["loss"] < lowest else None
    return None


class Watch:
    """Follows a run and says each thing once."""

    def __init__(self, recipe: Recipe, logit_scale: float) -> None:
        """
        Args:
            recipe: of the run.
            logit_scale: before training.
        """
        self._recipe, self._first_scale = recipe, logit_scale
        self._losses = deque[float](maxlen=window(recipe.steps))
        self._chances = deque[float](maxlen=window(recipe.steps))
        self._skipped = 0
        self._validated = deque[Mapping[str, Any]](maxlen=2)
        self._lowest: Mapping[str, Any] | None = None
        """The validation with the lowest loss."""
        self._kept: Mapping[str, Any] | None = None
        """The one whose weights are kept."""
        self._before: Sequence[float] = ()
        """Losses of the steps before the lowest."""
        self._told = set[str]()

    def replay(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Take over what the log of an earlier part of the run says."""
        for line in lines:
            if line["kind"] == "warning":
                self._told.add(line["name"])
            elif line["kind"] == "step":
                self._take(line)
            elif line["kind"] == "validation":
                self._compare(line)

    def step(self, line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Name and text of what is to be said after a step, given its line in the log."""
        self._take(line)
        if line["step"] >= self._recipe.warmup + window(self._recipe.steps):
            yield from self._once("above", above_chance(self._losses, self._chances))
            if "above" not in self._told:  # else large steps have brought it there, and a higher lr would not help
                yield from self._once("stuck", stuck_at_chance(self._losses, self._chances))
        scale = exploding_scale(self._first_scale, line["logit_scale"], self._recipe.max_logit_scale)
        yield from self._once("logit_scale", scale)
        yield from self._once("overflow", overflowing(self._skipped))

    def validation(self, line: Mapping[str, Any], credit: Accuracy) -> Iterator[tuple[str, str]]:
        """Name and text of what is to be said after a validation, given its line in the log and the credit of every
        group."""
        self._compare(line)
        yield from self._once("inverted", inverted_labels(credit))
        yield from self._once("overfitted", self._overfitted(line))

    def _overfitted(self, line: Mapping[str, Any]) -> str | None:
        """A network whose accuracy has clearly grown is not blamed for its loss: it is only surer of itself. Unless the
        loss is worse than guessing, and the accuracy no longer grows."""
        assert self._lowest is not None
        assert self._kept is not None
        before = self._lowest["accuracy"]
        better = line["accuracy"]["value"] > (before["value"] if before["high"] is None else before["high"])
        if better and (line is self._kept or line["loss"] <= line["chance"]):
            return None
        since = list(self._losses)[-(line["step"] - self._lowest["step"]) :]
        found = overtaken(self._lowest, self._validated, self._before, since)
        if found is None:
            return None
        cure = "fewer steps, patience=2, a lower lr, fewer trained blocks, ema or more data help"
        return f"{found}; the weights of step {self._kept['step']:,}, the most accurate so far, are kept; {cure}"

    def _take(self, line: Mapping[str, Any]) -> None:
        self._losses.append(line["loss"])
        self._chances.append(line["chance"])
        self._skipped = self._skipped + 1 if line["skipped"] else 0

    def _compare(self, line: Mapping[str, Any]) -> None:
        self._validated.append(line)
        if self._lowest is None or line["loss"] < self._lowest["loss"]:
            self._lowest, self._before = line, tuple(self._losses)
        if self._kept is None or best_validation([self._kept, line]) is line:
            self._kept = line

    def _once(self, name: str, text: str | None) -> Iterator[tuple[str, str]]:
        if text is not None and name not in self._told:
            self._told.add(name)
            yield name, text
