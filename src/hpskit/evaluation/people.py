"""How well people predict people: the ceilings that stand beside scorers, and the study of the people alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.errors import InputError
from hpskit.evaluation.judging import Settings, can_be_resampled, interval_of
from hpskit.evaluation.published import PUBLISHED
from hpskit.stats import (
    PEOPLE_RULES,
    Accuracy,
    Interval,
    annotator_agreement,
    bootstrap_people,
    bootstrap_scores,
    leave_one_out_agreement,
    pair_accuracy,
)

__all__ = ["CEILINGS", "GAP_BINS", "Ceiling", "ceilings", "judged", "places", "two_way_of_people", "two_way_of_scores"]

Floats = NDArray[np.float64]
Clusters = NDArray[np.int64]
"""(groups,): see `EvaluationSet.clusters`."""

GAP_BINS = 5
"""Parts of equal width into which quality gaps are put; more would have too few pairs at the far end."""
_TWO_WAY_RESAMPLES = 1_000
"""At most: one that draws people costs as much as measuring anew."""


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

    def measure(self, votes: Sequence[Floats], rule: str) -> Accuracy:
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


def _people_rule(settings: Settings) -> str:
    """The rule of the settings where it makes sense for people, who give ranks and no scores; else `ties-half`."""
    return settings.rule if settings.rule in PEOPLE_RULES else "ties-half"


def judged(groups: Sequence[Group]) -> NDArray[np.bool_]:
    """(groups,): whether at least two judgements of the group are known."""
    return np.array([sum(j.votes for j in group.judgements) > 1 for group in groups], dtype=bool)


def places(group: Group) -> Floats:
    """(judgements, images): `Group.ranks` with the gaps closed, so that no two of n images are n or more apart.

    The first of a judgement gets 1; ties share the better place; NaN was not ranked.
    """
    ranks = group.ranks()
    ahead = (ranks[:, None, :] < ranks[:, :, None]).sum(axis=2)
    return np.where(np.isnan(ranks), np.nan, 1 + ahead)


def ceilings(
    groups: Sequence[Group], clusters: Clusters, settings: Settings, test_set: str | None
) -> list[dict[str, Any]]:
    """The rows of people: value, interval, rule, n and the published figure; empty if no judgements are known."""
    kept = judged(groups)
    if not kept.any():
        return []
    votes = [places(group) for group, keep in zip(groups, kept, strict=True) if keep]
    rule = _people_rule(settings)
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


def two_way_of_people(
    ceiling: Ceiling, groups: Sequence[Group], clusters: Clusters, settings: Settings
) -> dict[str, Any]:
    """A ceiling with an interval over prompts and people, for groups that `judged` is true for.

    Raises:
        InputError: nothing can be compared; or persons are to be resampled and a judgement has no name.
    """
    votes, rule = [places(group) for group in groups], _people_rule(settings)

    def resample(**options: Any) -> Interval:
        return bootstrap_people(votes, ceiling.resampled, rule=rule, **options)

    measured = _two_way(resample, ceiling.measure(votes, rule), groups, clusters, settings)
    return {"key": ceiling.key, "rule": rule, **measured}


def two_way_of_scores(
    scores: Sequence[Floats], groups: Sequence[Group], clusters: Clusters, settings: Settings
) -> dict[str, Any] | None:
    """Accuracy of a scorer against the mean of the single judgements, with an interval over prompts and people; None
    if no group has two judgements, or the rule finds nothing to compare in those that have.

    Where a data set publishes no order of its own, and under the rules for people, the value is the accuracy itself.

    Raises:
        InputError: persons are to be resampled and a judgement has no name.
    """
    kept = np.flatnonzero(judged(groups)).tolist()
    if not kept:
        return None
    own, panels = [scores[number] for number in kept], [groups[number] for number in kept]
    votes, rule = [group.ranks() for group in panels], _people_rule(settings)
    try:
        accuracy = pair_accuracy(own, votes, rule)
    except InputError:  # scores and votes are sound: all is tied
        return None

    def resample(**options: Any) -> Interval:
        return bootstrap_scores(own, votes, rule=rule, **options)

    return {"rule": rule, **_two_way(resample, accuracy, panels, clusters[kept], settings)}


def _two_way(
    resample: Callable[..., Interval],
    accuracy: Accuracy,
    groups: Sequence[Group],
    clusters: Clusters,
    settings: Settings,
) -> dict[str, Any]:
    """Value and interval, ready for JSON; one prompt has no interval (None)."""
    names = _names(groups) if settings.persons else None
    if not can_be_resampled(accuracy.weight > 0, clusters):
        return {"value": accuracy.value, "low": None, "high": None, "groups": accuracy.groups, "resamples": 0}
    found = resample(
        annotators=names,
        clusters=clusters,
        resamples=min(settings.resamples, _TWO_WAY_RESAMPLES),
        level=settings.level,
        seed=settings.seed,
    )
    ends = {"low": found.low, "high": found.high}
    return {"value": found.value, **ends, "groups": accuracy.groups, "resamples": found.resamples}


def _names(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """(annotators,) for each group, in the order of `Group.ranks`."""
    result = []
    for group in groups:
        own = [judgement.annotator for judgement in group.judgements for _ in range(judgement.votes)]
        named = tuple(name for name in own if name is not None)
        if len(set(named)) != len(own):
            expected = "expected a name for each judgement, all different"
            cure = "leave --persons out; judgements are then resampled within each group"
            raise InputError(f"{group.place}: annotators are {own}, {expected}; {cure}")
        result.append(named)
    return result
