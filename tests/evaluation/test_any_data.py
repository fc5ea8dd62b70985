"""Whatever a data set is, it is evaluated or refused with a reason: ties, partial rankings, no judgements, pairs."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError
from hpskit.evaluation.agreement import study
from hpskit.evaluation.groups import EvaluationSet
from hpskit.evaluation.judging import Settings
from hpskit.evaluation.report import agreement_page, evaluation_page
from hpskit.evaluation.run import evaluate, group_rows
from hpskit.scoring.contract import Candidate
from preference_data import groups
from small_inputs import Sharpness

SETTINGS = Settings(resamples=100)


def evaluation_set(found: list[Group]) -> EvaluationSet:
    data: Any = SimpleNamespace(name="made up", format="rankings", path=Path("made-up.jsonl"))
    numbered = [replace(group, place=f"row {number}") for number, group in enumerate(found)]
    return EvaluationSet(data=data, groups=tuple(numbered), sha256="0", skipped={})


@settings(max_examples=15)
@given(st.lists(groups(), min_size=1, max_size=6), st.integers(0, 99))
def test_any_groups_have_a_result_and_a_page(found: list[Group], seed: int) -> None:
    given = evaluation_set(found)
    rng = np.random.default_rng(seed)
    candidates = [Candidate(label=name, scorer=Sharpness(name)) for name in "ab"]
    scores = [tuple(rng.normal(size=len(group.images)).round(1) for group in found) for _ in candidates]
    try:
        result = evaluate(given, candidates, scores, SETTINGS)
    except InputError as error:
        assert at("made-up.jsonl", found=" groups ")(error)  # noqa: PT017
        return
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for scorer in result["scorers"]:
        for row in scorer["accuracy"].values():
            assert row is None or row["low"] is None or 0 <= row["low"] <= row["high"] <= 1
    for breakdown in result["breakdowns"]:
        assert all(part["pairs"] > 0 for part in breakdown["parts"])
    rows = list(group_rows(given, candidates, scores, SETTINGS))
    kept = [row["accuracy"]["a"] for row in rows if row["accuracy"]["a"] is not None]
    assert np.mean(kept) == pytest.approx(result["scorers"][0]["accuracy"]["ties-half"]["value"])
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
