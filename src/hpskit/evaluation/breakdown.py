"""Accuracy by parts of the data, and the pairs on which a scorer and the people disagree most.

Parts are by how close the images are, how far people agree, generators, styles, and length of the prompt.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet
from hpskit.errors import InputError
from hpskit.evaluation.judging import GAP_BINS, Intervals, judged_twice, places
from hpskit.pixels import open_image, thumbnail
from hpskit.stats.accuracy import Accuracy, pair_outcomes
from hpskit.stats.agreement import agreement_by_gap
from hpskit.stats.blocks import Floats, Index
from hpskit.stats.calibration import PairVotes, pair_votes
from hpskit.stats.rules import PairRule

_GAPS = 8
_SHARES = (50, 60, 70, 80, 90, 100)
_LENGTHS = (1, 6, 11, 21, 41)
"""Where the parts begin."""
_FEWEST_VOTES = 3
"""Votes that the share of the majority needs to mean something."""
_FEWEST_PROMPTS = 5
"""Prompts that an interval needs to mean something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Split:
    """One way to cut the pairs into parts."""

    name: str
    title: str
    unit: str
    labels: Sequence[str]
    part: NDArray[np.int64]
    """(pairs,): number of the label that a pair belongs to, or -1 for none."""


def pair_up(groups: Sequence[Group]) -> PairVotes:
    """List the pairs that accuracy counts, in the same order, with the votes of the single judgements.

    Where a data set publishes an order, that decides which pairs there are. It is taken as one vote for pairs that no
    single judgement compares.

    Raises:
        InputError: nobody compared anything.
    """
    pairs = pair_votes([group.verdicts() for group in groups])
    rankings = (own.ranks for group in groups if group.rank is not None for own in group.judgements)
    if not any(sum(rank is not None for rank in ranks) > 1 for ranks in rankings):
        return pairs
    judged = pair_votes([group.ranks() for group in groups])
    images = max(len(group.images) for group in groups)

    def keys(pairs: PairVotes) -> Index:
        return (pairs.group * images + pairs.first) * images + pairs.second

    place = np.searchsorted(keys(pairs), keys(judged))
    own = {name: getattr(pairs, name).copy() for name in ("share", "votes", "gap")}
    for name, values in own.items():
        values[place] = getattr(judged, name)
    return replace(pairs, **own)


def breakdowns(
    pairs: PairVotes, groups: Sequence[Group], scores: Mapping[str, Sequence[Floats]], intervals: Intervals
) -> list[dict[str, Any]]:
    """Measure the accuracy of every scorer in every part, with n and interval; a split has at least two parts.

    Each pair counts once, judged by the rule of the settings; `top-1` judges no pairs, `ties-half` stands in for it.
    `scores` are (images,) for each group by the label of the scorer, log-odds if the rule has a tie threshold.
    """
    result = [found] if (found := _by_gap_of_others(groups, scores, intervals)) else []
    rule = intervals.settings.rules()[intervals.settings.rule]
    if not isinstance(rule, PairRule):
        rule = intervals.settings.rules()["ties-half"]
    people = [group.verdicts() for group in groups]
    outcomes = {label: pair_outcomes(own, people, rule) for label, own in scores.items()}
    for split in _splits(pairs, groups):
        if split.name == "gap" and result:  # the same, seen by all
            continue
        parts = []
        for number, label in enumerate(split.labels):
            inside = split.part == number
            if not inside.any():
                continue
            by_scorer = {
                name: _measured(own.accuracy(inside), intervals) if (own.counted & inside).any() else None
                for name, own in outcomes.items()
            }
            prompts = len(np.unique(intervals.clusters[pairs.group[inside]]))
            counts = {"label": label, "pairs": int(inside.sum()), "prompts": prompts}
            parts.append({**counts, "people": None, "scorers": by_scorer})
        if len(parts) > 1:
            head = {"name": split.name, "title": split.title, "unit": split.unit, "counts": "pairs", "rule": rule.name}
            result.append({**head, "parts": parts})
    return result


def disagreements(
    pairs: PairVotes, groups: Sequence[Group], scores: Sequence[Floats], *, count: int = 6
) -> list[dict[str, Any]]:
    """List the pairs with the largest product of the people's majority and the scorer's difference the other way.

    The worst come first, one for each prompt; the order does not depend on the scale of the scores, (images,) for each
    group.
    """
    conflict = -(2 * pairs.share - 1) * pairs.differences(scores)
    cases: dict[str, dict[str, Any]] = {}
    for pair in np.argsort(-conflict, kind="stable"):
        group, own = groups[pairs.group[pair]], scores[pairs.group[pair]]
        if conflict[pair] <= 0 or len(cases) == count:
            break
        if group.prompt in cases:
            continue
        liked, scored, share = int(pairs.first[pair]), int(pairs.second[pair]), float(pairs.share[pair])
        if share < 0.5:
            liked, scored, share = scored, liked, 1 - share
        cases[group.prompt] = {
            "place": group.place,
            "prompt": group.prompt,
            "people_image": group.images[liked],
            "people_share": share,
            "people_score": float(own[liked]),
            "scorer_image": group.images[scored],
            "scorer_score": float(own[scored]),
        }
    return list(cases.values())


