"""The people alone: known answers, and what is said where the data cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from error_fields import at
from hpskit.errors import InputError, OutputError
from hpskit.evaluation.agreement import Agreement, run
from small_inputs import entry

RANKS = ([1, 2, 3, 4], [1, 3, 2, 4], [2, 1, 3, 4])


def write(folder: Path, *groups: tuple[list[int], ...]) -> Path:
    """Images are named, but not there: nobody looks at them."""
    entries = [
        entry(f"prompt {number}", [f"{number}-{n}.png" for n in range(len(ranks[0]))], *ranks)
        for number, ranks in enumerate(groups)
    ]
    folder.mkdir(exist_ok=True)
    path = folder / "test.json"
    path.write_text(json.dumps(entries))
    return path


def test_known_answers_and_the_page(tmp_path: Path) -> None:
    data = write(tmp_path, *[RANKS] * 6)
    result = run(Agreement(data=data, out=tmp_path / "out", resamples=200))
    values = {rule: {row["key"]: row["value"] for row in rows} for rule, rows in result["rules"].items()}
    assert values["hpdv2"]["annotator_vs_annotator"] == pytest.approx(14 / 18)
    assert values["hpdv2"]["leave_one_out"] == pytest.approx(16 / 18)
    assert values["ties-half"]["leave_one_out"] == pytest.approx(15 / 18)
    assert values["hpdv2"]["inclusive"] == pytest.approx(16 / 18)
    assert sum(part["comparisons"] for part in result["gap"]) == 6 * (3 * 6 - 2)
    assert result["growth"]["points"][0]["annotators"] == 1
    assert json.loads((tmp_path / "out/result.json").read_text()) == result
    page = (tmp_path / "out/report.html").read_text()
    assert "77.8" in page
    assert "88.9" in page
    assert "http" not in page


def test_the_rule_is_that_of_the_data_sets_paper(tmp_path: Path) -> None:
    """Raters who answer at random with many ties agree on little more than half, not on what `hpdv2` makes of ties."""
    rng = np.random.default_rng(0)
    votes = [
        {"group": n, "prompt": f"p{n}", "images": ["a", "b", "c"], "ranks": rank.tolist()}
        for n in range(20)
        for rank in rng.integers(1, 3, size=(3, 3))
    ]
    likert = tmp_path / "likert.jsonl"
    likert.write_text("".join(json.dumps(line) + "\n" for line in votes))
    for data, asked, rule, most in (
        (likert, None, "ties-half", 0.7),
        (likert, "hpdv2", "hpdv2", 1),
        (write(tmp_path, *[RANKS] * 2), None, "hpdv2", 1),
    ):
        result = run(Agreement(data=data, rule=asked, resamples=100))
        assert result["settings"]["rule"] == rule
        assert result["rules"][rule][0]["value"] < most
    assert Agreement(data=likert).settings("pickapic").rule == "ties-half"  # people give no probabilities


def test_persons_must_have_names_that_differ(tmp_path: Path) -> None:
    data = write(tmp_path, *[RANKS] * 2)
    entries = json.loads(data.read_text())
    entries[1]["raw_annotations"][2]["user_hash"] = "person-0"
    data.write_text(json.dumps(entries))
    found = "['person-0', 'person-1', 'person-0']"
    with pytest.raises(InputError, check=at("entry 2", found=found, cure="--persons")):
        run(Agreement(data=data, persons=True, resamples=100))


def test_people_who_agree_agree(tmp_path: Path) -> None:
    result = run(Agreement(data=write(tmp_path, *[([2, 4, 1, 3, 5],) * 4] * 3), resamples=100))
    assert {row["value"] for rows in result["rules"].values() for row in rows} == {1}
    assert (result["krippendorff_alpha"], result["split_half"]["reliability"]) == pytest.approx((1, 1))


def test_single_judgements_have_no_agreement(tmp_path: Path) -> None:
    data = write(tmp_path, ([1, 2, 3],), ([2, 1, 3],))
    with pytest.raises(InputError, check=at("test.json", found="no group with two judgements", cure="give a split")):
        run(Agreement(data=data))


TIED = [([1, 1, 1], [1, 1, 1])] * 3
ALL = {"growth", "krippendorff_alpha", "split_half", "gap"}


@pytest.mark.parametrize(
    ("groups", "missing", "said"),
    [
        ([RANKS[:2]] * 3, {"growth"}, "votes have 2 judgements of a group, expected three or more"),
        ([([1, 2, 3], [3, 2, 1])] * 4, {"growth"}, "the halves contradict one another"),
        (TIED, ALL, "Not measured: split-half reliability, because"),
    ],
)
def test_what_the_data_cannot_tell_is_said(
    groups: list[tuple[list[int], ...]], missing: set[str], said: str, tmp_path: Path
) -> None:
    result = run(Agreement(data=write(tmp_path, *groups), out=tmp_path / "out", resamples=100))
    assert {name for name in ALL if result[name] is None} == missing
    assert json.loads(json.dumps(result, allow_nan=False))["rules"]["hpdv2"][0]["value"] is not None
    assert said in (tmp_path / "out/report.html").read_text()


def test_a_rule_that_skips_ties_has_nothing_to_say_of_ties_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at("test.json", found="tied as the rule 'imagereward'", cure="--rule")):
        run(Agreement(data=write(tmp_path, *TIED), rule="imagereward", resamples=100))
    with pytest.raises(InputError, check=at("rule", found="'top-1'", expected="ties-half, hpdv2, imagereward")):
        Agreement(data=tmp_path, rule="top-1")


def test_a_folder_with_another_result_is_left_alone(tmp_path: Path) -> None:
    first, second = (write(folder, *[RANKS] * n) for folder, n in ((tmp_path / "a", 3), (tmp_path / "b", 4)))
    out = tmp_path / "out"
    run(Agreement(data=first, out=out, resamples=100))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, check=at(out, found="other data", cure="another --out")):
        run(Agreement(data=second, out=out, resamples=100))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    run(Agreement(data=first, out=out, resamples=100, rule="ties-half"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, check=at(tmp_path / "file", found="is a file")):
        run(Agreement(data=first, out=tmp_path / "file", resamples=100))
    assert (tmp_path / "file").read_text() == "mine"


def test_gaps_in_ranks_do_not_part_a_figure_from_its_interval(tmp_path: Path) -> None:
    """[1, 5, 9] says what [1, 2, 3] says."""
    orders = ([1, 2, 3], [1, 3, 2], [2, 1, 3])
    gapped = tuple([{1: 1, 2: 5, 3: 9}[rank] for rank in ranks] for ranks in orders)
    plain, wide = (
        run(Agreement(data=write(tmp_path / name, *[groups] * 5), resamples=100))
        for name, groups in (("plain", orders), ("wide", gapped))
    )
    assert plain["rules"] == wide["rules"]
    assert plain["two_way"] == wide["two_way"]
    for row, both in zip(wide["rules"]["hpdv2"], wide["two_way"], strict=True):
        assert both["low"] <= row["value"] <= both["high"]
