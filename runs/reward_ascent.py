"""Raise a reward by its gradient: on the pixels of an image, or on the latents of a pipeline's VAE. Runs on a CPU.

    python runs/reward_ascent.py OUT --image a.jpg
    python runs/reward_ascent.py OUT --pipeline FOLDER        # such as `python runs/tiny_pipeline.py` makes

OUT/watch.html is the page of the watch. Nothing holds pixels back from pleasing the scorer alone, and it shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hpskit.pages.page import publish_page
from hpskit.pixels import to_tensor
from hpskit.reward import Reward, Watch
from hpskit.reward.sighting import read_log
from hpskit.reward.watch_page import watch_page

COUNT, SIDE, REFERENCE = 8, 128, 8

Draw = Callable[[], Tensor]
Decode = Callable[[Tensor], Tensor]


def pixels_of(image: Path) -> tuple[Draw, Decode]:
    """Random squares of an image, as logits so that they stay in range."""
    whole = to_tensor(image)

    def draw() -> Tensor:
        corners = (torch.rand(COUNT, 2) * (torch.tensor(whole.shape[1:]) - SIDE)).long().tolist()
        squares = torch.stack([whole[:, y : y + SIDE, x : x + SIDE] for y, x in corners])
        return squares.clamp(0.02, 0.98).logit()

    return draw, torch.sigmoid


def latents_of(pipeline: Path) -> tuple[Draw, Decode]:
    """Random latents of a diffusers pipeline."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(pipeline / "vae").eval().requires_grad_(False)
    side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)

    def decode(latents: Tensor) -> Tensor:
        decoded: Tensor = vae.decode(latents / vae.config.scaling_factor).sample
        return (decoded / 2 + 0.5).clamp(0, 1)

    return lambda: vae.config.scaling_factor * torch.randn(COUNT, vae.config.latent_channels, side, side), decode


def ascend(draw: Draw, decode: Decode, reward: Reward, log: Path, *, steps: int, rate: float) -> tuple[float, float]:
    """Climb; return the mean reward of the first and of the last step. The watch first sees what is drawn untouched."""
    prompts, watch = ["a photograph"] * COUNT, Watch(log, one_in=1, reference=COUNT * REFERENCE)
    for _ in range(REFERENCE):
        with torch.no_grad():
            images = decode(draw())
        watch.see(images, prompts, reward(images, prompts, value_range=(0, 1)), group_ids=range(COUNT))
    parameter = draw().requires_grad_()
    optimiser = torch.optim.Adam([parameter], lr=rate)
    course = []
    for _ in range(steps):
        images = decode(parameter)
        rewards = reward(images, prompts, value_range=(0, 1), grad=True)
        optimiser.zero_grad()
        (-rewards.sum()).backward()
        optimiser.step()
        watch.see(images.detach(), prompts, rewards.detach(), group_ids=range(COUNT))
        course.append(float(rewards.detach().mean()))
    return course[0], course[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--pipeline", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    if (args.image is None) == (args.pipeline is None):
        parser.error("give --image or --pipeline")
    torch.manual_seed(0)
    args.out.mkdir(parents=True)
    draw, decode = pixels_of(args.image) if args.image else latents_of(args.pipeline)
    log = args.out / "watch.jsonl"
    first, last = ascend(
        draw, decode, Reward(args.model, precision="fp32"), log, steps=args.steps, rate=0.05 if args.image else 0.02
    )
    publish_page(args.out / "watch.html", watch_page(log.name, read_log(log)))
    print(f"mean reward {first:.2f} -> {last:.2f}; {args.out / 'watch.html'}")


if __name__ == "__main__":
    main()
