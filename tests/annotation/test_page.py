"""The annotator's page in a real browser: by mouse, keyboard and touch, and whatever goes wrong on the way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error
from served import MadeTask, Served, served, tasks

from browser import CHROMIUM, excess, needs_chromium

pytestmark = needs_chromium

SRC = Path(__file__).parents[2] / "src/hpskit"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def enter(chromium: Any) -> Iterator[Open]:
    """Follow a personal link in a browser of its own. In the end nothing may have been logged but failed requests."""
    contexts, troubles = [], []

    def follow(server: Served, **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        context.on("weberror", lambda error: troubles.append(str(error.error)))
        context.on(
            "console", lambda message: message.text.startswith("Failed to load") or troubles.append(message.text)
        )
        page = context.new_page()
        page.set_default_timeout(8_000)
        page.goto(server.link)
        ready(page)
        return page

    yield follow
    for context in contexts:
        context.close()
    assert troubles == []


def until(page: Any, script: str, arg: Any = None) -> None:
    """Wait for a condition; Playwright's own way would evaluate a string in the page, which its policy forbids."""
    for _ in range(160):
        with suppress(Error):  # the page may just be on its way to another
            if page.evaluate(script, arg):
                return
        page.wait_for_timeout(50)
    raise AssertionError(f"{script} with {arg}: {page.inner_text('#work')}")


def ready(page: Any) -> None:
    page.wait_for_selector(".card")
    page.wait_for_selector(".card.loading", state="detached")


def shown(page: Any) -> list[list[int]]:
    """The order in the strip: positions by tier."""
    return page.evaluate("[...document.querySelectorAll('#podium .tier:not(.open)')].map((tier) =>"
                         "[...tier.querySelectorAll('.item')].map((item) => Number(item.dataset.position)))")  # fmt: skip


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


# Ranking


def test_mouse_and_the_last_falls_into_place(enter: Open) -> None:
    with served(tasks(4, 4)) as server:
        page = enter(server)
        assert page.locator("#submit").get_attribute("aria-disabled") == "true"
        for position in (2, 0, 3):
            pick(page, position).click()
        assert shown(page) == [[2], [0], [3], [1]]
        assert badges(page) == ["2nd", "4th", "1st", "3rd"]
        assert "Image 2 took the last place by itself" in page.inner_text("#hint")
        assert server.votes() == []
        page.click("#submit")
        next_task(page, "task 2")
        saved(page)
        assert tiers(server) == [[[2], [0], [3], [1]]]
        assert shown(page) == []


def test_menu_of_a_ranked_image(enter: Open) -> None:
    with served(tasks(5), ties=True) as server:
        page = enter(server)
        for position in range(4):
            pick(page, position).click()
        assert shown(page) == [[0], [1], [2], [3]], "with ties, the last place is a choice"
        pick(page, 2).click()
        menu = page.locator(".card").nth(2).locator(".menu")
        menu.locator(".better").click()
        assert shown(page) == [[0], [2], [1], [3]]
        menu.locator(".tie").click()
        assert shown(page) == [[0, 2], [1], [3]]
        menu.locator(".worse").click()
        menu.locator(".worse").click()
        assert shown(page) == [[0], [1], [2], [3]]
        menu.locator(".unplace").click()
        assert shown(page) == [[0], [1], [3]]
        assert menu.is_hidden()
        assert page.locator(".menu:visible").count() == 0


def test_double_click_ranks_once(enter: Open) -> None:
    with served(tasks(4)) as server:
        page = enter(server)
        pick(page, 1).dblclick()
        assert shown(page) == [[1]]


def test_keyboard(enter: Open) -> None:
    with served(tasks(4, 12)) as server:
        page = enter(server)
        press(page, "Enter")
        assert "Rank the images first" in page.inner_text("#toast")
        press(page, "3 1 4")
        assert shown(page) == [[2], [0], [3], [1]]
        assert "Image 4, rank 3 of 4" in page.inner_text("#live")
        press(page, "ArrowUp ArrowUp")
        assert shown(page) == [[3], [2], [0], [1]]
        press(page, "ArrowDown Backspace")
        assert shown(page) == [[2], [0]], "the one that fell into place is open again"
        press(page, "z")
        assert shown(page) == [[2], [3], [0], [1]]
        press(page, "Enter")
        next_task(page, "task 2")
        assert tiers(server) == [[[2], [3], [0], [1]]]
        press(page, "= - 0 9 8 7 6 5 4 3 2")
        assert shown(page) == [[k] for k in range(11, -1, -1)]
        press(page, "1")
        assert shown(page)[-1] == [0], "a ranked image is picked out, not taken back"
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")
        assert len(server.votes()) == 2


