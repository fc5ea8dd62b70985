"""LAION's improved aesthetic predictor: a linear head on the image embedding of OpenAI's CLIP ViT-L/14.

Source: https://github.com/christophschuhmann/improved-aesthetic-predictor, `simple_inference.py`. It was fitted by
mean squared error to ratings from 1 to 10 (AVA, Simulacra, LAION-Logos) and does not read the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from hpskit.models.architecture import fill
from hpskit.models.checkpoint import check_names
from hpskit.models.network import Blueprint, ImageNetwork
from hpskit.models.networks.clip import ClipScoreNetwork


class RegressionHead(nn.Module):
    """Five linear layers with nothing between them but dropout, which does nothing when scoring.

    The numbers in the names count the places of the dropout layers, as in the published files. ImageReward has the
    same head.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        sides = (features, 1024, 128, 64, 16, 1)
        linear = (nn.Linear(before, after) for before, after in pairwise(sides))
        self.layers = nn.ModuleDict(dict(zip("02467", linear, strict=True)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, F) -> (N,)."""
        for layer in self.layers.values():
            x = layer(x)
        return x[:, 0]

    @classmethod
    def filled(cls, plan: Blueprint) -> RegressionHead:
        """Build the head with its weights, in float32, frozen.

        Raises:
            CheckpointError: they are not those of such a head.
        """
        features = plan.weights.shapes().get("layers.0.weight", (0, 0))[1]
        with torch.device("meta"):
            head = cls(features)
        check_names(head, plan.weights, "a regression head", option=None)
        fill(head, plan.weights, torch.float32, plan.device)
        return head.eval().requires_grad_(False)


class AestheticNetwork(ImageNetwork):
    """The head on a CLIP, of which only the image tower runs."""

    scale = "rating from about 1 to 10, fitted by squared error; not log-odds, so it gives no probability"
    log_odds_per_point = None

    def __init__(self, plan: Blueprint) -> None:
        """Fill the CLIP from the tensors `clip.…` and the head, which stays in float32, from `head.…`.

        Raises:
            CheckpointError: the architecture is unknown, or the weights are those of another.
        """
        self._clip = ClipScoreNetwork(replace(plan.part("clip."), settings={}))
        self._head = RegressionHead.filled(plan.part("head."))
        self.device = plan.device
        self.differentiable = self._clip.differentiable
        self.preprocessing = self._clip.preprocessing

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, 1) float32 ratings."""
        rating: Tensor = self._head(self._clip.encode_images(pixels))
        return rating[:, None]

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the CLIP and the head in one file."""
        clip, head = ClipScoreNetwork.arrange(published[0]), published[1]
        return {f"clip.{name}": clip[name] for name in clip} | {f"head.{name}": head[name] for name in head}
