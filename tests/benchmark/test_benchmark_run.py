"""A run, from images to `result.json`: the figures, what is refused, what survives a kill, and its verification."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from error_fields import at
from forked_process import ForkedProcess
from hpskit.benchmark.result import ScoredImage, ScoredPrompt, figures, mean_scores, read_result
from hpskit.benchmark.run import BenchmarkRun, run
from hpskit.benchmark.verify import verify
from hpskit.errors import InputError, ModelError, OutputError
from hpskit.files import AppendLog
from hpskit.scoring.contract import Candidate
from suite_material import Brightness, grey


@pytest.fixture
def config(suite_file: Path, renders: Path, tmp_path: Path) -> BenchmarkRun:
    return BenchmarkRun(suite=suite_file, images=renders, name="model", out=tmp_path / "out/result.json")


def test_scores_figures_and_identity(config: BenchmarkRun, brightness: Candidate) -> None:
    summary = run(replace(config, meta={"steps": 50}), lambda: [brightness])
    result = read_result(config.out)
    assert result.to_json() == summary.result.to_json()
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
    assert result.image_path(0) == config.images / "a/00000.png"
    assert result.images_root == "../renders"
    assert not config.partial.exists()
    assert summary.resumed == 0


def scored(score: float) -> ScoredImage:
    return ScoredImage(image="x.png", sha256="0" * 64, scores={"x": score})


def test_groups_keep_their_places_when_images_are_missing() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=200)
    rows = [
        ScoredPrompt(
            category="a",
            number=number,
            prompt=str(number),
            images=(scored(score),) if number not in (0, 1, 2, 80) else (),
        )
        for number, score in enumerate(scores)
    ]
    found = figures(rows, "x", resamples=200)["categories"][0]
    means = [scores[3:80].mean(), scores[81:160].mean(), scores[160:].mean()]
    assert found["mean"] == pytest.approx(np.mean(means))
    assert found["deviation"] == pytest.approx(np.std(means))
    assert found["value"] == pytest.approx(np.delete(scores, [0, 1, 2, 80]).mean())
    assert found["prompts"] == 196


def test_the_score_of_a_prompt_is_the_mean_of_its_images() -> None:
    assert mean_scores([(scored(1.0), scored(4.0)), ()], "x").tolist() == pytest.approx([2.5, np.nan], nan_ok=True)


def test_a_missing_image_is_an_error_or_marks_the_result(config: BenchmarkRun, brightness: Candidate) -> None:
    (config.images / "a/00002.png").unlink()
    with pytest.raises(InputError, match=r"1 missing: a/00002\. .*--allow-missing"):
        run(config, lambda: [brightness])
    assert not config.out.exists()
    result = run(replace(config, allow_missing=True), lambda: [brightness]).result
    assert not result.complete
    assert np.isnan(result.scores("brightness")).tolist() == [False] * 5 + [True, False]
    grey(config.images / "a/00002.png", 12)
    again = run(config, lambda: [brightness])
    assert again.result.complete
    assert again.resumed == 6


def test_broken_images_are_all_listed_and_the_others_kept(config: BenchmarkRun, brightness: Candidate) -> None:
    for name in ("a/00001.png", "b c/00002.png"):
        data = (config.images / name).read_bytes()
        (config.images / name).write_bytes(data[:-26])
    with pytest.raises(InputError, match=r"2 of 7 images cannot be scored: .*b c/00002\.png.*a/00001\.png"):
        run(config, lambda: [brightness])
    grey(config.images / "a/00001.png", 11)
    grey(config.images / "b c/00002.png", 22)
    assert run(config, lambda: [brightness]).resumed == 5
    (config.images / "a/00001.png").write_bytes(b"")
    (config.images / "b c/00000.png").write_text("no image")
    (config.images / "b c/00002.png").unlink()
    with pytest.raises(
        InputError, match=r"2 that cannot be read: .*00001\.png: is empty.*00000\.png.*1 missing: b c/00002"
    ):
        run(replace(config, out=config.out.with_name("x.json")), lambda: [brightness])


def test_one_image_for_several_prompts_is_an_error_or_told(config: BenchmarkRun, brightness: Candidate) -> None:
    shutil.copy(config.images / "a/00001.png", config.images / "a/00003.png")
    with pytest.raises(InputError, match=r"2 images are duplicates .*: a/00001\.png, a/00003\.png.*--allow-identical"):
        run(config, lambda: [brightness])
    summary = run(replace(config, allow_identical=True), lambda: [brightness])
    assert summary.identical == (("a/00001.png", "a/00003.png"),)


def test_a_scorer_is_added_and_the_first_scores_no_more(config: BenchmarkRun, brightness: Candidate) -> None:
    run(config, lambda: [brightness])
    other = Candidate(label="double", scorer=Brightness(2.0))
    summary = run(config, lambda: [other])
    assert summary.result.labels == ("brightness", "double")
    assert summary.result.scores("brightness").tolist() == [13.0, 25.0, 26.0, 27.0, 14.0, 15.0, 16.0]
    assert summary.result.scores("double")[0] == 23.0
    again = Candidate(label="brightness", scorer=Brightness())
    assert run(config, lambda: [again, other]).resumed == 14
    assert isinstance(again.scorer, Brightness)
    assert again.scorer.calls == 0


def test_a_result_of_something_else_is_left_alone(config: BenchmarkRun, brightness: Candidate, tmp_path: Path) -> None:
    run(config, lambda: [brightness])
    before = config.out.read_bytes()
    impostor = Candidate(label="brightness", scorer=Brightness(2.0))
    (tmp_path / "other.jsonl").write_text((config.suite).read_text().replace("a 0", "a zero"))
    with pytest.raises(OutputError, match="result of model 'model', this run is of 'other'"):
        run(replace(config, name="other"), lambda: [brightness])
    with pytest.raises(OutputError, match="the first that differs was 'a 0' and is 'a zero'"):
        run(replace(config, suite=tmp_path / "other.jsonl"), lambda: [brightness])
    with pytest.raises(OutputError, match="its scores by 'brightness' are of 'brightness 1 "):
        run(config, lambda: [impostor])
    assert run(replace(config, replace=True), lambda: [impostor]).result.scores("brightness")[0] == 23.0
    before = config.out.read_bytes()
    (tmp_path / "renamed.jsonl").write_bytes(Path(config.suite).read_bytes())
    assert run(replace(config, suite=tmp_path / "renamed.jsonl"), lambda: [impostor]).result.suite.name == "suite"
    grey(config.images / "a/00001.png", 99)
    with pytest.raises(OutputError, match=r"images have changed since it was made, .*: a/00001\.png"):
        run(config, lambda: [brightness])
    assert config.out.read_bytes() == before
    config.out.write_text("{}")
    with pytest.raises(OutputError, match="is no result of this command"):
        run(config, lambda: [brightness])


def test_scorers_must_differ_and_give_numbers(config: BenchmarkRun, brightness: Candidate) -> None:
    with pytest.raises(InputError, match="'brightness' is named twice"):
        run(config, lambda: [brightness, brightness])
    with pytest.raises(InputError, match="two are 'brightness 1 "):
        run(config, lambda: [brightness, replace(brightness, label="again")])
    with pytest.raises(ModelError, match=r"the score of a/00000\.png for 'a 0' is nan"):
        run(config, lambda: [Candidate(label="nan", scorer=Brightness(float("nan")))])


_KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from suite_material import Brightness
from hpskit.benchmark.run import BenchmarkRun, run
from hpskit.scoring.contract import Candidate
class Slow(Brightness):
    def score(self, images, prompts):
        time.sleep(0.02)
        return super().score(images, prompts)
config = BenchmarkRun(suite={suite!r}, images=Path({images!r}), name="model", out=Path({out!r}))
print(run(config, lambda: [Candidate(label="brightness", scorer=Slow())]).resumed)
"""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    count = 80
    (tmp_path / "suite.json").write_text(json.dumps([f"p{number}" for number in range(count)]))
    for number in range(count):
        grey(tmp_path / f"images/{number:05d}.png", number)
    out = tmp_path / "result.json"
    code = _KILLED.format(
        tests=str(Path(__file__).parents[1]),
        suite=str(tmp_path / "suite.json"),
        images=str(tmp_path / "images"),
        out=str(out),
    )
    partial = tmp_path / "result.json.partial"
    process = ForkedProcess(code)
    while process.poll() is None and (not partial.exists() or partial.read_bytes().count(b"\n") < 10):
        time.sleep(0.01)
    process.kill()
    process.finish()
    assert not out.exists()
    with partial.open("ab") as handle:  # what a torn write leaves
        handle.write(b'{"scorer": "bri')
    kept = partial.read_bytes().count(b"\n") - 1
    assert 0 < kept < count
    assert int(ForkedProcess(code).finish().stdout) == kept
    assert read_result(out).scores("brightness").tolist() == [number + len(f"p{number}") for number in range(count)]


