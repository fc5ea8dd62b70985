"""Rank correlations against scipy, group by group."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hpskit.stats import kendall_tau_b, spearman

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


@pytest.mark.parametrize("measure", [kendall_tau_b, spearman])
def test_the_best_image_has_the_highest_score_and_the_lowest_rank(measure) -> None:  # type: ignore[no-untyped-def]
    assert measure([[3, 2, 1], [1, 2, 3]], [[1, 2, 3], [1, 2, 3]]).tolist() == pytest.approx([1, -1])
    assert np.isnan(measure([[1, 1], [1, 2], [1, 2]], [[1, 2], [1, 1], [1, math.nan]])).all()
