"""Evidence about annotators: who ranks at random is paused, who looks is not; and further votes where they help."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from hpskit.annotation import people
from hpskit.annotation.answers import Answer
from hpskit.annotation.quality import assess, more_votes, standing
from hpskit.annotation.tables import audit, task
from small_project import Bench

Make = Callable[..., Bench]


def judge(bench: Bench, name: str, rng: np.random.Generator | None) -> None:
    """Do the next task: with eyes (images of small place are better) and some noise, or by dice."""
    row = bench.lease(name)
    places = np.array(row.order, dtype=float)
    dice = np.random.default_rng(int(row.task)).random(len(places))
    felt = dice if rng is None else places + rng.normal(scale=1.4, size=len(places))
    bench.submit(name, row, Answer(tiers=tuple((int(position),) for position in felt.argsort())), seconds=20.0)


def test_dice_are_paused_and_eyes_are_not(bench: Make) -> None:
    made = bench(tasks=40, images=9, overlap=5)
    names = ["ann", "ben", "cyd", "dan", "dice"]
    made.join(*names)
    rng = np.random.default_rng(1)
    states = {}
    for _ in range(30):
        for name in names:
            if made.who(name).state == "work":
                judge(made, name, None if name == "dice" else rng)
                states[name] = assess(made.store, made.settings, made.who(name).id)
    assert "as good as random" in made.who("dice").reason
    assert [made.who(name).state for name in names[:4]] == ["work"] * 4
    told = {one.name: one for one in standing(made.store, made.settings)}
    assert told["ann"].tau is not None
    assert told["dice"].tau is not None
    assert told["ann"].tau > 0.4 > told["dice"].tau
    assert [row.action for row in made.rows(audit, audit.c.who == "quality")] == ["state"]


def test_whoever_may_go_on_is_weighed_anew(bench: Make) -> None:
    made = bench(tasks=60, images=9, overlap=3)
    names = ["ann", "ben", "dice"]
    made.join(*names)
    rng = np.random.default_rng(1)
    for _ in range(40):
        for name in names:
            if made.who(name).state == "work":
                judge(made, name, None if name == "dice" else rng)
                assess(made.store, made.settings, made.who(name).id)
        made.clock.minutes(1)
        if made.who("dice").state == "paused":
            break
    assert made.who("dice").state == "paused"
    people.resume(made.store, "dice")
    made.clock.minutes(1)
    judge(made, "dice", rng)
    assert assess(made.store, made.settings, made.who("dice").id) == "unchecked"
    assert made.who("dice").state == "work"


@pytest.mark.parametrize("paused", [False, True])
def test_who_is_paused_is_nobodys_yardstick(bench: Make, paused: bool) -> None:
    """One of two turns everything over: as long as nobody says which, the other's rankings look wrong too."""
    made = bench(tasks=10, images=4, overlap=2)
    made.join("ann", "mad")
    for _ in range(10):
        for name, turned in (("ann", False), ("mad", True)):
            row = made.lease(name)
            order = sorted(range(4), key=list(row.order).__getitem__, reverse=turned)
            made.submit(name, row, Answer(tiers=tuple((position,) for position in order)))
    if paused:
        people.pause(made.store, "mad", "turns everything over")
    assert assess(made.store, made.settings, made.who("ann").id) == ("unchecked" if paused else "pause")
    assert made.who("ann").state == ("work" if paused else "paused")


def test_without_pausing_the_evidence_is_told_and_nobody_is_stopped(bench: Make) -> None:
    made = bench(tasks=30, images=9, overlap=3, pause=False)
    made.join("ann", "ben", "dice")
    rng = np.random.default_rng(2)
    for _ in range(30):
        for name in ("ann", "ben", "dice"):
            judge(made, name, None if name == "dice" else rng)
    assert made.who("dice").state == "work"
    assert {one.name: one.vigilance for one in standing(made.store, made.settings)}["dice"] in ("pause", "watch")


def test_somebody_alone_cannot_be_checked(bench: Make) -> None:
    made = bench(tasks=10, images=4, overlap=1, checks="off")
    made.join("ann")
    for _ in range(10):
        judge(made, "ann", np.random.default_rng(0))
    (told,) = standing(made.store, made.settings)
    assert (told.vigilance, told.checked, told.tau) == ("unchecked", 0, None)


def test_a_task_gets_one_more_vote_where_people_differ_and_not_beyond_the_cap(bench: Make) -> None:
    made = bench(tasks=2, images=4, overlap=2, extra_votes=1, task_order="given")
    made.join("ann", "ben", "cyd")
    for name, backwards in (("ann", False), ("ben", True), ("cyd", False)):
        for _ in (1, 2):
            given = made.next(name)
            if given.assignment is None:
                continue
            row = given.assignment
            turned = backwards and row.task == 1  # they differ about the first task alone
            order = sorted(range(4), key=lambda position: row.order[position], reverse=turned)
            made.submit(name, row, Answer(tiers=tuple((position,) for position in order)))
            more_votes(made.store, made.settings, made.who(name).id)
    assert {row.id: (row.wanted, row.done) for row in made.rows(task)} == {1: (3, 3), 2: (2, 2)}
    made.check()


def test_straight_lines_and_the_pull_of_the_first_place_are_seen(bench: Make) -> None:
    made = bench(tasks=12, images=4, overlap=1, checks="off")
    made.join("line")
    for _ in range(12):
        row = made.lease("line")
        made.submit("line", row, Answer(tiers=((0,), (1,), (2,), (3,))), seconds=random.Random(0).random())
    (told,) = standing(made.store, made.settings)
    assert told.straight is not None
    assert told.straight > 0.9
    assert told.position == 1.0
    assert told.too_fast == 1.0
