"""MPS: CLIP whose image tokens look four times at those words of the prompt that are near a list of conditions.

Sources: Zhang et al., CVPR 2024, and https://github.com/Kwai-Kolors/MPS, whose two ways to score are the two rules. Its
evaluation scores one image at a time; its model, which trained it and which its README shows, measures the nearness of
all prompts of a batch by the nearest word of them all, so that there a score depends on its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, silu

from hpskit.errors import CheckpointError, InputError
from hpskit.models.architecture import (
    build,
    fill,
    image_size,
    keep_residual_in_float32,
    token_counter,
    tokenizer,
)
from hpskit.models.checkpoint import check_names
from hpskit.models.network import Blueprint, Network, autocast
from hpskit.models.networks.clip import warn_of_long_prompt
from hpskit.models.networks.pickscore import PickScoreNetwork
from hpskit.models.registry import MPS_RULES
from hpskit.pixels import Preprocessing

CONDITIONS = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)
"""The words that the published weights were trained with."""
_HEAD = 64


class Look(nn.Module):
    """Image tokens look at text tokens; beside that each thinks for itself. All heads share one key and value."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * _HEAD, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        sides = {"0": (width, 8 * width), "2": (4 * width, width)}
        self.ff = nn.ModuleDict({name: nn.Linear(*both, bias=False) for name, both in sides.items()})

    def forward(self, x: Tensor, text: Tensor, hidden: Tensor) -> Tensor:
        """(N, T, C), (N, L, C) and (N, L), true for text that is not looked at -> (N, T, C)."""
        normed = self.norm(x)
        key, value = self.to_kv(text).chunk(2, dim=-1)
        found = attend(self.to_q(normed).unflatten(-1, (-1, _HEAD)), key, value, hidden)
        added: Tensor = self.to_out(found) + self.ff["2"](gated(self.ff["0"](normed)))
        return x + added


class Think(nn.Module):
    """Image tokens look at one another, beside a feed-forward layer; queries and keys turn with their place."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.parts = (inner, _HEAD, _HEAD, 8 * width)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(inner, width, bias=False)
        self.ff_out = nn.ModuleDict({"1": nn.Linear(4 * width, width, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) -> (N, T, C)."""
        query, key, value, wide = self.fused_attn_ff_proj(self.norm(x)).split(self.parts, dim=-1)
        angles = turns(x.shape[1], x.device)
        heads = turned(query.unflatten(-1, (-1, _HEAD)), angles[:, None])
        added: Tensor = self.attn_out(attend(heads, turned(key, angles), value)) + self.ff_out["1"](gated(wide))
        return x + added


def gated(x: Tensor) -> Tensor:
    """(…, 2 C) -> (…, C): the first half, as far as the second lets it through."""
    first, gate = x.chunk(2, dim=-1)
    return silu(gate) * first


def attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:
    """(N, T, heads, 64), twice (N, L, 64) and (N, L) -> (N, T, heads x 64)."""
    nearness = torch.einsum("nthd,nld->nthl", query * _HEAD**-0.5, key)
    if hidden is not None:
        nearness = nearness.masked_fill(hidden[:, None, None], float("-inf"))
    return torch.einsum("nthl,nld->nthd", nearness.softmax(dim=-1).to(value.dtype), value).flatten(2)


