"""What leaderboards say, of scores whose truth is known, and what they refuse."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Cli
from error_fields import at
from hpskit.benchmark.leaderboard import Leaderboard, agreement_of, published_for, run, scorer_board
from hpskit.benchmark.result import Resampling, read_result, read_results
from hpskit.errors import InputError, OutputError
from hpskit.files import sha256_file
from hpskit.prompts.suites import STYLES
from leaderboard_results import two_styles, write_result

PROMPTS = two_styles(60)
QUICK = Resampling(resamples=500)
Floats = np.ndarray[Any, Any]


def hardness(seed: int = 0) -> Floats:
    """Some prompts score higher than others, whatever the model."""
    return np.random.default_rng(seed).normal(20, 2, len(PROMPTS))


def noise(seed: int) -> Floats:
    return np.random.default_rng(seed).normal(0, 0.5, len(PROMPTS))


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    """A good model, a copy of its images, one that is half a point worse, and one far behind."""
    good = hardness() + noise(1)
    scores = {"good": good, "copy": good, "blurred": good - 0.5 + noise(2) / 4, "poor": hardness() - 3 + noise(3)}
    return [write_result(tmp_path / name / "result.json", name, {"mini": own}, PROMPTS) for name, own in scores.items()]


def board_of(results: list[Path], tmp_path: Path, **options: Any) -> dict[str, Any]:
    return run(Leaderboard(results=tuple(results), out=tmp_path / "out", resampling=QUICK, **options))


def one_scorer(folder: Path, rows: Floats, prompts: list[tuple[str, str]]) -> list[Path]:
    """A result for each row of scores."""
    return [write_result(folder / f"{n}.json", f"m{n}", {"s": row}, prompts) for n, row in enumerate(rows)]


def pair(scope: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    return next(row for row in scope["differences"] if {row["first"], row["second"]} == {first, second})


def change(path: Path, changed: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_text())
    changed(value)
    path.write_text(json.dumps(value))


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


def test_figures_are_made_from_the_scores_whatever_the_file_says(results: list[Path], tmp_path: Path) -> None:
    honest = board_of(results, tmp_path)["scorers"]
    stated = read_result(results[0]).scorers[0]
    own = [next(row for row in scope["models"] if row["name"] == "good") for scope in honest[0]["scopes"]]
    assert (own[0]["value"], own[1]["mean"]) == (stated.average.value, stated.categories[0].mean)
    assert [row["prompts"] for row in own] == [120, 60, 60]

    def lie(value: dict[str, Any]) -> None:
        value["scorers"][0]["average"] |= {"value": 99.0, "low": 98.9, "high": 99.1, "prompts": 3200}
        value["scorers"][0]["categories"][1] |= {"value": 99.0, "mean": 99.0, "deviation": 0.001}

    change(results[2], lie)
    assert board_of(results, tmp_path)["scorers"] == honest


def test_the_deviation_is_that_of_groups_of_80(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(20, 2, 200)
    scores[100:180] = np.nan  # leaves photo the second of its groups
    (path,) = one_scorer(tmp_path, scores[None], two_styles(100))
    whole, anime, photo = board_of([path], tmp_path)["scorers"][0]["scopes"]
    assert anime["models"][0]["deviation"] == pytest.approx(abs(scores[:80].mean() - scores[80:100].mean()) / 2)
    assert photo["models"][0]["deviation"] is None  # one group has nothing to deviate from
    assert whole["differences"] == []  # one model is a leaderboard too
    assert whole["models"][0]["rank"] is None


# Models that lack images, scorers that lack results


def test_an_incomplete_model_changes_nothing_between_complete_ones(tmp_path: Path) -> None:
    """`part` has the half of the prompts on which B is ahead of A, while A is ahead on the whole."""
    rng = np.random.default_rng(0)
    prompts = [("", f"prompt {n}") for n in range(200)]
    easy = rng.normal(0, 1, 200)
    a, b, part = easy + rng.normal(0, 0.3, 200) + 0.15, easy + rng.normal(0, 0.3, 200), easy + 3
    part[np.argsort(a - b)[100:]] = np.nan
    paths = [
        write_result(tmp_path / f"{name}.json", name, {"mini": own}, prompts)
        for name, own in (("A", a), ("B", b), ("part", part))
    ]
    without, with_part = (board_of(some, tmp_path)["scorers"][0]["scopes"][0] for some in (paths[:2], paths))
    assert [row["name"] for row in with_part["models"]] == ["A", "B", "part"]
    assert with_part["models"][0]["rank"] == {"value": 1, "low": 1, "high": 1, "of": 2, "prompts": 200}
    for figure in ("rank", "strength", "win_rate"):
        assert [row[figure] for row in with_part["models"]] == [*(row[figure] for row in without["models"]), None]
    alone = board_of(paths[1:], tmp_path)
    assert [row["rank"] for row in alone["scorers"][0]["scopes"][0]["models"]] == [None, None]
    assert "By mini: no ranks, which are among models that have every prompt." in alone["notes"]
    ahead = pair(with_part, "part", "B")
    assert (ahead["first"], ahead["second"], ahead["prompts"]) == ("part", "B", 100)
    assert ahead["high"] < -2


def test_a_model_that_lacks_images_is_marked_and_compared_where_it_can_be(results: list[Path], tmp_path: Path) -> None:
    few, others = hardness(), hardness()
    few[1:] = np.nan
    others[:60] = np.nan
    write_result(results[0], "good", {"mini": few}, PROMPTS)
    write_result(results[3], "poor", {"mini": others}, PROMPTS)
    board = board_of(results, tmp_path)
    said = "poor is incomplete: 60 of 120 prompts have no image; its averages are over the others; where it lacks any"
    assert any(note.startswith(said) for note in board["notes"])
    assert "poor (incomplete: average over 60 of 120 prompts)" in (tmp_path / "out/leaderboard.md").read_text()
    scopes = board["scorers"][0]["scopes"]
    rows = {row["name"]: row for row in scopes[0]["models"]}
    assert [rows["good"][key] for key in ("rank", "value", "low")] == [None, few[0], None]
    assert {name for name, row in rows.items() if row["rank"]} == {"copy", "blurred"}  # poor has no anime at all
    assert pair(scopes[0], "poor", "copy")["prompts"] == 60
    assert not any("good" in (row["first"], row["second"]) for row in scopes[0]["differences"])
    anime = {row["name"]: row for row in scopes[1]["models"]}
    assert anime["poor"]["value"] is None
    assert anime["copy"]["rank"] == {"value": 1, "low": 1, "high": 1, "of": 2, "prompts": 60}
    photo = {row["name"]: row["rank"] for row in scopes[2]["models"]}  # of which poor has every prompt
    assert photo["poor"] == {"value": 1, "low": 1, "high": 2, "of": 3, "prompts": 60}
    assert [row["name"] for row in scopes[0]["models"]] == ["copy", "blurred", "good", "poor"]


def test_a_result_without_a_scorer_is_left_out_of_its_board_with_a_note(tmp_path: Path) -> None:
    good = hardness() + noise(1)
    first = write_result(tmp_path / "a.json", "a", {"mini": good, "other": -good}, PROMPTS)
    second = write_result(tmp_path / "b.json", "b", {"mini": good - 1}, PROMPTS)
    board = board_of([first, second], tmp_path)
    assert [scorer["models"] for scorer in board["scorers"]] == [["a", "b"], ["a"]]
    assert "Not on the board of other, which has not scored them: b." in board["notes"]
    assert [scorer["label"] for scorer in board_of([first, second], tmp_path, scorers=("mini",))["scorers"]] == ["mini"]


def test_what_is_known_of_a_scorer_is_said(results: list[Path], tmp_path: Path) -> None:
    silent = board_of(results, tmp_path)
    assert silent["scorers"][0]["reads_prompt"] is None
    change(results[3], lambda value: value["scorers"][0].update(reads_prompt=False))  # the others are older
    change(results[2], lambda value: value["scorers"][0]["info"].update(package="hpskit 7.1.0"))
    board = board_of(results, tmp_path)
    assert board["scorers"][0]["reads_prompt"] is False
    assert set(board["notes"]) - set(silent["notes"]) == {
        "mini does not read the prompt: it judges looks only, and a model that ignores its prompts loses nothing by it."
    } | {"Scores by mini were made by hpskit 0.0, hpskit 7.1.0."}
    table = (tmp_path / "out/leaderboard.md").read_text()
    assert "\n\nmini does not read the prompt: it judges looks only.\n\n" in table


# Few prompts, repeated prompts, several scorers


def test_ranks_do_not_contradict_the_p_values(tmp_path: Path) -> None:
    """Few prompts: with five no permutation test of two models can reach 5 %, and so no rank may be separate."""
    rng = np.random.default_rng(0)
    separate = 0
    for count in (2, 3, 5, 7, 9, 9):
        own = rng.normal(0, 0.4, (4, count)) + np.arange(4)[:, None]
        paths = one_scorer(tmp_path, own, [("", f"prompt {n}") for n in range(count)])
        (whole,) = scorer_board("s", read_results(paths), QUICK)["scopes"]
        ranks = {row["name"]: row["rank"] for row in whole["models"]}
        for row in whole["differences"]:
            apart = ranks[row["second"]]["high"] < ranks[row["first"]]["low"]
            assert not apart or row["holm_p"] <= 0.05
            separate += apart
        assert count > 5 or all((rank["low"], rank["high"]) == (1, 4) for rank in ranks.values())
    assert separate


def test_prompts_that_stand_four_times_are_one_each(tmp_path: Path) -> None:
    """Two models whose scores are noise, on 40 prompts; that this gives no false alarms is tested with `stats`."""
    rng = np.random.default_rng(0)
    own = np.repeat(rng.normal(size=(2, 40)), 4, axis=1) + rng.normal(0, 0.3, (2, 160))
    paths = one_scorer(tmp_path, own, [("", f"prompt {n // 4}") for n in range(160)])
    board = board_of(paths, tmp_path)
    whole = board["scorers"][0]["scopes"][0]
    assert whole["models"][0]["value"] == pytest.approx(max(one.scores("s").mean() for one in read_results(paths)))
    (row,) = whole["differences"]
    assert (row["prompts"], row["wins"] + row["ties"] + row["losses"]) == (40, 40)
    assert whole["models"][0]["win_rate"] == pytest.approx(row["win_rate"])
    said = "120 of 160 prompts repeat another; those of one text are one prompt"
    assert any(note.startswith(said) for note in board["notes"])


def test_agreement_of_scorers(tmp_path: Path) -> None:
    paths = []
    for n in range(4):
        scores = hardness(n) + n
        path = tmp_path / f"{n}.json"
        write_result(path, f"m{n}", {"one": scores, "double": 2 * scores, "against": -scores}, PROMPTS)
        paths.append(path)
    found = read_results(paths)
    rows = agreement_of(found, ["one", "double", "against"])
    assert [f"{row['first']} {row['second']}" for row in rows] == ["one double", "one against", "double against"]
    assert [row["of_means"] for row in rows] == pytest.approx([1, -1, -1])
    assert [row["of_differences"]["value"] for row in rows] == pytest.approx([1, -1, -1])
    assert agreement_of(found[:2], ["one", "double"])[0]["of_means"] is None


# What is refused


ELSE = [("anime", f"else {n}") for n in range(120)]


@pytest.mark.parametrize(
    ("second", "options", "where"),
    [
        ({"prompts": ELSE}, {}, at("good/result.json", found="are of 'ours' ")),
        ({"name": "good"}, {}, at("copy/result.json", found="are both of 'good'", cure="--name")),
        ({"digest": "b"}, {}, at("copy/result.json: scorer 'mini'", found="bbbb")),
        ({}, {"scorers": ("hps-v2.1",)}, at("scorer", found="'hps-v2.1'", expected="one of mini")),
        ({}, {"images": {"nobody": Path()}}, at("images", found="'nobody'", expected="one of good")),
        ({}, {"images": {"good": Path("nowhere")}}, at("images", found="nowhere")),
        ({}, {"published": True}, at("published", found="mini on 'ours'")),
    ],
)
def test_what_cannot_be_compared(
    second: dict[str, Any], options: dict[str, Any], where: Any, results: list[Path], tmp_path: Path
) -> None:
    write_result(results[1], **{"name": "copy", "scores": {"mini": hardness()}, "prompts": PROMPTS, **second})
    with pytest.raises(InputError, check=where):
        board_of(results, tmp_path, **options)
    assert not (tmp_path / "out").exists()


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


def test_files_for_papers(results: list[Path], tmp_path: Path) -> None:
    some = hardness() - 1
    some[:10] = np.nan
    short = write_result(tmp_path / "short/result.json", "=short", {"mini": some}, PROMPTS)
    board = board_of([*results, short], tmp_path, paper=("latex,csv",))
    text = (tmp_path / "out/leaderboard.tex").read_text()
    lines = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r" \\")]
    assert lines[0][1:3] == ["model", r"\multicolumn{2}{c}{average}"]
    rows = {cells[1]: cells for cells in lines[1:]}
    assert [name for name, cells in rows.items() if r"\textbf" in cells[2]] == ["copy", "good"], "both are the best"
    assert (rows["poor"][0], rows["=short{*}"][0]) == ("4", "")
    assert "{*}: lacks images." in text
    with (tmp_path / "out/leaderboard.csv").open(encoding="utf-8", newline="") as handle:
        table = list(csv.DictReader(handle))
    scopes = board["scorers"][0]["scopes"]
    assert [row["category"] for row in table] == [scope["category"] for scope in scopes for _ in range(5)]
    for row, own in zip(table[:5], scopes[0]["models"], strict=True):
        assert [float(row[key]) for key in ("mean", "mean_low")] == [own["value"], own["low"]]
        assert row["rank_high"] == ("" if own["name"] == "=short" else str(own["rank"]["high"]))
    assert {row["model"] for row in table if row["model"] not in rows} == {"'=short"}
    (tmp_path / "out/leaderboard.svg").write_text("mine")
    assert "leaderboard.csv" in board_of(results, tmp_path)["files"]
    with pytest.raises(OutputError, check=at(tmp_path / "out/leaderboard.svg", found="not made by this command")):
        board_of([tmp_path / "nowhere.json"], tmp_path, paper=("svg",))


def data_of(folder: Path) -> dict[str, Any]:
    text = (folder / "out/leaderboard.html").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
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
    a, b, c = data_of(tmp_path)["models"]
    assert a["link"] == {"root": "../a/images/", "ending": ".jpg"}
    assert a["small"]
    assert all(small.startswith("data:image/jpeg;base64,") for small in a["small"].values())
    assert all(int(row) >= 60 for row in b["small"])  # photo, which nobody touched
    assert any("of b and are not shown" in note for note in board["notes"])
    assert (c["link"], c["small"]) == (None, {})
    (tmp_path / "a/images/anime/00003.jpg").unlink()
    board_of(paths, tmp_path, images={"c": tmp_path / "c/moved"})
    a, _, c = data_of(tmp_path)["models"]
    assert [n for n, name in enumerate(a["link"]["names"]) if name is None] == [3]
    assert c["link"]["root"] == "../c/moved/"
    assert c["small"]


def test_only_images_in_folders_that_were_named_are_shown(tmp_path: Path) -> None:
    """A stranger's result may name private files, in its folder of images or by a link in it."""
    path = write_result(tmp_path / "theirs/result.json", "m", {"mini": hardness()}, PROMPTS, colour=80)
    linked = tmp_path / "theirs/images/photo/00000.jpg"
    linked.rename(tmp_path / "private.jpg")
    linked.symlink_to(tmp_path / "private.jpg")
    board = board_of([path], tmp_path)
    (model,) = data_of(tmp_path)["models"]
    assert model["small"]
    assert model["link"]["names"][60] is None
    assert board["notes"][0].startswith("Not shown: images of m that lie outside of the folder of the result. Name")
    (tmp_path / "theirs/images").rename(tmp_path / "private")
    for root in ("../private", str(tmp_path / "private"), "x" * 5000):
        change(path, lambda value, root=root: value.update(images_root=root))
        board_of([path], tmp_path)
        (model,) = data_of(tmp_path)["models"]
        assert (model["link"], model["small"]) == (None, {})
    change(path, lambda value: value.update(images_root="../private"))
    for options in ({"allow_outside": True}, {"images": {"m": tmp_path / "private"}}):
        board_of([path], tmp_path, **options)
        assert data_of(tmp_path)["models"][0]["small"]