def thumbnails(data: DataSet, wanted: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Make small pictures, (place of the group, image) -> `data:` address; the data set is read once more.

    `wanted` has the SHA-256 of the bytes that were scored. A picture is left out if the file is another one by now, or
    lies outside of the data set's own folder and is not allowed to be shown.
    """
    found: dict[tuple[str, str], str] = {}
    places = {place for place, _ in wanted}
    for group in data:
        if group.place in places:
            for name in group.images:
                with contextlib.suppress(InputError):
                    if (group.place, name) in wanted:
                        image = data.own_image(group, name)
                        if image.sha256 == wanted[group.place, name]:
                            found[group.place, name] = thumbnail(open_image(image))
            places.discard(group.place)
        if not places:
            break
    return found


def _by_gap_of_others(
    groups: Sequence[Group], scores: Mapping[str, Sequence[Floats]], intervals: Intervals
) -> dict[str, Any] | None:
    """Compare one annotator and every scorer with the mean of the other annotators, by the gap that those see.

    None if no group is judged by two, or the others tie everything.
    """
    kept, over = judged_twice(groups, intervals)
    if not kept:
        return None
    votes = [places(groups[number]) for number in kept]
    try:
        by_scorer = {
            label: agreement_by_gap(votes, scores=[own[number] for number in kept], bins=GAP_BINS)
            for label, own in scores.items()
        }
    except InputError:  # the votes are places, so there is only one thing to be wrong: the others tie every pair
        return None
    parts = []
    for bins in zip(*by_scorer.values(), strict=True):
        people = bins[0].people
        parts.append(
            {
                "label": f"{100 * bins[0].low:.0f}-{100 * bins[0].high:.0f}",
                "pairs": people.pairs,
                "prompts": over.prompts(people.weight > 0),
                "people": _measured(people, over),
                "scorers": {
                    label: _measured(own.scores, over) for label, own in zip(by_scorer, bins, strict=True) if own.scores
                },
            }
        )
    unit = "gap between mean ranks, % of the largest possible"
    head = {"name": "gap", "title": "By quality gap", "unit": unit, "counts": "comparisons", "rule": "ties-half"}
    return {**head, "parts": parts}


def _measured(accuracy: Accuracy, intervals: Intervals) -> dict[str, Any]:
    """Value and interval; no interval where a handful of prompts would give one that means nothing."""
    if intervals.prompts(accuracy.weight > 0) < _FEWEST_PROMPTS:
        return {"value": accuracy.value, "low": None, "high": None}
    return intervals.accuracy(accuracy)


def _splits(pairs: PairVotes, groups: Sequence[Group]) -> Iterator[_Split]:
    yield _Split(
        name="gap",
        title="By quality gap",
        unit="difference of mean ranks",
        labels=[*(f"{n}-{n + 1}" for n in range(_GAPS - 1)), f"≥ {_GAPS - 1}"],
        part=np.minimum(pairs.gap.astype(np.int64), _GAPS - 1),
    )
    majority = np.maximum(pairs.share, 1 - pairs.share)
    part = np.digitize(100 * majority + 1e-7, _SHARES[:-1]) - 1
    part[pairs.votes < _FEWEST_VOTES] = -1
    labels = [f"{low}-{high}" for low, high in itertools.pairwise(_SHARES)]
    unit = "votes for the preferred image, %"
    yield _Split(name="consensus", title="By agreement of the people", unit=unit, labels=labels, part=part)

    words = np.array([len(group.prompt.split()) for group in groups])[pairs.group]
    labels = [*(f"{low}-{high - 1}" for low, high in itertools.pairwise(_LENGTHS)), f"≥ {_LENGTHS[-1]}"]
    part = np.digitize(words, _LENGTHS) - 1
    yield _Split(name="length", title="By length of the prompt", unit="words", labels=labels, part=part)

    styles = [groups[number].category for number in pairs.group.tolist()]
    yield _Split(name="category", title="By style", unit="style", **_by_name(styles))
    rows = zip(pairs.group.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True)
    both = [" / ".join(sorted((own[i], own[j]))) if (own := groups[g].sources) else None for g, i, j in rows]
    yield _Split(name="sources", title="By pair of generators", unit="generators", **_by_name(both))


def _by_name(names: Sequence[str | None]) -> dict[str, Any]:
    """Labels and parts of pairs that have a name; None is in no part."""
    labels = sorted({name for name in names if name is not None})
    number: dict[str | None, int] = {name: n for n, name in enumerate(labels)}
    return {"labels": labels, "part": np.array([number.get(name, -1) for name in names])}
