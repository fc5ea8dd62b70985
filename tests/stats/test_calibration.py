"""Calibration against scikit-learn on single votes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.calibration import calibration, pair_votes

pair = st.tuples(st.floats(0.01, 0.99), st.integers(0, 5), st.integers(0, 5)).filter(lambda p: p[1] + p[2] > 0)
pairs = st.lists(pair, min_size=1, max_size=30)


def single_votes(data: list[tuple[float, int, int]]) -> tuple[list[float], list[int]]:
    """One probability and one outcome for each vote."""
    probabilities = [p for p, won, lost in data for _ in range(won + lost)]
    outcomes = [outcome for _, won, lost in data for outcome in [1] * won + [0] * lost]
    return probabilities, outcomes


def columns(data: list[tuple[float, int, int]]) -> tuple[list[float], list[float], list[int]]:
    return [p for p, _, _ in data], [won / (won + lost) for _, won, lost in data], [won + lost for _, won, lost in data]


@given(pairs)
def test_losses_are_those_of_single_votes(data: list[tuple[float, int, int]]) -> None:
    result = calibration(*columns(data))
    probabilities, outcomes = single_votes(data)
    assert result.brier == pytest.approx(brier_score_loss(outcomes, probabilities, labels=[0, 1]))
    assert result.log_loss == pytest.approx(log_loss(outcomes, probabilities, labels=[0, 1]))
    assert result.brier_floor <= result.brier + 1e-12
    assert result.log_loss_floor <= result.log_loss + 1e-12


def test_bins_are_those_of_scikit_learn_both_ways_round() -> None:
    rng = np.random.default_rng(0)
    data = [(float(p), int(won), int(3 - won)) for p, won in zip(rng.random(500), rng.integers(0, 4, 500), strict=True)]
    result = calibration(*columns(data))
    probabilities, outcomes = single_votes([*data, *((1 - p, lost, won) for p, won, lost in data)])
    shares, means = calibration_curve(outcomes, probabilities, n_bins=10)
    assert [point.mean_share for point in result.bins] == pytest.approx(shares.tolist())
    assert [point.mean_probability for point in result.bins] == pytest.approx(means.tolist())
    assert [point.low for point in result.bins] == pytest.approx(np.arange(10) / 10)
    assert sum(point.count for point in result.bins) == 1000
    assert sum(point.weight for point in result.bins) == pytest.approx(1500)
    weights = np.array([point.weight for point in result.bins]) / 1500
    assert result.ece == pytest.approx(float(weights @ np.abs(shares - means)))


def test_certainty_that_is_wrong_costs_everything() -> None:
    result = calibration([1.0, 0.5], [0.5, 0.5])
    assert result.log_loss == math.inf
    assert result.brier == pytest.approx((0.5 + 0.25) / 2)
    assert calibration([1.0], [1.0]).log_loss == 0


def test_votes_of_pairs_by_hand() -> None:
    votes = [
        np.array([[1, 2, 3], [2, 1, math.nan], [1, 1, 2]]),
        np.empty((0, 2)),
        np.array([[2, 1]]),
    ]
    found = pair_votes(votes)
    by_pair = zip(found.group, found.first, found.second, found.share, found.votes, found.gap, strict=True)
    expected = [(0, 0, 1, 0.5, 3, 0), (0, 0, 2, 1, 2, 1.5), (0, 1, 2, 1, 2, 1), (2, 0, 1, 0, 1, 1)]
    for got, wanted in zip(by_pair, expected, strict=True):
        assert got == pytest.approx(wanted)
    scores = [np.array([3.0, 1, 1]), np.array([5.0, 6]), np.array([0.0, 4])]
    assert found.differences(scores).tolist() == [2, 2, 0, -4]
    for nothing in ([[[1, math.nan]]], [np.empty((0, 2))]):
        with pytest.raises(InputError, check=at("votes", found="no pair")):
            pair_votes(nothing)
