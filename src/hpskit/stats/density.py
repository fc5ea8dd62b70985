"""Distance of two samples of densities, such as the colours of two models' images, and how sure it is.

A density is an array (bins,) that sums to 1; a sample is (images, bins), each image with weight one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats
from hpskit.stats.intervals import check_settings

Singles: TypeAlias = NDArray[np.float32]
Measure: TypeAlias = Callable[[Singles, Singles], Floats]
"""Two arrays (..., bins) of densities -> (...), their distances."""
_ROUNDING = 1e-5
"""Relative difference of two equal distances of densities in single precision, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """Distance of two samples, and the distance that two samples of one and the same source would have."""

    value: float
    """Distance of the sources, net of chance: the root of raw^2 less what chance adds to the square; at least 0."""
    low: float
    """Lower end of the interval of `value`. Whether the two differ at all is what `p_value` says."""
    high: float
    raw: float
    """Distance of the mean densities of the samples. With few images it is far too large: see `chance`."""
    chance: float
    """Root mean square of `raw` if the images of both were mixed and dealt out anew."""
    p_value: float
    """Share of such deals that are as far apart as the data, which count as one of them."""


def jensen_shannon(first: Singles, second: Singles) -> Floats:
    """Jensen-Shannon distance of (..., bins), the root of the divergence to base 2: 0 is equal, 1 is disjoint.

    Source: Endres & Schindelin 2003, A new metric for probability distributions. `scipy.spatial.distance.jensenshannon`
    agrees to 1e-8 and makes five more copies of the arrays.
    """
    middle = (first + second) / 2
    divergence = np.zeros(middle.shape[:-1])
    for one in (first, second):
        there = (one > 0) & (middle > 0)  # half of the smallest float is 0
        ratio = np.divide(one, middle, out=np.ones_like(middle), where=there)
        divergence += (one * np.log2(ratio)).sum(axis=-1, dtype=np.float64) / 2
    return np.asarray(np.sqrt(np.clip(divergence, 0, 1)))


class SlicedWasserstein:
    """Wasserstein-1 distance of densities in a plane, as the mean over directions, in the units of the plane.

    The mean over directions is divided by the mean of |cos|, so that two densities that differ by a shift are as far
    apart as the shift is long. Never above the Wasserstein distance times pi / 2.

    Source: Bonneel et al. 2015, Sliced and Radon Wasserstein barycenters of measures (there for the second order).
    """

    def __init__(self, centres: Floats, directions: int = 16) -> None:
        """Prepare for bins at `centres`, (bins, 2)."""
        angles = np.pi * np.arange(directions) / directions
        self._scale = float(np.abs(np.cos(angles)).mean())
        places = centres @ np.stack([np.cos(angles), np.sin(angles)])
        self._orders = np.argsort(places, axis=0, kind="stable").T
        self._gaps = np.diff(np.sort(places, axis=0), axis=0).T.astype(np.float32)

    def __call__(self, first: Singles, second: Singles) -> Floats:
        """Measure two arrays (..., bins) -> (...)."""
        difference = first - second
        total = np.zeros(difference.shape[:-1])
        for order, gaps in zip(self._orders, self._gaps, strict=True):
            gone = np.cumsum(difference[..., order[:-1]], axis=-1)
            total += np.abs(gone, out=gone) @ gaps
        return np.asarray(total / len(self._orders) / self._scale)


def draw_weights(images: int, resamples: int, rng: np.random.Generator) -> Singles:
    """Weigh images, (resamples, images), as often as each is drawn with replacement; rows sum to 1."""
    counts = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    return (counts / images).astype(np.float32)


def compare_densities(
    first: Singles,
    second: Singles,
    measures: Sequence[Measure],
    *,
    paired: bool = False,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Distance]:
    """Distances of the mean densities of two samples, (images, bins) each, with interval and p-value.

    Squares of these distances grow with the noise of the samples nearly by addition. So the mean square of the
    distances that chance gives is taken off, and of those of the bootstrap what it adds of its own. The p-value is that
    of a permutation test. In simulations of colours with 37 to 800 images, 95 % intervals covered the truth in 92 to
    100 % of the cases for Wasserstein and in 88 to 100 % for Jensen-Shannon; of equal pairs 0 to 6 % had a p of 0.05 or
    less.

    If images with equal index were made for the same prompt, `paired` draws them together and changes labels within a
    pair.

    Source: Davison & Hinkley 1997, Bootstrap methods and their application, sections 4.3 and 5.2; Grosse et al. 2002,
    Analysis of symbolic sequences using the Jensen-Shannon divergence.
    """
    check_settings(resamples, level)
    counts = f"are of {len(first)} and {len(second)} images"
    if min(len(first), len(second)) < 2:
        raise InputError("densities", counts, expected="at least 2 of each")
    if paired and len(first) != len(second):
        raise InputError("densities", counts, expected="pairs", cure="leave out paired")
    rng = np.random.default_rng(seed)
    drawn = draw_weights(len(first), resamples, rng)
    other = drawn if paired else draw_weights(len(second), resamples, rng)
    samples = drawn @ first, other @ second
    means = first.mean(axis=0), second.mean(axis=0)
    if paired:  # each pair changes sides, or not, by the toss of a coin
        stays = rng.integers(2, size=(resamples, len(first))).astype(np.float32) / len(first)
        one = stays @ (first - second) + means[1]
        deals = np.maximum(one, 0), np.maximum(means[0] + means[1] - one, 0)  # rounding may fall below 0
    else:  # the images of both are dealt out anew
        pool = np.concatenate([first, second])
        mine = (rng.permuted(np.tile(np.arange(len(pool)), (resamples, 1)), axis=1) < len(first)).astype(np.float32)
        deals = mine @ pool / len(first), (1 - mine) @ pool / len(second)
    distances = []
    for measure in measures:
        raw, bootstrap, chance = float(measure(*means)), measure(*samples), measure(*deals)
        noise = float((chance**2).mean())
        squares = bootstrap**2 - (bootstrap**2).mean() + raw**2 - noise
        ends = np.quantile(squares, [(1 - level) / 2, (1 + level) / 2])
        value, low, high, typical = (float(np.sqrt(max(x, 0))) for x in (raw**2 - noise, *ends, noise))
        as_far = chance >= raw * (1 - _ROUNDING)  # the same labels, dealt again, are as far whatever the last digit
        p_value = float(1 + as_far.sum()) / (1 + len(chance))
        distances.append(Distance(value=value, low=low, high=high, raw=raw, chance=typical, p_value=p_value))
    return distances
