"""How many prompts it takes: known answers, what is drawn, what is refused."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from error_fields import at
from hpskit.benchmark.studies.prompt_number import PromptNumber, run
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
        number = int(np.ceil((z * DEVIATION / 0.1) ** 2))
        assert scope["needed"] == {"typical": number, "largest": number, "at_least": False}
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


def test_fewer_than_six_are_never_recommended(study: PromptNumber) -> None:
    """(2.8 x 1.5 / 3)^2 is below 2, and with 5 prompts the smallest p is 2 / 2^5."""
    needed = run(replace(study, resolution=3))["scorers"][0]["scopes"][0]["needed"]
    assert needed == {"typical": 6, "largest": 6, "at_least": True}
    assert "Recommended: 6 prompts at least." in (study.out / "prompts.html").read_text()
    enough = DEVIATION * (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) / math.sqrt(5.5)  # for 6, not for 5
    needed = run(replace(study, resolution=enough))["scorers"][0]["scopes"][0]["needed"]
    assert needed == {"typical": 6, "largest": 6, "at_least": False}


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


def pair_of(tmp_path: Path, prompts: list[tuple[str, str]], *scores: np.ndarray) -> tuple[Path, ...]:
    return tuple(write_result(tmp_path / f"{n}.json", f"m{n}", {"mini": own}, prompts) for n, own in enumerate(scores))


def test_a_category_of_one_prompt_is_no_obstacle(study: PromptNumber, tmp_path: Path) -> None:
    prompts = [*two_styles(20), ("lonely", "one prompt")]
    own = np.random.default_rng(0).normal(size=(2, 41))
    (scorer,) = run(replace(study, results=pair_of(tmp_path, prompts, *own)))["scorers"]
    assert [scope["category"] for scope in scorer["scopes"]] == ["", "anime", "photo"]
    assert scorer["scopes"][0]["deviation"]["typical"] == pytest.approx((own[1] - own[0]).std(ddof=1))
    assert "all prompts are drawn alike: lonely." in scorer["notes"][0]
    assert scorer["notes"][0] in (study.out / "prompts.html").read_text()


def test_models_that_are_equal_in_one_category_have_no_curve_there(study: PromptNumber, tmp_path: Path) -> None:
    first = np.random.default_rng(0).normal(size=40)
    second = first.copy()
    second[:20] += np.random.default_rng(1).normal(size=20)
    (scorer,) = run(replace(study, results=pair_of(tmp_path, two_styles(20), first, second)))["scorers"]
    every, anime, photo = scorer["scopes"]
    assert (bool(every["curve"]), bool(anime["curve"]), photo["curve"]) == (True, True, [])
    assert photo["needed"] == {"typical": 6, "largest": 6, "at_least": True}
    assert scorer["notes"][0].startswith("Categories without a curve: photo; all models have the same mean there")
    with pytest.raises(InputError, check=at("results", found="same mean by mini for all 2 models")):
        run(replace(study, results=pair_of(tmp_path, two_styles(20), first, first)))


def test_prompts_that_stand_four_times_are_one_each(study: PromptNumber, tmp_path: Path) -> None:
    own = np.random.default_rng(0).normal(size=(3, 40))
    once = [("", f"prompt {n}") for n in range(40)]
    four = [prompt for prompt in once for _ in range(4)]
    (plain,) = run(replace(study, results=pair_of(tmp_path, once, *own)))["scorers"]
    (scorer,) = run(replace(study, results=pair_of(tmp_path, four, *np.repeat(own, 4, axis=1))))["scorers"]
    assert scorer["scopes"][0]["prompts"] == plain["scopes"][0]["prompts"] == 40
    assert scorer["scopes"][0]["needed"] == plain["scopes"][0]["needed"]
    assert scorer["notes"][0].startswith("120 of 160 prompts repeat another")


def test_what_cannot_be_studied_together(study: PromptNumber, tmp_path: Path) -> None:
    base, tuned = study.results
    prompts = two_styles(400)
    scores = np.arange(800.0)
    other_suite = write_result(tmp_path / "suite.json", "x", {"mini": scores[:4]}, two_styles(2), suite="small")
    other_digest = write_result(tmp_path / "digest.json", "x", {"mini": scores}, prompts, digest="b")
    other_scorer = write_result(tmp_path / "scorer.json", "x", {"hps-v2.1": scores}, prompts)
    same_name = write_result(tmp_path / "name.json", "base", {"mini": scores}, prompts)
    for results, place, found in (
        ((base,), "results", "are 1"),
        ((base, other_suite), f"{base} and {other_suite}", "are of 'ours'"),
        ((base, tuned, same_name), f"{base} and {same_name}", "'base'"),
        ((base, other_scorer), "results", "have no scorer"),
        ((base, other_digest), f"{base} and {other_digest}: scorer 'mini'", "is 'mini v1"),
    ):
        with pytest.raises(InputError, check=at(place, found=found)):
            run(replace(study, results=results))
    with pytest.raises(InputError, check=at(base, found="'nobody'", expected="mini")):
        run(replace(study, scorers=("nobody",)))
    with pytest.raises(InputError, check=at("resolution", found="is 0")):
        replace(study, resolution=0)
    assert not study.out.exists()
