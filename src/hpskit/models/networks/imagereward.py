"""ImageReward: BLIP's text encoder reads the prompt while it looks at the image, and a head gives the reward.

Source: arXiv 2304.05977 and `ImageReward.score` of the official package (image-reward 1.5). The image tower is timm's
ViT-L/16 and the text encoder transformers' BlipTextModel: both have the names of the published file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpskit.errors import CheckpointError, need
from hpskit.models.architecture import fill
from hpskit.models.checkpoint import Weights, check_names
from hpskit.models.network import Blueprint, Network, autocast
from hpskit.models.networks.aesthetic import RegressionHead
from hpskit.models.networks.clip import warn_of_long_prompt
from hpskit.pixels import Preprocessing

_KIND = "an ImageReward"
_CONTEXT = 35
"""Tokens of a prompt that are read; the rest is cut off."""
_MEAN, _STD = 0.16717362830052426, 1.0333394966054072
"""Mean and deviation of raw rewards, by which the official package standardises them."""
_HEAD_WIDTH = 64
_PARTS = ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")
_UNUSED = r"blip\.(vision_proj|text_proj)\.|.*\.position_ids$"
"""Projections for BLIP's contrastive loss, and a row of numbers 0, 1, 2 …"""


class ImageRewardNetwork(Network):
    """BLIP with a reward head. Image and prompt meet in `compare`, which does most of the text's work."""

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
        self._head = RegressionHead.filled(plan.part("mlp."))
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
            beyond = (len(rest.word_ids) - rest.special_tokens_mask.count(1) for rest in encoding.overflowing)
            warn_of_long_prompt(prompt, _CONTEXT + sum(beyond), _CONTEXT)
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

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the network and the words of its tokenizer, without what a score does not need."""
        model, vocabulary = published
        used = {name: tensor for name, tensor in model.items() if not re.match(_UNUSED, name)}
        if strange := [name for name in used if not name.startswith(_PARTS)]:
            raise CheckpointError(strange[0], "is no tensor of an ImageReward", cure="give a checkpoint of one")
        return used | dict(vocabulary)


Shapes = dict[str, tuple[int, ...]]


def _build_vision(shapes: Shapes) -> Any:
    """Build BLIP's image tower, of the size that the weights have; ViT-L/16 at 224 pixels in the published file."""
    from timm.models.vision_transformer import VisionTransformer

    (width, _, patch, _), (_, positions, _) = shapes["patch_embed.proj.weight"], shapes["pos_embed"]
    return VisionTransformer(
        img_size=patch * round((positions - 1) ** 0.5),
        patch_size=patch,
        num_classes=0,
        embed_dim=width,
        depth=_count(shapes, "blocks."),
        num_heads=width // _HEAD_WIDTH,
    )


def _build_text(shapes: Shapes) -> Any:
    """Build BERT with cross-attention, of the size that the weights have; BERT base in the published file."""
    need("transformers", "imagereward", "baselines")
    from transformers import BlipTextConfig, BlipTextModel

    vocabulary, width = shapes["embeddings.word_embeddings.weight"]
    config = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=shapes["encoder.layer.0.crossattention.self.key.weight"][1],
        intermediate_size=shapes["encoder.layer.0.intermediate.dense.weight"][0],
        num_hidden_layers=_count(shapes, "encoder.layer."),
        num_attention_heads=width // _HEAD_WIDTH,
        max_position_embeddings=shapes["embeddings.position_embeddings.weight"][0],
    )
    return BlipTextModel(config, add_pooling_layer=False)


def _count(shapes: Shapes, prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


def _filled(build: Callable[[Shapes], nn.Module], plan: Blueprint) -> Any:
    """Build a tower without initialising it, and fill it."""
    weights = plan.weights
    try:
        with torch.device("meta"):
            model = build(weights.shapes())
    except KeyError as error:
        raise weights.lacks(f"{weights.prefix}{error.args[0]}", _KIND) from error
    check_names(model, weights, "ImageReward", option=None)
    fill(model, weights, plan.dtype, plan.device)
    return model.eval().requires_grad_(False)


def _tokenizer(weights: Weights) -> Any:
    from tokenizers import BertWordPieceTokenizer

    words = weights.text("vocab.txt", _KIND).splitlines()
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(words)}, lowercase=True)
    tokenizer.add_special_tokens(["[DEC]", "[ENC]"])
    tokenizer.enable_truncation(_CONTEXT)
    tokenizer.enable_padding(length=_CONTEXT, pad_id=0, pad_token="[PAD]")  # noqa: S106  # not a password
    return tokenizer
