"""Is the second model better: against enumeration, scipy and theory, and how often the answers are right."""

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
from hpskit.stats.comparison import PairedDifference, holm, paired_difference, paired_differences
from hpskit.stats.intervals import bootstrap_mean

lattice = st.lists(st.integers(-3, 3), min_size=2, max_size=9)
p_values = st.lists(st.floats(0, 0.1) | st.floats(0, 1), max_size=12)


def compared(differences: object, **settings: float) -> PairedDifference:
    second = np.asarray(differences, dtype=np.float64)
    return paired_difference(np.zeros(len(second)), second, **{"resamples": 200, **settings})  # type: ignore[arg-type]


def far_sums(differences: np.ndarray) -> float:
    """The definition: of all sign patterns, the share with a sum at least as far from 0."""
    patterns = np.array(list(itertools.product([-1, 1], repeat=len(differences))))
    return float((np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean())


def test_few_prompts_by_hand() -> None:
    found = paired_difference([1, 1, 1], [2, 3, 4])
    assert (found.value, found.prompts, found.wins, found.ties, found.losses) == (2, 3, 3, 0, 0)
    assert (found.win_rate, found.sign_p, found.permutation_p) == (1, 0.25, 0.25)
    assert found.deviation == 1
    assert found.detectable == pytest.approx((1.959964 + 0.841621) / math.sqrt(3), abs=1e-6)
    assert (found.low, found.high) == (1, 3)  # 1/27 of the resamples are three times the least
    assert compared([1, 2, 3] + [0] * 1000).permutation_p == 0.25  # the others do not count for the flips


def test_equal_and_constant_differences() -> None:
    scores = np.random.default_rng(0).normal(20, 1, 50)
    copy = paired_difference(scores, scores)
    assert (copy.value, copy.low, copy.high, copy.deviation, copy.detectable) == (0, 0, 0, 0, 0)
    assert (copy.win_rate, copy.win_low, copy.win_high) == (0.5, 0.5, 0.5)
    assert (copy.ties, copy.sign_p, copy.permutation_p) == (50, 1, 1)
    constant = compared(np.full(60, 0.1))
    assert (constant.value, constant.low, constant.high) == pytest.approx((0.1, 0.1, 0.1))
    assert constant.permutation_p == pytest.approx(1 / 201)  # none of the 200 random flips went as far
    assert constant.sign_p == pytest.approx(2 * 0.5**60)


@given(differences=lattice)
def test_all_sign_patterns_of_few_prompts(differences: list[int]) -> None:
    found = compared(differences)
    assert found.permutation_p == pytest.approx(far_sums(np.array(differences)))


@given(wins=st.integers(0, 30), losses=st.integers(0, 30), ties=st.integers(0, 10))
@settings(max_examples=40)
def test_the_sign_test_sums_the_binomial(wins: int, losses: int, ties: int) -> None:
    if wins + losses + ties < 2:
        return
    decided = wins + losses
    tail = sum(math.comb(decided, k) for k in range(min(wins, losses) + 1)) / 2**decided
    found = compared([1] * wins + [-1] * losses + [0] * ties, resamples=1)
    assert found.sign_p == pytest.approx(min(1, 2 * tail))
    assert found.win_rate == (wins + ties / 2) / (decided + ties)
    assert 0 <= found.win_low <= found.win_rate <= found.win_high <= 1
    if not ties:
        wilson = scipy.stats.binomtest(wins, decided).proportion_ci(method="wilson")
        assert (found.win_low, found.win_high) == pytest.approx((wilson.low, wilson.high))


@given(seed=st.integers(0, 1000))
@settings(max_examples=4)
def test_many_prompts_agree_with_the_t_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(20, 3, 400)
    second = first + rng.normal(0.1, 1, 400)
    found = paired_difference(first, second, resamples=10_000)
    expected = scipy.stats.ttest_rel(second, first)
    assert found.permutation_p == pytest.approx(expected.pvalue, abs=0.02)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.02)
    plain = bootstrap_mean(second - first)
    assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high), abs=0.01)


@given(differences=lattice, seed=st.integers(0, 5))
def test_exchanging_the_models_turns_the_result_round(differences: list[int], seed: int) -> None:
    one, other = compared(differences, seed=seed), compared(-np.array(differences), seed=seed)
    assert (one.value, one.wins, one.win_rate) == pytest.approx((-other.value, other.losses, 1 - other.win_rate))
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.win_low, one.win_high) == pytest.approx((1 - other.win_high, 1 - other.win_low))
    assert (one.sign_p, one.permutation_p) == pytest.approx((other.sign_p, other.permutation_p))
    assert (one.deviation, one.detectable) == pytest.approx((other.deviation, other.detectable))


def figures(found: PairedDifference) -> list[float]:
    return [getattr(found, name) for name in PairedDifference.__slots__]


def test_all_pairs_at_once_are_the_pairs_one_by_one() -> None:
    scores = np.random.default_rng(0).normal(20, 1, (5, 70))
    found = paired_differences(scores, resamples=300, seed=4)
    expected = [
        paired_difference(scores[one], scores[other], resamples=300, seed=4)
        for one, other in itertools.combinations(range(5), 2)
    ]
    assert [figures(pair) for pair in found] == [pytest.approx(figures(pair)) for pair in expected]