def test_page_holds_the_scores_and_nothing_that_a_parser_could_take_for_its_own(tmp_path: Path) -> None:
    prompts = [("", "</script><script>alert(1)</script>"), ("", "<!-- a & b"), ("", "plain"), ("", "a\u2028b")]
    path = write_result(tmp_path / "r.json", "<b>|x|</b>", {"mini": [1.25, 2.5, np.nan, 4]}, prompts)
    board_of([path], tmp_path)
    page = (tmp_path / "out/leaderboard.html").read_text()
    data = data_of(tmp_path)
    assert data["prompts"] == [text for _, text in prompts]
    assert data["boards"][0]["scores"] == [[1.25, 2.5, None, 4]]
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert r"\<b\>\|x\|\</b\>" in (tmp_path / "out/leaderboard.md").read_text()


# Published tables


def test_published_tables_are_whole_and_belong_to_one_suite_and_scorer() -> None:
    suite = dict.fromkeys(STYLES, 800)
    tables = [published_for(scorer, "hpsv2", suite) for scorer in ("hps-v2.0", "hps-v2.1")]
    for rows in tables:
        assert len(rows) == 22
        assert [row["average"] for row in rows] == sorted((row["average"] for row in rows), reverse=True)
        for row in rows:
            mean = np.mean([*row["categories"].values()])
            assert row["average"] == pytest.approx(mean, abs=0.011), row["name"]  # rounded to 0.01
    assert {row["name"] for row in tables[0]} == {row["name"] for row in tables[1]}
    assert tables[1][0]["name"] == "SDXL Refiner 0.9"
    others = (
        ("mini", "hpsv2", suite),
        ("hps-v2.1", "drawbench", suite),
        ("hps-v2.1", "hpsv2", {**suite, "photo": 799}),
    )
    assert not any(published_for(*other) for other in others)


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


def test_the_command_prints_the_board_or_its_document(cli: Cli, results: list[Path], tmp_path: Path) -> None:
    command = ("benchmark", "leaderboard", *results, "--out", tmp_path / "out", "--resamples", 200, "--title", "Ours")
    assert json.loads(cli(*command, "--images", f"good={tmp_path}", "--json").stdout)["title"] == "Ours"
    assert "--images: is 'good', expected NAME=DIR" in cli(*command, "--images", "good").stderr
