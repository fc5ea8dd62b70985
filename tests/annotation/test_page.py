"""Rank by mouse, keyboard and touch, as the project allows."""

from __future__ import annotations

import random
from typing import Any

import pytest

from browser import needs_chromium
from page_driver import PHONE, Finger, Open, badges, beside, drag, middle, next_task, pick, press, saved, shown, tiers
from served import served, tasks

pytestmark = needs_chromium


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
        saved(page)
        assert tiers(server) == [[[2], [3], [0], [1]]]
        press(page, "= - 0 9 8 7 6 5 4 3 2")
        assert shown(page) == [[k] for k in range(11, -1, -1)]
        press(page, "1")
        assert shown(page)[-1] == [0], "a ranked image is picked out, not taken back"
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")
        saved(page)
        assert len(server.votes()) == 2


def test_keyboard_alone_with_tab_and_enter(enter: Open) -> None:
    with served(tasks(2)) as server:
        page = enter(server)
        pick(page, 1).focus()
        press(page, "Enter")
        assert shown(page) == [[1], [0]]
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")
        saved(page)
        assert tiers(server) == [[[1], [0]]]


def test_touch(enter: Open) -> None:
    with served(tasks(4, 2)) as server:
        page = enter(server, **PHONE)
        for position in (1, 3, 0):
            pick(page, position).tap()
        assert shown(page) == [[1], [3], [0], [2]]
        page.locator("#submit").tap()
        next_task(page, "task 2")
        saved(page)
        assert tiers(server) == [[[1], [3], [0], [2]]]


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


HANDLES = """[...document.querySelectorAll(".handle")].map((one) => one.getBoundingClientRect())
  .map(({ left, right, top, bottom }) => [left, right, top, bottom])"""


def scroll_about(page: Any, times: int) -> None:
    """Random flicks over images, strip and prompt, as fast as a browser takes them."""
    chance, finger = random.Random(7), Finger(page)
    for _ in range(times):
        boxes = page.evaluate(HANDLES)
        while True:
            x, y = chance.uniform(5, 355), chance.uniform(5, 735)
            if not any(left <= x <= right and top <= y <= bottom for left, right, top, bottom in boxes):
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
        saved(page)
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
        saved(page)
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
        saved(page)
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
        saved(page)
        answer = server.votes()[0].answer
        assert (answer["ratings"], answer["flags"]) == ([2, 4], {"0": ["wrong words"]})


@pytest.mark.parametrize(("key", "expected", "none"), [("ArrowLeft", [[0], [1]], False), ("2", [[1], [0]], False),
                                                       ("t", [[0, 1]], False), ("n", [], True)])  # fmt: skip
def test_pair(enter: Open, key: str, expected: list[list[int]], none: bool) -> None:
    with served(tasks(2, 2, mode="pair"), ties=True) as server:
        page = enter(server)
        press(page, key)
        assert "sending" in page.inner_text("#hint"), "the choice is seen before it goes"
        press(page, "z")
        page.wait_for_timeout(900)
        assert server.votes() == []
        press(page, key)
        next_task(page, "task 2")
        saved(page)
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
