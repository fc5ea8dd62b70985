"""How well people predict people: the ceilings that stand beside scorers, and the study of the people alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.errors import InputError
from hpskit.evaluation.judging import Settings, interval_of
from hpskit.evaluation.published import PUBLISHED
from hpskit.stats import Accuracy, annotator_agreement, leave_one_out_agreement

__all__ = ["CEILINGS", "GAP_BINS", "PEOPLE_RULES", "Ceiling", "ceilings", "judged", "places"]

GAP_BINS = 5
"""Parts of equal width into which quality gaps are put; more would have too few pairs at the far end."""
PEOPLE_RULES = ("ties-half", "hpdv2", "imagereward")
"""Rules that make sense for people, who give ranks and no scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceiling:
    """One way to ask how well people predict people."""

    key: str
    """In results."""
    name: str
    """In tables."""
    resampled: Literal["annotators", "leave-one-out", "inclusive"]
    """What `bootstrap_people` calls it."""
    published: str | None
    """The row of `PUBLISHED` that means the same."""

    def measure(self, votes: Sequence[NDArray[np.float64]], rule: str) -> Accuracy:
        """On groups that at least two people have judged."""
        if self.key == "annotator_vs_annotator":
            return annotator_agreement(votes, rule=rule)
        return leave_one_out_agreement(votes, inclusive=self.key == "inclusive", rule=rule)


CEILINGS = (
    Ceiling(
        key="annotator_vs_annotator",
        resampled="annotators",
        name="annotator vs annotator",
        published="single human, against another",
    ),
    Ceiling(
        key="leave_one_out",
        resampled="leave-one-out",
        name="annotator vs mean of the others",
        published=None,
    ),
    Ceiling(
        key="inclusive",
        resampled="inclusive",
        name="annotator vs mean of all, self included",
        published="single human, against the averaged ranking",
    ),
)


def judged(groups: Sequence[Group]) -> NDArray[np.bool_]:
    """(groups,): whether at least two judgements of the group are known."""
    return np.array([sum(j.votes for j in group.judgements) > 1 for group in groups], dtype=bool)


def places(group: Group) -> NDArray[np.float64]:
    """(judgements, images): `Group.ranks` with the gaps closed, so that no two of n images are n or more apart.

    The first of a judgement gets 1; ties share the better place; NaN was not ranked.
    """
    ranks = group.ranks()
    ahead = (ranks[:, None, :] < ranks[:, :, None]).sum(axis=2)
    return np.where(np.isnan(ranks), np.nan, 1 + ahead)


def ceilings(
    groups: Sequence[Group], clusters: NDArray[np.int64], settings: Settings, test_set: str | None
) -> list[dict[str, Any]]:
    """The rows of people: value, interval, rule, n and the published figure; empty if no judgements are known.

    The rule is that of the settings where it makes sense for people, else `ties-half`.
    """
    kept = judged(groups)
    if not kept.any():
        return []
    votes = [places(group) for group, keep in zip(groups, kept, strict=True) if keep]
    rule = settings.rule if settings.rule in PEOPLE_RULES else "ties-half"
    rows = []
    for ceiling in CEILINGS:
        try:
            accuracy = ceiling.measure(votes, rule)
        except InputError:  # no two people ranked the same pair, or all pairs are tied
            continue
        quoted = [row.on(test_set) for row in PUBLISHED if test_set and row.name == ceiling.published]
        rows.append(
            {
                "key": ceiling.key,
                "name": ceiling.name,
                "rule": rule,
                **interval_of(accuracy, clusters[kept], settings),
                "groups": int(accuracy.groups),
                "published": quoted[0] if quoted else None,
            }
        )
    return rows
