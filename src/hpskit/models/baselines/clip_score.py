"""CLIP score: 100 x the cosine of image and prompt, in an untuned CLIP or in one that was tuned without a new scale.

Source: arXiv 2104.08718 (without its factor 2.5 and its cut at 0); the preprocessing is that of open_clip's
`image_transform` and of OpenAI's `clip.load`. HPS v1 (arXiv 2303.14420) is computed in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpskit.models.clip import ClipNetwork
from hpskit.models.network import Blueprint
from hpskit.pixels import CLIP_MEAN, CLIP_STD, Preprocessing

__all__ = ["ClipScoreNetwork", "clip_preprocessing"]


class ClipScoreNetwork(ClipNetwork):
    """An open_clip network that sees images as CLIP's authors showed them."""

    def _meaning(self, logit_scale: float) -> tuple[float, str]:
        return (
            logit_scale / 100,
            "100 x cosine; by CLIP's own loss a difference of 1 is logit scale / 100 units of log-odds",
        )

    def _preprocessing(self, size: int, plan: Blueprint) -> Preprocessing:
        return clip_preprocessing(size, plan.settings)


def clip_preprocessing(size: int, settings: Mapping[str, str]) -> Preprocessing:
    """`settings` may hold `resize`, `interpolation`, `mean` and `std`, as open_clip's list of pretrained networks does.
    Without them they are CLIP's own."""
    return Preprocessing(
        size=size,
        resize=settings.get("resize", "crop"),  # type: ignore[arg-type]  # checked there
        interpolation=settings.get("interpolation", "bicubic"),  # type: ignore[arg-type]  # likewise
        pillow=True,
        mean=_channels(settings["mean"]) if "mean" in settings else CLIP_MEAN,
        std=_channels(settings["std"]) if "std" in settings else CLIP_STD,
    )


def _channels(text: str) -> tuple[float, float, float]:
    red, green, blue = map(float, text.split(","))
    return red, green, blue
