"""A text-to-image pipeline of random weights, written to disk: the parts of Stable Diffusion, in a few megabytes.

python runs/tiny_pipeline.py FOLDER     # FOLDER/base, FOLDER/lora.safetensors and FOLDER/clip
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

SIDE = 32
"""Pixels; the VAE halves them once, so that a latent has 16."""
_TEXT = {"vocab_size": 514, "hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 2}
_TEXT |= {"num_hidden_layers": 2, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
_VISION = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 2, "num_hidden_layers": 2}
_VISION |= {"image_size": 32, "patch_size": 8}


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer that reads bytes: each character is a token."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def write_pipeline(folder: Path, *, checker: bool = False, overflow: bool = False) -> Path:
    """Save a pipeline.

    Args:
        folder: where to.
        checker: with a safety checker, which refuses every image.
        overflow: with a VAE whose activations are beyond float16.
    """
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIDE // 2,
        cross_attention_dim=32,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        sample_size=SIDE,
    )
    if overflow:
        with torch.no_grad():
            vae.decoder.conv_in.weight.mul_(50_000)
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    if checker:
        config = CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)
        parts["safety_checker"] = StableDiffusionSafetyChecker(config)
        parts["safety_checker"].concept_embeds_weights.fill_(-2)
        parts["safety_checker"].special_care_embeds_weights.fill_(-2)
        parts["feature_extractor"] = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    pipe = StableDiffusionPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        text_encoder=CLIPTextModel(CLIPTextConfig(**_TEXT)).eval(),
        tokenizer=write_tokenizer(folder / "tokenizer"),
        requires_safety_checker=checker,
        **parts,
    )
    pipe.save_pretrained(folder)
    return folder


def write_lora(file: Path) -> Path:
    """Save a LoRA of that pipeline's attention, large enough to be seen."""
    pipe = StableDiffusionPipeline.from_pretrained(write_pipeline(file.parent / "base"))
    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(r=4, init_lora_weights=False, target_modules=["to_q", "to_v", "to_out.0"]))
    state = get_peft_model_state_dict(pipe.unet)
    StableDiffusionPipeline.save_lora_weights(file.parent, unet_lora_layers=state, weight_name=file.name)
    return file


def write_clip(folder: Path) -> Path:
    """Save a CLIP of random weights, for transformers."""
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=_VISION, projection_dim=16)).save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    CLIPProcessor(processor, write_tokenizer(folder)).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_lora(target / "lora.safetensors")  # with its pipeline, in the folder base
    write_clip(target / "clip")
