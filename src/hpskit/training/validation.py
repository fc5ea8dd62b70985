"""Measure how good a network is on data that it does not learn from."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.reading import DataSet
from hpskit.errors import DivergedError, InputError
from hpskit.stats.accuracy import Accuracy, pair_accuracy
from hpskit.stats.intervals import bootstrap_accuracy
from hpskit.training.engine import NEW_RUN, Engine, gathered
from hpskit.training.loader import Batch, Decoder, validation_batches
from hpskit.training.losses import objective

_RESAMPLES = 2_000


def validate(
    engine: Engine, data: DataSet, decoder: Decoder, without: Collection[str] = ()
) -> tuple[dict[str, Any], Accuracy]:
    """Score every group of a data set once, with the moving average if there is one.

    Args:
        engine: every device must call this.
        data: judged groups.
        decoder: decodes this device's part.
        without: `place` of groups to leave out; they are not counted as dropped.

    Returns:
        The fields of its line in the log, all devices together, and the credit of each group by the rule `ties-half`.
        `loss` is over single judgements, as in training, and `chance` is that of equal scores. `accuracy` (the credit)
        and `hpdv2`, with 95 % intervals over prompts, are against the order that `hpskit evaluate` judges by: the
        published one of a group, or that of its single judgements.

    Raises:
        RecordError: a row or an image is broken.
        InputError: there is nothing to compare.
        DivergedError: a score is not finite.
    """
    recipe = engine.recipe
    pairs = max(1, recipe.batch // (recipe.accumulate * engine.accelerator.num_processes))
    with engine.averaged():
        mine = score(engine, validation_batches(data, decoder, pairs=pairs, without=without))
    shares = gathered([mine])
    loss, guessing, weight, dropped = (sum(sums) for sums in zip(*(sums for sums, _ in shares), strict=True))
    by_place = {place: scores for _, found in shares for place, scores in found.items()}
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
    sample = partial(bootstrap_accuracy, clusters=clusters, resamples=_RESAMPLES, seed=recipe.seed)
    credit = pair_accuracy(scores, people, "ties-half")
    intervals = {"accuracy": sample(credit), "hpdv2": sample(pair_accuracy(scores, people, "hpdv2"))}
    figures = {
        "loss": loss / weight,
        "chance": guessing / weight,
        **{name: {"value": it.value, "low": it.low, "high": it.high} for name, it in intervals.items()},
        "groups": credit.groups,
        "pairs": credit.pairs,
        "dropped": dropped,
    }
    return figures, credit


def score(
    engine: Engine, batches: Iterator[Batch]
) -> tuple[tuple[float, float, float, int], dict[str, NDArray[np.float64]]]:
    """Score this device's batches, in as many turns as the device with the most of them takes.

    Returns:
        Sums of the loss, of that of equal scores and of the weights, and the number of dropped groups; and place of
        each group -> its scores, (images,).
    """
    total, guessing, weights, dropped = 0.0, 0.0, 0.0, 0
    found: dict[str, NDArray[np.float64]] = {}
    while any(gathered([(batch := next(batches, None)) is not None])):
        scores = engine.scores(batch)
        if batch is None:
            continue
        dropped += batch.dropped
        if not batch.examples:
            continue
        loss, weight = objective(engine.recipe, scores, batch)
        total += float(loss)
        weights += float(weight)
        guessing += float(objective(engine.recipe, 0 * scores, batch)[0])
        parts = np.split(scores.double().cpu().numpy(), np.cumsum(batch.sizes.numpy())[:-1])
        found.update(zip((example.place for example in batch.examples), parts, strict=True))
    return (total, guessing, weights, dropped), found
