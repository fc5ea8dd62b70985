"""Whether two scorers order models alike."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from hpskit.errors import InputError
from hpskit.stats import scorer_agreement


def test_a_scorer_agrees_with_itself_on_any_scale_and_not_with_its_opposite() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 30))
    same, opposite = scorer_agreement(scores, 3 * scores - 7), scorer_agreement(scores, -scores)
    assert (same.of_means, same.of_differences, same.low, same.high) == pytest.approx((1, 1, 1, 1))
    assert (opposite.of_means, opposite.of_differences, opposite.low, opposite.high) == pytest.approx((-1, -1, -1, -1))
    assert same.pairs == 6


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


def test_scores_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match=r"shapes are \(2, 2\) and \(2, 3\)"):
        scorer_agreement([[1, 2], [3, 4]], [[1, 2, 3], [3, 4, 5]])
