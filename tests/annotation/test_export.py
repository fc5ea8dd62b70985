"""Exports: what people said comes out as they said it, in every layout, and what does not count says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from error_fields import at
from hpskit.annotation import people
from hpskit.annotation.answers import Answer
from hpskit.annotation.export import export
from hpskit.annotation.votes import invalidate
from hpskit.dataset.inspect import inspect
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError
from hpskit.rows import read_rows
from small_project import MARK, Bench

Make = Callable[..., Bench]


def say(bench: Bench, name: str, *ranks: int | None, none: bool = False) -> dict[str, Any]:
    """Answer the next task by ranks of its images, in the order of the task."""
    row = bench.lease(name)
    tiers: dict[int, list[int]] = {}
    for position, place in enumerate(row.order):
        if (rank := ranks[place]) is not None:
            tiers.setdefault(rank, []).append(position)
    answer = Answer(tiers=tuple(tuple(tiers[rank]) for rank in sorted(tiers)), none=none)
    return bench.submit(name, row, answer)


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path)]


@pytest.fixture
def judged(bench: Make) -> Bench:
    """One task that three people judge, two of them alike; a fourth is too late to count."""
    made = bench(tasks=1, images=4, overlap=3, partial=True)
    made.join("ann", "ben", "cyd")
    say(made, "ann", 1, 2, 3, 4)
    say(made, "ben", 1, 2, 3, 4)
    say(made, "cyd", 2, 1, 3, 3)
    return made


@pytest.mark.parametrize(
    ("to", "file"),
    [
        ("rankings", "rankings.jsonl"),
        ("hpdv2", "test.json"),
        ("parquet", "data.parquet"),
        ("labelstudio", "labelstudio.json"),
    ],
)
def test_every_layout_gives_the_rankings_back(judged: Bench, tmp_path: Path, to: str, file: str) -> None:
    export(judged.project, judged.store, to, tmp_path / "out")
    assert (tmp_path / "out" / file).is_file()
    data = open_data(tmp_path / "out")
    assert inspect(data, decode=True).to_json()["sound"]
    (group,) = data
    assert sorted(one.ranks for one in group.judgements) == [(1, 2, 3, 4), (1, 2, 3, 4), (2, 1, 3, 3)]
    names = {one.annotator for one in group.judgements}
    assert len(names) == 3
    assert not names & {"ann", "ben", "cyd"}, "names of people are nobody's business"


def test_every_vote_is_told_with_the_reason_why_it_does_not_count(judged: Bench, tmp_path: Path) -> None:
    people.pause(judged.store, "cyd", "by hand")
    exported = export(judged.project, judged.store, "rankings", tmp_path / "out")
    assert exported.votes == 2
    assert exported.excluded == {"annotator paused: by hand": 1}
    votes = rows(tmp_path / "out/about/votes.jsonl")
    assert sorted(str(one["excluded"]) for one in votes) == ["None", "None", "annotator paused: by hand"]
    shown = [one["shown"] for one in votes]
    assert all(sorted(order) == sorted(votes[0]["images"]) for order in shown)
    assert "annotator paused: by hand | 1" in (tmp_path / "out/README.md").read_text()
    kept = export(judged.project, judged.store, "rankings", tmp_path / "kept", keep_paused=True)
    assert kept.votes == 3


def test_an_invalid_vote_and_one_without_a_ranking_are_no_data(bench: Make, tmp_path: Path) -> None:
    made = bench(tasks=1, images=4, overlap=3)
    made.join("ann", "ben", "cyd")
    say(made, "ann", 1, 2, 3, 4)
    wrong = say(made, "ben", 4, 3, 2, 1)
    say(made, "cyd", None, None, None, None, none=True)
    invalidate(made.store, wrong["vote"], "answered by a script", who="iris")
    exported = export(made.project, made.store, "rankings", tmp_path / "out")
    assert exported.excluded == {"invalid: answered by a script": 1, "none is acceptable, and no ranking": 1}
    (told,) = (one for one in rows(tmp_path / "out/about/votes.jsonl") if one["none_acceptable"])
    assert told["ranks"] == [None] * 4


def test_practice_checks_and_repeats_are_no_data_and_are_told(bench: Make, tmp_path: Path) -> None:
    made = bench(tasks=60, images=3, overlap=1, gold=4, practice_tasks=2)
    made.join("ann", state="practice")
    while made.next("ann").assignment is not None:
        row = made.lease("ann")
        made.submit("ann", row, Answer(tiers=tuple((row.order.index(place),) for place in range(3))))
    exported = export(made.project, made.store, "rankings", tmp_path / "out")
    assert exported.votes == exported.tasks == 60
    assert exported.excluded == {"qualification": 2, "hidden check": 2, "hidden repeat": 10}


def test_the_published_order_is_weighted_or_the_plain_mean(judged: Bench, tmp_path: Path) -> None:
    export(judged.project, judged.store, "hpdv2", tmp_path / "plain", aggregate="mean")
    (row,) = json.loads((tmp_path / "plain/test.json").read_text())
    assert row["rank"] == [1, 2, 3, 4]
    (told,) = rows(tmp_path / "plain/about/aggregates.jsonl")
    assert told["mean_rank"] == pytest.approx([4 / 3, 5 / 3, 3, 11 / 3])
    assert told["weighted_mean_rank"][0] < told["mean_rank"][0], "who is alone weighs less"


def test_train_and_test_are_files_of_their_own(bench: Make, tmp_path: Path) -> None:
    made = bench(tasks=20, images=3, overlap=2, train_overlap=1, share=0.5)
    made.join("ann", "ben")
    for name in ("ann", "ben"):
        while made.next(name).assignment is not None:
            made.submit(name, made.lease(name))
    export(made.project, made.store, "hpdv2", tmp_path / "out")
    test, train = (json.loads((tmp_path / f"out/{split}.json").read_text()) for split in ("test", "train"))
    assert {len(row["raw_annotations"]) for row in test} == {2}
    assert len(train) == 3 * (20 - len(test)), "three pairs of each task of three images"
    for split in ("test", "train"):
        assert inspect(open_data(tmp_path / f"out/{split}.json"), decode=True).to_json()["sound"]


def test_generators_are_told_apart(bench: Make, tmp_path: Path) -> None:
    made = bench(tasks=12, images=3, overlap=2)
    made.join("ann", "ben")
    for name in ("ann", "ben"):
        for _ in range(12):
            say(made, name, 1, 2, 3)
    export(made.project, made.store, "rankings", tmp_path / "out")
    found = json.loads((tmp_path / "out/about/generators.json").read_text())["generators"]
    strengths = {one["generator"]: one["strength"] for one in found}
    assert strengths[f"{MARK} 0"] > strengths[f"{MARK} 1"] > strengths[f"{MARK} 2"]


def test_the_pull_of_the_first_place_is_taken_out(bench: Make, tmp_path: Path) -> None:
    """People who take the images as they stand say nothing of generators, and all of the position."""
    made = bench(tasks=30, images=3, overlap=2, pause=False)
    made.join("ann", "ben")
    for name in ("ann", "ben"):
        for _ in range(30):
            made.vote(name)
    export(made.project, made.store, "rankings", tmp_path / "out")
    found = json.loads((tmp_path / "out/about/generators.json").read_text())
    assert found["position"]["high"] < -2
    assert all(abs(one["strength"]) < 0.5 for one in found["generators"])


def test_a_project_without_votes_has_nothing_to_export(bench: Make, tmp_path: Path) -> None:
    made = bench()
    with pytest.raises(InputError, check=at(made.project.folder)):
        export(made.project, made.store, "rankings", tmp_path / "out")
    assert not (tmp_path / "out").exists()
