"""Losses from scores and what people said. Pure functions of tensors.

`scores` are logits, logit_scale x cosine: one unit is one unit of log-odds, higher is better. `sizes` holds the number
of images of each group; scores and ranks of all groups stand one behind the other, (sum of sizes,). Rank 1 is best,
equal ranks are a tie, NaN was not ranked.

Every loss of a pair or a group can be weighted. `reduction` is `none` (weight x loss of each), `sum`, or `mean`, which
is the sum divided by the sum of the weights.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from hpskit.errors import InputError

__all__ = [
    "Reduction",
    "best_of_group_loss",
    "davidson_loss",
    "margin_ranking_loss",
    "pair_loss",
    "plackett_luce_loss",
    "rating_loss",
]

Reduction = Literal["none", "sum", "mean"]

_FILLER_SCORE, _FILLER_RANK = -1.0, 10.0
"""What the official margin loss fills small groups up with."""
_MOST_TIED = 14
"""The number of sets of tied images doubles with each; 14 are 16,383."""


def pair_loss(
    first: Tensor, second: Tensor, share_first: Tensor, *, weight: Tensor | None = None, reduction: Reduction = "sum"
) -> Tensor:
    """Cross-entropy between how people chose in pairs and the softmax of the two scores.

    With shares 1, 0 and 0.5 and the sum this is the official loss. With the shares of several annotators, and their
    number as weight, it is the likelihood of all their votes (Bradley & Terry 1952).

    Args:
        first: (pairs,) scores of the first images.
        second: (pairs,) scores of the second.
        share_first: (pairs,) share of the votes for the first, 0 to 1; a tie counts one half.
        weight: (pairs,).
        reduction: see the module.

    Source: `HPSLoss` of the official code; arXiv 2306.09341, section 4.
    """
    ahead = first - second
    losses = -share_first * logsigmoid(ahead) - (1 - share_first) * logsigmoid(-ahead)
    return _reduced(losses, weight, reduction)


def best_of_group_loss(
    scores: Tensor, sizes: Tensor, best: Tensor, *, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Cross-entropy of the best image of each group among all of the group.

    Args:
        scores: (images,).
        sizes: (groups,).
        best: (groups,) place of the best image in its group, from 0.
        weight: (groups,).
        reduction: see the module.

    Source: `PreferenceLoss` of the official code.
    """
    table = _table(scores, sizes, -math.inf)
    losses = table.logsumexp(dim=1) - table.gather(1, best.to(table.device)[:, None])[:, 0]
    return _reduced(losses, weight, reduction)


