"""What a reward costs: memory of a gradient for images of real size, and the watch's share of the time.

    python benchmarks/reward_cost.py memory [CHECKPOINT] --arch ViT-B-32
    python benchmarks/reward_cost.py watch [CHECKPOINT] --arch ViT-H-14

Without a checkpoint, stand-in weights are made: speed and memory are those of any weights. Times are seconds of
processor, so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import open_clip
import torch
from torch.nn.functional import interpolate

from hpskit.reward import Reward, Watch
from hpskit.reward.signs import measure
from hpskit.scoring.scorer import load_scorer


def peak() -> float:
    """Largest memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def pictures(count: int, side: int) -> torch.Tensor:
    """Clouds with some grain (count, 3, side, side) in [0, 1]."""
    parts = (w * interpolate(torch.randn(count, 3, s, s), (side, side)) for s, w in ((8, 0.2), (64, 0.1), (side, 0.02)))
    return (0.5 + sum(parts)).clamp(0, 1)


def memory(checkpoint: Path, arch: str, count: int, side: int, batch: int | None) -> None:
    reward = Reward(load_scorer(checkpoint, arch=arch, precision="fp32", device="cpu", batch_size=batch))
    images = pictures(count, side)
    reward(images[:1].clone().requires_grad_(), ["a cat"], value_range=(0, 1), grad=True).sum().backward()
    pixels = images.requires_grad_()
    size = pixels.numel() * 4 / 1e9
    before = peak()
    start = time.process_time()
    reward(pixels, ["a cat"] * count, value_range=(0, 1), grad=True).sum().backward()
    seconds = time.process_time() - start
    assert pixels.grad is not None
    print(
        f"{count} images of {side} x {side}, {arch}, batches of {reward.scorer.batch_size}: peak {peak():.2f} GB, "
        f"{before:.2f} GB before; the pixels and their gradient are {size:.2f} GB each; {seconds:.0f} s of processor"
    )


def watch(checkpoint: Path, arch: str, count: int, side: int) -> None:
    reward = Reward(load_scorer(checkpoint, arch=arch, precision="auto", device="cpu"))
    images, prompts = pictures(count, side), [f"prompt {k // 4}" for k in range(count)]
    levels = (255 * images).byte()
    reward(levels[:1], prompts[:1])
    start = time.process_time()
    rewards = reward(levels, prompts)
    alone = (time.process_time() - start) / count
    held = Watch()
    held.see(images, prompts, rewards)
    start = time.process_time()
    for _ in range(8):
        held.see(images, prompts, rewards)
    beside = (time.process_time() - start) / 8 / count
    start = time.process_time()
    for k in range(count):
        measure(images[k : k + 1])
    single = (time.process_time() - start) / count
    print(f"{arch} {reward.scorer.info.precision}, {side} x {side}, seconds of processor an image: reward {alone:.3f}")
    print(f"watch on 1 image in {held.one_in} {beside:.4f}, {beside / alone:.1%}; on all {single:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "watch"])
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--arch", default="ViT-B-32")
    parser.add_argument("--count", type=int)
    parser.add_argument("--batch", type=int, help="images of a micro-batch; as many as there are is none")
    parser.add_argument("--side", type=int, default=1024)
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or Path(folder) / "stand-in.pt"
        if args.checkpoint is None:
            torch.save({"state_dict": open_clip.create_model(args.arch, load_weights=False).state_dict()}, checkpoint)
        if args.what == "memory":
            memory(checkpoint, args.arch, args.count or 64, args.side, args.batch)
        else:
            watch(checkpoint, args.arch, args.count or 16, args.side)


if __name__ == "__main__":
    main()
