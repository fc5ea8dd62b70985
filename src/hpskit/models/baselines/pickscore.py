"""PickScore: the cosine of image and prompt times the network's own logit scale (arXiv 2305.01569, section 4).

The published file is a transformers `CLIPModel`; `hpskit.models.layouts` gives its tensors open_clip's names.
"""

from __future__ import annotations

from torch import Tensor

from hpskit.models.clip import ClipNetwork
from hpskit.models.network import Blueprint
from hpskit.pixels import Preprocessing

__all__ = ["PickScoreNetwork"]


class PickScoreNetwork(ClipNetwork):
    """A CLIP with the scale that it was trained with: the softmax of its scores is the loss's own."""

    def _meaning(self, logit_scale: float) -> tuple[float, str]:  # noqa: ARG002  # as its parent is called
        return 1.0, "logit scale x cosine, as published; a difference of 1 is one unit of log-odds"

    def _preprocessing(self, size: int, plan: Blueprint) -> Preprocessing:  # noqa: ARG002  # as its parent is called
        return Preprocessing(size=size, resize="crop-floor", pillow=True)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Two times (N, D) -> (N,) scores."""
        scale: Tensor = self._model.logit_scale.float().exp()
        return scale * (images * prompts).sum(dim=-1)
