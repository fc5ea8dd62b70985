"""Whatever a data set is, it is evaluated or refused with a reason: ties, partial rankings, no judgements, pairs."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from error_fields import at
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError
from hpskit.evaluation.agreement import study
from hpskit.evaluation.groups import EvaluationSet
from hpskit.evaluation.judging import Settings
from hpskit.evaluation.report import agreement_page, evaluation_page
from hpskit.evaluation.result import evaluate, group_rows
from hpskit.evaluation.run import Evaluation, run
from hpskit.scoring.contract import Candidate
from judged_photographs import RADII, Sharpness, write_data
from preference_data import groups, pickapic_row

SETTINGS = Settings(resamples=100)


def evaluation_set(found: list[Group]) -> EvaluationSet:
    data: Any = SimpleNamespace(name="made up", format="rankings", path=Path("made-up.jsonl"))
    numbered = [replace(group, place=f"row {number}") for number, group in enumerate(found)]
    return EvaluationSet(data=data, groups=tuple(numbered), sha256="0", skipped={})


@settings(max_examples=25)
@given(st.lists(groups(), min_size=1, max_size=6), st.integers(0, 99))
def test_any_groups_have_a_result_and_a_page(found: list[Group], seed: int) -> None:
    given = evaluation_set(found)
    rng = np.random.default_rng(seed)
    candidates = [Candidate(label=name, scorer=Sharpness(name)) for name in "ab"]
    scores = [tuple(rng.normal(size=len(group.images)).round(1) for group in found) for _ in candidates]
    try:
        result = evaluate(given, candidates, scores, SETTINGS)
    except InputError as error:
        assert re.match(r"made-up.jsonl: in \d+ groups (nobody|people tied)", str(error))  # noqa: PT017
        return
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for scorer in result["scorers"]:
        for row in scorer["accuracy"].values():
            assert row is None or row["low"] is None or 0 <= row["low"] <= row["high"] <= 1
    for breakdown in result["breakdowns"]:
        assert all(part["pairs"] > 0 for part in breakdown["parts"])
    rows = list(group_rows(given, candidates, scores, SETTINGS))
    kept = [row["accuracy"]["a"] for row in rows if row["accuracy"]["a"] is not None]
    assert np.mean(kept) == pytest.approx(result["scorers"][0]["accuracy"]["hpdv2"]["value"])
    cases = [case for cases in result["disagreements"].values() for case in cases]
    pictures = {(case["place"], case[side]): "data:," for case in cases for side in ("people_image", "scorer_image")}
    page = {"package": "hpskit", "command": "none", **result}
    assert evaluation_page(page, pictures).count("<svg") > 2


@settings(max_examples=25)
@given(st.lists(groups(), min_size=1, max_size=5))
def test_any_people_are_studied_or_refused(found: list[Group]) -> None:
    try:
        result = study(evaluation_set(found), SETTINGS)
    except InputError as error:
        assert at("made-up.jsonl", found="has no ", cure="give a split")(error)  # noqa: PT017
        return
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    page = agreement_page({"package": "hpskit", "command": "none", **result})
    assert all(reason in html.unescape(page) for reason in result["not_measured"].values())


def ranked(*ranks: tuple[int | None, ...]) -> Group:
    images = tuple(f"{number}.png" for number in range(len(ranks[0])))
    judgements = tuple(Judgement(ranks=own) for own in ranks)
    return Group(place="", prompt=f"{ranks}", images=images, judgements=judgements)


def test_partial_rankings_count_the_pairs_that_were_compared_and_no_others() -> None:
    """Two people see two of four images each: two pairs, not six, in every figure of the result."""
    found = [ranked((1, 2, None, None), (None, None, 2, 1)), ranked((1, None, 2, None), (None, 2, None, 1))]
    right = tuple(np.array(own) for own in ([2.0, 1.0, 3.0, 4.0], [2.0, 3.0, 1.0, 4.0]))
    candidates = [Candidate(label="a", scorer=Sharpness("a"))]
    result = evaluate(evaluation_set(found), candidates, [right], SETTINGS)
    (scorer,) = result["scorers"]
    assert result["pairs"] == scorer["calibration"]["pairs"] == 4
    for rule in ("hpdv2", "imagereward", "ties-half", "pickapic"):
        assert (scorer["accuracy"][rule]["value"], scorer["accuracy"][rule]["pairs"]) == (1, 4)
    assert scorer["kendall_tau_b"]["value"] == 1
    assert scorer["accuracy"]["top-1"] is None  # nobody's best is known
    assert scorer["spearman"] is None  # nor one order of all four
    assert scorer["two_way"] is not None
    assert scorer["two_way"]["value"] == 1
    assert result["people"] == []  # no two people compared the same pair
    rows = list(group_rows(evaluation_set(found), candidates, [right], SETTINGS))
    assert rows[0]["people"] == [[1, 2, None, None], [None, None, 2, 1]]
    assert rows[0]["accuracy"] == {"a": 1}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photographs: list[Image.Image]) -> Path:
    return write_data(tmp_path_factory.mktemp("pictures"), photographs, groups=3).parent / "test"


def layouts(pictures: Path) -> dict[str, list[dict[str, Any]]]:
    """The same photographs in other layouts; the sharper image is always preferred."""
    names = [[f"test/{group}-{radius}.png" for radius in RADII] for group in range(3)]
    prompts = [f"a photograph, number {group}" for group in range(3)]
    pairs = list(zip(prompts, names, strict=True))
    data = [[(pictures.parent / name).read_bytes() for name in own] for own in names]
    return {
        "train.json": [{"prompt": p, "file_path": [n[2], n[1]], "human_preference": [0, 1]} for p, n in pairs],
        "imagereward.json": [{"id": p, "prompt": p, "generations": n, "ranking": [1, 2, 2, 4]} for p, n in pairs],
        "hpdv3.json": [
            {"prompt": p, "path1": n[0], "path2": n[3], "choice_dist": [12, 7], "confidence": 0.6, "model1": "x",
             "model2": "y"}
            for p, n in pairs
        ],
        "pickapic.parquet": [
            pickapic_row(caption=p, image_0_uid=n[3], image_1_uid=n[0], best_image_uid=n[0], jpg_0=d[3], jpg_1=d[0],
                         label_0=0.0, label_1=1.0)
            for (p, n), d in zip(pairs, data, strict=True)
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rule", "pairs"),
    [
        ("train.json", "ties-half", 3),
        ("imagereward.json", "imagereward", 15),
        ("hpdv3.json", "ties-half", 3),
        ("pickapic.parquet", "pickapic", 3),
    ],
)
def test_every_layout(name: str, rule: str, pairs: int, pictures: Path, tmp_path: Path) -> None:
    rows = layouts(pictures)[name]
    path = pictures.parent / name
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows))
    config = Evaluation(data=path, out=tmp_path, image_root=pictures.parent, resamples=100)
    scorers = [Candidate(label="sharp", scorer=Sharpness()), Candidate(label="dull", scorer=Sharpness("dull", -1))]
    result = run(config, lambda: scorers).result
    assert result["settings"]["rule"] == rule
    assert [scorer["accuracy"][rule]["value"] for scorer in result["scorers"]] == [1, 0]
    assert result["scorers"][0]["accuracy"][rule]["pairs"] == pairs
    assert result["disagreements"]["sharp"] == []
    assert len(result["disagreements"]["dull"]) == 3
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg;base64,") == 6
