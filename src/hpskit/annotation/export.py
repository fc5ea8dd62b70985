"""Export a project: a preference data set, every vote as it was given, and what was counted, excluded and why.

OUT/rankings.jsonl, test.json and train.json, data.parquet or labelstudio.json    the data set, in the wanted layout
OUT/images/ (or test/ and train/)    its images
OUT/README.md                 the card: counts, agreement, exclusions, limits
OUT/about/votes.jsonl         every vote: pseudonym, order shown, ranks, times, kind, and why it does not count if so
OUT/about/aggregates.jsonl    each task's plain and reliability-weighted mean ranks
OUT/about/annotators.jsonl    each pseudonym's reliability, weight and state
OUT/about/generators.json     strengths of generators, with a term for the position on the page
"""

from __future__ import annotations

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from hpskit import __version__
from hpskit.annotation.project import Project
from hpskit.annotation.quality import EXCLUDED, positions
from hpskit.annotation.store import Store
from hpskit.annotation.tables import assignment, image, person, task, vote
from hpskit.dataset.convert import write_rows
from hpskit.dataset.formats.hpd import test_rows, train_rows
from hpskit.dataset.formats.labelstudio import task_rows
from hpskit.dataset.formats.ours import RankingRows
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group, Judgement, mean_ranks
from hpskit.errors import InputError
from hpskit.files import json_text, publish_folder
from hpskit.pages.page import environment
from hpskit.stats.agreement import rank_agreement
from hpskit.stats.consensus import WeightedRanks, reliability_weighted, strengths_with_position

Aggregate: TypeAlias = Literal["weighted", "mean"]
SIMULATED = "simulated"
"""The panel of people who are none; see `hpskit.annotation.simulate`."""
TARGETS = ("rankings", "hpdv2", "parquet", "labelstudio")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task and its images."""

    id: int
    name: str
    kind: str
    split: str
    prompt: str
    category: str | None
    images: tuple[str, ...]
    """Names, as exports have them, by place."""
    files: tuple[str, ...]
    sources: tuple[str, ...] | None
    wanted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """A vote, and why it does not count, if it does not."""

    id: str
    task: int
    annotator: str
    round: int
    ranks: tuple[int | None, ...]
    none: bool
    ratings: list[int | None] | None
    flags: Mapping[str, list[str]]
    shown: tuple[int, ...]
    """shown[position on the page] = place of the image in the task."""
    revision: int
    first_at: float
    stored_at: float
    active_seconds: float
    excluded: str
    """Empty, or why this vote is not in the data set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """Sizes of an export."""

    tasks: int
    votes: int
    """Votes in the data set."""
    wanted: int
    """Votes that the project wants."""
    excluded: Mapping[str, int]
    """Reason -> votes that are not in the data set."""
    images: int
    lost: Mapping[str, int]
    """What the layout has no place for -> groups that have it; all of it is in votes.jsonl."""


def export(
    project: Project, store: Store, to: str, out: Path, *, aggregate: Aggregate = "weighted", keep_paused: bool = False
) -> Exported:
    """Write a project's data set; it appears whole or not at all.

    Args:
        project: the project.
        store: its database.
        to: `rankings`, `hpdv2`, `parquet` or `labelstudio`.
        out: a new folder.
        aggregate: what the published order of a task is: the reliability-weighted mean rank, or the plain mean rank,
            which is the paper's.
        keep_paused: count votes of people who are paused or rejected; the weighted mean does without most of them.

    Raises:
        InputError: the layout is unknown, or there is no vote yet.
        OutputError: something stands there, or it cannot be written.
    """
    if to not in TARGETS:
        raise InputError("--to", f"is {to!r}", expected=f"one of {', '.join(TARGETS)}")
    with store.read() as connection:
        tasks = read_tasks(connection)
        votes = read_votes(connection, tasks, keep_paused=keep_paused)
        people = connection.execute(select(person)).all()
    counted: dict[int, list[Vote]] = defaultdict(list)
    for one in votes:
        if not one.excluded:
            counted[one.task].append(one)
    if not counted:
        raise InputError(project.folder, "has no vote that counts", expected="some rankings", cure="collect some first")
    weighted = weigh(counted)
    lost: Counter[str] = Counter()
    with publish_folder(out) as folder:
        means = weighted.scores if aggregate == "weighted" else [plain_means(counted[n]) for n in sorted(counted)]
        groups = [
            group_of(tasks[n], counted[n], mean, ties=to != "hpdv2")
            for n, mean in zip(sorted(counted), means, strict=True)
        ]
        write_data(project, to, folder, groups, [tasks[number] for number in sorted(counted)], lost)
        about = folder / "about"
        about.mkdir()
        write_rows((vote_row(one, tasks[one.task]) for one in votes), about / "votes.jsonl")
        write_rows(aggregate_rows(tasks, counted, weighted), about / "aggregates.jsonl")
        write_rows(people_rows(people, votes, weighted), about / "annotators.jsonl")
        (about / "generators.json").write_text(json_text(strengths(tasks, counted)), encoding="utf-8")
        simulated = {row.pseudonym for row in people if row.panel == SIMULATED}
        card = card_text(project, to, tasks, votes, counted, aggregate, simulated)
        (folder / "README.md").write_text(card, encoding="utf-8")
    names = {name for number in counted for name in tasks[number].images}
    return Exported(
        tasks=len(counted),
        votes=sum(len(own) for own in counted.values()),
        wanted=sum(one.wanted for one in tasks.values() if one.kind == "work"),
        excluded=dict(Counter(one.excluded for one in votes if one.excluded)),
        images=len(names),
        lost=dict(lost),
    )


