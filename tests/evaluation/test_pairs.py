"""Pairs: shares, votes, gaps; and what they are not made from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError
from hpskit.evaluation.breakdown import pair_up
from hpskit.stats.accuracy import pair_accuracy
from preference_data import groups


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


@settings(max_examples=25)
@given(st.lists(groups(), min_size=1, max_size=4))
def test_they_are_the_pairs_that_accuracy_counts(found: list[Group]) -> None:
    people = [group.verdicts() for group in found]
    scores = [np.arange(len(group.images), dtype=float) for group in found]
    try:
        counted = pair_accuracy(scores, people, "ties-half").weight
    except InputError:
        with pytest.raises(InputError, check=at("votes", found="no pair")):
            pair_up(found)
        return
    assert np.bincount(pair_up(found).group, minlength=len(found)).tolist() == counted.tolist()
