"""Forecasts against other crowds, and votes handed out by the chance that they turn something against all alike."""

from __future__ import annotations

import math

import numpy as np
import pytest

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.consensus import reliability_weighted
from hpskit.stats.planning import Project, Rankings, fitted_noise, flip_probability, plan, simulate
from stats.crowd import crowd

NAN = math.nan


def accuracy(made: Rankings, votes: list[np.ndarray]) -> float:
    return (1 + made.tau([rows.mean(axis=0) for rows in votes])) / 2


@pytest.mark.parametrize("images", [2, 4, 9])
def test_the_noise_of_a_pilot_is_found(images: int) -> None:
    made = simulate(Project(images=images, tasks=1500, annotators=30, noise=0.4), 4, seed=3)
    assert fitted_noise([*made.votes]) == pytest.approx(0.4, rel=0.07 if images > 2 else 0.15)


@pytest.mark.parametrize(
    ("images", "overlap", "bad"), [(9, 5, 0.0), (9, 10, 0.3), (9, 3, 0.3), (4, 5, 0.0), (4, 5, 0.3), (2, 7, 0.3)]
)
def test_a_forecast_is_what_another_crowd_does(images: int, overlap: int, bad: float) -> None:
    """The replay has crowds of its own making, other seeds, and 600 tasks."""
    project = Project(images=images, tasks=600, annotators=50, noise=0.3, bad=bad)
    (row,) = plan(project, [overlap])
    shares = (bad * 2 / 3, bad * 2 / 15, bad / 5)
    replays = [crowd(seed, tasks=600, images=images, overlap=overlap, bad=shares) for seed in (101, 102, 103)]
    plain = np.mean([made.tau(made.votes.mean(axis=1)) for made in replays])
    weighted = np.mean([made.tau(reliability_weighted(made.votes, made.names.tolist()).scores) for made in replays])
    assert row.tau == pytest.approx(plain, rel=0.05)
    assert row.weighted_tau == pytest.approx(weighted, rel=0.05)
    assert (1 + row.tau) / 2 == pytest.approx((1 + plain) / 2, rel=0.03)


def test_a_forecast_from_a_pilot_holds_for_people_who_are_not_all_alike() -> None:
    """People of unequal noise, prompts of unequal difficulty: the plan knows no more than the pilot's rankings."""
    rng = np.random.default_rng(5)
    noise = 0.3 * np.exp(0.5 * rng.normal(size=40))
    names = rng.random((500, 40)).argsort(axis=1)[:, :5]
    quality = rng.normal(size=(500, 6))
    spread = np.sqrt(noise[names][:, :, None] * np.exp(0.8 * rng.normal(size=(500, 1, 1))))
    votes = (-(quality[:, None] + spread * rng.normal(size=(500, 5, 6)))).argsort(axis=2).argsort(axis=2) + 1.0
    found = fitted_noise([*votes[:60]])
    (row,) = plan(Project(images=6, tasks=500, annotators=40, noise=found), [5])
    made = Rankings(quality=quality, votes=votes, annotators=names, bad=np.arange(0))
    assert row.tau == pytest.approx(made.tau(votes.mean(axis=1)), rel=0.1)
    assert row.weighted_tau == pytest.approx(made.tau(reliability_weighted([*votes], names.tolist()).scores), rel=0.1)


def test_the_plan_is_a_table() -> None:
    rows = plan(Project(images=9, tasks=3200, annotators=60, noise=0.3, bad=0.3, seconds=45), [1, 3, 10], crowds=1)
    assert [row.rankings for row in rows] == [3200, 9600, 32000]
    assert rows[2].hours == pytest.approx(400)
    assert [row.tau for row in rows] == sorted(row.tau for row in rows)
    assert rows[2].weighted_tau > rows[2].tau + 0.05
    assert plan(Project(images=4, tasks=50, annotators=5, noise=0.3), [2]) == plan(
        Project(images=4, tasks=50, annotators=5, noise=0.3), [2]
    )


def test_the_crowd_is_what_was_asked_for() -> None:
    made = simulate(Project(images=5, tasks=80, annotators=20, noise=0.0, bad=0.3), 6, seed=1)
    assert made.votes.shape == (80, 6, 5)
    assert len(made.bad) == 6
    assert all(len(set(row)) == 6 for row in made.annotators.tolist())
    sound = ~np.isin(made.annotators, made.bad)
    exact = (-made.quality).argsort(axis=1).argsort(axis=1) + 1
    assert (made.votes[sound] == np.repeat(exact, 6, axis=0).reshape(80, 6, 5)[sound]).all()
    assert made.tau([-row for row in made.quality]) == 1


def test_the_chance_of_a_turn_by_hand() -> None:
    votes = [
        np.array([[1.0, 2], [1, 2], [2, 1]]),  # 2 to 1: against with (1 + 1/2) / 4, then a tie, then a coin
        np.array([[1.0, 2], [2, 1]]),
        np.array([[1.0, 2]] * 3),
        np.empty((0, 2)),
        np.array([[1.0, 2, NAN]]),
    ]
    found = flip_probability(votes)
    np.testing.assert_allclose(found.largest, [3 / 16, 1 / 2, 0, 1 / 2, 1 / 2])
    np.testing.assert_allclose(found.mean, [3 / 16, 1 / 2, 0, 1 / 2, (1 / 8 + 1 / 2 + 1 / 2) / 3])


@pytest.mark.parametrize(("images", "gain"), [(4, 0.004), (9, 0.0)])
def test_votes_where_they_turn_something_beat_the_same_votes_for_all(images: int, gain: float) -> None:
    even, uneven = [], []
    for seed in range(6):
        made = simulate(Project(images=images, tasks=300, annotators=20, noise=0.3), 12, seed=seed)
        counts = np.full(300, 3)
        while counts.sum() < 5 * 300:
            chance = flip_probability([rows[:count] for rows, count in zip(made.votes, counts, strict=True)]).mean
            counts[np.argsort(-np.where(counts < 12, chance, -1), kind="stable")[:50]] += 1
        uneven.append(accuracy(made, [rows[:count] for rows, count in zip(made.votes, counts, strict=True)]))
        even.append(accuracy(made, [*made.votes[:, :5]]))
    assert np.mean(uneven) > np.mean(even) + gain


def test_what_cannot_be_planned_is_refused() -> None:
    project = Project(images=4, tasks=10, annotators=3, noise=0.3)
    with pytest.raises(InputError, check=at("overlap", expected="3 annotators")):
        plan(project, [4])
    with pytest.raises(InputError, check=at("overlap")):
        simulate(project, 0)
    with pytest.raises(InputError, check=at("bad")):
        Project(images=4, tasks=10, annotators=3, noise=0.3, bad=1)
    with pytest.raises(InputError, check=at("votes", expected="chance")):
        fitted_noise([np.array([[1.0, 2], [2, 1]])])
    with pytest.raises(InputError, check=at("prior")):
        flip_probability([np.array([[1.0, 2]])], prior=0)