def test_keyboard_alone_with_tab_and_enter(enter: Open) -> None:
    with served(tasks(2)) as server:
        page = enter(server)
        pick(page, 1).focus()
        press(page, "Enter")
        assert shown(page) == [[1], [0]]
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")
        assert tiers(server) == [[[1], [0]]]


def test_touch(enter: Open) -> None:
    with served(tasks(4, 2)) as server:
        page = enter(server, **PHONE)
        for position in (1, 3, 0):
            pick(page, position).tap()
        assert shown(page) == [[1], [3], [0], [2]]
        page.locator("#submit").tap()
        next_task(page, "task 2")
        assert tiers(server) == [[[1], [3], [0], [2]]]


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


def test_drag_by_touch(enter: Open) -> None:
    with served(tasks(4)) as server:
        page = enter(server, **PHONE)
        for position in range(3):
            pick(page, position).tap()
        finger = Finger(page)
        finger.drag(middle(page.locator("#podium .handle").nth(2)), beside(page, 0, "left"))
        assert shown(page) == [[2], [0], [1], [3]]
        finger.drag(middle(page.locator("#podium .handle").nth(0)), beside(page, 3, "right"), lift="touchCancel")
        assert shown(page) == [[2], [0], [1], [3]]
        saved(page)
        assert server.draft(0)["answer"]["tiers"] == [[2], [0], [1], [3]]


def scroll_about(page: Any, times: int) -> None:
    """Random flicks over images, strip and prompt, as fast as a browser takes them."""
    chance, finger = random.Random(7), Finger(page)
    handles = page.locator(".handle:visible")
    for _ in range(times):
        boxes = [box for box in (handles.nth(k).bounding_box() for k in range(handles.count())) if box]
        while True:
            x, y = chance.uniform(5, 355), chance.uniform(5, 735)
            if not any(
                box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"] for box in boxes
            ):
                break
        far = chance.choice([-1, 1]) * chance.uniform(40, 300)
        end = (x + chance.uniform(-5, 5), y + far if 5 <= y + far <= 735 else y - far)
        finger.drag((x, y), end, chance.randint(2, 5), lift=chance.choice(["touchEnd", "touchEnd", "touchCancel"]))


