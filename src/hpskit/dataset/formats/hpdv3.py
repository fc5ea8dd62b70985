"""Human Preference Dataset v3 (Ma et al. 2025, arXiv 2508.03789): pairs with the votes of several people.

`path1` is the image that the data set says is preferred, so the published order is (1, 2) in every row, whatever the
votes in `choice_dist`. The curated part has no votes (null); then the published order is all there is.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from hpskit.dataset.formats import Layout
from hpskit.dataset.group import Group, Judgement
from hpskit.records import ImageName, Text, distinct_images
from hpskit.schema import Expected

__all__ = ["VotedRow"]

_Votes = Annotated[int, Field(ge=0, le=1_000_000)]


class VotedRow(Layout):
    """A row of `train.json` or `test.json`."""

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
