"""Tables of an annotation project, in SQLite or PostgreSQL.

Images are never in the row of a task, and counts are kept, not counted: a hundred thousand tasks are as fast as a
hundred. What must not happen is forbidden here, whatever the code does: one person has one task once (`round` 0, and 1
for a hidden repeat), an assignment has one vote, and no line of the audit log is changed.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", JSON, nullable=False),
)
"""The key that cookies are signed with, and the name of the project."""

image = Table(
    "image",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("file", Text, nullable=False),  # below the project's folder `images`, named by its content
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("name", Text, nullable=False, unique=True),  # as the data that were brought call it, and as exports will
    Column("source", Text),  # its generator: never sent to an annotator
)

task = Table(
    "task",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),  # work, gold (a hidden check) or practice
    Column("split", Text, nullable=False),  # test or train, as in HPD v2
    Column("prompt", Text, nullable=False),
    Column("category", Text),
    Column("images", JSON, nullable=False),  # ids; the index of an image here is its *place*
    Column("gold", JSON),  # rankings of experts, by place
    Column("wanted", Integer, nullable=False),  # votes
    Column("done", Integer, nullable=False),  # votes that count
    Column("held", Integer, nullable=False),  # leases that nobody has ended, those that are over included
    Column("next_end", Double),  # when the first of these is over, or earlier: decided when it is read
    Column("shuffle", Integer, nullable=False),
    Index(
        "ix_task_open",
        "kind",
        text("done DESC"),
        "shuffle",
        sqlite_where=text("done < wanted"),
        postgresql_where=text("done < wanted"),
    ),
)

person = Table(
    "person",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # for the researcher only
    Column("pseudonym", Text, nullable=False, unique=True),  # for exports
    Column("role", Text, nullable=False),  # annotator, inspector or researcher
    Column("state", Text, nullable=False),  # see `hpskit.annotation.people.State`
    Column("reason", Text, nullable=False),
    Column("link", Text, unique=True),  # SHA-256 of the token in the link
    Column("sessions", Integer, nullable=False),  # cookies of an earlier number are void
    Column("panel", Text),
    Column("panel_person", Text),
    Column("panel_session", Text),
    Column("cap", Integer),
    Column("done", Integer, nullable=False),
    Column("skips", Integer, nullable=False),
    Column("practice", JSON, nullable=False),  # a score for each practice task that was done
    Column("joined_at", Double, nullable=False),
    Column("consented_at", Double),
    Column("seen_at", Double),
    UniqueConstraint("panel", "panel_person"),
)

assignment = Table(
    "assignment",
    metadata,
    Column("id", Text, primary_key=True),  # unguessable: it is in the addresses of images
    Column("task", Integer, ForeignKey("task.id"), nullable=False),
    Column("person", Integer, ForeignKey("person.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("order", JSON, nullable=False),  # order[position on the page] = place
    Column("state", Text, nullable=False),  # held, voted, skipped, ended
    Column("held_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False),
    Column("seen_at", Double),
    Column("draft", JSON),
    Column("draft_version", Integer, nullable=False),
    Column("active_seconds", Double, nullable=False),
    Column("skip_reason", Text),
    UniqueConstraint("task", "person", "round"),
    Index("ix_assignment_person_state", "person", "state"),
)

vote = Table(
    "vote",
    metadata,
    Column("id", Text, primary_key=True),  # made by the page, so that a retry is the same vote
    Column("assignment", Text, ForeignKey("assignment.id"), nullable=False, unique=True),
    Column("task", Integer, ForeignKey("task.id"), nullable=False),
    Column("person", Integer, ForeignKey("person.id"), nullable=False),
    Column("round", Integer, nullable=False),
    Column("ranks", JSON, nullable=False),  # by place: 1 is best, equal is a tie, null was not ranked
    Column("none", Boolean, nullable=False),
    Column("ratings", JSON),
    Column("flags", JSON, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False),  # counted, late, returned, invalid, withdrawn
    Column("reason", Text, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("stored_at", Double, nullable=False),
    Column("active_seconds", Double, nullable=False),
    UniqueConstraint("task", "person", "round"),
    Index("ix_vote_person_first_at", "person", "first_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
)
