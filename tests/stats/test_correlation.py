"""Rank correlations against scipy, group by group and of two scorers."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hpskit.stats.correlation import kendall_tau_b, scorer_agreement, spearman

NAN = math.nan

Group = list[tuple[float, float]]
image = st.tuples(st.integers(-3, 3).map(float), st.integers(1, 4).map(float) | st.just(math.nan))
data = st.lists(st.lists(image, min_size=2, max_size=7), min_size=1, max_size=8)


def columns(groups: list[Group]) -> tuple[list[list[float]], list[list[float]]]:
    return [[s for s, _ in group] for group in groups], [[r for _, r in group] for group in groups]


@pytest.mark.parametrize(
    ("ours", "theirs"), [(kendall_tau_b, scipy.stats.kendalltau), (spearman, scipy.stats.spearmanr)]
)
@given(groups=data)
def test_each_group_is_what_scipy_says(ours, theirs, groups: list[Group]) -> None:  # type: ignore[no-untyped-def]
    scores, ranks = columns(groups)
    found = ours(scores, ranks)
    assert found.shape == (len(groups),)
    for value, group in zip(found, groups, strict=True):
        ranked = np.array([pair for pair in group if not math.isnan(pair[1])]).reshape(-1, 2)
        if len({*ranked[:, 0]}) < 2 or len({*ranked[:, 1]}) < 2:
            assert math.isnan(value)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of p-values of small samples
            expected = theirs(ranked[:, 0], -ranked[:, 1]).statistic
        assert value == pytest.approx(expected, abs=1e-12)
        assert -1 - 1e-12 <= value <= 1 + 1e-12


def test_tau_counts_the_pairs_that_were_compared() -> None:
    """Two people compare 0 with 1 and 1 with 2; nobody compares 0 with 2, which the scores get wrong."""
    votes = np.array([[1, 2, NAN], [NAN, 1, 2]])
    assert kendall_tau_b([[2, 1, 3]], [votes]).tolist() == [0]  # one right, one wrong, the third is not counted
    assert kendall_tau_b([[3, 2, 1]], [votes]).tolist() == [1]
    assert np.isnan(spearman([[3, 2, 1]], [votes])).all()  # there is no one order of the three


def test_the_figures_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(5, 40)) + np.arange(5)[:, None] * 0.2
    other = one + rng.normal(size=(5, 40))
    found = scorer_agreement(one, other)
    assert found.of_means == pytest.approx(scipy.stats.spearmanr(one.mean(axis=1), other.mean(axis=1)).statistic)
    pairs = itertools.combinations(range(5), 2)
    expected = [scipy.stats.spearmanr(one[b] - one[a], other[b] - other[a]).statistic for a, b in pairs]
    assert found.of_differences == pytest.approx(np.mean(expected))
    assert (found.low, found.high) == pytest.approx((min(expected), max(expected)))


def test_means_over_other_prompts_are_not_compared() -> None:
    """The fourth model has the easy prompts only, and is best by its mean of these."""
    easy = np.repeat([0.0, 10], 20)
    noise = np.random.default_rng(0).normal(size=(4, 40))
    one, other = easy + noise, easy + noise[::-1]
    one[3, :20] = np.nan
    found = scorer_agreement(one, other)
    whole = scorer_agreement(one[:3], other[:3])
    assert found.of_means == whole.of_means
    assert (found.pairs, whole.pairs) == (6, 3)
    one[2, 5] = np.nan
    assert math.isnan(scorer_agreement(one, other).of_means)


def test_what_has_no_order_takes_no_part() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(3, 10))
    one[1] = one[0]
    assert scorer_agreement(one, one).pairs == 2
    one[2, 1:] = np.nan
    found = scorer_agreement(one, one)
    assert found.pairs == 0
    assert np.isnan([found.of_means, found.of_differences, found.low, found.high]).all()
