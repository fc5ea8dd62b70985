"""PickScore: the cosine of image and prompt times the network's own logit scale (arXiv 2305.01569, section 4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from hpskit.errors import CheckpointError
from hpskit.models.network import Blueprint
from hpskit.models.networks.clip import ClipNetwork
from hpskit.pixels import Preprocessing

_RENAMED = (
    # transformers' CLIPModel, open_clip's CLIP
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.", ".attn."),
)
_TRANSPOSED = ("text_projection", "visual.proj")


class PickScoreNetwork(ClipNetwork):
    """A CLIP with the scale that it was trained with: the softmax of its scores is the loss's own."""

    def meaning(self, logit_scale: float) -> tuple[float, str]:  # noqa: ARG002  # as its parent is called
        """Return the log-odds of a point, and the scale in words."""
        return 1.0, "logit scale x cosine, as published; a difference of 1 is one unit of log-odds"

    def preprocess(self, size: int, plan: Blueprint) -> Preprocessing:  # noqa: ARG002  # as its parent is called
        """Return the preprocessing of the README's transformers, which rounds the margin down."""
        return Preprocessing(size=size, resize="crop-floor", pillow=True)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Two times (N, D) -> (N,) scores."""
        scale: Tensor = self._model.logit_scale.float().exp()
        return scale * (images * prompts).sum(dim=-1)

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the tensors of transformers' CLIPModel open_clip's names, and join query, key and value."""
        named: dict[str, Tensor] = {}
        for name, tensor in published[0].items():
            if name.endswith(".position_ids"):  # a row of numbers 0, 1, 2 …, of older transformers
                continue
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            named[name] = tensor.t().contiguous() if name in _TRANSPOSED else tensor
        for query in [name for name in named if ".attn.q_proj." in name]:
            triple = [query.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
            if missing := [name for name in triple if name not in named]:
                found = f"is missing beside {query}"
                raise CheckpointError(missing[0], found, expected="a checkpoint of CLIPModel", cure="fetch it again")
            named[query.replace(".q_proj.", ".in_proj_")] = torch.cat([named.pop(name) for name in triple])
        return named