def margin_ranking_loss(
    scores: Tensor,
    sizes: Tensor,
    ranks: Tensor,
    *,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Hinge on every two images of a group: max(0, margin - difference of scores x difference of ranks).

    As in the official code each image is compared with itself too, which adds a constant; and a group smaller than the
    largest is filled up with images of score -1 and rank 10. Give groups of one size to do without fillers.

    Args:
        scores: (images,).
        sizes: (groups,).
        ranks: (images,), all ranked.
        margin: in units of score x rank.
        weight: (groups,).
        reduction: see the module; the loss of a group is the mean over its comparisons.

    Source: `RankingLoss` of the official code.
    """
    table = _table(scores, sizes, _FILLER_SCORE)
    places = _table(ranks.to(table.dtype), sizes, _FILLER_RANK)
    one, other = torch.tril_indices(table.shape[1], table.shape[1], device=table.device)
    ahead = (table[:, one] - table[:, other]) * (places[:, other] - places[:, one])
    return _reduced((margin - ahead).clamp(min=0).mean(dim=1), weight, reduction)


def rating_loss(
    scores: Tensor, ratings: Tensor, *, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Squared difference between scores and ratings on the same scale, (images,) each.

    Source: the loss `rating` of the official code.
    """
    return _reduced((scores - ratings).square(), weight, reduction)


def davidson_loss(
    first: Tensor,
    second: Tensor,
    wins: Tensor,
    losses: Tensor,
    ties: Tensor,
    log_nu: Tensor | float,
    *,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Bradley-Terry with ties: P(win) : P(loss) : P(tie) = e^first : e^second : nu x e^((first + second) / 2).

    Of the two usual models of ties this one, because here ties do not touch what a score means: among the decided
    pairs the odds are still e^(first - second), whatever nu is, and a tie pulls as half a win for each does, as it
    counts everywhere in hpskit. In the model of Rao & Kupper (1967) ties are a threshold, which moves the odds of the
    decided pairs too, so that a point of score would be worth something else in each data set.

    Args:
        first: (pairs,) scores of the first images.
        second: (pairs,) scores of the second.
        wins: (pairs,) votes for the first.
        losses: (pairs,) votes for the second.
        ties: (pairs,) votes for neither.
        log_nu: logarithm of nu; equally good images are tied with probability nu / (2 + nu). Minus infinity is no ties.
        weight: (pairs,).
        reduction: see the module.

    Source: Davidson 1970, On extending the Bradley-Terry model to accommodate ties in paired comparison experiments.
    """
    half = (first - second) / 2
    tie = torch.as_tensor(log_nu, dtype=half.dtype, device=half.device).expand_as(half)
    total = torch.stack([half, -half, tie]).logsumexp(dim=0)
    undecided = torch.where(ties > 0, ties * (total - tie), torch.zeros_like(half))  # not 0 x infinity
    return _reduced(wins * (total - half) + losses * (total + half) + undecided, weight, reduction)


def plackett_luce_loss(
    scores: Tensor, sizes: Tensor, ranks: Tensor, *, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Minus the logarithm of the probability of a ranking, in which the best of those left is drawn again and again.

    Images without a rank are left out, which is exact for a choice between those that the annotator saw: under this
    model the order of a part does not depend on the rest. Two ranked images give `pair_loss`; fewer give 0.

    Tied images: every order of them that the ranking allows gets an equal share, and the loss is the cross-entropy with
    these shares, as in ListNet. For two images that is the official label [0.5, 0.5]: a tie pulls scores together. (The
    probability that *one* of the orders comes up, which survival analysis takes, would be 1 for two tied images, and
    the tie would teach nothing.) It is computed exactly, over all sets of tied images.

    Args:
        scores: (images,).
        sizes: (groups,).
        ranks: (images,): one ranking of each group. Repeat a group's scores for further annotators.
        weight: (groups,).
        reduction: see the module.

    Raises:
        InputError: more than 14 images of a ranking are tied with each other.

    Source: Luce 1959, Individual choice behavior; Plackett 1975, The analysis of permutations; for ties, Cao et al.
    2007, Learning to rank: from pairwise approach to listwise approach.
    """
    table = _table(scores, sizes, 0.0)
    places = _table(ranks.to(table.dtype), sizes, math.nan)
    ranked = ~places.isnan()
    # (groups, image, other): whether the other is still there when the image is drawn, the image itself included
    left = ranked[:, None, :] & (places[:, None, :] >= places[:, :, None])
    left |= torch.eye(places.shape[1], dtype=torch.bool, device=places.device)  # so that unranked rows are finite
    draws = table[:, None, :].masked_fill(~left, -math.inf).logsumexp(dim=2)
    alike = (places[:, None, :] == places[:, :, None]).sum(dim=2)
    alone = ranked & (alike == 1)
    losses = torch.where(alone, draws, torch.zeros_like(draws)).sum(dim=1)
    losses = losses - torch.where(ranked, table, torch.zeros_like(table)).sum(dim=1)
    for group, rank in _ties(places, alike):
        tied, below = places[group] == rank, places[group] > rank
        addition = _tied_draws(table[group, tied], table[group, below])
        losses = losses.index_add(0, torch.tensor([group], device=losses.device), addition[None])
    return _reduced(losses, weight, reduction)


def _ties(places: Tensor, alike: Tensor) -> list[tuple[int, float]]:
    """Group and rank of every tie."""
    where = (alike > 1).nonzero()
    return sorted({(group, places[group, image].item()) for group, image in where.tolist()})


def _tied_draws(tied: Tensor, below: Tensor) -> Tensor:
    """Sum over the draws of tied images of the log of what is left, averaged over all orders of the tied."""
    if len(tied) > _MOST_TIED:
        cure = "use the loss davidson or soft-pair"
        raise InputError(f"ranks: {len(tied)} images of a group are tied, expected at most {_MOST_TIED}; {cure}")
    members, share = _subsets(len(tied))
    sets = tied.expand(len(members), -1).masked_fill(~members.to(tied.device), -math.inf)
    left = torch.cat([sets, below.expand(len(members), -1)], dim=1).logsumexp(dim=1)
    return (left * share.to(left)).sum()


@functools.cache
def _subsets(count: int) -> tuple[Tensor, Tensor]:
    """Every set of some of `count` images, (sets, images), and in which share of the orders it is what is left."""
    rows = [row for row in itertools.product((False, True), repeat=count) if any(row)]
    shares = [1 / math.comb(count, sum(row)) for row in rows]
    return torch.tensor(rows), torch.tensor(shares, dtype=torch.float64)


def _table(values: Tensor, sizes: Tensor, filler: float) -> Tensor:
    """(images,) -> (groups, largest size)."""
    counts = sizes.tolist()
    if sum(counts) != len(values):
        raise InputError(f"sizes: add up to {sum(counts)}, expected {len(values)}, the number of images")
    if not counts:
        return values.new_zeros((0, 1))
    return pad_sequence([*torch.split(values, counts)], batch_first=True, padding_value=filler)


def _reduced(losses: Tensor, weight: Tensor | None, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses if weight is None else losses * weight
    if weight is None:
        return losses.sum() if reduction == "sum" else losses.mean()
    total = (losses * weight).sum()
    return total if reduction == "sum" else total / weight.sum()
