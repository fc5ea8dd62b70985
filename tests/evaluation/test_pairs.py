"""Pairs: shares, votes, gaps; and what they are not made from."""

from __future__ import annotations

from hpskit.dataset.group import Group, Judgement
from hpskit.evaluation.breakdown import pair_up


def group(*ranks: tuple[int | None, ...], votes: tuple[int, ...] = (), rank: tuple[int, ...] | None = None) -> Group:
    counts = votes or (1,) * len(ranks)
    judgements = tuple(Judgement(ranks=own, votes=n) for own, n in zip(ranks, counts, strict=True))
    images = tuple(f"{n}.png" for n in range(len(ranks[0] if ranks else rank or ())))
    return Group(place="here", prompt="p", images=images, judgements=judgements, rank=rank)


def test_a_published_order_says_which_pairs_there_are_and_judgements_their_votes() -> None:
    """Nobody compared the first image with the third; the published order has a word on it, taken as one vote."""
    one, other = group((2, 1, None), (None, 1, 3), (None, 1, 2), rank=(1, 2, 3)), group((1, 2), (2, 1), votes=(3, 1))
    pairs = pair_up([one, other, group(rank=(2, 1, 2))])
    assert list(zip(pairs.group, pairs.first, pairs.second, strict=True)) == [
        (0, 0, 1),
        (0, 0, 2),
        (0, 1, 2),
        (1, 0, 1),
        (2, 0, 1),
        (2, 0, 2),
        (2, 1, 2),
    ]
    assert pairs.share.tolist() == [0, 1, 1, 0.75, 0, 0.5, 1]
    assert pairs.votes.tolist() == [1, 1, 2, 4, 1, 1, 1]
    assert pairs.gap.tolist() == [1, 2, 1.5, 0.5, 1, 0, 1]
