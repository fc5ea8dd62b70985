"""Losses: from scores and what people said of the images to one number. Pure functions of tensors.

`scores` are logits, logit_scale x cosine: one unit is one unit of log-odds, higher is better. `sizes`, (groups,),
holds the number of images of each group; scores and ranks of all groups stand one behind the other, (images,). Rank 1
is best, equal ranks are a tie, NaN was not ranked.

Each loss gives a number for every pair, group or image; `objective` weights and sums them as the recipe wants it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from hpskit.errors import InputError
from hpskit.training.loader import Batch
from hpskit.training.recipes import Recipe

_FILLER_SCORE, _FILLER_RANK = -1.0, 10.0
"""Padding of small groups in the official margin loss."""
_MOST_TIED = 14
"""The number of sets of tied images doubles with each; 14 are 16,383."""


def pair_loss(first: Tensor, second: Tensor, share_first: Tensor) -> Tensor:
    """Return the cross-entropy between how people chose in pairs and the softmax of the two scores, (pairs,).

    `share_first` is the share of the votes for the first image, 0 to 1; a tie counts one half. With shares 1, 0 and 0.5
    the sum is the official loss. With the shares of several annotators, and their number as weight, it is the
    likelihood of all their votes (Bradley & Terry 1952).

    Source: `HPSLoss` of the official code; arXiv 2306.09341, section 4.
    """
    ahead = first - second
    return -share_first * logsigmoid(ahead) - (1 - share_first) * logsigmoid(-ahead)


def best_of_group_loss(scores: Tensor, sizes: Tensor, best: Tensor) -> Tensor:
    """Return the cross-entropy of the best image of each group among all of the group, (groups,).

    `best` is the place of that image in its group, (groups,) from 0.

    Source: `PreferenceLoss` of the official code.
    """
    table = _table(scores, sizes, -math.inf)
    return table.logsumexp(dim=1) - table.gather(1, best.to(table.device)[:, None])[:, 0]


def margin_ranking_loss(scores: Tensor, sizes: Tensor, ranks: Tensor, *, margin: float = 1.0) -> Tensor:
    """Return a hinge on every two images: max(0, margin - difference of scores x difference of ranks), (groups,).

    The loss of a group is the mean over its comparisons.

    As in the official code each image is compared with itself too, which adds a constant; and a group smaller than the
    largest is filled up with images of score -1 and rank 10. Give groups of one size to do without fillers. `margin` is
    in units of score x rank; all images are ranked.

    Source: `RankingLoss` of the official code.
    """
    table = _table(scores, sizes, _FILLER_SCORE)
    places = _table(ranks.to(table.dtype), sizes, _FILLER_RANK)
    one, other = torch.tril_indices(table.shape[1], table.shape[1], device=table.device)
    ahead = (table[:, one] - table[:, other]) * (places[:, other] - places[:, one])
    return (margin - ahead).clamp(min=0).mean(dim=1)


def rating_loss(scores: Tensor, ratings: Tensor) -> Tensor:
    """Return the squared difference between scores and ratings on the same scale, (images,) each.

    Source: the loss `rating` of the official code.
    """
    return (scores - ratings).square()


def davidson_loss(
    first: Tensor, second: Tensor, wins: Tensor, losses: Tensor, ties: Tensor, log_nu: Tensor | float
) -> Tensor:
    """Return the loss of Bradley-Terry with ties, (pairs,).

    P(win) : P(loss) : P(tie) = e^first : e^second : nu x e^((first + second) / 2).

    Ties do not touch the meaning of a score in this model: among the decided pairs the odds are e^(first - second),
    whatever nu is, and a tie pulls as half a win for each does, as it counts everywhere in hpskit. In the model of Rao
    & Kupper (1967) ties are a threshold that moves the odds of the decided pairs too.

    `wins`, `losses` and `ties` are votes for the first image, for the second and for neither. Equally good images are
    tied with probability nu / (2 + nu); a `log_nu` of minus infinity is no ties.

    Source: Davidson 1970, On extending the Bradley-Terry model to accommodate ties in paired comparison experiments.
    """
    half = (first - second) / 2
    tie = torch.as_tensor(log_nu, dtype=half.dtype, device=half.device).expand_as(half)
    total = torch.stack([half, -half, tie]).logsumexp(dim=0)
    undecided = torch.where(ties > 0, ties * (total - tie), torch.zeros_like(half))  # not 0 x infinity
    return wins * (total - half) + losses * (total + half) + undecided


def plackett_luce_loss(scores: Tensor, sizes: Tensor, ranks: Tensor) -> Tensor:
    """Return minus the logarithm of the probability of each ranking, drawn from best to worst, (groups,).

    Images without a rank are left out, which is exact for a choice between those that the annotator saw: under this
    model the order of a part does not depend on the rest. Two ranked images give `pair_loss`; fewer give 0.

    Tied images: every order of them that the ranking allows gets an equal share, and the loss is the cross-entropy with
    these shares, as in ListNet. For two images that is the official label [0.5, 0.5]: a tie pulls scores together. (The
    probability that *one* of the orders comes up, which survival analysis takes, would be 1 for two tied images, and
    the tie would teach nothing.) It is computed exactly, over all sets of tied images.

    `ranks` holds one ranking of each group; repeat a group's scores for further annotators. More than 14 images that
    are tied with each other are an error.

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
    ties = {(group, places[group, image].item()) for group, image in (alike > 1).nonzero().tolist()}
    for group, rank in sorted(ties):
        tied, below = places[group] == rank, places[group] > rank
        addition = _tied_draws(table[group, tied], table[group, below])
        losses = losses.index_add(0, torch.tensor([group], device=losses.device), addition[None])
    return losses


