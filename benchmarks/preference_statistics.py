"""Processor time and memory of `hpskit.stats` on large data; fails where a figure is above its limit.

python benchmarks/preference_statistics.py
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from hpskit.stats.accuracy import Accuracy, pair_accuracy
from hpskit.stats.agreement import bootstrap_people, krippendorff_alpha
from hpskit.stats.comparison import paired_differences, rank_intervals
from hpskit.stats.intervals import bootstrap_accuracy
from hpskit.stats.model_scores import wrong_order_curve
from hpskit.stats.strengths import bradley_terry_interval

rng = np.random.default_rng(0)
BOARD = rng.normal(0, 0.3, 20)[:, None] + rng.normal(27, 1, (20, 3200))
"""20 models, 3,200 prompts."""
VOTES = rng.permuted(np.tile(np.arange(1.0, 10), (100_000, 3, 1)), axis=2)
"""100,000 groups of 9 images, 3 judgements each."""
COUNTS = [50, 100, 200, 300, 400, 600, 800, 1200, 1600, 3200]


def accuracy(correct: np.ndarray) -> Accuracy:
    return Accuracy(correct=correct, weight=np.full(len(correct), 36.0), averaging="prompts")


MEASURES: dict[str, tuple[Callable[[], object], float, float]] = {
    "accuracy, 100,000 groups": (lambda: pair_accuracy(rng.random((100_000, 9)), VOTES, "hpdv2"), 8, 400),
    "alpha, 100,000 groups": (lambda: krippendorff_alpha(VOTES), 8, 150),
    "interval, 1,000 different prompts": (lambda: bootstrap_accuracy(accuracy(36 * rng.random(1000))), 1, 150),
    "interval, 100,000 prompts of 37 kinds": (
        lambda: bootstrap_accuracy(accuracy(rng.binomial(36, 0.8, 100_000) * 1.0)),
        1,
        150,
    ),
    "interval, 100,000 different prompts, 200 resamples": (
        lambda: bootstrap_accuracy(accuracy(36 * rng.random(100_000)), resamples=200),
        2,
        150,
    ),
    "people, 10,000 groups, 2 resamples": (
        lambda: bootstrap_people(np.tile(VOTES[:10_000], (1, 3, 1)), "leave_one_out", resamples=2),
        20,
        250,
    ),
    "190 paired differences": (lambda: paired_differences(BOARD), 8, 150),
    "ranks of 20 models": (lambda: rank_intervals(BOARD), 4, 150),
    "strengths of 20 models": (lambda: bradley_terry_interval(BOARD), 3, 150),
    "10 numbers of prompts": (lambda: wrong_order_curve(BOARD, COUNTS), 3, 150),
}


def main() -> int:
    print(f"{'':50}{'seconds':>10}{'limit':>8}{'MB':>8}{'limit':>8}")
    failed = 0
    for name, (measure, seconds, megabytes) in MEASURES.items():
        start = time.process_time()
        measure()
        took = time.process_time() - start
        tracemalloc.start()
        measure()
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        failed += took > seconds or peak > megabytes
        print(f"{name:50}{took:10.2f}{seconds:8}{peak:8.0f}{megabytes:8}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
