"""CLIP networks of open_clip, whose score is the cosine of image and prompt: HPS v2, HPS v1 and CLIP score.

Sources: `score` and `evaluate` of the official HPS v2 package, and arXiv 2306.09341, section 4. CLIP score: arXiv
2104.08718 (without its factor 2.5 and its cut at 0), with the preprocessing of open_clip's `image_transform` and of
OpenAI's `clip.load`; HPS v1 (arXiv 2303.14420) is computed in the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hpskit.models.architecture import (
    build,
    encode_text,
    fill,
    image_size,
    keep_residual_in_float32,
    packable,
    token_counter,
    tokenizer,
)
from hpskit.models.checkpoint import check_names
from hpskit.models.network import Blueprint, Network, autocast
from hpskit.models.packed import pack
from hpskit.pixels import CLIP_MEAN, CLIP_STD, Preprocessing

_UNUSED = ("input_resolution", "context_length", "vocab_size")
"""Three numbers that OpenAI's own files hold beside the weights."""


class ClipNetwork(Network):
    """An open_clip network with the weights of HPS v2; the base of its kin."""

    reads_prompt = True

    def __init__(self, plan: Blueprint) -> None:
        """Build the network without initialising it, and fill it.

        Raises:
            CheckpointError: the architecture is unknown, or the weights are those of another.
        """
        self.device = plan.device
        self._tokenizer = tokenizer(plan.architecture)
        model = build(plan.architecture)
        check_names(model, plan.weights, plan.architecture)
        on_cpu = plan.device.type == "cpu"
        packing = plan.precision == "bf16" and on_cpu and packable(model)
        self._autocast = plan.dtype if plan.precision != "fp32" and not packing else None
        # A prompt is rounded by its neighbours' length where it is padded to it: up to 0.03 points in bf16. Alone it
        # costs nothing on a CPU, where it saves the padding; packed networks need none.
        self._prompts_alone = on_cpu and plan.precision != "fp32" and not packing
        fill(model, plan.weights, plan.dtype, plan.device)
        if packing:
            pack(model)
        elif self._autocast is not None:
            keep_residual_in_float32(model)
        self._model: Any = model.eval().requires_grad_(False)
        self.log_odds_per_point, self.scale = self.meaning(min(100.0, float(model.logit_scale.float().exp())))
        self.differentiable = not packing
        self.preprocessing = self.preprocess(image_size(model), plan)

    def meaning(self, logit_scale: float) -> tuple[float, str]:
        """Return the log-odds of a point, and the scale in words.

        P(a preferred to b) = sigmoid(logit_scale x difference of cosines), and a point is a hundredth of a cosine. HPS
        v2 was trained up to the limit, 100, so that a point is one unit of log-odds; a model that ended below it is
        less sure.
        """
        factor = 1.0 if logit_scale > 99.5 else logit_scale / 100
        unit = "one unit" if factor == 1 else f"{factor:.3g} units"
        return factor, f"100 x cosine; a difference of 1 is {unit} of log-odds"

    def preprocess(self, size: int, plan: Blueprint) -> Preprocessing:
        """Return how HPS v2 sees images of `size` pixels; its kin see them otherwise."""
        return Preprocessing(size=size, antialias=plan.antialias)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, D) float32 of unit length."""
        with autocast(self.device, self._autocast):
            features: Tensor = self._model.encode_image(pixels.to(self.device))
        return normalize(features.float(), dim=-1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, D) float32 of unit length.

        Tokens beyond the context of the network are not read, as in the official code, but a warning says so.
        """
        tokens = self._tokenizer(list(prompts))
        count_tokens = token_counter(self._tokenizer)
        if count_tokens is not None:
            for row in (tokens[:, -1] != 0).nonzero()[:, 0].tolist():
                warn_of_long_prompt(prompts[row], count_tokens(prompts[row]), tokens.shape[1])
        parts = tokens.split(1) if self._prompts_alone else (tokens,)
        with autocast(self.device, self._autocast):
            features = torch.cat([encode_text(self._model, part.to(self.device)) for part in parts])
        return normalize(features.float(), dim=-1)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Two times (N, D) -> (N,) scores."""
        return 100 * (images * prompts).sum(dim=-1)


class ClipScoreNetwork(ClipNetwork):
    """An open_clip network that sees images as CLIP's authors showed them."""

    def meaning(self, logit_scale: float) -> tuple[float, str]:
        """Return the log-odds of a point by CLIP's own loss, and the scale in words."""
        words = "100 x cosine; by CLIP's own loss a difference of 1 is logit scale / 100 units of log-odds"
        return logit_scale / 100, words

    def preprocess(self, size: int, plan: Blueprint) -> Preprocessing:
        """Return the preprocessing that open_clip's list gives the network, or CLIP's own."""
        return clip_preprocessing(size, plan.settings)

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Leave out the numbers that OpenAI's files hold beside the weights."""
        return {name: tensor for name, tensor in published[0].items() if name not in _UNUSED}


def clip_preprocessing(size: int, settings: Mapping[str, str]) -> Preprocessing:
    """Return the preprocessing that `resize`, `interpolation`, `mean` and `std` of open_clip's list of pretrained
    networks say; each defaults to CLIP's own."""

    def channels(name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        red, green, blue = map(float, settings[name].split(",")) if name in settings else default
        return red, green, blue

    return Preprocessing(
        size=size,
        resize=settings.get("resize", "crop"),  # type: ignore[arg-type]  # checked there
        interpolation=settings.get("interpolation", "bicubic"),  # type: ignore[arg-type]  # likewise
        pillow=True,
        mean=channels("mean", CLIP_MEAN),
        std=channels("std", CLIP_STD),
    )


def warn_of_long_prompt(prompt: str, tokens: int, read: int) -> None:
    """Warn if a prompt has more tokens than the network reads."""
    if tokens > read:
        warnings.warn(f"prompt has {tokens} tokens, the model reads the first {read}: {prompt[:60]!r}…", stacklevel=3)