def _tied_draws(tied: Tensor, below: Tensor) -> Tensor:
    """Sum over the draws of tied images the log of what is left, averaged over all orders of the tied."""
    if len(tied) > _MOST_TIED:
        found = f"{len(tied)} images of a group are tied"
        raise InputError("ranks", found, expected=f"at most {_MOST_TIED}", cure="use the loss davidson or soft-pair")
    members, share = _subsets(len(tied))
    sets = tied.expand(len(members), -1).masked_fill(~members.to(tied.device), -math.inf)
    left = torch.cat([sets, below.expand(len(members), -1)], dim=1).logsumexp(dim=1)
    return (left * share.to(left)).sum()


@functools.cache
def _subsets(count: int) -> tuple[Tensor, Tensor]:
    """List every set of some of `count` images, (sets, images), and the share of the orders that leave it."""
    rows = [row for row in itertools.product((False, True), repeat=count) if any(row)]
    shares = [1 / math.comb(count, sum(row)) for row in rows]
    return torch.tensor(rows), torch.tensor(shares, dtype=torch.float64)


def _table(values: Tensor, sizes: Tensor, filler: float) -> Tensor:
    """Turn (images,) into (groups, largest size)."""
    counts = sizes.tolist()
    if not counts:
        return values.new_zeros((0, 1))
    return pad_sequence([*torch.split(values, counts)], batch_first=True, padding_value=filler)


class Terms(NamedTuple):
    """Losses with the group that each is of, and the number of judgements that it stands for; (terms,) each."""

    losses: Tensor
    group: Tensor
    judgements: Tensor


