"""The arithmetic of preferences and benchmarks: pure NumPy, no files, no networks.

Groups of images are given as lists with one array for each group: scores (n,), higher is better; ranks (n,), lower is
better, NaN was not ranked; votes (judgements, n), one row of ranks for each judgement.
"""

from __future__ import annotations

from hpskit.stats.accuracy import (
    Accuracy,
    PairOutcomes,
    pair_accuracy,
    pair_outcomes,
    pickapic_cross_fitted,
    pickapic_threshold,
)
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
from hpskit.stats.comparison import PairedDifference, holm, paired_difference, paired_differences
from hpskit.stats.correlation import kendall_tau_b, spearman
from hpskit.stats.judgements import PEOPLE_RULES
from hpskit.stats.ranks import RankIntervals, rank_intervals
from hpskit.stats.reliability import AnnotatorCurve, AnnotatorPoint, SplitHalf, accuracy_by_annotators, split_half
from hpskit.stats.rules import ACCURACY_RULES, AccuracyRule, PairRule, TopRule, pickapic_rule
from hpskit.stats.sample_size import (
    PromptCountPoint,
    detectable_difference,
    difference_deviations,
    prompts_needed,
    wrong_order_curve,
)
from hpskit.stats.scorer_agreement import ScorerAgreement, scorer_agreement
from hpskit.stats.strength import bradley_terry, bradley_terry_interval, win_counts, win_matrix
from hpskit.stats.two_way import PeopleMeasure, bootstrap_people, bootstrap_scores

__all__ = [
    "ACCURACY_RULES",
    "GROUP_SIZE",
    "PEOPLE_RULES",
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
    "PairedDifference",
    "PeopleMeasure",
    "PromptCountPoint",
    "RankIntervals",
    "ScorerAgreement",
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
    "bradley_terry",
    "bradley_terry_interval",
    "calibration",
    "detectable_difference",
    "difference_deviations",
    "holm",
    "kendall_tau_b",
    "krippendorff_alpha",
    "leave_one_out_agreement",
    "pair_accuracy",
    "pair_outcomes",
    "pair_votes",
    "paired_difference",
    "paired_differences",
    "pickapic_cross_fitted",
    "pickapic_rule",
    "pickapic_threshold",
    "prompts_needed",
    "rank_intervals",
    "scorer_agreement",
    "spearman",
    "split_half",
    "style_result",
    "win_counts",
    "win_matrix",
    "wrong_order_curve",
]
