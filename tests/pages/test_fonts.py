"""Pages depend on no font: with those of a bare Linux none scrolls sideways on a phone, and wide tables say so."""

from __future__ import annotations

import html
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from browser import FONTS, excess, needs_chromium, no_other_font, quiet_page
from hpskit.benchmark.leaderboard import Leaderboard, run
from hpskit.benchmark.result import Resampling
from hpskit.training.recipes import tiny
from hpskit.training.report import report_page
from leaderboard_results import two_styles, write_result
from run_material import config_of, log_of

SRC = Path(__file__).parents[2] / "src/hpskit"


@needs_chromium
@pytest.mark.parametrize("family", FONTS)
def test_pages_fit_with_the_fonts_of_any_linux(family: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(20, 1, 40)
    paths = tuple(
        write_result(tmp_path / f"{n}.json", name, {"mini": easy + rng.normal(n, 0.3, 40)}, two_styles(20))
        for n, name in enumerate(("Alder", "A model with a name that is rather long, fine-tuned", "Cedar"))
    )
    run(Leaderboard(results=paths, out=tmp_path / "out", resampling=Resampling(resamples=200)))
    report = tmp_path / "run.html"
    report.write_text(report_page("first", config_of(tiny()), list(log_of(tiny(), warning=True))), encoding="utf-8")
    states = ("", "view=compare", "model=Alder", "view=prompts", "view=about")
    addresses = [f"{(tmp_path / 'out/leaderboard.html').as_uri()}#{state}" for state in states]
    with no_other_font(family, tmp_path), quiet_page() as page:
        for address in [*addresses, report.as_uri()]:
            page.goto(address)
            page.wait_for_timeout(50)
            assert excess(page) == [0, 0, 0, 0], address
        page.set_viewport_size({"width": 360, "height": 844})
        for columns, said in ((2, False), (40, True)):  # whether there is more to scroll to
            page.evaluate("text => { document.querySelector('main').innerHTML = text }",
                          f'<div class="scroll"><table><tr>{"<td>word</td>" * columns}</tr></table></div>')  # fmt: skip
            page.wait_for_timeout(50)
            height = page.evaluate("getComputedStyle(document.querySelector('.scroll'), '::before').height")
            assert (height != "0px") == said


@pytest.mark.skipif(shutil.which("fc-query") is None, reason="needs fc-query (Debian: apt install fontconfig)")
@pytest.mark.parametrize("family", FONTS)
def test_the_fonts_of_any_linux_have_every_character_that_is_written(family: str) -> None:
    font = FONTS[family] / {"DejaVu": "DejaVuSans.ttf", "Liberation": "LiberationSans-Regular.ttf"}[family]
    told = subprocess.run(["fc-query", "-f", "%{charset}", font], check=True, stdout=subprocess.PIPE, text=True).stdout
    ranges = [[int(end, 16) for end in part.split("-")] for part in told.split()]
    drawn = {chr(code) for first, *rest in ranges for code in range(first, (rest or [first])[0] + 1)}
    sources = [path for ending in ("py", "html", "js", "css") for path in SRC.rglob(f"*.{ending}")]
    used = {
        character for path in sources for character in html.unescape(path.read_text("utf-8")) if character >= "\xa0"
    }
    assert len(used) > 20
    assert sorted(used - drawn) == []
