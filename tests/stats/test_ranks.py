"""Rank intervals: what always holds, what far apart and equal models get, and how often they are right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpskit.stats.comparison import RankIntervals, paired_difference, rank_intervals

tables = st.tuples(st.integers(2, 5), st.integers(2, 12)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-4, 4).map(lambda step: step / 10))
)


def ranks(scores: object, **given: object) -> RankIntervals:
    return rank_intervals(scores, **{"resamples": 400, **given})  # type: ignore[arg-type]


@given(scores=tables)
def test_a_range_holds_the_rank_and_fits_the_decisions(scores: np.ndarray) -> None:
    found = ranks(scores)
    models, means = len(scores), scores.mean(axis=1)
    assert ((found.low >= 1) & (found.low <= found.rank) & (found.rank <= found.high) & (found.high <= models)).all()
    assert not (found.better & found.better.T).any()
    for one, other in np.argwhere(found.better):
        assert means[one] > means[other]
        assert found.rank[one] < found.rank[other]


@settings(max_examples=20)
@given(scores=tables, shift=st.floats(-50, 50), copied=st.integers(0, 1))
def test_order_shift_and_copies_change_nothing(scores: np.ndarray, shift: float, copied: int) -> None:
    scores = np.concatenate([scores, scores[[copied]]])
    found = ranks(scores)
    for part in (found.low, found.high, found.rank):
        assert part[copied] == part[-1]
    assert not found.better[copied, -1]
    turned = ranks(scores[::-1])
    assert (turned.low[::-1] == found.low).all()
    assert (turned.high[::-1] == found.high).all()
    moved = ranks(scores + np.linspace(0, shift, scores.shape[1]))  # easier prompts for everybody
    assert (moved.better == found.better).all()


def test_models_far_apart_have_one_rank_each_and_equal_ones_all() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(6, 200))
    apart = ranks(noise + np.array([5, 1, 3, 0, 4, 2])[:, None])
    assert apart.rank.tolist() == apart.low.tolist() == apart.high.tolist() == [1, 5, 3, 6, 2, 4]
    equal = ranks(np.tile(noise[0], (4, 1)))
    assert (equal.rank.tolist(), equal.low.tolist(), equal.high.tolist()) == ([1] * 4, [1] * 4, [4] * 4)
    groups = ranks(noise + np.array([2, 2, 2, 0, 0, 0])[:, None])
    assert (groups.low.tolist(), groups.high.tolist()) == ([1] * 3 + [4] * 3, [3] * 3 + [6] * 3)


@given(gap=st.floats(-0.5, 0.5))
@settings(max_examples=10)
def test_two_models_are_decided_as_their_difference_is(gap: float) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 200))
    scores = noise - noise.mean(axis=1, keepdims=True)
    scores[1] += gap
    pair = paired_difference(*scores, resamples=4000)
    found = ranks(scores, resamples=4000)
    if abs(abs(gap) / (pair.deviation / math.sqrt(200)) - 1.96) > 0.15:
        assert found.better.any() == (pair.low > 0 or pair.high < 0)


def test_decisions_make_room_for_others() -> None:
    """z = 2.75 is undecided among six models close together, decided if four of them are far behind all."""
    noise = np.random.default_rng(3).normal(size=(6, 400))
    scores = noise - noise.mean(axis=1, keepdims=True)
    scores[1] += 2.75 * (scores[0] - scores[1]).std() / 20
    assert not ranks(scores, resamples=4000).better[1, 0]
    scores[2:] -= [[3], [6], [9], [12]]
    assert ranks(scores, resamples=4000).better[1, 0]


def test_a_fixed_mixture_of_categories_is_surer() -> None:
    """One model is better by 2 on photographs and worse by 1.8 on paintings: which are drawn matters."""
    rng = np.random.default_rng(0)
    style = np.repeat(["photo", "paintings"], 100)
    scores = np.stack([np.zeros(200), np.where(style == "photo", 2, -1.8)]) + rng.normal(0, 0.2, (2, 200))
    assert not ranks(scores).better.any()
    assert ranks(scores, categories=style).better[1, 0]


def suites(models: int, prompts: int, size: int, most: float, *, trials: int = 600, least: float = 0.0) -> Any:
    """Equal models, categories of `size` prompts, and the share of suites in which any two may be told apart."""
    marks = [pytest.mark.slow] if trials > 60 else []
    return pytest.param(models, prompts, size, trials, least, most, marks=marks)


@pytest.mark.parametrize(
    ("models", "prompts", "size", "trials", "least", "most"),
    [
        *(suites(*case, 0.12, trials=60) for case in ((10, 4, 1), (10, 20, 2))),
        *(suites(5, prompts, 1, 0.085) for prompts in (2, 3, 5)),
        *(suites(10, prompts, 1, 0.085) for prompts in (6, 8, 12)),
        *(suites(20, prompts, 1, 0.085) for prompts in (28, 40)),
        *(suites(*case, 0.085) for case in ((10, 20, 2), (5, 40, 2), (10, 24, 3))),
        *(suites(*case, 1, 0.085, trials=1000, least=0.02) for case in ((2, 10), (10, 20), (10, 50), (10, 400))),
    ],
)
def test_equal_models_are_told_apart_in_five_of_a_hundred_suites(
    models: int, prompts: int, size: int, trials: int, least: float, most: float
) -> None:
    """A bootstrap alone would part few prompts in most suites; ten categories of two have ten degrees of freedom."""
    rng = np.random.default_rng(0)
    style = np.arange(prompts) // size if size > 1 else None
    tables = rng.normal(size=(trials, models, prompts))
    resamples = 200 if trials <= 60 else 1000
    parted = [ranks(t, categories=style, resamples=resamples, seed=n).better.any() for n, t in enumerate(tables)]
    assert least <= np.mean(parted) <= most


@pytest.mark.parametrize("trials", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_all_ranges_hold_the_true_ranks_at_once(trials: int) -> None:
    """Suites of 60 prompts; the true order has two equal models in the middle and close neighbours."""
    rng = np.random.default_rng(0)
    true = np.array([0.6, 0.3, 0.3, 0.15, 0.0])
    best, worst = np.array([1, 2, 2, 4, 5]), np.array([1, 3, 3, 4, 5])
    right, decided = 0, 0
    for trial in range(trials):
        ease = rng.normal(0, 2, 60)
        found = ranks(true[:, None] + ease + rng.normal(size=(5, 60)), seed=trial)
        right += int(((found.low <= best) & (found.high >= worst)).all())
        decided += int(found.better.sum())
    assert right / trials >= 0.91
    assert decided / trials > 1
