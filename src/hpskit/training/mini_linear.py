"""The linear layer of mini: Bradley-Terry on features, and the cross-validation that chooses how strictly.

Pure mathematics on tables of features; knows nothing of images, files or figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from torch import Tensor

from hpskit.errors import InputError
from hpskit.stats.blocks import Floats, Index
from hpskit.training.mini_data import Comparisons, Material
from hpskit.training.mini_features import Table
from hpskit.training.mini_recipe import MiniRecipe

__all__ = ["HeldOut", "Layer", "fit_bradley_terry", "fit_layer", "folds", "hold_out"]

_COMPONENTS = 256
_BASIS_IMAGES = 500
"""From so many images the principal directions are taken; with copies the matrix of their products has 2,500 rows."""
_CROSS_PAIRS = 1500
_CROSS_SHARPNESS = 1.2
_COPY_SHARE = 0.9
"""How often an image is said to beat its spoilt copy."""
_INNER_FOLDS = 5
_STEPS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """What a fit has found."""

    weight: Tensor
    """(F,) float32: log-odds per unit of each feature."""
    penalty: float
    """The one that was chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Log-odds of images whose prompts the fit has not seen, at the temperature that was fitted on the others."""

    scores: Floats
    """(images,)."""
    copies: Mapping[str, Floats]
    """Kind of damage -> (images,)."""
    penalty: float
    """The one that was chosen without them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Basis:
    """Standardised features in the principal directions of the training images."""

    centre: Tensor
    scale: Tensor
    directions: Tensor
    """(F, components)."""

    def project(self, table: Table) -> _Projected:
        return _Projected(plain=self(table.plain), copies={kind: self(copy) for kind, copy in table.copies.items()})

    def __call__(self, features: Tensor) -> Floats:
        projected: Floats = (((features - self.centre) * self.scale) @ self.directions).double().numpy()
        return projected

    def unfold(self, weights: Floats) -> Tensor:
        """(components,) -> (F,) float32: the same layer on features as they are."""
        return self.scale * (self.directions.double() @ torch.from_numpy(weights)).float()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Projected:
    """A table in a basis: (images, components) each."""

    plain: Floats
    copies: Mapping[str, Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Examples:
    """Pairs: differences of features, (pairs, components), the share of people who prefer the first, and a weight."""

    differences: Floats
    shares: Floats
    weights: Floats

    def __add__(self, other: _Examples) -> _Examples:
        return _Examples(
            differences=np.concatenate([self.differences, other.differences]),
            shares=np.concatenate([self.shares, other.shares]),
            weights=np.concatenate([self.weights, other.weights]),
        )


def fit_layer(table: Table, material: Material, blocks: Sequence[int], recipe: MiniRecipe) -> Layer:
    """Fit to all prompts.

    Args:
        table: features of the images.
        material: what people said of them.
        blocks: how many channels each block of the network has; a channel gives a mean and a deviation.
        recipe: the settings.

    Raises:
        InputError: it does not converge.
    """
    prompts = np.arange(material.prompts)
    basis = _basis(table, material.images_of(prompts), blocks)
    weights, penalty = _fit(basis.project(table), material, prompts, recipe)
    return Layer(weight=basis.unfold(weights), penalty=penalty)


def hold_out(table: Table, material: Material, held: Index, blocks: Sequence[int], recipe: MiniRecipe) -> HeldOut:
    """Fit to all prompts but some, everything chosen without these, and score their images; see `fit_layer`.

    Args:
        held: numbers of the prompts held out.

    Returns:
        Scores of the images of these prompts, in the order of `Material.images_of`.
    """
    training = np.setdiff1d(np.arange(material.prompts), held)
    basis = _basis(table, material.images_of(training), blocks)
    projected = basis.project(table)
    weights, penalty = _fit(projected, material, training, recipe)
    rows = material.images_of(held)
    return HeldOut(
        scores=projected.plain[rows] @ weights,
        copies={kind: copy[rows] @ weights for kind, copy in projected.copies.items()},
        penalty=penalty,
    )


def folds(count: int, parts: int, seed: int) -> list[Index]:
    """0 … count - 1 in parts of equal size at random, each in order; `count` parts if that is fewer."""
    order = np.random.default_rng(seed).permutation(count)
    parts = min(parts, count)
    return [np.sort(order[part::parts]) for part in range(parts)]


def _basis(table: Table, rows: Index, blocks: Sequence[int]) -> _Basis:
    """Every block counts the same, whatever the number of its channels."""
    if len(rows) > _BASIS_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, _BASIS_IMAGES).astype(np.intp)]
    images = table.plain[rows]
    centre, deviation = images.mean(dim=0), images.std(dim=0)
    share = torch.cat([torch.full((2 * n,), (2 * n * len(blocks)) ** -0.5) for n in blocks])
    typical = [part.median().expand(len(part)) for part in torch.split(deviation, [n for n in blocks for _ in (0, 1)])]
    scale = share / (deviation + 0.05 * torch.cat(typical))
    everything = torch.cat([images, *(features[rows] for features in table.copies.values())])
    x = (everything - centre) * scale
    values, vectors = torch.linalg.eigh((x @ x.T).double())
    kept = min(_COMPONENTS, int((values > 1e-9 * values[-1]).sum()))
    values, vectors = values[-kept:], vectors[:, -kept:]
    return _Basis(centre=centre, scale=scale, directions=x.T @ (vectors / values.sqrt()).float())


