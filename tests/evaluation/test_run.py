"""An evaluation from data to published files: known answers, what is left out, and what is never repeated."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from error_fields import at
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError, OutputError, RecordError
from hpskit.evaluation.run import Evaluation, Summary, run
from hpskit.scoring.contract import Candidate
from small_inputs import RADII, Mixed, Sharpness, write_data


def evaluate(data: Path, out: Path, *scorers: Sharpness, **options: Any) -> Summary:
    candidates = [Candidate(label=scorer.name, scorer=scorer) for scorer in scorers or (Sharpness(),)]
    return run(Evaluation(data=data, out=out, **{"resamples": 200, **options}), lambda: candidates)


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory, photographs: list[Image.Image]) -> Path:
    """Five groups; read by many tests, changed by none."""
    return write_data(tmp_path_factory.mktemp("small"), photographs)


@pytest.fixture
def data(small_data: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(small_data.parent, tmp_path / "data")) / small_data.name


@pytest.fixture(scope="module")
def whole(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation of a scorer that is always right and of one that is always wrong."""
    out = tmp_path_factory.mktemp("whole") / "out"
    evaluate(small_data, out, Sharpness(), Sharpness("dull", -1))
    return out


def test_known_answers(whole: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    assert (result["data"]["groups"], result["data"]["prompts"], result["pairs"]) == (5, 5, 30)
    sharp, dull = result["scorers"]
    for rule in ("hpdv2", "imagereward", "ties-half", "pickapic", "top-1"):
        assert (sharp["accuracy"][rule]["value"], dull["accuracy"][rule]["value"]) == (1, 0)
    assert sharp["accuracy"]["hpdv2"] == {
        "value": 1, "low": 1, "high": 1, "averaging": "prompts", "groups": 5, "pairs": 30
    }  # fmt: skip
    assert (sharp["kendall_tau_b"]["value"], dull["spearman"]["value"]) == pytest.approx((1, -1))
    (difference,) = result["differences"]
    assert (difference["first"], difference["second"], difference["value"]) == ("sharp", "dull", 1)
    # three people: 1234, 1324, 2134. They differ on 1, 1 and 2 of 6 pairs; the mean of the others ties one pair for
    # the second and for the third of them, and contradicts each of these two on one pair.
    people = {row["key"]: row["value"] for row in result["people"]}
    assert people["annotator_vs_annotator"] == pytest.approx(14 / 18)
    assert people["leave_one_out"] == pytest.approx(16 / 18)
    parts = {breakdown["name"]: breakdown["parts"] for breakdown in result["breakdowns"]}
    assert [(part["label"], part["pairs"]) for part in parts["consensus"]] == [("60-70", 10), ("90-100", 20)]
    assert all(part["scorers"]["sharp"]["value"] == 1 for part in parts["consensus"])
    assert sum(part["pairs"] for part in parts["gap"]) == 5 * (3 * 6 - 2)  # comparisons; two that the others tie
    assert not {"category", "sources"} & set(parts)
    assert [len(result["disagreements"][name]) for name in ("sharp", "dull")] == [0, 5]


def test_everything_is_published_and_the_manifest_speaks_for_it(whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    files = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "scores.ledger"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((whole / name).read_bytes()).hexdigest() == digest
    rows = [json.loads(line) for line in (whole / "groups.jsonl").read_text().splitlines()]
    assert [row["accuracy"] for row in rows] == [{"sharp": 1.0, "dull": 0.0}] * 5
    assert rows[0]["people"] == [[1, 2, 3, 4]]  # the published order
    assert sorted(rows[0]["scores"]["sharp"], reverse=True) == rows[0]["scores"]["sharp"]
    assert (whole / "report.html").read_text().count("data:image/jpeg;base64,") == 10


def test_nothing_is_scored_twice(small_data: Path, tmp_path: Path) -> None:
    first = Sharpness()
    evaluate(small_data, tmp_path / "out", first)
    assert len(first.seen) == 20
    again, late = Sharpness(), Sharpness("late", 2)
    summary = evaluate(small_data, tmp_path / "out", again, late)
    assert (len(again.seen), len(late.seen), summary.resumed) == (0, 20, 20)
    page = tmp_path / "out/report.html"
    before = page.stat().st_mtime_ns
    third = evaluate(small_data, tmp_path / "out", Sharpness(), Sharpness("late", 2))
    assert third.result == summary.result
    assert page.stat().st_mtime_ns == before
    other = evaluate(small_data, tmp_path / "out", Sharpness(), Sharpness("late", 2), rule="ties-half")
    assert other.result["settings"]["rule"] == "ties-half"


def test_a_changed_product_is_made_again(small_data: Path, tmp_path: Path) -> None:
    result = evaluate(small_data, tmp_path / "out").result
    (tmp_path / "out/result.json").write_text("{}")
    assert evaluate(small_data, tmp_path / "out").result == result


def test_an_image_that_was_replaced_is_scored_again(data: Path, tmp_path: Path) -> None:
    before = evaluate(data, tmp_path / "out").result
    with Image.open(data.parent / "test/2-8.png") as worst:
        worst.rotate(180).save(data.parent / "test/2-0.png")
    scorer = Sharpness()
    after = evaluate(data, tmp_path / "out", scorer).result
    assert scorer.seen == ["a photograph, number 2"]
    assert after["scorers"][0]["accuracy"]["top-1"]["value"] == pytest.approx(0.8)
    assert before["scorers"][0]["accuracy"]["top-1"]["value"] == 1


def test_other_data_does_not_mix(data: Path, small_data: Path, tmp_path: Path) -> None:
    evaluate(small_data, tmp_path / "out")
    entries = json.loads(data.read_text())
    data.write_text(json.dumps(entries[1:]))
    with pytest.raises(OutputError, check=at(tmp_path / "out", found="other data", cure="choose another --out")):
        evaluate(data, tmp_path / "out")


def test_files_for_papers_change_nothing_of_this(data: Path, small_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(small_data, out, paper=("csv",))
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix != ".ledger"}
    for paper in (("csv",), ()):  # an earlier run made it, so it is made by every later one
        assert evaluate(small_data, out, paper=paper).resumed == 20
        assert {name: (out / name).stat().st_mtime_ns for name in times} == times, "nothing is judged anew"
    with (out / "report.csv").open(encoding="utf-8") as handle:
        published = [row["value"] for row in csv.DictReader(handle) if row["kind"] == "published"]
    assert published
    assert max(map(len, published)) <= len("0.651"), "percent with one decimal"
    (out / "report.md").write_text("mine")
    with pytest.raises(OutputError, check=at(out / "report.md", found="not made by this command")):
        run(Evaluation(data=small_data, out=out, paper=("md",)), lambda: pytest.fail("loaded"))
    (out / "report.md").unlink()
    data.write_text(json.dumps(json.loads(data.read_text())[1:]))
    for paper in (("csv",), ("md",)):
        with pytest.raises(OutputError, check=at(out, found="other data")):
            evaluate(data, out, paper=paper)
    assert evaluate(small_data, out, paper=("md",)).resumed == 20
    assert (out / "report.md").exists()


def test_a_missing_image_is_found_before_any_scoring(data: Path, tmp_path: Path) -> None:
    (data.parent / "test/3-4.png").unlink()
    (data.parent / "test/1-0.png").write_bytes(b"not an image")
    config = Evaluation(data=data, out=tmp_path / "out")
    both = r"2 of 5 groups .*entry 2 .*1-0.png.*; .*entry 4 .*3-4.png"
    with pytest.raises(InputError, match=both, check=at(data, cure="--on-error skip")):
        run(config, lambda: pytest.fail("scorers were loaded although images are missing"))
    assert not (tmp_path / "out").exists()


def test_only_images_of_the_data_sets_own_folder_are_shown(data: Path, tmp_path: Path) -> None:
    """Those from elsewhere are scored all the same."""
    private = tmp_path / "private.png"
    (data.parent / "test/0-0.png").rename(private)
    (data.parent / "test/0-0.png").symlink_to(private)
    dull = Sharpness("dull", -1)
    for out, allowed, pictures in ((tmp_path / "out", False, 9), (tmp_path / "out", True, 10)):
        assert evaluate(data, out, dull, allow_outside=allowed).result["data"]["groups"] == 5
        page = (out / "report.html").read_text()
        assert (page.count("data:image/jpeg;base64,"), page.count("not shown")) == (pictures, 10 - pictures)


@pytest.mark.parametrize("scale", [3e36, 1e-36, 0])
def test_scores_of_any_size_have_a_result_and_a_page_of_short_figures(
    scale: float, small_data: Path, tmp_path: Path
) -> None:
    result = evaluate(small_data, tmp_path, Sharpness("odd", -scale)).result
    assert result["scorers"][0]["accuracy"]["top-1"]["value"] == (0 if scale else 0.25)
    assert not re.search(r"\d{13}", re.sub(r'"data:[^"]*"|sha256:\w*', "", (tmp_path / "report.html").read_text()))


def test_skipped_groups_leave_every_scorer(data: Path, tmp_path: Path) -> None:
    (data.parent / "test/3-4.png").unlink()
    whole = (data.parent / "test/1-0.png").read_bytes()
    (data.parent / "test/1-0.png").write_bytes(whole[: len(whole) // 2])
    result = evaluate(data, tmp_path / "out", Sharpness(), Sharpness("dull", -1), on_error="skip").result
    assert result["data"]["groups"] == 3

    reasons = {group["place"].rpartition("entry ")[2][0]: group["reason"] for group in result["data"]["skipped"]}
    assert sorted(reasons) == ["2", "4"]
    assert "3-4.png" in reasons["4"]
    assert "cannot be decoded" in reasons["2"]
    for scorer in result["scorers"]:
        assert {row["groups"] for row in scorer["accuracy"].values()} == {3}
    assert "because an image could not be used: 2." in (tmp_path / "out/report.html").read_text()


def test_an_image_that_cannot_be_decoded_stops_and_is_mended(data: Path, tmp_path: Path) -> None:
    bad = data.parent / "test/4-8.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, check=at(f"{data}: entry 5", found="cannot be decoded", cure="skip")):
        evaluate(data, tmp_path / "out")
    bad.write_bytes(whole)
    scorer = Sharpness()
    summary = evaluate(data, tmp_path / "out", scorer)
    assert (summary.resumed, len(scorer.seen)) == (19, 1)


def test_groups_shown_twice_count_but_do_not_narrow_the_interval(data: Path, tmp_path: Path) -> None:
    """With every group twice, the bootstrap over prompts gives the very same interval."""
    once = evaluate(data, tmp_path / "once", Mixed()).result
    entries = json.loads(data.read_text())
    data.write_text(json.dumps(entries + entries))
    twice = evaluate(data, tmp_path / "twice", Mixed()).result
    assert [len(places) for places in twice["data"]["duplicates"]] == [2] * 5
    assert (twice["data"]["groups"], twice["data"]["prompts"]) == (10, 5)
    figures = [result["scorers"][0]["accuracy"]["hpdv2"] for result in (once, twice)]
    assert 0 < figures[0]["low"] < figures[0]["high"]
    for name in ("value", "low", "high"):
        assert figures[0][name] == pytest.approx(figures[1][name])


def rejudged(data: Path, *ranks: list[int]) -> None:
    """The same images, judged by others: all ranks tied in the published order, and these judgements."""
    entries = json.loads(data.read_text())
    for row in entries:
        row["rank"] = [1, 1, 1, 1]
        row["raw_annotations"] = [{"rank": own, "user_hash": f"person-{n}"} for n, own in enumerate(ranks)]
    data.write_text(json.dumps(entries))


def test_data_that_nobody_judged_are_refused_before_scorers_are_loaded(
    data: Path, tmp_path: Path, photographs: list[Image.Image]
) -> None:
    line = {"prompt": "a cat", "images": [str(data.parent / f"test/0-{radius}.png") for radius in RADII]}
    nobody = tmp_path / "rankings.jsonl"
    nobody.write_text(json.dumps({"group": "g", **line, "ranks": [1, None, None, None]}))
    rejudged(data)
    for path, rule, where in (
        (nobody, None, at("rankings.jsonl", found="in 1 groups nobody has compared two images")),
        (data, "imagereward", at("test.json", found="in 5 groups people tied what the rule 'imagereward'")),
        (data, "top-1", at("test.json", found="in 5 groups people tied what the rule 'top-1'")),
    ):
        config = Evaluation(data=path, out=tmp_path / "out", rule=rule)
        with pytest.raises(InputError, check=where):
            run(config, lambda: pytest.fail("scorers were loaded although there is nothing to compare"))
    assert not (tmp_path / "out").exists()


def test_intervals_over_prompts_and_people_stand_beside(small_data: Path, data: Path, tmp_path: Path) -> None:
    result = evaluate(small_data, tmp_path / "out", Mixed()).result
    both = result["scorers"][0]["two_way"]
    assert (both["rule"], both["groups"], both["resamples"]) == ("hpdv2", 5, 200)
    assert both["low"] < both["value"] < both["high"]
    assert "other judgements of each group" in (tmp_path / "out/report.html").read_text()
    # two of three persons see it one way in all groups, the third the other way
    rejudged(data, [1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1])
    named, unnamed = (
        evaluate(data, tmp_path / str(persons), persons=persons).result["scorers"][0]["two_way"]
        for persons in (True, False)
    )
    assert named["value"] == unnamed["value"] == 1
    assert named["low"] < unnamed["low"]
    assert "other persons" in (tmp_path / "True/report.html").read_text()


def test_single_judgements_have_no_interval_over_people(data: Path, tmp_path: Path) -> None:
    rejudged(data, [1, 2, 3, 4])
    result = evaluate(data, tmp_path / "out").result
    assert result["scorers"][0]["two_way"] is None
    assert "<em>Prompts and people</em>" not in (tmp_path / "out/report.html").read_text()


def test_the_tie_threshold_is_what_was_asked_for_and_is_said(small_data: Path, tmp_path: Path) -> None:
    """A scorer that is never sure: at 0.99 everything is a tie, and people tie nothing."""
    faint = Sharpness("faint", 0.01)
    plain = evaluate(small_data, tmp_path / "plain", faint, rule="pickapic").result["scorers"][0]
    assert plain["accuracy"]["pickapic"]["value"] == 1
    assert plain["pickapic"]["tie_threshold"] == 0
    assert plain["pickapic"]["cross_fitted"]["tie_thresholds"] == [0] * 5
    assert plain["pickapic"]["cross_fitted"]["value"] == 1
    assert "as none was asked for" in (tmp_path / "plain/report.html").read_text()
    result = evaluate(small_data, tmp_path / "tied", faint, rule="pickapic", tie_threshold=0.99).result
    (tied,) = result["scorers"]
    assert tied["accuracy"]["pickapic"]["value"] == 0.5
    assert tied["accuracy"]["ties-half"]["value"] == 1
    assert tied["pickapic"] == {"tie_threshold": 0.99, "cross_fitted": None}
    assert result["settings"]["tie_threshold"] == 0.99
    assert {part["scorers"]["faint"]["value"] for b in result["breakdowns"][1:] for part in b["parts"]} == {0.5}
    rows = [json.loads(line) for line in (tmp_path / "tied/groups.jsonl").read_text().splitlines()]
    assert [row["accuracy"]["faint"] for row in rows] == [0.5] * 5
    assert "differ by at most 0.99" in (tmp_path / "tied/report.html").read_text()


@pytest.mark.parametrize("factor", [None, 0.0])
def test_a_scorer_without_probabilities_has_no_threshold(factor: float, small_data: Path, tmp_path: Path) -> None:
    order = Sharpness("order", log_odds_per_point=factor)
    with pytest.raises(InputError, check=at("tie_threshold", found="'order' gives no probabilities")):
        evaluate(small_data, tmp_path / "out", order, tie_threshold=0.3)
    assert order.seen == []
    result = evaluate(small_data, tmp_path / "out", order, rule="pickapic", tie_threshold=0).result
    assert result["scorers"][0]["accuracy"]["pickapic"]["value"] == 1
    assert result["scorers"][0]["pickapic"]["cross_fitted"] is None


def test_one_name_for_two_images_is_two_images(tmp_path: Path, photographs: list[Image.Image]) -> None:
    """A data set that carries its images may give one name to different ones; a score goes by the bytes."""
    folder = write_data(tmp_path / "data", photographs, groups=2).parent / "test"
    with ParquetWriter(tmp_path / "own.parquet") as writer:
        for number in (0, 1):
            images = {name: (folder / f"{number}-{radius}.png").read_bytes() for name, radius in (("a", 0), ("b", 8))}
            writer.write(
                Group(
                    place="",
                    prompt="the same prompt",
                    images=("a", "b"),
                    judgements=(Judgement(ranks=(1, 2)),),
                    embedded=images,
                )
            )
    scorer = Sharpness()
    evaluate(tmp_path / "own.parquet", tmp_path / "out", scorer)
    assert len(scorer.seen) == 4
    rows = [json.loads(line) for line in (tmp_path / "out/groups.jsonl").read_text().splitlines()]
    assert rows[0]["scores"] != rows[1]["scores"]
