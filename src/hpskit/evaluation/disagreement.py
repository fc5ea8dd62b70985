"""The pairs on which a scorer and the people disagree most, and small pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.pixels import thumbnail
from hpskit.stats import PairVotes

__all__ = ["disagreements", "thumbnails"]


def disagreements(
    pairs: PairVotes, groups: Sequence[Group], scores: Sequence[NDArray[np.float64]], *, count: int = 6
) -> list[dict[str, Any]]:
    """The pairs with the largest product of the people's majority and the scorer's difference the other way.

    Args:
        pairs: of `groups`.
        groups: in order.
        scores: (images,) for each group.
        count: how many pairs at most; one for each prompt, so that no prompt fills the list.

    Returns:
        Place, prompt, and for the people's and the scorer's choice the image and its score; worst first. The order
        does not depend on the scale of the scores.
    """
    differences = pairs.differences(scores)
    conflict = -(2 * pairs.share - 1) * differences
    cases: list[dict[str, Any]] = []
    prompts: set[str] = set()
    for p in np.argsort(-conflict, kind="stable"):
        group = groups[pairs.group[p]]
        if conflict[p] <= 0 or len(cases) == count:
            break
        if group.prompt not in prompts:
            prompts.add(group.prompt)
            cases.append(_case(pairs, int(p), group, scores))
    return cases


def _case(pairs: PairVotes, p: int, group: Group, scores: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    own = scores[pairs.group[p]]
    liked, scored = int(pairs.first[p]), int(pairs.second[p])
    share = float(pairs.share[p])
    if share < 0.5:
        liked, scored, share = scored, liked, 1 - share
    return {
        "place": group.place,
        "prompt": group.prompt,
        "people_image": group.images[liked],
        "people_share": share,
        "people_score": float(own[liked]),
        "scorer_image": group.images[scored],
        "scorer_score": float(own[scored]),
    }


def thumbnails(data: DataSet, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(place of the group, image) -> `data:` address of a small JPEG. The data set is read once more."""
    found: dict[tuple[str, str], str] = {}
    places = {place for place, _ in wanted}
    for group in data:
        if group.place in places:
            for name in group.images:
                if (group.place, name) in wanted:
                    found[group.place, name] = thumbnail(data.image(group, name))
            places.discard(group.place)
        if not places:
            break
    return found
