"""Resampling of prompts and people: against a plain resampling, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from hpskit.stats.accuracy import pair_accuracy
from hpskit.stats.agreement import (
    PeopleMeasure,
    annotator_agreement,
    bootstrap_people,
    bootstrap_scores,
    leave_one_out_agreement,
)
from hpskit.stats.intervals import bootstrap_accuracy

MEASURES: list[PeopleMeasure] = ["annotator_vs_annotator", "leave_one_out", "inclusive"]


def panel(rng: np.random.Generator, noises: np.ndarray, prompts: int, images: int = 4) -> list[np.ndarray]:
    """Every person judges every prompt; people differ in how well they see."""
    quality = rng.normal(size=(prompts, 1, images))
    seen = quality + noises[:, None] * rng.normal(size=(prompts, len(noises), images))
    return [(-rows).argsort(axis=1).argsort(axis=1) + 1.0 for rows in seen]


def credit(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Mean over pairs of images, ties one half."""
    apart = np.sign(np.subtract.outer(mine, mine)) - np.sign(np.subtract.outer(theirs, theirs))
    return 1 - np.abs(apart).sum() / 2 / (len(mine) * (len(mine) - 1))


def plain(rows: np.ndarray, people: list[int], measure: str) -> float | None:
    """A group's agreement if these people had judged it; copies of a person are not compared with each other."""
    values = []
    for me in people:
        others = [k for k in people if k != me]
        if measure == "annotator_vs_annotator":
            values += [credit(rows[me], rows[other]) for other in others]
        elif others:
            values.append(credit(rows[me], rows[people if measure == "inclusive" else others].sum(axis=0)))
    return float(np.mean(values)) if values else None


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("measure", MEASURES)
def test_resampled_figures_are_those_of_a_plain_resampling(measure: PeopleMeasure, named: bool) -> None:
    """The ends agree, once those of the plain one are moved as the module says."""
    rng = np.random.default_rng(0)
    votes = panel(rng, np.array([0.3, 0.5, 1.0, 3.0]), prompts=8, images=5)
    names = [["a", "b", "c", "d"]] * 8 if named else None
    found = bootstrap_people(votes, measure, annotators=names, resamples=2000, level=0.8)
    figures = []
    for _ in range(400):
        prompts = rng.integers(8, size=8)
        persons = rng.integers(4, size=4).tolist()
        groups = [plain(votes[g], persons if named else rng.integers(4, size=4).tolist(), measure) for g in prompts]
        if values := [value for value in groups if value is not None]:
            figures.append(np.mean(values))
    shift = found.value - np.mean(figures)
    expected = np.clip(np.quantile(figures, [0.1, 0.9]) + shift, 0, 1)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.012)
    direct = {
        "annotator_vs_annotator": annotator_agreement(votes),
        "leave_one_out": leave_one_out_agreement(votes),
        "inclusive": leave_one_out_agreement(votes, inclusive=True),
    }
    assert found.value == pytest.approx(direct[measure].value)


@pytest.mark.parametrize("trials", [20, pytest.param(80, marks=pytest.mark.slow)])
def test_the_interval_with_names_holds_the_truth_where_prompts_alone_do_not(trials: int) -> None:
    """The truth is the agreement of two people of the population, half of whom see badly."""
    rng = np.random.default_rng(0)
    population = np.array([0.3, 2.0])
    truth = annotator_agreement(panel(rng, rng.choice(population, 200), prompts=150)).value
    both, alone = [], []
    for trial in range(trials):
        votes = panel(rng, rng.choice(population, 12), prompts=60)
        names = [[*range(12)]] * 60
        two_way = bootstrap_people(votes, "annotator_vs_annotator", annotators=names, resamples=200, seed=trial)
        one_way = bootstrap_accuracy(annotator_agreement(votes), resamples=200)
        both.append(two_way.low <= truth <= two_way.high)
        alone.append(one_way.low <= truth <= one_way.high)
    assert np.mean(both) >= 0.87
    assert np.mean(alone) <= 0.7


def test_scores_against_people() -> None:
    rng = np.random.default_rng(0)
    votes = panel(rng, np.full(5, 1.0), prompts=80)
    scores = [-rows.mean(axis=0) + rng.normal(size=4) for rows in votes]
    interval = bootstrap_scores(scores, votes)
    accuracy = pair_accuracy(scores, [rows.mean(axis=0) for rows in votes], "ties-half")
    one_way = bootstrap_accuracy(accuracy)
    assert interval.value == pytest.approx(accuracy.value)
    assert interval.low < interval.value < interval.high
    assert interval.high - interval.low > one_way.high - one_way.low
    assert bootstrap_scores(scores, votes) == interval
    partial = [np.where(rng.random(rows.shape) < 0.4, np.nan, rows) for rows in votes]
    for rule in ("ties-half", "hpdv2", "imagereward"):
        value = bootstrap_scores(scores, partial, rule=rule, resamples=10).value
        assert value == pytest.approx(pair_accuracy(scores, partial, rule).value, abs=1e-12)


def test_ties_of_people_are_not_broken_by_where_images_stand() -> None:
    """`hpdv2` gives equal *scores* to the image in front; of people a tie on either side is correct."""
    interval = bootstrap_people([np.array([[1, 1], [2, 1]])] * 4, "leave_one_out", rule="hpdv2", resamples=50)
    assert (interval.low, interval.value, interval.high) == (1, 1, 1)
    assert bootstrap_scores([[0, 0]] * 4, [np.array([[2, 1]])] * 4, rule="hpdv2", resamples=50).value == 0
