"""What the tests do with the annotator's page, and what they read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from playwright.sync_api import Error

from served import Served

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
Open = Callable[..., Any]
"""The fixture `enter`: a server, and options of a browser's context -> its page."""


def until(page: Any, script: str, arg: Any = None) -> None:
    """Wait for a condition; Playwright's own way would evaluate a string in the page, which its policy forbids."""
    for _ in range(600):
        with suppress(Error):  # the page may just be on its way to another
            if page.evaluate(script, arg):
                return
        page.wait_for_timeout(50)
    raise AssertionError(f"{script} with {arg}: {page.inner_text('#work')}")


def soon(page: Any, happened: Callable[[], object]) -> None:
    """Wait for what a test sees outside the page, such as a draft on the server."""
    for _ in range(1200):
        if happened():
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.inner_text("#work"))


def loaded_ahead(page: Any) -> None:
    """Wait until the first page of a visit has asked for all that it wants, the next task and its images too."""
    page.wait_for_load_state("networkidle")


def ready(page: Any) -> None:
    page.wait_for_selector(".card")
    page.wait_for_selector(".card.loading", state="detached")


STRIP = """[...document.querySelectorAll("#podium .tier:not(.open)")]
  .map((tier) => [...tier.querySelectorAll(".item")].map((item) => Number(item.dataset.position)))"""


def shown(page: Any) -> list[list[int]]:
    """The order in the strip: positions by tier."""
    return page.evaluate(STRIP)


def badges(page: Any) -> list[str]:
    return page.locator(".card .badge").all_text_contents()


def pick(page: Any, position: int) -> Any:
    return page.locator(".card").nth(position).locator(".pick")


def press(page: Any, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def saved(page: Any) -> None:
    page.wait_for_selector("#saved[data-state=saved]")


def next_task(page: Any, prompt: str) -> None:
    until(page, "(text) => document.getElementById('prompt-text').textContent === text", prompt)
    ready(page)


def tiers(server: Served) -> list[list[list[int]]]:
    return [vote.answer["tiers"] for vote in server.votes()]


def middle(locator: Any) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@contextmanager
def refused(
    page: Any, url: str, *, status: int, times: int, headers: dict[str, str] | None = None
) -> Iterator[list[str]]:
    """Let the first requests to an address fail; the list is of their bodies."""
    bodies: list[str] = []

    def answer(route: Any) -> None:
        bodies.append(route.request.post_data)
        if len(bodies) > times:
            route.continue_()
        else:
            error = {"error": {"message": "out of order"}}
            route.fulfill(status=status, json=error, headers=headers or {})

    page.route(url, answer)
    yield bodies
    page.unroute(url)


class Finger:
    """A finger on the glass, by the same events as a real one."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.glass = page.context.new_cdp_session(page)

    def send(self, kind: str, *at: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(at)]
        self.glass.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def drag(
        self, start: tuple[float, float], end: tuple[float, float], steps: int = 6, *, lift: str = "touchEnd"
    ) -> None:
        self.send("touchStart", start)
        for k in range(1, steps + 1):
            share = k / steps
            self.send("touchMove", (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share))
        self.send(lift)


def beside(page: Any, tier: int, side: str) -> tuple[float, float]:
    box = page.locator("#podium .tier").nth(tier).bounding_box()
    return box["x"] + (2 if side == "left" else box["width"] - 2), box["y"] + box["height"] / 2


def drag(page: Any, handle: Any, to: tuple[float, float]) -> None:
    page.mouse.move(*middle(handle))
    page.mouse.down()
    page.mouse.move(*to, steps=5)
