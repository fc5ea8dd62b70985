"""Evidence against annotators: known answers by hand and by SciPy, and people simulated by the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.vigilance import (
    PAUSE,
    gold_score,
    honest_taus,
    inversions,
    tau_with_reference,
    taus_with_peers,
    vigilance,
)

NAN = math.nan


def test_gold_is_scored_on_what_experts_agree_on() -> None:
    experts = [[1, 2, 3, 4]] * 9 + [[2, 1, 4, 3]]
    for own, agreed in (([1, 2, 3, 4], 6), ([4, 3, 2, 1], 0), ([1, 1, 2, 2], 5), ([2, 1, 3, 4], 5)):
        score = gold_score(own, experts)
        assert score is not None
        assert (score.agreed, score.pairs, score.value) == (agreed, 6, agreed / 6)
    strict = gold_score([2, 1, 3, 4], experts, share=0.95)
    assert strict is not None
    assert (strict.agreed, strict.pairs) == (4, 4)
    partial = gold_score([None, 1, 2, None], experts)
    assert partial is not None
    assert (partial.agreed, partial.pairs) == (1, 1)


def test_gold_without_a_pair_to_compare_is_none() -> None:
    assert gold_score([1, 2], []) is None
    assert gold_score([1, 2], [[1, 1]] * 5) is None
    assert gold_score([1, 2], [[1, 2], [2, 1]]) is None
    assert gold_score([1, None], [[1, 2]]) is None
    assert gold_score([1, 2], [[None, 2]]) is None
    with pytest.raises(InputError, check=at("experts: ranking 1")):
        gold_score([1, 2], [[1, 2], [1, 2, 3]])
    with pytest.raises(InputError, check=at("share")):
        gold_score([1, 2], [[1, 2]], share=0.5)


def test_taus_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    votes = [rng.integers(1, 6, size=(judges, 6)).astype(float) for judges in (1, 2, 5, 5, 9)]
    found = taus_with_peers(votes, [range(len(rows)) for rows in votes])
    assert np.isnan(found.tau[0])
    expected = [
        scipy.stats.kendalltau(rows[place], np.delete(rows, place, 0).sum(axis=0)).statistic
        for rows in votes[1:]
        for place in range(len(rows))
    ]
    np.testing.assert_allclose(found.tau[1:], expected, atol=1e-12)
    assert found.group.tolist() == [0, *[1] * 2, *[2] * 5, *[3] * 5, *[4] * 9]
    assert found.peers.tolist() == [0, *[1] * 2, *[4] * 10, *[8] * 9]
    assert found.images.tolist() == [0, *[6] * 21]
    assert found.person[:3] == (0, 0, 1)


def test_partial_rankings_are_compared_where_both_ranked() -> None:
    rows = np.array([[1, 2, 3, NAN], [NAN, 1, 2, 3], [2, 1, NAN, NAN]])
    found = taus_with_peers([rows], [["a", "b", "c"]])
    assert found.tau.tolist() == pytest.approx([0, 1, -1])
    assert found.images.tolist() == [3, 2, 2]
    assert found.peers.tolist() == [2, 1, 1]
    assert tau_with_reference([1, 2, 3], [[1, 2, NAN], [2, 3, 9]]) == pytest.approx(1)
    assert math.isnan(tau_with_reference([1, 2], []))
    assert math.isnan(tau_with_reference([1, 1], [[1, 2]]))
    with pytest.raises(InputError, check=at("references: ranking 1")):
        tau_with_reference([1, 2], [[1, 2], [1, 2, 3]])


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_people_nor_that_of_images_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random((5, 6)) < 0.2, NAN, rng.integers(1, 7, (5, 6)))
    people, images = rng.permutation(5), rng.permutation(6)
    before = taus_with_peers([rows], [range(5)])
    after = taus_with_peers([rows[people][:, images]], [people.tolist()])
    np.testing.assert_allclose(after.tau, before.tau[people], atol=1e-12)
    np.testing.assert_array_equal(after.peers, before.peers[people])


def test_the_null_is_exact() -> None:
    np.testing.assert_allclose(inversions(4) * 24, [1, 3, 5, 6, 5, 3, 1])
    places = np.arange(67)
    taus = 1 - 2 * places / 66
    variance = inversions(12) @ taus**2
    assert variance == pytest.approx(2 * (2 * 12 + 5) / (9 * 12 * 11))  # Kendall 1938


def test_the_model_is_the_real_sample() -> None:
    """Of the ten rankings of 37 groups of HPD v2: mean 0.668, standard deviation 0.197, 1.4 % below 0.1."""
    taus = honest_taus(9, 9, bad_peers=0)
    assert taus.mean() == pytest.approx(0.668, abs=0.01)
    assert taus.std() == pytest.approx(0.197, abs=0.01)


@pytest.mark.parametrize(("images", "peers", "median", "late"), [(9, 9, 5, 8), (4, 9, 10, 21), (9, 2, 8, 14)])
def test_random_people_are_paused_soon_and_reversed_ones_sooner(
    images: int, peers: int, median: int, late: int
) -> None:
    rng = np.random.default_rng(0)
    taus = 1 - 2 * rng.choice(len(inversions(images)), p=inversions(images), size=(200, 60)) / (
        len(inversions(images)) - 1
    )
    sizes, others = np.full(60, images), np.full(60, peers)
    found = [vigilance(row, sizes, others) for row in taus]
    assert all(one.state == "pause" for one in found)
    places = [one.at + 1 for one in found if one.at is not None]
    assert np.median(places) <= median
    assert np.quantile(places, 0.95) <= late
    honest = honest_taus(images, peers, draws=12_000, bad_peers=0, seed=1)
    upside = [vigilance(row, sizes, others).at for row in -honest[:6000].reshape(-1, 60)]
    assert all(place is not None and place + 1 <= median for place in upside)


@pytest.mark.parametrize(("images", "peers"), [(2, 9), (4, 9), (9, 9), (12, 3), (9, 1)])
def test_honest_people_go_on(images: int, peers: int) -> None:
    taus = honest_taus(images, peers, draws=60_000, bad_peers=0, seed=2)[: 50_000 if peers > 1 else 25_000]
    sizes, others = np.full(500, images), np.full(500, peers)
    found = [vigilance(row, sizes, others).state for row in taus[: len(taus) // 500 * 500].reshape(-1, 500)]
    assert found.count("pause") <= 1
    assert found.count("unchecked") == 0


def test_credit_does_not_hide_who_turns_bad() -> None:
    rng = np.random.default_rng(3)
    good = honest_taus(9, 9, bad_peers=0, seed=3)[:300]
    bad = 1 - 2 * rng.choice(37, p=inversions(9), size=20) / 36
    found = vigilance([*good, *bad], [9] * 320, [9] * 320)
    assert found.state == "pause"
    assert found.at is not None
    assert 300 < found.at <= 312
    assert found.path[found.at] >= PAUSE > found.path[found.at - 1]


def test_states() -> None:
    assert vigilance([], [], []).state == "unchecked"
    assert vigilance([0.9, NAN], [9, 0], [9, 0]).state == "unchecked"
    assert vigilance([0.7] * 20, [9] * 20, [9] * 20).state == "clear"
    once = vigilance([0.7] * 20 + [-1], [9] * 21, [9] * 21)
    assert (once.state, once.at) == ("clear", None)
    assert once.evidence <= 4
    watched = vigilance([0.7] * 20 + [-1] * 2, [9] * 22, [9] * 22)
    assert watched.state == "watch"
    assert vigilance([-1] * 3, [9] * 3, [9] * 3).at == 2


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (([1.2], [9], [9]), "taus: task 0"),
        (([0.2, 0.2], [9, 1], [9, 9]), "images: task 1"),
        (([0.2], [21], [9]), "images: task 0"),
        (([0.2], [9], [0]), "peers: task 0"),
        (([0.2], [9, 9], [1]), "taus, images, peers"),
    ],
)
def test_what_cannot_be_weighed_is_refused(arguments: tuple[list[float], ...], place: str) -> None:
    with pytest.raises(InputError, check=at(place)):
        vigilance(*arguments)