def _fit(projected: _Projected, material: Material, prompts: Index, recipe: MiniRecipe) -> tuple[Floats, float]:
    """Weights, brought to the temperature at which these prompts are likeliest held out, and the penalty."""
    penalty, factor = _choose(projected, material, prompts, recipe)
    examples = _examples(projected, material, prompts, recipe)
    return factor * fit_bradley_terry(examples.differences, examples.shares, examples.weights, penalty), penalty


def _choose(projected: _Projected, material: Material, prompts: Index, recipe: MiniRecipe) -> tuple[float, float]:
    """Penalty and temperature by cross-validation inside these prompts."""
    scores = {penalty: np.zeros(len(projected.plain)) for penalty in recipe.penalties}
    for part in folds(len(prompts), _INNER_FOLDS, 0):
        examples = _examples(projected, material, np.delete(prompts, part), recipe)
        rows = material.images_of(prompts[part])
        weights = None
        for penalty in recipe.penalties:
            weights = fit_bradley_terry(examples.differences, examples.shares, examples.weights, penalty, weights)
            scores[penalty][rows] = projected.plain[rows] @ weights
    pairs = material.pairs.of(prompts)
    found = {
        penalty: _temperature(own[pairs.first] - own[pairs.second], pairs.share, pairs.weight)
        for penalty, own in scores.items()
    }
    best = min(found, key=lambda penalty: found[penalty][1])
    return best, found[best][0]


def _temperature(differences: Floats, shares: Floats, weights: Floats) -> tuple[float, float]:
    """The factor of the scores that makes the votes likeliest, and the log loss with it."""

    def log_loss(factor: float) -> float:
        x = factor * differences
        return float(np.average(np.logaddexp(0, x) - shares * x, weights=weights))

    result = minimize_scalar(log_loss, bounds=(0.1, 10), method="bounded")
    return float(result.x), float(result.fun)


def _examples(projected: _Projected, material: Material, prompts: Index, recipe: MiniRecipe) -> _Examples:
    """Every pair that people compared, pairs across prompts, and the images with their spoilt copies."""
    images, pairs = projected.plain, material.pairs.of(prompts)
    total = float(pairs.weight.sum())
    shares = pairs.share
    across = _no_examples(images.shape[1])
    if pairs.generators is not None:
        average = _averages(pairs, material, prompts)
        typical = average[pairs.generators[:, 0], pairs.generators[:, 1]]
        shares = (1 - recipe.shrinkage) * shares + recipe.shrinkage * typical
        across = _across(images, material.slots(prompts), average, recipe.cross_weight * total)
    people = _Examples(differences=images[pairs.first] - images[pairs.second], shares=shares, weights=pairs.weight)
    rows = material.images_of(prompts)
    return people + across + _spoilt(projected, rows, recipe.copy_weight * total)


