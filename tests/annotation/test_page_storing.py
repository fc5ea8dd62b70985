"""What is on the screen is what is stored, whatever goes wrong on the way."""

from __future__ import annotations

import re
import time
from typing import Any

from browser import needs_chromium
from page_driver import Open, loaded_ahead, next_task, press, ready, refused, saved, shown, soon, tiers, until
from served import served, tasks

pytestmark = needs_chromium


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
        answer = {
            "tiers": [[4, 2], [0]],
            "none": True,
            "ratings": [3, None, None, None, None, None],
            "flags": {},
        }
        soon(page, lambda: (server.draft(0) or {}).get("answer") == answer)


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


def test_answer_under_way_is_not_changed_before_it_is_there(enter: Open) -> None:
    with served(tasks(3, 3, 3)) as server:
        page = enter(server)
        press(page, "3 1 Enter")
        next_task(page, "task 2")
        saved(page)
        press(page, "b")
        page.get_by_role("button", name="task 1").click()
        next_task(page, "task 1")
        page.route("**/api/votes/**", lambda route: route.abort())
        press(page, "2 ArrowUp Enter")
        next_task(page, "task 2")
        press(page, "b")
        page.get_by_role("button", name="task 1").click()
        page.get_by_text("still on its way").wait_for()
        page.unroute("**/api/votes/**")
        saved(page)
        assert [(vote.revision, vote.answer["tiers"]) for vote in server.votes()] == [(2, [[2], [1], [0]])]


def test_instructions_and_back_keep_the_draft(enter: Open) -> None:
    with served(tasks(3)) as server:
        page = enter(server)
        press(page, "3")
        page.get_by_role("link", name="Instructions").click()
        page.wait_for_selector("h1:text('Instructions')")
        page.go_back()
        ready(page)
        assert shown(page) == [[2]]
        press(page, "1")
        soon(page, lambda: (server.draft(0) or {"answer": {}})["answer"].get("tiers") == [[2], [0], [1]])


def test_next_task_is_loaded_ahead_but_not_seen(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        asked: list[str] = []
        page = enter(server)
        page.on("request", lambda request: asked.append(request.url))
        loaded_ahead(page)
        assert server.seen() == [0]
        asked.clear()
        press(page, "1 2 Enter")
        next_task(page, "task 2")
        soon(page, lambda: server.seen() == [0, 1])
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
        saved(one)
        assert tiers(server) == [[[0], [1], [3], [2]]]


# Trouble


def test_offline_and_back_sends_once(enter: Open) -> None:
    with served(tasks(3, 3)) as server:
        page = enter(server)
        loaded_ahead(page)
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
        loaded_ahead(page)
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
            times: list[float] = []
            page.on("request", lambda request: "/api/votes/" in request.url and times.append(time.monotonic()))
            press(page, "2 Enter")
            page.get_by_text("Not saved: retrying, 1 answer waiting").wait_for()
            saved(page)
            assert times[1] - times[0] > 1.5
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
        saved(page)
        assert tiers(server) == [[[1], [0]]]


def test_session_that_ended_loses_nothing(enter: Open) -> None:
    with served(tasks(2, 2)) as server:
        page = enter(server)
        loaded_ahead(page)
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
        soon(page, lambda: len(seen) == 1)
        page.get_by_text("The time for this task is over").wait_for()
        press(page, "2 Enter")
        page.wait_for_selector("#empty:visible")
        saved(page)
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
        saved(page)
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
        until(page, "[...document.querySelectorAll('.card img')].some((image) => image.naturalWidth > 0)")
        press(page, "1 Enter")
        assert "Image 2 is not loaded yet" in page.inner_text("#toast")
        ready(page)
        press(page, "Enter")
        page.wait_for_selector("#empty:visible")


def test_practice_shows_its_score(enter: Open) -> None:
    with served([*tasks(3, 3, practice=True), *tasks(2)]) as server:
        page = enter(server)
        press(page, "1 2 Enter")
        page.get_by_text(re.compile(r"on [0-3] of 3 clear pairs\. Your score so far: (0|33|67|100) %")).wait_for()
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
