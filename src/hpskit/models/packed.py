"""Transformer blocks of open_clip in bfloat16 on a CPU, with weights laid out once for the processor.

Two costs vanish: oneDNN reorders a plain weight at every product (measured: 790 instead of 920 GFLOP/s for the
matrices of ViT-H-14 with AVX512-BF16), and GELU runs inside the first product of the MLP. The parts that decide the
accuracy stay in float32: the residual stream, the layer norms, the patch embedding and the projections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, softmax

_ROWS = 2048
"""Rows that the layout is made for: eight images of ViT-H-14. Other numbers work as well, a little slower."""

_OPERATORS = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")

_HAS_PACKING = all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS) and (
    torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not by processors with AVX2 alone
)

_HAS_TILES = hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("amx_bf16"))
"""The processor multiplies bfloat16 in tiles (AMX)."""


class PackedLinear(nn.Module):
    """x @ weight.T + bias in bfloat16 with float32 sums, optionally followed by the exact GELU. No gradient."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        weight = weight.detach().to(torch.bfloat16).contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if _HAS_PACKING else weight
        self.bias = None if bias is None else bias.detach().to(torch.bfloat16)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) bfloat16 -> (..., N) bfloat16."""
        if not _HAS_PACKING:  # these operators are torch's own but not promised for every release and processor
            y = linear(x, self.weight, self.bias)
            return nn.functional.gelu(y) if self.gelu else y
        activation, algorithm = ("gelu", "none") if self.gelu else ("none", "")
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], algorithm)
        return result


def attention(joint: Tensor) -> Tensor:
    """(B, T, 3, H, D) -> (B, T, H, D): attention by torch's fused operator where it is fast, else as two products.

    Without tiles that operator runs at a sixth of the speed of its own products in bfloat16 (ViT-H-14, AVX512-BF16);
    with them a block takes a fifth less time by it. Two products are made of one image at a time, because the table of
    a whole batch leaves the cache and is allocated anew in every layer.
    """
    if _HAS_TILES:
        return scaled_dot_product_attention(*joint.permute(2, 0, 3, 1, 4)).transpose(1, 2)
    batch, tokens, _, heads, width = joint.shape
    mixed = joint.new_empty(batch, tokens, heads, width)
    for image, into in zip(joint, mixed, strict=True):
        q, k, v = image.permute(1, 2, 0, 3).contiguous()
        shares = softmax(torch.bmm(q * width**-0.5, k.transpose(1, 2)), dim=-1, dtype=torch.float32)
        into.copy_(torch.bmm(shares.to(torch.bfloat16), v).transpose(0, 1))
    return mixed


class PackedBlock(nn.Module):
    """A `ResidualAttentionBlock` with packed products, which adds to the residual stream in place."""

    def __init__(self, block: ResidualAttentionBlock, *, first_only: bool) -> None:
        """Take over a block; with `first_only` give out the first token alone, if nothing else is read."""
        super().__init__()
        self.ln_1, self.ls_1, self.ln_2, self.ls_2 = block.ln_1, block.ls_1, block.ln_2, block.ls_2
        own, (widen, activation, narrow) = block.attn, block.mlp
        fused = isinstance(activation, nn.GELU) and activation.approximate == "none"
        self.heads = own.num_heads
        self.into = PackedLinear(own.in_proj_weight, own.in_proj_bias)
        self.out = PackedLinear(own.out_proj.weight, own.out_proj.bias)
        self.widen = PackedLinear(widen.weight, widen.bias, gelu=fused)
        self.activation = nn.Identity() if fused else activation
        self.narrow = PackedLinear(narrow.weight, narrow.bias)
        self.first_only = first_only

    def get_weight_dtype(self) -> torch.dtype:
        """Return the type of the residual stream: open_clip asks the first block which type the tokens should have."""
        return torch.float32

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, *, lengths: Sequence[int] = ()) -> Tensor:
        """(B, T, C) float32 -> the same tensor, or (B, 1, C).

        With `lengths` the one row of tokens, (1, sum of lengths, C), holds several texts one after another.
        """
        seen = self.ln_1(x)
        mixed = self.ls_1(self.attend_texts(seen, lengths) if lengths else self.attend(seen, attn_mask))
        x = x[:, :1] + mixed if self.first_only else x.add_(mixed.float())  # add_ of mixed types is slower
        widened = self.activation(self.widen(self.ln_2(x).to(torch.bfloat16)))
        return x.add_(self.ls_2(self.narrow(widened)).float())

    def attend(self, x: Tensor, attn_mask: Tensor | None) -> Tensor:
        """(B, T, C) float32 -> (B, T, C) bfloat16, or (B, 1, C) for the first token alone."""
        batch, tokens, channels = x.shape
        joint = self.into(x.to(torch.bfloat16)).view(batch, tokens, 3, self.heads, channels // self.heads)
        if self.first_only or attn_mask is not None:
            q, k, v = joint.permute(2, 0, 3, 1, 4)
            q = q[:, :, :1] if self.first_only else q
            mask = None if attn_mask is None else attn_mask.to(torch.bfloat16)
            mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        else:
            mixed = attention(joint)
        result: Tensor = self.out(mixed.reshape(batch, -1, channels))
        return result

    def attend_texts(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """(1, T, C) float32 -> (1, T, C) bfloat16: causal, each text for itself."""
        tokens, channels = x.shape[1:]
        joint = self.into(x.to(torch.bfloat16)).view(tokens, 3, self.heads, channels // self.heads)
        mixed = []
        for text in joint.split(list(lengths)):
            q, k, v = text.permute(1, 2, 0, 3)[:, None]
            mixed.append(scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1))
        result: Tensor = self.out(torch.cat(mixed).reshape(1, tokens, channels))
        return result


def pack(model: nn.Module) -> int:
    """Replace every plain `ResidualAttentionBlock`; return how many were replaced.

    One after the other and by name, so that the plain weights of a block are let go before the next is laid out.
    """
    visual: Any = getattr(model, "visual", None)
    last = None  # name of the last block of an image tower of which only the class token is read
    if isinstance(visual, VisionTransformer) and visual.pool_type == "tok" and visual.attn_pool is None:
        last = None if visual.output_tokens else f"visual.transformer.resblocks.{len(visual.transformer.resblocks) - 1}"
    names = [
        name
        for name, module in model.named_modules()
        if type(module) is ResidualAttentionBlock and not hasattr(module, "ln_1_kv")
    ]
    for name in names:
        parent, _, leaf = name.rpartition(".")
        block: Any = model.get_submodule(name)
        setattr(model.get_submodule(parent), leaf, PackedBlock(block, first_only=name == last))
        del block
    return len(names)
