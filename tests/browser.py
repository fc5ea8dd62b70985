"""Pages in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium on the path (Debian: apt install chromium)"
)
WIDER = "* { letter-spacing: 0.05em }"
"""Stands for a font that is wider than the one that is here."""


FONTS = {name: Path(f"/usr/share/fonts/truetype/{name.lower()}") for name in ("DejaVu", "Liberation")}
"""Families that a bare Linux has, and where Debian's packages put them."""


@contextmanager
def no_other_font(family: str, folder: Path) -> Iterator[None]:
    """Let a browser that starts now find no font but those of a family."""
    if not FONTS[family].is_dir():
        pytest.skip(f"needs {FONTS[family]} (Debian: apt install fonts-dejavu-core fonts-liberation)")
    kinds = {"serif": "Serif", "sans-serif": "Sans", "monospace": "Sans Mono" if family == "DejaVu" else "Mono"}
    names = "".join(
        f'<alias binding="same"><family>{generic}</family><prefer><family>{family} {kind}</family></prefer></alias>'
        for generic, kind in kinds.items()
    )
    names += f'<match><edit name="family" mode="append_last"><string>{family} Sans</string></edit></match>'
    file = folder / "fonts.conf"
    file.write_text(f"<fontconfig><dir>{FONTS[family]}</dir><cachedir>{folder}</cachedir>{names}</fontconfig>")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FONTCONFIG_FILE", str(file))
        yield


@contextmanager
def quiet_page() -> Iterator[Any]:
    """A page; whatever it logs or asks of a network is in its `troubles`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(30_000)
        page.troubles = []
        page.on("console", lambda message: page.troubles.append(message.text))
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or page.troubles.append(asked.url))
        yield page
        browser.close()


def excess(page: Any) -> list[int]:
    """Pixels by which a page is wider than phones of 360 and of 390, in the font of this machine and in a wider one."""
    found = []
    for width in (360, 390):
        page.set_viewport_size({"width": width, "height": 844})
        for style in ("", WIDER):
            page.evaluate("(css) => { document.adoptedStyleSheets = [new CSSStyleSheet()]; "
                          "document.adoptedStyleSheets[0].replaceSync(css) }", style)  # fmt: skip
            found.append(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
    page.evaluate("document.adoptedStyleSheets = []")
    page.set_viewport_size({"width": 1280, "height": 900})
    return found