def read_tasks(connection: Connection) -> dict[int, Task]:
    """Read all tasks with the names of their images."""
    images = {row.id: row for row in connection.execute(select(image)).all()}
    found = {}
    for row in connection.execute(select(task).order_by(task.c.id)).all():
        own = [images[number] for number in row.images]
        sources = tuple(one.source for one in own)
        found[row.id] = Task(
            id=row.id,
            name=row.name,
            kind=row.kind,
            split=row.split,
            prompt=row.prompt,
            category=row.category,
            images=tuple(exported_name(one.name, one.file) for one in own),
            files=tuple(one.file for one in own),
            sources=None if None in sources else sources,
            wanted=row.wanted,
        )
    return found


def exported_name(name: str, file: str) -> str:
    """Return the name of an image with the ending of the format that people saw it in."""
    ending = Path(file).suffix
    same = {".jpeg": ".jpg"}.get(Path(name).suffix.lower(), Path(name).suffix.lower()) == ending
    return name if same else f"{name}{ending}"


def read_votes(connection: Connection, tasks: Mapping[int, Task], *, keep_paused: bool = False) -> list[Vote]:
    """Read every vote, and decide which are in the data set: those of work, first round, of people in good standing."""
    query = (
        select(
            vote, assignment.c.order, person.c.pseudonym, person.c.state.label("standing"), person.c.reason.label("why")
        )
        .join(assignment, assignment.c.id == vote.c.assignment)
        .join(person, person.c.id == vote.c.person)
        .order_by(vote.c.task, vote.c.first_at, vote.c.id)
    )
    found = []
    for row in connection.execute(query).all():
        excluded = ""
        if row.state != "counted":
            excluded = f"{row.state}: {row.reason}" if row.reason else row.state
        elif tasks[row.task].kind != "work":
            excluded = {"gold": "hidden check", "practice": "qualification"}[tasks[row.task].kind]
        elif row.round:
            excluded = "hidden repeat"
        elif not keep_paused and row.standing in EXCLUDED[:2] and not row.why.startswith("panel:"):
            excluded = f"annotator {row.standing}: {row.why}" if row.why else f"annotator {row.standing}"
        elif sum(rank is not None for rank in row.ranks) < 2:
            excluded = "none is acceptable, and no ranking"
        found.append(
            Vote(
                id=row.id,
                task=row.task,
                annotator=row.pseudonym,
                round=row.round,
                ranks=tuple(row.ranks),
                none=row.none,
                ratings=row.ratings,
                flags=row.flags,
                shown=tuple(row.order),
                revision=row.revision,
                first_at=row.first_at,
                stored_at=row.stored_at,
                active_seconds=row.active_seconds,
                excluded=excluded,
            )
        )
    return found


def array(votes: Sequence[Vote]) -> NDArray[np.float64]:
    """Return (votes, images): ranks, NaN for an image that was not ranked."""
    return np.array([one.ranks for one in votes], dtype=np.float64)


def weigh(counted: Mapping[int, Sequence[Vote]]) -> WeightedRanks:
    """Weigh everybody by their agreement with the others, over all tasks in the order of their numbers."""
    numbers = sorted(counted)
    people = [[one.annotator for one in counted[number]] for number in numbers]
    return reliability_weighted([array(counted[number]) for number in numbers], people)


