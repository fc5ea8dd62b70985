"""What a run says of itself when something is wrong, and that it is silent when nothing is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hpskit.stats.accuracy import Accuracy
from hpskit.training.recipes import tiny
from hpskit.training.watch import (
    Watch,
    inverted_labels,
    runaway_scale,
    stuck,
    window,
    worse_than_guessing,
)

LN2 = math.log(2)


def accuracy(right: int, wrong: int, tied: int = 0) -> Accuracy:
    correct = np.array([1.0] * right + [0.0] * wrong + [0.5] * tied)
    return Accuracy(correct=correct, weight=np.ones_like(correct), averaging="prompts")


def line(step: int, loss: float = 0.4, scale: float = 15.0, skipped: bool = False) -> dict[str, Any]:
    return {
        "kind": "step",
        "step": step,
        "loss": loss,
        "chance": LN2,
        "logit_scale": scale,
        "skipped": skipped,
    }


def test_a_loss_at_ln_2_is_stuck_and_one_clearly_below_is_not() -> None:
    assert "0.693" in str(stuck([LN2] * 20, [LN2] * 20))
    assert stuck([0.68] * 20, [LN2] * 20) is None
    assert stuck([math.log(4)] * 9, [math.log(4)] * 9)  # best of four images
    assert stuck([0.56, 0.78], [LN2, LN2]) is None, "the mean of the steps counts"
    assert stuck([0.60, 0.80], [LN2, LN2])


def test_a_loss_that_is_worse_than_guessing_is_not_stuck() -> None:
    """Twenty steps with a mean of 0.779 and a standard error of 0.029: a higher learning rate would make it worse."""
    losses = [0.65, 0.908] * 10
    assert "0.779, worse than guessing (0.693)" in str(worse_than_guessing(losses, [LN2] * 20))
    assert stuck(losses, [LN2] * 20) is None
    noisy = [0.3, 1.15] * 10
    assert worse_than_guessing(noisy, [LN2] * 20) is None
    assert stuck(noisy, [LN2] * 20), "0.725, with a standard error of 0.1"
    assert worse_than_guessing([0.699] * 20, [LN2] * 20) is None, "less than 1 %"
    assert worse_than_guessing([2.5] + [LN2] * 19, [LN2] * 20), "one large step, and nothing is learned behind it"


def validation(step: int, loss: float, accuracy: float = 0.6) -> dict[str, Any]:
    return {
        "kind": "validation",
        "step": step,
        "loss": loss,
        "chance": LN2,
        "accuracy": {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05},
    }


def followed(
    losses: list[float], validated: list[dict[str, Any]], resumed_after: int = 0
) -> tuple[list[tuple[int, str]], str]:
    """Steps and names of what is said, and the last text; every 20 steps there is a validation."""
    found, last, seen = list[tuple[int, str]](), "", list[dict[str, Any]]()
    watch = Watch(tiny(), 15.0)
    for number, loss in enumerate(losses, 1):
        due = [at for at in validated if at["step"] == number]
        lines = [line(number, loss=loss), *due]
        seen += lines
        if number == resumed_after:
            watch = Watch(tiny(), 15.0)
            watch.replay(seen)
            continue
        told = [*watch.step(lines[0]), *(told for at in due for told in watch.validation(at, accuracy(60, 40)))]
        found += [(number, name) for name, _ in told]
        last = told[-1][1] if told else last
    return found, last


@pytest.mark.parametrize("resumed_after", [0, 20, 45, 59])
def test_data_that_are_learned_by_heart(resumed_after: int) -> None:
    losses = [0.68, 0.64] * 10 + [0.60, 0.56] * 10 + [0.52, 0.48] * 20
    rising = [validation(20, 0.675, 0.61), validation(40, 0.73), validation(60, 0.785), validation(80, 0.9)]
    found, text = followed(losses, rising, resumed_after)
    assert found == [(60, "overfitted")]
    assert "validation loss 0.785 is worse than at step 20 (0.675) while the training loss falls (0.660 to 0.5" in text
    assert "the weights of step 20, the most accurate so far, are kept" in text


@pytest.mark.parametrize(
    ("training", "validated"),
    [
        ([0.5] * 80, [0.675, 0.785, 0.785, 0.785]),  # training does not get better either
        ([0.4, 0.8] * 10 + [0.37, 0.77] * 30, [0.675, 0.785, 0.785, 0.785]),  # within its noise
        ([0.68] * 20 + [0.5] * 60, [0.675, 0.70, 0.70, 0.69]),  # within 5 % of chance
        ([0.68] * 20 + [0.5] * 60, [0.675, 0.785, 0.67, 0.785]),  # not twice in a row
        ([0.68] * 20 + [0.5] * 60, [0.675, 0.60, 0.55, 0.5]),
    ],
)
def test_a_run_that_only_wavers_is_not_accused(training: list[float], validated: list[float]) -> None:
    lines = [validation(20 * number, loss) for number, loss in enumerate(validated, 1)]
    assert followed(training, lines)[0] == []


@pytest.mark.parametrize(
    ("first", "now", "limit", "warned"),
    [
        (14.3, 20, 100, False),
        (14.3, 72, 100, True),
        (100, 100, 100, False),
        (60, 100, 100, False),
        (30, 100, 100, True),
    ],
)
def test_logit_scale_that_runs_away(first: float, now: float, limit: float, warned: bool) -> None:
    text = runaway_scale(first, now, limit)
    assert (text is not None) == warned
    assert text is None or f"{first:.1f}" in text


def test_labels_the_wrong_way_round_are_told_from_bad_luck() -> None:
    assert "30.0 %" in str(inverted_labels(accuracy(30, 70)))
    assert inverted_labels(accuracy(45, 55)) is None
    assert inverted_labels(accuracy(70, 30)) is None
    assert inverted_labels(accuracy(0, 9)) is None  # 1 in 512
    assert inverted_labels(accuracy(0, 10, tied=40))  # 1 in 1,024
    assert inverted_labels(accuracy(0, 0, tied=10)) is None


def test_each_thing_is_said_once_and_not_before_the_warm_up_is_over() -> None:
    recipe = tiny().with_settings(["steps=400", "warmup=30"])
    watch = Watch(recipe, 15.0)
    told = [(step, name) for step in range(1, 200) for name, _ in watch.step(line(step, loss=LN2))]
    assert told == [(30 + window(recipe.steps), "stuck")]
    inverted = accuracy(10, 90)
    assert [[name for name, _ in watch.validation(validation(step, 0.9), inverted)] for step in (200, 300)] == [
        ["inverted"],
        [],
    ]


def test_one_good_step_ends_a_row_of_overflows() -> None:
    watch = Watch(tiny(), 15.0)
    skips = [step % 20 != 0 for step in range(1, 100)]
    assert not [told for step, skip in enumerate(skips, 1) for told in watch.step(line(step, skipped=skip))]
    assert [name for step in range(100, 125) for name, _ in watch.step(line(step, skipped=True))] == ["overflow"]
