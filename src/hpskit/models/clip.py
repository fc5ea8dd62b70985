"""CLIP preference models on open_clip's networks: the score is 100 x the cosine of image and prompt.

Source: `score` and `evaluate` of the official package; arXiv 2306.09341, section 4.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn.functional import normalize

from hpskit.errors import CheckpointError, InputError
from hpskit.models.checkpoint import Weights
from hpskit.models.network import Blueprint, autocast
from hpskit.models.packed import pack
from hpskit.pixels import Preprocessing

__all__ = [
    "ClipNetwork",
    "build",
    "check_names",
    "encode_text",
    "fill",
    "image_size",
    "keep_residual_in_float32",
    "tokenizer",
]

_SHOWN_KEYS = 3


class ClipNetwork:
    """An open_clip network with the weights of a preference model; see `hpskit.models.network.Network`."""

    reads_prompt = True

    def __init__(self, plan: Blueprint) -> None:
        """Build the network without initialising it, and fill it.

        Raises:
            CheckpointError: unknown architecture, or the weights are those of another.
        """
        self.device = plan.device
        self._tokenizer = tokenizer(plan.architecture)
        model = build(plan.architecture)
        check_names(model, plan.weights, plan.architecture)
        on_cpu = plan.device.type == "cpu"
        packing = plan.precision == "bf16" and on_cpu and _packable(model)
        self._autocast = plan.dtype if plan.precision != "fp32" and not packing else None
        # A prompt is rounded by its neighbours' length: up to 0.03 points in bf16. Alone it costs nothing on a CPU,
        # where it saves the padding.
        self._prompts_alone = on_cpu and plan.precision != "fp32"
        fill(model, plan.weights, plan.dtype, plan.device)
        if packing:
            pack(model)
        elif self._autocast is not None:
            keep_residual_in_float32(model)
        self._model: Any = model.eval().requires_grad_(False)
        self.log_odds_per_point, self.scale = self._meaning(min(100.0, float(model.logit_scale.float().exp())))
        self.differentiable = not packing
        self.preprocessing = self._preprocessing(image_size(model), plan)

    def _meaning(self, logit_scale: float) -> tuple[float, str]:
        """Log-odds of a point, and the scale in words.

        P(a preferred to b) = sigmoid(logit_scale x difference of cosines), and a point is a hundredth of a cosine. HPS
        v2 was trained up to the limit, 100, so that a point is one unit of log-odds; a model that ended below it is
        less sure.
        """
        factor = 1.0 if logit_scale > 99.5 else logit_scale / 100
        unit = "one unit" if factor == 1 else f"{factor:.3g} units"
        return factor, f"100 x cosine; a difference of 1 is {unit} of log-odds"

    def _preprocessing(self, size: int, plan: Blueprint) -> Preprocessing:
        """How HPS v2 sees images; its kin see them otherwise."""
        return Preprocessing(size=size, antialias=plan.antialias)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, D) float32 of unit length."""
        with autocast(self.device, self._autocast):
            features: Tensor = self._model.encode_image(pixels.to(self.device))
        return normalize(features.float(), dim=-1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, D) float32 of unit length. What lies beyond the context of the network is not read, as
        in the official code, but a warning says so."""
        tokens = self._tokenizer(list(prompts))
        self._warn_of_long_prompts(prompts, tokens)
        parts = tokens.split(1) if self._prompts_alone else (tokens,)
        with autocast(self.device, self._autocast):
            features = torch.cat([encode_text(self._model, part.to(self.device)) for part in parts])
        return normalize(features.float(), dim=-1)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Two times (N, D) -> (N,) scores."""
        return 100 * (images * prompts).sum(dim=-1)

    def _warn_of_long_prompts(self, prompts: Sequence[str], tokens: Tensor) -> None:
        context = tokens.shape[1]
        count_tokens = token_counter(self._tokenizer)
        if count_tokens is None:
            return
        for row in (tokens[:, -1] != 0).nonzero()[:, 0].tolist():
            count = count_tokens(prompts[row])
            if count > context:
                message = f"prompt has {count} tokens, the model reads the first {context}: {prompts[row][:60]!r}…"
                warnings.warn(message, stacklevel=2)


def tokenizer(architecture: str) -> Any:
    """What turns prompts into (prompts, context) numbers for a network of open_clip, or of hpskit's own.

    Raises:
        CheckpointError: there is no such network, or its tokenizer is not on this machine.
    """
    _register_own()
    if architecture not in open_clip.list_models():
        import difflib

        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else "see open_clip.list_models()"
        raise CheckpointError(f"architecture: {architecture!r} is not one of open_clip's; {hint}")
    try:
        return open_clip.get_tokenizer(architecture)
    except (OSError, ImportError) as error:
        reason = str(error).splitlines()[0]
        cure = "run it once where the Hugging Face hub can be reached, or take a network without one, such as ViT-H-14"
        raise CheckpointError(
            f"architecture: the tokenizer of {architecture} cannot be had ({reason}); {cure}"
        ) from error


def token_counter(tokenizer: Any) -> Callable[[str], int] | None:
    """What counts all tokens of a prompt, with those at its ends, whether the network reads as many or not.

    None for a tokenizer of another library, which cannot say how long the whole text is.
    """
    encode = getattr(tokenizer, "encode", None)
    return None if encode is None else lambda prompt: len(encode(prompt)) + 2