def objective(recipe: Recipe, scores: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch, summed, and its divisor.

    With several devices divide the sum of all by the weight of all: then the loss does not depend on their number.

    Args:
        recipe: its `loss`, `margin`, `tie_share`, `rating_step` and `weighting` are used; `loss_scale` is the caller's.
        scores: (images,) logits.
        batch: how they were judged.

    Returns:
        Two numbers, float32, on the device of the scores: sum of weight x loss, and sum of the weights. Both are 0 if
        nobody compared any images of the batch.
    """
    terms = _TERMS[recipe.loss](recipe, scores.float(), batch)
    counts = terms.judgements.to(scores.device, torch.float32)
    group = terms.group.to(scores.device)
    weight = batch.weight.to(scores.device, torch.float32)
    if recipe.weighting == "group":
        counts = counts / torch.zeros_like(weight).index_add(0, group, counts)[group]
    weights = counts * weight[group]
    return (terms.losses * weights).sum() + 0 * scores.sum(), weights.sum()  # the graph reaches the scores in any case


def pair_terms(recipe: Recipe, scores: Tensor, batch: Batch) -> Terms:
    """Compare every pair once, by its majority or, with `soft-pair`, by every vote."""
    first, second, share, count = (column.to(scores.device) for column in batch.pairs)
    if recipe.loss == "pair":
        share, count = torch.where(share == 0.5, share, (share > 0.5).to(share)), torch.ones_like(share)
    losses = pair_loss(scores[first], scores[second], share)
    return Terms(losses, batch.group.to(scores.device)[first], count)


def davidson_terms(recipe: Recipe, scores: Tensor, batch: Batch) -> Terms:
    """Count wins, losses and ties of each pair."""
    first, second, *votes = batch.compared
    counts = torch.stack(votes).to(scores)
    total = counts.sum(dim=0)
    log_nu = math.log(2 * recipe.tie_share / (1 - recipe.tie_share))
    wins, losses, ties = counts / total
    terms = davidson_loss(scores[first], scores[second], wins, losses, ties, log_nu)
    return Terms(terms, batch.group[first], total)


def plackett_luce_terms(_: Recipe, scores: Tensor, batch: Batch) -> Terms:
    """Take each person's whole order."""
    return _of_rankings(_rankings(batch), scores, plackett_luce_loss)


def margin_terms(recipe: Recipe, scores: Tensor, batch: Batch) -> Terms:
    """Take rankings of one size at a time, so that nothing is filled up."""
    by_size: dict[int, list[Ranking]] = {0: []}
    for ranking in _rankings(batch):
        by_size.setdefault(len(ranking.places), []).append(ranking)
    loss = functools.partial(margin_ranking_loss, margin=recipe.margin)
    terms = [_of_rankings(rankings, scores, loss) for _, rankings in sorted(by_size.items())]
    return Terms(*(torch.cat(column) for column in zip(*terms, strict=True)))


def best_of_group_terms(_: Recipe, scores: Tensor, batch: Batch) -> Terms:
    """Take the best image of each ranking; several best ones share the judgement."""
    chosen: list[Ranking] = []
    best: list[int] = []
    for ranking in _rankings(batch):
        tops = (ranking.ranks == ranking.ranks.min()).nonzero()[:, 0].tolist()
        best += tops
        chosen += [Ranking(ranking.group, ranking.places, ranking.ranks, ranking.votes / len(tops)) for _ in tops]
    tops_of = torch.tensor(best, dtype=torch.long)
    return _of_rankings(chosen, scores, lambda scores, sizes, _: best_of_group_loss(scores, sizes, tops_of))


def rating_terms(recipe: Recipe, scores: Tensor, batch: Batch) -> Terms:
    """Compare each image's score and rating, both measured from the mean of its group.

    The official loss compares them as they are. But no ranking depends on what all images of a prompt have in common,
    and it would be learned first: logits of CLIP begin at 20 to 30, ratings lie between 1 and 7. Without it the loss of
    equal scores is the variance of the ratings.
    """
    group, ratings = batch.group.to(scores.device), batch.ratings.to(scores)
    rated = ~ratings.isnan()
    count = torch.zeros(len(batch.examples), device=scores.device).index_add(0, group, rated.to(scores))
    kept = rated & (count[group] > 1)
    group = group[kept]

    def from_mean(values: Tensor) -> Tensor:
        total = torch.zeros_like(count).index_add(0, group, values)
        return values - (total / count)[group]

    wanted = recipe.rating_step * from_mean(ratings[kept])
    losses = rating_loss(from_mean(scores[kept]), wanted)
    return Terms(losses, group, torch.ones_like(losses))


_TERMS = {
    "pair": pair_terms,
    "soft-pair": pair_terms,
    "best-of-group": best_of_group_terms,
    "margin": margin_terms,
    "davidson": davidson_terms,
    "plackett-luce": plackett_luce_terms,
    "rating": rating_terms,
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """One order of at least two images of a group: their places in the batch, ranks, and how many people gave it."""

    group: int
    places: Tensor
    ranks: Tensor
    votes: float


def _rankings(batch: Batch) -> list[Ranking]:
    """List every judgement that compares something, with the images that it ranks."""
    found, start = [], 0
    for group, example in enumerate(batch.examples):
        for ranks, votes in zip(torch.from_numpy(example.ranks).float(), example.votes.tolist(), strict=True):
            ranked = (~ranks.isnan()).nonzero()[:, 0]
            if len(ranked) > 1:
                found.append(Ranking(group, start + ranked, ranks[ranked], votes))
        start += len(example.pixels)
    return found


def _of_rankings(
    rankings: Sequence[Ranking], scores: Tensor, loss: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Terms:
    """Take the loss of rankings by their scores, sizes and ranks."""
    places = torch.cat([torch.zeros(0, dtype=torch.long), *(ranking.places for ranking in rankings)])
    sizes = torch.tensor([len(ranking.places) for ranking in rankings], dtype=torch.long)
    ranks = torch.cat([torch.zeros(0, dtype=torch.float64), *(ranking.ranks for ranking in rankings)])
    losses = loss(scores[places.to(scores.device)], sizes, ranks.to(scores.device))
    group = torch.tensor([ranking.group for ranking in rankings], dtype=torch.long)
    return Terms(losses, group, torch.tensor([ranking.votes for ranking in rankings], dtype=torch.float32))
