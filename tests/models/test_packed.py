"""The bfloat16 blocks: what they compute is what open_clip computes, and what they replace is let go."""

from __future__ import annotations

import copy
import itertools
import weakref
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpskit.models import packed
from hpskit.models.architecture import encode_text
from hpskit.models.packed import pack

SHAPES = [{"pool_type": "tok"}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"ls_init_value": 0.5}]


def network(**vision: Any) -> Any:
    torch.manual_seed(1)
    return open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16, **vision},
        text_cfg={"context_length": 77, "vocab_size": 100, "width": 64, "heads": 2, "layers": 2},
    ).eval()


@pytest.mark.parametrize("laid_out", [True, False])
@pytest.mark.parametrize("vision", SHAPES, ids=str)
@torch.inference_mode()
def test_features_are_those_of_the_plain_network(
    vision: dict[str, Any], laid_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the processor cannot lay out weights."""
    monkeypatch.setattr(packed, "_HAS_PACKING", packed._HAS_PACKING and laid_out)
    plain = network(**vision)
    low = copy.deepcopy(plain)
    assert pack(low) == 5
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    text = torch.randint(1, 99, (3, 77), generator=torch.Generator().manual_seed(0))
    for name, given_ in (("encode_image", pixels), ("encode_text", text)):
        before = given_.clone()
        expected, found = (getattr(m, name)(given_, normalize=True) for m in (plain, low))
        assert torch.cosine_similarity(expected, found).min() > 0.9995
        assert found.dtype == torch.float32
        assert given_.equal(before), "the residual stream is added to in place: never the caller's tensor"


@torch.inference_mode()
def test_texts_one_after_another_are_texts_alone() -> None:
    """Of different lengths, the longest as long as the context; none sees another."""
    plain = network()
    low = copy.deepcopy(plain)
    pack(low)
    tokens = torch.randint(1, 98, (6, 77), generator=torch.Generator().manual_seed(0))
    for row, length in zip(tokens, (2, 77, 30, 5, 76, 9), strict=True):
        row[length - 1] = 99  # the end token has the largest number
        row[length:] = 0
    expected, together = (nn.functional.normalize(encode_text(m, tokens).float(), dim=1) for m in (plain, low))
    alone = nn.functional.normalize(torch.cat([encode_text(low, row[None]) for row in tokens]).float(), dim=1)
    assert torch.cosine_similarity(expected, together).min() > 0.9995
    assert torch.cosine_similarity(alone, together).min() > 0.99995


@given(st.booleans(), st.integers(1, 5), st.integers(1, 9))
def test_attention_is_attention(tiles: bool, batch: int, tokens: int) -> None:
    joint = torch.randn(batch, tokens, 3, 2, 8, generator=torch.Generator().manual_seed(batch)).bfloat16()
    q, k, v = joint.float().permute(2, 0, 3, 1, 4)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "_HAS_TILES", tiles)
        assert (packed.attention(joint).float() - expected).abs().max() < 0.03


def test_plain_weights_are_let_go_one_block_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the peak is twice the model: 4.8 GB instead of 3.0 for ViT-H-14."""
    model = network()
    alive = [weakref.ref(m.weight) for m in model.modules() if isinstance(m, nn.Linear)]
    counts: list[int] = []

    class Counted(packed.PackedBlock):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            counts.append(sum(reference() is not None for reference in alive))
            super().__init__(*arguments, **more)

    monkeypatch.setattr(packed, "PackedBlock", Counted)
    pack(model)
    steps = [a - b for a, b in itertools.pairwise(counts)]
    assert steps == [3] * 4, "each block holds three linear layers"
