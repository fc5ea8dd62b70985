"""Strengths of generators and the position on the page: against rankings made by the model, and without the term."""

from __future__ import annotations

import math

import numpy as np
import pytest

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.consensus import place_by_position, strengths_with_position
from hpskit.stats.strengths import bradley_terry

NAN = math.nan


def shown(
    seed: int, groups: int, strengths: list[float], position: float, judges: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Rankings by the model of Plackett & Luce, whose pairs are those of Bradley & Terry."""
    rng = np.random.default_rng(seed)
    orders = rng.random((groups, judges, len(strengths))).argsort(axis=2)
    seen = np.array(strengths) + position * orders + rng.gumbel(size=orders.shape)
    return (-seen).argsort(axis=2).argsort(axis=2) + 1.0, orders


def test_strengths_and_the_worth_of_a_place_are_found() -> None:
    truth = [0.8, 0.2, -0.3, -0.7]
    votes, orders = shown(6, 3000, truth, -0.15)
    found = strengths_with_position(votes, [list("abcd")] * 3000, orders, resamples=200)
    assert found.sources == tuple("abcd")
    np.testing.assert_allclose(found.strength, truth, atol=0.06)
    assert found.position.value == pytest.approx(-0.15, abs=0.03)
    assert found.position.low < -0.15 < found.position.high < 0
    assert ((found.low < truth) & (truth < found.high)).all()


def test_confounded_with_the_position_strengths_come_out_right_all_the_same() -> None:
    """One generator stands first in most tasks: without the term it looks strong."""
    rng = np.random.default_rng(1)
    orders = np.where(rng.random((4000, 1, 1)) < 0.8, [0, 1, 2], [2, 1, 0])
    seen = -0.4 * orders + rng.gumbel(size=orders.shape)
    votes = (-seen).argsort(axis=2).argsort(axis=2) + 1.0
    found = strengths_with_position(votes, [list("abc")] * 4000, orders, resamples=50)
    np.testing.assert_allclose(found.strength, 0, atol=0.08)
    ahead = (votes[:, 0, :, None] < votes[:, 0, None, :]).sum(axis=0)
    assert bradley_terry(ahead)[0] > 0.2


def test_without_a_difference_of_position_it_is_bradley_terry() -> None:
    votes = [np.array([[1, 2, 3], [1, 3, 2], [2, 1, NAN]]), np.array([[2, 1, 2.0]])]
    orders = [np.zeros((3, 3)), np.zeros((1, 3))]
    found = strengths_with_position(votes, [list("abc"), list("abc")], orders, resamples=20)
    wins = np.array([[0, 2, 2.5], [2, 0, 2], [0.5, 1, 0]])  # a tie is half a win each
    np.testing.assert_allclose(found.strength, bradley_terry(wins), atol=1e-8)
    assert found.position.value == pytest.approx(0)


def test_the_order_of_images_does_not_matter() -> None:
    votes, orders = shown(2, 40, [0.5, 0, -0.5, 0.3], 0.1)
    before = strengths_with_position(votes, [list("abca")] * 40, orders, resamples=30)
    turn = np.array([2, 0, 3, 1])
    after = strengths_with_position(votes[:, :, turn], [list("caab")] * 40, orders[:, :, turn], resamples=30)
    places = [after.sources.index(name) for name in before.sources]
    np.testing.assert_allclose(after.strength[places], before.strength, atol=1e-8)
    np.testing.assert_allclose(after.high[places], before.high, atol=1e-8)


def test_places_by_position_show_bias_and_its_absence() -> None:
    found = place_by_position(*shown(3, 800, [0.0] * 4, -0.3))
    assert [point.value for point in found] == sorted(point.value for point in found)
    assert found[0].high < 0.5 < found[3].low
    fair = place_by_position(*shown(4, 800, [0.0] * 4, 0.0))
    assert all(point.low < 0.5 < point.high for point in fair)


def test_what_does_not_fit_is_refused() -> None:
    votes, orders = shown(5, 3, [0.0, 0, 0], 0)
    with pytest.raises(InputError, check=at("sources: group 0")):
        strengths_with_position(votes, [list("ab")] * 3, orders)
    with pytest.raises(InputError, check=at("sources: group 0", found="of 2 groups")):
        strengths_with_position(votes, [list("abc")] * 2, orders)
    with pytest.raises(InputError, check=at("orders")):
        strengths_with_position(votes, [list("abc")] * 3, orders[:2])
    with pytest.raises(InputError, check=at("orders", found="3")):
        place_by_position(votes, orders + 1)
    apart = [np.array([[1.0, 2]]), np.array([[1.0, 2]])]
    with pytest.raises(InputError, check=at("wins")):
        strengths_with_position(apart, [list("ab"), list("cd")], [np.array([[0, 1]])] * 2)
    with pytest.raises(InputError, check=at("tasks", found="is 1", expected="at least 2 for an interval")):
        strengths_with_position(apart[:1], [list("ab")], [np.array([[0, 1]])])
