"""The loss of a batch as the recipe wants it: which loss, on what of the judgements, with which weights.

Sums, not means: what the sum is divided by is known only when all devices have counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpskit.training.batch import Batch
from hpskit.training.losses import (
    best_of_group_loss,
    davidson_loss,
    margin_ranking_loss,
    pair_loss,
    plackett_luce_loss,
    rating_loss,
)
from hpskit.training.recipes import Recipe

__all__ = ["objective"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Terms:
    """Losses with the group that each is of, and for how many judgements it stands."""

    losses: Tensor
    group: Tensor
    count: Tensor


def objective(recipe: Recipe, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss of a batch, summed, and what to divide it by.

    With several devices divide the sum of all by the weight of all: then the loss does not depend on their number.

    Args:
        recipe: its `loss`, `margin`, `tie_share`, `rating_step` and `weighting` are used; `loss_scale` is the caller's.
        scores: (N,) logits of the images of the batch.
        batch: how they were judged.

    Returns:
        Two numbers, float32, on the device of the scores: sum of weight x loss, and sum of the weights. Both are 0 if
        nobody compared any images of the batch.
    """
    terms = _TERMS[recipe.loss](recipe, scores.float(), batch)
    counts = terms.count.to(scores.device, torch.float32)
    group = terms.group.to(scores.device)
    weight = batch.weight.to(scores.device, torch.float32)
    if recipe.weighting == "group":
        counts = counts / torch.zeros_like(weight).index_add(0, group, counts)[group]
    weights = counts * weight[group]
    return (terms.losses * weights).sum() + 0 * scores.sum(), weights.sum()  # the graph reaches the scores in any case


