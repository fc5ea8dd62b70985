"""Assignment: as many votes as a task wants, from different people, whatever happens at the same moment."""

from __future__ import annotations

import collections
import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpskit.annotation import people, votes
from hpskit.annotation.assignment import is_check, shown_order
from hpskit.annotation.store import Store
from hpskit.annotation.tables import assignment, task, vote
from hpskit.errors import InputError
from postgres import Postgres
from small_project import Bench, Time, answer, make, serve_some, work

Make = Callable[..., Bench]
CLERKS = 8


# Concurrency


@pytest.mark.parametrize("overlap", [1, 3])
def test_every_task_gets_exactly_its_votes_from_different_people(bench: Make, overlap: int) -> None:
    made = bench(tasks=12, overlap=overlap, checks="off", skips=3)
    names = [f"person {number}" for number in range(CLERKS)]
    made.join(*names)
    failed: list[BaseException] = []

    def run(name: str) -> None:
        try:
            work(made, name, random.Random(name))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    made.check()
    assert [row.done for row in made.rows(task)] == [overlap] * 12
    assert all(row.state == "counted" for row in made.rows(vote))
    pairs = [(row.task, row.person) for row in made.rows(vote)]
    assert len(set(pairs)) == len(pairs) == 12 * overlap


def test_two_servers_of_one_postgresql_never_give_too_much(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    project = make(tmp_path / "project", url, tasks=15, overlap=3, checks="off", skips=3)
    made = Bench(project, Store(url), Time())
    names = [f"person {number}" for number in range(10)]
    made.join(*names)
    begin = time.time() + 1.5
    spawn = multiprocessing.get_context("forkserver")
    arguments = [(project.folder, project.settings, url, names[start::2], begin) for start in range(2)]
    processes = [spawn.Process(target=serve_some, args=one) for one in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    made.check()
    assert [row.done for row in made.rows(task)] == [3] * 15
    assert all(row.state == "counted" for row in made.rows(vote))
    made.store.close()


def test_two_tabs_of_one_person_get_two_tasks_and_no_skip_too_many(bench: Make) -> None:
    made = bench(tasks=8, overlap=1, checks="off", skips=2)
    made.join("ann")
    rows, failed = [], []

    def ask() -> None:
        try:
            rows.append(made.lease("ann", *(row.id for row in rows)))
        except AssertionError:
            failed.append(1)

    def skip(number: str) -> None:
        try:
            votes.skip(made.store, made.who("ann"), number, made.settings.skip_reasons[0], made.settings)
        except InputError:
            failed.append(1)

    for target, arguments in ((ask, [()] * 4), (skip, None)):
        calls = arguments if arguments is not None else [(row.id,) for row in made.rows(assignment)]
        threads = [threading.Thread(target=target, args=one) for one in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    made.check()
    assert made.who("ann").skips <= 2
    assert len(made.rows(assignment)) <= 3


def test_one_person_has_one_task_once_whatever_the_code_does(bench: Make) -> None:
    from sqlalchemy import insert
    from sqlalchemy.exc import IntegrityError

    made = bench()
    made.join("ann")
    row = made.lease("ann")
    values = {**row._mapping, "id": "another"}
    with pytest.raises(IntegrityError), made.store.write() as connection:
        connection.execute(insert(assignment).values(values))


# Leases


def test_a_lease_is_over_when_somebody_looks(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off", lease_minutes=30)
    made.join("ann", "bob")
    row = made.lease("ann")
    waits = made.next("bob")
    assert (waits.assignment, waits.reason, waits.seconds) == (None, "wait", 1800)
    made.clock.minutes(30)
    assert made.lease("bob").task == row.task
    made.check()
    made.submit("bob", made.lease("bob"))
    late = made.submit("ann", row)
    assert (late["stored"], late["late"]) == (True, True)
    assert [one.state for one in made.rows(vote, vote.c.assignment == row.id)] == ["late"]
    assert made.task(row.task).done == 1
    made.check()


def test_a_vote_of_an_ended_lease_counts_while_its_task_is_open(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    row = made.lease("ann")
    made.clock.minutes(31)
    other = made.lease("bob")  # ends ann's
    made.clock.minutes(31)  # bob's is over, too
    assert not made.submit("ann", row)["late"]
    assert made.submit("bob", other)["late"]
    assert made.task(row.task).done == 1
    made.check()


def test_a_vote_of_an_ended_lease_does_not_take_the_place_that_another_holds(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    row = made.lease("ann")
    made.clock.minutes(31)
    other = made.lease("bob")
    assert made.submit("ann", row)["late"]
    assert not made.submit("bob", other)["late"]
    made.check()


def test_who_comes_back_after_a_break_gets_the_task_again_with_its_draft(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann")
    row = made.lease("ann")
    given = votes_draft(made, row.id)
    made.clock.minutes(45)
    again = made.lease("ann")
    assert (again.id, again.draft) == (row.id, given)
    made.check()
    made.submit("ann", again)
    assert made.next("ann").reason == "done"


def votes_draft(made: Bench, number: str) -> dict[str, Any]:
    votes.save_draft(made.store, made.who("ann"), number, 1, answer(), 3.0, made.settings)
    draft: dict[str, Any] = made.assignment(number).draft
    return draft


def test_a_lease_begins_anew_when_its_task_is_seen(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    row = made.lease("ann")
    assert row.seen_at is None
    made.clock.minutes(20)
    votes.seen(made.store, made.who("ann"), row.id, made.settings)
    first = made.clock()
    made.clock.minutes(20)
    votes.seen(made.store, made.who("ann"), row.id, made.settings)
    assert made.assignment(row.id).seen_at == first
    made.clock.minutes(25)
    assert made.next("bob").reason == "wait"
    made.clock.minutes(5)
    assert made.lease("bob").task == row.task
    made.check()


def test_a_reload_gives_the_same_task_and_what_is_loaded_ahead_is_not_seen(bench: Make) -> None:
    made = bench(tasks=6)
    made.join("ann")
    row = made.lease("ann")
    assert made.lease("ann").id == row.id
    ahead = made.lease("ann", row.id)
    assert ahead.id != row.id
    assert ahead.seen_at is None
    assert made.lease("ann", row.id).id == ahead.id
    assert made.lease("ann", ahead.id).id == row.id
    third = made.lease("ann", row.id, ahead.id)
    assert made.next("ann", row.id, ahead.id, third.id).reason == "wait"
    made.check()


# Which task


def test_started_tasks_come_first(bench: Make) -> None:
    made = bench(tasks=40, overlap=2)
    made.join("ann", "bob")
    begun = {made.lease("ann").task}
    made.submit("ann", made.lease("ann"))
    begun.add(made.lease("ann").task)
    assert {made.lease("bob").task, made.lease("bob", made.lease("bob").id).task} == begun


def test_nobody_gets_more_than_the_cap(bench: Make) -> None:
    made = bench(tasks=6, per_person=3)
    made.join("ann", "bob")
    made.join("cy", cap=1)
    for _ in range(3):
        made.vote("ann")
    assert made.next("ann").reason == "cap"
    held = made.lease("cy")
    assert made.next("cy", held.id).reason == "cap"
    made.submit("cy", held)
    assert made.next("cy").reason == "cap"
    made.check()


def test_skips_are_limited_and_a_skipped_task_never_comes_back(bench: Make) -> None:
    made = bench(tasks=3, overlap=1, checks="off", skips=2)
    made.join("ann", "bob")
    reason = made.settings.skip_reasons[0]
    skipped = []
    for left in (1, 0):
        row = made.lease("ann")
        skipped.append(row.task)
        assert votes.skip(made.store, made.who("ann"), row.id, reason, made.settings) == left
        assert votes.skip(made.store, made.who("ann"), row.id, reason, made.settings) == left
    last = made.lease("ann")
    with pytest.raises(InputError, match="at most 2"):
        votes.skip(made.store, made.who("ann"), last.id, reason, made.settings)
    with pytest.raises(InputError, match="one of"):
        votes.skip(made.store, made.who("ann"), last.id, "it is raining", made.settings)
    made.submit("ann", last)
    assert made.next("ann").reason == "done"
    assert {made.vote("bob")["done"], made.vote("bob")["done"]} == {1, 2}
    assert sorted(row.task for row in made.rows(vote)) == sorted([*skipped, last.task])
    made.check()


def test_a_split_has_its_own_number_of_votes(bench: Make) -> None:
    made = bench(tasks=30, overlap=3, train_overlap=1, share=0.5, checks="off")
    splits = collections.Counter((row.split, row.wanted) for row in made.rows(task))
    assert set(splits) == {("test", 3), ("train", 1)}
    assert 8 <= splits["train", 1] <= 22
    made.join("ann", "bob", "cy", "di")
    for name in ("ann", "bob", "cy", "di"):
        while made.next(name).assignment is not None:
            made.vote(name)
    assert all(row.done == row.wanted for row in made.rows(task))
    made.check()


# Orders


def test_the_order_is_drawn_for_each_person_stored_and_can_be_repeated(bench: Make) -> None:
    made = bench(tasks=1, images=8, overlap=20)
    names = [f"person {number}" for number in range(12)]
    made.join(*names)
    rows = [made.lease(name) for name in names]
    orders = [tuple(row.order) for row in rows]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert len(set(orders)) > 8
    assert [list(order) for order in orders] == [shown_order(0, row.task, row.person, 8) for row in rows]


def test_every_place_stands_everywhere_equally_often() -> None:
    shares = collections.Counter(
        (position, place) for one in range(4000) for position, place in enumerate(shown_order(7, one % 50, one, 4))
    )
    assert all(abs(count / 4000 - 0.25) < 0.03 for count in shares.values())


@pytest.mark.parametrize("images", [2, 3, 9])
def test_a_repeat_has_another_order(images: int) -> None:
    for one in range(200):
        assert shown_order(3, one, 5, images, 1) != shown_order(3, one, 5, images)


# Hidden checks


def test_twelve_of_the_first_sixty_are_checks_then_one_in_twentyfive() -> None:
    for number in range(1, 30):
        due = [is_check(5, number, done) for done in range(310)]
        assert sum(due[:60]) == 12
        assert not any(due[:3])
        assert [sum(due[start : start + 25]) for start in range(60, 310, 25)] == [1] * 10
    assert len({tuple(is_check(5, number, done) for done in range(60)) for number in range(30)}) == 30


def test_checks_are_gold_first_and_then_own_answers_in_a_new_order(bench: Make) -> None:
    made = bench(tasks=90, images=2, overlap=1, gold=4)
    made.join("ann")
    given = []
    for _ in range(62):
        given.append(made.lease("ann"))
        made.clock.minutes(1)
        made.submit("ann", given[-1])
    kinds = {row.id: row.kind for row in made.rows(task)}
    ann = made.who("ann").id
    due = [at for at in range(60) if is_check(0, ann, at)]
    checks = [row for row in given[:60] if kinds[row.task] == "gold" or row.round == 1]
    assert [at for at, row in enumerate(given[:60]) if row in checks] == due
    assert [kinds[row.task] for row in checks[:4]] == ["gold"] * 4
    assert all(row.round == 1 and kinds[row.task] == "work" for row in checks[4:])
    assert len({row.task for row in checks}) == 12
    at = {row.task: number for number, row in enumerate(given) if row.round == 0}
    first = {row.task: row for row in given if row.round == 0}
    for number, row in enumerate(given):
        if row.round == 1:
            assert row.order != first[row.task].order
            assert number - at[row.task] > 10
    made.check()


def test_there_are_no_hidden_checks_where_others_rank_the_same_tasks(bench: Make) -> None:
    made = bench(tasks=30, images=2, overlap=2, gold=4)
    made.join("ann")
    while made.next("ann").assignment is not None:
        made.vote("ann")
    assert {row.kind for row in made.rows(task) if any(one.task == row.id for one in made.rows(vote))} == {"work"}


def test_a_check_that_was_left_lying_comes_again(bench: Make) -> None:
    made = bench(tasks=30, images=2, overlap=1, gold=1)
    made.join("ann")
    gold = next(row.id for row in made.rows(task) if row.kind == "gold")
    while (row := made.lease("ann")).task != gold:
        made.submit("ann", row)
    made.clock.minutes(40)
    assert made.lease("ann").task == gold
    made.check()


# Somebody who stops


@pytest.mark.parametrize("how", ["pause", "withdraw"])
def test_who_stops_gives_back_at_once(bench: Make, how: str) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    row = made.lease("ann")
    assert made.next("bob").reason == "wait"
    if how == "pause":
        people.pause(made.store, "ann", "a break")
    else:
        people.withdraw(made.store, "ann", delete_votes=True)
    made.check()
    assert made.lease("bob").task == row.task
    made.check()


def test_waiting_is_short_where_a_task_is_free_but_locked(postgres: Postgres, tmp_path: Path) -> None:
    from sqlalchemy import select

    url = postgres.database()
    made = Bench(make(tmp_path / "project", url, tasks=1, overlap=2), Store(url), Time())
    made.join("ann", "bob")
    made.lease("ann")
    with made.store.write() as connection:  # another server is about to give it
        connection.execute(select(task).with_for_update()).all()
        given = made.next("bob")
    assert (given.reason, given.seconds) == ("wait", 5.0)
    made.lease("bob")
    made.store.close()
