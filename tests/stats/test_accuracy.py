"""Known answers from the official code, answers by loops over pairs, and what must hold for any input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy, pair_accuracy, pair_outcomes, pickapic_cross_fitted, pickapic_threshold
from hpskit.stats.rules import ACCURACY_RULES, pickapic_rule

NAN = math.nan
NOTHING = at("accuracy", found="nothing to compare")
PAIR_RULES = ["hpdv2", "imagereward", "ties-half", "pickapic"]

Judged = tuple[list[float], np.ndarray]


@st.composite
def judged(draw: st.DrawFn, missing: bool = True) -> Judged:
    """Scores and up to four judgements of two to five images, with ties on both sides and, if wanted, missing ranks."""
    size = draw(st.integers(2, 5))
    rank = st.integers(1, 4).map(float)
    row = st.lists(rank | st.just(NAN) if missing else rank, min_size=size, max_size=size)
    scores = draw(st.lists(st.integers(-3, 3).map(float), min_size=size, max_size=size))
    return scores, np.array(draw(st.lists(row, min_size=1, max_size=4)))


DECIDED: Judged = ([2.0, 1.0], np.array([[1.0, 2.0]]))
"""Something to compare under every rule."""


def credit(rule: str, first: float, second: float, one: float, other: float) -> float | None:
    """What a pair is worth, straight from the definitions; None if it is not compared."""
    if math.isnan(one) or math.isnan(other):
        return None
    if rule == "hpdv2":
        wins = first >= second  # a stable sort keeps the first in front
        return float(one == other or wins == (one < other))
    if rule == "imagereward":
        return None if one == other else float((first - second) * (other - one) > 0)
    if (first == second) != (one == other):
        return 0.5
    return float((first == second and one == other) or (first > second) == (one < other))


def test_top_1_by_hand() -> None:
    def value(scores: list[float], ranks: list[float]) -> float:
        return pair_accuracy([scores], [ranks], "top-1").value

    assert value([3, 2, 1], [1, 3, 2]) == 1
    assert value([3, 2, 1], [2, 1, 3]) == 0
    assert value([3, 2, 1], [1, 1, 3]) == 1  # people like two of them best
    assert value([3, 3, 1], [1, 2, 3]) == 0.5  # one of the two that the scorer likes best
    assert value([9, 2, 1], [NAN, 1, 2]) == 1  # the image without a rank does not take part
    for ranks in ([1, 1], [1, NAN], [NAN, NAN]):
        with pytest.raises(InputError, check=NOTHING):
            value([1, 2], ranks)


def measured(data: list[Judged], rule: str) -> Accuracy:
    return pair_accuracy([scores for scores, _ in data], [votes for _, votes in data], rule)


@settings(max_examples=60)
@given(
    rule=st.sampled_from([*ACCURACY_RULES]),
    data=st.lists(judged(missing=False), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_full_rankings_are_their_mean_ranks_and_order_and_scale_do_not_matter(
    rule: str, data: list[Judged], order: Any
) -> None:
    data = [*data, DECIDED]
    found, means = measured(data, rule), measured([(s, votes.mean(axis=0)) for s, votes in data], rule)
    assert found.correct.tolist() == means.correct.tolist()
    assert found.weight.tolist() == means.weight.tolist()
    if rule == "hpdv2":  # equal scores are told apart by where the images stand, so there must be none
        data = [([score + 0.01 * i for i, score in enumerate(scores)], votes) for scores, votes in data]
    value = measured(data, rule).value
    assert 0 <= value <= 1
    places = [order.sample(range(len(scores)), len(scores)) for scores, _ in data]
    images = [([s[i] for i in p], votes[:, p]) for (s, votes), p in zip(data, places, strict=True)]
    assert measured(images, rule).value == pytest.approx(value)
    assert measured(order.sample(data, len(data)), rule).value == pytest.approx(value)
    scaled = [([2 * score + 3 for score in scores], 10 * votes) for scores, votes in data]
    assert measured(scaled, rule).value == pytest.approx(value)


@settings(max_examples=60)
@given(rule=st.sampled_from(PAIR_RULES), data=st.lists(judged(), min_size=1, max_size=6))
def test_a_pair_goes_by_those_who_ranked_both(rule: str, data: list[Judged]) -> None:
    data = [*data, DECIDED]
    expected = []
    for g, (scores, votes) in enumerate(data):
        for i, j in itertools.combinations(range(len(scores)), 2):
            ahead = votes[:, j] - votes[:, i]
            if not np.isnan(ahead).all():
                expected.append((g, i, j, credit(rule, scores[i], scores[j], 0, np.nansum(ahead))))
    found = pair_outcomes([s for s, _ in data], [votes for _, votes in data], rule)
    assert [*zip(found.group, found.first, found.second, strict=True)] == [place[:3] for place in expected]
    assert found.counted.tolist() == [value is not None for *_, value in expected]
    assert found.credit[found.counted].tolist() == [value for *_, value in expected if value is not None]
    whole, direct = found.accuracy(), measured(data, rule)
    assert whole.weight.tolist() == direct.weight.tolist() == np.bincount(found.group[found.counted]).tolist()
    assert whole.correct.tolist() == pytest.approx(direct.correct.tolist())


def test_the_best_of_partial_rankings_has_met_all_others() -> None:
    def result(scores: list[float], *votes: list[float]) -> float | None:
        try:
            return pair_accuracy([scores], [np.array(votes)], "top-1").value
        except InputError:
            return None

    star = ([1, 2, NAN], [1, NAN, 2])  # 0 beats 1 and 2, which nobody compared
    assert result([3, 2, 1], *star) == 1
    assert result([1, 2, 3], *star) == 0
    assert result([3, 2, 1], [1, 2, NAN], [NAN, 1, 2]) is None  # 0 beats 1, 1 beats 2; who knows of 0 and 2?
    assert result([3, 2, 1], [1, 2, NAN], [NAN, 1, 2], [2, NAN, 1]) is None  # each is beaten once
    assert result([3, 2, 1], [1, 2, NAN], [1, 1, NAN]) == 1  # 2 was compared with nothing: it does not take part
    for scores, value in (([2, 3, 9], 1), ([2, 9, 3], 0)):  # 0 beats 1, and 2 is tied with both
        assert result(scores, [1, 2, NAN], [1, 1, 1]) == value


# Thresholds of Pick-a-Pic


def test_a_threshold_is_on_the_difference_of_probabilities() -> None:
    log_odds = math.log(0.6 / 0.4)  # probabilities 0.6 and 0.4
    for threshold, value in [(0.19, 1), (0.21, 0.5)]:
        assert pair_accuracy([[log_odds, 0]], [[1, 2]], pickapic_rule(threshold)).value == value
    assert pair_accuracy([[log_odds, 0]], [[1, 1]], pickapic_rule(0.21)).value == 1
    assert pair_accuracy([[900, -900]], [[1, 1]], pickapic_rule(1)).value == 1  # everything is a tie
    scores = [[2, 0], [0.1, 0], [0, 0.3], [3, 0]]  # differences of probability 0.76, 0.05, 0.15 and 0.91
    ranks = [[1, 2], [1, 1], [1, 1], [1, 2]]
    assert pickapic_threshold(scores, ranks) == 0.2
    assert pair_accuracy(scores, ranks, pickapic_rule(0.2)).value == 1


def tied_pairs(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """People tie just the pairs that differ by less than 1 in log-odds, 0.46 in probability."""
    difference = rng.normal(scale=2, size=number)
    sides = np.where(np.abs(difference) < 1, 0, np.sign(difference))
    return np.stack([difference, np.zeros(number)], axis=1), np.stack([-sides, np.zeros(number)], axis=1)


def test_cross_fitting_finds_the_threshold_that_there_is() -> None:
    scores, ranks = tied_pairs(np.random.default_rng(0), 400)
    fitted, thresholds = pickapic_cross_fitted(scores, ranks)
    assert set(thresholds) == {0.5}
    assert fitted.value == pair_accuracy(scores, ranks, pickapic_rule(0.5)).value > 0.98
    assert pair_accuracy(scores, ranks, "pickapic").value < 0.85
    assert pickapic_cross_fitted(scores, ranks, folds=2)[1] == (0.5, 0.5)


def test_groups_of_one_prompt_stay_together() -> None:
    scores, ranks = tied_pairs(np.random.default_rng(0), 30)
    prompts = np.repeat(np.arange(10), 3)
    fitted, thresholds = pickapic_cross_fitted(scores, ranks, clusters=prompts, folds=10)
    for group, prompt in enumerate(prompts):
        rest = prompts != prompt
        rule = pickapic_rule(pickapic_threshold(scores[rest], ranks[rest]))
        assert fitted.correct[group] == pair_accuracy(scores[[group]], ranks[[group]], rule).value
    assert len(thresholds) == 10
    assert len(pickapic_cross_fitted(scores[:4], ranks[:4])[1]) == 4
