"""Networks of open_clip, and hpskit's own: built without memory, filled with weights, and their tokenizers."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from torch import Tensor, nn

from hpskit.errors import CheckpointError, InputError, shown
from hpskit.models.checkpoint import Weights
from hpskit.models.packed import PackedBlock
from hpskit.schema import nearest


@functools.cache  # to read its words takes a tenth of a second, and a run asks several times
def tokenizer(architecture: str) -> Any:
    """Return the function from prompts to (prompts, context) tokens, for a network of open_clip or of hpskit's own.

    Raises:
        CheckpointError: there is no such network, or its tokenizer is not on this machine.
    """
    check_architecture(architecture)
    try:
        return open_clip.get_tokenizer(architecture)
    except (OSError, ImportError) as error:
        found = f"the tokenizer of {architecture} cannot be had ({str(error).splitlines()[0]})"
        cure = "run it once where the Hugging Face hub can be reached, or take a network without one, such as ViT-H-14"
        raise CheckpointError("architecture", found, cure=cure) from error


def check_architecture(architecture: str) -> None:
    """See that open_clip or hpskit has a network of that name, and that it is no address of one.

    Raises:
        CheckpointError: there is none; the error suggests the nearest name.
    """
    _register_own()
    if architecture not in open_clip.list_models():
        guess = nearest(architecture, open_clip.list_models())
        cure = f"did you mean {guess!r}?" if guess else "see open_clip.list_models()"
        raise CheckpointError("architecture", f"{shown(architecture)} is not one of open_clip's", cure=cure)


def token_counter(tokenizer: Any) -> Callable[[str], int] | None:
    """Return the function that counts all tokens of a prompt, with those at its ends, even those that are not read.

    None for a tokenizer of another library, which cannot say how long the whole text is.
    """
    encode = getattr(tokenizer, "encode", None)
    return None if encode is None else lambda prompt: len(encode(prompt)) + 2


@functools.cache
def _register_own() -> None:
    """Make open_clip know the networks that hpskit defines."""
    open_clip.add_model_config(Path(__file__).with_name("architectures"))


def build(architecture: str, *, device: str = "meta") -> Any:
    """Build the network with random weights; on `meta` its parameters have shapes but no memory yet.

    Raises:
        CheckpointError: there is no such network.
    """
    check_architecture(architecture)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that no pretrained weights were loaded: ours come next
    try:
        with torch.device(device):
            return open_clip.create_model(architecture, load_weights=False, pretrained_text=False, device=device)
    finally:
        logging.disable(level)


def fill(
    model: nn.Module, weights: Weights, dtype: torch.dtype, device: torch.device, *, throughout: bool = False
) -> None:
    """Give every parameter its memory: matrices of linear layers and convolutions in `dtype`, the rest in float32.

    With `throughout` everything is in `dtype`, as in language models whose weights are published so.

    Raises:
        CheckpointError: a tensor is of integers where numbers are expected.
    """
    state: dict[str, Tensor] = {}
    floating = {name: tensor.is_floating_point() for name, tensor in model.state_dict().items()}
    low = set() if dtype == torch.float32 else {*floating} if throughout else _matrices(model)
    for name, tensor in weights.tensors():
        if floating[name] and not tensor.is_floating_point():
            found, cure = f"holds {name} as {tensor.dtype}", "convert the checkpoint to floating point"
            raise CheckpointError(weights.origin, found, expected="a float", cure=cure)
        wanted = dtype if name in low else torch.float32 if tensor.is_floating_point() else tensor.dtype
        # In float32 the mapped file itself is the memory; otherwise one mapped tensor kept would keep the whole file.
        state[name] = tensor.to(device=device, dtype=wanted, copy=dtype != torch.float32)
    model.load_state_dict(state, strict=True, assign=True)
    for name, buffer in [*model.named_buffers()]:  # those that no checkpoint holds: they follow from the architecture
        if not buffer.is_meta:
            continue
        owner, _, leaf = name.rpartition(".")
        if leaf == "attn_mask":
            computed = torch.full(buffer.shape, float("-inf")).triu_(1)
        elif leaf == "position_ids":
            computed = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        else:
            found = f"computes its buffer {leaf!r} at construction, which hpskit does not know"
            raise CheckpointError("architecture", found, cure="take another")
        model.get_submodule(owner).register_buffer(leaf, computed.to(device), persistent=False)


def _matrices(model: nn.Module) -> set[str]:
    """Return the names of the tensors that may be rounded: those of linear layers, convolutions and attention."""
    names = set()
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            names |= {f"{prefix}.weight", f"{prefix}.bias"}
        elif isinstance(module, nn.MultiheadAttention):
            names |= {f"{prefix}.in_proj_weight", f"{prefix}.in_proj_bias"}
    if packable(model):  # 1 % of the work, and the first thing that happens to the pixels: not worth the error
        names -= {"visual.conv1.weight"}
    return names


def packable(model: nn.Module) -> bool:
    """Tell if all attention of a network is in blocks that `pack` replaces."""
    blocks = (m for m in model.modules() if isinstance(m, nn.MultiheadAttention))
    owners = (m.attn for m in model.modules() if type(m) is ResidualAttentionBlock)
    return type(model) is CLIP and type(model.visual) is VisionTransformer and set(blocks) <= set(owners)


def keep_residual_in_float32(model: nn.Module) -> None:
    """Give transformers float32: under autocast one adds its blocks to whatever type it was given."""
    for module in model.modules():
        if isinstance(module, Transformer):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


def image_size(model: nn.Module) -> int:
    """Return height and width of the images of a network, in pixels.

    Raises:
        InputError: they are not square.
    """
    size = getattr(model.visual, "image_size", 224)
    if isinstance(size, Sequence):
        if size[0] != size[1]:
            raise InputError(
                "architecture", f"has images of {tuple(size)}", expected="square ones", cure="take another"
            )
        size = size[0]
    return int(size)


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """(M, context) tokens -> (M, D) text features.

    In a causal text tower nothing after the end token changes it: the padding is left out, which makes a short prompt
    four times as fast (the features are the same to rounding).
    """
    if type(model) is not CLIP or model.attn_mask is None or model.text_pool_type != "argmax":
        features: Tensor = model.encode_text(tokens)
        return features
    ends = tokens.argmax(dim=-1)  # the end token has the largest number
    if isinstance(model.transformer.resblocks[0], PackedBlock):
        x = _one_after_another(model, tokens, (ends + 1).tolist())
    else:
        length = int(ends.max()) + 1
        x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        x = model.ln_final(x)[torch.arange(len(x), device=x.device), ends]
    projection = model.text_projection
    projected: Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return projected


def _one_after_another(model: Any, tokens: Tensor, lengths: list[int]) -> Tensor:
    """(M, context) tokens -> (M, C): the end token of each text, all of them in one row.

    A text alone is a matrix of 20 to 45 rows, with which products reach half of their speed.
    """
    texts = [
        model.token_embedding(row[:n]) + model.positional_embedding[:n] for row, n in zip(tokens, lengths, strict=True)
    ]
    x = torch.cat(texts)[None]
    for block in model.transformer.resblocks:
        x = block(x, lengths=lengths)
    ends = torch.tensor(lengths, device=x.device).cumsum(0) - 1
    found: Tensor = model.ln_final(x[0, ends])
    return found
