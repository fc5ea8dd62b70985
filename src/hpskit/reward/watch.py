"""A watch on reward hacking: says when a rising reward is no longer better images.

A generator that is trained on a score finds what the score does not see: saturation, fine grids, one face for all.
The watch compares each step with the first ones, its reference, by signs on native pixels (`signs`), by how alike the
images of a group and of different groups have become, and by a scorer that is held out. One sign alone is
information; the alarm needs a rising reward together with a falling held-out score or with two signs out of range.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hpskit.errors import InputError
from hpskit.pixels import as_float, as_pixels, to_tensor
from hpskit.reward.sighting import GROUP_SIGNS, SIGNS, Sighting, members
from hpskit.reward.signs import measure, miniature

if TYPE_CHECKING:
    from hpskit.scoring.contract import Scorer

_SLACK, _LIMIT = 1.0, 8.0
"""CUSUM in deviations of a step's mean: what is drift of no interest, and what sums up to evidence. A shift of two
deviations is found after eight steps."""
_RISE_SLACK, _RISE_LIMIT = 0.5, 5.0
"""The same for the reward: that it rises is no evidence by itself, so it may be taken for risen sooner."""
_TAILS = 0.7
"""Share of the usual deviation that counts at least, where the robust one is smaller: without it, values with long
tails alarm in clean runs; with all of it, noise and grids are found too late (benchmarks/hacks.py)."""
_REFERENCE_STEPS = 8
"""The reference is at least so many steps long: its own error stays below a third of a step's deviation."""
_WORST = 5
_Groups = Mapping[Hashable, Sequence[int]]


class Decoded(Sequence[Tensor]):
    """Images that are decoded each time they are looked at: all of a step at once might take gigabytes."""

    def __init__(self, images: Sequence[Any], **options: Any) -> None:
        """Hold images as `PreferenceScorer.score` takes them; options of arrays as `as_pixels` takes them."""
        self._images, self._options = images, options

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, at: int) -> Tensor:  # type: ignore[override]  # nobody takes slices
        image = self._images[at]
        if isinstance(image, Tensor | np.ndarray):
            return as_float(as_pixels(image, dimensions=3, **self._options))
        return to_tensor(image)


