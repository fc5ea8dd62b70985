"""The page of a leaderboard, as a reader meets it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import excess, needs_chromium, quiet_page
from hpskit.benchmark.leaderboard import Leaderboard, run
from hpskit.benchmark.result import Resampling
from hpskit.pages.format import decimals, number, p_words, percent, signed, whole
from leaderboard_results import write_result

pytestmark = needs_chromium

EVIL = '<img src=x onerror="window.hacked=1">'
NAMES = ("Alder", "Birch", EVIL, "Cedar")
PROMPTS = [("anime", f"anime {n}") for n in range(20)] + [("photo", f"photo {n} </script><b>{EVIL}") for n in range(20)]
ROWS = ".board tbody th[scope=row]:visible"
VIEWS = ("", "view=compare", "view=prompts", "view=about", "model=Alder", "prompt=photo/1", "category=anime")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four models, one of them incomplete, one without image files, two scorers."""
    folder = tmp_path_factory.mktemp("leaderboard")
    rng = np.random.default_rng(0)
    easy = rng.normal(20, 1, 40)
    paths = []
    for n, name in enumerate(NAMES):
        scores = easy - n + rng.normal(0, 0.3, 40)
        scores[20:] += 3.5 * (n == 3)  # the last is the best on photographs
        if n == 1:
            scores[7] = np.nan
        file = folder / f"m{n}" / "result.json"
        both = {"mini": scores, "other": scores + rng.normal(0, 2, 40)}
        meta = {"steps": 30, "note": EVIL}
        paths.append(write_result(file, name, both, PROMPTS, colour=None if n == 2 else 60 * n, meta=meta))
    title, resampling = f"Ours {EVIL}", Resampling(resamples=500)
    run(Leaderboard(results=tuple(paths), out=folder / "out", title=title, resampling=resampling))
    return (folder / "out/leaderboard.html").as_uri()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    with quiet_page() as page:
        page.goto(address)
        yield page


@pytest.fixture
def view(page: Any, address: str) -> Iterator[Any]:
    """The page at its first view; afterwards it must have been quiet and nothing of others may have run."""
    page.evaluate("location.hash = ''")
    page.wait_for_selector("#view h2:text-is('Leaderboard'):visible")
    yield page
    assert page.troubles == []
    assert page.evaluate("window.hacked") is None


def names(page: Any) -> list[str]:
    return [name.split(" incomplete:")[0] for name in page.locator(ROWS).all_inner_texts()]


def heading(page: Any) -> str:
    return str(page.inner_text("#view h2:visible >> nth=0"))


