"""Whether two scorers order models alike: by their means, and on each prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpskit.errors import InputError
from hpskit.stats.bootstrap import Interval, bootstrap_mean
from hpskit.stats.correlation import kendall_tau_b, spearman
from hpskit.stats.model_scores import complete_scores, read_model_scores

__all__ = ["ScorerAgreement", "scorer_agreement"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerAgreement:
    """Rank correlations of two scorers over the same images, -1 to 1; 1 where they order all models alike."""

    means_kendall: float
    """Kendall's tau-b of the models' means; NaN if all means of one scorer are equal."""
    means_spearman: float
    """Spearman's rho of the models' means; NaN if all means of one scorer are equal."""
    within_prompts: Interval
    """Mean over prompts of Kendall's tau-b of the models' scores for that prompt, with its interval over prompts."""


def scorer_agreement(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> ScorerAgreement:
    """Agreement of two scorers on the order of models.

    Two scorers can agree on the means and still choose different images for most prompts, which matters where the
    score picks the best of several images. Their scales do not matter.

    Args:
        first: (models, prompts) scores of one scorer, higher is better; prompts with NaN for any model are left out.
        second: (models, prompts) scores of the other for the same images.
        resamples: of the prompts.
        level: nominal coverage of the interval, 0 to 1.
        seed: same seed, same interval.

    Raises:
        InputError: shapes differ, a score is infinite, fewer than two prompts have all scores, or fewer than two have
            scores that differ, with both scorers.
    """
    one, other = read_model_scores(first), read_model_scores(second)
    if one.shape != other.shape:
        raise InputError(f"scores: shapes are {one.shape} and {other.shape}, expected the same (models, prompts)")
    both, _ = complete_scores(np.concatenate([one, other]))
    one, other = np.split(both, 2)
    means = [one.mean(axis=1)], [-other.mean(axis=1)]
    return ScorerAgreement(
        means_kendall=float(kendall_tau_b(*means)[0]),
        means_spearman=float(spearman(*means)[0]),
        within_prompts=bootstrap_mean(
            kendall_tau_b(list(one.T), list(-other.T)), resamples=resamples, level=level, seed=seed
        ),
    )
