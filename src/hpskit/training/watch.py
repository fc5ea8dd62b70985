"""Signs that a training run goes wrong, seen in its figures alone.

The checks are pure functions: each gives a sentence that says what is wrong and what to do, or None. `guessing` is the
loss of equal scores in the same steps: ln 2 for decided pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, variance

from scipy.stats import binomtest

from hpskit.stats.accuracy import Accuracy
from hpskit.training.recipes import Recipe
from hpskit.training.run_folder import Line, best_validation, lines_of

_LEAST_GAIN = 0.01
"""A loss that is below that of guessing by a smaller part of it counts as stuck."""
_ERRORS = 2.0
"""A mean of steps differs from something if it is so many standard errors away."""
_WORSE = 0.05
"""A loss that is higher by a larger part of that of guessing is worse."""
_GROWTH = 5.0
_MOST_SKIPPED = 20
_SURE = 0.001


def window(steps: int) -> int:
    """Return the number of steps over which a loss is looked at: a tenth of the run, 20 to 100."""
    return min(100, max(20, steps // 10))


def stuck(losses: Sequence[float], guessing: Sequence[float]) -> str | None:
    """Tell if the loss sits where it would if the network could not tell any images apart."""
    loss, baseline = fmean(losses), fmean(guessing)
    if loss < (1 - _LEAST_GAIN) * baseline or worse_than_guessing(losses, guessing):
        return None
    cause = "see that labels belong to their images (hpskit data inspect --decode), then try a higher lr"
    return f"the loss of the last {len(losses)} steps is {loss:.3f}, guessing gives {baseline:.3f}; {cause}"


def worse_than_guessing(losses: Sequence[float], guessing: Sequence[float]) -> str | None:
    """Tell if the loss is clearly above that of guessing.

    That is: by more than 1 % and than two standard errors of its mean, or by more than 5 %, as a few large steps at the
    beginning make for a large error.
    """
    excess = [loss - baseline for loss, baseline in zip(losses, guessing, strict=True)]
    baseline, noise = fmean(guessing), _ERRORS * math.sqrt(squared_error(excess))
    if fmean(excess) <= max(_LEAST_GAIN * baseline, min(noise, _WORSE * baseline)):
        return None
    found = f"the loss of the last {len(losses)} steps is {fmean(losses):.3f}"
    cause = "its steps are too large: a lower lr, a longer warmup or clip=1; if that does not help, see the labels"
    return f"{found}, worse than guessing ({baseline:.3f}); {cause}"


def squared_error(values: Sequence[float]) -> float:
    """Return the squared standard error of the mean of some values; nobody knows it of a single one."""
    return variance(values) / len(values) if len(values) > 1 else math.inf


def overfitting(steps: Sequence[Line], validations: Sequence[Line], size: int) -> str | None:
    """Tell if the network learns its data by heart.

    That is: the validation loss is worse than its lowest, by more than 5 % of that of guessing, twice in a row, while
    the training loss has fallen by more than two standard errors. A network whose accuracy has clearly grown is only
    surer of itself, unless its loss is worse than guessing and its accuracy no longer grows.
    """
    lowest, last = min(validations, key=lambda line: line["loss"]), validations[-1]
    kept = best_validation(validations) or last
    if any(line["loss"] - lowest["loss"] <= _WORSE * line["chance"] for line in validations[-2:]):
        return None
    value, high = (lowest["accuracy"][end] for end in ("value", "high"))
    before = [line["loss"] for line in steps if line["step"] <= lowest["step"]][-size:]
    since = [line["loss"] for line in steps if line["step"] > lowest["step"]][-size:]
    grown = last["accuracy"]["value"] > (value if high is None else high)
    if grown and (last is kept or last["loss"] <= last["chance"]):
        return None
    if len(before) < 2 or len(since) < 2:
        return None
    if fmean(before) - fmean(since) <= _ERRORS * math.sqrt(squared_error(before) + squared_error(since)):
        return None
    rise = f"validation loss {last['loss']:.3f} is worse than at step {lowest['step']:,} ({lowest['loss']:.3f})"
    fall = f"while the training loss falls ({fmean(before):.3f} to {fmean(since):.3f}): it learns its data by heart"
    cure = "fewer steps, patience=2, a lower lr, fewer trained blocks, ema or more data help"
    return f"{rise} {fall}; the weights of step {kept['step']:,}, the most accurate so far, are kept; {cure}"


def runaway_scale(first: float, now: float, limit: float) -> str | None:
    """Tell if logit_scale has grown to five times what it was, or from below half of its limit up to it."""
    if now < _GROWTH * first and not (now >= 0.999 * limit and first < limit / 2):
        return None
    cause = "the network grows sure of what it has seen; lower lr, or look for pairs that come twice"
    return f"logit_scale is {now:.1f}, it began with {first:.1f}; {cause}"


def inverted_labels(credit: Accuracy) -> str | None:
    """Tell if the validation data are ordered the wrong way round, more clearly than luck would do once in 1,000 times.

    A sign test over the groups: a group is won if more than half of its credit is got.
    """
    got, of = credit.terms()
    share = got[of > 0] / of[of > 0]
    lost, won = int((share < 0.5).sum()), int((share > 0.5).sum())
    if lost <= won or binomtest(lost, lost + won, alternative="greater").pvalue >= _SURE:
        return None
    cause = "the labels of the training or of the validation data are probably the wrong way round"
    return f"validation accuracy is {100 * credit.value:.1f} %, which is surely below 50 %; {cause}"


def overflowing(skipped: Sequence[bool]) -> str | None:
    """Tell if fp16 has overflowed in so many of the last steps, one after the other, that nothing is learned."""
    if len(skipped) < _MOST_SKIPPED or not all(skipped[-_MOST_SKIPPED:]):
        return None
    found = f"fp16 has overflowed in {_MOST_SKIPPED} steps in a row, nothing was learned in them"
    return f"{found}; use --set precision=bf16"


class Watch:
    """Follows a run by the lines of its log and says each thing once."""

    def __init__(self, recipe: Recipe, logit_scale: float) -> None:
        self._recipe, self._first_scale, self._window = recipe, logit_scale, window(recipe.steps)
        self._steps, self._validations, self._told = list[Line](), list[Line](), set[str]()

    def replay(self, lines: Sequence[Line]) -> None:
        """Take over the log of earlier parts of the run."""
        self._steps += lines_of(lines, "step")
        self._validations += lines_of(lines, "validation")
        self._told |= {line["name"] for line in lines_of(lines, "warning")}

    def step(self, line: Line) -> Iterator[tuple[str, str]]:
        """Give name and text of each warning after a step."""
        self._steps.append(line)
        last = self._steps[-self._window :]
        if line["step"] >= self._recipe.warmup + self._window:
            losses, guessing = ([one[name] for one in last] for name in ("loss", "chance"))
            yield from self._once("above", worse_than_guessing(losses, guessing))
            if "above" not in self._told:  # else large steps have brought it there, and a higher lr would not help
                yield from self._once("stuck", stuck(losses, guessing))
        scale = runaway_scale(self._first_scale, line["logit_scale"], self._recipe.max_logit_scale)
        yield from self._once("logit_scale", scale)
        yield from self._once("overflow", overflowing([one["skipped"] for one in last]))

    def validation(self, line: Line, credit: Accuracy) -> Iterator[tuple[str, str]]:
        """Give name and text of each warning after a validation with this credit of every group."""
        self._validations.append(line)
        yield from self._once("inverted", inverted_labels(credit))
        yield from self._once("overfitted", overfitting(self._steps, self._validations, self._window))

    def _once(self, name: str, text: str | None) -> Iterator[tuple[str, str]]:
        if text is not None and name not in self._told:
            self._told.add(name)
            yield name, text
