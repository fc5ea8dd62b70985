"""Human Preference Datasets v2 and v3, as published on the hub.

v2 (Wu et al. 2023, arXiv 2306.09341; `ymhao/HPDv2`): `test.json` ranks whole groups, with the ranks of each annotator;
`train.json` has pairs. Both are JSON arrays, with the images in a folder `test` or `train` beside the file.

v3 (Ma et al. 2025, arXiv 2508.03789): pairs with the votes of several people. `path1` is the image that the data set
says is preferred, so the published order is (1, 2) in every row, whatever the votes in `choice_dist`. The curated part
has no votes (null); then the published order is all there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from hpskit.dataset.formats import (
    LABELS,
    ImageName,
    Images,
    Layout,
    Loss,
    Ranks,
    Text,
    check_lengths,
    distinct_images,
    lose_description,
    lose_of_pairs,
)
from hpskit.dataset.group import Group, Judgement, orders
from hpskit.errors import InputError
from hpskit.schema import Expected, Strict

_LABEL = "[1, 0], [0, 1], or [0.5, 0.5] for a tie"
_Votes = Annotated[int, Field(ge=0, le=1_000_000)]


class Annotation(Strict):
    """The ranks that one annotator gave."""

    rank: Ranks
    user_hash: Text | None = None


class RankedRow(Layout):
    """A row of `test.json`."""

    layout = "hpdv2-test"
    folders = ("test",)

    prompt: Text
    image_path: Images
    rank: Ranks
    """The published order."""
    raw_annotations: Annotated[tuple[Annotation, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the fields fit one another."""
        check_lengths(self.image_path, rank=self.rank)
        for number, annotation in enumerate(self.raw_annotations):
            check_lengths(self.image_path, **{f"raw_annotations[{number}].rank": annotation.rank})
        return self

    def to_group(self, place: str) -> Group:
        judgements = tuple(Judgement(ranks=a.rank, annotator=a.user_hash) for a in self.raw_annotations)
        return Group(place=place, prompt=self.prompt, images=self.image_path, judgements=judgements, rank=self.rank)


class PairRow(Layout):
    """A row of `train.json`."""

    layout = "hpdv2-train"
    folders = ("train",)

    prompt: Text
    file_path: Images
    human_preference: Annotated[tuple[float, float], Field(strict=False), Expected(_LABEL)]

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that there are two images, and a label that means something."""
        if len(self.file_path) != 2:
            raise InputError("file_path", f"is {[*self.file_path]}", expected="two images")
        if self.human_preference not in LABELS:
            raise InputError("human_preference", f"is {[*self.human_preference]}", expected=_LABEL)
        return self

    def to_group(self, place: str) -> Group:
        judgements = (Judgement(ranks=LABELS[self.human_preference]),)
        return Group(place=place, prompt=self.prompt, images=self.file_path, judgements=judgements)


class VotedRow(Layout):
    """A row of `train.json` or `test.json` of v3."""

    layout = "hpdv3"

    prompt: Text
    path1: ImageName
    path2: ImageName
    choice_dist: (
        Annotated[
            tuple[_Votes, _Votes],
            Field(strict=False),
            Expected("the numbers of votes for path1 and path2, for example [12, 7], or null"),
        ]
        | None
    ) = None
    confidence: Annotated[float, Field(ge=0, le=1), Expected("a number from 0 to 1, or null")] | None = None
    model1: Text | None = None
    model2: Text | None = None

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that there are two images."""
        distinct_images((self.path1, self.path2), field="path2")
        return self

    def to_group(self, place: str) -> Group:
        sources, models = None, {"model1": self.model1, "model2": self.model2}
        if self.model1 is not None and self.model2 is not None:
            sources, models = (self.model1, self.model2), {}
        meta: dict[str, Any] = {**models, "confidence": self.confidence}
        return Group(
            place=place,
            prompt=self.prompt,
            images=(self.path1, self.path2),
            judgements=tuple(
                Judgement(ranks=ranks, votes=votes)
                for ranks, votes in zip(((1, 2), (2, 1)), self.choice_dist or (), strict=False)
                if votes
            ),
            rank=(1, 2),
            sources=sources,
            meta={name: value for name, value in meta.items() if value is not None},
        )


def test_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """Write a group as a row of `test.json`; where no order is published it is the order of the mean ranks."""
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
        "raw_annotations": [
            {"rank": j.ranks, **({} if j.annotator is None else {"user_hash": j.annotator})}
            for j in judgements
            for _ in range(j.votes)
        ],
    }


def train_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """Write a group as rows of `train.json`: one for each pair of each judgement."""
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
