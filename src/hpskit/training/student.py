"""The network that is trained: a CLIP of open_clip, part of it frozen, that gives logits for images and prompts.

Which tensors are trained follows the official code, `lock_image_tower` and `lock_text_tower` of its open_clip. They
count differently:

- image tower, `image_blocks=n`: the last n of the groups (patch and position embeddings, class token, ln_pre), each
  block but the last, (last block, ln_post), projection. The 20 of HPS v2 are the projection, ln_post and the last 19
  blocks of ViT-H-14.
- text tower, `text_blocks=n`: the last n blocks, ln_final and the projection; never the embeddings. The 11 of HPS v2
  are the last 11 blocks of 24. (Today's open_clip counts groups here too, which gives one block less.)
- logit_scale is always trained. logit_bias, which some networks have, moves all scores alike, and is not.

What is frozen lies before what is trained, so no graph is built for it and nothing of it is kept for the gradient.
"""

from __future__ import annotations

import math
import re
from typing import Any, Self

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import ResidualAttentionBlock, Transformer, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize

from hpskit.errors import InputError
from hpskit.models.architecture import build, encode_text, fill, image_size, keep_residual_in_float32, tokenizer
from hpskit.models.checkpoint import check_names
from hpskit.models.store import locate
from hpskit.pixels import Preprocessing
from hpskit.training.loader import Batch
from hpskit.training.recipes import Recipe

_EMBEDDINGS = ("token_embedding", "positional_embedding", "cls_emb")
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")


