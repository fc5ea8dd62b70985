"""The pages of evaluation and agreement in a browser: they fit a phone, log nothing and load nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from browser import excess, needs_chromium, quiet_page
from hpskit.evaluation.agreement import Agreement
from hpskit.evaluation.agreement import run as study
from hpskit.evaluation.run import Evaluation, run
from hpskit.scoring.contract import Candidate
from small_inputs import Mixed, Sharpness, write_data

pytestmark = needs_chromium
NAMES = ("a scorer with a name of several words", "a-name-without-any-place-to-break-a-line-at")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, photographs: list[Image.Image]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    data = write_data(folder, photographs, groups=8)
    scorers = [
        Candidate(label=label, scorer=scorer)
        for label, scorer in zip(NAMES, (Sharpness(), Mixed("mixed")), strict=True)
    ]
    run(Evaluation(data=data, out=folder / "evaluation", resamples=100), lambda: scorers)
    study(Agreement(data=data, out=folder / "agreement", resamples=100))
    return {name: folder / name / "report.html" for name in ("evaluation", "agreement")}


@pytest.mark.parametrize("name", ["evaluation", "agreement"])
def test_a_page_fits_a_phone_whatever_its_font(name: str, pages: dict[str, Path]) -> None:
    with quiet_page() as page:
        page.goto(pages[name].as_uri())
        assert excess(page) == [0, 0, 0, 0]
        assert page.troubles == []
