"""The sheet of pay: what is paid, what is not and why, and that a spreadsheet runs nothing of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from hpskit.annotation import people, votes
from hpskit.annotation.pay import PayRow, pay_csv, pay_sheet
from hpskit.annotation.project import Pay, Settings
from hpskit.annotation.tables import audit, person, vote
from hpskit.annotation.web.app import create_app
from small_project import Bench

Make = Callable[..., Bench]

ROW = PayRow(
    pseudonym="a1",
    panel="prolific",
    panel_person="5f",
    state="work",
    accepted=2,
    practice=0,
    returned=0,
    invalid=0,
    hours=0.5,
    per_task=0.1,
    per_hour=9.0,
    bonus=0.0,
    amount=4.7,
    currency="EUR",
    notes="",
)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def sheet(made: Bench, **rules: Any) -> dict[str, PayRow]:
    settings = Settings(**made.settings.model_dump() | {"pay": Pay(**rules)})
    names = {made.who(name).pseudonym: name for name in ("ann", "bob")}
    return {names[row.pseudonym]: row for row in pay_sheet(made.store, settings)}


def timed(made: Bench, name: str, minutes: float, seconds: float) -> str:
    """Do a task in some minutes, of which the page says that so many seconds were active."""
    row = made.lease(name)
    made.clock.minutes(minutes)
    return str(made.submit(name, row, seconds=seconds)["vote"])


def test_a_sheet_equals_the_one_by_hand(bench: Make) -> None:
    made = bench(tasks=5)
    made.join("ann", "bob")
    timed(made, "ann", 10, 120.0)  # eight minutes of it were a pause
    timed(made, "ann", 1, 5000.0)  # nobody works for longer than the clock allows: 60 s
    wrong, again = timed(made, "ann", 1, 30.0), timed(made, "ann", 1, 30.0)
    late = timed(made, "bob", 1, 40.0)
    with made.store.write() as connection:
        connection.execute(update(vote).where(vote.c.id == late).values(state="late"))
    votes.invalidate(made.store, wrong, "=1+1", who="ina")
    votes.return_vote(made.store, again, "look again", made.settings, who="ina")
    found = sheet(made, per_task=0.5, per_hour=12.0)
    ann, bob = found["ann"], found["bob"]
    assert (ann.accepted, ann.invalid, ann.returned, ann.practice) == (2, 1, 1, 0)
    assert ann.hours == pytest.approx(180 / 3600)
    assert ann.amount == pytest.approx(2 * 0.5 + 0.6)
    assert ann.notes == "1 x invalid: =1+1; 1 x returned: look again"
    assert (bob.accepted, bob.amount) == (1, pytest.approx(0.5 + 0.13))
    assert sum(row.bonus for row in found.values()) == 0
    assert sheet(made, bonus=5.0, bonus_from=-1.0, bonus_tasks=2)["ann"].bonus == 0  # nothing tells how reliable


def test_the_bonus_is_for_many_tasks_that_agree(bench: Make) -> None:
    made = bench(tasks=3)
    made.join("ann", "bob")
    for _ in range(3):
        for name in ("ann", "bob"):
            row = made.lease(name)
            places = tuple((row.order.index(place),) for place in range(4))
            made.submit(name, row, votes.Answer(tiers=places))
    rules = {"bonus": 5.0, "bonus_from": 0.9}
    assert [row.bonus for row in sheet(made, bonus_tasks=3, **rules).values()] == [5.0, 5.0]
    assert [row.bonus for row in sheet(made, bonus_tasks=4, **rules).values()] == [0.0, 0.0]


def test_practice_is_paid_by_time(bench: Make) -> None:
    made = bench(tasks=2, gold=2, practice_tasks=2)
    made.join("ann", "bob", state="practice")
    timed(made, "ann", 1, 36.0)
    ann = sheet(made, per_task=1.0, per_hour=10.0)["ann"]
    assert (ann.practice, ann.accepted, ann.amount) == (1, 0, 0.1)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1"])
def test_a_spreadsheet_takes_nothing_for_a_formula(text: str) -> None:
    (row,) = rows_of(pay_csv([replace(ROW, notes=text, panel_person=text)], panel=True))
    assert row["notes"].startswith("'")
    assert row["notes"].removeprefix("'") == text
    assert row["panel_person"].startswith("'")


def test_cells_stay_cells() -> None:
    (row,) = rows_of(pay_csv([replace(ROW, notes='a "b", c;\nd')]))
    assert row["notes"] == 'a "b", c;\nd'
    assert (row["hours"], row["amount"]) == ("0.5000", "4.70")
    assert "panel_person" not in row


def test_ids_of_a_panel_are_an_option_that_the_log_notes(bench: Make) -> None:
    panel = {"study": "S", "completed": "C"}
    made = bench(tasks=2, prolific=panel)
    made.join("ann", "bob")
    with made.store.write() as connection:
        connection.execute(
            update(person)
            .where(person.c.name == "ann")
            .values(panel="prolific", panel_person="5f77", panel_session="1")
        )
    made.vote("ann")
    app = create_app(made.project, made.store, limit=False)
    client = TestClient(app)
    token = people.invite(made.store, ["rita"], role="researcher")["rita"]
    client.get(f"/join/{token}", follow_redirects=False)
    reply = client.get("/lead/pay.csv")
    assert "attachment" in reply.headers["content-disposition"]
    assert "5f77" not in reply.text
    assert "ann" not in reply.text
    assert rows_of(reply.text)[0]["pseudonym"] == made.who("ann").pseudonym
    assert "keep it nowhere else" in client.get("/lead").text
    csrf = app.state.server.sessions.csrf(client.cookies["hpskit_session"])
    reply = client.post("/lead/pay.csv", data={"csrf": csrf})
    assert rows_of(reply.text)[0]["panel_person"] == "5f77"
    assert [line.who for line in made.rows(audit, audit.c.action == "pay-with-panel-ids")] == ["rita"]
