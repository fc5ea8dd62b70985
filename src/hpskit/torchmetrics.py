"""The mean score of images as a metric of torchmetrics: over batches, and over the processes of a distributed run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hpskit.errors import MissingExtraError
from hpskit.models.registry import DEFAULT_MODEL
from hpskit.scoring.scorer import PreferenceScorer, load_scorer

try:
    from torchmetrics import Metric
except ImportError as error:
    cure = "run `pip install torchmetrics`"
    raise MissingExtraError("hpskit.torchmetrics", "needs torchmetrics, which is not installed", cure=cure) from error

if TYPE_CHECKING:
    from torch import Tensor

    from hpskit.pixels import Layout
    from hpskit.scoring.contract import Images


class HumanPreferenceScore(Metric):
    """Mean of the scores of all images that `update` was given; each image counts once, whatever batch it came in.

    The scorer keeps its own device: `to` moves the two sums alone, and copies of the metric share it.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(
        self,
        scorer: str | os.PathLike[str] | PreferenceScorer = DEFAULT_MODEL,
        *,
        value_range: tuple[float, float] = (0, 1),
        layout: Layout | None = None,
        **kwargs: Any,
    ) -> None:
        """Take a scorer, or load the one of this name or file; see `PreferenceScorer.score` for the other options.

        `kwargs` are those of every metric, such as `sync_on_compute`.
        """
        import torch

        super().__init__(**kwargs)
        self.scorer = load_scorer(scorer) if isinstance(scorer, str | os.PathLike) else scorer
        self._options = {"value_range": value_range, "layout": layout}
        exact = torch.float32 if torch.backends.mps.is_available() else torch.float64  # which that device has not
        self.add_state("total", torch.zeros((), dtype=exact), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Images, prompts: str | Iterable[str]) -> None:
        """Score images, each for its prompt; see `PreferenceScorer.score`."""
        scores = self.scorer.score(images, prompts, **self._options)  # type: ignore[arg-type]
        self.total += scores.to(self.total).sum()
        self.images += len(scores)

    def compute(self) -> Tensor:
        """Return the mean, a scalar of float32 on the scale of the scorer; NaN if there was no image."""
        return (self.total / self.images).float()
