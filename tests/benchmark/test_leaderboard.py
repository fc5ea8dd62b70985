"""What leaderboards say, of scores whose truth is known, and what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hpskit.benchmark.leaderboard import Leaderboard, run
from hpskit.benchmark.leaderboard_figures import agreement_of, scorer_board
from hpskit.benchmark.published import PUBLISHED, published_for
from hpskit.benchmark.result import read_result
from hpskit.benchmark.suites import STYLES
from hpskit.benchmark.together import Resampling
from hpskit.cli.leaderboard import leaderboard
from hpskit.errors import InputError, RecordError
from hpskit.files import sha256_file
from leaderboard_results import two_styles, write_result

PROMPTS = two_styles(60)
QUICK = Resampling(resamples=500)


def hardness(seed: int = 0) -> np.ndarray[Any, Any]:
    """Some prompts score higher than others, whatever the model."""
    return np.random.default_rng(seed).normal(20, 2, len(PROMPTS))


def noise(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(0, 0.5, len(PROMPTS))


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """A good model, a copy of its images, one that is half a point worse, and one far behind."""
    good = hardness() + noise(1)
    scores = {"good": good, "copy": good, "blurred": good - 0.5 + noise(2) / 4, "poor": hardness() - 3 + noise(3)}
    return [write_result(tmp_path / name / "result.json", name, {"mini": own}, PROMPTS) for name, own in scores.items()]


def board_of(results: list[Path], tmp_path: Path, **options: Any) -> dict[str, Any]:
    return run(Leaderboard(results=tuple(results), out=tmp_path / "out", resampling=QUICK, **options))


def pair(scope: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    return next(row for row in scope["differences"] if {row["first"], row["second"]} == {first, second})


def test_a_known_truth_is_recovered(results: list[Path], tmp_path: Path) -> None:
    board = board_of(results, tmp_path)["scorers"][0]
    assert board["models"] == ["copy", "good", "blurred", "poor"]
    for scope in board["scopes"]:
        ranks = {row["name"]: (row["rank"]["low"], row["rank"]["high"]) for row in scope["models"]}
        assert ranks == {"copy": (1, 2), "good": (1, 2), "blurred": (3, 3), "poor": (4, 4)}
        same = pair(scope, "good", "copy")
        assert (same["value"], same["low"], same["high"], same["win_rate"], same["holm_p"]) == (0, 0, 0, 0.5, 1)
        worse = pair(scope, "good", "blurred")
        assert (worse["first"], worse["second"]) == ("blurred", "good")
        assert worse["low"] < 0.5 < worse["high"]
        assert worse["holm_p"] < 0.05
    assert [scope["category"] for scope in board["scopes"]] == ["", "anime", "photo"]
    strengths = [row["strength"]["value"] for row in board["scopes"][0]["models"]]
    assert strengths == sorted(strengths, reverse=True)
    assert sum(strengths) == pytest.approx(0, abs=1e-6)


def test_figures_are_those_of_the_results(results: list[Path], tmp_path: Path) -> None:
    scopes = board_of(results, tmp_path)["scorers"][0]["scopes"]
    stated = read_result(results[0]).value["scorers"][0]
    own = [next(row for row in scope["models"] if row["name"] == "good") for scope in scopes]
    assert own[0]["value"] == stated["average"]["value"]
    assert own[1]["deviation"] == stated["categories"][0]["deviation"]
    assert [row["prompts"] for row in own] == [120, 60, 60]


@given(st.lists(st.lists(st.floats(-50, 50), min_size=6, max_size=6), min_size=2, max_size=4), st.integers(0, 5))
@settings(max_examples=15)
def test_largest_differences_are_the_largest(
    tmp_path_factory: pytest.TempPathFactory, scores: list[list[float]], gap: int
) -> None:
    folder = tmp_path_factory.mktemp("results")
    table = np.round(np.array(scores), 3)
    table[0, gap] = np.nan
    prompts = [("", f"prompt {n}") for n in range(6)]
    paths = [write_result(folder / f"{n}.json", f"m{n}", {"s": row}, prompts) for n, row in enumerate(table)]
    board = scorer_board("s", [read_result(path) for path in paths], Resampling(resamples=100))
    rows = {name: table[int(name[1:])] for name in board["models"]}
    for case in board["extremes"]["pairs"]:
        difference = rows[case["second"]] - rows[case["first"]]
        for key, sign in (("for_second", 1), ("for_first", -1)):
            listed = [found["number"] for found in case[key]]
            assert listed == sorted(listed, key=lambda n: (-sign * difference[n], n))
            assert set(listed) == {n for n in range(6) if sign * difference[n] > 0}
    for model in board["extremes"]["models"]:
        others = [own for name, own in rows.items() if name != model["name"]]
        for found in model["best"]:
            there = [own[found["number"]] for own in others if not math.isnan(own[found["number"]])]
            expected = rows[model["name"]][found["number"]] - np.mean(there)
            assert found["difference"] == pytest.approx(expected, abs=1e-9)


def test_an_incomplete_result_is_marked_and_compared_where_it_can_be(results: list[Path], tmp_path: Path) -> None:
    few = hardness() + 1
    few[:12] = np.nan
    write_result(results[0], "good", {"mini": few}, PROMPTS)
    board = board_of(results, tmp_path)
    assert board["notes"][0].startswith("good is incomplete: 12 of 120 prompts have no image")
    whole = board["scorers"][0]["scopes"][0]
    assert pair(whole, "good", "poor")["prompts"] == 108
    assert pair(whole, "copy", "poor")["prompts"] == 120
    assert "good (incomplete)" in (tmp_path / "out/leaderboard.md").read_text()


def test_a_model_with_few_images_is_not_ranked_and_spoils_no_other(results: list[Path], tmp_path: Path) -> None:
    few, others = hardness(), hardness()
    few[1:] = np.nan
    others[:60] = np.nan
    write_result(results[0], "good", {"mini": few}, PROMPTS)
    write_result(results[3], "poor", {"mini": others}, PROMPTS)
    scopes = board_of(results, tmp_path)["scorers"][0]["scopes"]
    rows = {row["name"]: row for row in scopes[0]["models"]}
    assert rows["good"]["rank"] is None
    assert rows["good"]["value"] == few[0]
    assert rows["good"]["low"] is None
    assert {name for name, row in rows.items() if row["rank"]} == {"copy", "blurred"}  # poor has no anime at all
    assert pair(scopes[0], "poor", "copy")["prompts"] == 60
    assert not any("good" in (row["first"], row["second"]) for row in scopes[0]["differences"])
    anime = {row["name"]: row for row in scopes[1]["models"]}
    assert anime["poor"]["value"] is None
    assert anime["copy"]["rank"] == {"value": 1, "low": 1, "high": 1}
    assert scopes[2]["models"][-1]["rank"] == {"value": 3, "low": 3, "high": 3}


def test_one_model_is_a_leaderboard_too(results: list[Path], tmp_path: Path) -> None:
    scope = board_of(results[:1], tmp_path)["scorers"][0]["scopes"][0]
    assert scope["differences"] == []
    assert scope["models"][0]["rank"] is None


def test_a_result_without_a_scorer_is_left_out_of_its_board_with_a_note(tmp_path: Path) -> None:
    good = hardness() + noise(1)
    first = write_result(tmp_path / "a.json", "a", {"mini": good, "other": -good}, PROMPTS)
    second = write_result(tmp_path / "b.json", "b", {"mini": good - 1}, PROMPTS)
    board = board_of([first, second], tmp_path)
    assert [scorer["models"] for scorer in board["scorers"]] == [["a", "b"], ["a"]]
    assert "Not on the board of other, which has not scored them: b." in board["notes"]
    assert [scorer["label"] for scorer in board_of([first, second], tmp_path, scorers=("mini",))["scorers"]] == ["mini"]


def test_agreement_of_scorers(tmp_path: Path) -> None:
    own = [hardness(n) + n for n in range(4)]
    paths = [
        write_result(tmp_path / f"{n}.json", f"m{n}", {"one": s, "double": 2 * s, "against": -s}, PROMPTS)
        for n, s in enumerate(own)
    ]
    found = agreement_of([read_result(path) for path in paths], ["one", "double", "against"])
    assert [(row["first"], row["second"]) for row in found] == [
        ("one", "double"),
        ("one", "against"),
        ("double", "against"),
    ]
    assert [row["of_means"] for row in found] == pytest.approx([1, -1, -1])
    assert [row["of_differences"]["value"] for row in found] == pytest.approx([1, -1, -1])
    assert agreement_of([read_result(path) for path in paths[:2]], ["one", "double"])[0]["of_means"] is None


# What is refused


def other_suite(paths: list[Path]) -> dict[str, Any]:
    write_result(paths[1], "copy", {"mini": hardness()}, [("anime", f"else {n}") for n in range(120)])
    return {}


def same_name(paths: list[Path]) -> dict[str, Any]:
    write_result(paths[1], "good", {"mini": hardness()}, PROMPTS)
    return {}


def other_weights(paths: list[Path]) -> dict[str, Any]:
    write_result(paths[1], "copy", {"mini": hardness()}, PROMPTS, digest="b")
    return {}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_suite, r"good.result\.json of 'ours' .* and .*copy.result\.json of .*the prompts differ"),
        (same_name, r"good.result\.json and .*copy.result\.json: both are of 'good'; .*--name"),
        (other_weights, r"good.result\.json and .*copy.result\.json: scorer 'mini' is .*aaaa.* and .*bbbb"),
        (lambda _: {"scorers": ("hps-v2.1",)}, "scorer: 'hps-v2.1' is in none of the results, expected one of mini"),
        (lambda _: {"images": {"nobody": Path()}}, "images: 'nobody' is none of the models, expected one of good"),
        (lambda _: {"images": {"good": Path("nowhere")}}, "images: nowhere is not a folder"),
        (lambda _: {"published": True}, "published: there is no table for mini on 'ours'"),
    ],
)
def test_what_cannot_be_compared(
    spoil: Callable[[list[Path]], dict[str, Any]], says: str, results: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        board_of(results, tmp_path, **spoil(results))
    assert not (tmp_path / "out").exists()


def test_no_results_and_too_few_resamples() -> None:
    with pytest.raises(InputError, match="there are 0, expected at least 1"):
        run(Leaderboard(results=(), out=Path("out")))
    with pytest.raises(InputError, match="resamples: is 10, expected 100"):
        Resampling(resamples=10)


def test_versions_of_hpskit_may_differ_and_are_named(results: list[Path], tmp_path: Path) -> None:
    value = json.loads(results[2].read_text())
    for scorer in value["scorers"]:
        scorer["info"]["package"] = "hpskit 7.1.0"
    results[2].write_text(json.dumps(value))
    board = run(Leaderboard(results=tuple(results), out=tmp_path / "out", resampling=Resampling(resamples=200)))
    assert any("were made by hpskit 0.0, hpskit 7.1.0" in note for note in board["notes"])


def test_a_mean_that_is_not_that_of_the_scores(results: list[Path], tmp_path: Path) -> None:
    value = json.loads(results[2].read_text())
    value["scorers"][0]["categories"][1]["value"] += 0.5
    results[2].write_text(json.dumps(value))
    with pytest.raises(RecordError, match=r"blurred.result\.json: figures of 'mini' are not those of its scores"):
        board_of(results, tmp_path)
    del value["scorers"][0]["average"]
    results[2].write_text(json.dumps(value))
    with pytest.raises(RecordError, match=r"blurred.result\.json: scorer 'mini' has no 'average'"):
        board_of(results, tmp_path)


# Files


def test_made_again_it_is_equal_to_the_byte(results: list[Path], tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    board = board_of(results, tmp_path)
    first = files()
    assert first.keys() == {"leaderboard.html", "leaderboard.md", "leaderboard.json"}
    assert board["files"] == {name: sha256_file(tmp_path / "out" / name) for name in board["files"]}
    assert json.loads(first["leaderboard.json"]) == board
    board_of(results, tmp_path)
    assert files() == first


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    start = text.index('id="data">') + len('id="data">')
    found: dict[str, Any] = json.loads(text[start : text.index("</script>", start)])
    return found


def test_pictures_are_those_that_were_scored(tmp_path: Path) -> None:
    paths = [
        write_result(tmp_path / name / "result.json", name, {"mini": hardness() + n}, PROMPTS, colour=80 * n)
        for n, name in enumerate("abc")
    ]
    for path in (tmp_path / "b/images/anime").iterdir():
        path.write_bytes(path.read_bytes() + b"changed")
    (tmp_path / "c/images").rename(tmp_path / "c/moved")
    board = board_of(paths, tmp_path)
    a, b, c = data_of(tmp_path / "out/leaderboard.html")["models"]
    assert a["link"] == {"root": "../a/images/", "ending": ".jpg"}
    assert all(small.startswith("data:image/jpeg;base64,") for small in a["small"].values())
    assert a["small"]
    assert all(int(row) >= 60 for row in b["small"])  # photo, which nobody touched
    assert any("of b and are not shown" in note or "not the file" in note for note in board["notes"])
    assert (c["link"], c["small"]) == (None, {})
    board_of(paths, tmp_path, images={"c": tmp_path / "c/moved"})
    c = data_of(tmp_path / "out/leaderboard.html")["models"][2]
    assert c["link"]["root"] == "../c/moved/"
    assert c["small"]
    (tmp_path / "a/images/anime/00003.jpg").unlink()
    board_of(paths, tmp_path)
    names = data_of(tmp_path / "out/leaderboard.html")["models"][0]["link"]["names"]
    assert [n for n, name in enumerate(names) if name is None] == [3]


def test_page_holds_the_scores_and_nothing_that_a_parser_could_take_for_its_own(tmp_path: Path) -> None:
    prompts = [("", "</script><script>alert(1)</script>"), ("", "<!-- a & b"), ("", "plain"), ("", "\u2028")]
    scores = [1.25, 2.5, np.nan, 4]
    path = write_result(tmp_path / "r.json", "<b>|x|</b>", {"mini": scores}, prompts)
    board_of([path], tmp_path)
    page = tmp_path / "out/leaderboard.html"
    data = data_of(page)
    assert data["prompts"] == [text for _, text in prompts]
    assert data["boards"][0]["scores"] == [[1.25, 2.5, None, 4]]
    assert "<script>alert" not in page.read_text()
    assert "<b>" not in page.read_text()
    table = (tmp_path / "out/leaderboard.md").read_text()
    assert r"\<b\>\|x\|\</b\>" in table


# Published tables


def test_published_tables_are_whole() -> None:
    for rows in PUBLISHED.values():
        assert len(rows) == 22
        assert [row.average for row in rows] == sorted((row.average for row in rows), reverse=True)
        for row in rows:
            assert row.average == pytest.approx(np.mean(row.categories), abs=0.011), row.name  # rounded to 0.01
    assert {row.name for row in PUBLISHED["hps-v2.0"]} == {row.name for row in PUBLISHED["hps-v2.1"]}


def test_published_tables_belong_to_one_suite_and_scorer() -> None:
    whole = dict.fromkeys(STYLES, 800)
    assert published_for("hps-v2.1", "hpsv2", whole)[0].name == "SDXL Refiner 0.9"
    assert not published_for("mini", "hpsv2", whole)
    assert not published_for("hps-v2.1", "drawbench", whole)
    assert not published_for("hps-v2.1", "hpsv2", {**whole, "photo": 799})


def test_published_rows_stand_beside_and_in_no_comparison(tmp_path: Path) -> None:
    prompts = [(style, f"{style} {n}") for style in STYLES for n in range(800)]
    rng = np.random.default_rng(0)
    paths = [
        write_result(tmp_path / f"{n}.json", f"m{n}", {"hps-v2.1": rng.normal(25, 1, 3200)}, prompts, suite="hpsv2")
        for n in range(2)
    ]
    options = {"results": tuple(paths), "out": tmp_path / "out", "resampling": Resampling(resamples=100)}
    assert run(Leaderboard(**options))["scorers"][0]["published"] == []
    with_table = run(Leaderboard(**options, published=True))["scorers"][0]
    assert len(with_table["published"]) == 22
    assert with_table["published"][0]["categories"]["anime"] == 33.26
    assert all(len(scope["models"]) == 2 and len(scope["differences"]) == 1 for scope in with_table["scopes"])
    assert "| published | SDXL Refiner 0.9 | 31.34 |" in (tmp_path / "out/leaderboard.md").read_text()


# The command


def test_the_command(results: list[Path], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(leaderboard)
    arguments = [*map(str, results), "--out", str(tmp_path / "out"), "--resamples", "200", "--title", "Ours"]
    done = CliRunner().invoke(app, [*arguments, "--images", f"good={tmp_path}"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "1-2" in done.stdout
    assert str(tmp_path / "out/leaderboard.html") in done.stdout
    machine = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(machine.stdout)["title"] == "Ours"
    with pytest.raises(InputError, match="expected NAME=DIR"):
        CliRunner().invoke(app, [*arguments, "--images", "good"], catch_exceptions=False)
