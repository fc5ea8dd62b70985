"""Run the server of a project, and tell the links that open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpskit.annotation import people
from hpskit.annotation.project import Project, open_project
from hpskit.annotation.store import Store
from hpskit.errors import InputError
from hpskit.web import listen, socket_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A project with its database, for one command."""

    project: Project
    store: Store


def opened(folder: Path, database: str = "") -> Opened:
    """Open a project and bring its database up to date.

    Raises:
        InputError: there is no project, or the database has none.
        OutputError: the database cannot be used.
    """
    project = open_project(folder, database)
    store = Store(project.database)
    store.upgrade()
    if store.setting("key") is None:
        cure = "name the database that `init` was given, with --database"
        raise InputError(store.shown, "has no project", expected=f"that of {folder}", cure=cure)
    return Opened(project=project, store=store)


def serve(
    found: Opened, *, host: str = "127.0.0.1", port: int = 8100, said: Callable[[str], None] = print, limit: bool = True
) -> None:
    """Serve a project until the process is told to end; `said` gets the researcher's link once the server listens.

    Raises:
        InputError: the address is taken, or is none of this machine.
    """
    import uvicorn

    from hpskit.annotation.web.app import create_app

    listening = listen(host, port)
    name = socket_name(listening)
    config = uvicorn.Config(
        create_app(found.project, found.store, limit=limit),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=True,
        timeout_graceful_shutdown=10,
        timeout_keep_alive=75,  # longer than a proxy keeps its connections, which must not be closed under a request
    )
    said(f"http://{name}")
    uvicorn.Server(config).run(sockets=[listening])
    found.store.close()


def researcher_link(found: Opened, base: str) -> str:
    """Make the link of the first researcher; it is made anew at each start, as the one of before may be lost."""
    token = people.invite(found.store, ["researcher"], role="researcher", who="serve")["researcher"]
    return f"{base}/join/{token}"
