"""Several rewards as one, on a common scale, and the advantages that a group of images gives.

Scores of different scorers have different spreads, so a weighted sum of them follows whichever spreads most. Here each
is brought to its deviation within a prompt first (GDPO, flow_grpo #53 and #188), and the multipliers are chosen so that
the share of each in the variance of the sum is its weight, correlated or not: a problem of risk budgeting.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from hpskit.errors import InputError
from hpskit.files import read_json
from hpskit.reward.reward import Reward, check_prompts, with_range
from hpskit.reward.sighting import members
from hpskit.schema import Strict, nearest, parse

FLOOR = 1e-3
"""Least deviation of a group, in deviations of the reference: below it differences are noise, not to be enlarged."""


class Reference(Strict):
    """Statistics of the scores that one scorer gives to the reference images."""

    identity: str
    """Of the scorer: a calibration of other weights or another precision is refused."""
    mean: float
    deviation: float = Field(gt=0)
    """Within a prompt."""


class Calibration(Strict):
    """Reference statistics of several scorers over the same images; `hpskit reward calibrate` makes one."""

    format: Literal["hpskit calibration 1"] = "hpskit calibration 1"
    images: int
    prompts: int
    data: str
    """What they were computed on."""
    scorers: dict[str, Reference]
    correlation: dict[str, dict[str, float]]
    """Of the scores within a prompt."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read one from a file.

        Raises:
            InputError: it is no calibration.
        """
        return parse(cls, read_json(Path(path)), path, cure="make one with `hpskit reward calibrate`")


@dataclass(frozen=True, kw_only=True, slots=True)
class Advantages:
    """Advantages: how far each image is ahead of the others of its prompt."""

    values: Tensor
    """(B,) float32: what to train on; mean 0 in each group."""
    components: Mapping[str, Tensor]
    """Name -> (B,) scores as the scorer gives them; NaN where one that is not required failed."""
    shares: Mapping[str, float]
    """Share of each component in the variance of `values` in this batch; they sum to 1."""
    without_difference: Mapping[str, Sequence[str]]
    """Name -> groups in which all its scores are equal: nothing can be learnt from them there."""


class Mixture:
    """A weighted mixture of rewards. Safe to use from several threads."""

    _needs_correlation = True

    def __init__(
        self,
        components: Mapping[str, float | tuple[Reward | str, float]],
        *,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        required: Mapping[str, bool] | bool = True,
    ) -> None:
        """Mix rewards.

        Args:
            components: name of a scorer -> weight, or any name -> (reward or scorer, weight). Weights are above 0 and
                are divided by their sum.
            calibration: for `__call__`, whose values must be comparable between batches. `advantages` needs none.
            required: False lets a component fail: it is NaN in that call, with a warning, and the others carry on.

        Raises:
            InputError: a weight is impossible, `required` has an unknown name, or the calibration does not fit.
        """
        for name, both in components.items():
            pair = isinstance(both, tuple) and len(both) == 2 and (callable(both[0]) or isinstance(both[0], str))
            if not pair and not isinstance(both, int | float):
                expected = "a weight, or a reward and its weight, as in (Reward('mini'), 0.7)"
                raise InputError(f"components: {name}", f"is {both!r}", expected=expected)
        pairs = {name: both if isinstance(both, tuple) else (name, both) for name, both in components.items()}
        weights = {name: weight for name, (_, weight) in pairs.items()}
        _check_weights(weights)  # before gigabytes are read
        total = sum(weights.values())
        self.weights = {name: weight / total for name, weight in weights.items()}
        self.rewards = {
            name: Reward(reward) if isinstance(reward, str) else reward for name, (reward, _) in pairs.items()
        }
        for name in () if isinstance(required, bool) else required:
            if name not in components:
                near = nearest(name, components)
                cure = f"did you mean {near!r}?" if near else "leave it out"
                raise InputError(f"required: {name}", "is no component", expected=", ".join(components), cure=cure)
        self.required = {
            name: required if isinstance(required, bool) else required.get(name, True) for name in components
        }
        read = None if calibration is None or isinstance(calibration, Calibration) else Calibration.read(calibration)
        self.calibration = calibration if isinstance(calibration, Calibration) else read
        if self.calibration is not None:
            self._check(self.calibration)

    def _check(self, calibration: Calibration) -> None:
        for name, reward in self.rewards.items():
            if name not in calibration.scorers:
                has = ", ".join(calibration.scorers)
                raise InputError("calibration", f"does not have {name!r}, but {has}", cure="calibrate it as well")
            found, wanted = calibration.scorers[name].identity, reward.scorer.info.identity
            if found != wanted:
                raise InputError(f"calibration of {name}", f"is of {found}", expected=wanted, cure="calibrate again")
            for other in self.rewards if self._needs_correlation else ():
                if name != other and other not in calibration.correlation.get(name, {}):
                    place = f"calibration: correlation of {name} and {other}"
                    raise InputError(place, "is missing", expected="a number", cure="calibrate again")

    def components(self, images: Any, prompts: str | Sequence[str], **options: Any) -> dict[str, Tensor]:
        """Name -> (B,) scores on the scorer's own scale. See `Reward.__call__` for the arguments.

        Raises:
            InputError: the arguments cannot be used, whoever is required; or all components have failed.
            HpskitError: a required component failed.
        """
        _check_arguments(images, prompts, options.get("value_range"))
        found: dict[str, Tensor] = {}
        why = ""
        for name, reward in self.rewards.items():
            try:
                found[name] = reward(images, prompts, **options)
            except Exception as error:
                if self.required[name]:
                    raise
                why = f"{name} failed and is left out: {type(error).__name__}: {error}"
                warnings.warn(why, stacklevel=2)
        if not found:
            raise InputError("rewards", f"have all failed; {why}", cure="see the warnings")
        one = next(iter(found.values()))
        return {name: found.get(name, torch.full_like(one.detach(), math.nan)) for name in self.rewards}

    def __call__(self, images: Any, prompts: str | Sequence[str], **options: Any) -> Tensor:
        """(B,) float32: the weighted sum of calibrated scores, in deviations within a prompt of the reference.

        Raises:
            InputError: there is no calibration, or what `Reward.__call__` raises.
        """
        return self.total(self.components(images, prompts, **options))

    def total(self, components: Mapping[str, Tensor]) -> Tensor:
        """Mix what `components` gave; see `__call__`."""
        if self.calibration is None:
            cure = "make one with `hpskit reward calibrate`, or use advantages, which needs none"
            raise InputError("mixture", "has no calibration, so its scores have no common scale", cure=cure)
        there = _living(components)
        correlation = self.calibration.correlation
        matrix = np.array([[1.0 if a == b else correlation[a][b] for b in there] for a in there])
        factors = budgeted(matrix, [self.weights[name] for name in there])
        references = self.calibration.scorers
        parts = [
            factor * (components[name] - references[name].mean) / references[name].deviation
            for name, factor in zip(there, factors.tolist(), strict=True)
        ]
        return torch.stack(parts).sum(dim=0)

    def advantages(
        self, images: Any, prompts: Sequence[str], *, group_ids: Sequence[Hashable], **options: Any
    ) -> Advantages:
        """Advantages of B images within their groups; see `advantages` and `Reward.__call__`."""
        floors = (
            {}
            if self.calibration is None
            else {name: FLOOR * reference.deviation for name, reference in self.calibration.scorers.items()}
        )
        found = self.components(images, prompts, group_ids=group_ids, **options)
        return advantages(found, self.weights, group_ids=group_ids, floors=floors)


def _check_weights(weights: Mapping[str, float]) -> None:
    if not weights:
        raise InputError("components", "are none", expected="at least one", cure="name a reward")
    for name, weight in weights.items():
        if not (isinstance(weight, int | float) and math.isfinite(weight) and weight > 0):
            cure = "leave out what shall not count"
            raise InputError(f"weight of {name}", f"is {weight!r}", expected="a number above 0", cure=cure)


def _check_arguments(images: Any, prompts: str | Sequence[str], value_range: tuple[float, float] | None) -> None:
    """Refuse what the caller got wrong, which is no failure of a component."""
    if value_range not in (None, (0, 1), (-1, 1)):
        raise InputError("value_range", f"is {value_range}", expected="(0, 1) or (-1, 1)")
    check_prompts(prompts)
    with_range(images, value_range)
    array = isinstance(images, Tensor | np.ndarray)
    count = len(images) if (images.ndim > 3 if array else isinstance(images, list | tuple)) else None
    if count is not None and not isinstance(prompts, str) and len(prompts) != count:
        raise InputError("prompts", f"are {len(prompts)} for {count} images", expected="one for each, or one for all")


def _living(components: Mapping[str, Tensor]) -> list[str]:
    """Names of the components that did not fail."""
    names = [name for name, scores in components.items() if not bool(scores.isnan().all())]
    if not names:
        raise InputError("components", "are all NaN", expected="scores of at least one", cure="see why they failed")
    return names


def advantages(
    components: Mapping[str, Tensor],
    weights: Mapping[str, float],
    *,
    group_ids: Sequence[Hashable],
    floors: Mapping[str, float] | None = None,
) -> Advantages:
    """Turn scores into advantages: z-scores within each group, mixed so that each has its weight in the variance.

    The scale is that of the groups whose deviation reaches the floor, so that few of them are not made to count for
    all. What a component lacks in other groups it lacks in its share.

    Args:
        components: name -> (B,) scores.
        weights: name -> share that it shall have.
        group_ids: B marks: images with the same one were made for the same prompt, to be compared.
        floors: name -> least deviation that a group is divided by, in points of the score; if not given, a thousandth
            of the deviation within all groups.

    Raises:
        InputError: lengths or names differ, no group has two images, scores are infinite or all NaN, or a weight is
            impossible.
    """
    if set(components) != set(weights):
        raise InputError("weights", f"are of {', '.join(weights)}", expected=", ".join(components))
    _check_weights(weights)
    groups = members(group_ids)
    if not any(len(ks) > 1 for ks in groups.values()):
        raise InputError("group_ids", "are all different", expected="several images of one prompt")
    device = next(iter(components.values())).device
    z: dict[str, Tensor] = {}
    clear: dict[str, Tensor] = {}
    equal: dict[str, list[str]] = {}
    for name, scores in components.items():
        if len(scores) != len(group_ids):
            raise InputError("group_ids", f"are {len(group_ids)} for {len(scores)} scores", expected="one for each")
        if bool(scores.isinf().any()) or (bool(scores.isnan().any()) and not bool(scores.isnan().all())):
            raise InputError(f"scores of {name}", "are not all finite", cure="see which image gave it")
    for name in _living(components):
        values = components[name].detach().double().cpu()
        centred, own = torch.zeros_like(values), torch.zeros_like(values)
        for ks in groups.values():
            if bool(values[ks].min() < values[ks].max()):  # of equal scores the mean is not always one, by rounding
                centred[ks] = values[ks] - values[ks].mean()
                own[ks] = centred[ks].square().mean().sqrt()
        floor = (floors or {}).get(name) or FLOOR * float(centred.square().mean().sqrt()) or 1.0
        z[name] = centred / own.clamp(min=floor)
        above = z[name] * (own >= floor)
        clear[name] = above / above.norm() if bool(above.any()) else above
        equal[name] = [str(group) for group, ks in groups.items() if len(ks) > 1 and not own[ks[0]]]
    matrix = np.array([[float(clear[a] @ clear[b]) for b in z] for a in z])
    # If no group is above its floor there is only noise, which is left as small as it is.
    factors = budgeted(matrix if matrix.any() else np.eye(len(z)), [weights[name] for name in z])
    mixed = torch.stack([factor * z[name] for name, factor in zip(z, factors.tolist(), strict=True)]).sum(dim=0)
    variance = float(mixed.square().mean())
    shares = {
        name: float((factor * z[name] * mixed).mean()) / variance if variance else math.nan
        for name, factor in zip(z, factors.tolist(), strict=True)
    }
    return Advantages(values=mixed.float().to(device), components=components, shares=shares, without_difference=equal)


def budgeted(covariance: NDArray[np.float64], weights: Sequence[float]) -> NDArray[np.float64]:
    """Multipliers m > 0 with m_i (C m)_i proportional to w_i: each part has its share of the variance of the sum.

    They are unique where C is positive definite: the minimum of m'Cm / 2 - sum of w_i log m_i (risk budgeting;
    Spinu 2013), found by Newton's method. Scaled so that the sum has variance 1. A part without variance gets 0.

    Args:
        covariance: (K, K), positive semi-definite.
        weights: K numbers above 0.
    """
    matrix, shares = np.asarray(covariance, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    alive = np.diag(matrix) > 0
    factors = np.zeros(len(shares))
    if not alive.any():
        return factors
    scale = np.sqrt(np.diag(matrix)[alive])
    # Two parts that are opposites of one another have no solution: a trace of the identity keeps it finite.
    c = matrix[np.ix_(alive, alive)] / np.outer(scale, scale) + 1e-6 * np.eye(int(alive.sum()))
    w = shares[alive] / shares[alive].sum()
    m = np.sqrt(w)
    best = m @ c @ m / 2 - w @ np.log(m)
    for _ in range(100):
        step = np.linalg.solve(c + np.diag(w / m**2), c @ m - w / m)
        for half in range(60):  # a whole step may lead beyond 0, where small weights have their minimum
            ahead = m - step / 2**half
            if (ahead > 0).all() and (found := ahead @ c @ ahead / 2 - w @ np.log(ahead)) < best:
                break
        else:
            break  # nothing is lower, to the last bit
        m, best = ahead, found
    m = m / scale
    total = m @ matrix[np.ix_(alive, alive)] @ m
    factors[alive] = m / math.sqrt(total) if total > 0 else m
    return factors
