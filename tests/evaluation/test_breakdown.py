"""Parts of the data: every pair in the part where it belongs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpskit.dataset.group import Group, Judgement
from hpskit.evaluation.breakdown import breakdowns, disagreements, pair_up
from hpskit.evaluation.judging import Intervals, Settings, calibration_of
from hpskit.stats.calibration import PairVotes


def group(number: int, category: str, *sources: str) -> Group:
    """Four people prefer the images in order; the fifth turns the first two round."""
    order = tuple(range(1, len(sources) + 1))
    judgements = (Judgement(ranks=order, votes=4), Judgement(ranks=(2, 1, *order[2:])))
    images = tuple(f"{number}-{source}" for source in sources)
    prompt = " ".join(["word"] * (number + 1))
    return Group(
        place=f"row {number}", prompt=prompt, images=images, judgements=judgements, sources=sources, category=category
    )


GROUPS = [
    group(n, "photo" if n < 4 else "anime", *(("glide", "sdxl", "coco") if n % 2 else ("sdxl", "glide")))
    for n in range(8)
]
INTERVALS = Intervals(clusters=np.arange(len(GROUPS)), settings=Settings(resamples=200))
SCORES = [np.array([2.0, 3.0, 1.0][: len(g.images)]) for g in GROUPS]  # wrong about the first two of each group, only


def parts(name: str, scores: list[np.ndarray] = SCORES) -> dict[str, tuple[int, int, float]]:
    found = breakdowns(pair_up(GROUPS), GROUPS, {"x": scores}, INTERVALS)
    (breakdown,) = [b for b in found if b["name"] == name]
    return {p["label"]: (p["pairs"], p["prompts"], p["scorers"]["x"]["value"]) for p in breakdown["parts"]}


def test_by_pair_of_generators() -> None:
    """Whichever stands first: the pair is one of the same two generators."""
    assert parts("sources") == {"coco / glide": (4, 4, 1), "coco / sdxl": (4, 4, 1), "glide / sdxl": (8, 8, 0)}


def test_groups_that_name_no_generators_do_not_take_the_others_away() -> None:
    groups = [replace(g, sources=None) if n == 0 else g for n, g in enumerate(GROUPS)]
    found = breakdowns(pair_up(groups), groups, {"x": SCORES}, INTERVALS)
    (split,) = [b for b in found if b["name"] == "sources"]
    assert {p["label"]: p["pairs"] for p in split["parts"]} == {"coco / glide": 4, "coco / sdxl": 4, "glide / sdxl": 7}


def test_by_style_length_of_the_prompt_and_agreement_of_the_people() -> None:
    assert parts("category") == {"anime": (8, 4, 0.5), "photo": (8, 4, 0.5)}
    assert {label: part[:2] for label, part in parts("length").items()} == {"1-5": (9, 5), "6-10": (7, 3)}
    assert parts("consensus") == {"80-90": (8, 8, 0), "90-100": (8, 4, 1)}


def test_disagreements_are_the_worst_first_and_one_for_each_prompt() -> None:
    scores = [np.array([0.0, float(n), -9.0][: len(g.images)]) for n, g in enumerate(GROUPS)]
    cases = disagreements(pair_up(GROUPS), GROUPS, scores, count=3)
    assert [case["place"] for case in cases] == ["row 7", "row 6", "row 5"]
    assert (cases[0]["people_image"], cases[0]["scorer_image"]) == ("7-glide", "7-sdxl")
    assert cases[0]["people_share"] == pytest.approx(0.8)
    assert (cases[0]["people_score"], cases[0]["scorer_score"]) == (0, 7)


def test_a_log_loss_without_end_is_not_written() -> None:
    """JSON has no infinity; the other figures are told all the same."""
    pairs = PairVotes(
        group=np.array([0, 0]),
        first=np.array([0, 0]),
        second=np.array([1, 2]),
        share=np.array([1.0, 1.0]),
        votes=np.array([1.0, 1.0]),
        gap=np.array([1.0, 1.0]),
    )
    sure, wrong = (calibration_of(pairs, np.array([0.9, p])) for p in (0.9, 0.0))
    assert sure["log_loss"] == pytest.approx(-np.log(0.9))
    assert wrong["log_loss"] is None
    assert wrong["brier"] == pytest.approx((0.1**2 + 1) / 2)
