"""What no figure can be made of is refused, by the name of the argument and with what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from error_fields import at
from hpskit.errors import InputError
from hpskit.stats.accuracy import Accuracy, pair_accuracy, pair_outcomes, pickapic_cross_fitted
from hpskit.stats.agreement import (
    agreement_by_gap,
    annotator_agreement,
    bootstrap_people,
    bootstrap_scores,
    krippendorff_alpha,
    leave_one_out_agreement,
)
from hpskit.stats.calibration import calibration
from hpskit.stats.comparison import holm, paired_difference, paired_differences, rank_intervals
from hpskit.stats.correlation import scorer_agreement
from hpskit.stats.density import compare_densities, jensen_shannon
from hpskit.stats.intervals import bootstrap_accuracy, bootstrap_difference, bootstrap_mean
from hpskit.stats.model_scores import detectable_difference, prompts_needed, style_result, wrong_order_curve
from hpskit.stats.reliability import accuracy_by_annotators, split_half
from hpskit.stats.rules import pickapic_rule
from hpskit.stats.strengths import bradley_terry, bradley_terry_interval

NAN = math.nan
TWO = [[1, 2]] * 2
ALONE = [np.array([[1, 2, 3]])]
VOTES = [np.array([[1, 2, 3], [2, 1, 3]])] * 3
MEASURED = Accuracy(correct=np.array([1.0, 0, 0]), weight=np.array([1.0, 1, 0]), averaging="prompts")
IMAGES = np.full((5, 4), 0.25, np.float32)

pairs = partial(pair_accuracy, rule="hpdv2")
people = partial(bootstrap_people, VOTES, "annotator_vs_annotator")
curve = partial(wrong_order_curve, [[1, 2, 3], [3, 4, 1]])
needed = partial(prompts_needed, 1)


def ranks(scores: Any, **settings: Any) -> Any:
    return rank_intervals(scores, **{"resamples": 400, **settings})


REFUSED: list[tuple[Callable[[], Any], Callable[[BaseException], bool]]] = [
    # accuracy
    (lambda: pairs([], []), at("scores", found="0 groups")),
    (lambda: pairs([[1, 2]], []), at("ranks", found="0 groups")),
    (lambda: pairs([[1, 2]], TWO), at("ranks", found="2 groups")),
    (lambda: pairs([[1, 2, 3]], [[1, 2]]), at("ranks: group 0", found="2 images")),
    (lambda: pairs([[1, 2], [1]], [[1, 2], [1]]), at("scores: group 1", found="(1,)")),
    (lambda: pairs([[1, 2], [1, NAN]], TWO), at("scores: group 1", found="nan")),
    (lambda: pairs(TWO, [[1, 2], [1, math.inf]]), at("ranks: group 1", found="inf")),
    (lambda: pairs([[2, 1]], [np.empty((0, 2))]), at("accuracy", found="nothing to compare in 1 groups")),
    (lambda: pairs([[2, 1]], [np.array([[1, NAN], [NAN, 1]])]), at("accuracy", found="nothing to compare")),
    (lambda: pairs(TWO, TWO, rule="official"), at("rule", found="'official'", expected="hpdv2")),
    (lambda: pair_outcomes(TWO, TWO, "top-1"), at("rule", found="'top-1'")),
    (lambda: pickapic_rule(1.5), at("threshold", found="1.5")),
    (lambda: pickapic_cross_fitted(TWO, TWO, clusters=[4, 4]), at("prompts", found="are 1 ")),
    (lambda: pickapic_cross_fitted([[1, 2]], [[1, 2]], folds=1), at("folds", found="1")),
    # agreement of people
    (lambda: annotator_agreement(ALONE), at("accuracy", found="nothing to compare in 1 groups")),
    (lambda: leave_one_out_agreement(ALONE), at("accuracy", found="nothing to compare in 1 groups")),
    (lambda: annotator_agreement(ALONE, rule="top-1"), at("rule", found="'top-1'", expected="ties-half, hpdv2")),
    (lambda: leave_one_out_agreement([[1, 2]]), at("votes: group 0", found="(2,)")),
    (lambda: agreement_by_gap(ALONE), at("votes", found="no pair in 1 groups")),
    (lambda: agreement_by_gap([[[1, 5], [1, 5]]]), at("votes", found="further apart than 1 places")),
    (lambda: agreement_by_gap(ALONE, bins=0), at("bins", found="0")),
    (lambda: agreement_by_gap(ALONE, scores=[[1, 2]]), at("votes: group 0", found="3 images", expected="2")),
    (lambda: krippendorff_alpha([[[1, 2]]]), at("votes", expected="ranks that differ")),
    (lambda: split_half(ALONE), at("votes", found="no two halves")),
    (lambda: split_half([TWO], splits=0), at("splits", found="0")),
    (lambda: accuracy_by_annotators(ALONE), at("held_out", expected="1 judgements")),
    (lambda: accuracy_by_annotators([TWO], held_out=2), at("held_out", expected="2 judgements")),
    (lambda: accuracy_by_annotators([TWO], draws=0), at("draws", found="0")),
    # calibration and correlation
    (lambda: calibration([], []), at("probabilities", found="shape")),
    (lambda: calibration([1.2], [1]), at("probabilities", found="1.2")),
    (lambda: calibration([0.2], [NAN]), at("shares", found="nan")),
    (lambda: calibration([0.2], [0.1, 0.2]), at("shares", found="(1,), (2,)")),
    (lambda: calibration([0.2], [0.1], [0]), at("weights", found="0")),
    (lambda: calibration([0.5], [0.5], bins=0), at("bins", found="0")),
    (lambda: scorer_agreement(TWO, [[1, 2, 3]] * 2), at("scores", found="(2, 2) and (2, 3)")),
    # intervals
    (lambda: bootstrap_accuracy(MEASURED, clusters=[5, 5, 6]), at("prompts", found="are 1 ")),
    (lambda: bootstrap_accuracy(MEASURED, clusters=[1, 2]), at("clusters", found="(2,)")),
    (lambda: bootstrap_accuracy(MEASURED, resamples=0), at("resamples", found="0")),
    (lambda: bootstrap_accuracy(MEASURED, level=95), at("level", found="95")),
    (
        lambda: bootstrap_difference(MEASURED, replace(MEASURED, correct=np.ones(2), weight=np.ones(2))),
        at("difference", found="3 groups averaged over prompts and 2 groups"),
    ),
    (lambda: bootstrap_mean([NAN, NAN]), at("prompts", found="are 0 ")),
    (lambda: bootstrap_people(VOTES, "best"), at("measure", found="best", expected="leave_one_out, inclusive")),
    (lambda: people(clusters=[1, 1, 1]), at("prompts", found="are 1 ")),
    (lambda: people(annotators=[["a", "b"]]), at("annotators", found="1 groups", expected="3")),
    (
        lambda: people(annotators=[["a", "b"], ["a"], ["a", "b"]]),
        at("annotators: group 1", expected="2 different"),
    ),
    (lambda: people(annotators=[["a", "b"], ["a", None], ["a", "b"]]), at("annotators: group 1", found="'a'")),
    (lambda: bootstrap_scores([[1, 2, 3]] * 3, VOTES, resamples=0), at("resamples", found="0")),
    # comparison of models
    (lambda: holm([0.1, 1.1]), at("p_values")),
    (lambda: holm([NAN]), at("p_values")),
    (lambda: paired_difference([1, 2], [1, 2, 3]), at("scores", found="(2,) and (3,)")),
    (lambda: paired_difference([1, NAN, 2], [1, 2, NAN]), at("scores", found="models 0 and 1 have fewer than 2")),
    (lambda: paired_difference([1, 2], [-math.inf, 2]), at("scores: model 1, prompt 0", found="-inf")),
    (lambda: paired_differences([[1, 2, 3]]), at("scores", found="(1, 3)", expected="(models, prompts)")),
    (lambda: paired_difference([1, 2], [2, 3], level=95), at("level", found="95")),
    (lambda: ranks([[1, 2, 3], [1, NAN, NAN]]), at("scores", found="1 of 3 prompts", cure="model 1 with 2 missing")),
    (lambda: ranks([[1, 2, 3], [3, 2, 1]], categories=["a", "b"]), at("categories", found="(2,)")),
    (lambda: ranks([[1, 2, 3], [3, 2, 1]], categories=["a", "a", "b"]), at("categories: 'b'", found="1 prompts")),
    (lambda: ranks([[1, 2], [2, 1]], level=0), at("level", found="0")),
    (lambda: bradley_terry(np.zeros((2, 3))), at("wins", found="(2, 3)")),
    (lambda: bradley_terry([[0, -1], [1, 0]]), at("wins", found="negative or not finite")),
    (lambda: bradley_terry([[0, 1], [1, 0]], prior=-1), at("prior", found="-1")),
    (lambda: bradley_terry([[0, 0, 3], [0, 0, 0], [4, 0, 0]]), at("wins", found="models [0, 2] and the others")),
    (lambda: bradley_terry([[0, 1e100], [1, 0]], prior=0), at("wins", found="200 steps")),
    (lambda: bradley_terry_interval([[1, NAN, 3], [NAN, 2, NAN]]), at("wins", found="no finite difference")),
    (lambda: compare_densities(IMAGES[:1], IMAGES, (jensen_shannon,)), at("densities", found="1 and 5 images")),
    (
        lambda: compare_densities(IMAGES[:4], IMAGES, (jensen_shannon,), paired=True),
        at("densities", found="4 and 5 images", expected="pairs"),
    ),
    # number of prompts
    (lambda: curve([10, 0]), at("counts", found="0")),
    (lambda: wrong_order_curve([[1, NAN], [NAN, 1]], [10]), at("scores", found="0 of 2 prompts")),
    (lambda: wrong_order_curve([[1, 2], [2, 1]], [10]), at("scores", found="the same mean 1.5")),
    (lambda: curve([10], resamples=1), at("resamples", found="1", expected="at least 2")),
    (lambda: needed(0), at("resolution", found="0")),
    (lambda: needed(1e-200), at("resolution", found="1e-200")),
    (lambda: needed(0.1, level=1), at("level", found="1")),
    (lambda: needed(0.1, power=1), at("power", found="1")),
    (lambda: prompts_needed(NAN, 0.1), at("deviation", found="nan")),
    (lambda: detectable_difference(1, 0), at("prompts", found="0")),
    (lambda: style_result([]), at("scores", expected="at least one score")),
]


@pytest.mark.parametrize(("figure", "refusal"), REFUSED)
def test_it_is_refused(figure: Callable[[], Any], refusal: Callable[[BaseException], bool]) -> None:
    with pytest.raises(InputError, check=refusal):
        figure()
