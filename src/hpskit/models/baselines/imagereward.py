"""ImageReward: BLIP's text encoder reads the prompt while it looks at the image, and a head gives the reward.

Source: arXiv 2304.05977 and `ImageReward.score` of the official package (image-reward 1.5). The image tower is timm's
ViT-L/16 and the text encoder transformers' BlipTextModel: both have the names of the published file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpskit.errors import CheckpointError, MissingExtraError
from hpskit.models.baselines.aesthetic import fill_head
from hpskit.models.checkpoint import Weights
from hpskit.models.clip import check_names, fill
from hpskit.models.network import Blueprint, autocast
from hpskit.pixels import Preprocessing

__all__ = ["ImageRewardNetwork"]

_CONTEXT = 35
"""Tokens of a prompt that are read; the rest is cut off."""
_MEAN, _STD = 0.16717362830052426, 1.0333394966054072
"""Of raw rewards, by which the official package standardises them."""
_HEAD_WIDTH = 64


class ImageRewardNetwork:
    """See `hpskit.models.network.Network`. Image and prompt meet in `compare`, which does most of the text's work."""

    scale = "standardised reward; a difference of 1 is 1.0333 units of log-odds"
    log_odds_per_point = _STD  # it was trained on the logistic of differences of raw rewards
    reads_prompt = True
    differentiable = True

    def __init__(self, plan: Blueprint) -> None:
        """Build both towers without initialising them, and fill them.

        Raises:
            MissingExtraError: transformers is not installed.
            CheckpointError: the weights are not those of an ImageReward.
        """
        self.device = plan.device
        self._autocast = plan.dtype if plan.precision != "fp32" else None
        self._text = _filled(_build_text, plan.part("blip.text_encoder."))
        self._vision = _filled(_build_vision, plan.part("blip.visual_encoder."))
        self._head = fill_head(plan.part("mlp."))
        self._tokenizer = _tokenizer(plan.weights)
        size = self._vision.patch_embed.img_size[0]
        self.preprocessing = Preprocessing(size=size, resize="crop", pillow=True)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, tokens x width) float32: everything that the text may look at."""
        with autocast(self.device, self._autocast):
            tokens: Tensor = self._vision.forward_features(pixels.to(self.device))
        return tokens.float().flatten(1)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, 35): numbers of tokens, 0 where there are none, as float32, which holds them exactly."""
        encodings = self._tokenizer.encode_batch(list(prompts))
        for prompt, encoding in zip(prompts, encodings, strict=True):
            if encoding.overflowing:
                count = _CONTEXT + sum(
                    len(rest.word_ids) - rest.special_tokens_mask.count(1) for rest in encoding.overflowing
                )
                message = f"prompt has {count} tokens, the model reads the first {_CONTEXT}: {prompt[:60]!r}…"
                warnings.warn(message, stacklevel=2)
        return torch.tensor([encoding.ids for encoding in encodings], dtype=torch.float32, device=self.device)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, tokens x width) and (N, 35) -> (N,) standardised rewards."""
        tokens = images.view(len(images), -1, self._vision.embed_dim)
        numbers = prompts.long()
        with autocast(self.device, self._autocast):
            read = self._text(
                input_ids=numbers, attention_mask=(numbers != 0).long(), encoder_hidden_states=tokens, use_cache=False
            )
        raw: Tensor = self._head(read.last_hidden_state[:, 0].float())
        return (raw - _MEAN) / _STD


def _build_vision(weights: Weights) -> Any:
    """BLIP's image tower, of the size that the weights have; ViT-L/16 at 224 pixels in the published file."""
    from timm.models.vision_transformer import VisionTransformer

    shapes = _shapes(weights, "patch_embed.proj.weight", "pos_embed")
    (width, _, patch, _), (_, positions, _) = shapes["patch_embed.proj.weight"], shapes["pos_embed"]
    return VisionTransformer(
        img_size=patch * round((positions - 1) ** 0.5),
        patch_size=patch,
        num_classes=0,
        embed_dim=width,
        depth=_count(shapes, "blocks."),
        num_heads=width // _HEAD_WIDTH,
    )


def _build_text(weights: Weights) -> Any:
    """BERT with cross-attention, of the size that the weights have; BERT base in the published file."""
    try:
        from transformers import BlipTextConfig, BlipTextModel
    except ImportError as error:
        cure = "run `pip install 'hpskit[baselines]'`"
        raise MissingExtraError(f"imagereward: needs transformers, which is not installed; {cure}") from error
    key, first = "encoder.layer.0.crossattention.self.key.weight", "encoder.layer.0.intermediate.dense.weight"
    words, positions = (f"embeddings.{name}_embeddings.weight" for name in ("word", "position"))
    shapes = _shapes(weights, words, positions, key, first)
    vocabulary, width = shapes[words]
    config = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=shapes[key][1],
        intermediate_size=shapes[first][0],
        num_hidden_layers=_count(shapes, "encoder.layer."),
        num_attention_heads=width // _HEAD_WIDTH,
        max_position_embeddings=shapes[positions][0],
    )
    return BlipTextModel(config, add_pooling_layer=False)


def _shapes(weights: Weights, *needed: str) -> dict[str, tuple[int, ...]]:
    shapes = weights.shapes()
    if missing := [name for name in needed if name not in shapes]:
        raise CheckpointError(f"{weights.origin}: has no {weights.prefix}{missing[0]}; it is not an ImageReward")
    return shapes


def _count(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def _filled(build: Callable[[Weights], nn.Module], plan: Blueprint) -> Any:
    with torch.device("meta"):
        model = build(plan.weights)
    check_names(model, plan.weights, "ImageReward")
    fill(model, plan.weights, plan.dtype, plan.device)
    return model.eval().requires_grad_(False)


def _tokenizer(weights: Weights) -> Any:
    from tokenizers import BertWordPieceTokenizer

    content = dict(weights.part("vocab.txt").tensors())
    if not content:
        raise CheckpointError(f"{weights.origin}: has no vocab.txt, the words of its tokenizer; fetch it again")
    words = bytes(content[""].tolist()).decode().splitlines()
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words)}, lowercase=True)
    tokenizer.add_special_tokens(["[DEC]", "[ENC]"])
    tokenizer.enable_truncation(_CONTEXT)
    tokenizer.enable_padding(length=_CONTEXT, pad_id=0, pad_token="[PAD]")  # noqa: S106  # not a password
    return tokenizer
