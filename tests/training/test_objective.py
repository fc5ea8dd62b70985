"""From a batch and a recipe to a loss: each vote counted as it should, the same sum however the batch is divided."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from error_fields import at
from hpskit.dataset.convert import convert
from hpskit.dataset.reading import open_data
from hpskit.errors import RecordError
from hpskit.pixels import Preprocessing
from hpskit.training.data import PreferenceDataset
from hpskit.training.loader import Batch, DataLoader, Decoder, Example, validation_batches
from hpskit.training.losses import objective
from hpskit.training.recipes import Loss, Recipe

NAN = math.nan
LOSSES = get_args(Loss)
Said = tuple[list[list[float]], list[float], float]


def batch_of(*groups: Said, ratings: bool = False) -> Batch:
    """Groups as (rankings, votes for each, weight); with `ratings`, the first ranking of each is turned into them."""
    decoded = [
        Example(
            prompt="a cat",
            place="made up",
            pixels=torch.zeros(len(ranks[0]), 3, 1, 1),
            ranks=np.array(ranks),
            votes=np.array(votes),
            weight=weight,
            ratings=7 - np.array(ranks[0]) if ratings else None,
        )
        for ranks, votes, weight in groups
    ]
    return Batch(examples=decoded, size=1)


def value(batch: Batch, loss: str, **settings: object) -> tuple[float, float]:
    """Sum and weight for scores 0.0, 0.3, 0.6 …, in order of the images."""
    recipe = Recipe(loss=loss, **settings)  # type: ignore[arg-type]
    total, weight = objective(recipe, 0.3 * torch.arange(len(batch.pixels)), batch)
    return total.item(), weight.item()


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@st.composite
def groups(draw: st.DrawFn) -> Said:
    size = draw(st.integers(2, 4))
    rank = st.sampled_from([1.0, 2.0, 3.0, NAN])
    ranks = draw(st.lists(st.lists(rank, min_size=size, max_size=size), min_size=1, max_size=3))
    ranks[0][:2] = [1.0, draw(st.sampled_from([1.0, 2.0]))]  # somebody has compared something
    return ranks, [float(draw(st.integers(1, 3))) for _ in ranks], draw(st.sampled_from([1.0, 0.5]))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighting", ["judgement", "group"])
@settings(max_examples=15)
@given(said=st.lists(groups(), min_size=1, max_size=4), parts=st.integers(1, 4))
def test_parts_add_up(loss: str, weighting: str, said: list[Said], parts: int) -> None:
    """What accumulation and several devices rest on."""
    recipe = Recipe(loss=loss, weighting=weighting)  # type: ignore[arg-type]
    batch = batch_of(*said, ratings=True)
    scores = torch.randn(len(batch.pixels), generator=torch.Generator().manual_seed(len(said)))
    whole, weight = objective(recipe, scores, batch)
    pieces = batch.split(parts)
    each = zip(scores.split([len(piece.pixels) for piece in pieces]), pieces, strict=True)
    sums = torch.tensor([objective(recipe, part, piece) for part, piece in each]).sum(dim=0)
    assert sums.tolist() == pytest.approx([whole.item(), weight.item()], rel=1e-5)
    if weighting == "group":
        assert weight.item() == pytest.approx(batch.weight.sum().item())


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss not in ("margin", "rating")])
@pytest.mark.parametrize("ranks", [[1.0, 2.0], [2.0, 1.0]])
def test_of_one_pair_all_losses_are_the_official_one(loss: str, ranks: list[float]) -> None:
    batch = batch_of(([ranks], [1.0], 1.0))
    expected = softplus(0.3 if ranks[0] < ranks[1] else -0.3)
    assert value(batch, loss, tie_share=1e-9) == pytest.approx((expected, 1))


def test_the_majority_or_every_vote() -> None:
    batch = batch_of(([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]], [3.0, 1.0, 2.0], 1.0))
    assert value(batch, "pair") == pytest.approx((softplus(0.3), 1))
    each = 4 * softplus(0.3) + 2 * softplus(-0.3)
    for loss in ("soft-pair", "plackett-luce", "best-of-group"):
        assert value(batch, loss) == pytest.approx((each, 6))
    assert value(batch, "soft-pair", weighting="group") == pytest.approx((each / 6, 1))


def test_davidson_counts_ties_as_ties() -> None:
    batch = batch_of(([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]], [3.0, 1.0, 2.0], 1.0))
    nu = 2 * 0.2 / 0.8
    total = 1 + math.exp(0.3) + nu * math.exp(0.15)
    expected = -3 * math.log(1 / total) - math.log(math.exp(0.3) / total) - 2 * math.log(nu * math.exp(0.15) / total)
    assert value(batch, "davidson", tie_share=0.2) == pytest.approx((expected, 6))


def test_best_of_group_among_those_ranked_shared_where_two_are_best() -> None:
    batch = batch_of(([[2.0, 1.0, NAN, 1.0]], [2.0], 1.0))
    total = sum(math.exp(0.3 * place) for place in (0, 1, 3))
    expected = -math.log(math.exp(0.3) / total) - math.log(math.exp(0.9) / total)
    assert value(batch, "best-of-group") == pytest.approx((expected, 2))


def test_margin_fills_nothing_up() -> None:
    small, large = ([[1.0, 2.0]], [1.0], 1.0), ([[1.0, 2.0, 3.0]], [1.0], 1.0)
    by_hand = (1 + 1 + 1.3) / 3 + (3 + 1.3 + 1.3 + 1 + 0.6 * 2) / 6
    assert value(batch_of(large, small), "margin", margin=1.0)[0] == pytest.approx(by_hand)


def rated(*ratings: list[float]) -> Batch:
    """Groups with ratings, in the order of which they were ranked."""
    said = [([[float(rank) for rank in np.argsort(np.argsort(-np.array(group))) + 1]], [1.0], 1.0) for group in ratings]
    examples = [
        replace(example, ratings=np.array(group, dtype=np.float64))
        for example, group in zip(batch_of(*said).examples, ratings, strict=True)
    ]
    return Batch(examples=examples, size=1)


def test_ratings_are_seen_from_the_mean_of_their_group() -> None:
    """Scores 0 and 0.3 are 0.15 from their mean, ratings 5 and 2 are 1.5 from theirs."""
    assert value(rated([5, 2]), "rating") == pytest.approx((2 * (1.5 + 0.15) ** 2, 2))
    assert value(rated([2, 5]), "rating", rating_step=0.1) == pytest.approx((0, 2), abs=1e-12)
    assert value(rated([5, 2], [7, NAN, 6]), "rating", weighting="group")[1] == 2
    without = value(rated([5, 2, NAN]), "rating")
    assert without == pytest.approx(value(rated([5, 2]), "rating"))
    assert value(rated([5, NAN]), "rating") == (0, 0), "one rating says nothing of the others"


def test_equal_scores_lose_the_variance_of_the_ratings() -> None:
    """Which is what the watch takes for guessing."""
    batch = rated([1, 2, 6], [4, 4])
    total, weight = objective(Recipe(loss="rating", rating_step=2.0), torch.full((5,), 25.0), batch)
    assert total / weight == pytest.approx(4 * (3 * np.var([1, 2, 6]) + 0) / 5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_nothing_is_0_and_has_a_gradient(loss: str) -> None:
    recipe = Recipe(loss=loss)  # type: ignore[arg-type]
    scores = torch.zeros(0, requires_grad=True)
    total, weight = objective(recipe, scores, Batch(examples=[], size=1))
    assert (total.item(), weight.item()) == (0, 0)
    total.backward()
    assert scores.grad is not None


def test_ratings_of_image_reward_arrive_and_survive_a_conversion(tmp_path: Path) -> None:
    rows = [
        {"image_path": f"{group}-{n}.png", "prompt_id": str(group), "prompt": f"cat {group}", "rank": 1 + n}
        | {"image_amount_in_total": 3, "overall_rating": 6 - n, "fidelity_rating": [2, None, 5][n]}
        for group in range(2)
        for n in range(3)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    for row in rows:
        Image.new("RGB", (8, 8)).save(tmp_path / str(row["image_path"]))
    data = open_data(tmp_path / "rows.json")
    convert(data, "jsonl", tmp_path / "ours")
    convert(data, "parquet", tmp_path / "rows.parquet")
    for source in (data, open_data(tmp_path / "ours"), open_data(tmp_path / "rows.parquet")):
        for field, expected in (("overall_rating", [6, 5, 4] * 2), ("fidelity_rating", [2, NAN, 5] * 2)):
            decoder = Decoder(preprocessing=Preprocessing(size=8), workers=0, rating=field)
            loader = DataLoader([PreferenceDataset(source, rating=field)], decoder, ratios=[None], pairs=6, seed=0)
            for batch in (next(iter(loader)), *validation_batches(source, decoder, pairs=6)):
                assert batch.ratings.tolist() == pytest.approx(expected, nan_ok=True)
        found, cure = "has no ratings 'beauty'", "overall_rating, fidelity_rating"
        with pytest.raises(RecordError, check=at(found=found, cure=cure)):
            PreferenceDataset(source, rating="beauty")
