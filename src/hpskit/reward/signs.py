"""Signs of reward hacking, measured on the pixels of images at their own size.

A scorer sees an image at 224 pixels or so; grids, tile seams and noise that a generator learns to add are finer than
that. Everything here runs in torch where the images are, without a gradient.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

_LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709, of gamma-coded values
_TILE = 256
"""Side of the tiles whose spectra are averaged."""
_TINY = 1e-8
_NEIGHBOURS = 4
"""Rows or columns on each side that a seam is compared with."""


@torch.no_grad()
def measure(images: Tensor) -> Tensor:
    """Measure images (N, 3, H, W) in [0, 1]: (N, 13) float32, a column for each of `sighting.SIGNS`.

    The spectrum is Welch's: tiles of up to 256 pixels under a Hann window, averaged. Images of less than 16 pixels
    have no spectrum worth the name; their last columns say little.
    """
    return torch.cat([_measure(images[k : k + 1].float().clamp(0, 1)) for k in range(len(images))])


def _measure(image: Tensor) -> Tensor:
    """One at a time: the temporaries of a batch of large images would not fit beside a model."""
    luma = sum(weight * image[:, c] for c, weight in enumerate(_LUMA))
    assert isinstance(luma, Tensor)
    high, low = image.amax(1), image.amin(1)
    red, green, blue = image.unbind(1)
    contrast = luma.std(correction=0)
    across, down = luma.diff(dim=2), luma.diff(dim=1)
    second = _second_differences(luma)
    values = [
        (high - low).sum() / (high.sum() + _TINY),
        ((image < 0.5 / 255) | (image > 254.5 / 255)).float().mean(),
        luma.mean(),
        contrast,
        (red - green).mean(),
        ((red + green) / 2 - blue).mean(),
        (_laplacian(luma).var(correction=0) + _TINY).log() - (contrast.square() + _TINY).log(),
        (second.abs().flatten().median() + 1e-4).log(),
        (_quantile(across, 0.99) + _quantile(down, 0.99)) / 2,
        *_spectrum(luma[0]),
        torch.maximum(_steepest(across.abs().mean(1)[0]), _steepest(down.abs().mean(2)[0])),
    ]
    return torch.stack(values)[None]


def _laplacian(luma: Tensor) -> Tensor:
    kernel = luma.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return conv2d(luma[:, None], kernel) if min(luma.shape[1:]) >= 3 else luma.new_zeros(1)


def _second_differences(luma: Tensor) -> Tensor:
    """Difference of two Laplacians, blind to edges and slopes: in flat places only noise is left (Immerkaer 1996)."""
    kernel = luma.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None]
    return conv2d(luma[:, None], kernel) if min(luma.shape[1:]) >= 3 else luma.new_zeros(1)


def _quantile(values: Tensor, share: float) -> Tensor:
    flat = values.abs().flatten()
    if not len(flat):
        return values.new_zeros(())
    flat = flat[:: max(1, len(flat) // 65_536)]
    return flat.kthvalue(max(1, math.ceil(share * len(flat)))).values


def _spectrum(luma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slope of the log power over the log frequency, share of the high band, height of the highest peak."""
    size = min(_TILE, *luma.shape)
    tiles = luma.unfold(0, size, size).unfold(1, size, size).reshape(-1, size, size)
    window, ring, frequency = _rings(size, luma.device)
    power = torch.fft.rfft2((tiles - tiles.mean((1, 2), keepdim=True)) * window).abs().square().mean(0).flatten()
    power = power + _TINY
    count = torch.bincount(ring, minlength=len(frequency))
    mean = torch.bincount(ring, weights=power, minlength=len(frequency)) / count
    seen = (frequency > 3 / size) & (frequency <= 0.5)  # below lies the window's own width
    if int(seen.sum()) < 3:
        return luma.new_zeros(()), luma.new_zeros(()), luma.new_zeros(())
    x, y = frequency[seen].log(), mean[seen].log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    high = (mean * count)[frequency > 0.25].sum() / (mean * count)[frequency > 1 / size].sum()
    peaks = power / mean[ring]
    return slope, high.log(), peaks[seen[ring]].max().log()


@functools.lru_cache(maxsize=8)
def _rings(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Window (S, S), the ring of each frequency of a real spectrum, and the frequency of each ring."""
    line = torch.hann_window(size, periodic=False, device=device)
    rows, columns = torch.fft.fftfreq(size, device=device), torch.fft.rfftfreq(size, device=device)
    ring = (torch.hypot(rows[:, None], columns[None]) * size).round().long().flatten()
    return line[:, None] * line[None], ring, torch.arange(int(ring.max()) + 1, device=device) / size


def _steepest(profile: Tensor) -> Tensor:
    """Largest value of a profile over the median of those around it, as a logarithm."""
    width = 2 * _NEIGHBOURS + 1
    if len(profile) < width:
        return profile.new_zeros(())
    around = profile.unfold(0, width, 1).median(dim=1).values
    inner = profile[_NEIGHBOURS : len(profile) - _NEIGHBOURS]
    return ((inner + 1e-3) / (around + 1e-3)).max().log()


@torch.no_grad()
def miniature(images: Tensor) -> Tensor:
    """Return images (N, 3, H, W) as unit vectors (N, 768): what they look like from afar, without their mean colour.

    In place of a network's embedding, where there is none, to find images that have become alike.
    """
    from torch.nn.functional import interpolate, normalize

    small = torch.cat([interpolate(one[None].float(), (16, 16), mode="area") for one in images])
    flat = small.flatten(2)
    return normalize((flat - flat.mean(2, keepdim=True)).flatten(1), dim=1)
