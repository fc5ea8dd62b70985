"""Measures of the rankings of a project: agreement, strengths of generators, bias of position, what is disputed.

They are of a sample of tasks, drawn by the order in which tasks are shuffled, so that a project of any size is measured
in about a second; the page says how many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import Connection, func, select

from hpskit.annotation.quality import Judged, excluded, positions, read_votes
from hpskit.annotation.tables import image, task
from hpskit.dataset.group import mean_ranks
from hpskit.errors import InputError
from hpskit.stats.agreement import annotator_agreement, bootstrap_people, rank_agreement
from hpskit.stats.consensus import place_by_position, strengths_with_position
from hpskit.stats.intervals import Interval
from hpskit.stats.vigilance import taus_with_peers

_SAMPLED_VOTES = 3_000
_RESAMPLES = 200
_LISTED = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement of people on the images of a task."""

    corrected: Interval
    """0 is chance, 1 is perfect: mean tau-b of two rankings."""
    each_other: Interval
    """Share of pairs that two people order alike."""
    with_others: Interval
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
    strengths: list[tuple[str, Interval]]
    """Log-odds against the mean generator, the strongest first; the effect of the position is taken out."""
    position: Interval | None
    """Log-odds that standing one place later adds."""
    places: list[Interval]
    """Mean place, 0 for the best to 1, of what stood at each position of the page; without bias all are 0.5."""
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
    agreed, disputed, strong = None, list[tuple[int, str, float, int]](), list[tuple[str, Interval]]()
    shift, places = None, list[Interval]()
    shared = {number: group for number, group in groups.items() if number in several and len(group) > 1}
    drawn = {number: group for number, group in groups.items() if number in many}
    try:
        agreed, shares = agreement(list(shared.values()))
        rows = [(n, prompts[n], one, len(shared[n])) for n, one in zip(shared, shares, strict=True)]
        disputed = sorted((row for row in rows if row[2] < 1), key=lambda row: (row[2], -row[3], row[0]))[:_LISTED]
    except InputError:
        missing["agreement"] = "it needs two tasks that two people have ranked"
    try:
        strong, shift = strengths(drawn, sources)
    except InputError:
        missing["strengths"] = "it needs two tasks with images of generators that were compared with each other"
    try:
        places = list(place_by_position(*rankings(list(drawn.values())), resamples=_RESAMPLES))
    except InputError:
        missing["places"] = "it needs two rankings or more"
    return Measures(
        tasks=len(groups),
        of_tasks=of_tasks,
        agreement=agreed,
        strengths=strong,
        position=shift,
        places=places,
        disputed=disputed,
        missing=missing,
    )


def rankings(groups: Sequence[Sequence[Judged]]) -> tuple[list[ArrayLike], list[ArrayLike]]:
    """Return the ranks of each task, (votes, images), and the positions on the page of the same images."""
    votes: list[ArrayLike] = [np.stack([one.ranks for one in group]) for group in groups]
    return votes, [np.stack([positions(one.order) for one in group]) for group in groups]


def agreement(groups: Sequence[Sequence[Judged]]) -> tuple[Agreement, list[float]]:
    """Measure agreement, and for each group the share of pairs that two people order alike.

    Raises:
        InputError: fewer than two groups have something to compare.
    """
    votes, _ = rankings(groups)
    names = [[one.person for one in group] for group in groups]
    beyond = rank_agreement(votes, names, resamples=_RESAMPLES)
    tally = annotator_agreement(votes)
    shares = np.divide(tally.correct, tally.weight, out=np.ones_like(tally.correct), where=tally.weight > 0)
    whole = Agreement(
        corrected=beyond,
        each_other=bootstrap_people(votes, "annotator_vs_annotator", annotators=names, resamples=_RESAMPLES),
        with_others=bootstrap_people(votes, "leave_one_out", annotators=names, resamples=_RESAMPLES),
        tasks=len(groups),
        votes=sum(len(group) for group in groups),
    )
    return whole, shares.tolist()


def strengths(
    groups: dict[int, list[Judged]], sources: dict[int, list[str | None]]
) -> tuple[list[tuple[str, Interval]], Interval]:
    """Give each generator its strength, the strongest first, and the effect of the position on the page.

    Raises:
        InputError: fewer than two tasks name their generators, or some of these were never compared.
    """
    named = {number: names for number in groups if None not in (names := sources[number])}
    votes, orders = rankings([groups[number] for number in named])
    found = strengths_with_position(votes, list(named.values()), orders, resamples=_RESAMPLES)
    made = [
        (
            str(name),
            Interval(
                value=float(found.strength[row]),
                low=float(found.low[row]),
                high=float(found.high[row]),
                level=0.95,
                resamples=_RESAMPLES,
            ),
        )
        for row, name in enumerate(found.sources)
    ]
    return sorted(made, key=lambda one: -one[1].value), found.position


def mean_places(ranks: Sequence[Floats]) -> Floats:
    """Return the mean rank of each image, ties sharing the mean of their places; NaN where nobody ranked it."""
    from scipy.stats import rankdata

    return mean_ranks(rankdata(np.stack(ranks), axis=1, nan_policy="omit"))


def unlikeness(groups: Sequence[Sequence[Judged]]) -> list[float]:
    """Return the tau of each ranking of each task with the mean of the others, NaN where there is none."""
    votes, _ = rankings(groups)
    found: list[float] = taus_with_peers(votes, [[one.person for one in group] for group in groups]).tau.tolist()
    return found
