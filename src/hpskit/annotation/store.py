"""Open the database of a project: SQLite beside the project, or a PostgreSQL that several servers share.

A transaction that writes is `store.write()`, one that reads is `store.read()`. What was written is on the disk when
`write` ends well: SQLite runs in WAL mode with `synchronous = FULL`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from hpskit.annotation import tables
from hpskit.errors import InputError, MissingExtraError, OutputError, masked

if TYPE_CHECKING:
    from alembic.config import Config

Clock: TypeAlias = Callable[[], float]
"""Seconds since 1970; tests bring their own."""

_WAIT = 30.0
"""Seconds for which a writer waits for another process: `hpskit annotate pause` beside a server."""


class Store:
    """The database of one project."""

    def __init__(self, url: str, *, clock: Clock = time.time) -> None:
        """Connect; nothing is made and nothing is changed before `upgrade`.

        Raises:
            InputError: the address is of no database that is known.
            MissingExtraError: the driver is not installed.
        """
        self.now = clock
        self.shown = masked(url)
        expected = "sqlite:///FILE or postgresql://USER@HOST/NAME"
        if not url.startswith(("sqlite://", "postgresql")):
            raise InputError("--database", f"is {self.shown!r}", expected=expected)
        try:
            address = make_url(url)
            if address.get_backend_name() == "postgresql" and address.drivername == "postgresql":
                address = address.set(drivername="postgresql+psycopg")
            self.sqlite = address.get_backend_name() == "sqlite"
            options: dict[str, Any] = {"connect_args": {"timeout": _WAIT, "check_same_thread": False}}
            self.engine: Engine = create_engine(
                address,
                pool_size=20,
                max_overflow=40,
                pool_pre_ping=not self.sqlite,
                **(options if self.sqlite else {}),
            )
        except (ArgumentError, NoSuchModuleError) as error:
            raise InputError("--database", f"is {self.shown!r}", expected=expected) from error
        except ImportError as error:
            cure = 'pip install "hpskit[annotate]"'
            raise MissingExtraError("--database", "needs psycopg, which is not installed", cure=cure) from error
        self._one_writer: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self.sqlite:
            self._one_writer = threading.Lock()  # threads wait in turn; SQLite itself lets chance decide
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Hold a transaction that writes: all of it is stored when the block ends, or nothing.

        Raises:
            OutputError: the database cannot be written, for example because the disk is full.
        """
        with self._one_writer, self._named(), self._begun(writes=True) as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Hold a transaction that reads one state of the database."""
        with self._named(), self._begun(writes=False) as connection:
            yield connection

    @contextlib.contextmanager
    def _begun(self, *, writes: bool) -> Iterator[Connection]:
        with self.engine.connect() as connection, connection.execution_options(writes=writes).begin():
            yield connection

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            cure = "see that it runs and has room; what was acknowledged before is safe"
            raise OutputError(self.shown, f"cannot be used ({_reason(error)})", cure=cure) from error

    def upgrade(self) -> None:
        """Bring the tables to this version, from nothing or from an earlier one.

        Raises:
            OutputError: the database cannot be written, or a newer version of hpskit made it.
        """
        from alembic import command
        from alembic.script import ScriptDirectory
        from alembic.util.exc import CommandError

        config = self._config()
        with self.write() as connection:
            if not self.sqlite:  # two servers that start at once
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4850535)")
            config.attributes["connection"] = connection
            try:
                if inspect(connection).has_table("alembic_version") and self.version(connection) == str(
                    ScriptDirectory.from_config(config).get_current_head()
                ):
                    return
                command.upgrade(config, "head")
            except CommandError as error:
                cure = "update hpskit: pip install --upgrade hpskit"
                raise OutputError(self.shown, f"was made by another version ({error})", cure=cure) from error

    def version(self, connection: Connection) -> str:
        """Return the number of the last migration."""
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())

    def is_new(self) -> bool:
        """Tell whether nothing was ever stored here."""
        with self.read() as connection:
            return not inspect(connection).has_table("setting")

    def _config(self) -> Config:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        return config

    def setting(self, name: str) -> Any:
        """Return what was stored under a name by `init`."""
        with self.read() as connection:
            return connection.execute(
                select(tables.setting.c.value).where(tables.setting.c.name == name)
            ).scalar_one_or_none()

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def record(connection: Connection, at: float, who: str, action: str, subject: str, **detail: Any) -> None:
    """Add a line to the audit log, in the transaction of what it tells of."""
    connection.execute(insert(tables.audit).values(at=at, who=who, action=action, subject=subject, detail=detail))


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # this module says BEGIN itself
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """Take the lock for writing at once: a reader that begins to write later may fail."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: DBAPIError) -> str:
    return masked(str(error.orig).splitlines()[0])
