"""A batch in parts, so that the memory of a step is that of one part."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hpskit.training.batch import Batch

__all__ = ["split"]


def split(batch: Batch, parts: int) -> list[Batch]:
    """Whole groups in order, about equally many in each part.

    Parts of nothing if there are fewer groups: processes that hold shards must all run the network equally often.
    """
    if parts == 1:
        return [batch]
    edges = [len(batch.prompts) * part // parts for part in range(parts + 1)]
    return [_between(batch, start, end) for start, end in itertools.pairwise(edges)]


def _between(batch: Batch, start: int, end: int) -> Batch:
    """The groups from `start` up to `end`."""
    images = (batch.group >= start) & (batch.group < end)
    offset = int((batch.group < start).sum())
    pairs = images[batch.first]
    return replace(
        batch,
        prompts=batch.prompts[start:end],
        pixels=batch.pixels[images],
        group=batch.group[images] - start,
        first=batch.first[pairs] - offset,
        second=batch.second[pairs] - offset,
        share=batch.share[pairs],
        votes=batch.votes[pairs],
        weight=batch.weight[start:end],
        ranks=batch.ranks[start:end],
        judged=batch.judged[start:end],
        ratings=batch.ratings[images],
        places=batch.places[start:end],
        broken=[],
    )