def test_unfinished_work_on_another_suite_is_not_mixed_in(config: BenchmarkRun, brightness: Candidate) -> None:
    with AppendLog(config.partial) as log:
        log.append({"format": "hpskit benchmark scores 1", "suite_sha256": "0" * 64})
    with pytest.raises(OutputError, match="is unfinished work on another suite"):
        run(config, lambda: [brightness])


def test_settings_are_checked(config: BenchmarkRun) -> None:
    for changes, said in (
        ({"out": Path("r.txt")}, "expected '.json'"),
        ({"name": " "}, "name: is ' '"),
        ({"meta": {"x": float("nan")}}, "meta: cannot be written as JSON"),
    ):
        with pytest.raises(InputError, match=said):
            replace(config, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "place", "found"),
    [
        (lambda v: v.update(format="x"), "format", "is 'x'"),
        (lambda v: v.update(name=3), "name", "is 3"),
        (lambda v: v.update(name="x\x1b[2J"), "name", "is 'x\\x1b[2J'"),
        (lambda v: v["prompts"][0].update(prompt="other"), "suite.sha256", "is '"),
        (lambda v: v["prompts"][1].update(images=[]), "complete", "is True"),
        (
            lambda v: v["prompts"][1]["images"][0]["scores"].clear(),
            "prompts[1].images[0].scores.brightness",
            "is None",
        ),
        (
            lambda v: v["prompts"][1]["images"][0]["scores"].update(brightness=10**400),
            "prompts[1].images[0].scores.brightness",
            "is 1000",
        ),
        (
            lambda v: v["prompts"][1]["images"][0].update(image="../x.png"),
            "prompts[1].images[0].image",
            "is '../x.png'",
        ),
        (lambda v: v["prompts"][1].update(number=5), "prompts[1].number", "is 5"),
        (lambda v: v["scorers"][0]["info"].pop("precision"), "scorers[0].info.precision", "is missing"),
        (lambda v: v["scorers"][0].update(average="x"), "scorers[0].average", "is 'x'"),
        (lambda v: v["scorers"].append(v["scorers"][0]), "scorers", "are ['brightness', 'brightness']"),
        (lambda v: v["suite"].update(prompts=3200), "suite.prompts", "is 3200"),
        (lambda v: v["suite"].pop("name"), "suite.name", "is missing"),
    ],
)
def test_a_file_that_is_no_result_is_refused(
    change: Callable[[dict[str, Any]], object], place: str, found: str, config: BenchmarkRun, brightness: Candidate
) -> None:
    value = run(config, lambda: [brightness]).result.to_json()
    change(value)
    config.out.write_text(json.dumps(value))
    with pytest.raises(InputError, check=at(f"{config.out}: {place}", found=found)):
        read_result(config.out)


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
    details = {check.what: check.detail for check in done.checks}
    assert details["figures"] == "means, deviations and intervals follow from the scores"
    assert details["places"] == "7 of 7 prompts have the images of their place"
    assert details["images"] == "7 of 7 are the same to the byte"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda v: v["prompts"][0]["images"][0]["scores"].update(brightness=13.5), "scores by brightness"),
        (lambda v: v["prompts"][0]["images"][0].update(sha256="0" * 64), "images"),
        (lambda v: v["prompts"][0]["images"][0].update(image="a/99999.png"), "images"),
        (lambda v: v["prompts"][0].update(images=v["prompts"][4]["images"]), "places"),
        (lambda v: v["scorers"][0].update(log_odds_per_point=5.0), "scores by brightness"),
        (lambda v: v["scorers"][0]["average"].update(value=99.0), "figures"),
        (lambda v: v["scorers"][0]["categories"][1].update(low=0.0), "figures"),
        (lambda v: v["suite"].update(name="hpsv2"), "prompts"),
    ],
)
def test_verify_finds_what_is_not(change: object, what: str, config: BenchmarkRun, brightness: Candidate) -> None:
    value = json.loads(json.dumps(run(config, lambda: [brightness]).result.to_json()))
    assert callable(change)
    change(value)
    config.out.write_text(json.dumps(value))
    done = verify(config.out, config.images, lambda _info: brightness.scorer)
    assert not done.passed
    assert done.verdict == "is not what its images give"
    assert what in [check.what for check in done.checks if check.passed is False]


