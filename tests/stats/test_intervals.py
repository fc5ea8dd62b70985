"""Intervals: against a plain bootstrap, against theory, and how often they hold the truth."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpskit.stats.accuracy import Accuracy
from hpskit.stats.intervals import bootstrap_accuracy, bootstrap_difference, bootstrap_mean, bootstrap_means
from hpskit.stats.rules import Averaging


def accuracy(correct: object, weight: object, averaging: Averaging = "prompts") -> Accuracy:
    return Accuracy(
        correct=np.asarray(correct, dtype=np.float64), weight=np.asarray(weight, dtype=np.float64), averaging=averaging
    )


def prompts(rng: np.random.Generator, number: int, shift: float = 0.0) -> Accuracy:
    """Easy and hard prompts with 10 pairs each, around 0.7 + shift."""
    ease = np.clip(rng.beta(7, 3, number) + shift, 0, 1)
    return accuracy(rng.binomial(10, ease), np.full(number, 10))


def plain(measured: Accuracy, clusters: np.ndarray, resamples: int) -> np.ndarray:
    """The definition: draw prompts, put their groups together, compute the figure again."""
    rng = np.random.default_rng(1)
    members = [np.flatnonzero(clusters == label) for label in np.unique(clusters)]
    drawn = (rng.integers(len(members), size=len(members)) for _ in range(resamples))
    groups = [np.concatenate([members[i] for i in sample]) for sample in drawn]
    return np.array([accuracy(measured.correct[own], measured.weight[own], measured.averaging).value for own in groups])


@pytest.mark.parametrize("averaging", ["prompts", "pairs"])
@pytest.mark.parametrize("kinds", ["few", "many"])
def test_intervals_are_those_of_the_plain_bootstrap(averaging: Averaging, kinds: str) -> None:
    """Few distinct groups are drawn by multinomial numbers, many one by one; groups of a prompt stay together."""
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 3, 60) if kinds == "few" else rng.integers(5, 50, 60)
    correct = rng.binomial(1, 0.7, 60) * weight if kinds == "few" else rng.binomial(weight, 0.7)
    clusters = np.arange(60) if kinds == "few" else np.repeat(np.arange(30), 2)
    measured = accuracy(correct, weight, averaging)
    found = bootstrap_accuracy(measured, clusters=clusters + 100)
    expected = np.quantile(plain(measured, clusters, 4000), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(expected, abs=0.012)
    assert found.value == measured.value
    assert (found.level, found.resamples) == (0.95, 10_000)


def test_a_mean_leaves_out_what_is_undefined() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 200)
    interval = bootstrap_mean(np.append(values, [np.nan] * 5))
    half = 1.96 * values.std() / np.sqrt(200)
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    """Two scorers that are right on nearly the same pairs."""
    rng = np.random.default_rng(0)
    first = prompts(rng, 200)
    second = accuracy(np.maximum(first.correct - rng.binomial(1, 0.3, 200), 0), first.weight)
    one, other = bootstrap_accuracy(first), bootstrap_accuracy(second)
    difference = bootstrap_difference(first, second)
    assert difference.value == pytest.approx(first.value - second.value)
    assert one.low < other.high  # the intervals overlap
    assert 0 < difference.low < difference.value < difference.high
    assert difference.p_value == pytest.approx(2 / 10_001)
    turned = bootstrap_difference(second, first)
    assert (turned.low, turned.high) == pytest.approx((-difference.high, -difference.low), abs=0.002)


@given(seed=st.integers(0, 10_000), level=st.sampled_from([0.5, 0.8, 0.95]))
@settings(max_examples=30)
def test_the_p_value_and_the_interval_say_the_same(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    difference = bootstrap_difference(prompts(rng, 40, 0.05), prompts(rng, 40), level=level, resamples=999)
    if difference.p_value < 1 - level - 0.01:
        assert difference.low > 0 or difference.high < 0
    if difference.p_value > 1 - level + 0.01:
        assert difference.low <= 0 <= difference.high


@pytest.mark.parametrize("trials", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_intervals_hold_the_truth_as_often_as_they_say(trials: int) -> None:
    """Samples of 80 prompts; 0.95 is within three standard errors of what the trials show."""
    rng = np.random.default_rng(0)
    found = [bootstrap_accuracy(prompts(rng, 80), resamples=500, seed=trial) for trial in range(trials)]
    coverage = np.mean([interval.low <= 0.7 <= interval.high for interval in found])
    assert abs(coverage - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / trials)


def test_rows_together_have_the_intervals_of_each() -> None:
    """Whatever they lack or repeat: in one product of matrices or by themselves."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(6, 60))
    rows[1, :5], rows[2] = np.nan, rng.integers(3, size=60)
    rows[3] = 7
    for clusters in (None, np.arange(60) // 2):
        found = bootstrap_means(rows, clusters=clusters, resamples=300, seed=1)
        for row, interval in zip(rows, found, strict=True):
            alone = bootstrap_mean(row, clusters=clusters, resamples=300, seed=1)
            assert astuple(interval) == pytest.approx(astuple(alone), rel=1e-12)
