"""A loop in the manner of GRPO: groups of images for each prompt, advantages within them, no gradient of the scorer.

    python runs/reward_grpo.py OUT --pipeline FOLDER        # such as `python runs/tiny_pipeline.py` makes

The policy is as small as can be, so that it learns on a CPU: for each prompt a normal distribution of coarse latents,
which the pipeline's VAE decodes. All the rest is as in a large training. OUT/watch.html is the page of the watch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn.functional import interpolate

from hpskit.pages.page import publish_page
from hpskit.reward import Reward, Watch, advantages
from hpskit.reward.sighting import read_log
from hpskit.reward.watch_page import watch_page

PROMPTS = ("a red barn", "a cat with two horns", "snow on a roof", "a harbour at night")
GROUP, REFERENCE = 8, 8


def train(vae: AutoencoderKL, reward: Reward, *, steps: int, rate: float = 0.1) -> list[float]:
    """Return the mean reward of each step; of the first ones, the watch's reference, nothing is learnt."""
    mean = torch.zeros(len(PROMPTS), vae.config.latent_channels, 4, 4, requires_grad=True)
    side = vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    optimiser = torch.optim.Adam([mean], lr=rate)
    prompts = [prompt for prompt in PROMPTS for _ in range(GROUP)]
    course = []

    def decode(latents: Tensor) -> Tensor:
        decoded: Tensor = vae.decode(interpolate(latents, (side, side))).sample
        return (decoded / 2 + 0.5).clamp(0, 1)

    for step in range(REFERENCE + steps):
        each = mean.repeat_interleave(GROUP, dim=0)
        with torch.no_grad():
            latents = each + torch.randn_like(each)
            rewards = reward(decode(latents), prompts, value_range=(0, 1), group_ids=prompts, step=step)
        found = advantages({"reward": rewards}, {"reward": 1.0}, group_ids=prompts)
        log_probability = -(latents - each).square().flatten(1).sum(dim=1) / 2
        if step >= REFERENCE:
            optimiser.zero_grad()
            (-(found.values * log_probability).mean()).backward()
            optimiser.step()
        course.append(float(rewards.mean()))
    return course


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    args.out.mkdir(parents=True)
    vae = AutoencoderKL.from_pretrained(args.pipeline / "vae").eval().requires_grad_(False)
    watch = Watch(args.out / "watch.jsonl", one_in=4, reference=REFERENCE * GROUP * len(PROMPTS))
    course = train(vae, Reward(args.model, watch=watch), steps=args.steps)
    publish_page(args.out / "watch.html", watch_page("watch.jsonl", read_log(args.out / "watch.jsonl")))
    first, last = sum(course[:REFERENCE]) / REFERENCE, sum(course[-REFERENCE:]) / REFERENCE
    print(f"mean reward {first:.2f} -> {last:.2f}; {args.out / 'watch.html'}")


if __name__ == "__main__":
    main()