def test_verify_says_where_it_is_wrong(config: BenchmarkRun, brightness: Candidate) -> None:
    value = json.loads(json.dumps(run(config, lambda: [brightness]).result.to_json()))
    value["scorers"][0]["average"]["value"] = 99.0
    value["prompts"][0]["images"] = value["prompts"][4]["images"]
    config.out.write_text(json.dumps(value))
    done = verify(config.out, config.images, lambda _info: brightness.scorer)
    details = {check.what: check.detail for check in done.checks}
    assert details["figures"].startswith("brightness ")
    assert "average" in details["figures"]
    expected = "6 of 7 prompts have the images of their place; not a/00000.png; if the result was made with a manifest"
    assert details["places"].startswith(expected)


@pytest.mark.parametrize(("gone", "named"), [(5, 5), (6, 5)])
def test_verify_names_some_of_what_is_missing(
    gone: int, named: int, config: BenchmarkRun, brightness: Candidate
) -> None:
    value = run(config, lambda: [brightness]).result.to_json()
    names = [row["images"][0]["image"] for row in value["prompts"]][:gone]
    for name in names:
        (config.images / name).unlink()
    done = verify(config.out, config.images, lambda _info: brightness.scorer)
    (detail,) = (check.detail for check in done.checks if check.what == "images")
    listed = ", ".join(names[:named]) + (" …" if gone > named else "")
    assert detail == f"{7 - gone} of 7 are the same to the byte; {gone} missing: {listed}"


