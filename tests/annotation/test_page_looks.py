"""Zoom, shapes, words, names and speed of the annotator's page; its model by itself."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from browser import excess, needs_chromium
from page_driver import PHONE, Finger, Open, middle, next_task, pick, press, ready, saved, shown
from served import MadeTask, served, tasks

pytestmark = needs_chromium


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


NAMELESS = """[...document.querySelectorAll("button, input, dialog")].filter((one) =>
  !(one.ariaLabel || one.getAttribute("aria-labelledby") || one.textContent.trim() || one.labels?.length)).length"""


def test_names_for_a_screen_reader(enter: Open) -> None:
    with served(tasks(4), ties=True, ratings=3, flags=["broken"]) as server:
        page = enter(server)
        assert "New task: 4 images" in page.inner_text("#live")
        press(page, "3")
        assert page.get_by_role("group", name="Image 3, rank 1 of 4").count() == 1
        assert page.get_by_role("group", name="Image 1, not ranked").count() == 1
        assert page.inner_text("#live").startswith("Image 3, rank 1 of 4")
        nameless = page.evaluate(NAMELESS)
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


# The model by itself

DEEDS = """async (seed) => {
  const { begin, obstacle, reduce, unranked } = await import("/static/ranking.js");
  let state = seed;
  const random = (n) => { state = (state * 1103515245 + 12345) % 2147483648; return Math.floor(state / 65536) % n; };
  const n = 2 + random(11);
  const rules = { n, ties: random(2) > 0, partial: random(2) > 0, none: true, ratings: 5, flags: ["broken"] };
  const moves = ["place", "place", "place", "unplace", "better", "worse", "tie", "put", "put"];
  const types = [...moves, "undo", "redo", "none", "rate", "flag"];
  let model = begin(rules);
  const start = JSON.stringify(model.now);
  for (let step = 0; step < 300; step += 1) {
    const action = { type: types[random(types.length)], position: random(n), level: 1 + random(5), name: "broken" };
    if (action.type === "put") action[random(2) ? "gap" : "tier"] = random(model.now.answer.tiers.length + 1);
    const before = JSON.stringify(model);
    const after = reduce(model, action);
    if (JSON.stringify(model) !== before) return ["changed its argument", action];
    const { tiers } = after.now.answer;
    const flat = tiers.flat();
    if (new Set(flat).size !== flat.length || tiers.some((tier) => !tier.length)) return ["broken tiers", action];
    if (!rules.ties && tiers.some((tier) => tier.length > 1)) return ["a tie", action];
    if (flat.length + unranked(after).length !== n) return ["lost an image", action];
    const back = after === model || ["undo", "redo"].includes(action.type) ? model : reduce(after, { type: "undo" });
    if (JSON.stringify(back.now) !== JSON.stringify(model.now)) return ["undo is no undo", action];
    if (!flat.length && !after.now.answer.none && obstacle(after) === null) return ["untouched passes", action];
    model = after;
  }
  while (model.past.length) model = reduce(model, { type: "undo" });
  return JSON.stringify(model.now) === start ? null : ["undo does not reach the start"];
}"""


def test_model_keeps_its_promises_whatever_is_done(enter: Open) -> None:
    with served(tasks(2)) as server:
        page = enter(server)
        assert [found for seed in range(50) if (found := page.evaluate(DEEDS, seed))] == []


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
        saved(page)
        assert len(server.votes()) == 3
    assert sorted(took)[1] <= limit, took
