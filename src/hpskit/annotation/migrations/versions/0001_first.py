"""Make the tables of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_FUNCTION = """
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'append-only'; END $$
"""
_TRIGGER = """
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_append_only()
"""
_GUARDS = {
    "sqlite": (
        "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END",
        "CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    ),
    "postgresql": (
        _FUNCTION,
        _TRIGGER,
    ),
}


def upgrade() -> None:
    """Make tables, indices, and the triggers that make the audit log append-only."""
    for make in (settings, images, tasks, people, assignments, votes, log):
        make()


def settings() -> None:
    """Make the table of what `init` stored."""
    op.create_table(
        "setting",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_setting"),
    )


def images() -> None:
    """Make the table of images."""
    op.create_table(
        "image",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_image"),
        sa.UniqueConstraint("name", name="uq_image_name"),
    )


def tasks() -> None:
    """Make the table of tasks, and the index by which open ones are found."""
    op.create_table(
        "task",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("split", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("category", sa.Text),
        sa.Column("images", sa.JSON, nullable=False),
        sa.Column("gold", sa.JSON),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("next_end", sa.Double),
        sa.Column("shuffle", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_task"),
        sa.UniqueConstraint("name", name="uq_task_name"),
    )
    is_open = sa.text("done < wanted")
    order: list[str | sa.TextClause] = ["kind", sa.text("done DESC"), "shuffle"]
    op.create_index("ix_task_open", "task", order, sqlite_where=is_open, postgresql_where=is_open)


def people() -> None:
    """Make the table of people."""
    op.create_table(
        "person",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("pseudonym", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("link", sa.Text),
        sa.Column("sessions", sa.Integer, nullable=False),
        sa.Column("panel", sa.Text),
        sa.Column("panel_person", sa.Text),
        sa.Column("panel_session", sa.Text),
        sa.Column("cap", sa.Integer),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("skips", sa.Integer, nullable=False),
        sa.Column("practice", sa.JSON, nullable=False),
        sa.Column("joined_at", sa.Double, nullable=False),
        sa.Column("consented_at", sa.Double),
        sa.Column("seen_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_person"),
        sa.UniqueConstraint("name", name="uq_person_name"),
        sa.UniqueConstraint("pseudonym", name="uq_person_pseudonym"),
        sa.UniqueConstraint("link", name="uq_person_link"),
        sa.UniqueConstraint("panel", "panel_person", name="uq_person_panel_panel_person"),
    )


def assignments() -> None:
    """Make the table of leases."""
    op.create_table(
        "assignment",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("person", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("order", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("held_at", sa.Double, nullable=False),
        sa.Column("ends_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double),
        sa.Column("draft", sa.JSON),
        sa.Column("draft_version", sa.Integer, nullable=False),
        sa.Column("active_seconds", sa.Double, nullable=False),
        sa.Column("skip_reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_assignment"),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name="fk_assignment_task_task"),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name="fk_assignment_person_person"),
        sa.UniqueConstraint("task", "person", "round", name="uq_assignment_task_person_round"),
    )
    op.create_index("ix_assignment_person_state", "assignment", ["person", "state"])


def votes() -> None:
    """Make the table of votes."""
    op.create_table(
        "vote",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("assignment", sa.Text, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("person", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("ranks", sa.JSON, nullable=False),
        sa.Column("none", sa.Boolean, nullable=False),
        sa.Column("ratings", sa.JSON),
        sa.Column("flags", sa.JSON, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("stored_at", sa.Double, nullable=False),
        sa.Column("active_seconds", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vote"),
        sa.ForeignKeyConstraint(["assignment"], ["assignment.id"], name="fk_vote_assignment_assignment"),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name="fk_vote_task_task"),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name="fk_vote_person_person"),
        sa.UniqueConstraint("assignment", name="uq_vote_assignment"),
        sa.UniqueConstraint("task", "person", "round", name="uq_vote_task_person_round"),
    )
    op.create_index("ix_vote_person_first_at", "vote", ["person", "first_at"])


def log() -> None:
    """Make the log, and the triggers that make it append-only."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    for statement in _GUARDS[op.get_bind().dialect.name]:
        op.execute(statement)
