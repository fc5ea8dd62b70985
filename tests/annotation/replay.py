"""Rankings that are known, given through the routes of the server by as many people as there are."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import select

from hpskit.annotation import people, tables
from hpskit.annotation.store import Store


def tiers_of(ranks: Sequence[int | None], order: Sequence[int]) -> list[list[int]]:
    """The answer, by position, that says these ranks, by place."""
    position = {place: at for at, place in enumerate(order)}
    found: dict[int, list[int]] = {}
    for place, rank in enumerate(ranks):
        if rank is not None:
            found.setdefault(rank, []).append(position[place])
    return [found[rank] for rank in sorted(found)]


async def replay(app: FastAPI, store: Store, given: Mapping[str, Mapping[str, Sequence[int | None]]]) -> int:
    """Let each annotator answer every task that the server gives: annotator -> name of the task -> ranks."""
    links = people.invite(store, list(given))
    votes = 0
    for name, own in given.items():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://testserver") as client:
            await client.get(f"/join/{links[name]}")
            page = (await client.get("/")).text
            headers = {"X-CSRF-Token": page.partition('name="csrf" content="')[2].partition('"')[0]}
            csrf = headers["X-CSRF-Token"]
            await client.post("/consent", data={"agree": "yes", "csrf": csrf})
            while True:
                said = (await client.post("/api/next", json={"holding": []}, headers=headers)).json()
                if said["task"] is None:
                    assert said["reason"] in ("done", "wait"), said
                    break
                number = said["task"]["assignment"]
                ranks, order = own[task_name(store, number)], order_of(store, number)
                answer: dict[str, Any] = {"tiers": tiers_of(ranks, order)}
                body = {"assignment": number, "revision": 1, "answer": answer, "active_seconds": 20.0}
                reply = await client.put(f"/api/votes/{uuid.uuid4()}", json=body, headers=headers)
                assert reply.status_code == 200, reply.text
                votes += 1
    return votes


def task_name(store: Store, number: str) -> str:
    with store.read() as connection:
        query = select(tables.task.c.name).join(tables.assignment, tables.assignment.c.task == tables.task.c.id)
        return str(connection.execute(query.where(tables.assignment.c.id == number)).scalar_one())


def order_of(store: Store, number: str) -> list[int]:
    with store.read() as connection:
        query = select(tables.assignment.c.order).where(tables.assignment.c.id == number)
        return list(connection.execute(query).scalar_one())
