"""GenAI-Bench of TIGER-Lab (Jiang et al. 2024, arXiv 2406.04485), task `image_generation`: votes of an arena, parquet.

Not the set of that name by CMU, which has ratings. A vote for neither is a tie, "both bad" as well, which `meta` keeps
apart: a scorer of one image cannot say that two are bad. The authors' own count has these four answers, so that chance
is 25 %; others leave both kinds of ties out, as the rule `imagereward` does. Other columns are not read.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from hpskit.dataset.formats import ImageBytes, Layout, Text, pair_in_row
from hpskit.dataset.group import Group, Judgement

_RANKS = {"leftvote": (1, 2), "rightvote": (2, 1), "tievote": (1, 1), "bothbad_vote": (1, 1)}


class VoteRow(Layout):
    """A row: two images and one vote."""

    model_config = ConfigDict(extra="ignore")
    layout = "genai-bench"
    carries = frozenset({"left_image", "right_image"})

    prompt: Text
    vote_type: Literal["leftvote", "rightvote", "tievote", "bothbad_vote"]
    left_image: ImageBytes = None
    right_image: ImageBytes = None
    left_model: Text | None = None
    right_model: Text | None = None

    def to_group(self, place: str) -> Group:
        return pair_in_row(
            place,
            self.prompt,
            {"left": self.left_image, "right": self.right_image},
            judgements=(Judgement(ranks=_RANKS[self.vote_type]),),
            sources=(self.left_model, self.right_model) if self.left_model and self.right_model else None,
            meta={"vote_type": self.vote_type},
        )