def test_models_without_gaps_are_compared_alike_beside_one_with_gaps() -> None:
    scores = np.random.default_rng(0).normal(20, 1, (7, 70))
    scores[3, 5] = np.nan
    scores[6] = scores[0]
    pairs = list(itertools.combinations(range(7), 2))
    for (one, other), found in zip(pairs, paired_differences(scores, resamples=300, seed=4), strict=True):
        if 3 in (one, other):
            assert found.prompts == 69
        else:
            expected = paired_difference(scores[one], scores[other], resamples=300, seed=4)
            assert figures(found) == pytest.approx(figures(expected), abs=1e-12)


def test_each_pair_uses_the_prompts_that_both_have() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(20, 1, (3, 400))
    scores[0, :100] = scores[2, 300:] = np.nan
    found = paired_differences(scores)
    assert [pair.prompts for pair in found] == [300, 200, 300]
    for pair, (one, other) in zip(found, itertools.combinations(scores, 2), strict=True):
        both = ~np.isnan(one + other)
        alone = paired_difference(one, other)
        assert figures(alone) == pytest.approx(figures(paired_difference(one[both], other[both])))
        assert figures(pair) == pytest.approx(figures(alone), abs=0.03)


def test_a_prompt_that_stands_several_times_is_one() -> None:
    """Means weigh it as often as it stands; all else knows four prompts, by the sums of their differences."""
    text = [7, 7, 7, 3, 3, 9, 5, 5]
    differences = np.array([1, 2, 3, -1, -2, 5, 2, -2.0])
    found = paired_difference(np.zeros(8), differences, clusters=text)
    assert found.value == 1
    assert (found.prompts, found.wins, found.ties, found.losses) == (4, 2, 1, 1)
    assert found.permutation_p == far_sums(np.array([6, -3, 5, 0]))
    assert found.sign_p == 1
    influences = np.array([6 - 3, -3 - 2, 5 - 1, 0 - 2]) / 8
    assert found.deviation / 2 == pytest.approx(math.sqrt((influences**2).sum() * 4 / 3))
    assert figures(compared(np.repeat([1.0, 3, -2, 4], 2))) != pytest.approx(figures(compared([1.0, 3, -2, 4])))
    pairs = paired_difference(np.zeros(8), np.repeat([1.0, 3, -2, 4], 2), clusters=np.arange(8) // 2, resamples=200)
    assert figures(pairs) == pytest.approx(figures(compared([1.0, 3, -2, 4])))


def test_only_the_pairs_that_are_asked_for() -> None:
    """The last two models share no prompt, so there is nothing to be said of all pairs."""
    scores = np.random.default_rng(0).normal(size=(3, 20))
    scores[1, :10] = scores[2, 10:] = np.nan
    found = paired_differences(scores, pairs=[(0, 1), (2, 0)], resamples=100)
    assert [pair.value for pair in found] == pytest.approx(
        [np.mean(scores[1, 10:] - scores[0, 10:]), np.mean(scores[0, :10] - scores[2, :10])]
    )
    assert paired_differences(scores, pairs=[]) == []
    with pytest.raises(InputError, check=at("scores", found="models 1 and 2 have fewer than 2")):
        paired_differences(scores)
    with pytest.raises(InputError, check=at("scores", expected="2 different ones")):
        paired_difference([1, 2], [2, 1], clusters=[0, 0])


@given(p=p_values, level=st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_step_by_step(p: list[float], level: float) -> None:
    adjusted = holm(p)
    rejected: set[int] = set()
    for step, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[index] * (len(p) - step) > level:
            break
        rejected.add(index)
    assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert ((adjusted >= p) & (adjusted <= 1)).all()
    assert adjusted.shape == (len(p),)


@pytest.mark.slow
def test_equal_models_are_rarely_called_different_and_intervals_hold_the_truth() -> None:
    """Skewed differences of mean 0, and normal ones at every size: the percentiles are expanded for few prompts."""
    rng = np.random.default_rng(0)
    found = [compared(rng.choice([-1, 1], 40) * rng.gamma(1, 1, 40), resamples=400, seed=t) for t in range(600)]
    for name in ("permutation_p", "sign_p"):  # the sign test is discrete: its size is 0.038 here
        assert 0.015 <= np.mean([getattr(pair, name) <= 0.05 for pair in found]) <= 0.08
    assert 0.91 <= np.mean([pair.low <= 0 <= pair.high for pair in found]) <= 0.975
    assert 0.92 <= np.mean([pair.win_low <= 0.5 <= pair.win_high for pair in found]) <= 0.985
    for prompts in (10, 25, 100):
        found = [compared(rng.normal(0, 1, prompts), resamples=1000, seed=trial) for trial in range(2000)]
        assert 0.93 <= np.mean([pair.low <= 0 <= pair.high for pair in found]) <= 0.965, prompts
        assert np.mean([pair.permutation_p <= 0.05 for pair in found]) <= 0.065, prompts
