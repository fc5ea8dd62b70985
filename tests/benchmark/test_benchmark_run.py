"""A run, from images to `result.json`: the figures, what is refused, what survives a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from error_fields import at
from hpskit.benchmark.result import ScoredPrompt, figures, read_result
from hpskit.benchmark.run import BenchmarkRun, run
from hpskit.benchmark.verify import verify
from hpskit.errors import InputError, ModelError, OutputError
from hpskit.scoring.contract import Candidate
from small_inputs import Brightness, grey


@pytest.fixture
def config(suite_file: Path, renders: Path, tmp_path: Path) -> BenchmarkRun:
    return BenchmarkRun(suite=suite_file, images=renders, name="model", out=tmp_path / "out/result.json")


@pytest.fixture
def double() -> Candidate:
    return Candidate(label="double", scorer=Brightness(2.0))


def test_scores_figures_and_identity(config: BenchmarkRun, brightness: Candidate) -> None:
    summary = run(replace(config, meta={"steps": 50}), lambda: [brightness])
    result = read_result(config.out)
    assert result.model_dump(mode="json") == summary.result.model_dump(mode="json")
    # grey level plus length of the prompt: "a 0" has 3, "b c 0" has 5 characters
    assert result.scores("brightness").tolist() == [13.0, 25.0, 26.0, 27.0, 14.0, 15.0, 16.0]
    assert result.categories.tolist() == ["a", "b c", "b c", "b c", "a", "a", "a"]
    (scorer,) = result.scorers
    assert [(c.name, c.value, c.mean, c.prompts) for c in scorer.categories] == [
        ("a", 14.5, 14.5, 4),
        ("b c", 26.0, 26.0, 3),
    ]
    average = scorer.average
    assert average.value == pytest.approx((4 * 14.5 + 3 * 26.0) / 7)
    assert average.low < average.value < average.high < average.low + 3, "not categories are drawn but their prompts"
    assert (result.complete, result.meta, scorer.log_odds_per_point) == (True, {"steps": 50}, 0.5)
    assert scorer.info == brightness.scorer.info
    assert result.images_root == "../renders"
    assert [path.name for path in config.out.parent.iterdir()] == ["result.json"]
    assert summary.resumed == 0


def test_a_missing_image_is_an_error_or_marks_the_result(config: BenchmarkRun, brightness: Candidate) -> None:
    (config.images / "a/00002.png").unlink()
    with pytest.raises(InputError, check=at(config.images, found="1 missing: a/00002", cure="--allow-missing")):
        run(config, lambda: [brightness])
    assert not config.out.exists()
    result = run(replace(config, allow_missing=True), lambda: [brightness]).result
    assert not result.complete
    assert np.isnan(result.scores("brightness")).tolist() == [False] * 5 + [True, False]
    assert verify(config.out, config.images, lambda _info: brightness.scorer).passed
    grey(config.images / "a/00002.png", 12)
    again = run(config, lambda: [brightness])
    assert again.result.complete
    assert again.resumed == 6


def test_broken_images_are_all_listed_and_the_others_kept(config: BenchmarkRun, brightness: Candidate) -> None:
    first, second = config.images / "a/00001.png", config.images / "b c/00002.png"
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:-26])
    with pytest.raises(InputError, check=at("7 images", found=f"2 that cannot be scored: {second}: ")) as caught:
        run(config, lambda: [brightness])
    assert str(first) in caught.value.found
    grey(first, 11)
    grey(second, 22)
    assert run(config, lambda: [brightness]).resumed == 5


def test_one_image_for_several_prompts_is_an_error_or_told(config: BenchmarkRun, brightness: Candidate) -> None:
    shutil.copy(config.images / "a/00001.png", config.images / "a/00003.png")
    found = "2 images that are duplicates of one another though their prompts differ: a/00001.png, a/00003.png"
    with pytest.raises(InputError, check=at(config.images, found=found, cure="--allow-identical")):
        run(config, lambda: [brightness])
    summary = run(replace(config, allow_identical=True), lambda: [brightness])
    assert summary.identical == (("a/00001.png", "a/00003.png"),)


def test_a_scorer_is_added_and_the_first_scores_no_more(
    config: BenchmarkRun, brightness: Candidate, double: Candidate
) -> None:
    run(replace(config, meta={"steps": 50}, command="first"), lambda: [brightness])
    added = run(replace(config, command="second"), lambda: [double]).result
    assert added.labels == ("brightness", "double")
    assert added.scores("brightness").tolist() == [13.0, 25.0, 26.0, 27.0, 14.0, 15.0, 16.0]
    assert added.scores("double")[0] == 23.0
    assert added.meta == {"steps": 50}, "what was said stays"
    assert [scorer.command for scorer in added.scorers] == ["first", "second"]
    again = Candidate(label="brightness", scorer=Brightness())
    assert run(config, lambda: [again, double]).resumed == 14
    assert isinstance(again.scorer, Brightness)
    assert again.scorer.calls == 0


def test_a_result_of_something_else_is_left_alone(config: BenchmarkRun, brightness: Candidate, tmp_path: Path) -> None:
    run(config, lambda: [brightness])
    impostor = Candidate(label="brightness", scorer=Brightness(2.0))
    other = tmp_path / "other.jsonl"
    other.write_text(Path(config.suite).read_text().replace("a 0", "a zero"))
    for changes, candidate, found, expected in (
        ({"name": "other"}, brightness, "model 'model'", "'other'"),
        ({"suite": other}, brightness, "on the prompts 'suite' (", "'other' ("),
        ({}, impostor, "scores by 'brightness' of 'brightness 1 ", "'brightness 2 "),
    ):
        before = config.out.read_bytes()
        with pytest.raises(OutputError, check=at(config.out, found=found, expected=expected)):
            run(replace(config, **changes), lambda candidate=candidate: [candidate])
        assert config.out.read_bytes() == before
    assert run(replace(config, replace=True), lambda: [impostor]).result.scores("brightness")[0] == 23.0
    (tmp_path / "renamed.jsonl").write_bytes(Path(config.suite).read_bytes())
    assert run(replace(config, suite=tmp_path / "renamed.jsonl"), lambda: [impostor]).result.suite.name == "suite"
    before = config.out.read_bytes()
    grey(config.images / "a/00001.png", 99)
    with pytest.raises(OutputError, check=at(config.out, found="images that have changed since, ")) as caught:
        run(config, lambda: [brightness])
    assert caught.value.found.endswith(": a/00001.png")
    assert config.out.read_bytes() == before
    config.out.write_text("{}")
    with pytest.raises(OutputError, check=at(config.out, found="is no result of this command")):
        run(config, lambda: [brightness])


def test_new_images_need_every_scorer(config: BenchmarkRun, brightness: Candidate, double: Candidate) -> None:
    (config.images / "a/00002.png").rename(config.images.parent / "kept.png")
    run(replace(config, allow_missing=True), lambda: [brightness])
    (config.images.parent / "kept.png").rename(config.images / "a/00002.png")
    with pytest.raises(OutputError, check=at(config.out, found="'brightness'", cure="--scorer brightness")):
        run(config, lambda: [double])
    assert run(config, lambda: [brightness, double]).result.complete


def test_scorers_must_differ_and_give_numbers(config: BenchmarkRun, brightness: Candidate) -> None:
    with pytest.raises(InputError, check=at("scorers", found="'brightness' twice")):
        run(config, lambda: [brightness, brightness])
    with pytest.raises(InputError, check=at("scorers", found="two that are 'brightness 1 ")):
        run(config, lambda: [brightness, replace(brightness, label="again")])
    with pytest.raises(ModelError, check=at("brightness: ", found="nan")):
        run(config, lambda: [Candidate(label="nan", scorer=Brightness(float("nan")))])
    assert not config.partial.exists(), "nothing is left of what has done nothing"


def test_scores_that_no_figure_can_hold_are_refused(config: BenchmarkRun) -> None:
    with pytest.raises(InputError, check=at(config.images / "a/00000.png: scores.huge", expected="1000000000000")):
        run(config, lambda: [Candidate(label="huge", scorer=Brightness(1e30))])
    assert not config.out.exists()


def test_settings_are_checked(config: BenchmarkRun) -> None:
    for name, value, found in (
        ("out", Path("r.txt"), "'r.txt'"),
        ("name", " ", "' '"),
        ("meta", {"x": float("nan")}, "cannot be written as JSON"),
        ("meta", {"x": {3}}, "cannot be written as JSON"),
    ):
        with pytest.raises(InputError, check=at(name, found=found)):
            replace(config, **{name: value})  # type: ignore[arg-type]


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        (lambda v: v.update(format="x"), "format", "is 'x'"),
        (lambda v: v.update(name=3), "name", "is 3"),
        (lambda v: v.update(name="x\x1b[2J"), "name", "is 'x\\x1b[2J'"),
        (lambda v: v["prompts"][0].update(prompt="other"), "suite.sha256", "is '"),
        (lambda v: v["prompts"][1].update(images=[]), "complete", "is True"),
        (lambda v: first_image(v)["scores"].clear(), "prompts[0].images[0].scores.brightness", "is None"),
        (lambda v: first_image(v)["scores"].update(brightness=10**400), "prompts[0].images[0].scores", "is 1000"),
        (lambda v: first_image(v)["scores"].update(brightness=1e308), "prompts[0].images[0].scores", "is 1e+308"),
        (lambda v: first_image(v).update(image="../x.png"), "prompts[0].images[0].image", "is '../x.png'"),
        (lambda v: first_image(v).update(image="x" * 300), "prompts[0].images[0].image", "is 'xxx"),
        (lambda v: v["meta"].update(x=json.loads("[" * 99 + "]" * 99)), "meta", "is nested"),
        (lambda v: v["suite"].update(name="x\x1b[2J"), "suite.name", "is 'x\\x1b[2J'"),
        (lambda v: v["suite"].update(name="x\u202ey"), "suite.name", "is 'x\\u202ey'"),
        (lambda v: v["prompts"][1].update(number=5), "prompts[1].number", "is 5"),
        (lambda v: v["scorers"][0]["info"].pop("precision"), "scorers[0].info.precision", "is missing"),
        (lambda v: v["scorers"][0].update(average="x"), "scorers[0].average", "is 'x'"),
        (lambda v: v["scorers"].append(v["scorers"][0]), "scorers", "is ('brightness', 'brightness')"),
        (lambda v: v["suite"].update(prompts=3200), "suite.prompts", "is 3200"),
        (lambda v: v["suite"].pop("name"), "suite.name", "is missing"),
    ],
)
def test_a_file_that_is_no_result_is_refused(
    change: Change, place: str, found: str, config: BenchmarkRun, brightness: Candidate
) -> None:
    value = run(config, lambda: [brightness]).result.model_dump(mode="json")
    change(value)
    config.out.write_text(json.dumps(value))
    with pytest.raises(InputError, check=at(f"{config.out}: {place}", found=found)):
        read_result(config.out)


def first_image(value: dict[str, Any]) -> dict[str, Any]:
    image: dict[str, Any] = value["prompts"][0]["images"][0]
    return image


def test_no_field_that_is_gone_or_odd_gives_a_traceback(config: BenchmarkRun, brightness: Candidate) -> None:
    value = run(config, lambda: [brightness]).result.model_dump(mode="json")

    def places(part: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        inner = part.items() if isinstance(part, dict) else enumerate(part[:1]) if isinstance(part, list) else ()
        return [p for key, child in inner for p in [(*path, key), *places(child, (*path, key))]]

    refused = 0
    for place in places(value):
        for odd in (..., None, [], {}, "x", 10**400, -1, True):
            copy = json.loads(json.dumps(value))
            part = copy
            for key in place[:-1]:
                part = part[key]
            if odd is ...:
                del part[place[-1]]
            else:
                part[place[-1]] = odd
            config.out.write_text(json.dumps(copy))
            try:
                result = read_result(config.out)
                assert [result.scores(label).shape for label in result.labels]
                verify(config.out, config.images, lambda _info: brightness.scorer)
            except InputError:
                refused += 1
    assert refused > 200


# Verification


def test_verify_accepts_what_is_true(config: BenchmarkRun, brightness: Candidate) -> None:
    run(config, lambda: [brightness])
    done = verify(config.out, config.images, lambda _info: brightness.scorer)
    assert [(check.what, check.passed) for check in done.checks] == [
        ("prompts", None),
        ("figures", True),
        ("places", True),
        ("images", True),
        ("scores by brightness", True),
    ]
    assert done.passed
    assert [check.detail for check in done.checks[1:4]] == [
        "means, deviations and intervals follow from the scores",
        "7 of 7 prompts have the images of their place",
        "7 of 7 are the same to the byte",
    ]


@pytest.mark.parametrize(
    ("change", "what", "detail"),
    [
        (
            lambda v: first_image(v)["scores"].update(brightness=13.5),
            "scores by brightness",
            "6 of 7 agree within 0.001",
        ),
        (lambda v: first_image(v).update(sha256="0" * 64), "images", "1 others: a/00000.png"),
        (lambda v: first_image(v).update(image="a/99999.png"), "images", "1 missing: a/99999.png"),
        (lambda v: v["prompts"][0].update(images=v["prompts"][4]["images"]), "places", "6 of 7 prompts have"),
        (lambda v: v["scorers"][0].update(log_odds_per_point=5.0), "scores by brightness", "log_odds_per_point is 5.0"),
        (lambda v: v["scorers"][0]["average"].update(value=99.0), "figures", "brightness average value is 99.0"),
        (lambda v: v["scorers"][0]["categories"][1].update(low=0.0), "figures", "brightness b c low is 0.0"),
        (lambda v: v["suite"].update(name="hpsv2"), "prompts", "are not the published ones"),
    ],
)
def test_verify_finds_what_is_not(
    change: Change, what: str, detail: str, config: BenchmarkRun, brightness: Candidate
) -> None:
    value = run(config, lambda: [brightness]).result.model_dump(mode="json")
    change(value)
    config.out.write_text(json.dumps(value))
    done = verify(config.out, config.images, lambda _info: brightness.scorer)
    assert not done.passed
    assert done.verdict == "is not what its images give"
    assert detail in next(check.detail for check in done.checks if check.what == what and check.passed is False)


def test_the_tolerance_may_be_given(config: BenchmarkRun, brightness: Candidate) -> None:
    run(config, lambda: [brightness])
    shifted = Brightness(1.001)
    shifted.info = brightness.scorer.info
    for tolerance, passed in ((None, False), (0.5, True), (0.01, False)):
        done = verify(config.out, config.images, lambda _info: shifted, tolerance=tolerance)
        assert done.passed is passed, tolerance


def test_verify_claims_no_more_than_it_saw(config: BenchmarkRun, brightness: Candidate, tmp_path: Path) -> None:
    run(config, lambda: [brightness])
    other, newer = Brightness(), Brightness()
    other.info = other.info.model_copy(update={"weight_hash": "sha256:" + "1" * 64})
    done = verify(config.out, config.images, lambda _info: other)
    assert not done.passed
    assert done.verdict == "is what its images give; not checked: prompts, scores by brightness"
    newer.info = newer.info.model_copy(update={"package": "tests 1, hpskit 9.9"})
    assert verify(config.out, config.images, lambda _info: newer, suite=config.suite).passed
    (tmp_path / "other.json").write_text('["x"]')
    assert not verify(config.out, config.images, lambda _info: brightness.scorer, suite=tmp_path / "other.json").passed


def test_a_constant_shift_is_found_in_low_precision(config: BenchmarkRun, brightness: Candidate) -> None:
    """Each score is within what bf16 may differ by, and yet all together are not."""
    scorer = Brightness()
    scorer.info = scorer.info.model_copy(update={"precision": "bf16"})
    value = run(config, lambda: [Candidate(label="brightness", scorer=scorer)]).result.model_dump(mode="json")
    assert verify(config.out, config.images, lambda _info: scorer).passed
    for row in value["prompts"]:
        row["images"][0]["scores"]["brightness"] += 0.09
    value["scorers"][0] |= figures([ScoredPrompt(**row) for row in value["prompts"]], "brightness")
    config.out.write_text(json.dumps(value))
    done = verify(config.out, config.images, lambda _info: scorer)
    assert [check.what for check in done.checks if check.passed is False] == ["scores by brightness"]


def test_images_that_change_places_are_no_longer_the_same(
    config: BenchmarkRun, brightness: Candidate, double: Candidate, tmp_path: Path
) -> None:
    run(config, lambda: [brightness])
    names = ["00001.png", "00000.png", "00002.png", "00003.png"]
    rows = [{"image": f"a/{name}", "category": "a", "number": n} for n, name in enumerate(names)]
    rows += [{"image": f"b c/{n:05d}.png", "category": "b c", "number": n} for n in range(3)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(OutputError, check=at(config.out, found="or have other prompts: a/00000.png, a/00001.png")):
        run(replace(config, manifest=tmp_path / "m.jsonl"), lambda: [double])
    made = replace(config, manifest=tmp_path / "m.jsonl", out=tmp_path / "x.json")
    run(made, lambda: [brightness])
    places = verify(made.out, config.images, lambda _info: brightness.scorer).checks[2]
    assert not places.passed
    assert places.detail.endswith(
        "not a/00000.png, a/00001.png; if the result was made with --manifest or --match, give them"
    )
    assert verify(made.out, config.images, lambda _info: brightness.scorer, manifest=made.manifest).passed
    value = json.loads(made.out.read_text())
    value["command"] = "hpskit benchmark run suite.jsonl --manifest 'my m.jsonl' --out x.json"
    made.out.write_text(json.dumps(value))
    lacking = verify(made.out, config.images, lambda _info: brightness.scorer)
    assert not lacking.passed
    assert lacking.verdict == "is what its images give; not checked: prompts, places"  # nothing was found false
    places = next(check for check in lacking.checks if check.what == "places")
    assert places.detail == "the result was made with --manifest my m.jsonl; give that file with --manifest"
