"""Pages of the server: templates with the house's figures and charts, and texts that the project brings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup, escape
from sqlalchemy import Row

from hpskit.annotation.project import Project, read_text
from hpskit.annotation.web.access import COOKIE
from hpskit.annotation.web.guard import Server
from hpskit.pages.page import environment

_DEFAULTS = {
    "instructions.md": """
        You will see a prompt, and images that were made for it. Put the images into the order in which you prefer them,
        the best first. Judge with your own eyes: how well an image shows what the prompt asks for, and how good it
        looks. There is no right answer that you have to guess.

        - Look at every image in full size before you decide.
        - Faults of hands, faces, text and perspective count, and so does a thing of the prompt that is missing.
        - Take the time that you need, and take a break when you are tired.
        """,
    "consent.md": """
        You are asked to compare images that were made by computers. Some may be odd or unpleasant; you may skip them.

        - Your answers are stored under a pseudonym, with the time that each took. They may be published so.
        - You may stop at any time, and withdraw your answers on the page *My numbers*.
        """,
}


def render(name: str, facts: Mapping[str, Any]) -> HTMLResponse:
    """Make a page of a template."""
    return HTMLResponse(environment("hpskit.annotation.web").get_template(name).render(facts))


def text_page(project: Project, name: str) -> Markup:
    """Return a text of the project, such as `instructions.md`, as HTML; without one the default text."""
    text = _DEFAULTS[name]
    return to_html(read_text(project, name, "\n".join(line.strip() for line in text.splitlines())))


def to_html(text: str) -> Markup:
    """Turn paragraphs, `#` headings, `-` lists, *emphasis* and **strong** words into HTML.

    Everything else is text as it stands: a project's text can bring no tag, address or script into the page.
    """
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in block.strip().splitlines()]
        if lines and lines[0].startswith("- ") and not any(line.startswith("#") for line in lines):
            items = re.split(r"(?m)^- ", "\n".join(lines))[1:]
            blocks.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>")
        elif lines and (heading := re.fullmatch(r"#{1,3} (.+)", lines[0])):
            blocks.append(f"<h2>{_inline(heading[1])}</h2>")
            if len(lines) > 1:
                blocks.append(f"<p>{_inline(' '.join(lines[1:]))}</p>")
        elif lines:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return Markup("\n".join(blocks))  # noqa: S704  # every part of it went through `escape`


def _inline(text: str) -> str:
    safe = str(escape(" ".join(text.split())))
    safe = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", safe)


def shell(request: Request, who: Row[Any] | None, **facts: Any) -> dict[str, Any]:
    """Return what every page of an annotator needs."""
    server = Server.of(request)
    cookie = request.cookies.get(COOKIE, "")
    return {
        "project": server.settings.name,
        "csrf": server.sessions.csrf(cookie) if who is not None else "",
        "person": who.pseudonym if who is not None else "",
        "signed_in": who is not None and who.state not in ("invited", "withdrawn"),
        "role": who.role if who is not None else "",
        **facts,
    }


def message(request: Request, who: Row[Any] | None, heading: str, text: str, **facts: Any) -> HTMLResponse:
    """Make a page that says one thing."""
    return render("message.html", shell(request, who, heading=heading, text=text, **facts))


def signed_in(request: Request, who: Row[Any]) -> Response:
    """Begin a session, and go to what is next."""
    reply = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    cookie = Server.of(request).sessions.cookie(who)
    reply.set_cookie(COOKIE, cookie, max_age=90 * 86400, httponly=True, samesite="lax", secure=secure, path="/")
    return reply
