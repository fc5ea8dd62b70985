"""Chance-corrected agreement of rankings: classical coefficients where those exist, and what its intervals cover."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.agreement import rank_agreement

NAN = math.nan


def concordance(ranks: np.ndarray) -> float:
    """Kendall's W with the correction for ties, from the textbook: Kendall & Gibbons 1990, chapter 6."""
    m, n = ranks.shape
    ranks = scipy.stats.rankdata(ranks, axis=1)
    deviations = ranks.sum(axis=0) - m * (n + 1) / 2
    ties = sum(
        (np.unique(row, return_counts=True)[1] ** 3 - np.unique(row, return_counts=True)[1]).sum() for row in ranks
    )
    return float(12 * (deviations**2).sum() / (m**2 * (n**3 - n) - m * ties))


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(3, 9), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_classical_cases(seed: int, people: int, images: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    ranks = rng.integers(1, 5, (people, images)) if tied else rng.random((people, images)).argsort(axis=1)
    ranks = ranks[[len(set(row)) > 1 for row in ranks.tolist()]].astype(float)
    if len(ranks) > 1:
        m = len(ranks)
        rho = rank_agreement([ranks], measure="rho").value
        assert rho == pytest.approx((m * concordance(ranks) - 1) / (m - 1), abs=1e-12)
        pairs = itertools.combinations(ranks, 2)
        taus = [scipy.stats.kendalltau(one, other).statistic for one, other in pairs]
        assert rank_agreement([ranks]).value == pytest.approx(np.mean(taus), abs=1e-12)


def test_u_of_kendall_and_babington_smith() -> None:
    """Three judges, four images: u = 8 S / (m (m - 1) n (n - 1)) - 1, S the pairs of judges that agree on a pair."""
    ranks = np.array([[1, 2, 3, 4], [2, 1, 3, 4], [1, 2, 4, 3.0]])
    agreeing = 3 * 4 + 1 + 1  # four pairs of images by all, two by two of three
    found = rank_agreement([ranks])
    assert found.value == pytest.approx(8 * agreeing / (3 * 2 * 4 * 3) - 1, abs=1e-12)
    assert found.pairs == 3
    assert math.isnan(found.low)


def test_people_who_are_missing_and_images_that_were_not_ranked() -> None:
    votes = [np.array([[1, 2, 3, NAN], [NAN, 1, 2, 3], [3, 2, NAN, 1.0]]), np.array([[1.0, 2]]), np.empty((0, 3))]
    found = rank_agreement(votes, [["a", "b", "c"], ["a"], []])
    assert found.value == pytest.approx((1 - 1 - 1) / 3, abs=1e-12)
    assert found.pairs == 3
    with pytest.raises(InputError, check=at("votes", found="no two judgements")):
        rank_agreement(votes[1:])


def test_random_rankings_agree_by_nothing() -> None:
    votes = np.random.default_rng(0).random((2000, 4, 6))
    for measure in ("tau", "rho"):
        found = rank_agreement(votes, measure=measure)  # type: ignore[arg-type]
        assert found.value == pytest.approx(0, abs=0.01)
        assert found.low < 0 < found.high


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_names_and_the_order_of_people_and_images_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes = np.where(rng.random((6, 4, 5)) < 0.1, NAN, rng.integers(1, 6, (6, 4, 5)))
    votes[:, :2] = rng.permuted(np.tile(np.arange(1.0, 6), (6, 2, 1)), axis=2)
    names = rng.random((6, 7)).argsort(axis=1)[:, :4]
    people, images, renamed = rng.permutation(4), rng.permutation(5), rng.permutation(7)
    before = rank_agreement(votes, names.tolist(), resamples=50)
    after = rank_agreement(votes[:, people][:, :, images], renamed[names[:, people]].tolist(), resamples=50)
    assert (after.value, after.low, after.high) == pytest.approx((before.value, before.low, before.high))


def project(
    seed: int, groups: int, people: int, overlap: int, images: int, spread: float
) -> tuple[np.ndarray, list[list[int]]]:
    """Rankings by people of different noise, on prompts of different difficulty."""
    rng = np.random.default_rng(seed)
    noise = 0.3 * np.exp(spread * rng.normal(size=people))
    hard = np.exp(0.8 * rng.normal(size=(groups, 1, 1)))
    names = rng.random((groups, people)).argsort(axis=1)[:, :overlap]
    seen = rng.normal(size=(groups, 1, images))
    seen = seen + np.sqrt(noise[names][:, :, None] * hard) * rng.normal(size=(groups, overlap, images))
    return seen.argsort(axis=2).argsort(axis=2) + 1.0, names.tolist()


def truth(spread: float) -> float:
    """Expected tau of two people: 2 / pi arcsin of the correlation of what they see (Greiner)."""
    rng = np.random.default_rng(0)
    noise = 0.3 * np.exp(spread * rng.normal(size=(2, 400_000)) + 0.8 * rng.normal(size=400_000))
    return float((2 / np.pi * np.arcsin(1 / np.sqrt((1 + noise[0]) * (1 + noise[1])))).mean())


def coverage(runs: int, resamples: int, shape: tuple[int, int, int, int], spread: float) -> float:
    expected = truth(spread)
    held = 0
    for seed in range(runs):
        votes, names = project(seed, *shape, spread)
        found = rank_agreement(votes, names, resamples=resamples)
        held += found.low <= expected <= found.high
    return held / runs


def test_intervals_hold_the_truth_in_a_few_simulations() -> None:
    assert 0.88 <= coverage(100, 200, (60, 20, 5, 9), 0.5) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "spread"), [((60, 20, 5, 9), 0.5), ((40, 30, 3, 4), 0.5), ((100, 12, 5, 4), 0.3), ((30, 60, 3, 4), 0.5)]
)
def test_intervals_hold_the_truth(shape: tuple[int, int, int, int], spread: float) -> None:
    held = coverage(1000, 500, shape, spread)
    assert 0.92 <= held <= 0.97  # 0.93 to 0.97, less the error of 1,000 simulations
