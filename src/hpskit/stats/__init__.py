"""The arithmetic of preferences and benchmarks: pure NumPy, no files, no networks.

Groups of images are given as lists with one array for each group: scores (n,), higher is better; ranks (n,), lower is
better, NaN was not ranked; votes (judgements, n), one row of ranks for each judgement.
"""

from __future__ import annotations

from hpskit.stats.accuracy import Accuracy, PairOutcomes, pair_accuracy, pair_outcomes, pickapic_threshold
from hpskit.stats.agreement import (
    GapBin,
    agreement_by_gap,
    annotator_agreement,
    krippendorff_alpha,
    leave_one_out_agreement,
)
from hpskit.stats.benchmark import GROUP_SIZE, StyleResult, style_result
from hpskit.stats.bootstrap import Difference, Interval, bootstrap_accuracy, bootstrap_difference, bootstrap_mean
from hpskit.stats.calibration import Calibration, CalibrationBin, PairVotes, calibration, pair_votes
from hpskit.stats.correlation import kendall_tau_b, spearman
from hpskit.stats.reliability import AnnotatorCurve, AnnotatorPoint, SplitHalf, accuracy_by_annotators, split_half
from hpskit.stats.rules import ACCURACY_RULES, AccuracyRule, PairRule, TopRule, pickapic_rule
from hpskit.stats.two_way import PeopleMeasure, bootstrap_people, bootstrap_scores

__all__ = [
    "ACCURACY_RULES",
    "GROUP_SIZE",
    "Accuracy",
    "AccuracyRule",
    "AnnotatorCurve",
    "AnnotatorPoint",
    "Calibration",
    "CalibrationBin",
    "Difference",
    "GapBin",
    "Interval",
    "PairOutcomes",
    "PairRule",
    "PairVotes",
    "PeopleMeasure",
    "SplitHalf",
    "StyleResult",
    "TopRule",
    "accuracy_by_annotators",
    "agreement_by_gap",
    "annotator_agreement",
    "bootstrap_accuracy",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_people",
    "bootstrap_scores",
    "calibration",
    "kendall_tau_b",
    "krippendorff_alpha",
    "leave_one_out_agreement",
    "pair_accuracy",
    "pair_outcomes",
    "pair_votes",
    "pickapic_rule",
    "pickapic_threshold",
    "spearman",
    "split_half",
    "style_result",
]
