"""Persons of a project: links that let them in, their states, and what inspectors and researchers do about them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, delete, insert, select, update

from hpskit.annotation.assignment import release
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import assignment, audit, person, task, vote
from hpskit.errors import InputError

Role: TypeAlias = Literal["annotator", "inspector", "researcher"]
ROLES: tuple[Role, ...] = ("annotator", "inspector", "researcher")

State: TypeAlias = Literal["invited", "practice", "work", "paused", "rejected", "finished", "withdrawn"]
"""`invited` until the consent, `practice` until the qualification is passed (`rejected` if it is not), `work`, `paused`
by a person or on evidence, `finished` when a panel's tasks are done, `withdrawn` for good."""

_TOKEN = 24
"""Bytes of a link's secret: 192 bits, nothing to guess."""


def hashed(token: str) -> str:
    """Return what is stored of a link: who reads the database cannot make the link of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def invite(
    store: Store,
    names: Sequence[str],
    *,
    role: Role = "annotator",
    who: str = "researcher",
    cap: int | None = None,
    panel: str | None = None,
) -> dict[str, str]:
    """Add persons, and return the secret of each one's link; for somebody who is there already the link is made anew.

    The link of before, and every session that it began, are void then. `panel` is where they are from, if that matters.

    Raises:
        InputError: a name is empty, too long or twice there, or somebody has withdrawn.
    """
    made = {}
    with store.write() as connection:
        for name in names:
            if not name.strip() or len(name) > 100 or not name.isprintable():
                raise InputError("NAME", f"is {name!r}", expected="1 to 100 characters that can be printed")
            if name in made:
                raise InputError("NAME", f"{name!r} is there twice", expected="different names")
            token = secrets.token_urlsafe(_TOKEN)
            found = connection.execute(select(person).where(person.c.name == name)).one_or_none()
            if found is None:
                add_person(connection, store.now(), name, role, link=hashed(token), cap=cap, panel=panel)
            elif found.state == "withdrawn":
                raise InputError(name, "has withdrawn", expected="somebody who takes part", cure="invite another name")
            else:
                connection.execute(
                    update(person)
                    .where(person.c.id == found.id)
                    .values(link=hashed(token), sessions=found.sessions + 1, role=role)
                )
            record(connection, store.now(), who, "invite", name, role=role)
            made[name] = token
    return made


def add_person(connection: Connection, at: float, name: str, role: Role, **facts: Any) -> int:
    """Add somebody who is not there yet, and return the number."""
    values = {
        "name": name,
        "pseudonym": f"a{secrets.token_hex(6)}",
        "role": role,
        "state": "invited",
        "reason": "",
        "sessions": 0,
        "done": 0,
        "skips": 0,
        "practice": [],
        "joined_at": at,
        **facts,
    }
    return int(connection.execute(insert(person).values(values).returning(person.c.id)).scalar_one())


def by_link(connection: Connection, token: str) -> Row[Any] | None:
    """Find whose link this is."""
    return connection.execute(select(person).where(person.c.link == hashed(token))).one_or_none()


def by_name(connection: Connection, name: str) -> Row[Any]:
    """Find a person by name or pseudonym.

    Raises:
        InputError: nobody is called so.
    """
    found = connection.execute(select(person).where((person.c.name == name) | (person.c.pseudonym == name))).first()
    if found is None:
        raise InputError(name, "is nobody in this project", cure="`hpskit annotate status` lists all")
    return found


def locked(connection: Connection, number: int) -> Row[Any]:
    """Read a person as they are now, so that nobody else changes them before this transaction ends."""
    return connection.execute(select(person).where(person.c.id == number).with_for_update()).one()


def set_state(connection: Connection, at: float, who: str, found: Row[Any], state: State, reason: str = "") -> None:
    """Change somebody's state, and write it into the log; leases of somebody who stops go back at once."""
    if found.state == state and found.reason == reason:
        return
    connection.execute(update(person).where(person.c.id == found.id).values(state=state, reason=reason))
    if state not in ("invited", "practice", "work"):
        release(connection, found.id)
    record(connection, at, who, "state", found.name, before=found.state, now=state, reason=reason)


def pause(store: Store, name: str, reason: str, *, who: str = "researcher") -> None:
    """Stop somebody until `resume`; nothing that was stored changes.

    Raises:
        InputError: they do not work now; the first reason stays.
    """
    with store.write() as connection:
        found = locked(connection, by_name(connection, name).id)
        if found.state in ("paused", "withdrawn"):
            raise InputError(name, f"is {found.state} already", expected="somebody who takes part")
        set_state(connection, store.now(), who, found, "paused", reason)


def resume(store: Store, name: str, *, who: str = "researcher") -> None:
    """Let somebody go on who was paused, where they were, or who was rejected; evidence of before no longer counts.

    Raises:
        InputError: they are neither.
    """
    with store.write() as connection:
        found = by_name(connection, name)
        if found.state not in ("paused", "rejected"):
            raise InputError(name, f"is {found.state}", expected="somebody who is paused or rejected")
        set_state(connection, store.now(), who, found, state_before(connection, found))


def state_before(connection: Connection, found: Row[Any]) -> State:
    """Tell where somebody was before they were paused; who was rejected goes to work."""
    query = select(audit.c.detail).where(audit.c.action == "state", audit.c.subject == found.name)
    lines = connection.execute(query.order_by(audit.c.id.desc())).scalars()
    before = next((str(line["before"]) for line in lines if line["now"] == "paused"), "work")
    if found.state == "rejected" or before not in ("invited", "practice"):
        return "work"
    return "invited" if before == "invited" else "practice"


def withdraw(store: Store, name: str, *, delete_votes: bool, who: str = "researcher") -> int:
    """Take somebody out who wants it, and return the number of votes deleted or kept under the pseudonym.

    The name goes in any case. Deleted votes leave their tasks open for others.
    """
    with store.write() as connection:
        found = locked(connection, by_name(connection, name).id)
        release(connection, found.id)
        own = select(vote.c.task).where(vote.c.person == found.id)
        tasks = select(task).where(task.c.id.in_(own)).order_by(task.c.id).with_for_update()
        kinds = {row.id: row.kind for row in connection.execute(tasks).all()}
        votes = connection.execute(select(vote).where(vote.c.person == found.id)).all()
        if delete_votes:
            for row in votes:
                if row.state == "counted" and row.round == 0 and kinds[row.task] == "work":
                    connection.execute(update(task).where(task.c.id == row.task).values(done=task.c.done - 1))
            connection.execute(delete(vote).where(vote.c.person == found.id))
            connection.execute(update(assignment).where(assignment.c.person == found.id).values(draft=None))
        connection.execute(
            update(person)
            .where(person.c.id == found.id)
            .values(
                name=f"withdrawn {found.pseudonym}",
                state="withdrawn",
                reason="",
                link=None,
                sessions=found.sessions + 1,
                panel_person=None,
                panel_session=None,
            )
        )
        record(
            connection,
            store.now(),
            "themselves" if who == found.name else who,
            "withdraw",
            found.pseudonym,
            votes=len(votes),
            deleted=delete_votes,
        )
    return len(votes)