def turns(count: int, device: torch.device) -> Tensor:
    """Return the angles of `count` places, (count, 64): rotary embedding, arXiv 2104.09864."""
    speeds = 10_000.0 ** -(torch.arange(0, _HEAD, 2, device=device) / _HEAD)
    angles = torch.arange(count, device=device)[:, None] * speeds
    return torch.cat([angles, angles], dim=-1)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair of the two halves of the last axis by an angle."""
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


class MpsNetwork(Network):
    """CLIP and the blocks above it. Image and prompt meet in `compare`, which also does the text's work."""

    scale = "logit scale x cosine, as published; a difference of 1 is one unit of log-odds"
    log_odds_per_point = 1.0
    reads_prompt = True
    differentiable = True

    def __init__(self, plan: Blueprint) -> None:
        """Build CLIP and the blocks without initialising them, and fill them.

        Raises:
            CheckpointError: the weights are not those of an MPS.
        """
        self.device = plan.device
        self._autocast = plan.dtype if plan.precision != "fp32" else None
        self._rule = plan.settings.get("rule", "per-image")
        self._tokenizer = tokenizer(plan.architecture)
        clip, above = build(plan.architecture), plan.part("cross.")
        size = image_size(clip)
        queries = {name: shape for name, shape in above.weights.shapes().items() if name.endswith(".to_q.weight")}
        if not queries:
            expected, cure = "those of an MPS, cross.….to_q.weight among them", "fetch it again"
            raise CheckpointError(plan.weights.origin, "has other tensors", expected=expected, cure=cure)
        with torch.device("meta"):
            inner, width = next(iter(queries.values()))
            pairs = (nn.ModuleList([Look(width, inner), Think(width, inner)]) for _ in queries)
            blocks = nn.ModuleList(pairs)
        for model, own in ((clip, plan.part("clip.")), (blocks, above)):
            check_names(model, own.weights, "MPS", option=None)
            fill(model, own.weights, plan.dtype, plan.device)
            model.eval().requires_grad_(False)
        if self._autocast is not None:
            keep_residual_in_float32(clip)
        # Both towers give all their tokens; those of the image as they are before the last norm.
        clip.text_pool_type = clip.visual.pool_type = "none"
        clip.visual.ln_post = nn.Identity()
        self._clip: Any = clip
        self._blocks: Any = blocks
        self.preprocessing = Preprocessing(size=size, resize="crop-floor", pillow=True)
        conditions = self.encode_prompts([plan.settings.get("conditions", CONDITIONS)])
        self._conditions = self._read(conditions)[0]

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, tokens x D) float32: everything that looks at the text."""
        with autocast(self.device, self._autocast):
            tokens: Tensor = self._clip.visual(pixels.to(self.device))
        return tokens.float().flatten(1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, 77): numbers of tokens as float32, filled up with the end token, as in transformers.

        The features of a prompt would be a thousand times as large, and scorers keep thousands of prompts.
        """
        tokens: Tensor = self._tokenizer(list(prompts))
        count = token_counter(self._tokenizer)
        for prompt in prompts if count else ():
            warn_of_long_prompt(prompt, count(prompt), tokens.shape[1])  # type: ignore[misc]  # there is one
        ends = tokens.argmax(dim=-1, keepdim=True)  # the end token has the largest number
        beyond = torch.arange(tokens.shape[1]) > ends
        return torch.where(beyond, tokens.amax(), tokens).float().to(self.device)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, tokens x D) and (N, 77) -> (N,) scores.

        Raises:
            InputError: by the rule `whole-batch` there is a prompt none of whose words is near, where the original
                gives NaN.
        """
        different, which = prompts.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        text = self._read(different)
        nearness = (text @ self._conditions.T).amax(dim=-1)
        best = nearness.amax() if self._rule == "whole-batch" else nearness.amax(dim=-1, keepdim=True)
        hidden = ~(nearness / best > MPS_RULES[self._rule])
        if bool(hidden.all(dim=-1).any()):
            found = "is of a batch with another whose words are a hundred times as near to the conditions"
            raise InputError("mps:whole-batch: a prompt", found, cure="use mps, whose scores need no other prompts")
        x = images.view(len(images), -1, text.shape[-1])
        ends = different.argmax(dim=-1)
        sentence = text[torch.arange(len(text), device=text.device), ends][which]
        with autocast(self.device, self._autocast):
            for look, think in self._blocks:
                x = think(look(x, text[which], hidden[which]))
        cosine = (normalize(x[:, 0].float(), dim=-1) * normalize(sentence, dim=-1)).sum(dim=-1)
        scale: Tensor = self._clip.logit_scale.float().exp()
        return scale * cosine

    def _read(self, numbers: Tensor) -> Tensor:
        """(M, 77) numbers of tokens -> (M, 77, D) float32."""
        with torch.no_grad(), autocast(self.device, self._autocast):
            features: Tensor = self._clip.encode_text(numbers.long())
        return features.float()

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take the state dict of the authors' model, or imscore's, which has `mps.` before every name."""
        plain = {name.removeprefix("mps."): tensor for name, tensor in published[0].items()}
        clip = {name.removeprefix("model."): tensor for name, tensor in plain.items() if name.startswith("model.")}
        arranged = {f"clip.{name}": tensor for name, tensor in PickScoreNetwork.arrange(clip).items()}
        for name, tensor in plain.items():
            if found := re.fullmatch(r"cross_model\.layers\.(\d+\.[01])\.fn\.(.+)", name):
                if not found[2].endswith("inv_freq"):  # computed in `turns`
                    arranged[f"cross.{found[1]}.{found[2]}"] = tensor
            elif not name.startswith("model."):
                raise CheckpointError(name, "is no tensor of an MPS", cure="give a checkpoint of one")
        return arranged
