"""From the tensors of published files to those of one ready file.

Each kind of model was published in a layout of its own: other names for the same tensors, two files instead of one,
tensors that a score does not need. What is known to be there and not needed is left out by name; whatever else does
not fit is refused when the network is filled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hpskit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["State", "arrange"]

State = dict[str, "Tensor"]

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
_UNUSED_BY_CLIP = ("input_resolution", "context_length", "vocab_size")
"""Three numbers that OpenAI's own files hold beside the weights."""
_PARTS_OF_IMAGEREWARD = ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")
_UNUSED_BY_IMAGEREWARD = r"blip\.(vision_proj|text_proj)\.|.*\.position_ids$"
"""Projections for BLIP's contrastive loss, and a row of numbers 0, 1, 2 …"""


def arrange(kind: str, states: Sequence[Mapping[str, Tensor]]) -> State:
    """The tensors of a ready file, from those of the published files in the order of `Model.sources`.

    Raises:
        CheckpointError: a file is not of the layout of that kind.
    """
    if kind in _ARRANGED:
        return _ARRANGED[kind](*states)
    (state,) = states
    return dict(state)


def _openai(state: Mapping[str, Tensor]) -> State:
    return {name: tensor for name, tensor in state.items() if name not in _UNUSED_BY_CLIP}


def _pickscore(state: Mapping[str, Tensor]) -> State:
    """transformers' CLIPModel in open_clip's names, with query, key and value as one matrix."""
    import torch

    named: State = {}
    for published, tensor in state.items():
        if published.endswith(".position_ids"):
            continue
        name = published
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor.t().contiguous() if name in _TRANSPOSED else tensor
    for query in [name for name in named if ".attn.q_proj." in name]:
        triple = [query.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if missing := [name for name in triple if name not in named]:
            raise CheckpointError(f"{missing[0]}: is missing beside {query}; it is not a checkpoint of CLIPModel")
        named[query.replace(".q_proj.", ".in_proj_")] = torch.cat([named.pop(name) for name in triple])
    return named


def _aesthetic(clip: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> State:
    tower = {f"clip.{name}": tensor for name, tensor in _openai(clip).items()}
    return tower | {f"head.{name}": tensor for name, tensor in head.items()}


def _imagereward(model: Mapping[str, Tensor], vocabulary: Mapping[str, Tensor]) -> State:
    used = {name: tensor for name, tensor in model.items() if not re.match(_UNUSED_BY_IMAGEREWARD, name)}
    if strange := [name for name in used if not name.startswith(_PARTS_OF_IMAGEREWARD)]:
        raise CheckpointError(f"{strange[0]}: is no tensor of an ImageReward; it is not a checkpoint of one")
    return used | dict(vocabulary)


_ARRANGED: Mapping[str, Callable[..., State]] = {
    "clip-score": _openai,
    "pickscore": _pickscore,
    "aesthetic": _aesthetic,
    "imagereward": _imagereward,
}
