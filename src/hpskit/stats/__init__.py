"""Arithmetic of preferences and benchmarks: NumPy and SciPy, no files, no networks.

Conventions, unless a docstring says otherwise:

- `scores` are (n,) for each group of n > 1 images, or a table (models, prompts) with NaN where one is missing. Higher
  is better.
- `ranks` are (n,) for each group, one order, or (judgements, n); `votes` are always (judgements, n). Lower is better,
  NaN was not ranked.
- `clusters` are labels of groups or prompts, equal where the text of the prompt is: those are drawn together and count
  as one. Without labels each is a prompt of its own.
- `categories` are names of prompts. Their shares of a mean are fixed, so what differs between categories is no error.
- `resamples` says how many, `level` is the nominal coverage from 0 to 1, and the same `seed` gives the same result.
- Results hold a figure as `value` and the ends of its interval as `low` and `high`.
- `InputError` is raised for arrays that do not fit together, for a value out of range, and where there is nothing to
  compare.

SciPy is imported inside functions: its import takes longer than many a command.
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
    PEOPLE_RULES,
    agreement_by_gap,
    annotator_agreement,
    bootstrap_people,
    bootstrap_scores,
    krippendorff_alpha,
    leave_one_out_agreement,
)
from hpskit.stats.calibration import PairVotes, calibration, pair_votes
from hpskit.stats.comparison import (
    PairedDifference,
    RankIntervals,
    holm,
    paired_difference,
    paired_differences,
    rank_intervals,
)
from hpskit.stats.correlation import kendall_tau_b, scorer_agreement, spearman
from hpskit.stats.intervals import (
    Difference,
    Interval,
    bootstrap_accuracy,
    bootstrap_difference,
    bootstrap_mean,
    check_settings,
)
from hpskit.stats.model_scores import (
    GROUP_SIZE,
    PromptCountPoint,
    detectable_difference,
    difference_deviations,
    prompts_needed,
    style_result,
    wrong_order_curve,
)
from hpskit.stats.reliability import accuracy_by_annotators, split_half
from hpskit.stats.rules import ACCURACY_RULES, AccuracyRule, PairRule, pickapic_rule
from hpskit.stats.strengths import bradley_terry, bradley_terry_interval, win_counts, win_matrix

__all__ = [
    "ACCURACY_RULES",
    "GROUP_SIZE",
    "PEOPLE_RULES",
    "Accuracy",
    "AccuracyRule",
    "Difference",
    "Interval",
    "PairOutcomes",
    "PairRule",
    "PairVotes",
    "PairedDifference",
    "PromptCountPoint",
    "RankIntervals",
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
    "check_settings",
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
