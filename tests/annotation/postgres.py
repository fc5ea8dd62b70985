"""A PostgreSQL server of the tests' own: in a temporary folder, on a Unix socket, as another user than root."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

__all__ = ["Postgres", "running"]

NEEDED = "HPSKIT_NEEDS_POSTGRES"
"""Where it is set, as by .ci/run, tests fail instead of being skipped where there is no PostgreSQL."""
USERS = ("postgres", "nobody")
"""Whom root starts it as: the server refuses to run as root."""


class Postgres:
    """A running server; every test has a place of its own in it."""

    def __init__(self, folder: Path, binaries: Path, user: str | None) -> None:
        self.folder, self.binaries, self.user = folder, binaries, user
        self._number = itertools.count()

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs.

        Raises:
            AssertionError: it failed; with what it said.
        """
        command: Sequence[str] = (str(self.binaries / program), *arguments)
        if self.user:
            command = ("setpriv", f"--reuid={self.user}", "--regid=nogroup", "--clear-groups", *command)
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def url(self, name: str) -> str:
        return f"postgresql://hpskit@/{name}?host={self.folder}"

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c max_connections=200 -c fsync=off"  # no test cuts the power
        self.run("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "stop", "-w", "-D", "data", "-m", mode)

    def database(self) -> str:
        """Make an empty place and return its address: a schema, which is made much faster than a database."""
        name = f"test{next(self._number)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")  # type: ignore[call-overload]
        return f"{self.url('postgres')}&options=-csearch_path%3D{name}"


def binaries() -> Path | None:
    """Find the newest PostgreSQL of this machine: Debian keeps the server out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    return Path(there).resolve().parent if there else None


def known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server while the block lasts; a test that needs one is skipped, or fails, where it cannot be."""
    there = binaries()
    if there is None:
        if os.environ.get(NEEDED):
            pytest.fail(f"{NEEDED} is set, and PostgreSQL is not installed")
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = next(filter(known, USERS)) if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="hpskit-pg-"))  # short: the path of a socket has at most 107 bytes
    server = Postgres(folder, there, user)
    try:
        if user:
            shutil.chown(folder, user)
        server.run("initdb", "-D", "data", "-U", "hpskit", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
