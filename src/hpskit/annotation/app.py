"""The web application: pages of annotators by their state, and the routes of everybody."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Row, select, update

from hpskit import __version__
from hpskit.annotation import api, lead, panels, people
from hpskit.annotation.access import COOKIE
from hpskit.annotation.guard import Guard, Refused, Server, acting, current, install
from hpskit.annotation.pages import render, text_page
from hpskit.annotation.project import Project, open_project
from hpskit.annotation.quality import assess_until_told
from hpskit.annotation.store import Store
from hpskit.annotation.tables import person
from hpskit.pages.page import environment

__all__ = ["create_app"]

Person = Annotated[Row[Any], Depends(current)]
Acting = Annotated[Row[Any], Depends(acting)]


def create_app(project: Project, store: Store, *, limit: bool = True) -> FastAPI:
    """Make the application of a project whose database is up to date; `limit` bounds the requests of each client."""
    server = Server(project, store, limit=limit)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        worker = threading.Thread(target=assess_until_told, args=(server,), daemon=True)
        worker.start()
        yield
        server.to_assess.put(None)
        worker.join(timeout=10)

    app = FastAPI(title="hpskit annotate", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = server
    install(app)
    app.include_router(api.router)
    app.include_router(panels.router)
    app.include_router(lead.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_api_route("/", home, methods=["GET"], include_in_schema=False)
    app.add_api_route("/join/{token}", join, methods=["GET"], include_in_schema=False)
    app.add_api_route("/consent", consent, methods=["POST"], include_in_schema=False)
    app.add_api_route("/instructions", instructions, methods=["GET"], include_in_schema=False)
    app.add_api_route("/me", me, methods=["GET"], include_in_schema=False)
    app.add_api_route("/withdraw", withdraw, methods=["POST"], include_in_schema=False)
    app.add_api_route("/health", health, methods=["GET"], include_in_schema=False)
    app.add_middleware(Guard, server=server)
    return app


def from_environment() -> FastAPI:
    """Make the application that HPSKIT_PROJECT and HPSKIT_DATABASE name, for servers that load an application."""
    import os

    project = open_project(Path(os.environ["HPSKIT_PROJECT"]), os.environ.get("HPSKIT_DATABASE", ""))
    store = Store(project.database)
    store.upgrade()
    return create_app(project, store)