def test_verify_of_a_result_that_was_allowed_to_miss_images(config: BenchmarkRun, brightness: Candidate) -> None:
    (config.images / "a/00002.png").unlink()
    run(replace(config, allow_missing=True), lambda: [brightness])
    assert verify(config.out, config.images, lambda _info: brightness.scorer).passed


def test_the_tolerance_may_be_given(config: BenchmarkRun, brightness: Candidate) -> None:
    run(config, lambda: [brightness])
    shifted = Brightness(1.001)
    shifted.info = brightness.scorer.info
    for tolerance, passed in ((None, False), (0.5, True), (0.01, False)):
        done = verify(config.out, config.images, lambda _info: shifted, tolerance=tolerance)
        assert done.passed is passed, tolerance


def test_verify_claims_no_more_than_it_saw(config: BenchmarkRun, brightness: Candidate, tmp_path: Path) -> None:
    run(config, lambda: [brightness])
    other = Brightness()
    other.info = other.info.model_copy(update={"weight_hash": "sha256:" + "1" * 64})
    done = verify(config.out, config.images, lambda _info: other)
    assert not done.passed
    assert done.verdict == "is what its images give; not checked: prompts, scores by brightness"
    newer = Brightness()
    newer.info = newer.info.model_copy(update={"package": "tests 1, hpskit 9.9"})
    done = verify(config.out, config.images, lambda _info: newer, suite=config.suite)
    assert done.passed
    (tmp_path / "other.json").write_text('["x"]')
    assert not verify(config.out, config.images, lambda _info: brightness.scorer, suite=tmp_path / "other.json").passed