class TensorBoard(Protocol):
    """As much as is needed of `torch.utils.tensorboard.SummaryWriter`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> object: ...


@dataclass(kw_only=True, slots=True)
class _Course:
    """One statistic over the steps: its reference, and what has summed up since."""

    units: list[float] = field(default_factory=list)
    centre: float = math.nan
    deviation: float = math.nan
    slack: float = _SLACK
    limit: float = _LIMIT
    above: float = 0.0
    below: float = 0.0

    def settle(self) -> None:
        values = torch.tensor(self.units, dtype=torch.float64)
        middle = values.median()
        robust = 1.4826 * float((values - middle).abs().median())
        # The centre is the mean, as that of a step is: of skewed values the median lies beside it.
        self.centre = float(values.mean())
        self.deviation = max(robust, _TAILS * float(values.std()), 1e-3 * (abs(self.centre) + 1e-3))

    def of_step(self, values: Sequence[float]) -> float:
        error = self.deviation * math.sqrt(1 / len(values) + 1 / len(self.units))
        z = (sum(values) / len(values) - self.centre) / error
        bounded = min(max(z, -6.0), 6.0)  # one wild step is not yet a trend, but two are
        self.above = max(0.0, self.above + bounded - self.slack)
        self.below = max(0.0, self.below - bounded - self.slack)
        return z

    @property
    def rises(self) -> bool:
        return self.above > self.limit

    @property
    def falls(self) -> bool:
        return self.below > self.limit


class Watch:
    """Looks at each step of a training; cheap enough to look at all of them. Safe to use from several threads.

    Give it to `Reward(..., watch=)`, or call `see` where a trainer has its images and rewards.
    """

    def __init__(
        self,
        log: str | os.PathLike[str] | None = None,
        *,
        held_out: Scorer | None = None,
        one_in: int = 8,
        reference: int = 256,
        board: TensorBoard | None = None,
    ) -> None:
        """Begin a watch; the first steps are its reference.

        Args:
            log: file of JSON lines, a line for each step; appended to, so a resumed training goes on in it (and takes
                a new reference). `hpskit reward watch LOG` draws it.
            held_out: a scorer that the training does not see, best with another kind of network.
            one_in: pixels and the held-out score are taken of one image in so many of each step; at least one.
            reference: images that the reference is made of, all of which are looked at; it lasts at least eight steps.
            board: a `SummaryWriter` of TensorBoard.

        Raises:
            InputError: `one_in` or `reference` is impossible.
        """
        for name, value, least in (("one_in", one_in, 1), ("reference", reference, 2 * _REFERENCE_STEPS)):
            if value < least:
                raise InputError(name, f"is {value}", expected=f"at least {least}")
        self.held_out, self.one_in, self.reference, self.board = held_out, one_in, reference, board
        self.log = None if log is None else Path(log)
        self._courses = {"reward": _Course(slack=_RISE_SLACK, limit=_RISE_LIMIT)}
        self._settled = False
        self._steps = self._calls = self._rewards = 0
        self._looking = threading.Lock()

    def see(
        self,
        images: Tensor | Sequence[Tensor],
        prompts: Sequence[str],
        rewards: Tensor | Sequence[float],
        *,
        step: int | None = None,
        group_ids: Sequence[Hashable] | None = None,
        embeddings: Tensor | None = None,
        names: Sequence[str] | None = None,
    ) -> Sighting:
        """Look at the images of one step. Calls from several threads wait for one another.

        Args:
            images: (N, 3, H, W) or N tensors (3, H, W), float in [0, 1].
            prompts: N texts.
            rewards: N numbers.
            step: its number; if not given, one more than that of the last call.
            group_ids: which images were made for one prompt in this step; if not given, those of equal prompts.
            embeddings: (N, D) of the images by any network; if not given, thumbnails are compared.
            names: N names for the report of the worst; if not given, `step S, image K`.

        Raises:
            InputError: lengths differ, or a reward is not a number.
        """
        values = [float(value) for value in rewards]
        marks = prompts if group_ids is None else group_ids
        given = {"images": images, "prompts": prompts, "group_ids": marks, "embeddings": embeddings, "names": names}
        for place, count in ((place, len(what)) for place, what in given.items() if what is not None):
            if count != len(values) or not values:
                raise InputError(place, f"are {count} for {len(values)} rewards", expected="one for each, at least one")
        if bad := [k for k, value in enumerate(values) if not math.isfinite(value)]:
            raise InputError(f"rewards[{bad[0]}]", f"is {values[bad[0]]}", expected="a number")
        if embeddings is not None and embeddings.ndim != 2:
            raise InputError("embeddings", f"have the shape {tuple(embeddings.shape)}", expected="(N, D)")
        groups = members(marks)
        with self._looking:
            self._steps = self._steps + 1 if step is None else step
            names = [f"step {self._steps}, image {k}" for k in range(len(values))] if names is None else names
            parts = self._samples(len(values))
            chosen = [k for part in parts for k in part]
            pixels = torch.cat([measure(images[k][None]) for k in chosen]).cpu()
            mark_of = {k: mark for mark, ks in groups.items() for k in ks}
            sampled = members((number, mark_of[k]) for number, part in enumerate(parts) for k in part)
            observed = {name: _means(sampled, pixels[:, k].tolist()) for k, name in enumerate(SIGNS)}
            observed |= _of_groups(images, groups, values, embeddings)
            same = _without_difference(groups, values)
            observed["reward"] = _means(groups, values)
            if self.held_out is not None:
                scores = self.held_out.score([images[k] for k in chosen], [prompts[k] for k in chosen]).tolist()
                observed["held_out"] = _means(sampled, scores)
            z = self._compare(observed, len(values))
            signs = [*SIGNS, *GROUP_SIGNS]
            out = [name for name in signs if self._settled and (c := self._courses.get(name)) and (c.rises or c.falls)]
            mean = {name: sum(found) / len(found) for name, found in observed.items() if found}
            rises = self._settled and self._courses["reward"].rises
            falls = self._settled and (c := self._courses.get("held_out")) is not None and c.falls
            seen = Sighting(
                step=self._steps,
                reward=sum(values) / len(values),
                held_out=mean.get("held_out"),
                signs={name: round(mean[name], 6) for name in signs if name in mean},
                z={name: round(value, 3) for name, value in z.items()},
                out=out,
                rises=rises,
                falls=falls,
                same=same,
                worst=self._worst(pixels, out, [names[k] for k in chosen]),
                alarm=rises and (falls or len(out) >= 2),
            )
            self._record(seen)
            return seen

    def _samples(self, count: int) -> list[Sequence[int]]:
        """Choose the images that are looked at: one in `one_in`, and each place once in so many calls.

        For the reference it is all of them, in such parts: from an eighth of them the deviation of values with long
        tails is found so badly that every second training would have a false alarm.
        """
        self._calls += 1
        parts = [range(start, count, self.one_in) for start in range(min(self.one_in, count))]
        if not self._settled:
            return [*parts]
        turn = -self._calls % self.one_in
        return [parts[turn] if turn < len(parts) else [self._calls % count]]

    def _compare(self, observed: Mapping[str, Sequence[float]], count: int) -> dict[str, float]:
        if self._settled:
            return {
                name: course.of_step(found)
                for name, found in observed.items()
                if found and (course := self._courses.get(name))
            }
        for name, found in observed.items():
            self._courses.setdefault(name, _Course()).units.extend(found)
        self._rewards += count
        if self._rewards >= self.reference and self._calls >= _REFERENCE_STEPS:
            self._courses = {name: course for name, course in self._courses.items() if len(course.units) > 1}
            for course in self._courses.values():
                course.settle()
            self._settled = True
        return {}

    def _worst(self, pixels: Tensor, out: Iterable[str], names: Sequence[str]) -> list[str]:
        columns = [(k, self._courses[name]) for k, name in enumerate(SIGNS) if name in set(out)]
        if not columns:
            return []
        far = sum(((pixels[:, k].double() - course.centre) / course.deviation).abs() for k, course in columns)
        assert isinstance(far, Tensor)
        return [names[k] for k in far.argsort(descending=True)[:_WORST].tolist()]

    def _record(self, seen: Sighting) -> None:
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as handle:
                handle.write(seen.line())
        if self.board is not None:
            figures: dict[str, Any] = {"reward": seen.reward, "alarm": float(seen.alarm), **seen.signs}
            if seen.held_out is not None:
                figures["held_out"] = seen.held_out
            for name, value in figures.items():
                self.board.add_scalar(f"watch/{name}", value, seen.step)


def _means(groups: _Groups, values: Sequence[float]) -> list[float]:
    """One number for each group: images of one prompt are no independent evidence."""
    return [sum(values[k] for k in ks) / len(ks) for ks in groups.values()]


def _without_difference(groups: _Groups, values: Sequence[float]) -> list[str]:
    return [str(group) for group, ks in groups.items() if len(ks) > 1 and len({values[k] for k in ks}) == 1]


def _of_groups(
    images: Tensor | Sequence[Tensor], groups: _Groups, values: Sequence[float], embeddings: Tensor | None
) -> dict[str, list[float]]:
    """One value for each group that has one."""
    if embeddings is None:
        vectors = torch.cat([miniature(image[None]) for image in images]).cpu()
    else:
        vectors = torch.nn.functional.normalize(embeddings.detach().float(), dim=1).cpu()
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-2)
    found: dict[str, list[float]] = {name: [] for name in GROUP_SIGNS}
    for ks in groups.values():
        inside = torch.zeros(len(values), dtype=torch.bool)
        inside[ks] = True
        if len(ks) > 1:
            found["alike"].append(float(cosines[ks][:, inside].amax(1).mean()))
            deviation = float(torch.tensor([values[k] for k in ks], dtype=torch.float64).std(correction=0))
            found["spread"].append(math.log(deviation + 1e-6))
        if len(groups) > 1:
            found["alike_across"].append(float(cosines[ks][:, ~inside].amax(1).mean()))
    return found
