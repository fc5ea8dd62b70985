"""Split halves and the gain by more annotators: against all splits, and against data made by the model."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from hpskit.stats.reliability import accuracy_by_annotators, split_half

NAN = math.nan


def judge(rng: np.random.Generator, groups: int, annotators: int, noise: float, images: int = 6) -> list[np.ndarray]:
    """Rankings by people who see the quality of an image with normal noise of the given variance."""
    quality = rng.normal(size=(groups, 1, images))
    seen = quality + np.sqrt(noise) * rng.normal(size=(groups, annotators, images))
    return [scipy.stats.rankdata(-rows, axis=1) for rows in seen]


def test_many_random_splits_come_to_the_mean_of_all_splits() -> None:
    """One group, four annotators, one rank missing: there are three ways to halve them."""
    votes = np.array([[1, 2, 3, 4, 5], [2, 1, 3, 5, 4], [1, 3, 2, NAN, 4], [5, 4, 1, 2, 3]])
    correlations = []
    for pair in itertools.combinations(range(4), 2):
        halves = [np.nanmean(votes[list(members)], axis=0) for members in (pair, {0, 1, 2, 3} - {*pair})]
        correlations.append(np.corrcoef(halves)[0, 1])
    result = split_half([votes], splits=4000)
    assert result.correlation == pytest.approx(np.mean(correlations), abs=0.02)
    assert result.low == pytest.approx(2 * min(correlations) / (1 + min(correlations)))


@pytest.mark.parametrize("judges", [10, 11])
def test_reliability_is_what_theory_says(judges: int) -> None:
    """Noise of variance 1 on qualities of variance 1, and nothing lost by ranking: 10 / (10 + 1)."""
    rng = np.random.default_rng(0)
    votes = rng.normal(size=(300, 1, 6)) + rng.normal(size=(300, judges, 6))
    result = split_half([*votes], splits=50)
    assert result.reliability == pytest.approx(10 / 11, abs=0.01)
    assert result.low < result.reliability < result.high
    assert split_half(judge(rng, 300, judges, 1.0), splits=50).reliability < result.reliability


def growth_by_loops(votes: list[np.ndarray], held_out: int, k: int) -> float:
    """Over all choices of the held-out ones and of k of the rest."""
    values = []
    for rows in votes:
        everyone = set(range(len(rows)))
        credits_there = []
        for yardstick in itertools.combinations(everyone, held_out):
            target = rows[list(yardstick)].sum(axis=0)
            for chosen in itertools.combinations(everyone - {*yardstick}, k):
                mean = rows[list(chosen)].sum(axis=0)
                for i, j in itertools.combinations(range(rows.shape[1]), 2):
                    apart = np.sign(mean[i] - mean[j]) - np.sign(target[i] - target[j])
                    credits_there.append(1 - abs(apart) / 2)
        values.append(np.mean(credits_there))
    return float(np.mean(values))


def test_growth_is_what_all_choices_give() -> None:
    votes = judge(np.random.default_rng(0), 12, 5, 1.5, images=4)
    curve = accuracy_by_annotators(votes, draws=2000)
    assert curve.held_out == 2
    assert len(curve.points) == 3
    for k, point in enumerate(curve.points, start=1):
        assert point.value == pytest.approx(growth_by_loops(votes, 2, k), abs=0.01)
    assert curve.points[0].pairs == 12 * 6


def test_the_model_finds_the_noise_and_predicts_more_annotators() -> None:
    """Fitted to ten annotators; what it says of 20 against the truth is then measured."""
    rng = np.random.default_rng(0)
    quality = rng.normal(size=(1500, 1, 2))
    seen = quality + np.sqrt(1.5) * rng.normal(size=(1500, 20, 2))  # pairs, without the loss by ranking
    curve = accuracy_by_annotators([*seen[:, :10]], draws=20)
    assert curve.noise == pytest.approx(1.5, rel=0.15)
    assert curve.worst_residual < 0.01
    truth = np.sign(quality[:, 0, 0] - quality[:, 0, 1])
    for k in (1, 10, 20):
        mean = seen[:, :k].mean(axis=1)
        measured = (np.sign(mean[:, 0] - mean[:, 1]) == truth).mean()
        assert curve.extrapolated(k) == pytest.approx(measured, abs=0.025)
