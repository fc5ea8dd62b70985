"""Losses: the official figures, gradients by finite differences, and what must hold whatever the scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from error_fields import at
from hpskit.errors import InputError
from hpskit.training.losses import (
    best_of_group_loss,
    davidson_loss,
    margin_ranking_loss,
    pair_loss,
    plackett_luce_loss,
    rating_loss,
)

NAN = math.nan
scores_of = st.lists(st.floats(-30, 30), min_size=2, max_size=6)
pairs_of = st.tuples(st.floats(-30, 30), st.floats(-30, 30))


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


SIZES = torch.tensor([3, 2, 4])
NINE = torch.linspace(-2, 2, 9, dtype=torch.float64).roll(4)
RANKS = double([1, 1, 2, 2, NAN, 2, 2, 2, 1])
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "pair": lambda s: pair_loss(s[:4], s[4:8], double([1, 0, 0.5, 0.3])),
    "best": lambda s: best_of_group_loss(s, SIZES, torch.tensor([2, 0, 3])),
    "margin": lambda s: margin_ranking_loss(s, SIZES, double([1, 3, 2, 2, 1, 1, 2, 3, 3])),
    "rating": lambda s: rating_loss(s, NINE.flip(0)),
    "davidson": lambda s: davidson_loss(
        s[:4], s[4:8], double([3, 0, 1, 0]), double([0, 2, 1, 0]), NINE[:4].exp(), s[8]
    ),
    "davidson without ties": lambda s: davidson_loss(s[:1], s[1:2], double([1]), double([2]), double([0]), -math.inf),
    "plackett-luce": lambda s: plackett_luce_loss(s, SIZES, double([1, 3, 2, 2, 1, 1, 2, 4, 3])),
    "plackett-luce with ties and holes": lambda s: plackett_luce_loss(s, SIZES, RANKS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_by_finite_differences(name: str) -> None:
    assert torch.autograd.gradcheck(LOSSES[name], (NINE.clone().requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("factor", [5e3, -5e3])
def test_losses_and_gradients_are_finite_at_ten_thousand(name: str, factor: float) -> None:
    scores = (NINE.float() * factor).requires_grad_()
    loss = LOSSES[name](scores).sum()
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("rating", "davidson")])
@given(shift=st.floats(-20, 20))
def test_only_differences_within_a_group_count(name: str, shift: float) -> None:
    if name == "margin":  # whose fillers stand at a fixed score
        sizes, ranks = torch.tensor([3, 3, 3]), double([1, 3, 2, 2, 1, 1, 2, 3, 3])
        losses = [margin_ranking_loss(scores, sizes, ranks).tolist() for scores in (NINE + shift, NINE)]
    else:
        losses = [LOSSES[name](scores).tolist() for scores in (NINE + shift, NINE)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@given(pairs_of, st.floats(0, 1))
def test_pairs_may_be_turned_round(pair: tuple[float, float], share: float) -> None:
    first, second = double([pair[0]]), double([pair[1]])
    there, back = pair_loss(first, second, double([share])), pair_loss(second, first, double([1 - share]))
    assert there.item() == pytest.approx(back.item(), abs=1e-12)


@given(pairs_of, st.tuples(*[st.integers(0, 5)] * 3), st.floats(-3, 3))
def test_davidson_probabilities_add_up_and_may_be_turned_round(
    pair: tuple[float, float], votes: tuple[int, int, int], log_nu: float
) -> None:
    first, second = (double([score]) for score in pair)
    each = [davidson_loss(first, second, *double(row)[:, None], log_nu).item() for row in torch.eye(3).tolist()]
    assert sum(math.exp(-loss) for loss in each) == pytest.approx(1)
    assert each[1] - each[0] == pytest.approx(pair[0] - pair[1], abs=1e-9)  # the odds of decided pairs
    there = davidson_loss(first, second, *double(votes)[:, None], log_nu).item()
    turned = double([votes[1], votes[0], votes[2]])
    assert there == pytest.approx(davidson_loss(second, first, *turned[:, None], log_nu).item(), abs=1e-9)


@given(pairs_of, st.integers(0, 5), st.integers(0, 5))
def test_davidson_without_ties_is_bradley_terry(pair: tuple[float, float], wins: int, losses: int) -> None:
    first, second = (double([score]) for score in pair)
    votes = wins + losses
    expected = votes * pair_loss(first, second, double([wins / votes if votes else 0.5]))
    for log_nu in (-math.inf, -80.0):
        found = davidson_loss(first, second, double([wins]), double([losses]), double([0]), log_nu)
        assert found.item() == pytest.approx(expected.item(), abs=1e-9)


@given(pairs_of, st.sampled_from([(1, 2, 1.0), (2, 1, 0.0), (3, 3, 0.5), (1, NAN, None), (NAN, NAN, None)]))
def test_plackett_luce_of_two_is_the_pair_loss(pair: tuple[float, float], said: tuple[float, float, Any]) -> None:
    one, other, share = said
    found = plackett_luce_loss(double(pair), torch.tensor([2]), double([one, other])).item()
    expected = 0 if share is None else pair_loss(double(pair[:1]), double(pair[1:]), double([share])).item()
    assert found == pytest.approx(expected, abs=1e-9)


@given(scores_of)
def test_plackett_luce_gives_all_orders_together_probability_one(values: list[float]) -> None:
    values = values[:4]
    orders = [*itertools.permutations(range(1, len(values) + 1))]
    sizes = torch.tensor([len(values)] * len(orders))
    losses = plackett_luce_loss(double(values * len(orders)), sizes, double(orders).flatten())
    assert (-losses).exp().sum().item() == pytest.approx(1)


@given(scores_of, st.data())
def test_a_tie_is_an_equal_share_of_each_order_it_allows(values: list[float], data: st.DataObject) -> None:
    ranks = data.draw(st.lists(st.integers(1, 3), min_size=len(values), max_size=len(values)))
    allowed = [
        order
        for order in itertools.permutations(range(len(values)))
        if all(ranks[a] <= ranks[b] for a, b in itertools.combinations(order, 2))
    ]
    strict = [[order.index(image) for image in range(len(values))] for order in allowed]
    sizes = torch.tensor([len(values)] * len(strict))
    expected = plackett_luce_loss(double(values * len(strict)), sizes, double(strict).flatten()).mean().item()
    found = plackett_luce_loss(double(values), torch.tensor([len(values)]), double(ranks)).item()
    assert found == pytest.approx(expected, abs=1e-8)


@given(scores_of)
def test_who_was_not_ranked_does_not_count(values: list[float]) -> None:
    ranks = [float(rank) for rank in range(len(values))]
    alone = plackett_luce_loss(double(values), torch.tensor([len(values)]), double(ranks))
    with_others = plackett_luce_loss(
        double([7, *values, -3]), torch.tensor([len(values) + 2]), double([NAN, *ranks, NAN])
    )
    assert with_others.item() == pytest.approx(alone.item(), abs=1e-9)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, check=at("ranks", found="15 images", expected="at most 14")):
        plackett_luce_loss(torch.zeros(16), torch.tensor([16]), torch.tensor([0.0] + [1.0] * 15))
