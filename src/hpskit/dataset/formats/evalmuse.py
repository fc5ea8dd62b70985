"""EvalMuse-40K (Han et al. 2024, arXiv 2412.18150): how well images fit their prompts, 1 to 5, by several people each.

`train_list.json` has an image in each row; the images of a prompt are a group, in the order of their mean scores. The
set does not say which scores are of one person, so that there are no judgements. Scores of elements and other fields
are not read, and `test.json` has no scores.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

from pydantic import ConfigDict, Field

from hpskit.dataset.formats import ImageName, Text
from hpskit.dataset.formats.imagereward import PromptImage
from hpskit.dataset.group import Group
from hpskit.schema import Expected

_Scores = Annotated[
    tuple[Annotated[int, Field(ge=1, le=5)], ...],
    Field(strict=False, min_length=1),
    Expected("a list of scores from 1 to 5, one of each person"),
]


class ScoredRow(PromptImage):
    """A row of `train_list.json`: one image of a prompt."""

    model_config = ConfigDict(extra="ignore")
    layout = "evalmuse"
    folders = ("images",)
    same = ("prompt", "type")

    image_path: ImageName = Field(alias="img_path")
    prompt_id: Text
    prompt: Text
    total_score: _Scores
    type: Text | None = None
    """`real` prompts of users, or synthetic ones."""

    @staticmethod
    def merged(found: list[tuple[str, ScoredRow]]) -> Group:
        """Make a group of the images of a prompt."""
        place, first = found[0]
        rows = [row for _, row in found]
        means = [Fraction(sum(row.total_score), len(row.total_score)) for row in rows]
        return Group(
            place=place,
            id=first.prompt_id,
            prompt=first.prompt,
            images=tuple(row.image_path for row in rows),
            rank=tuple(1 + sum(other > mean for other in means) for mean in means),
            category=first.type,
            meta={"total_score": [list(row.total_score) for row in rows]},
        )