def test_a_constant_shift_is_found_in_low_precision(config: BenchmarkRun, brightness: Candidate) -> None:
    """Each score is within what bf16 may differ by, and yet all together are not."""
    scorer = Brightness()
    scorer.info = scorer.info.model_copy(update={"precision": "bf16"})
    value = json.loads(json.dumps(run(config, lambda: [Candidate(label="brightness", scorer=scorer)]).result.to_json()))
    assert verify(config.out, config.images, lambda _info: scorer).passed
    for row in value["prompts"]:
        row["images"][0]["scores"]["brightness"] += 0.09
    value["scorers"][0] |= figures([ScoredPrompt(**row) for row in value["prompts"]], "brightness")
    config.out.write_text(json.dumps(value))
    done = verify(config.out, config.images, lambda _info: scorer)
    assert [check.what for check in done.checks if check.passed is False] == ["scores by brightness"]


def test_no_field_that_is_gone_or_odd_gives_a_traceback(config: BenchmarkRun, brightness: Candidate) -> None:
    value = run(config, lambda: [brightness]).result.to_json()

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


def test_two_runs_at_once(config: BenchmarkRun, brightness: Candidate) -> None:
    """The second is refused while the first scores, and adds to its result afterwards."""
    other = Candidate(label="double", scorer=Brightness(2.0))

    def load() -> list[Candidate]:
        with pytest.raises(OutputError, match="another process is writing"):
            run(config, lambda: [other])
        return [brightness]

    run(config, load)
    assert run(config, lambda: [other]).result.labels == ("brightness", "double")
    assert not config.partial.exists()


def test_what_was_said_stays_when_a_scorer_is_added(config: BenchmarkRun, brightness: Candidate) -> None:
    run(replace(config, meta={"steps": 50}, command="first"), lambda: [brightness])
    added = run(replace(config, command="second"), lambda: [Candidate(label="double", scorer=Brightness(2.0))]).result
    assert added.meta == {"steps": 50}
    assert [scorer.command for scorer in added.scorers] == ["first", "second"]


def test_images_that_change_places_are_no_longer_the_same(
    config: BenchmarkRun, brightness: Candidate, tmp_path: Path
) -> None:
    run(config, lambda: [brightness])
    names = ["00001.png", "00000.png", "00002.png", "00003.png"]
    rows = [{"image": f"a/{name}", "category": "a", "number": n} for n, name in enumerate(names)]
    rows += [{"image": f"b c/{n:05d}.png", "category": "b c", "number": n} for n in range(3)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = Candidate(label="double", scorer=Brightness(2.0))
    with pytest.raises(OutputError, match=r"or have other prompts: a/00000\.png, a/00001\.png"):
        run(replace(config, manifest=tmp_path / "m.jsonl"), lambda: [other])
    made = replace(config, manifest=tmp_path / "m.jsonl", out=tmp_path / "x.json")
    run(made, lambda: [brightness])
    assert not verify(made.out, config.images, lambda _info: brightness.scorer).passed
    assert verify(made.out, config.images, lambda _info: brightness.scorer, manifest=made.manifest).passed


@pytest.mark.skipif(os.name == "nt", reason="needs limits of the size of files")
def test_a_full_disk_loses_nothing(config: BenchmarkRun, brightness: Candidate) -> None:
    import resource

    run(config, lambda: [brightness])
    before = config.out.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
    try:
        with pytest.raises(OutputError, match="make room"):
            run(config, lambda: [Candidate(label="double", scorer=Brightness(2.0))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert config.out.read_bytes() == before
    assert run(config, lambda: [Candidate(label="double", scorer=Brightness(2.0))]).resumed == 7


def test_leading_zeros_make_no_other_place(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('["x", "y"]')
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "00001.png")
    Image.new("RGB", (4, 4), "red").save(tmp_path / "1.png")
    config = BenchmarkRun(suite=tmp_path / "s.json", images=tmp_path, name="m", out=tmp_path / "r.json")
    with pytest.raises(InputError, match=r"1\.png beside 00001\.png|00001\.png beside 1\.png"):
        run(config, list)