def plain_means(votes: Sequence[Vote]) -> NDArray[np.float64]:
    """Return the mean rank of each image, over those who ranked it; NaN if nobody did."""
    return mean_ranks(array(votes))


def order_of(mean: NDArray[np.float64], *, ties: bool) -> tuple[int, ...] | None:
    """Turn mean ranks into ranks from 1; None if an image has no mean.

    Equal means share the better rank. Without `ties` the image that stands first gets it: HPD v2's own file does so.
    """
    if np.isnan(mean).any():
        return None
    rounded = np.round(mean, 9)
    if ties:
        return tuple(int(1 + (rounded < one).sum()) for one in rounded)
    return tuple((1 + rounded.argsort(kind="stable").argsort()).tolist())


def group_of(one: Task, votes: Sequence[Vote], mean: NDArray[np.float64], *, ties: bool) -> Group:
    """Make the group of a task; its published order is that of these mean ranks, if every image has one."""
    judgements = tuple(Judgement(ranks=vote.ranks, annotator=vote.annotator) for vote in votes)
    return Group(
        place=one.name,
        id=one.name,
        prompt=one.prompt,
        images=one.images,
        sources=one.sources,
        category=one.category,
        judgements=judgements,
        rank=order_of(mean, ties=ties) if one.split == "test" else None,
    )


def write_data(
    project: Project, to: str, folder: Path, groups: Sequence[Group], tasks: Sequence[Task], lost: Counter[str]
) -> None:
    """Write groups in the wanted layout, with their images."""

    def lose(what: str) -> None:
        lost[what] += 1

    if to == "parquet":
        with ParquetWriter(folder / "data.parquet") as writer:
            for group, one in zip(groups, tasks, strict=True):
                embedded = {
                    name: (project.images / file).read_bytes() for name, file in zip(one.images, one.files, strict=True)
                }
                writer.write(replace(group, embedded=embedded))
        return
    if to == "hpdv2":
        for split, rows in (("test", test_rows), ("train", train_rows)):
            own = [(group, one) for group, one in zip(groups, tasks, strict=True) if one.split == split]
            if own:
                write_rows((row for group, _ in own for row in rows(group, lose)), folder / f"{split}.json")
                copy_images(project, [one for _, one in own], folder / split)
        return
    rows_of, name = (RankingRows(), "rankings.jsonl") if to == "rankings" else (task_rows, "labelstudio.json")
    write_rows((row for group in groups for row in rows_of(group, lose)), folder / name)
    copy_images(project, tasks, folder / "images")


