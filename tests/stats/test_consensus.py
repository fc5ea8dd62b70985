"""Weighted mean ranks: against a crowd whose bad members are known."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.consensus import full_ranks, reliability_weighted
from stats.crowd import crowd

NAN = math.nan


@pytest.mark.parametrize(("overlap", "least"), [(10, 0.995), (5, 0.985), (3, 0.98)])
def test_bad_people_cost_next_to_nothing(overlap: int, least: float) -> None:
    """Share of the tau that one gets after removing the bad ones by hand, whose mean of few ranks often ties."""
    shares, plain = [], []
    for seed in range(4):
        made = crowd(seed, overlap=overlap)
        found = reliability_weighted([*made.votes], made.names.tolist())
        sound = ~made.bad[made.names]
        honest = [rows[keep] if keep.any() else rows for rows, keep in zip(made.votes, sound, strict=True)]
        kept = [rows.mean(axis=0) for rows in honest]
        shares.append(made.tau(found.scores) / made.tau(kept))
        plain.append(made.tau(made.votes.mean(axis=1)) / made.tau(kept))
        weights = dict(zip(found.people, found.weight, strict=True))
        bad = np.array([weights[name] for name in np.flatnonzero(made.bad)])
        good = np.array([weights[name] for name in np.flatnonzero(~made.bad)])
        wins = (good[:, None] > bad).mean() + (good[:, None] == bad).mean() / 2
        assert wins >= 0.99
    assert np.mean(shares) >= least
    assert np.mean(plain) < least - 0.08


def test_without_bad_people_it_is_as_good_as_the_plain_mean() -> None:
    made = crowd(0, bad=(0, 0, 0))
    found = reliability_weighted([*made.votes], made.names.tolist())
    assert made.tau(found.scores) >= made.tau(made.votes.mean(axis=1)) - 0.01
    assert not found.plain.any()


def test_full_ranks_are_the_mean_over_all_complete_orders() -> None:
    np.testing.assert_allclose(full_ranks(np.array([3.0, 1, 2, 4])), [3, 1, 2, 4])
    np.testing.assert_allclose(full_ranks(np.array([1.0, 1, 3, 2])), [1.5, 1.5, 4, 3])
    np.testing.assert_allclose(full_ranks(np.array([1.0, NAN, 2, NAN])), [5 / 3, NAN, 10 / 3, NAN])
    rows = np.random.default_rng(0).integers(1, 5, (20, 7)).astype(float)
    np.testing.assert_allclose(full_ranks(rows), scipy.stats.rankdata(rows, axis=1))


def test_one_judgement_is_what_comes_out() -> None:
    votes = [np.array([[2.0, 1, 3]]), np.array([[1.0, NAN, 2]]), np.empty((0, 2))]
    found = reliability_weighted(votes, [["a"], ["b"], []])
    np.testing.assert_allclose(found.scores[0], [2, 1, 3])
    np.testing.assert_allclose(found.scores[1], [4 / 3, NAN, 8 / 3])
    assert np.isnan(found.scores[2]).all()
    assert found.people == ("a", "b")
    assert (found.rankings.tolist(), found.compared.tolist()) == ([1, 1], [0, 0])
    assert found.weight[0] == found.weight[1] > 0
    assert not found.plain.any()


def test_who_was_never_compared_is_average() -> None:
    made = crowd(1)
    votes = [*made.votes, np.array([[1.0, 2, 3, 4, 5, 6, 7, 8, 9]])]
    found = reliability_weighted(votes, [*made.names.tolist(), ["alone"]])
    place = found.people.index("alone")
    assert found.compared[place] == 0
    assert np.quantile(found.reliability, 0.2) < found.reliability[place] < np.median(found.reliability)


def test_where_nobody_is_reliable_the_mean_is_plain_and_it_says_so() -> None:
    made = crowd(2, tasks=60, people=12, bad=(0, 0.17, 0))
    upside = np.flatnonzero(made.bad).tolist()
    assert len(upside) == 2
    votes = [*made.votes, np.array([[1.0, 2, 3, 4, 5, 6, 7, 8, 9], [1.0, 3, 2, 4, 5, 6, 7, 8, 9]])]
    found = reliability_weighted(votes, [*made.names.tolist(), upside])
    assert found.plain.tolist() == [False] * 60 + [True]
    np.testing.assert_allclose(found.scores[-1], [1, 2.5, 2.5, 4, 5, 6, 7, 8, 9])
    votes[-1] = np.array([[1.0, 2, 3, 4, 5, 6, 7, 8, 9], [NAN, NAN, NAN, NAN, 5, 4, 3, 2, 1]])
    mixed = reliability_weighted(votes, [*made.names.tolist(), [upside[0], np.flatnonzero(~made.bad)[0]]])
    assert not mixed.plain.any()
    np.testing.assert_allclose(mixed.scores[-1][:4], [1, 2, 3, 4])  # by nobody else
    np.testing.assert_allclose(mixed.scores[-1][4:], np.arange(5, 0, -1) * 10 / 6)
    assert (found.reliability[[found.people.index(name) for name in upside]] < 0).all()


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_names_and_the_order_of_images_and_groups_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = crowd(seed, tasks=20, images=5, overlap=3, people=8, bad=(0.2, 0, 0))
    votes = np.where(rng.random(made.votes.shape) < 0.1, NAN, made.votes)
    images, groups, judges = rng.permutation(5), rng.permutation(20), rng.permutation(3)
    renamed = [f"p{name}" for name in rng.permutation(8)]
    before = reliability_weighted([*votes], made.names.tolist())
    names = [[renamed[name] for name in row] for row in made.names[groups][:, judges].tolist()]
    after = reliability_weighted([*votes[groups][:, judges][:, :, images]], names)
    for place, group in enumerate(groups.tolist()):
        np.testing.assert_allclose(after.scores[place], before.scores[group][images], atol=1e-9)
    weights = dict(zip(after.people, after.weight, strict=True))
    assert [weights[renamed[name]] for name in before.people] == pytest.approx(before.weight.tolist())  # type: ignore[call-overload]


def test_somebody_twice_in_a_group_is_refused() -> None:
    with pytest.raises(InputError, check=at("annotators: group 0")):
        reliability_weighted([np.array([[1, 2], [2, 1]])], [["a", "a"]])


def test_large_projects_take_seconds() -> None:
    made = crowd(3, tasks=3200, overlap=10, people=60)
    start = time.process_time()
    reliability_weighted(made.votes, made.names.tolist())
    assert time.process_time() - start < 8
    alone = crowd(4, tasks=100_000, images=4, overlap=1, people=60)
    start = time.process_time()
    reliability_weighted([*alone.votes], alone.names.tolist())
    assert time.process_time() - start < 10
