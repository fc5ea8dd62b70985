"""How good a network is on data that it does not learn from."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.reading import DataSet
from hpskit.errors import DivergedError, InputError
from hpskit.stats import Accuracy, Interval, bootstrap_accuracy, pair_accuracy
from hpskit.training.data import OnBroken
from hpskit.training.engine import NEW_RUN, Engine, any_of, gathered
from hpskit.training.loader import Batch, Decoder, validation_batches
from hpskit.training.losses import objective

__all__ = ["Validation", "validate"]

_RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Figures of a network on the validation data, all devices together."""

    loss: float
    """As in training, mean by the weights of the recipe."""
    chance: float
    """Loss of equal scores."""
    credit: Accuracy
    """By the rule `ties-half`, for each group, against the order that `hpskit evaluate` judges by: the published one of
    a group, or that of its single judgements. The loss is over single judgements."""
    accuracy: Interval
    """The same with its interval, 95 % over prompts."""
    hpdv2: Interval
    """By the rule `hpdv2`, against the same order."""
    dropped: int
    """Groups left out because of a broken image."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of its line in the log."""
        accuracies = {
            name: {"value": interval.value, "low": interval.low, "high": interval.high}
            for name, interval in (("accuracy", self.accuracy), ("hpdv2", self.hpdv2))
        }
        counts = {"groups": self.credit.groups, "pairs": self.credit.pairs, "dropped": self.dropped}
        return {"loss": self.loss, "chance": self.chance, **accuracies, **counts}


@dataclass(kw_only=True, slots=True)
class Scored:
    """Sums over the groups that one device has scored, and their scores."""

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
        on_broken: fate of a group with an image that cannot be used.
        without: `place` of groups to leave out; they are not counted as dropped.

    Raises:
        RecordError: a row or an image is broken.
        InputError: there is nothing to compare.
        DivergedError: a score is not finite.
    """
    recipe, devices = engine.recipe, engine.accelerator
    decoder = Decoder(
        preprocessing=engine.student.preprocessing,
        workers=workers,
        on_broken=on_broken,
        rating=recipe.rated,
        rank=devices.process_index,
        world=devices.num_processes,
    )
    pairs = max(1, recipe.batch // (recipe.accumulate * devices.num_processes))
    with engine.averaged():
        mine = score(engine, validation_batches(data, decoder, pairs=pairs, without=without))
    return figures(gathered(devices, [mine]), data, recipe.seed)


def score(engine: Engine, batches: Iterator[Batch]) -> Scored:
    """Score this device's batches, in as many turns as the device with the most of them takes."""
    found = Scored()
    while any_of(engine.accelerator, (batch := next(batches, None)) is not None):
        scores = engine.scores(batch)
        if batch is None:
            continue
        found.dropped += batch.dropped
        if not batch.prompts:
            continue
        loss, weight = objective(engine.recipe, scores, batch)
        found.loss += float(loss)
        found.weight += float(weight)
        found.chance += float(objective(engine.recipe, 0 * scores, batch)[0])
        parts = np.split(scores.double().cpu().numpy(), np.cumsum(batch.sizes.numpy())[:-1])
        found.scores.update(zip(batch.places, parts, strict=True))
    return found


def figures(scored: list[Scored], data: DataSet, seed: int) -> Validation:
    """Join what the devices have scored.

    Args:
        scored: of each device.
        data: whose groups they are.
        seed: of the resampling.

    Raises:
        InputError: there is nothing to compare.
        DivergedError: a score is not finite.
    """
    dropped = sum(share.dropped for share in scored)
    by_place = {place: scores for share in scored for place, scores in share.scores.items()}
    if not by_place:
        raise InputError(data.path, f"has no group to validate on, {dropped:,} have a broken image")
    groups = [group for group in data.outline() if group.place in by_place]  # in the order of the file
    prompts, people = [group.prompt for group in groups], [group.verdicts() for group in groups]
    scores = [by_place[group.place] for group in groups]
    for prompt, found in zip(prompts, scores, strict=True):
        if not np.isfinite(found).all():
            what = f"has images of {reprlib.repr(prompt)} with scores that are no numbers"
            raise DivergedError(data.path, what, cure=NEW_RUN)
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    clusters = [numbers[prompt] for prompt in prompts]
    sample = partial(bootstrap_accuracy, clusters=clusters, resamples=_RESAMPLES, seed=seed)
    credit = pair_accuracy(scores, people, "ties-half")
    weight = sum(share.weight for share in scored)
    return Validation(
        loss=sum(share.loss for share in scored) / weight,
        chance=sum(share.chance for share in scored) / weight,
        credit=credit,
        accuracy=sample(credit),
        hpdv2=sample(pair_accuracy(scores, people, "hpdv2")),
        dropped=dropped,
    )
