"""CLIP score: 100 x the cosine of image and prompt, in an untuned CLIP or in one that was tuned without a new scale.

Source: arXiv 2104.08718 (without its factor 2.5 and its cut at 0); the preprocessing is that of open_clip's
`image_transform` and of OpenAI's `clip.load`. HPS v1 (arXiv 2303.14420) is computed in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from hpskit.models.checkpoint import Weights
from hpskit.models.clip import ClipNetwork
from hpskit.pixels import Preprocessing

__all__ = ["ClipScoreNetwork"]


class ClipScoreNetwork(ClipNetwork):
    """An open_clip network that sees images as CLIP's authors showed them."""

    scale = "100 x cosine; by CLIP's own loss a difference of 1 is one unit of log-odds"

    def __init__(
        self,
        *,
        architecture: str,
        weights: Weights,
        precision: Literal["fp32", "bf16", "fp16"],
        device: torch.device,
        settings: Mapping[str, str],
    ) -> None:
        """See `ClipNetwork`; `settings` may hold `resize`, `interpolation`, `mean` and `std`, as open_clip's list of
        pretrained networks does. Without them they are CLIP's own.

        Raises:
            CheckpointError: unknown architecture, or the weights are those of another.
        """
        super().__init__(architecture=architecture, weights=weights, precision=precision, device=device, antialias=True)
        self.preprocessing = _preprocessing(self.preprocessing, settings)


def _preprocessing(default: Preprocessing, settings: Mapping[str, str]) -> Preprocessing:
    return replace(
        default,
        resize=settings.get("resize", "crop"),  # type: ignore[arg-type]  # checked there
        interpolation=settings.get("interpolation", "bicubic"),  # type: ignore[arg-type]  # likewise
        pillow=True,
        mean=_channels(settings["mean"]) if "mean" in settings else default.mean,
        std=_channels(settings["std"]) if "std" in settings else default.std,
    )


def _channels(text: str) -> tuple[float, float, float]:
    red, green, blue = map(float, text.split(","))
    return red, green, blue