def _no_examples(components: int) -> _Examples:
    return _Examples(differences=np.zeros((0, components)), shares=np.zeros(0), weights=np.zeros(0))


def _averages(pairs: Comparisons, material: Material, prompts: Index) -> Floats:
    """[i, j]: share of the votes for generator i against j, with one draw added; i against itself has none."""
    assert pairs.generators is not None
    _, each = material.slots(prompts)
    size = material.generator_count
    won, met = np.full((size, size), 0.5), np.ones((size, size))
    first, second = pairs.generators.T
    np.add.at(won, (first, second), pairs.share)
    np.add.at(won, (second, first), 1 - pairs.share)
    for one, other in ((first, second), (second, first), (each, each)):
        np.add.at(met, (one, other), 1)
    return won / met


def _across(images: Floats, slots: tuple[Index, Index], average: Floats, total: float) -> _Examples:
    """Pairs of images of any prompts, judged by how good their generators are on average."""
    rows, generators = slots
    utility = logit(average.mean(axis=1))
    one, other = np.random.default_rng(0).integers(0, len(rows), (2, _CROSS_PAIRS))
    return _Examples(
        differences=images[rows[one]] - images[rows[other]],
        shares=expit(_CROSS_SHARPNESS * (utility[generators[one]] - utility[generators[other]])),
        weights=np.full(_CROSS_PAIRS, total / _CROSS_PAIRS),
    )


def _spoilt(projected: _Projected, rows: Index, total: float) -> _Examples:
    """Every image with each of its copies."""
    differences = np.concatenate([projected.plain[rows] - copy[rows] for copy in projected.copies.values()])
    count = len(differences)
    return _Examples(differences=differences, shares=np.full(count, _COPY_SHARE), weights=np.full(count, total / count))


def fit_bradley_terry(
    differences: Floats, shares: Floats, weights: Floats, penalty: float, start: Floats | None = None
) -> Floats:
    """Logistic regression of shares on differences of features, by Newton's method.

    Args:
        differences: (pairs, components), features of the first image less those of the second.
        shares: (pairs,), how many prefer the first, 0 to 1.
        weights: (pairs,), how much each pair counts.
        penalty: half of it times the sum of squares is added to the weighted sum of log losses.
        start: (components,), where to begin; None is zero.

    Returns:
        (components,): log-odds per unit of each.

    Raises:
        InputError: it does not converge.

    Source: Bradley & Terry 1952, Biometrika 39, with strengths that are linear in features.
    """

    def loss(candidate: Floats) -> float:
        x = differences @ candidate
        return float(weights @ (np.logaddexp(0, x) - shares * x) + penalty / 2 * candidate @ candidate)

    found = np.zeros(differences.shape[1]) if start is None else start
    for _ in range(_STEPS):
        modelled = expit(differences @ found)
        gradient = differences.T @ (weights * (modelled - shares)) + penalty * found
        curvature = (differences * (weights * modelled * (1 - modelled))[:, None]).T @ differences
        curvature[np.diag_indices_from(curvature)] += penalty
        step = np.linalg.solve(curvature, gradient)
        if np.abs(step).max() < 1e-4 * max(1.0, np.abs(found - step).max()):
            return found - step
        highest = loss(found)
        while loss(found - step) > highest and np.abs(step).max() > 1e-9:  # far from the optimum it may jump too far
            step = step / 2
        found = found - step
    what = f"Newton's method has not converged after {_STEPS} steps at penalty {penalty:g}"
    raise InputError(f"mini: {what}; give more prompts, or larger ones by --set penalties=[…]")
