"""How many prompts: against textbook numbers, exact power, and plain simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.model_scores import (
    PromptCountPoint,
    detectable_difference,
    prompts_needed,
    style_result,
    wrong_order_curve,
)


def models(prompts: int = 400) -> np.ndarray:
    """Four models on easy and hard prompts, 0.1 and more apart in their means."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, prompts))
    noise -= noise.mean(axis=1, keepdims=True)
    return np.asarray(np.array([0, 0.1, 0.3, 1])[:, None] + rng.normal(20, 3, prompts) + noise)


def point(scores: object, count: int, **given: object) -> PromptCountPoint:
    return wrong_order_curve(scores, [count], **given)[0]  # type: ignore[arg-type]


def test_textbook_numbers() -> None:
    """Half a standard deviation takes 31.4 pairs, a fifth 196.2 (Cohen 1988)."""
    assert prompts_needed(1, 0.5) == 32
    assert prompts_needed(1, 0.2) == 197
    assert prompts_needed(1.4, 0.1, power=0.9) == 2060
    assert detectable_difference(1, 800) == pytest.approx(0.09905, abs=1e-5)


def test_a_test_must_be_able_to_reach_the_level() -> None:
    """Six prompts that all agree have p = 2 / 2^6 = 0.031; five have 0.0625."""
    assert prompts_needed(0, 0.1) == prompts_needed(1, 100) == 6
    assert prompts_needed(0, 0.1, level=0.9) == 5
    assert prompts_needed(0, 0.1, level=0.9375) == 5
    assert prompts_needed(0, 0.1, level=0.999) == 11


@given(deviation=st.floats(0.01, 100), resolution=st.floats(0.01, 10), power=st.floats(0.5, 0.99))
def test_what_is_needed_is_just_enough(deviation: float, resolution: float, power: float) -> None:
    needed = prompts_needed(deviation, resolution, power=power)
    assert detectable_difference(deviation, needed, power=power) <= resolution * (1 + 1e-9)
    assert needed >= 6
    if needed > 6:
        assert detectable_difference(deviation, needed - 1, power=power) > resolution * (1 - 1e-9)


def test_the_chances_are_those_of_a_plain_simulation() -> None:
    scores = models()
    assert wrong_order_curve(scores, [20, 50]) == [point(scores, 20), point(scores, 50)]
    assert point(scores, 20) != point(scores, 20, seed=1)
    rng = np.random.default_rng(1)
    orders = np.array([np.argsort(scores[:, rng.integers(400, size=50)].mean(axis=1)) for _ in range(4000)])
    places = np.argsort(orders, axis=1)
    i, j = np.triu_indices(4, k=1)
    wrong = places[:, i] > places[:, j]
    found = point(scores, 50, resamples=4000)
    assert found.wrong_order == pytest.approx(wrong.mean(), abs=0.01)
    assert found.worst_pair == pytest.approx(wrong.mean(axis=0).max(), abs=0.03)
    assert found.any_wrong == pytest.approx(wrong.any(axis=1).mean(), abs=0.03)
    assert found.disagreement == pytest.approx((wrong[:2000] != wrong[2000:]).mean(), abs=0.02)


def test_prompts_are_drawn_within_categories() -> None:
    """All of the difference is between categories: with their shares fixed, no order is ever wrong."""
    style = np.repeat(["photo", "paintings"], [300, 100])
    scores = np.stack([np.zeros(400), np.where(style == "photo", 1, -2.8)])
    plain, drawn = point(scores, 20), point(scores, 20, categories=style)
    assert plain.wrong_order > 0.3
    assert plain.difference_error == pytest.approx(3.8 * math.sqrt(3 / 16 / 20), rel=0.01)
    assert (drawn.wrong_order, drawn.disagreement) == (0, 0)
    assert drawn.difference_error == pytest.approx(0)
    assert drawn.prompts == 20


def test_shares_of_the_mean_stay_whatever_the_number() -> None:
    """11 draws cannot be in proportion 1:9: weighted 1:10, the better model would always look worse."""
    style = np.repeat(["rare", "usual"], [10, 90])
    scores = np.stack([np.zeros(100), np.where(style == "rare", -9.5, 1)])
    found = wrong_order_curve(scores, [1, 10, 11, 999], categories=style, resamples=50)
    assert [(one.prompts, one.wrong_order) for one in found] == [(1, 0), (10, 0), (11, 0), (999, 0)]


def test_style_result_by_hand() -> None:
    result = style_result([1, 3, 5, 7], group_size=2)  # group means 2 and 6
    assert (result.mean, result.deviation) == (4, 2)
    uneven = style_result([0, 0, 9], group_size=2)  # group means 0 and 9: the mean is over groups
    assert (uneven.mean, uneven.deviation) == (4.5, 4.5)
    with pytest.raises(InputError, check=at("scores", expected="at least one score")):
        style_result([])
