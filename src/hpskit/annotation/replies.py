"""Replies of the JSON routes, as /openapi.json declares them; the tests hold that every reply is one of these."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from hpskit.annotation.answers import Answer


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reason(_Reply):
    """Reason for a refusal."""

    place: str
    found: str
    expected: str
    cure: str
    message: str


class Refusal(BaseModel):
    """Every refusal; a conflict says besides what is stored."""

    error: Reason


class Picture(_Reply):
    """An image by its position on the page."""

    position: int
    url: str
    width: int
    height: int


class Saved(_Reply):
    """A draft."""

    version: int
    answer: Answer


class Given(_Reply):
    """A vote that is stored."""

    id: str
    revision: int
    answer: Answer


class Task(_Reply):
    """A task as a page shows it: nothing of generators, and nothing of others."""

    assignment: str
    mode: str
    practice: bool
    prompt: str
    images: list[Picture]
    ties: bool
    partial: bool
    none: bool
    ratings: int
    flags: list[str]
    skip_reasons: list[str]
    skips_left: int
    draft: Saved | None
    vote: Given | None
    returned: str
    """Why an inspector gave the vote back, if one did."""
    expires_in: float


class Me(_Reply):
    """The person of the session."""

    state: str
    name: str
    done: int
    wanted: int | None


class One(_Reply):
    """A task."""

    task: Task


class Next(_Reply):
    """A task, or why there is none."""

    task: Task | None
    reason: str | None = None
    seconds: float | None = None
    text: str | None = None


class Drafted(_Reply):
    """The version of a draft that is stored."""

    version: int


class Practice(_Reply):
    """Feedback after a task of the qualification."""

    score: float
    passed: bool | None
    left: int
    agreed: float
    pairs: int


class Stored(_Reply):
    """A vote is on the disk."""

    stored: bool
    vote: str
    revision: int
    done: int
    late: bool
    practice: Practice | None


class Skipped(_Reply):
    """Skips that are left."""

    skips_left: int


class Before(_Reply):
    """One of the last votes."""

    vote: str
    assignment: str
    prompt: str
    changeable: bool


class Past(_Reply):
    """The last votes, the newest first."""

    votes: list[Before]


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "not as described",
        401: "no session",
        403: "from another page, or another site",
        404: "not there, or somebody else's",
        405: "not this verb",
        409: "something newer is stored, or it can no longer be changed",
        413: "more than 64 KiB",
        429: "too many requests; Retry-After says when",
        500: "a fault of the server",
        503: "the database does not answer, or its disk is full",
    }.items()
}
"""What every route may answer."""
