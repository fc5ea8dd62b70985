"""Strengths of models: against known fits, the likelihood equations and a plain optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.strengths import bradley_terry, bradley_terry_interval, win_counts, win_matrix

counts = st.integers(2, 6).flatmap(lambda models: arrays(np.int64, (models, models), elements=st.integers(0, 40)))


def chances(strengths: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(strengths[None] - strengths[:, None]))


def test_wins_by_hand() -> None:
    """Model 1 has no third score."""
    scores = [[3, 2, 1, 5], [1, 2, math.nan, 6], [0, 1, 2, 5]]
    assert win_counts(scores).tolist() == [[0, 1.5, 2.5], [1.5, 0, 3], [1.5, 0, 0]]
    expected = [[np.nan, 1 / 2, 5 / 8], [1 / 2, np.nan, 1], [3 / 8, 0, np.nan]]
    np.testing.assert_allclose(win_matrix(scores), expected)
    assert np.isnan(win_matrix([[1, math.nan], [math.nan, 1]])).all()


@given(scores=arrays(np.float64, (4, 6), elements=st.sampled_from([1.0, 2.0, 3.0, math.nan])))
def test_the_shares_of_a_pair_add_up(scores: np.ndarray) -> None:
    shares, wins = win_matrix(scores), win_counts(scores)
    present = ~np.isnan(scores)
    assert (wins + wins.T == np.where(np.eye(4), 0, present.astype(int) @ present.T)).all()
    both = ~np.isnan(shares)
    np.testing.assert_allclose((shares + shares.T)[both], 1)


def test_the_american_league_of_1987() -> None:
    """Agresti, Categorical Data Analysis, section 10.6: strengths relative to Baltimore, the last."""
    wins = [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ]
    strengths = bradley_terry(wins, prior=0)
    expected = [1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0]
    assert (strengths - strengths[-1]).tolist() == pytest.approx(expected, abs=6e-4)
    assert strengths.mean() == pytest.approx(0, abs=1e-12)


@given(wins=counts, prior=st.sampled_from([0.1, 0.5, 3]))
def test_expected_wins_are_the_wins_found(wins: np.ndarray, prior: float) -> None:
    """The likelihood equations, with the diagonal not used, and half a win for pairs that met."""
    np.fill_diagonal(wins, 7)
    met = (wins + wins.T > 0) & ~np.eye(len(wins), dtype=bool)
    if not (np.linalg.matrix_power(met.astype(float) + np.eye(len(wins)), len(wins)) > 0).all():
        with pytest.raises(InputError, check=at("wins", found="no finite difference")):
            bradley_terry(wins, prior=prior)
        return
    strengths = bradley_terry(wins, prior=prior)
    played = (wins + prior) * met
    np.testing.assert_allclose(((played + played.T) * chances(strengths)).sum(axis=1), played.sum(axis=1), rtol=1e-7)
    np.testing.assert_allclose(bradley_terry(wins.T, prior=prior), -strengths, atol=1e-8)
    np.testing.assert_allclose(bradley_terry(wins[::-1, ::-1], prior=prior), strengths[::-1], atol=1e-8)


def test_counts_on_which_plain_newton_steps_run_away_are_solved() -> None:
    wins = np.array(
        [
            [0, 6338, 0, 0, 4],
            [85, 0, 0, 0, 0],
            [42205, 0, 0, 0, 0],
            [0, 151, 2572, 0, 0],
            [0, 34309, 0, 14, 0],
        ]
    )
    strengths = bradley_terry(wins, prior=0)
    np.testing.assert_allclose(((wins + wins.T) * chances(strengths)).sum(axis=1), wins.sum(axis=1), rtol=1e-7)


def test_intervals_are_those_of_the_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (4, 60)) + np.arange(4)[:, None] * 0.5
    scores[1, :20] = np.nan
    strengths, low, high = bradley_terry_interval(scores, resamples=400)
    drawn = (rng.integers(60, size=60) for _ in range(400))
    plain = np.array([bradley_terry(win_counts(scores[:, prompts])) for prompts in drawn])
    np.testing.assert_allclose(strengths, bradley_terry(win_counts(scores)))
    np.testing.assert_allclose([low, high], np.quantile(plain, [0.025, 0.975], axis=0), atol=0.08)


@pytest.mark.parametrize("trials", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_true_strengths_are_found_and_lie_in_their_intervals(trials: int) -> None:
    """Gumbel noise on each score makes exactly Bradley-Terry matches."""
    rng = np.random.default_rng(0)
    true = np.array([0.8, 0.3, 0.3, -0.4, -1.0])
    inside = np.zeros(5)
    for trial in range(trials):
        scores = true[:, None] + rng.gumbel(size=(5, 300))
        strengths, low, high = bradley_terry_interval(scores, resamples=100, seed=trial)
        assert (low < strengths).all()
        assert (strengths < high).all()
        inside += (low <= true) & (true <= high)
    assert 0.88 <= inside.mean() / trials <= 0.99
    np.testing.assert_allclose(strengths, true, atol=0.25)
    np.testing.assert_array_equal([strengths, low, high], bradley_terry_interval(scores, resamples=100, seed=trial))