@pytest.mark.parametrize("times", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_scrolling_never_reorders(enter: Open, times: int) -> None:
    with served(tasks(9)) as server:
        page = enter(server, **PHONE)
        for position in (4, 2, 7):
            pick(page, position).tap()
        saved(page)
        before = server.draft(0)
        page.evaluate("window.scrolled = 0; addEventListener('scroll', () => { window.scrolled += 1 })")
        scroll_about(page, times)
        assert page.evaluate("window.scrolled") > 10
        assert shown(page) == [[4], [2], [7]]
        assert page.locator("dialog[open], .menu:visible").count() == 0
        page.wait_for_timeout(700)
        assert server.draft(0) == before


def test_nothing_on_the_board_but_handles_keeps_touch_from_scrolling(enter: Open) -> None:
    with served(tasks(9)) as server:
        page = enter(server, **PHONE)
        held = page.evaluate("[...document.querySelectorAll('#task, #task *')].filter((one) =>"
                             "getComputedStyle(one).touchAction !== 'auto').map((one) => one.className)")  # fmt: skip
        assert set(held) == {"handle"}


def drag(page: Any, handle: Any, to: tuple[float, float]) -> None:
    page.mouse.move(*middle(handle))
    page.mouse.down()
    page.mouse.move(*to, steps=5)


def test_drag_by_mouse(enter: Open) -> None:
    with served(tasks(5), ties=True) as server:
        page = enter(server)
        cards, strip = page.locator(".card .handle"), page.locator("#podium .handle")
        drag(page, cards.nth(3), middle(page.locator("#podium .tier").nth(0)))
        page.mouse.up()
        assert shown(page) == [[3]]
        drag(page, cards.nth(0), beside(page, 0, "left"))
        assert page.locator(".drop").is_visible()
        page.mouse.up()
        assert shown(page) == [[0], [3]]
        drag(page, cards.nth(1), middle(page.locator("#podium .tier").nth(1)))
        assert page.locator(".tier.onto").count() == 1
        page.mouse.up()
        assert shown(page) == [[0], [3, 1]]
        drag(page, strip.nth(0), beside(page, 1, "right"))
        page.mouse.up()
        assert shown(page) == [[3, 1], [0]]
        drag(page, strip.nth(0), (600, 200))
        page.mouse.up()
        assert shown(page) == [[3, 1], [0]], "outside the strip nothing happens"


@pytest.mark.parametrize("way", ["Escape", "lost", "blur"])
def test_cancelled_drag_leaves_screen_model_and_draft_alone(enter: Open, way: str) -> None:
    with served(tasks(4)) as server:
        page = enter(server)
        press(page, "1 2 3")
        saved(page)
        before = (server.draft(0), shown(page), badges(page))
        drag(page, page.locator("#podium .handle").nth(3), beside(page, 0, "left"))
        assert page.locator(".ghost").count() == 1
        if way == "Escape":
            press(page, "Escape")
        elif way == "blur":
            page.evaluate("window.dispatchEvent(new Event('blur'))")
        else:
            page.evaluate("document.querySelectorAll('#podium .handle')[3].dispatchEvent("
                          "new PointerEvent('pointercancel', {pointerId: 1}))")  # fmt: skip
        assert page.locator(".ghost").count() == 0
        page.mouse.up()
        page.wait_for_timeout(700)
        assert page.locator(".drop").is_hidden()
        assert (server.draft(0), shown(page), badges(page)) == before


def test_undo_and_redo_go_all_the_way(enter: Open) -> None:
    with served(tasks(4), ties=True, flags=["broken"], ratings=5) as server:
        page = enter(server)
        press(page, "1 2 3 T ArrowUp Backspace n")
        states = [shown(page)]
        for _ in range(7):
            page.click("#undo")
            states.append(shown(page))
        assert states[-1] == []
        press(page, "z")
        assert page.inner_text("#live") == "Nothing to undo"
        for state in states[-2::-1]:
            press(page, "y")
            assert shown(page) == state
        assert page.locator("#none").get_attribute("aria-pressed") == "true"


# Rules of the project


def test_untouched_order_is_no_answer(enter: Open) -> None:
    with served(tasks(3), partial=True, ties=True) as server:
        page = enter(server)
        press(page, "Enter")
        page.click("#submit", force=True)
        press(page, "1 Backspace Enter")
        page.wait_for_timeout(300)
        assert server.votes() == []
        assert page.inner_text("#prompt-text") == "task 1"


def test_ties(enter: Open) -> None:
    with served(tasks(4), ties=True) as server:
        page = enter(server)
        press(page, "1 2 T 3 4 T")
        assert shown(page) == [[0, 1], [2, 3]]
        assert page.locator(".card").nth(1).get_attribute("aria-label") == "Image 2, rank 1 of 4, tied with 1"
        press(page, "T ArrowUp")
        assert shown(page) == [[0, 1], [3], [2]]
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")
        assert tiers(server) == [[[0, 1], [3], [2]]]


def test_without_ties_nothing_ties(enter: Open) -> None:
    with served(tasks(4)) as server:
        page = enter(server)
        press(page, "1 2 T")
        assert shown(page) == [[0], [1]]
        assert page.inner_text("#live") == "Ties are not allowed here"
        drag(page, page.locator(".card .handle").nth(3), middle(page.locator("#podium .tier").nth(0)))
        page.mouse.up()
        assert all(len(tier) == 1 for tier in shown(page))


def test_partial_order(enter: Open) -> None:
    with served(tasks(5), partial=True) as server:
        page = enter(server)
        press(page, "4 2 Enter")
        page.wait_for_selector("#empty:visible")
        assert tiers(server) == [[[3], [1]]]


def test_incomplete_order_is_held_back(enter: Open) -> None:
    with served(tasks(5)) as server:
        page = enter(server)
        press(page, "4 2 Enter")
        assert "3 images not ranked yet" in page.inner_text("#toast")
        assert server.votes() == []


def test_none_is_no_tie(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        page = enter(server)
        press(page, "n Enter")
        next_task(page, "task 2")
        press(page, "1 2 n Enter")
        page.wait_for_selector("#empty:visible")
        assert [(vote.answer["tiers"], vote.answer["none"]) for vote in server.votes()] == [
            ([], True),
            ([[0], [1], [2]], True),
        ]


def test_ratings_and_flags(enter: Open) -> None:
    with served(tasks(2), ratings=5, flags=["broken", "wrong words"]) as server:
        page = enter(server)
        page.locator(".card").nth(1).get_by_role("button", name="4 of 5").click()
        press(page, "1 Shift+Digit2")
        page.locator(".card").nth(0).locator(".flag").click()
        page.get_by_label("wrong words").check()
        page.keyboard.press("Escape")
        assert page.locator(".card").nth(0).get_attribute("aria-label") == "Image 1, rank 1 of 2, 1 problem"
        page.click("#submit")
        page.wait_for_selector("#empty:visible")
        answer = server.votes()[0].answer
        assert (answer["ratings"], answer["flags"]) == ([2, 4], {"0": ["wrong words"]})


@pytest.mark.parametrize(("key", "expected", "none"), [("ArrowLeft", [[0], [1]], False), ("2", [[1], [0]], False),
                                                       ("t", [[0, 1]], False), ("n", [], True)])  # fmt: skip
def test_pair(enter: Open, key: str, expected: list[list[int]], none: bool) -> None:
    with served(tasks(2, 2, mode="pair"), ties=True) as server:
        page = enter(server)
        press(page, key)
        assert "sending" in page.inner_text("#hint"), "the choice is seen before it goes"
        assert server.votes() == []
        press(page, "z")
        page.wait_for_timeout(900)
        assert server.votes() == []
        press(page, key)
        next_task(page, "task 2")
        assert [(vote.answer["tiers"], vote.answer["none"]) for vote in server.votes()] == [(expected, none)]


def test_pair_by_touch_and_changed_afterwards(enter: Open) -> None:
    with served(tasks(2, 2, mode="pair"), ties=True) as server:
        page = enter(server, **PHONE)
        pick(page, 1).tap()
        next_task(page, "task 2")
        saved(page)
        page.locator("#earlier").tap()
        page.get_by_role("button", name="task 1").tap()
        next_task(page, "task 1")
        assert badges(page) == ["", "better"]
        page.locator("#tie-pair").tap()
        page.locator("#submit").tap()
        next_task(page, "task 2")
        saved(page)
        assert tiers(server) == [[[0, 1]]]


# What is on the screen is what is stored


def test_reload_in_the_middle(enter: Open) -> None:
    with served(tasks(6), ties=True, ratings=3, flags=["broken"]) as server:
        page = enter(server)
        press(page, "5 3 T 1 Shift+Digit3 n")
        before = page.evaluate(
            "[document.getElementById('grid').innerText, document.getElementById('podium').innerText]"
        )
        page.reload()  # within the half second in which nothing has been sent
        ready(page)
        assert shown(page) == [[4, 2], [0]]
        assert (
            page.evaluate("[document.getElementById('grid').innerText, document.getElementById('podium').innerText]")
            == before
        )
        assert page.locator("#none").get_attribute("aria-pressed") == "true"
        saved(page)
        page.wait_for_timeout(700)
        assert server.draft(0)["answer"] == {
            "tiers": [[4, 2], [0]],
            "none": True,
            "ratings": [3, None, None, None, None, None],
            "flags": {},
        }


def test_draft_follows_to_another_browser(enter: Open) -> None:
    with served(tasks(4)) as server:
        page = enter(server)
        press(page, "4 2")
        saved(page)
        assert shown(enter(server)) == [[3], [1]]


def test_earlier_task_shows_its_order_and_only_that_changes(enter: Open) -> None:
    with served(tasks(3, 3, 3)) as server:
        page = enter(server)
        press(page, "3 1 Enter")
        next_task(page, "task 2")
        press(page, "2 1 Enter")
        next_task(page, "task 3")
        press(page, "2")
        saved(page)
        press(page, "b")
        page.get_by_role("button", name="task 1").click()
        next_task(page, "task 1")
        assert shown(page) == [[2], [0], [1]]
        press(page, "Enter")
        assert "Nothing is changed yet" in page.inner_text("#toast")
        press(page, "2 ArrowUp ArrowUp Enter")
        next_task(page, "task 3")
        assert shown(page) == [[1]], "the task of now has waited as it was"
        saved(page)
        assert [(vote.task, vote.revision, vote.answer["tiers"]) for vote in server.votes()] == [
            (0, 2, [[1], [2], [0]]), (1, 1, [[1], [0], [2]])]  # fmt: skip
        press(page, "b")
        page.get_by_role("button", name="task 2").click()
        next_task(page, "task 2")
        press(page, "3 ArrowUp")
        page.click("#back")
        next_task(page, "task 3")
        assert server.votes()[1].revision == 1


def test_next_task_is_loaded_ahead_but_not_seen(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        asked: list[str] = []
        page = enter(server)
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(500)
        assert server.seen() == [0]
        press(page, "1 2 Enter")
        next_task(page, "task 2")
        page.wait_for_timeout(300)
        assert server.seen() == [0, 1]
        assert not [url for url in asked if "/images/" in url], "they were there already"


def test_two_tabs(enter: Open) -> None:
    with served(tasks(4)) as server:
        one = enter(server)
        other = one.context.new_page()
        other.goto(server.url)
        ready(other)
        press(one, "1 2")
        saved(one)
        press(other, "4")
        other.wait_for_selector("#banner:visible")
        assert "another tab" in other.inner_text("#banner")
        assert server.draft(0)["answer"]["tiers"] == [[0], [1]]
        other.get_by_role("button", name="Show that order").click()
        assert shown(other) == [[0], [1]]
        press(other, "3")
        saved(other)
        assert server.draft(0)["answer"]["tiers"] == [[0], [1], [2], [3]]
        press(one, "4")
        one.get_by_role("button", name="Keep what is here").click()
        saved(one)
        assert server.draft(0)["answer"]["tiers"] == [[0], [1], [3], [2]]
        press(one, "Enter")
        one.wait_for_selector("#empty:visible")
        press(other, "Enter")
        other.get_by_text("An answer was not stored").wait_for()
        assert tiers(server) == [[[0], [1], [3], [2]]]


# Trouble


def test_offline_and_back_sends_once(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        page = enter(server)
        page.wait_for_timeout(300)
        sent: list[str] = []
        page.on("request", lambda request: "/api/votes/" in request.url and sent.append(request.url))
        page.context.set_offline(True)
        press(page, "2 3 Enter")
        next_task(page, "task 2")
        page.get_by_text("Not saved: no connection, 1 answer waiting").wait_for()
        assert server.votes() == []
        page.context.set_offline(False)
        saved(page)
        assert tiers(server) == [[[1], [2], [0]]]
        assert len(set(sent)) == 1, "each try names the same vote"


def test_page_closed_while_offline_sends_at_the_next_visit(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        page = enter(server)
        page.wait_for_timeout(300)
        page.route("**/api/votes/**", lambda route: route.abort())
        press(page, "2 3 Enter")
        next_task(page, "task 2")
        page.unroute("**/api/votes/**")
        page.reload()
        next_task(page, "task 2")
        saved(page)
        assert tiers(server) == [[[1], [2], [0]]]


def test_answer_lost_on_its_way_back_is_one_vote(enter: Open) -> None:
    with served(tasks(2, 2)) as server:
        page = enter(server)
        times = []

        def swallow(route: Any) -> None:
            times.append(route.fetch().status)
            route.abort() if len(times) == 1 else route.fulfill(
                status=200, json={"stored": True, "done": 1, "practice": None}
            )

        page.route("**/api/votes/**", swallow)
        press(page, "2 Enter")
        next_task(page, "task 2")
        saved(page)
        assert times == [200, 200]
        assert tiers(server) == [[[1], [0]]]


def test_server_in_trouble_is_asked_again_when_it_says(enter: Open) -> None:
    with served(tasks(2, 2)) as server:
        page = enter(server)
        with refused(page, "**/api/votes/**", status=429, times=1, headers={"Retry-After": "2"}) as bodies:
            press(page, "2 Enter")
            page.get_by_text("Not saved: retrying, 1 answer waiting").wait_for()
            page.wait_for_timeout(1200)
            assert len(bodies) == 1
            saved(page)
            assert bodies[0] == bodies[1]


def test_refused_answer_is_said_and_kept(enter: Open) -> None:
    with served(tasks(2, 2)) as server:
        page = enter(server)
        with refused(page, "**/api/votes/**", status=400, times=1):
            press(page, "2 Enter")
            page.get_by_text("Not stored: out of order", exact=True).wait_for()
            page.reload()
            page.get_by_text("An answer was not stored: out of order").wait_for()
            page.get_by_role("button", name="Try again").click()
            page.wait_for_selector("#saved[data-state=saved]")
        assert tiers(server) == [[[1], [0]]]


def test_session_that_ended_loses_nothing(enter: Open) -> None:
    with served(tasks(2, 2)) as server:
        page = enter(server)
        page.wait_for_timeout(300)
        server.end_session()
        press(page, "2 Enter")
        page.get_by_text("Not saved, session ended: 1 answer kept here").wait_for()
        assert server.votes() == []
        page.goto(server.link)
        ready(page)
        saved(page)
        assert tiers(server) == [[[1], [0]]]


def test_lease_is_renewed_while_somebody_works_and_asked_about_otherwise(enter: Open) -> None:
    with served(tasks(3), lease_seconds=2) as server:
        seen: list[str] = []
        page = enter(server)
        page.on("request", lambda request: "/seen" in request.url and seen.append(request.url))
        press(page, "1")
        page.wait_for_timeout(1700)
        assert len(seen) == 1
        page.get_by_text("The time for this task is over").wait_for()
        press(page, "2 Enter")
        page.wait_for_selector("#empty:visible")
        assert tiers(server) == [[[0], [1], [2]]]


def test_task_that_went_to_others(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        page = enter(server)
        server.give_away(0)
        press(page, "1")
        page.get_by_text("it went to somebody else").wait_for()
        page.get_by_role("button", name="Next task").click()
        next_task(page, "task 2")


def test_late_answer_is_kept(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        page = enter(server)
        server.give_away(0)
        press(page, "1 2 Enter")
        next_task(page, "task 2")
        page.get_by_text("your answer is kept as well").wait_for()
        assert [vote.late for vote in server.votes()] == [True]


def test_skip(enter: Open) -> None:
    with served(tasks(3, 3, 3), skips=1) as server:
        page = enter(server)
        press(page, "1 s")
        page.get_by_role("button", name="Stay here").click()
        assert shown(page) == [[0]]
        page.click("#skip")
        page.get_by_label("the prompt makes no sense").check()
        page.locator("#skip-dialog button[value=skip]").click()
        next_task(page, "task 2")
        assert server.skipped() == [(0, "the prompt makes no sense")]
        assert page.locator("#skip").get_attribute("aria-disabled") == "true"
        press(page, "s")
        assert "no skips left" in page.inner_text("#toast")
        assert server.votes() == []


def test_image_that_does_not_load_is_asked_for_again(enter: Open) -> None:
    with served(tasks(2)) as server:
        page = enter(server)
        times = []
        page.route(
            "**/images/*/1*", lambda route: (times.append(1), route.abort() if len(times) == 1 else route.continue_())
        )
        page.reload()
        page.wait_for_selector(".card.broken")
        press(page, "1 Enter")
        assert "Image 2 is not loaded yet" in page.inner_text("#toast")
        ready(page)
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")


def test_practice_shows_its_score(enter: Open) -> None:
    with served([*tasks(3, 3, practice=True), *tasks(2)]) as server:
        page = enter(server)
        press(page, "1 2 Enter")
        page.get_by_text("5 of 6 clear pairs. Your score so far: 83 %").wait_for()
        assert "1 practice task left" in page.inner_text("#practice-left")
        press(page, "Enter")
        next_task(page, "task 2")
        press(page, "1 2 Enter")
        page.get_by_text("You have passed").wait_for()
        press(page, "Enter")
        next_task(page, "task 1")
        assert page.locator("#practice").is_hidden()
        page.goto(server.url + "/instructions")
        assert page.locator("h1").inner_text() == "Instructions"


def test_nothing_to_do_says_when_to_come_back(enter: Open) -> None:
    with served(tasks(2)) as server:
        page = enter(server)
        page.route(
            "**/api/next",
            lambda route: route.fulfill(json={"task": None, "reason": "wait", "seconds": 90, "text": "All are taken."}),
        )
        press(page, "1 Enter")
        page.locator("#empty").get_by_text("All are taken. Come back in 2 minutes").wait_for()


# Looking


def zoom_of(page: Any) -> set[str]:
    return set(page.evaluate("[...document.querySelectorAll('.frame img, dialog[open] .pane img')].map((one) =>"
                             "getComputedStyle(one).transform.replace(/,[^,]*,[^,]*\\)$/, ''))"))  # fmt: skip


def test_one_zoom_for_all(enter: Open) -> None:
    sizes = [(512, 512), (1024, 256), (256, 1024), (640, 480)]
    with served([MadeTask(sizes=sizes)]) as server:
        page = enter(server)
        press(page, "+ +")
        assert len(zoom_of(page)) == 1
        assert "1.96" in zoom_of(page).pop()
        x, y = middle(pick(page, 0))
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 40, y + 20, steps=4)
        page.mouse.up()
        assert shown(page) == [], "the end of a pan is no choice"
        assert page.evaluate("document.getElementById('work').style.getPropertyValue('--x')") != "0%"
        pick(page, 2).focus()
        press(page, "Space c")
        assert page.locator(".pane").count() == 2
        assert len(zoom_of(page)) == 1
        press(page, "0")
        assert "matrix(1, 0, 0, 1" in zoom_of(page).pop()
        page.mouse.move(640, 400)
        page.mouse.wheel(0, -200)
        assert len(zoom_of(page)) == 1
        press(page, "ArrowLeft ArrowUp 3 Enter")
        assert page.inner_text("#large-name").startswith("Image 3, rank 1")
        press(page, "Escape")
        assert shown(page) == [[2]]
        assert page.evaluate("document.activeElement.closest('.card').dataset.position") == "2"


def test_pinch_in_the_large_view(enter: Open) -> None:
    with served(tasks(4)) as server:
        page = enter(server, **PHONE)
        page.locator(".look").nth(1).tap()
        x, y = middle(page.locator(".pane"))
        finger = Finger(page)
        finger.send("touchStart", (x - 30, y), (x + 30, y))
        for k in range(1, 6):
            finger.send("touchMove", (x - 30 - 10 * k, y), (x + 30 + 10 * k, y))
        finger.send("touchEnd")
        page.locator("#large-close").tap()
        scale = float(page.evaluate("document.getElementById('work').style.getPropertyValue('--zoom')"))
        assert 2 < scale < 3.5
        page.locator("#whole").tap()
        assert page.locator("#whole").is_hidden()
        assert shown(page) == []


def test_hover_shows_and_click_keeps(enter: Open) -> None:
    with served(tasks(4)) as server:
        page = enter(server)
        page.locator(".look").nth(1).hover()
        page.wait_for_selector("#peek:visible")
        assert page.locator("#prompt-text").is_visible()
        page.mouse.move(5, 5)
        assert page.locator("#peek").is_hidden()
        page.locator(".look").nth(1).click()
        assert page.inner_text("#large-prompt") == "task 1"
        assert page.locator("#peek").is_hidden()
        press(page, "Space")
        assert page.locator("#large").is_hidden()


# Shapes and words


EXTREMES = [(512, 512), (1536, 256), (256, 1536), (64, 64), (1024, 1024), (1200, 400)] * 2


@pytest.mark.parametrize("n", range(2, 13))
def test_any_number_of_any_shape_fits(enter: Open, n: int) -> None:
    with served([MadeTask(sizes=EXTREMES[:n], prompt="a cat")], ratings=5, flags=["broken"], ties=True) as server:
        page = enter(server)
        boxes = [pick(page, k).bounding_box() for k in range(n)]
        dock = page.locator("#dock").bounding_box()
        assert all(box["y"] + box["height"] <= dock["y"] + 1 for box in boxes), "all at once"
        assert dock["y"] + dock["height"] <= 901
        assert excess(page) == [0, 0, 0, 0]
        for width in (360, 390):
            page.set_viewport_size({"width": width, "height": 740})
            page.wait_for_timeout(50)
            small = [
                page.locator(".frame img").nth(k).evaluate("(one) => Math.max(one.offsetWidth, one.offsetHeight)")
                for k in range(n)
            ]
            assert min(small) >= 100
            assert page.locator("#dock").bounding_box()["height"] < 230


def test_nothing_moves_when_images_arrive(enter: Open) -> None:
    with served([MadeTask(sizes=EXTREMES[:6])]) as server:
        page = enter(server)
        page.route("**/images/**", lambda route: route.continue_())
        page.reload()
        page.wait_for_selector(".card")
        where = "[...document.querySelectorAll('.card')].map((card) => JSON.stringify(card.getBoundingClientRect()))"
        before = page.evaluate(where)
        ready(page)
        assert page.evaluate(where) == before


@pytest.mark.parametrize(
    "prompt",
    ["word " * 400, "x" * 2048, "قطة على كرسي أحمر " * 20, "<script>alert(1)</script><b>bold</b>", "a\nb\nc\nd"],
)
def test_prompt_stays_in_sight_and_small(enter: Open, prompt: str) -> None:
    with served([MadeTask(prompt=prompt, sizes=[(512, 512)] * 9)]) as server:
        page = enter(server, **PHONE)
        assert page.locator("#prompt-text").text_content() == prompt
        page.evaluate("window.scrollTo(0, 500)")
        box = page.locator("#prompt").bounding_box()
        assert 0 <= box["y"] < 1
        assert box["height"] < 100
        assert excess(page) == [0, 0, 0, 0]
        if "\u0642" in prompt:
            assert page.locator("#prompt-text").evaluate("(one) => getComputedStyle(one).direction") == "rtl"
        if page.locator("#more").is_visible():
            page.set_viewport_size({"width": 360, "height": 740})
            page.click("#more")
            assert page.locator("#prompt").bounding_box()["height"] < 400
            assert page.locator("#more").inner_text() == "less"


def test_names_for_a_screen_reader(enter: Open) -> None:
    with served(tasks(4), ties=True, ratings=3, flags=["broken"]) as server:
        page = enter(server)
        assert "New task: 4 images" in page.inner_text("#live")
        press(page, "3")
        assert page.get_by_role("group", name="Image 3, rank 1 of 4").count() == 1
        assert page.get_by_role("group", name="Image 1, not ranked").count() == 1
        assert page.inner_text("#live").startswith("Image 3, rank 1 of 4")
        nameless = page.evaluate("[...document.querySelectorAll('button, input, dialog')].filter((one) => !(one.ariaLabel || "
                                 "one.getAttribute('aria-labelledby') || one.textContent.trim() || one.labels?.length)).length")  # fmt: skip
        assert nameless == 0
        assert page.evaluate("[...document.querySelectorAll('[aria-live], [role=status]')].length") >= 2
        for _ in range(3):
            page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_letters_can_be_switched_off(enter: Open) -> None:
    with served(tasks(3)) as server:
        page = enter(server)
        press(page, "?")
        page.get_by_label("letters, digits and signs are shortcuts").uncheck()
        press(page, "Escape 1 n")
        assert shown(page) == []
        page.reload()
        ready(page)
        pick(page, 1).focus()
        press(page, "Enter ArrowDown 2")
        assert shown(page) == [[1]]


def test_colours_are_those_of_the_house() -> None:
    house, own = ((SRC / path).read_text() for path in ("pages/templates/style.css", "annotation/static/annotate.css"))
    assert own.startswith(house[: house.index("* {")])


# The model by itself

DEEDS = """async (seed) => {
  const { begin, obstacle, reduce, unranked } = await import("/static/ranking.js");
  let state = seed;
  const random = (n) => { state = (state * 1103515245 + 12345) % 2147483648; return Math.floor(state / 65536) % n; };
  const n = 2 + random(11);
  const rules = { n, ties: random(2) > 0, partial: random(2) > 0, none: true, ratings: 5, flags: ["broken"] };
  const types = ["place", "place", "place", "unplace", "better", "worse", "tie", "put", "put", "undo", "redo", "none", "rate", "flag"];
  let model = begin(rules);
  const start = JSON.stringify(model.now);
  for (let step = 0; step < 300; step += 1) {
    const action = { type: types[random(types.length)], position: random(n), level: 1 + random(5), name: "broken" };
    if (action.type === "put") action[random(2) ? "gap" : "tier"] = random(model.now.answer.tiers.length + 1);
    const before = JSON.stringify(model);
    const after = reduce(model, action);
    if (JSON.stringify(model) !== before) return ["changed its argument", action];
    const flat = after.now.answer.tiers.flat();
    if (new Set(flat).size !== flat.length || after.now.answer.tiers.some((tier) => !tier.length)) return ["broken tiers", action];
    if (!rules.ties && after.now.answer.tiers.some((tier) => tier.length > 1)) return ["a tie", action];
    if (flat.length + unranked(after).length !== n) return ["lost an image", action];
    if (after !== model && !["undo", "redo"].includes(action.type)
        && JSON.stringify(reduce(after, { type: "undo" }).now) !== JSON.stringify(model.now)) return ["undo is no undo", action];
    if (!flat.length && !after.now.answer.none && obstacle(after) === null) return ["untouched passes", action];
    model = after;
  }
  while (model.past.length) model = reduce(model, { type: "undo" });
  return JSON.stringify(model.now) === start ? null : ["undo does not reach the start"];
}"""


def test_model_keeps_its_promises_whatever_is_done(enter: Open) -> None:
    with served(tasks(2)) as server:
        page = enter(server)
        assert [found for seed in range(200) if (found := page.evaluate(DEEDS, seed))] == []


def test_sizes_are_within_the_room(enter: Open) -> None:
    script = """async ([images, room]) => {
      const { plan, fit } = await import("/static/layout.js");
      const made = plan(images, room, { gap: 12, foot: 40 });
      const rows = Math.ceil(images.length / made.columns);
      const width = made.columns * made.cell.width + 12 * (made.columns - 1);
      const height = rows * (made.cell.height + 40) + 12 * (rows - 1);
      const inside = images.map((image) => fit(image, made.cell)).every((size) => size.width <= made.cell.width + 1
        && size.height <= made.cell.height + 1);
      return inside && width <= room.width && (made.scrolls || height <= room.height);
    }"""
    chance = random.Random(3)
    with served(tasks(2)) as server:
        page = enter(server)
        for _ in range(200):
            images = [
                {"width": chance.randint(16, 3000), "height": chance.randint(16, 3000)}
                for _ in range(chance.randint(2, 12))
            ]
            room = {"width": chance.randint(320, 2500), "height": chance.randint(150, 1400)}
            assert page.evaluate(script, [images, room]), (images, room)


# Speed


@pytest.mark.slow
@pytest.mark.parametrize(("n", "limit"), [(4, 12.0), (9, 35.0)])
def test_a_hand_of_usual_speed(enter: Open, n: int, limit: float) -> None:
    """1.1 s to decide on each image and 0.3 s for the pointer to get there, the submit as well."""
    import time

    took = []
    with served(tasks(*[n] * 4)) as server:
        page = enter(server)
        for k in range(3):
            began = time.monotonic()
            for position in random.Random(k).sample(range(n), n - 1):
                page.wait_for_timeout(1100)
                x, y = middle(pick(page, position))
                page.wait_for_timeout(300)
                page.mouse.click(x, y)
            page.wait_for_timeout(300)
            page.click("#submit")
            next_task(page, f"task {k + 2}")
            took.append(time.monotonic() - began)
        assert len(server.votes()) == 3
    assert sorted(took)[1] <= limit, took