def _pair(_: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    share = batch.share.to(scores)
    decided = torch.where(share == 0.5, share, (share > 0.5).to(share))
    return _of_pairs(scores, batch, decided, torch.ones_like(share))


def _soft_pair(_: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    return _of_pairs(scores, batch, batch.share.to(scores), batch.votes)


def _of_pairs(scores: Tensor, batch: Batch, share: Tensor, count: Tensor) -> _Terms:
    first, second = (places.to(scores.device) for places in (batch.first, batch.second))
    losses = pair_loss(scores[first], scores[second], share, reduction="none")
    return _Terms(losses=losses, group=batch.group.to(scores.device)[first], count=count)


def _davidson(recipe: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    rows = []
    for group, members, table, votes in _groups(batch):
        for one, other in itertools.combinations(range(len(members)), 2):
            ahead = table[:, other] - table[:, one]
            said = [float(votes[which].sum()) for which in (ahead > 0, ahead < 0, ahead == 0)]
            if sum(said):
                rows.append((group, members[one], members[other], *said))
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6).T
    group, first, second = (column.long().to(scores.device) for column in columns[:3])
    counts = columns[3:].to(scores)
    total = counts.sum(dim=0)
    log_nu = math.log(2 * recipe.tie_share / (1 - recipe.tie_share))
    wins, losses, ties = counts / total
    terms = davidson_loss(scores[first], scores[second], wins, losses, ties, log_nu, reduction="none")
    return _Terms(losses=terms, group=group, count=total)


def _plackett_luce(_: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    rankings = _rankings(batch)
    places, sizes, ranks = _flat(rankings, scores)
    return _of_rankings(rankings, plackett_luce_loss(scores[places], sizes, ranks, reduction="none"))


def _margin(recipe: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    rankings = sorted(_rankings(batch), key=lambda ranking: len(ranking.places))
    losses = [scores.new_zeros(0)]
    for _, equal in itertools.groupby(
        rankings, key=lambda ranking: len(ranking.places)
    ):  # so that nothing is filled up
        places, sizes, ranks = _flat([*equal], scores)
        losses.append(margin_ranking_loss(scores[places], sizes, ranks, margin=recipe.margin, reduction="none"))
    return _of_rankings(rankings, torch.cat(losses))


def _best_of_group(_: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    """Where several are best, the judgement is shared among them."""
    chosen: list[_Ranking] = []
    best: list[int] = []
    for ranking in _rankings(batch):
        tops = (ranking.ranks == ranking.ranks.min()).nonzero()[:, 0].tolist()
        best += tops
        chosen += [_Ranking(ranking.group, ranking.places, ranking.ranks, ranking.votes / len(tops)) for _ in tops]
    places, sizes, _ranks = _flat(chosen, scores)
    losses = best_of_group_loss(scores[places], sizes, torch.tensor(best, dtype=torch.long), reduction="none")
    return _of_rankings(chosen, losses)


def _rating(recipe: Recipe, scores: Tensor, batch: Batch) -> _Terms:
    """Each image's score and rating as seen from the mean of its group.

    The official loss compares them as they are. But what all images of a prompt have in common no ranking feels, and
    it would be learned first: logits of CLIP begin at 20 to 30, ratings lie between 1 and 7. Without it the loss of
    equal scores is the variance of the ratings, so that 1 - loss / chance is the share of it that the scores explain.
    """
    group, ratings = batch.group.to(scores.device), batch.ratings.to(scores)
    rated = ~ratings.isnan()
    count = torch.zeros(len(batch.prompts), device=scores.device).index_add(0, group, rated.to(scores))
    kept = rated & (count[group] > 1)
    group = group[kept]

    def from_mean(values: Tensor) -> Tensor:
        total = torch.zeros_like(count).index_add(0, group, values)
        return values - (total / count)[group]

    wanted = recipe.rating_step * from_mean(ratings[kept])
    losses = rating_loss(from_mean(scores[kept]), wanted, reduction="none")
    return _Terms(losses=losses, group=group, count=torch.ones_like(losses))


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One order of at least two images of a group."""

    group: int
    places: Tensor
    ranks: Tensor
    votes: float


def _groups(batch: Batch) -> list[tuple[int, list[int], Tensor, Tensor]]:
    """Number, places of the images, table of ranks and votes of each group."""
    members: list[list[int]] = [[] for _ in batch.ranks]
    for place, group in enumerate(batch.group.tolist()):
        members[group].append(place)
    return [
        (group, places, table.cpu(), votes.cpu())
        for group, (places, table, votes) in enumerate(zip(members, batch.ranks, batch.judged, strict=True))
    ]


def _rankings(batch: Batch) -> list[_Ranking]:
    """Every judgement that compares something, of the images that it ranks."""
    found = []
    for group, members, table, votes in _groups(batch):
        places = torch.tensor(members)
        for ranks, count in zip(table, votes.tolist(), strict=True):
            ranked = ~ranks.isnan()
            if ranked.sum() > 1:
                found.append(_Ranking(group, places[ranked], ranks[ranked], float(count)))
    return found


def _flat(rankings: Sequence[_Ranking], scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the images, sizes, and ranks, as the losses want them."""
    places = torch.cat([torch.zeros(0, dtype=torch.long), *(ranking.places for ranking in rankings)])
    sizes = torch.tensor([len(ranking.places) for ranking in rankings], dtype=torch.long)
    ranks = torch.cat([torch.zeros(0, dtype=torch.float64), *(ranking.ranks for ranking in rankings)])
    return places.to(scores.device), sizes, ranks.to(scores.device)


def _of_rankings(rankings: Sequence[_Ranking], losses: Tensor) -> _Terms:
    group = torch.tensor([ranking.group for ranking in rankings], dtype=torch.long)
    count = torch.tensor([ranking.votes for ranking in rankings], dtype=torch.float32)
    return _Terms(losses=losses, group=group, count=count)


_TERMS = {
    "pair": _pair,
    "soft-pair": _soft_pair,
    "best-of-group": _best_of_group,
    "margin": _margin,
    "davidson": _davidson,
    "plackett-luce": _plackett_luce,
    "rating": _rating,
}