def test_sort_by_each_column_by_mouse_and_keyboard(view: Any) -> None:
    assert names(view) == ["Alder", "Cedar", EVIL, "Birch"]  # Birch lacks an image: it has no rank
    view.click("button:text-is('Model'):visible")
    assert names(view) == sorted(NAMES)
    view.click("button:text-is('Model'):visible")
    assert names(view) == sorted(NAMES, reverse=True)
    assert view.get_attribute("th:has(button:text-is('Model')):visible", "aria-sort") == "descending"
    view.click("button:text-is('photo'):visible")
    assert names(view)[0] == "Cedar"
    view.focus("button:text-is('Average'):visible")
    view.keyboard.press("Enter")
    shown = [float(text) for text in view.locator(".board td.main:visible").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    assert view.evaluate("document.activeElement.textContent") == "Average"


def test_filter_by_name_category_and_scorer(view: Any) -> None:
    view.type("input[type=search]:visible", "bir")
    assert names(view) == ["Birch"]
    assert view.evaluate("document.activeElement.value") == "bir"
    view.fill("input[type=search]:visible", "zzz")
    assert view.inner_text(".empty:visible") == "No model has such a name."
    view.fill("input[type=search]:visible", "")
    view.select_option("select[aria-label=Category]", "photo")
    assert heading(view) == "Leaderboard: photo"
    assert "20 prompts" in view.inner_text("#view .note:visible >> nth=0")
    before = view.locator(".board td.main:visible").all_inner_texts()
    view.select_option("select[aria-label=Scorer]", "other")
    assert view.locator(".board td.main:visible").all_inner_texts() != before
    assert {"scorer=other", "category=photo"} <= set(view.url.split("#")[1].split("&"))


def test_a_model_opens_with_its_details(view: Any) -> None:
    view.locator(".board a:visible", has_text=EVIL).click()
    view.wait_for_selector(".verdict:visible")
    assert heading(view) == EVIL
    text = view.inner_text("#view")
    assert "sha256:aaaaaaaaaaaaaaaa" in text
    assert re.search(r"steps\s+30", text)
    tables = view.locator("#view table:visible")
    assert [tables.nth(n).locator("tbody tr").count() for n in (0, 1)] == [3, 3]  # all, anime, photo; the other models
    assert (
        view.locator(".card .nothing:visible").count() == view.locator(".card:visible").count() > 6
    )  # without its images
    assert re.search(r"Above the mean of the other models on \d+ of 40 prompts", text)
    assert "mean of 80s" not in text  # 20 prompts of a category are one group
    assert view.evaluate("document.activeElement.textContent").startswith(EVIL)  # a screen reader is told where it is
    view.go_back()
    view.wait_for_selector("#view h2:text-is('Leaderboard'):visible")


def test_a_prompt_opens_with_every_image_and_score(view: Any) -> None:
    view.click("nav a:text-is('Prompts')")
    ranges = [float(text) for text in view.locator(".list td:last-child").all_inner_texts()]
    assert len(ranges) == 40
    assert ranges == sorted(ranges, reverse=True)
    view.fill("input[type=search]:visible", "ANIME 7")
    view.click(".list a")
    assert view.inner_text("blockquote") == "anime 7"
    figures = view.locator(".gallery figure")
    assert figures.count() == 4
    shown = figures.all_inner_texts()
    assert shown[0].split()[-1] == "Alder"
    assert shown[-1].split() == ["no", "image", "\N{EN DASH}", "Birch"]
    view.wait_for_function("[...document.querySelectorAll('.gallery img')].every((image) => image.naturalWidth === 48)")
    assert view.locator(".gallery img").count() == 2
    view.click("a:text-is('next →')")
    view.wait_for_selector("#view h2:text-is('Prompt anime/8')")
    assert view.inner_text("blockquote") == "anime 8"
    view.evaluate("location.hash = 'prompt=photo/3'")
    view.wait_for_selector("#view h2:text-is('Prompt photo/3')")
    assert view.inner_text("blockquote") == PROMPTS[23][1]


def test_two_models_are_compared_and_the_view_can_be_linked(view: Any) -> None:
    view.click(".wins a[aria-label^='Alder against Birch']:visible")
    view.wait_for_selector(".verdict:visible")
    verdict = view.inner_text(".verdict:visible")
    assert "Alder is better than Birch" in verdict
    keys = view.locator(".note:visible > .won, .note:visible > .lost").all_inner_texts()
    won, lost = (int(re.findall(r"wins (\d+)", text)[0]) for text in keys)
    assert won + lost == 39
    assert f"wins {percent(won / 39)} (".replace(" %", "\N{NO-BREAK SPACE}%") in verdict
    assert "of 39 prompts" in verdict
    dots = view.eval_on_selector_all(
        "section:not([hidden]) .few circle", "(all) => all.map((one) => one.getAttribute('cx'))"
    )
    assert len(dots) == 3
    assert all(50 < float(dot.strip("%")) < 100 for dot in dots)  # Alder is ahead everywhere
    value = view.inner_text(".few td.main:visible >> nth=0")
    view.click("text=swap")
    assert view.inner_text(".few td.main:visible >> nth=0") == value.replace("+", "\N{MINUS SIGN}")
    assert "Birch is worse than Alder" in view.inner_text(".verdict:visible")
    view.select_option("select[aria-label='first model']:visible", "Cedar")
    view.select_option("select[aria-label='second model']:visible", "Cedar")  # the one that stands on the other side
    assert "second=Cedar" in view.url
    link, text = view.url, view.inner_text("#view")
    view.goto(link)
    view.reload()
    assert view.inner_text("#view") == text


def test_models_that_are_equal_everywhere_are_said_to_be(page: Any, address: str, tmp_path: Path) -> None:
    prompts = [("", f"prompt {n}") for n in range(8)]
    paths = tuple(write_result(tmp_path / f"{name}.json", name, {"mini": np.arange(8)}, prompts) for name in "ab")
    value = json.loads(paths[0].read_text())
    value["scorers"][0]["reads_prompt"] = False
    paths[0].write_text(json.dumps(value))
    run(Leaderboard(results=paths, out=tmp_path / "out", resampling=Resampling(resamples=100)))
    page.goto((tmp_path / "out/leaderboard.html").as_uri())
    assert page.inner_text("#view").count("does not read the prompt") == 1
    assert "Nowhere: on each of these prompts all models have the same score." in page.inner_text("#view")
    page.evaluate("location.hash = 'view=compare'")
    page.wait_for_selector(".verdict:visible")
    assert "8 are equal" in page.inner_text("#view")
    page.evaluate("location.hash = 'model=a'")
    page.wait_for_selector("#view h2:text-is('a'):visible")
    assert "Below the mean of the other models on none of 8 prompts." in page.inner_text("#view")
    assert page.troubles == []
    page.goto(address)


@pytest.mark.parametrize("state", VIEWS)
def test_a_phone_scrolls_in_one_direction(state: str, view: Any) -> None:
    view.evaluate("(state) => { location.hash = state }", state)
    view.wait_for_timeout(50)
    assert excess(view) == [0, 0, 0, 0]


def test_many_pairs_are_drawn_when_asked_and_ranks_that_overlap_are_explained(tmp_path: Path, page: Any) -> None:
    rng = np.random.default_rng(3)
    easy, count = rng.normal(20, 1, 60), 41
    prompts = [("", f"picture {n}") for n in range(60)]
    paths = tuple(
        write_result(tmp_path / f"{n}.json", f"m{n:02d}", {"mini": easy + rng.normal(0.02 * n, 0.3, 60)}, prompts)
        for n in range(count)
    )
    board = run(Leaderboard(results=paths, out=tmp_path / "out", resampling=Resampling(resamples=20_000)))
    page.goto((tmp_path / "out/leaderboard.html").as_uri())
    page.wait_for_selector("[data-does=wins]:visible")
    assert page.locator(".wins a[title]").count() == 0
    page.click(f"button:text-is('Show all {count * (count - 1) // 2} pairs')")
    page.wait_for_selector(".wins a[title]:visible")
    assert page.locator(".wins a[title]:visible").count() == count * (count - 1)
    scope = board["scorers"][0]["scopes"][0]
    ranks = {row["name"]: row["rank"] for row in scope["models"]}

    def explained(row: dict[str, Any]) -> bool:
        return row["holm_p"] <= 0.05 and ranks[row["second"]]["high"] >= ranks[row["first"]]["low"]

    one = next(row for row in scope["differences"] if explained(row))
    other = next(row for row in scope["differences"] if row["holm_p"] <= 0.05 and not explained(row))
    for row, said in ((one, True), (other, False)):
        page.evaluate(
            "(state) => { location.hash = state }", f"view=compare&first={row['first']}&second={row['second']}"
        )
        page.wait_for_selector(f".verdict:has-text('{row['second']} is better than {row['first']}'):visible")
        assert ("this verdict is of one pair" in page.inner_text("#view")) is said
    assert page.troubles == []


def test_an_image_that_went_away_leaves_a_quiet_place(page: Any, address: str, tmp_path: Path) -> None:
    moved = tmp_path / "leaderboard.html"
    moved.write_bytes(Path(address.removeprefix("file://")).read_bytes())
    page.goto(f"{moved.as_uri()}#prompt=anime/7")
    page.wait_for_selector(".gallery .nothing:has-text('the image lies elsewhere')")
    page.wait_for_function("document.querySelectorAll('.gallery img:not([src^=data])').length === 0")
    assert page.locator(".gallery .nothing:has-text('the image lies elsewhere')").count() > 0
    page.troubles.clear()  # the browser itself says that a file is missing


def test_small_scores_that_are_told_apart_look_apart(tmp_path: Path, page: Any) -> None:
    """Scores near 0.27, as cosines are: one model is ahead on all prompts, by less than a hundredth."""
    rng = np.random.default_rng(1)
    easy = rng.normal(0.27, 0.02, 20)
    ahead = rng.uniform(0.001, 0.008, 20)
    own = {"a": easy + ahead, "b": easy}
    prompts = [("", f"prompt {n}") for n in range(20)]
    paths = [write_result(tmp_path / name / "result.json", name, {"mini": s}, prompts) for name, s in own.items()]
    run(Leaderboard(results=tuple(paths), out=tmp_path / "out", resampling=Resampling(resamples=2000)))
    page.goto((tmp_path / "out/leaderboard.html").as_uri() + "#view=compare&first=b&second=a")
    page.wait_for_selector("#view h2:visible")
    text = page.inner_text("#view")
    assert f"+{ahead.mean():.3f}" in text
    assert "on 20 of 20" in text.replace("\u00a0", " ") or "20 prompts" in text
    shown = page.evaluate(
        "[...document.querySelectorAll('#view section:not([hidden]) .card .prompt a')].map((a) => a.textContent)"
    )
    order = [f"prompt {n}" for n in np.argsort(-ahead, kind="stable")[:6]]
    assert shown[:6] == order
    table = (tmp_path / "out/leaderboard.md").read_text()
    means = re.findall(r"\| [ab] \| ([0-9.]+)", table)
    assert len(set(means)) == 2


def test_the_script_writes_figures_as_python_does(view: Any) -> None:
    rng = np.random.default_rng(0)
    values = [0.0, -0.004, 0.004, 0.005, -0.005, 1.005, *rng.normal(0, 3, 40).tolist()]
    assert view.evaluate("(all) => all.map((one) => number(one, 2))", values) == [number(one) for one in values]
    assert view.evaluate("(all) => all.map((one) => signed(one, 2))", values) == [signed(one) for one in values]
    chances = [0.0, 0.000999, 0.001, 0.00995, 0.0996, 0.1, 0.5, 1.0, *rng.uniform(0, 1, 40).tolist()]
    assert view.evaluate("(all) => all.map(pWords)", chances) == [p_words(one) for one in chances]
    shares = [0.0, 0.005, 0.125, 0.375, 0.5, 0.625, 0.995, 1.0, *rng.uniform(0, 1, 40).tolist()]
    assert view.evaluate("(all) => all.map(whole)", shares) == [whole(one) for one in shares]
    widths = [[0.0, 0.0], [-1.0, 1.0], [0.27, 0.271], [0.0, 0.1], [0.0, 0.0099], [-1e-9, 0.0]]
    assert view.evaluate("(all) => all.map(([low, high]) => decimals(low, high))", widths) == [
        decimals(*width) for width in widths
    ]
