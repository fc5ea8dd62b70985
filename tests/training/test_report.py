"""The page of a run: what it says, where its curves stand, and that a run without figures has a page too."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.errors import InputError
from hpskit.training.curves import POINTS, panels, power_of_ten
from hpskit.training.past_run import best_validation, lines_of, open_run
from hpskit.training.recipes import hpsv2, tiny
from hpskit.training.report import report_page
from run_material import config_of, log_of, write_run


def step(number: int, **changes: Any) -> dict[str, Any]:
    figures = {"loss": 0.5, "chance": 0.7, "accuracy": 0.6, "lr": 1e-3, "logit_scale": 14.0, "gradient_norm": 1.0}
    return {"kind": "step", "step": number, **figures, "images": 8, "seconds": 0.5, "dropped": 0, **changes}


def test_the_page_says_what_happened() -> None:
    page = report_page("first", config_of(tiny()), list(log_of(tiny(), warning=True)))
    assert "<title>Training: first</title>" in page
    assert re.search(r"Best at step 150: 80\.0 % <span class=\"range\">78\.0 to 82\.0</span>", page)
    assert "Step 100: the loss has been at ln 2 for 100 steps; check labels and learning rate" in page
    assert "200 of 200 steps of 64 pairs" in page
    assert "<dt>lr</dt><dd>0.0007</dd>" in page
    assert "<dt>ema</dt><dd>none</dd>" in page
    assert "broken image: 1." in page, "one group was dropped, in step 3"
    assert re.search(r"train\.json</th><td class=\"num\">hpdv2-train</td><td class=\"num\">6,000</td>", page)
    assert page.count("<svg") == 6
    assert not re.search(r"https?://", page), "one file, no network"


def test_the_lead_says_that_data_were_learned_by_heart_and_a_warning_what_came_later() -> None:
    accused = {"kind": "warning", "step": 150, "name": "overfitted", "text": "it learns its data by heart"}
    log = [*log_of(tiny()), accused]
    page = report_page("first", config_of(tiny()), log)
    assert "It learned its data by heart: at step 150 validation had become worse" in page
    better = {**lines_of(log, "validation")[-1], "step": 200, "loss": 0.1}
    page = report_page("first", config_of(tiny()), [*log, better])
    assert "It learned its data by heart: at" not in page
    assert "But later, at step 200, the validation loss was 0.100." in page


def test_names_and_messages_are_text_not_html() -> None:
    log = [*log_of(tiny()), {"kind": "warning", "step": 5, "name": "odd", "text": "a < b & <script>"}]
    page = report_page("<b>", config_of(tiny()), log)
    assert "a &lt; b &amp; &lt;script&gt;" in page
    assert "<b>" not in page


@pytest.mark.parametrize("lines", [[], [step(1)], [step(1), step(2, accuracy=None, gradient_norm=None, loss=None)]])
def test_an_unfinished_run_has_a_page(lines: list[dict[str, Any]]) -> None:
    page = report_page("first", config_of(tiny()), lines)
    assert ("No step has been logged yet." in page) == (not lines)
    assert "Best at" not in page


def test_a_run_that_was_resumed_says_so() -> None:
    start = {"kind": "start", "step": 0, "time": 0.0, "processes": 1}
    page = report_page("first", config_of(tiny()), [start, step(1), {**start, "step": 1}, step(2)])
    assert "The run was interrupted and went on 1 time;" in page


def test_where_points_stand() -> None:
    """Steps 0 to 4 over x 52 to 340; losses 0.4 to 0.8 over y 210 to 14."""
    low_high = {"value": 0.6, "low": 0.5, "high": 0.7}
    validation = {"kind": "validation", "step": 4, "loss": 0.6, "accuracy": low_high}
    losses = [step(n, loss=loss, chance=0.8) for n, loss in ((1, 0.8), (2, 0.4), (3, None), (4, 0.8))]
    loss, accuracy, rate, *_ = panels(losses, [validation], 4)
    chance, training, validated = loss.strokes
    assert training.lines == ("124.0,14.0 196.0,210.0", "340.0,14.0"), "the step without a figure breaks the line"
    assert chance.dashed
    assert [(dot.x, dot.y, dot.ends) for dot in validated.dots] == [(340.0, 112.0, None)]
    assert loss.best == 340.0
    (dot,) = accuracy.strokes[2].dots
    assert dot.ends is not None
    assert dot.ends[0] > dot.y > dot.ends[1], "the lower end is lower on the page"
    assert rate.y_label == "learning rate, 10⁻³"


def test_long_figures_of_an_axis_have_room_beside_its_title() -> None:
    scale = panels([step(1, logit_scale=14.2), step(2, logit_scale=14.24)], [], None)[3]
    assert scale.y_ticks[0][1] == "14.20"
    assert scale.beside > 0
    assert panels([step(1, logit_scale=14), step(2, logit_scale=20)], [], None)[3].beside == 0


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=3 * POINTS), st.integers(0, 10**6))
def test_curves_stay_in_their_panel(losses: list[float], first: int) -> None:
    drawn = panels([step(first + n, loss=loss) for n, loss in enumerate(losses, 1)], [], None)
    for panel in drawn:
        for stroke in panel.strokes:
            points = [tuple(map(float, p.split(","))) for text in (*stroke.lines, stroke.band) for p in text.split()]
            assert all(52 <= x <= 340 and 10 <= y <= 210 for x, y in points)
            assert sum(len(line.split()) for line in stroke.lines) <= POINTS


@given(st.integers(0, 2**32 - 1), st.integers(POINTS + 1, 4 * POINTS))
def test_a_long_run_is_drawn_as_means_that_lie_in_their_band(seed: int, length: int) -> None:
    losses = np.random.default_rng(seed).uniform(0.1, 1, length).tolist()
    loss, *_ = panels([step(n, loss=value, chance=0.7) for n, value in enumerate(losses, 1)], [], None)
    means = [tuple(map(float, p.split(","))) for p in loss.strokes[1].lines[0].split()]
    outline = [tuple(map(float, p.split(","))) for p in loss.strokes[1].band.split()]
    assert POINTS / 2 < len(means) <= POINTS
    for mean, top, bottom in zip(means, outline[: len(means)], outline[: len(means) - 1 : -1], strict=True):
        assert mean[0] == top[0] == bottom[0]
        assert top[1] - 0.02 <= mean[1] <= bottom[1] + 0.02


@pytest.mark.parametrize(("value", "power"), [(3.3e-6, -6), (1e-3, -3), (1.0, 0), (12.0, 1), (0.0, 0)])
def test_power_of_ten(value: float, power: int) -> None:
    assert power_of_ten(value) == power


def test_a_run_of_4000_steps_is_a_small_page() -> None:
    page = report_page("long", config_of(hpsv2()), list(log_of(hpsv2())))
    assert len(page) < 200_000
    assert "is the mean of 14 steps" in page


def test_a_run_is_read_as_it_stands(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "first", replace(tiny(), steps=100))
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "st')
    run = open_run(folder)
    assert run.name == "first"
    assert len(lines_of(run.log, "step")) == 100
    found = best_validation(run.log)
    assert found is not None
    assert found["step"] == 100
    with pytest.raises(InputError, match="has no checkpoint 'best', expected one, but none was saved yet"):
        run.weights()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config.json, expected the folder that `hpskit train --out` made"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="has no recipe"):
        open_run(tmp_path)


def test_the_best_is_the_most_accurate_then_the_least_loss_then_the_first() -> None:
    def line(number: int, accuracy: float, loss: float) -> dict[str, Any]:
        return {"kind": "validation", "step": number, "loss": loss, "accuracy": {"value": accuracy}}

    found = best_validation([line(1, 0.7, 0.5), line(2, 0.8, 0.6), line(3, 0.8, 0.4), line(4, 0.8, 0.4)])
    assert found is not None
    assert found["step"] == 3
    assert best_validation([]) is None
    assert math.isclose(found["loss"], 0.4)
