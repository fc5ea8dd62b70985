"""Rapidata's sets of pairs: parquet with two images in each row, and the crowd's votes on them.

The older sets count votes (`700k_Human_Preference_Dataset_FLUX_SD3_MJ_DALLE3`). The newer, `…_t2i_human_preference`,
give the share of the votes for either image, weighted by how much the voters are trusted: a published order, as it does
not say how many voted. Single votes, in `detailed_results…`, and other columns are not read.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from hpskit.dataset.formats import ImageBytes, Layout, Text, pair_in_row
from hpskit.dataset.formats.pickapic import known
from hpskit.dataset.group import Group, Judgement
from hpskit.schema import Expected

_Votes = Annotated[int, Field(ge=0, le=1_000_000), Expected("a whole number of votes")]
_Share = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    BeforeValidator(known),
    Expected("a share of the votes, 0 to 1, or null"),
]
_EQUAL = 1e-6
"""Shares that differ by less are equal: they are sums of weights."""


class PairRow(Layout):
    """Two images, and the generators that made them."""

    model_config = ConfigDict(extra="ignore")
    carries = frozenset({"image1", "image2"})

    prompt: Text
    image1: ImageBytes = None
    image2: ImageBytes = None
    model1: Text | None = None
    model2: Text | None = None

    def group(
        self, place: str, *, judgements: tuple[Judgement, ...] = (), rank: tuple[int, int] | None = None
    ) -> Group:
        """Make the group, with what people said."""
        sources = (self.model1, self.model2) if self.model1 and self.model2 else None
        sides = {"image1": self.image1, "image2": self.image2}
        return pair_in_row(place, self.prompt, sides, judgements=judgements, rank=rank, sources=sources)


class VotedRow(PairRow):
    """A row of an older set."""

    layout = "rapidata"

    votes_image1: _Votes
    votes_image2: _Votes

    def to_group(self, place: str) -> Group:
        both = (((1, 2), self.votes_image1), ((2, 1), self.votes_image2))
        return self.group(place, judgements=tuple(Judgement(ranks=ranks, votes=n) for ranks, n in both if n))


class ShareRow(PairRow):
    """A row of a newer set; of its questions the one for the preference counts."""

    layout = "rapidata-shares"

    weighted_results_image1_preference: _Share
    weighted_results_image2_preference: _Share

    def to_group(self, place: str) -> Group:
        first, second = self.weighted_results_image1_preference, self.weighted_results_image2_preference
        if first is None or second is None:
            return self.group(place)
        ahead = first - second
        return self.group(place, rank=(1 + (ahead < -_EQUAL), 1 + (ahead > _EQUAL)))
