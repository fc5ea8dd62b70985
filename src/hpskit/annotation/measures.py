"""Measures of the rankings of a project: agreement, strengths of generators, bias of position, what is disputed.

They are of a sample of tasks, drawn by the order in which tasks are shuffled, so that a project of any size is measured
in about a second; the page says how many.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import Connection, func, select

from hpskit.annotation.quality import Judged, excluded, read_votes
from hpskit.annotation.tables import image, task
from hpskit.errors import InputError
from hpskit.stats.agreement import annotator_agreement, bootstrap_people
from hpskit.stats.strengths import bradley_terry_interval
from hpskit.stats.vigilance import tau_with_reference

__all__ = ["Agreement", "Figure", "Measures", "mean_ranks", "measures", "midranks", "sampled", "unlikeness"]

_SAMPLED_VOTES = 4_000
_RESAMPLES = 200
_LISTED = 10
_POSITIONS_FROM = 10
"""Complete rankings from which a bias of position can be told."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far people agree on the images of a task."""

    corrected: Figure
    """0 is chance, 1 is perfect: mean tau of two rankings, in which a tie is half a pair."""
    each_other: Figure
    """Share of pairs that two people order alike."""
    with_others: Figure
    """Share of pairs that one person orders as the mean of the others: the ceiling of a scorer."""
    tasks: int
    votes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Measures of rankings; what cannot be had yet is missing, and `missing` says why."""

    tasks: int
    """Tasks that were measured."""
    of_tasks: int
    """Tasks that have a vote."""
    agreement: Agreement | None
    strengths: list[tuple[str, Figure]]
    """Log-odds against the mean generator, the strongest first."""
    positions: list[Figure]
    """Mean rank of what stood at each position of the page, for tasks of `images`; without bias all are the same."""
    images: int
    disputed: list[tuple[int, str, float, int]]
    """Tasks with most disagreement: number, prompt, share of pairs that two people order alike, votes."""
    missing: dict[str, str]


def measures(connection: Connection) -> Measures:
    """Measure the rankings of a project; those of people who are left out are no part of it."""
    many, several, of_tasks = sampled(connection)
    hidden = excluded(connection)
    judged = read_votes(connection, tasks=sorted(many | several))
    used = [one for one in judged if one.round == 0 and one.person not in hidden]
    sources, prompts = about(connection, {one.task for one in used})
    return measure(used, many, several, sources, prompts, of_tasks)


def sampled(connection: Connection) -> tuple[set[int], set[int], int]:
    """Draw tasks that have a vote, and tasks that have two or more; also tell how many have one."""
    query = select(task.c.id, task.c.done).where(task.c.kind == "work").order_by(task.c.shuffle).limit(_SAMPLED_VOTES)
    found = []
    for least in (1, 2):
        drawn, votes = set(), 0
        for row in connection.execute(query.where(task.c.done >= least)).all():
            if votes + row.done > _SAMPLED_VOTES:
                break
            drawn.add(int(row.id))
            votes += row.done
        found.append(drawn)
    total = select(func.count()).where(task.c.kind == "work", task.c.done >= 1)
    return found[0], found[1], int(connection.execute(total).scalar_one())


def about(connection: Connection, tasks: set[int]) -> tuple[dict[int, list[str | None]], dict[int, str]]:
    """Read the generators of the images of each task, by place, and its prompt."""
    rows: list[Any] = []
    numbers, names = sorted(tasks), dict[int, str | None]()
    for start in range(0, len(numbers), 500):
        part = task.c.id.in_(numbers[start : start + 500])
        rows += connection.execute(select(task.c.id, task.c.prompt, task.c.images).where(part)).all()
    images = sorted({number for row in rows for number in row.images})
    for start in range(0, len(images), 500):
        query = select(image.c.id, image.c.source).where(image.c.id.in_(images[start : start + 500]))
        names |= {row.id: row.source for row in connection.execute(query).all()}
    return {row.id: [names[number] for number in row.images] for row in rows}, {row.id: row.prompt for row in rows}


def measure(
    judged: Sequence[Judged],
    many: set[int],
    several: set[int],
    sources: dict[int, list[str | None]],
    prompts: dict[int, str],
    of_tasks: int,
) -> Measures:
    """Measure rankings; `several` are the tasks for agreement, `many` those for everything else."""
    groups: dict[int, list[Judged]] = defaultdict(list)
    for one in judged:
        groups[one.task].append(one)
    missing = {}
    agreed, disputed, strong = None, list[tuple[int, str, float, int]](), list[tuple[str, Figure]]()
    with_several = {number: group for number, group in groups.items() if number in several and len(group) > 1}
    try:
        agreed, shares = agreement(list(with_several.values()))
        rows = [(n, prompts[n], one, len(with_several[n])) for n, one in zip(with_several, shares, strict=True)]
        disputed = sorted((row for row in rows if row[2] < 1), key=lambda row: (row[2], -row[3], row[0]))[:_LISTED]
    except InputError:
        missing["agreement"] = "it needs two tasks that two people have ranked"
    try:
        strong = strengths({number: group for number, group in groups.items() if number in many}, sources)
    except InputError:
        missing["strengths"] = "it needs images of two generators or more that were compared with each other"
    shown, images = by_position([one for one in judged if one.task in many])
    if not shown:
        missing["positions"] = "it needs ten complete rankings"
    return Measures(
        tasks=len(groups),
        of_tasks=of_tasks,
        agreement=agreed,
        strengths=strong,
        positions=shown,
        images=images,
        disputed=disputed,
        missing=missing,
    )


def agreement(groups: Sequence[Sequence[Judged]]) -> tuple[Agreement, list[float]]:
    """Measure agreement, and for each group the share of pairs that two people order alike.

    Under the rule that a tie is half a pair chance gives one half, so that 2 x share - 1 is corrected for chance.

    Raises:
        InputError: fewer than two groups have something to compare.
    """
    votes: list[ArrayLike] = [np.stack([one.ranks for one in group]) for group in groups]
    names = [[one.person for one in group] for group in groups]
    found = {}
    for name in ("annotator_vs_annotator", "leave_one_out"):
        made = bootstrap_people(votes, name, annotators=names, resamples=_RESAMPLES)
        found[name] = Figure(value=made.value, low=made.low, high=made.high)
    each = found["annotator_vs_annotator"]
    tally = annotator_agreement(votes)
    shares = np.divide(tally.correct, tally.weight, out=np.ones_like(tally.correct), where=tally.weight > 0)
    whole = Agreement(
        corrected=Figure(value=2 * each.value - 1, low=2 * each.low - 1, high=2 * each.high - 1),
        each_other=each,
        with_others=found["leave_one_out"],
        tasks=len(groups),
        votes=sum(len(group) for group in groups),
    )
    return whole, shares.tolist()


def strengths(groups: dict[int, list[Judged]], sources: dict[int, list[str | None]]) -> list[tuple[str, Figure]]:
    """Give each generator its strength: of every two with images for a prompt, the better mean rank wins.

    Raises:
        InputError: fewer than two generators are named, or some were never compared.
    """
    names = sorted({name for number in groups for name in sources[number] if name is not None})
    if len(names) < 2:
        raise InputError("generators", f"are {len(names)}", expected="at least 2")
    place = {name: row for row, name in enumerate(names)}
    scores = np.full((len(names), len(groups)), np.nan)
    for column, (number, group) in enumerate(groups.items()):
        means = mean_ranks([one.ranks for one in group])
        own: dict[str, list[float]] = defaultdict(list)
        for name, value in zip(sources[number], means.tolist(), strict=True):
            if name is not None and not np.isnan(value):
                own[name].append(value)
        for name, values in own.items():
            scores[place[name], column] = -float(np.mean(values))
    value, low, high = bradley_terry_interval(scores, resamples=_RESAMPLES)
    found = [
        (name, Figure(value=float(value[row]), low=float(low[row]), high=float(high[row])))
        for row, name in enumerate(names)
    ]
    return sorted(found, key=lambda one: -one[1].value)


def by_position(judged: Sequence[Judged]) -> tuple[list[Figure], int]:
    """Average the rank of what stood at each position, for the most frequent number of images; also return that."""
    sizes = Counter(len(one.ranks) for one in judged if not np.isnan(one.ranks).any())
    images = max(sizes, key=lambda size: (sizes[size], size), default=0)
    if sizes[images] < _POSITIONS_FROM:
        return [], images
    kept = [one for one in judged if len(one.ranks) == images and not np.isnan(one.ranks).any()]
    ranks = np.stack([midranks(one.ranks)[list(one.order)] for one in kept])
    spread = 1.96 * ranks.std(axis=0, ddof=1) / np.sqrt(len(ranks))
    means = ranks.mean(axis=0)
    return [
        Figure(value=float(m), low=float(m - s), high=float(m + s)) for m, s in zip(means, spread, strict=True)
    ], images


def midranks(ranks: Floats) -> Floats:
    """Return ranks in which images that tie share the mean of their places; NaN stays."""
    below = (ranks[:, None] > ranks[None, :]).sum(axis=1)
    same = (ranks[:, None] == ranks[None, :]).sum(axis=1)
    return np.where(np.isnan(ranks), np.nan, below + (same + 1) / 2)


def mean_ranks(ranks: Sequence[Floats]) -> Floats:
    """Return the mean rank of each image; NaN where nobody ranked it."""
    table = np.stack([midranks(one) for one in ranks])
    seen = (~np.isnan(table)).sum(axis=0)
    means: Floats = np.divide(np.nansum(table, axis=0), seen, out=np.full(table.shape[1], np.nan), where=seen > 0)
    return means


def unlikeness(group: Sequence[Judged]) -> list[float]:
    """Return the tau of each ranking of a task with the mean of the others, NaN where there is none."""
    return [tau_with_reference(own.ranks, [one.ranks for one in group if one.person != own.person]) for own in group]
