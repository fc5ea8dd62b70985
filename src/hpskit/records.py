"""The records that stages hand to one another: frozen, with units and ranges, to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hpskit.errors import RecordError

__all__ = ["Item", "RankedImage", "ScorerInfo"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image to be scored for one prompt, and where the request stands."""

    row: int
    """Number of the row in its file, from 1 (a CSV header and blank lines are not counted)."""
    image: str
    """The image as the file names it."""
    prompt: str
    """Not empty."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """All other columns of the row; they are handed on to the output unchanged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerInfo:
    """Who gave a score. Two scores may be compared only if their identities are equal."""

    name: str
    """Model name, for example `hps-v2.1`, or the stem of a local checkpoint."""
    version: str
    """Version of the weights, or `local`."""
    architecture: str
    """open_clip's name of the network, or `mini`."""
    weight_hash: str
    """`sha256:` and 64 hex digits over all tensors (name, type, shape, bytes), whatever file holds them."""
    preprocessing: str
    """For example `letterbox-224-bicubic-antialias`; see `hpskit.pixels.Preprocessing.name`."""
    precision: str
    """`fp32`, `bf16` or `fp16`: the arithmetic of the network. Scores are float32 in every case."""
    scale: str
    """Unit of the score, in words."""
    licence: str
    """Licence of the weights, as far as it is known."""
    package: str
    """`hpskit` and its version."""

    @property
    def identity(self) -> str:
        """The part that decides whether two scores may be compared, on one line."""
        preprocessing, digest = self.preprocessing, self.weight_hash[: len("sha256:") + 16]
        return f"{self.name} {self.version} {digest} {preprocessing} {self.precision} {self.package}"

    def to_json(self) -> dict[str, Any]:
        """All fields and the identity, ready for `json.dumps`."""
        return {**asdict(self), "identity": self.identity}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], place: str) -> ScorerInfo:
        """Read what `to_json` wrote; `place` is named in errors.

        Raises:
            RecordError: a field is missing or not a string.
        """
        names = [f.name for f in fields(cls)]
        for name in names:
            if not isinstance(value.get(name), str):
                raise RecordError(f"{place}: field {name!r} is {value.get(name)!r}, expected a string")
        return cls(**{name: value[name] for name in names})


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedImage:
    """One line of a ranking of images made for one prompt."""

    rank: int
    """1 is best; equal scores share the better rank."""
    image: str
    """Path or label of the image."""
    score: float
    """On the scorer's scale; a difference of 1 is one unit of log-odds."""
    probability: float
    """Modelled probability, 0 to 1, that people prefer this image to all the others listed."""
