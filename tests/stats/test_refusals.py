"""What no figure can be made of is refused, by the name of the argument and with what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from error_fields import at
from hpskit import stats
from hpskit.errors import InputError
from hpskit.stats.density import compare_densities, jensen_shannon

NAN = math.nan
TWO = [[1, 2]] * 2
ALONE = [np.array([[1, 2, 3]])]
VOTES = [np.array([[1, 2, 3], [2, 1, 3]])] * 3
MEASURED = stats.Accuracy(correct=np.array([1.0, 0, 0]), weight=np.array([1.0, 1, 0]), averaging="prompts")
IMAGES = np.full((5, 4), 0.25, np.float32)

pairs = partial(stats.pair_accuracy, rule="hpdv2")
people = partial(stats.bootstrap_people, VOTES, "annotator_vs_annotator")
curve = partial(stats.wrong_order_curve, [[1, 2, 3], [3, 4, 1]])
needed = partial(stats.prompts_needed, 1)


def ranks(scores: Any, **settings: Any) -> Any:
    return stats.rank_intervals(scores, **{"resamples": 400, **settings})


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
    (lambda: stats.pair_outcomes(TWO, TWO, "top-1"), at("rule", found="'top-1'")),
    (lambda: stats.pickapic_rule(1.5), at("threshold", found="1.5")),
    (lambda: stats.pickapic_cross_fitted(TWO, TWO, clusters=[4, 4]), at("prompts", found="are 1 ")),
    (lambda: stats.pickapic_cross_fitted([[1, 2]], [[1, 2]], folds=1), at("folds", found="1")),
    # agreement of people
    (lambda: stats.annotator_agreement(ALONE), at("accuracy", found="nothing to compare in 1 groups")),
    (lambda: stats.leave_one_out_agreement(ALONE), at("accuracy", found="nothing to compare in 1 groups")),
    (lambda: stats.annotator_agreement(ALONE, rule="top-1"), at("rule", found="'top-1'", expected="ties-half, hpdv2")),
    (lambda: stats.leave_one_out_agreement([[1, 2]]), at("votes: group 0", found="(2,)")),
    (lambda: stats.agreement_by_gap(ALONE), at("votes", found="no pair in 1 groups")),
    (lambda: stats.agreement_by_gap([[[1, 5], [1, 5]]]), at("votes", found="further apart than 1 places")),
    (lambda: stats.agreement_by_gap(ALONE, bins=0), at("bins", found="0")),
    (lambda: stats.agreement_by_gap(ALONE, scores=[[1, 2]]), at("votes: group 0", found="3 images", expected="2")),
    (lambda: stats.krippendorff_alpha([[[1, 2]]]), at("votes", expected="ranks that differ")),
    (lambda: stats.split_half(ALONE), at("votes", found="no two halves")),
    (lambda: stats.split_half([TWO], splits=0), at("splits", found="0")),
    (lambda: stats.accuracy_by_annotators(ALONE), at("held_out", expected="1 judgements")),
    (lambda: stats.accuracy_by_annotators([TWO], held_out=2), at("held_out", expected="2 judgements")),
    (lambda: stats.accuracy_by_annotators([TWO], draws=0), at("draws", found="0")),
    # calibration and correlation
    (lambda: stats.calibration([], []), at("probabilities", found="shape")),
    (lambda: stats.calibration([1.2], [1]), at("probabilities", found="1.2")),
    (lambda: stats.calibration([0.2], [NAN]), at("shares", found="nan")),
    (lambda: stats.calibration([0.2], [0.1, 0.2]), at("shares", found="(1,), (2,)")),
    (lambda: stats.calibration([0.2], [0.1], [0]), at("weights", found="0")),
    (lambda: stats.calibration([0.5], [0.5], bins=0), at("bins", found="0")),
    (lambda: stats.scorer_agreement(TWO, [[1, 2, 3]] * 2), at("scores", found="(2, 2) and (2, 3)")),
    # intervals
    (lambda: stats.bootstrap_accuracy(MEASURED, clusters=[5, 5, 6]), at("prompts", found="are 1 ")),
    (lambda: stats.bootstrap_accuracy(MEASURED, clusters=[1, 2]), at("clusters", found="(2,)")),
    (lambda: stats.bootstrap_accuracy(MEASURED, resamples=0), at("resamples", found="0")),
    (lambda: stats.bootstrap_accuracy(MEASURED, level=95), at("level", found="95")),
    (
        lambda: stats.bootstrap_difference(MEASURED, MEASURED.subset(np.array([0, 1]))),
        at("difference", found="3 groups averaged over prompts and 2 groups"),
    ),
    (lambda: stats.bootstrap_mean([NAN, NAN]), at("prompts", found="are 0 ")),
    (lambda: stats.bootstrap_people(VOTES, "best"), at("measure", found="best", expected="leave_one_out, inclusive")),
    (lambda: people(clusters=[1, 1, 1]), at("prompts", found="are 1 ")),
    (lambda: people(annotators=[["a", "b"]]), at("annotators", found="1 groups", expected="3")),
    (
        lambda: people(annotators=[["a", "b"], ["a"], ["a", "b"]]),
        at("annotators: group 1", expected="2 different"),
    ),
    (lambda: people(annotators=[["a", "b"], ["a", None], ["a", "b"]]), at("annotators: group 1", found="'a'")),
    (lambda: stats.bootstrap_scores([[1, 2, 3]] * 3, VOTES, resamples=0), at("resamples", found="0")),
    # comparison of models
    (lambda: stats.holm([0.1, 1.1]), at("p_values")),
    (lambda: stats.holm([NAN]), at("p_values")),
    (lambda: stats.paired_difference([1, 2], [1, 2, 3]), at("scores", found="(2,) and (3,)")),
    (lambda: stats.paired_difference([1, NAN, 2], [1, 2, NAN]), at("scores", found="models 0 and 1 have fewer than 2")),
    (lambda: stats.paired_difference([1, 2], [-math.inf, 2]), at("scores: model 1, prompt 0", found="-inf")),
    (lambda: stats.paired_differences([[1, 2, 3]]), at("scores", found="(1, 3)", expected="(models, prompts)")),
    (lambda: stats.paired_difference([1, 2], [2, 3], level=95), at("level", found="95")),
    (lambda: ranks([[1, 2, 3], [1, NAN, NAN]]), at("scores", found="1 of 3 prompts", cure="model 1 with 2 missing")),
    (lambda: ranks([[1, 2, 3], [3, 2, 1]], categories=["a", "b"]), at("categories", found="(2,)")),
    (lambda: ranks([[1, 2, 3], [3, 2, 1]], categories=["a", "a", "b"]), at("categories: 'b'", found="1 prompts")),
    (lambda: ranks([[1, 2], [2, 1]], level=0), at("level", found="0")),
    (lambda: stats.bradley_terry(np.zeros((2, 3))), at("wins", found="(2, 3)")),
    (lambda: stats.bradley_terry([[0, -1], [1, 0]]), at("wins", found="negative or not finite")),
    (lambda: stats.bradley_terry([[0, 1], [1, 0]], prior=-1), at("prior", found="-1")),
    (lambda: stats.bradley_terry([[0, 0, 3], [0, 0, 0], [4, 0, 0]]), at("wins", found="models [0, 2] and the others")),
    (lambda: stats.bradley_terry([[0, 1e100], [1, 0]], prior=0), at("wins", found="200 steps")),
    (lambda: stats.bradley_terry_interval([[1, NAN, 3], [NAN, 2, NAN]]), at("wins", found="no finite difference")),
    (lambda: compare_densities(IMAGES[:1], IMAGES, (jensen_shannon,)), at("densities", found="1 and 5 images")),
    (
        lambda: compare_densities(IMAGES[:4], IMAGES, (jensen_shannon,), paired=True),
        at("densities", found="4 and 5 images", expected="pairs"),
    ),
    # number of prompts
    (lambda: curve([10, 0]), at("counts", found="0")),
    (lambda: stats.wrong_order_curve([[1, NAN], [NAN, 1]], [10]), at("scores", found="0 of 2 prompts")),
    (lambda: stats.wrong_order_curve([[1, 2], [2, 1]], [10]), at("scores", found="the same mean 1.5")),
    (lambda: curve([10], resamples=1), at("resamples", found="1", expected="at least 2")),
    (lambda: needed(0), at("resolution", found="0")),
    (lambda: needed(1e-200), at("resolution", found="1e-200")),
    (lambda: needed(0.1, level=1), at("level", found="1")),
    (lambda: needed(0.1, power=1), at("power", found="1")),
    (lambda: stats.prompts_needed(NAN, 0.1), at("deviation", found="nan")),
    (lambda: stats.detectable_difference(1, 0), at("prompts", found="0")),
    (lambda: stats.style_result([]), at("scores", expected="at least one score")),
]


@pytest.mark.parametrize(("figure", "refusal"), REFUSED)
def test_it_is_refused(figure: Callable[[], Any], refusal: Callable[[BaseException], bool]) -> None:
    with pytest.raises(InputError, check=refusal):
        figure()
