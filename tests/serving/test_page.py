"""The page of the server in a real browser, on a desk and on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import excess, needs_chromium, quiet_page
from hpskit.serving.app import hashed
from scoring_server import Served, gated, picture, served

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with quiet_page() as found:
        yield found


@pytest.fixture
def server() -> Iterator[Served]:
    _, load = gated()
    with served(load=load) as found:
        yield found


def files(folder: Path, **levels: int) -> list[Path]:
    paths = []
    for name, level in levels.items():
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(picture(level, (64, 48)))
    return paths


def named(page: Any) -> list[str]:
    return [text.strip() for text in page.locator("#images li .name:last-child").all_inner_texts()]


def test_images_are_dropped_and_ranked(page: Any, server: Served, tmp_path: Path) -> None:
    page.goto(server.url)
    assert page.locator("#rank").is_disabled()
    paths = files(tmp_path, dark=20, bright=240, grey=128)
    page.fill("#prompt", "a cat")
    page.set_input_files("#files", [str(path) for path in paths[:2]])
    drop = """async (bytes) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "grey.png", { type: "image/png" }));
        for (const kind of ["dragenter", "drop"]) document.body.dispatchEvent(
            new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    page.evaluate(drop, list(paths[2].read_bytes()))
    assert named(page) == ["dark.png", "bright.png", "grey.png"]
    page.click("#rank")
    page.wait_for_selector("#images li.first")
    assert named(page) == ["bright.png", "grey.png", "dark.png"]
    assert page.locator(".first .place").inner_text().split() == ["1.", "240.00"]
    assert "% like it best" in page.locator(".first").inner_text()
    page.locator("[aria-label='Remove bright.png']").click()
    assert named(page) == ["grey.png", "dark.png"]
    assert page.locator("#images .place").count() == 0
    page.click("#clear")
    assert named(page) == []


def test_a_broken_file_is_marked(page: Any, server: Served, tmp_path: Path) -> None:
    page.goto(server.url)
    good, bad = files(tmp_path, good=20, bad=30)
    bad.write_bytes(b"no image")
    page.fill("#prompt", "a cat")
    page.set_input_files("#files", [str(good), str(bad)])
    page.click("#rank")
    page.wait_for_selector("#status.bad")
    assert page.locator("#images li").nth(1).locator(".bad").inner_text() == "This file cannot be used."
    assert page.locator("#images .bad").count() == 1
    assert not page.locator("#rank").is_disabled()


def test_a_key_is_asked_for(page: Any, tmp_path: Path) -> None:
    _, load = gated()
    with served(load=load, keys={hashed("right"): "ann"}) as server:
        page.goto(server.url)
        page.fill("#prompt", "a cat")
        page.set_input_files("#files", [str(path) for path in files(tmp_path, one=20)])
        page.fill("#key", "wrong")
        page.click("#rank")
        page.wait_for_selector("#status.bad")
        page.fill("#key", "right")
        page.click("#rank")
        page.wait_for_selector("#images li.first")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(page: Any, server: Served, tmp_path: Path, scheme: str) -> None:
    page.troubles.clear()
    page.emulate_media(color_scheme=scheme)
    page.goto(server.url)
    page.fill("#prompt", "a cat " * 40)
    page.set_input_files("#files", [str(path) for path in files(tmp_path, **{"a" * 60: 20, "b": 30})])
    page.click("#rank")
    page.wait_for_selector("#images li.first")
    assert max(excess(page)) <= 0
    page.goto(f"{server.url}/docs")
    assert max(excess(page)) <= 0
    ours = (server.url, "data:", "blob:")
    strange = [text for text in page.troubles if not text.startswith(ours) and "status of 4" not in text]
    assert strange == []
