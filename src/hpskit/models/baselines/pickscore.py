"""PickScore: the cosine of image and prompt times the network's own logit scale (arXiv 2305.01569, section 4).

The published file is a transformers `CLIPModel`; `hpskit.models.layouts` gives its tensors open_clip's names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from hpskit.models.checkpoint import Weights
from hpskit.models.clip import ClipNetwork

__all__ = ["PickScoreNetwork"]


class PickScoreNetwork(ClipNetwork):
    """A CLIP with the scale that it was trained with: the softmax of its scores is the loss's own."""

    scale = "logit scale x cosine, as published; a difference of 1 is one unit of log-odds"

    def __init__(
        self,
        *,
        architecture: str,
        weights: Weights,
        precision: Literal["fp32", "bf16", "fp16"],
        device: torch.device,
    ) -> None:
        """See `ClipNetwork`.

        Raises:
            CheckpointError: unknown architecture, or the weights are those of another.
        """
        super().__init__(architecture=architecture, weights=weights, precision=precision, device=device, antialias=True)
        self.preprocessing = replace(self.preprocessing, resize="crop-floor", pillow=True)
        self._logit_scale = float(self._model.logit_scale.float().exp())

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Two times (N, D) -> (N,) scores."""
        return self._logit_scale * (images * prompts).sum(dim=-1)
