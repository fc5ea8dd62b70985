"""Votes: stored once, as they stood on the page, and never thrown away."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.annotation import people, votes
from hpskit.annotation.answers import Answer, check_answer, positions_of, ranks_by_place
from hpskit.annotation.project import Settings
from hpskit.annotation.tables import audit, task, vote
from hpskit.annotation.votes import AbsentError, ConflictError
from hpskit.errors import InputError
from small_project import Bench, answer

Make = Callable[..., Bench]


def only_vote(made: Bench) -> Any:
    (found,) = made.rows(vote)
    return found


def test_a_repeat_gets_the_same_reply_and_nothing_is_doubled(bench: Make) -> None:
    made = bench()
    made.join("ann")
    row, number = made.lease("ann"), str(uuid.uuid4())
    replies = [made.submit("ann", row, vote_id=number) for _ in range(3)]
    assert replies[0] == replies[1] == replies[2]
    assert (replies[0]["done"], only_vote(made).revision) == (1, 1)
    with pytest.raises(ConflictError, match="revision"):
        made.submit("ann", row, answer(best=(3, 2, 1, 0)), vote_id=number)
    with pytest.raises(ConflictError, match="another id"):
        made.submit("ann", row)
    with pytest.raises(ConflictError, match="of another task"):
        made.submit("ann", made.lease("ann"), vote_id=number)
    made.check()


def test_the_same_vote_sent_by_many_at_once_is_stored_once(bench: Make) -> None:
    made = bench()
    made.join("ann")
    row, number = made.lease("ann"), str(uuid.uuid4())
    replies: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: replies.append(made.submit("ann", row, vote_id=number))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 6
    assert all(reply == replies[0] for reply in replies)
    made.check()


def test_an_id_that_two_people_send_at_once_is_one_of_them(bench: Make) -> None:
    made = bench()
    made.join("ann", "bob")
    number, rows = str(uuid.uuid4()), {name: made.lease(name) for name in ("ann", "bob")}
    said = []

    def send(name: str) -> None:
        try:
            made.submit(name, rows[name], vote_id=number)
            said.append("stored")
        except ConflictError as error:
            said.append(error.found)

    threads = [threading.Thread(target=send, args=(name,)) for name in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["is of another task", "stored"]
    made.check()


def test_what_is_stored_is_by_place_and_comes_back_by_position(bench: Make) -> None:
    made = bench(ties=True, partial=True, ratings=5, overlap=1, checks="off")
    made.join("ann")
    row = made.lease("ann")
    flag = made.settings.flags[1]
    sent = Answer(tiers=((2,), (0, 3)), ratings=(1, None, 5, 3), flags={"3": (flag,)})
    made.submit("ann", row, sent)
    stored = only_vote(made)
    assert [stored.ranks[row.order[position]] for position in range(4)] == [2, None, 1, 2]
    assert [stored.ratings[row.order[position]] for position in range(4)] == [1, None, 5, 3]
    assert stored.flags == {str(row.order[3]): [flag]}
    assert positions_of(stored, row.order) == {
        "tiers": [[2], [0, 3]],
        "none": False,
        "ratings": [1, None, 5, 3],
        "flags": {"3": [flag]},
    }


@given(st.permutations(range(6)), st.lists(st.booleans(), min_size=5, max_size=5), st.permutations(range(6)))
def test_ranks_of_any_answer_come_back(best: list[int], breaks: list[bool], order: list[int]) -> None:
    tiers: list[list[int]] = [[best[0]]]
    for position, new in zip(best[1:], breaks, strict=True):
        if new:
            tiers.append([])
        tiers[-1].append(position)
    given_ = Answer(tiers=tuple(map(tuple, tiers)))

    class Stored:
        ranks, none, ratings, flags = ranks_by_place(given_, order), False, None, {}

    assert positions_of(Stored, order)["tiers"] == [sorted(tier) for tier in tiers]


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        ({"tiers": ()}, {}),
        ({"tiers": ((0,), (1,), (2,))}, {}),
        ({"tiers": ((0,), (1,), (2,), (4,))}, {}),
        ({"tiers": ((0,), (1,), (2,), (0,))}, {"partial": True}),
        ({"tiers": ((0, 1), (2,), (3,))}, {"ties": False}),
        ({"none": True}, {"none": False}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "ratings": (1, 2, 3)}, {"ratings": 5}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "ratings": (1, 2, 3, 6)}, {"ratings": 5}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "ratings": (1, 2, 3, 1)}, {"ratings": 0}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "flags": {"4": ("broken",)}}, {}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "flags": {"9" * 6000: ("broken",)}}, {}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "flags": {"٣": ("broken",)}}, {}),
        ({"tiers": ((0,), (1,), (2,), (3,)), "flags": {"0": ("odd",)}}, {}),
    ],
)
def test_answers_that_are_none_are_refused(answer: dict[str, Any], settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        check_answer(Answer(**answer), 4, Settings(name="x", **settings))


def test_none_acceptable_is_no_tie(bench: Make) -> None:
    made = bench()
    made.join("ann")
    made.submit("ann", made.lease("ann"), Answer(none=True))
    assert (only_vote(made).none, only_vote(made).ranks) == (True, [None] * 4)


# Changes


def test_the_last_answers_can_be_changed_and_what_stood_before_is_in_the_log(bench: Make) -> None:
    made = bench(tasks=8, overlap=1, checks="off", change_minutes=30)
    made.join("ann")
    done = []
    for _ in range(6):
        row, number = made.lease("ann"), str(uuid.uuid4())
        made.submit("ann", row, vote_id=number)
        made.clock.minutes(1)
        done.append((row, number))
    other = answer(best=(3, 2, 1, 0))
    with pytest.raises(ConflictError, match="no longer be changed"):
        made.submit("ann", done[0][0], other, vote_id=done[0][1], revision=2)
    row, number = done[1]
    before = made.rows(vote, vote.c.id == number)[0]
    reply = made.submit("ann", row, other, vote_id=number, revision=2)
    assert reply == made.submit("ann", row, other, vote_id=number, revision=2)
    after = made.rows(vote, vote.c.id == number)[0]
    assert (after.revision, after.first_at) == (2, before.first_at)
    assert after.ranks != before.ranks
    (line,) = made.rows(audit, audit.c.action == "change")
    assert line.detail["ranks"] == before.ranks
    assert [one["vote"] for one in votes.history(made.store, made.who("ann"), made.settings)] == [
        number for _, number in reversed(done[1:])
    ]
    made.clock.minutes(31)
    with pytest.raises(ConflictError, match="no longer be changed"):
        made.submit("ann", row, answer(), vote_id=number, revision=3)
    made.check()


def test_a_line_of_the_log_can_neither_be_changed_nor_deleted(bench: Make) -> None:
    from sqlalchemy import delete, update
    from sqlalchemy.exc import DBAPIError

    made = bench()
    for statement in (update(audit).values(who="nobody"), delete(audit)):
        with pytest.raises(DBAPIError, match="append-only"), made.store.write() as connection:
            connection.execute(statement)


def test_the_newest_draft_is_kept(bench: Make) -> None:
    made = bench()
    made.join("ann")
    row, who = made.lease("ann"), made.who("ann")
    half = Answer(tiers=((1,),))

    def save(version: int, given: Answer) -> int:
        return votes.save_draft(made.store, who, row.id, version, given, 2.0, made.settings)

    assert [save(1, half), save(3, answer()), save(3, answer())] == [1, 3, 3]
    for version in (2, 3):
        with pytest.raises(ConflictError) as refused:
            save(version, half)
        assert refused.value.facts == {"version": 3, "answer": answer().model_dump(mode="json")}


# Others'


def test_what_is_somebody_elses_is_not_there(bench: Make) -> None:
    made = bench()
    made.join("ann", "bob")
    row = made.lease("ann")
    for number in (row.id, "A" * 22):
        with pytest.raises(AbsentError) as refused:
            made.submit("bob", number, answer())
        assert str(refused.value) == "assignment: is not there, expected one of yours"


# Inspectors


def test_a_returned_vote_goes_back_and_counts_again(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    row, number = made.lease("ann"), str(uuid.uuid4())
    made.submit("ann", row, vote_id=number)
    votes.return_vote(made.store, number, "look at the hands", made.settings, who="eve")
    made.check()
    assert made.task(row.task).done == 0
    assert made.next("bob").reason == "wait"
    again = made.lease("ann")
    with made.store.read() as connection:
        shown = votes.describe(connection, made.who("ann"), again, made.settings, made.clock())
    assert (again.id, shown["returned"], shown["vote"]["id"]) == (row.id, "look at the hands", number)
    assert not made.submit("ann", row, answer(best=(3, 2, 1, 0)), vote_id=number, revision=2)["late"]
    assert (only_vote(made).state, made.task(row.task).done) == ("counted", 1)
    made.check()


def test_a_returned_vote_that_comes_back_too_late_is_kept_and_does_not_count(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    row, number = made.lease("ann"), str(uuid.uuid4())
    made.submit("ann", row, vote_id=number)
    votes.return_vote(made.store, number, "look again", made.settings, who="eve")
    made.clock.minutes(31)
    made.vote("bob")
    assert made.submit("ann", row, answer(best=(3, 2, 1, 0)), vote_id=number, revision=2)["late"]
    assert made.rows(vote, vote.c.id == number)[0].state == "late"
    made.check()


def test_an_invalid_vote_stays_and_its_task_is_open(bench: Make) -> None:
    made = bench(tasks=1, overlap=1, checks="off")
    made.join("ann", "bob")
    number = str(uuid.uuid4())
    made.vote("ann", vote_id=number)
    with pytest.raises(InputError, match="why"):
        votes.invalidate(made.store, number, " ", who="eve")
    threads = [
        threading.Thread(target=votes.invalidate, args=(made.store, number, "a bot"), kwargs={"who": "eve"})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.check()
    assert (only_vote(made).state, only_vote(made).reason) == ("invalid", "a bot")
    made.vote("bob")
    made.check()
    assert [row.state for row in made.rows(vote)].count("counted") == 1


@pytest.mark.parametrize("delete", [True, False])
def test_who_withdraws_takes_the_votes_along_or_leaves_them(bench: Make, delete: bool) -> None:
    made = bench(tasks=30, images=2, overlap=1, gold=2)
    made.join("ann", "bob")
    for _ in range(25):
        made.vote("ann")
    pseudonym = made.who("ann").pseudonym
    assert people.withdraw(made.store, "ann", delete_votes=delete) == 25
    made.check()
    assert len(made.rows(vote)) == (0 if delete else 25)
    gone = made.who(pseudonym)
    assert (gone.name, gone.state, gone.link) == (f"withdrawn {pseudonym}", "withdrawn", None)
    with pytest.raises(InputError, match="nobody"):
        made.who("ann")
    for name in (pseudonym, gone.name):
        with pytest.raises(InputError, match=r"withdrawn|paused or rejected"):
            people.resume(made.store, name)
        with pytest.raises(InputError, match="withdrawn"):
            people.pause(made.store, name, "x")
    if not delete:
        with pytest.raises(ConflictError, match="withdrawn"):
            votes.return_vote(made.store, made.rows(vote)[0].id, "look again", made.settings, who="eve")


# Qualification


@pytest.mark.parametrize("good", [True, False])
def test_the_qualification_passes_or_rejects(bench: Make, good: bool) -> None:
    made = bench(tasks=3, gold=3, practice_tasks=3, practice_score=0.7)
    made.join("ann", state="practice")
    practice = {row.id for row in made.rows(task) if row.kind == "practice"}
    replies = []
    for _ in range(3):
        row, number = made.lease("ann"), str(uuid.uuid4())
        assert row.task in practice
        assert votes_of(made, row.id)["practice"]
        by_place = sorted(range(4), key=lambda position: row.order[position], reverse=not good)
        sent = answer(best=by_place)
        replies.append(made.submit("ann", row, sent, vote_id=number)["practice"])
        assert made.submit("ann", row, sent, vote_id=number)["practice"] == replies[-1]
        with pytest.raises(ConflictError):
            made.submit("ann", row, answer(best=by_place[::-1]), vote_id=number, revision=2)
    assert [one["left"] for one in replies] == [2, 1, 0]
    assert [one["passed"] for one in replies] == [None, None, good]
    assert [one["score"] for one in replies] == [float(good)] * 3
    who = made.who("ann")
    assert (who.state, who.done) == ("work" if good else "rejected", 0)
    assert all(row.done == 0 for row in made.rows(task))
    made.check()


def votes_of(made: Bench, number: str) -> dict[str, Any]:
    with made.store.read() as connection:
        return votes.describe(connection, made.who("ann"), made.assignment(number), made.settings, made.clock())


def test_a_practice_task_that_was_left_lying_comes_again_and_cannot_be_skipped(bench: Make) -> None:
    made = bench(tasks=3, gold=2, practice_tasks=2)
    made.join("ann", state="practice")
    row = made.lease("ann")
    with pytest.raises(ConflictError, match="skipped"):
        votes.skip(made.store, made.who("ann"), row.id, made.settings.skip_reasons[0], made.settings)
    made.clock.minutes(60)
    assert made.lease("ann").id == row.id
    made.check()
