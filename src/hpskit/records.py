"""Records that scorers hand on: who gave a score, and the order that the scores make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, computed_field

from hpskit.schema import Strict

_HPSKIT_VERSION = re.compile(r"\bhpskit \d[\w.+]*")


class ScorerInfo(Strict):
    """The scorer that gave a score. Two scores may be compared only if their identities are equal."""

    model_config = ConfigDict(extra="ignore")  # the identity that `to_json` writes

    name: str
    """Model name, for example `hps-v2.1`, or the stem of a local checkpoint."""
    version: str
    """Version of the weights, or `local`."""
    architecture: str
    """open_clip's name of the network, or `mini`."""
    weight_hash: str
    """`sha256:` and 64 hex digits over all tensors (name, type, shape, bytes), whatever file holds them. Here and below
    `unstated` if the author of a scorer does not say it."""
    preprocessing: str
    """For example `letterbox-224-bicubic-antialias`; see `hpskit.pixels.Preprocessing.name`."""
    precision: str
    """`fp32`, `bf16` or `fp16`: the arithmetic of the network. Scores are float32 in every case."""
    scale: str
    """Unit of the score, in words."""
    licence: str
    """Licence of the weights, as far as it is known."""
    package: str
    """`hpskit` and its version; of a scorer of another package also that, and the hash of its source file."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def identity(self) -> str:
        """The part that decides whether two scores may be compared, on one line."""
        digest = self.weight_hash[: len("sha256:") + 16]
        who = "local" if self.version == "local" else f"{self.name} {self.version}"  # a file may be renamed
        return f"{who} {self.architecture} {digest} {self.preprocessing} {self.precision} {self.package}"

    @property
    def lasting_identity(self) -> str:
        """The identity without the version of hpskit.

        Known answers hold every version to the same scores, so results of two versions may stand side by side as long
        as a reader is told.
        """
        return _HPSKIT_VERSION.sub("hpskit", self.identity)

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the identity, ready for `json.dumps`."""
        return self.model_dump()


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedImage:
    """One line of a ranking of images made for one prompt."""

    rank: int
    """1 is best; equal scores share the better rank."""
    image: str
    """Path or label of the image."""
    score: float
    """On the scorer's scale, higher is better. What a difference of 1 means depends on the scorer: for HPS it is one
    unit of log-odds, for others another number of them, or it is not known."""
    probability: float | None
    """Modelled probability, 0 to 1, that people prefer this image to all the others listed; None if nothing says what
    the scores are in log-odds."""
