"""The one form in which all data sets are seen: images made for one prompt, and how people judged them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "Group", "Judgement"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """How one person, or several who agreed, ordered the images of a group."""

    ranks: tuple[int | None, ...]
    """One for each image: 1 is best, equal ranks are a tie, None was not ranked."""
    annotator: str | None = None
    """The same word for the same person throughout the data set; None if the data set does not say."""
    votes: int = 1
    """How many people gave exactly this judgement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What tells the bytes of an image from all others."""

    size: int
    """Bytes."""
    sha256: str
    """64 hex digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Images made for one prompt with all judgements of them. A pair is a group of two images."""

    place: str
    """File and row, as errors name it, for example `test.json: entry 17 (line 301)`."""
    prompt: str
    images: tuple[str, ...]
    """At least two, all different: paths as the file names them, or names of embedded images."""
    judgements: tuple[Judgement, ...] = ()
    """Empty if nobody has judged the group, or if the data set keeps only the order of all together."""
    id: str | None = None
    """The name of the group in its data set, if it has one."""
    rank: tuple[int, ...] | None = None
    """The order that the data set publishes for all its annotators together, if it does; 1 is best."""
    sources: tuple[str, ...] | None = None
    """Which generator made each image, if it is known."""
    category: str | None = None
    """Style or kind of the prompt, if it is known."""
    embedded: Mapping[str, bytes] = field(default_factory=dict)
    """Image name -> bytes of the encoded image, where the data set carries its images itself."""
    contents: Mapping[str, Content] = field(default_factory=dict, compare=False)
    """Image name -> what its bytes are, where the data set says so instead of giving them."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Known fields of the format that nothing here interprets; kept so that a conversion loses nothing."""

    def ranks(self) -> NDArray[np.float64]:
        """(judgements, images): each judgement once for each of its votes; NaN was not ranked."""
        rows = [j.ranks for j in self.judgements for _ in range(j.votes)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.images))

    def verdicts(self) -> NDArray[np.float64]:
        """(1 or judgements, images): what decides its pairs, the published order as one row, or every judgement.

        A pair of images that no row ranks both of was compared by nobody.
        """
        return self.ranks() if self.rank is None else np.array([self.rank], dtype=np.float64)

    def consensus(self) -> NDArray[np.float64]:
        """(images,): the published rank, else the mean rank over the votes; lower is better.

        NaN is an image that nobody ranked. Means of partial rankings are comparable only if the annotators left out
        images at random; use pairs of single judgements where they did not.
        """
        if self.rank is not None:
            return np.array(self.rank, dtype=np.float64)
        ranks = self.ranks()
        counts = (~np.isnan(ranks)).sum(axis=0)
        return np.where(counts > 0, np.nansum(ranks, axis=0) / np.maximum(counts, 1), np.nan)
