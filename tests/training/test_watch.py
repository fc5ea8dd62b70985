"""What a run says of itself when something is wrong, and that it is silent when nothing is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.stats import Accuracy
from hpskit.training.recipes import tiny
from hpskit.training.watch import Watch, exploding_scale, inverted_labels, overflowing, stuck_at_chance, window

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
    assert "0.693" in str(stuck_at_chance([LN2] * 20, [LN2] * 20))
    assert stuck_at_chance([0.75] * 20, [LN2] * 20)
    assert stuck_at_chance([0.68] * 20, [LN2] * 20) is None
    assert stuck_at_chance([math.log(4)] * 9, [math.log(4)] * 9)  # best of four images


def test_stuck_looks_at_the_mean_of_the_steps() -> None:
    assert stuck_at_chance([0.56, 0.78], [LN2, LN2]) is None
    assert stuck_at_chance([0.60, 0.80], [LN2, LN2])


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
    text = exploding_scale(first, now, limit)
    assert (text is not None) == warned
    assert text is None or f"{first:.1f}" in text


def test_labels_the_wrong_way_round_are_told_from_bad_luck() -> None:
    assert "30.0 %" in str(inverted_labels(accuracy(30, 70)))
    assert inverted_labels(accuracy(45, 55)) is None
    assert inverted_labels(accuracy(70, 30)) is None
    assert inverted_labels(accuracy(0, 9)) is None  # 1 in 512
    assert inverted_labels(accuracy(0, 10, tied=40))  # 1 in 1,024
    assert inverted_labels(accuracy(0, 0, tied=10)) is None


@given(st.integers(0, 1200), st.integers(1, 1200))
def test_the_sign_test_is_that_of_scipy(lost: int, won: int) -> None:
    from scipy.stats import binomtest

    chance = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
    if abs(math.log(max(chance, 1e-300) / 0.001)) > 0.1:  # the normal distribution stands in for large numbers
        assert (inverted_labels(accuracy(won, lost)) is not None) == (chance < 0.001)


def test_overflow_is_told_only_if_it_goes_on() -> None:
    assert overflowing(19) is None
    assert "20 steps" in str(overflowing(20))


def test_each_thing_is_said_once_and_not_before_the_warm_up_is_over() -> None:
    recipe = tiny().with_settings(["steps=400", "warmup=30"])
    watch = Watch(recipe, 15.0)
    told = [(step, name) for step in range(1, 200) for name, _ in watch.step(line(step, loss=LN2))]
    assert told == [(30 + window(recipe), "stuck")]
    inverted = accuracy(10, 90)
    assert [[name for name, _ in watch.validation(inverted)] for _ in range(2)] == [["inverted"], []]


def test_a_good_run_is_not_disturbed() -> None:
    watch = Watch(tiny(), 15.0)
    assert not [told for step in range(1, 200) for told in watch.step(line(step))]


def test_one_good_step_ends_a_row_of_overflows() -> None:
    watch = Watch(tiny(), 15.0)
    skips = [step % 20 != 0 for step in range(1, 100)]
    assert not [told for step, skip in enumerate(skips, 1) for told in watch.step(line(step, skipped=skip))]
    assert [name for step in range(100, 125) for name, _ in watch.step(line(step, skipped=True))] == ["overflow"]


def test_a_resumed_run_remembers_what_was_said_and_seen() -> None:
    recipe = tiny().with_settings(["steps=400", "warmup=0"])
    lines = [line(step, loss=LN2) for step in range(1, window(recipe))]
    watch = Watch(recipe, 15.0)
    watch.replay(lines)
    assert [name for name, _ in watch.step(line(len(lines) + 1, loss=LN2))] == ["stuck"]
    again = Watch(recipe, 15.0)
    again.replay([*lines, {"kind": "warning", "step": 3, "name": "stuck", "text": "…"}])
    assert not [*again.step(line(len(lines) + 1, loss=LN2))]