class Student(nn.Module):
    """Logits of images for prompts, logit_scale x cosine, with gradients to what the recipe trains."""

    network: Any
    """open_clip's, under its own names."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        """Freeze what the recipe freezes; `build` is the usual way to one.

        Raises:
            InputError: the network has not the towers or blocks that the recipe wants.
        """
        super().__init__()
        if type(network) not in (CLIP, CustomTextCLIP):
            found = f"is {recipe.architecture!r}, a {type(network).__name__}"
            raise InputError("architecture", found, expected="a CLIP of two towers")
        self.network = network
        self.preprocessing = Preprocessing(size=image_size(network))
        self._tokenizer = tokenizer(recipe.architecture)
        self._largest_scale = math.log(recipe.max_logit_scale)
        if recipe.image_blocks != "all":
            freeze_image_tower(network, recipe.image_blocks)
        if recipe.text_blocks != "all":
            freeze_text_tower(network, recipe.text_blocks)
        if self.network.logit_bias is not None:
            self.network.logit_bias.requires_grad_(False)
        put_tokens_first(network)
        keep_residual_in_float32(network)  # as scoring does; in float32 it changes nothing
        if recipe.gradient_checkpointing:
            self.network.set_grad_checkpointing(True)

    @classmethod
    def build(cls, recipe: Recipe, *, device: str | torch.device = "cpu") -> Self:
        """Make the network of a recipe with its first weights, in training mode.

        Frozen tensors stay memory-mapped on a CPU, so that processes share them.

        Raises:
            InputError: the weights are of another architecture, or blocks are asked for that are not there.
            CheckpointError, UnknownModelError, NotCachedError: the weights cannot be had or do not fit.
        """
        tokenizer(recipe.architecture)  # which knows whether there is such an architecture
        if recipe.weights is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                network = build(recipe.architecture, device="cpu").to(device)
            return cls(network, recipe).train()
        network = build(recipe.architecture)
        located = locate(recipe.weights)
        own = located.model.architecture if located.model else located.metadata.get("architecture")
        if own and own != recipe.architecture:
            cure = f"set architecture={own}, or take other weights"
            found = f"is {recipe.weights!r}, a {own}"
            raise InputError("weights", found, expected=f"a {recipe.architecture}, as architecture says", cure=cure)
        check_names(network, located.weights, recipe.architecture, option="--set architecture=…")
        fill(network, located.weights, torch.float32, torch.device(device))
        student = cls(network, recipe)
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.clone()  # what is trained leaves the mapped file
        return student.train()

    def forward(self, pixels: Tensor, tokens: Tensor, rows: Tensor) -> Tensor:
        """Compute the logits of N images.

        Args:
            pixels: (N, 3, S, S) preprocessed, at least one.
            tokens: (M, context), each distinct prompt once.
            rows: (N,) which of them an image was made for; images beyond N are encoded and not compared.

        Returns:
            (N,) float32, logit_scale x cosine: log-odds.
        """
        images = normalize(self.network.encode_image(pixels).float(), dim=-1)
        prompts = normalize(encode_text(self.network, tokens).float(), dim=-1)
        scale: Tensor = self.network.logit_scale.exp()
        return scale * (images[: len(rows)] * prompts[rows]).sum(dim=-1)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Make the arguments of `forward`, on the device of the network; every distinct prompt is there once.

        An empty batch gets a blank image and an empty prompt that nothing compares: a device whose images were all left
        out takes part in the step with gradients of 0.
        """
        pixels = batch.pixels if len(batch.pixels) else batch.pixels.new_zeros(1, *batch.pixels.shape[1:])
        distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(batch.prompts))}
        tokens: Tensor = self._tokenizer([*distinct] or [""])
        row_of_group = torch.tensor([distinct[prompt] for prompt in batch.prompts], dtype=torch.long)
        device = self.network.logit_scale.device
        rows = row_of_group[batch.group.cpu()]
        return pixels.to(device, non_blocking=True), tokens.to(device), rows.to(device)

    def counts(self) -> dict[str, int]:
        """Count the parameters that are trained, and all of them."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.parameters()]
        return {"trained": sum(size for size, trained in sizes if trained), "all": sum(size for size, _ in sizes)}

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Divide the trained parameters for AdamW as the official code does.

        First biases, norms, other tensors of one dimension and logit_scale without decay, then the rest with the decay
        of the recipe.
        """
        plain: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                (plain if parameter.ndim < 2 or "bias" in name else decayed).append(parameter)
        return [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": recipe.weight_decay}]

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring logit_scale back to [0, ln `max_logit_scale`], after a step."""
        self.network.logit_scale.clamp_(0, self._largest_scale)


def put_tokens_first(network: nn.Module) -> None:
    """Let blocks work on (tokens, images, width), as the official code did; scores are the same to the bit.

    Otherwise torch's attention transposes what it is given, and the product of a tensor that is not contiguous with a
    weight that needs no gradient copies the weight for every image: in bfloat16 on a CPU frozen blocks took ten times
    as long (ViT-B-16, torch 2.14).
    """
    for module in network.modules():
        if isinstance(module, Transformer) and all(type(block) is ResidualAttentionBlock for block in module.resblocks):
            module.batch_first = False
            for block in module.resblocks:
                block.attn.batch_first = False


def freeze_image_tower(network: Any, blocks: int) -> None:
    """Train the last `blocks` groups of the image tower only."""
    if isinstance(network.visual, VisionTransformer):
        most = len(network.visual.transformer.resblocks) + 2
        if blocks > most:
            raise InputError("image_blocks", f"is {blocks}", expected=f"at most {most} for this network, or all")
    try:
        network.lock_image_tower(unlocked_groups=blocks, freeze_bn_stats=True)
    except AssertionError as error:  # ResNets
        found = f"is {blocks}, but no part of this image tower can be frozen"
        raise InputError("image_blocks", found, cure="use all or 0") from error


def freeze_text_tower(network: nn.Module, blocks: int) -> None:
    """Train the last `blocks` blocks of the text tower only.

    Not by open_clip's `lock_text_tower`, which counts otherwise than the official code did.
    """
    named = {
        name.removeprefix("text."): parameter
        for name, parameter in network.named_parameters()
        if not name.startswith(("visual.", "logit_"))
    }
    numbers = {int(match[1]) for name in named if (match := _BLOCK.match(name))}
    if blocks and not numbers:
        found = f"is {blocks}, but no part of this text tower can be frozen"
        raise InputError("text_blocks", found, cure="use all or 0")
    if blocks > len(numbers):
        raise InputError("text_blocks", f"is {blocks}", expected=f"at most {len(numbers)} for this network, or all")
    for name, parameter in named.items():
        match = _BLOCK.match(name)
        below = match is not None and int(match[1]) < len(numbers) - blocks
        parameter.requires_grad_(not (blocks == 0 or below or name.startswith(_EMBEDDINGS)))
