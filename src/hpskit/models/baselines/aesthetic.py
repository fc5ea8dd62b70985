"""LAION's improved aesthetic predictor: a linear head on the image embedding of OpenAI's CLIP ViT-L/14.

Source: https://github.com/christophschuhmann/improved-aesthetic-predictor, `simple_inference.py`. It was fitted by
mean squared error to ratings from 1 to 10 (AVA, Simulacra, LAION-Logos) and does not read the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from hpskit.errors import CheckpointError
from hpskit.models.baselines.clip_score import ClipScoreNetwork
from hpskit.models.network import Blueprint

__all__ = ["AestheticNetwork", "RegressionHead"]


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


class AestheticNetwork:
    """The head on a CLIP, of which only the image tower runs; see `hpskit.models.network.Network`."""

    scale = "rating from about 1 to 10, fitted by squared error; not log-odds, so it gives no probability"
    log_odds_per_point = None
    reads_prompt = False

    def __init__(self, plan: Blueprint) -> None:
        """Fill the CLIP from the tensors `clip.…` and the head, which stays in float32, from `head.…`.

        Raises:
            CheckpointError: unknown architecture, or the weights are those of another.
        """
        self._clip = ClipScoreNetwork(replace(plan.part("clip."), settings={}))
        self._head = fill_head(plan.part("head."))
        self.device = plan.device
        self.differentiable = self._clip.differentiable
        self.preprocessing = self._clip.preprocessing

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, 1) float32 ratings."""
        rating: Tensor = self._head(self._clip.encode_images(pixels))
        return rating[:, None]

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, 0): they are not read."""
        return torch.empty(len(prompts), 0, device=self.device)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:  # noqa: ARG002  # the contract has prompts
        """(N, 1) and anything -> (N,)."""
        return images[:, 0]


def fill_head(plan: Blueprint) -> RegressionHead:
    """The head with its weights, in float32, frozen.

    Raises:
        CheckpointError: they are not those of such a head.
    """
    weights, shapes = plan.weights, plan.weights.shapes()
    features = shapes.get("layers.0.weight", (0, 0))[1]
    with torch.device("meta"):
        head = RegressionHead(features)
    if shapes != {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}:
        raise CheckpointError(f"{weights.origin}: its head is not that of the aesthetic predictor; fetch it again")
    state = {name: tensor.to(device=plan.device, dtype=torch.float32) for name, tensor in weights.tensors()}
    head.load_state_dict(state, strict=True, assign=True)
    return head.eval().requires_grad_(False)