@functools.cache
def _register_own() -> None:
    """Make open_clip know the networks that hpskit defines."""
    open_clip.add_model_config(Path(__file__).with_name("architectures"))


def build(architecture: str, *, device: str = "meta") -> Any:
    """The network with random weights; on `meta` with parameters that have shapes but no memory yet."""
    _register_own()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that no pretrained weights were loaded: ours come next
    try:
        with torch.device(device):
            return open_clip.create_model(architecture, load_weights=False, pretrained_text=False, device=device)
    finally:
        logging.disable(level)


def check_names(model: nn.Module, weights: Weights, architecture: str, *, option: str = "--arch") -> None:
    """See that a file holds the tensors of a network, all of them and no others.

    Args:
        model: the network.
        weights: the file.
        architecture: name of the network, for the error.
        option: where the user gives it, for the error.

    Raises:
        CheckpointError: it does not; the message names a few.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = weights.shapes()
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shapes = [name for name in expected if name in found and expected[name] != found[name]]
    if not (missing or unexpected or shapes):
        return
    parts = [_few("missing", missing), _few("unexpected", unexpected)]
    parts += [f"{name} is {found[name]}, expected {expected[name]}" for name in shapes[:_SHOWN_KEYS]]
    details = "; ".join(part for part in parts if part)
    cure = f"give the architecture that it was trained with by {option}"
    raise CheckpointError(f"{weights.origin}: is not a checkpoint of {architecture}: {details}; {cure}")


def _few(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return f"{what} {', '.join(sorted(names)[:_SHOWN_KEYS])}{more}"


def fill(model: nn.Module, weights: Weights, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter its memory: matrices of linear layers and convolutions in `dtype`, the rest float32."""
    low = _matrices(model) if dtype != torch.float32 else set()
    state = {}
    floating = {name: tensor.is_floating_point() for name, tensor in model.state_dict().items()}
    for name, tensor in weights.tensors():
        if floating[name] and not tensor.is_floating_point():
            cure = "convert the checkpoint to floating point"
            raise CheckpointError(f"{weights.origin}: {name} is of type {tensor.dtype}, expected a float; {cure}")
        wanted = dtype if name in low else torch.float32 if tensor.is_floating_point() else tensor.dtype
        # In float32 the mapped file itself is the memory; otherwise one mapped tensor kept would keep the whole file.
        state[name] = tensor.to(device=device, dtype=wanted, copy=dtype != torch.float32)
    model.load_state_dict(state, strict=True, assign=True)
    for name, buffer in [*model.named_buffers()]:
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            model.get_submodule(owner).register_buffer(
                leaf, _computed_buffer(leaf, buffer).to(device), persistent=False
            )


def _computed_buffer(leaf: str, buffer: Tensor) -> Tensor:
    """A buffer that no checkpoint holds because it follows from the architecture."""
    if leaf == "attn_mask":
        return torch.full(buffer.shape, float("-inf")).triu_(1)
    if leaf == "position_ids":
        return torch.arange(buffer.shape[-1]).expand(buffer.shape)
    raise CheckpointError(f"architecture: buffer {leaf!r} is computed at construction, which hpskit does not know yet")


def _matrices(model: nn.Module) -> set[str]:
    names = set()
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            names |= {f"{prefix}.weight", f"{prefix}.bias"}
        elif isinstance(module, nn.MultiheadAttention):
            names |= {f"{prefix}.in_proj_weight", f"{prefix}.in_proj_bias"}
    if _packable(model):  # 1 % of the work, and the first thing that happens to the pixels: not worth the error
        names -= {"visual.conv1.weight"}
    return names


def _packable(model: nn.Module) -> bool:
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    visual = getattr(model, "visual", None)
    blocks = (m for m in model.modules() if isinstance(m, nn.MultiheadAttention))
    owners = (m.attn for m in model.modules() if type(m) is ResidualAttentionBlock)
    return type(model) is CLIP and type(visual) is VisionTransformer and set(blocks) <= set(owners)


def keep_residual_in_float32(model: nn.Module) -> None:
    """Under autocast a transformer adds its blocks to whatever type it was given: give it float32."""
    from open_clip.transformer import Transformer

    for module in model.modules():
        if isinstance(module, Transformer):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


def image_size(model: nn.Module) -> int:
    """Height and width of the images of a network, in pixels."""
    size = getattr(model.visual, "image_size", 224)
    if isinstance(size, Sequence):
        if size[0] != size[1]:
            raise InputError(f"architecture: its images are {tuple(size)}, expected square ones")
        size = size[0]
    return int(size)


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Text features. In a causal text tower nothing after the end token changes it: the padding is left out, which
    makes a short prompt four times as fast (the features are the same to rounding)."""
    if type(model) is not CLIP or model.attn_mask is None or model.text_pool_type != "argmax":
        features: Tensor = model.encode_text(tokens)
        return features
    ends = tokens.argmax(dim=-1)  # the end token has the largest number
    length = int(ends.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(x), device=x.device), ends]
    projection = model.text_projection
    projected: Tensor = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return projected
