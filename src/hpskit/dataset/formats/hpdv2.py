"""Human Preference Dataset v2 (Wu et al. 2023, arXiv 2306.09341), as published on the hub as `ymhao/HPDv2`.

`test.json` ranks whole groups, with the ranks of each annotator; `train.json` has pairs. Both are JSON arrays, with
the images in a folder `test` or `train` beside the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from hpskit.dataset.formats.contract import Format, label_ranks, row_by_row
from hpskit.dataset.group import Group, Judgement
from hpskit.dataset.pairs import Loss, lose_description, lose_of_pairs, orders
from hpskit.records import Row

__all__ = ["TEST", "TRAIN", "test_rows", "train_rows"]

_TEST = frozenset({"prompt", "image_path", "rank"})
_ANNOTATION = frozenset({"rank", "user_hash"})
_TRAIN = frozenset({"prompt", "file_path", "human_preference"})


def _test(row: Row) -> Group:
    images = row.images("image_path")
    raw = row.value.get("raw_annotations", [])
    if not isinstance(raw, list):
        row.fail("raw_annotations", "a list of objects with rank and user_hash")
    judgements = []
    for number, value in enumerate(raw, 1):
        annotation = row.inner("raw_annotations", number, value, _ANNOTATION)
        ranks = annotation.ranks("rank", len(images))
        judgements.append(Judgement(ranks=ranks, annotator=annotation.optional_text("user_hash")))
    return Group(
        place=row.place,
        prompt=row.text("prompt"),
        images=images,
        judgements=tuple(judgements),
        rank=row.ranks("rank", len(images)),
    )


def _train(row: Row) -> Group:
    images = row.images("file_path")
    if len(images) != 2:
        row.fail("file_path", "two images")
    label = row.value.get("human_preference")
    ranks = label_ranks(*label) if isinstance(label, list) and len(label) == 2 else None
    if ranks is None:
        row.fail("human_preference", "[1, 0], [0, 1], or [0.5, 0.5] for a tie")
    return Group(place=row.place, prompt=row.text("prompt"), images=images, judgements=(Judgement(ranks=ranks),))


def test_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """A group as a row of `test.json`; where no order is published it is the order of the mean ranks."""
    lose_description(group, lose)
    order = group.consensus()
    if np.isnan(order).any():
        lose("groups with images that nobody ranked (left out)")
        return
    judgements = [j for j in group.judgements if None not in j.ranks]
    if len(judgements) < len(group.judgements):
        lose("partial rankings (left out)")
    yield {
        "prompt": group.prompt,
        "image_path": group.images,
        "rank": group.rank or [1 + int((order < mean).sum()) for mean in order],
        "raw_annotations": [_annotation(j) for j in judgements for _ in range(j.votes)],
    }


def _annotation(judgement: Judgement) -> dict[str, Any]:
    user = {} if judgement.annotator is None else {"user_hash": judgement.annotator}
    return {"rank": judgement.ranks, **user}


def train_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """A group as rows of `train.json`: one for each pair of each judgement."""
    lose_of_pairs(group, lose)
    judgements = orders(group)
    if sum(j.votes for j in judgements) > 1:
        lose("which judgements are of one group (written as rows of their own)")
    for judgement in judgements:
        for one, other in itertools.combinations(range(len(group.images)), 2):
            first, second = judgement.ranks[one], judgement.ranks[other]
            if first is not None and second is not None:
                label = [0.5, 0.5] if first == second else [int(first < second), int(second < first)]
                row = {
                    "human_preference": label,
                    "prompt": group.prompt,
                    "file_path": [group.images[one], group.images[other]],
                }
                yield from itertools.repeat(row, judgement.votes)


TEST = Format(
    name="hpdv2-test",
    summary="HPD v2, test.json: ranked groups with the ranks of each annotator",
    needs=_TEST,
    read=row_by_row(_test, _TEST | {"raw_annotations"}),
    folders=("test",),
)
TRAIN = Format(
    name="hpdv2-train",
    summary="HPD v2, train.json: pairs",
    needs=_TRAIN,
    read=row_by_row(_train, _TRAIN),
    folders=("train",),
)
