"""The page of a run: what it says, where its curves stand, and that a run without figures has a page too."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.training import report
from hpskit.training.recipes import tiny
from hpskit.training.report import report_page, stretches
from run_material import config_of, log_of


def step(number: int, **changes: Any) -> dict[str, Any]:
    figures = {"loss": 0.5, "chance": 0.7, "accuracy": 0.6, "lr": 1e-3, "logit_scale": 14.0, "gradient_norm": 1.0}
    return {"kind": "step", "step": number, **figures, "images": 8, "seconds": 0.5, "dropped": 0, **changes}


def test_the_page_says_what_happened() -> None:
    page = report_page("first", config_of(tiny()), list(log_of(tiny(), warning=True)))
    assert "<title>Training: first</title>" in page
    assert re.search(r"Best at step 150: 80\.0&nbsp;% <span class=\"range\">78\.0 to 82\.0</span>", page)
    assert "Step 100: the loss has been at ln 2 for 100 steps; check labels and learning rate" in page
    assert "200 of 200 steps of 64 pairs" in page
    assert "<dt>lr</dt><dd>0.0007</dd>" in page
    assert "<dt>ema</dt><dd>none</dd>" in page
    assert "broken image: 1." in page, "one group was dropped, in step 3"
    assert re.search(r"train\.json</th><td class=\"num\">hpdv2-train</td><td class=\"num\">6,000</td>", page)
    assert page.count("<svg") == 6
    assert not re.search(r"https?://", page), "one file, no network"


def test_the_lead_says_that_data_were_learned_by_heart() -> None:
    accused = {"kind": "warning", "step": 150, "name": "overfitted", "text": "it learns its data by heart"}
    log = [*log_of(tiny()), accused]
    page = report_page("first", config_of(tiny()), log)
    assert "It learned its data by heart: at step 150 validation had become worse" in page


@pytest.mark.parametrize("lines", [[], [step(1)], [step(1), step(2, accuracy=None, gradient_norm=None, loss=None)]])
def test_an_unfinished_run_has_a_page(lines: list[dict[str, Any]]) -> None:
    page = report_page("first", config_of(tiny()), lines)
    assert "under way when this page was written" in page
    assert ("No step has been logged yet." in page) == (not lines)
    assert "Best at" not in page


def test_a_run_that_was_resumed_says_so() -> None:
    start = {"kind": "start", "step": 0, "time": 0.0, "processes": 1}
    page = report_page("first", config_of(tiny()), [start, step(1), {**start, "step": 1}, step(2)])
    assert "The run was interrupted and went on 1 time;" in page


@given(st.integers(0, 2**32 - 1), st.integers(report._POINTS + 1, 4 * report._POINTS))
def test_a_long_run_is_drawn_as_means_that_lie_in_their_band(seed: int, length: int) -> None:
    losses = np.random.default_rng(seed).uniform(0.1, 1, length).tolist()
    points = stretches([step(n, loss=value) for n, value in enumerate(losses, 1)], lambda line: line["loss"])
    assert report._POINTS / 2 < len(points) <= report._POINTS
    for point in points:
        assert point.low is not None
        assert point.y is not None
        assert point.high is not None
        assert point.low <= point.y <= point.high
    assert math.fsum(point.y or 0 for point in points) / len(points) == pytest.approx(np.mean(losses), abs=0.05)
