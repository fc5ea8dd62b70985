"""How good a network is on data that it does not learn from."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.reading import DataSet
from hpskit.errors import DivergedError, InputError
from hpskit.stats import Accuracy, Interval, bootstrap_accuracy, pair_accuracy
from hpskit.training.engine import NEW_RUN, Engine
from hpskit.training.examples import Loader, OnBroken, batches
from hpskit.training.objective import objective
from hpskit.training.processes import in_step, together

__all__ = ["Validation", "validate"]

_RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What a network is worth on the validation data, all devices together."""

    loss: float
    """As in training, mean by the weights of the recipe."""
    chance: float
    """What it would be if all scores were equal."""
    credit: Accuracy
    """By the rule `ties-half`, for each group, against the order that `hpskit evaluate` judges by: the published one of
    a group, or that of its single judgements. The loss is of single judgements."""
    accuracy: Interval
    """The same with its interval, 95 % over prompts."""
    hpdv2: Interval
    """By the rule `hpdv2`, against the same order."""
    dropped: int
    """Groups left out because of a broken image."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in the log."""
        return {
            "loss": self.loss,
            "chance": self.chance,
            "accuracy": _span(self.accuracy),
            "hpdv2": _span(self.hpdv2),
            "groups": self.credit.groups,
            "pairs": self.credit.pairs,
            "dropped": self.dropped,
        }


def _span(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


@dataclass(kw_only=True, slots=True)
class _Share:
    """What one device has found."""

    loss: float = 0.0
    chance: float = 0.0
    weight: float = 0.0
    dropped: int = 0
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """(images,) for the place of each group."""


def validate(
    engine: Engine,
    data: DataSet,
    workers: int | None = None,
    on_broken: OnBroken = "fail",
    without: Collection[str] = (),
) -> Validation:
    """Score every group of a data set once, with the moving average if there is one.

    Args:
        engine: every device must call this.
        data: judged groups.
        workers: threads that decode.
        on_broken: what becomes of a group with an image that cannot be used.
        without: `place` of groups to leave out; they are not counted as dropped.

    Raises:
        RecordError: a row or an image is broken.
        InputError: there is nothing to compare.
        DivergedError: a score is not finite.
    """
    with engine.averaged():
        mine = _share(engine, data, workers, on_broken, without)
    shares = [mine]
    if engine.accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        shares = gather_object([mine])
    with together(engine.accelerator):
        return _figures(shares, data, engine.recipe.seed)


def _figures(shares: list[_Share], data: DataSet, seed: int) -> Validation:
    """Of all devices together."""
    dropped = sum(share.dropped for share in shares)
    by_place = {place: scores for share in shares for place, scores in share.scores.items()}
    if not by_place:
        raise InputError(f"{data.path}: none of its groups can be validated on, {dropped:,} have a broken image")
    groups = [group for group in data.outline() if group.place in by_place]  # in the order of the file
    prompts, people = [group.prompt for group in groups], [group.verdicts() for group in groups]
    scores = [by_place[group.place] for group in groups]
    for prompt, found in zip(prompts, scores, strict=True):
        if not np.isfinite(found).all():
            what = f"images of {reprlib.repr(prompt)} have scores that are no numbers"
            raise DivergedError(f"{data.path}: {what}; {NEW_RUN}")
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    sample = partial(
        bootstrap_accuracy,
        clusters=[numbers[prompt] for prompt in prompts],
        resamples=_RESAMPLES,
        seed=seed,
    )
    credit = pair_accuracy(scores, people, "ties-half")
    weight = sum(share.weight for share in shares)
    return Validation(
        loss=sum(share.loss for share in shares) / weight,
        chance=sum(share.chance for share in shares) / weight,
        credit=credit,
        accuracy=sample(credit),
        hpdv2=sample(pair_accuracy(scores, people, "hpdv2")),
        dropped=dropped,
    )


def _share(engine: Engine, data: DataSet, workers: int | None, on_broken: OnBroken, without: Collection[str]) -> _Share:
    recipe, devices = engine.recipe, engine.accelerator
    pairs = max(1, recipe.batch // (recipe.accumulate * devices.num_processes))
    found = _Share()
    loader = Loader(
        preprocessing=engine.student.preprocessing,
        workers=workers,
        on_broken=on_broken,
        rating=recipe.rated,
        rank=devices.process_index,
        world=devices.num_processes,
    )
    for batch in in_step(devices, batches(data, loader, pairs=pairs, without=without)):
        scores = engine.scores(batch)
        if batch is None:
            continue
        found.dropped += batch.dropped
        if not batch.prompts:
            continue
        loss, weight = objective(recipe, scores, batch)
        found.loss += float(loss)
        found.weight += float(weight)
        found.chance += float(objective(recipe, 0 * scores, batch)[0])
        values = scores.double().cpu().numpy()
        parts = np.split(values, np.cumsum(batch.sizes.numpy())[:-1])
        found.scores.update(zip(batch.places, parts, strict=True))
    return found
