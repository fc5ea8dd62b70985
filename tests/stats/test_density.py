"""Distances of densities: known answers, invariants, and whether intervals and p-values keep their word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpskit.stats.density import SlicedWasserstein, compare_densities, jensen_shannon

SIDE = 40
CENTRES = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2).astype(float)
WASSERSTEIN = SlicedWasserstein(CENTRES)

Singles = NDArray[np.float32]


def at(x: int, y: int) -> Singles:
    """All of a density in one place."""
    density = np.zeros(SIDE * SIDE, np.float32)
    density[y * SIDE + x] = 1
    return density


def images(count: int, shift: float, seed: int, centres: NDArray[np.float64] | None = None) -> Singles:
    """Densities of images, each a cloud around a place of its own."""
    rng = np.random.default_rng(seed)
    own = rng.normal(16, 4, (count, 1, 2)) if centres is None else centres + rng.normal(0, 0.5, (count, 1, 2))
    places = own + np.array([shift, 0]) + rng.normal(0, 2, (count, 200, 2))
    bins = places.round().clip(0, SIDE - 1).astype(int) @ [1, SIDE]
    return np.stack([np.bincount(row, minlength=SIDE * SIDE) for row in bins]).astype(np.float32) / 200


def test_jensen_shannon_of_equal_disjoint_and_half_shared_densities() -> None:
    one, other = np.array([0.5, 0.5, 0, 0], np.float32), np.array([0, 0, 0.5, 0.5], np.float32)
    half = np.array([0.5, 0, 0.5, 0], np.float32)
    assert jensen_shannon(one, one) == 0
    assert jensen_shannon(one, other) == pytest.approx(1)
    # half of the mass is shared; the other half is disjoint and costs one bit
    assert jensen_shannon(one, half) == pytest.approx(np.sqrt(0.5))
    assert jensen_shannon(np.stack([one, one]), np.stack([one, other])) == pytest.approx([0, 1])


@given(st.integers(0, 19), st.integers(0, 19), st.integers(0, 19), st.integers(0, 19))
def test_a_shift_is_as_far_as_it_is_long(x: int, y: int, right: int, up: int) -> None:
    shifted = WASSERSTEIN(at(x, y), at(x + right, y + up))
    assert shifted == pytest.approx(np.hypot(right, up), rel=0.01, abs=1e-6)  # 16 directions, not all


@given(st.integers(0, 10_000))
def test_distances_are_symmetric_and_keep_the_triangle(seed: int) -> None:
    a, b, c = np.random.default_rng(seed).dirichlet(np.full(SIDE * SIDE, 0.01), size=3).astype(np.float32)
    for measure in (WASSERSTEIN, jensen_shannon):
        assert measure(a, b) == pytest.approx(measure(b, a), abs=1e-6)
        assert measure(a, c) <= measure(a, b) + measure(b, c) + 1e-5


def test_a_shift_is_found_and_equal_sources_are_not_told_apart() -> None:
    base, same, shifted = images(60, 0, 1), images(60, 0, 2), images(60, 5, 3)
    measures = (WASSERSTEIN, jensen_shannon)
    for distance in compare_densities(base, shifted, measures, resamples=300):
        assert distance.p_value == pytest.approx(1 / 301)
        assert 0 < distance.low < distance.value < distance.high
        assert distance.value < distance.raw
    for distance in compare_densities(base, same, measures, resamples=300):
        assert distance.p_value > 0.05
        assert distance.low == 0
    moved = compare_densities(base, shifted, measures, resamples=300)[0]
    assert moved.low < 5 < moved.high


def test_pairs_find_what_is_lost_between_unpaired_images() -> None:
    centres = np.random.default_rng(4).normal(16, 4, (40, 1, 2))
    first, second = images(40, 0, 5, centres), images(40, 0.8, 6, centres)
    paired, apart = (
        compare_densities(first, second, (WASSERSTEIN,), paired=paired, resamples=300)[0] for paired in (True, False)
    )
    assert paired.p_value < 0.02 < 0.2 < apart.p_value
    assert paired.raw == apart.raw


@pytest.mark.slow
def test_intervals_and_p_values_keep_their_word() -> None:
    measures = (WASSERSTEIN, jensen_shannon)
    many = images(20_000, 0, 1).mean(axis=0), images(20_000, 4, 2).mean(axis=0)
    truth = [float(measure(*many)) for measure in measures]
    covered, found = np.zeros(2), np.zeros(2)
    for number in range(100):
        base, moved, same = (images(100, shift, 10 * number + n) for n, shift in ((3, 0), (4, 4), (5, 0)))
        different = compare_densities(base, moved, measures, resamples=200, seed=number)
        covered += [d.low <= t <= d.high for d, t in zip(different, truth, strict=True)]
        found += [d.p_value <= 0.05 for d in compare_densities(base, same, measures, resamples=200, seed=number)]
    assert (covered >= 87).all()
    assert (found <= 12).all()


def test_labels_that_chance_deals_again_are_as_far() -> None:
    """Two images against two: one deal in three is that of the samples, or its mirror, whatever the last digit."""
    densities = np.random.default_rng(0).dirichlet(np.ones(24), size=4).astype(np.float32)
    densities[2:] += np.float32(1) * np.eye(24, dtype=np.float32)[5]
    densities /= densities.sum(axis=1, keepdims=True)
    found = compare_densities(densities[:2], densities[2:], (jensen_shannon,), resamples=3000)[0]
    assert found.p_value == pytest.approx(1 / 3, abs=0.03)
