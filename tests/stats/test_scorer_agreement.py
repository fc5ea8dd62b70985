"""Whether two scorers order models alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from hpskit.errors import InputError
from hpskit.stats import scorer_agreement


def test_a_scorer_agrees_with_itself_on_any_scale_and_not_with_its_opposite() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 30))
    same, opposite = scorer_agreement(scores, np.exp(scores / 10)), scorer_agreement(scores, -scores)
    assert (same.within_prompts.value, same.within_prompts.low) == pytest.approx((1, 1))
    assert (same.means_kendall, same.means_spearman) == pytest.approx((1, 1))
    assert (opposite.means_kendall, opposite.means_spearman) == pytest.approx((-1, -1))
    assert opposite.within_prompts.high == pytest.approx(-1)


def test_the_figures_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(5, 40)) + np.arange(5)[:, None] * 0.2
    other = one + rng.normal(size=(5, 40))
    found = scorer_agreement(one, other)
    means = one.mean(axis=1), other.mean(axis=1)
    assert found.means_kendall == pytest.approx(scipy.stats.kendalltau(*means).statistic)
    assert found.means_spearman == pytest.approx(scipy.stats.spearmanr(*means).statistic)
    taus = [scipy.stats.kendalltau(one[:, prompt], other[:, prompt]).statistic for prompt in range(40)]
    assert found.within_prompts.value == pytest.approx(np.mean(taus))
    half = 1.96 * np.std(taus) / math.sqrt(40)
    assert found.within_prompts.high - found.within_prompts.low == pytest.approx(2 * half, rel=0.1)


def test_missing_prompts_are_left_out_and_equal_means_have_no_order() -> None:
    one = np.array([[1.0, 2, 3, 9], [2, 3, 1, 9]])
    other = np.array([[5.0, 6, 9, math.nan], [6, 7, 1, 2]])
    found = scorer_agreement(one, other)
    assert math.isnan(found.means_kendall)
    assert math.isnan(found.means_spearman)
    assert found.within_prompts.value == 1


def test_scores_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match=r"shapes are \(2, 2\) and \(2, 3\)"):
        scorer_agreement([[1, 2], [3, 4]], [[1, 2, 3], [3, 4, 5]])
    with pytest.raises(InputError, match="0 prompts have something to compare"):
        scorer_agreement([[1, 2], [1, 2]], [[1, 2], [3, 4]])