def copy_images(project: Project, tasks: Sequence[Task], folder: Path) -> None:
    """Copy the images of tasks under their names."""
    for one in tasks:
        for name, file in zip(one.images, one.files, strict=True):
            target = folder / name
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise InputError(f"{one.name}: image {name!r}", "would lie outside the new folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project.images / file, target)


def vote_row(one: Vote, of: Task) -> dict[str, Any]:
    """Return a vote as a row for people."""
    return {
        "vote": one.id,
        "group": of.name,
        "kind": of.kind,
        "split": of.split,
        "annotator": one.annotator,
        "prompt": of.prompt,
        "images": list(of.images),
        "ranks": list(one.ranks),
        "none_acceptable": one.none,
        "ratings": one.ratings,
        "flags": {of.images[int(place)]: flags for place, flags in one.flags.items()},
        "shown": [of.images[place] for place in one.shown],
        "repeat": bool(one.round),
        "changes": one.revision - 1,
        "first_at": one.first_at,
        "stored_at": one.stored_at,
        "active_seconds": round(one.active_seconds, 2),
        "counts": not one.excluded,
        "excluded": one.excluded or None,
    }


def aggregate_rows(
    tasks: Mapping[int, Task], counted: Mapping[int, Sequence[Vote]], weighted: WeightedRanks
) -> Iterator[dict[str, Any]]:
    """Return the mean ranks of each task: lower is better, null was ranked by nobody."""
    for at, number in enumerate(sorted(counted)):
        plain = plain_means(counted[number])
        yield {
            "group": tasks[number].name,
            "split": tasks[number].split,
            "images": list(tasks[number].images),
            "votes": len(counted[number]),
            "wanted": tasks[number].wanted,
            "mean_rank": listed(plain),
            "weighted_mean_rank": listed(weighted.scores[at]),
            "none_acceptable": sum(one.none for one in counted[number]),
        }


def listed(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers for JSON, null for what is not a number."""
    return [None if math.isnan(value) else round(float(value), 6) for value in values]


def people_rows(people: Sequence[Any], votes: Sequence[Vote], weighted: WeightedRanks) -> Iterator[dict[str, Any]]:
    """Return what is published of each annotator: nothing that names a person."""
    given = Counter(one.annotator for one in votes)
    counts = Counter(one.annotator for one in votes if not one.excluded)
    place = {name: at for at, name in enumerate(weighted.people)}
    for row in people:
        if given[row.pseudonym]:
            at = place.get(row.pseudonym)
            compared = at is not None and bool(weighted.compared[at])
            yield {
                "annotator": row.pseudonym,
                "state": row.state,
                "simulated": row.panel == SIMULATED,
                "votes": given[row.pseudonym],
                "votes_counted": counts[row.pseudonym],
                "reliability": round(float(weighted.reliability[at]), 4) if compared else None,
                "weight": round(float(weighted.weight[at]), 4) if at is not None else None,
            }


def strengths(tasks: Mapping[int, Task], counted: Mapping[int, Sequence[Vote]]) -> dict[str, Any]:
    """Return strengths of the generators, and of the position on the page; empty if there are none to be found."""
    own = [number for number in sorted(counted) if tasks[number].sources is not None]
    sources = [list(tasks[number].sources or ()) for number in own]
    votes = [array(counted[number]) for number in own]
    places = [[positions(one.shown) for one in counted[number]] for number in own]
    try:
        found = strengths_with_position(votes, sources, places)
    except InputError:  # fewer than two tasks or generators, or some that were never compared
        return {}
    position = found.position
    return {
        "unit": "log-odds; the mean over the generators is 0",
        "generators": [
            {
                "generator": name,
                "strength": round(float(value), 6),
                "low": round(float(low), 6),
                "high": round(float(high), 6),
            }
            for name, value, low, high in zip(found.sources, found.strength, found.low, found.high, strict=True)
        ],
        "position": {
            "each_place": round(position.value, 6),
            "low": round(position.low, 6),
            "high": round(position.high, 6),
        },
    }


def card_text(
    project: Project,
    to: str,
    tasks: Mapping[int, Task],
    votes: Sequence[Vote],
    counted: Mapping[int, Sequence[Vote]],
    aggregate: Aggregate,
    simulated: Collection[str],
) -> str:
    """Write the card of a data set: what it is, how it was made, and what it cannot tell."""
    kept = [one for own in counted.values() for one in own]
    what = (
        "the mean rank weighted by each annotator's reliability" if aggregate == "weighted" else "the plain mean rank"
    )
    text = (
        environment("hpskit.annotation")
        .get_template("card.md")
        .render(
            package=f"hpskit {__version__}",
            settings=project.settings,
            to=to,
            order=what,
            facts=card_facts(project, tasks, counted),
            votes=len(kept),
            simulated=sum(one.annotator in simulated for one in kept),
            reasons=Counter(one.excluded for one in votes if one.excluded).most_common(),
        )
    )
    return text.strip() + "\n"


def card_facts(project: Project, tasks: Mapping[int, Task], counted: Mapping[int, Sequence[Vote]]) -> dict[str, str]:
    """Put a data set into figures, for its card."""
    kept = [one for own in counted.values() for one in own]
    several = [own for own in counted.values() if len(own) > 1]
    work = [one for one in tasks.values() if one.kind == "work"]
    sizes = sorted({len(tasks[number].images) for number in counted})
    offered = {"ties": project.settings.ties, "partial rankings": project.settings.partial}
    facts = {
        "Tasks with votes": f"{len(counted):,} of {len(work):,}",
        "Votes": f"{len(kept):,} of {sum(one.wanted for one in work):,} wanted",
        "Annotators": f"{len({one.annotator for one in kept}):,}",
        "Images of a task": f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}",
        "Median time of a task": f"{float(np.median([one.active_seconds for one in kept])):.1f} s",
        "Offered": ", ".join(name for name, is_on in offered.items() if is_on) or "complete orders without ties alone",
    }
    if several:
        found = rank_agreement([array(own) for own in several], [[one.annotator for one in own] for own in several])
        figures = f"{found.value:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}"
        facts["Agreement (mean tau-b of two annotators)"] = figures
    return facts
