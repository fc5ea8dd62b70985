"""How many prompts it takes: known answers, what is drawn, what is refused."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from hpskit.benchmark.prompt_number import PromptNumber, run
from hpskit.errors import InputError
from leaderboard_results import two_styles, write_result

DEVIATION = 1.5
"""Of the differences of each two models of `study`."""


@pytest.fixture
def study(tmp_path: Path) -> PromptNumber:
    """Two models over 400 prompts of each style; they differ by 0.3 in anime and by 1.3 in photo."""
    rng = np.random.default_rng(0)
    prompts = two_styles(400)
    easy = rng.normal(0, 3, len(prompts))
    noise = rng.normal(0, DEVIATION, (2, 400))
    noise = DEVIATION * (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, ddof=1, keepdims=True)
    ahead = np.concatenate([noise[0] + 0.3, noise[1] + 1.3])
    paths = tuple(
        write_result(tmp_path / f"{name}.json", name, {"mini": scores}, prompts)
        for name, scores in (("base", easy), ("tuned", easy + ahead))
    )
    return PromptNumber(results=paths, out=tmp_path / "out", resamples=400)


def test_the_number_follows_from_the_deviation(study: PromptNumber) -> None:
    """n = ((1.96 + 0.84) 1.5 / 0.1)^2, within styles: that they differ by one point makes no mean less sure."""
    (scorer,) = run(study)["scorers"]
    every, anime, photo = scorer["scopes"]
    z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
    for scope in (every, anime, photo):
        assert scope["deviation"]["typical"] == pytest.approx(DEVIATION)
        assert scope["needed"] == dict.fromkeys(("typical", "largest"), int(np.ceil((z * DEVIATION / 0.1) ** 2)))
        for point in scope["curve"]:
            assert point["difference_error"] == pytest.approx(DEVIATION / np.sqrt(point["prompts"]), rel=0.02)
            assert point["detectable"] == pytest.approx(z * DEVIATION / np.sqrt(point["prompts"]))
    assert [scope["category"] for scope in scorer["scopes"]] == ["", "anime", "photo"]
    assert anime["means"]["tuned"] - anime["means"]["base"] == pytest.approx(0.3)
    assert every["means"]["tuned"] - every["means"]["base"] == pytest.approx(0.8)


def test_the_chance_of_a_wrong_order_is_that_of_the_normal_distribution(study: PromptNumber) -> None:
    anime = run(replace(study, resamples=2000))["scorers"][0]["scopes"][1]
    assert [point["prompts"] for point in anime["curve"]] == [10, 20, 50, 100, 200, 400, 800, 1600, 3200]
    for point in anime["curve"]:
        expected = NormalDist().cdf(-0.3 * np.sqrt(point["prompts"]) / DEVIATION)
        assert point["wrong_order"] == pytest.approx(expected, abs=0.035)
        assert point["worst_pair"] == point["any_wrong"] == point["wrong_order"]


def test_a_finer_resolution_needs_more(study: PromptNumber) -> None:
    coarse, fine = (
        run(replace(study, resolution=resolution))["scorers"][0]["scopes"][0]["needed"]["largest"]
        for resolution in (0.2, 0.1)
    )
    assert fine == pytest.approx(4 * coarse, abs=4)


def test_the_pair_that_varies_most_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    prompts = [("", f"prompt {number}") for number in range(60)]
    scores = {"a": rng.normal(0, 1, 60), "wild": rng.normal(0, 9, 60), "b": rng.normal(0, 2, 60)}
    paths = tuple(write_result(tmp_path / f"{n}.json", n, {"mini": s}, prompts) for n, s in scores.items())
    (scorer,) = run(PromptNumber(results=paths, out=tmp_path / "out", resamples=100))["scorers"]
    (scope,) = scorer["scopes"]
    deviations = {
        (one, other): (scores[other] - scores[one]).std(ddof=1)
        for one, other in (("a", "wild"), ("a", "b"), ("wild", "b"))
    }
    assert scope["deviation"]["largest"] == pytest.approx(max(deviations.values()))
    assert tuple(scope["deviation"]["pair"]) == max(deviations, key=lambda pair: deviations[pair])
    assert scope["deviation"]["typical"] == pytest.approx(np.sqrt(np.mean(np.square(list(deviations.values())))))
    assert 60 in [point["prompts"] for point in scope["curve"]]


def test_files(study: PromptNumber) -> None:
    result = run(study)
    assert result == json.loads((study.out / "prompts.json").read_text())
    assert {path.name for path in study.out.iterdir()} == {"prompts.json", "prompts.html", "prompts.svg"}
    before = {path.name: path.read_bytes() for path in study.out.iterdir()}
    run(study)
    assert {path.name: path.read_bytes() for path in study.out.iterdir()} == before
    page = before["prompts.html"].decode()
    assert "Recommended: 1,766 prompts." in page
    assert "<script" not in page
    assert not re.search(r"https?://|@import|url\(", page)
    plot = ET.fromstring(before["prompts.svg"])  # our own
    assert len(plot.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2 * 3


def test_prompts_without_every_model_are_left_out(study: PromptNumber, tmp_path: Path) -> None:
    prompts = two_styles(20)
    whole = np.arange(40.0)
    lacking = np.where(np.arange(40) % 8 == 3, np.nan, whole[::-1])
    paths = tuple(
        write_result(tmp_path / f"{name}.json", name, {"mini": scores}, prompts)
        for name, scores in (("whole", whole), ("lacking", lacking))
    )
    scorer = run(replace(study, results=paths))["scorers"][0]
    assert (scorer["left_out"], scorer["scopes"][0]["prompts"]) == (5, 35)
    assert "left out, because not every model has an image for them: 5." in (study.out / "prompts.html").read_text()


def test_what_cannot_be_studied_together(study: PromptNumber, tmp_path: Path) -> None:
    base, tuned = study.results
    prompts = two_styles(400)
    scores = np.arange(800.0)
    other_suite = write_result(tmp_path / "suite.json", "x", {"mini": scores[:4]}, two_styles(2), suite="small")
    other_digest = write_result(tmp_path / "digest.json", "x", {"mini": scores}, prompts, digest="b")
    other_scorer = write_result(tmp_path / "scorer.json", "x", {"hps-v2.1": scores}, prompts)
    same_name = write_result(tmp_path / "name.json", "base", {"mini": scores}, prompts)
    for results, message in (
        ((base,), "there is 1, expected at least 2"),
        ((base, other_suite), r"base.json of 'ours' \(\w+\) and \S+suite.json of 'small' \(\w+\): the prompts differ"),
        ((base, tuned, same_name), r"base.json and \S+name.json: both are of 'base'; leave one out"),
        ((base, other_scorer), "no scorer is in all of them"),
        ((base, other_digest), "scorer 'mini' is 'mini v1 .* and 'mini v1 .*; score both with one"),
    ):
        with pytest.raises(InputError, match=message):
            run(replace(study, results=results))
    with pytest.raises(InputError, match=r"base.json: has no scores by 'nobody' \(there are: mini\)"):
        run(replace(study, scorers=("nobody",)))
    with pytest.raises(InputError, match="resolution: is 0, expected a difference in points, above 0"):
        replace(study, resolution=0)
    assert not study.out.exists()
