"""Transformer blocks of open_clip in bfloat16 on a CPU, with weights laid out once for the processor.

Two costs vanish: oneDNN reorders a plain weight at every product (measured: 790 instead of 920 GFLOP/s for the
matrices of ViT-H-14 with AVX512-BF16), and GELU runs inside the first product of the MLP. What decides the accuracy
stays in float32: the residual stream, the layer norms, the patch embedding and the projections.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

__all__ = ["pack"]

_ROWS = 2048
"""For how many rows the layout is made: eight images of ViT-H-14. Others work as well, a little slower."""

_HAS_PACKING = hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(torch.ops.mkldnn, "_linear_pointwise")


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
        if not _HAS_PACKING:  # these two operators are torch's own but not promised for every release
            y = linear(x, self.weight, self.bias)
            return nn.functional.gelu(y) if self.gelu else y
        activation, algorithm = ("gelu", "none") if self.gelu else ("none", "")
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], algorithm)
        return result


class PackedAttention(nn.Module):
    """Self-attention in place of `nn.MultiheadAttention`, called as `ResidualAttentionBlock` calls that."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.into = PackedLinear(attention.in_proj_weight, attention.in_proj_bias)
        self.out = PackedLinear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self, query: Tensor, _key: Tensor, _value: Tensor, *, need_weights: bool, attn_mask: Tensor | None
    ) -> tuple[Tensor, None]:
        """(B, T, C) float32 -> ((B, T, C) bfloat16, None)."""
        assert not need_weights
        batch, tokens, channels = query.shape
        joint = self.into(query.to(torch.bfloat16)).view(batch, tokens, 3, self.heads, channels // self.heads)
        q, k, v = joint.permute(2, 0, 3, 1, 4)
        mask = None if attn_mask is None else attn_mask.to(torch.bfloat16)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, channels)), None


class PackedMLP(nn.Module):
    """The MLP of a block: c_fc, GELU, c_proj."""

    def __init__(self, mlp: nn.Sequential) -> None:
        super().__init__()
        first, activation, second = mlp
        fused = isinstance(activation, nn.GELU) and activation.approximate == "none"
        self.first = PackedLinear(first.weight, first.bias, gelu=fused)  # type: ignore[arg-type]
        self.activation = nn.Identity() if fused else activation
        self.second = PackedLinear(second.weight, second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) float32 -> (B, T, C) bfloat16."""
        result: Tensor = self.second(self.activation(self.first(x.to(torch.bfloat16))))
        return result


def pack(model: nn.Module) -> int:
    """Replace attention and MLP of every plain `ResidualAttentionBlock`; return how many blocks were replaced."""
    blocks: list[Any] = [m for m in model.modules() if type(m) is ResidualAttentionBlock and not hasattr(m, "ln_1_kv")]
    for block in blocks:
        block.attn = PackedAttention(block.attn)
        block.mlp = PackedMLP(block.mlp)
    return len(blocks)
