"""Made-up pictures, and what hacking a reward does to them, from nothing (0) to a lot (1)."""

from __future__ import annotations

import functools
import random

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


@functools.cache
def pool(side: int) -> Tensor:
    """Smooth made-up pictures (64, 3, side, side): clouds of colour with some grain."""
    made = torch.Generator().manual_seed(0)
    out = torch.zeros(64, 3, side, side)
    for size, weight in ((3, 0.35), (12, 0.15), (side, 0.02)):
        noise = torch.randn(64, 3, size, size, generator=made)
        out += weight * interpolate(noise, (side, side), mode="bicubic")
    return (0.5 + out).clamp(0, 1)


def scenes(chance: random.Random, count: int, side: int = 64) -> Tensor:
    """Some of them, turned over at random."""
    flips = [chance.randrange(4) for _ in range(count)]
    drawn = (pool(side)[chance.randrange(64)] for _ in range(count))
    return torch.stack([one.flip([-2] * (f & 1) + [-1] * (f >> 1)) for one, f in zip(drawn, flips, strict=True)])


def grid(x: Tensor, s: float) -> Tensor:
    line = (torch.arange(x.shape[-1]) % 8 == 0).float()
    return x + 0.2 * s * torch.maximum(line[None], line[:, None])


def saturated(x: Tensor, s: float) -> Tensor:
    grey = x.mean(1, keepdim=True)
    return grey + (1 + 2 * s) * (x - grey)


def noisy(x: Tensor, s: float) -> Tensor:
    return x + 0.2 * s * torch.randn_like(x)


def blurred(x: Tensor, s: float) -> Tensor:
    return (1 - s) * x + s * avg_pool2d(x, 9, 1, 4, count_include_pad=False)


def seamed(x: Tensor, s: float) -> Tensor:
    return x + 0.4 * s * (torch.arange(x.shape[-1]) >= x.shape[-1] // 2).float()


def collapsed(x: Tensor, s: float) -> Tensor:
    return (1 - s) * x + s * x[:1]
