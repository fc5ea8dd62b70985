"""The promises of everything that scores images, the order that it gives, and a scorer with its label in tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, runtime_checkable

from markupsafe import Markup

from hpskit.errors import ImageError, InputError, printable
from hpskit.pages.format import number, percent
from hpskit.pixels import thumbnail
from hpskit.records import RankedImage, ScorerInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from hpskit.models.training_record import TrainingRecord
    from hpskit.pixels import Encoded

__all__ = ["Candidate", "ImageLike", "Images", "Ranking", "Scorer", "check_candidates"]

ImageLike: TypeAlias = Union[str, os.PathLike[str], "Image.Image", "Tensor", "NDArray[Any]", "Encoded"]
"""A path, a PIL image, a tensor or array (3, H, W) or (H, W, 3), or the bytes of a file that was read already."""
Images: TypeAlias = ImageLike | Iterable[ImageLike]
"""One image or several; a tensor or array may hold N of them."""


@runtime_checkable
class Scorer(Protocol):
    """Scores images for prompts; knows nothing about files, HTTP or benchmarks."""

    @property
    def info(self) -> ScorerInfo:
        """Identity of the scores."""
        ...

    @property
    def reads_prompt(self) -> bool:
        """True if the score depends on the prompt."""
        ...

    @property
    def log_odds_per_point(self) -> float | None:
        """Log-odds of being preferred, for each point by which an image is ahead of another of its prompt.

        None if nothing says so; 0 if the scorer's probabilities say nothing.
        """
        ...

    def score(self, images: ImageLike | Sequence[ImageLike], prompts: str | Sequence[str]) -> Tensor:
        """Score N images for N prompts (or one for all): (N,) float32, higher is better."""
        ...


class Ranking(list[RankedImage]):
    """Images of one prompt, best first: a list that a notebook shows with the images, and a terminal as a table."""

    def __init__(
        self, lines: Iterable[RankedImage], *, prompt: str, scorer: str, pictures: Mapping[str, Path | str]
    ) -> None:
        """Hold lines; `pictures` are files or `data:` addresses by label, `scorer` the name of who ranked."""
        super().__init__(lines)
        self.prompt = prompt
        self.scorer = scorer
        self._pictures = pictures

    def __repr__(self) -> str:
        rows = [("rank", "score", "preferred", "image")]
        rows += [(str(line.rank), *_figures(line), printable(line.image)) for line in self]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row[:3], widths, strict=False)) for row in rows]
        return "\n".join(f"{line}  {row[3]}" for line, row in zip(lines, rows, strict=True))

    def _repr_html_(self) -> str:
        """A table of a notebook: nothing is loaded from elsewhere, and its colours are those that surround it."""
        scores = [line.score for line in self]
        lowest, span = min(scores, default=0), (max(scores, default=0) - min(scores, default=0)) or 1
        rows = []
        for line in self:
            score, preferred = _figures(line)
            share = line.probability if line.probability is not None else (line.score - lowest) / span
            rows.append(
                _ROW.format(
                    line.rank, _shown(self._pictures[line.image]), f"{100 * share:.1f}", preferred, score, line.image
                )
            )
        head = Markup("<div><b>{}</b> <span style='opacity:.6'>{}</span></div>").format(self.prompt, self.scorer)
        return head + Markup("<table>{}</table>").format(Markup().join(rows))


_ROW = Markup(
    "<tr><td style='text-align:right'>{}</td><td>{}</td><td style='text-align:left;min-width:9em'>"
    "<div style='background:rgba(128,128,128,.25);border-radius:3px'><div style='background:#3f8f5f;height:.7em;"
    "border-radius:3px;width:{}%'></div></div>{}</td><td style='text-align:right'>{}</td>"
    "<td style='text-align:left;overflow-wrap:anywhere'>{}</td></tr>"
)
"""Rank, thumbnail, bar and its figure, score, label."""


def _figures(line: RankedImage) -> tuple[str, str]:
    return number(line.score), "" if line.probability is None else percent(line.probability, 1)


def _shown(picture: Path | str) -> Markup:
    try:
        address = picture if isinstance(picture, str) else thumbnail(picture, side=160)
    except ImageError as error:  # the file has changed since it was scored
        return Markup("<em>{}</em>").format(error.found)
    return Markup("<img src='{}' style='max-width:160px;max-height:110px' alt=''>").format(address)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A scorer under its label, and what is known of its training."""

    label: str
    """Name in tables and pages; different for each."""
    scorer: Scorer
    training: TrainingRecord | None = None
    """None if its makers left no record of what it was trained on."""


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """See that scorers can be told apart.

    Raises:
        InputError: two have the same label or the same identity.
    """
    labels = [candidate.label for candidate in candidates]
    identities = [candidate.scorer.info.identity for candidate in candidates]
    for names, found in ((labels, "names {!r} twice"), (identities, "has two that are {!r}")):
        for name in names:
            if names.count(name) > 1:
                raise InputError("scorers", found.format(name), cure="name each scorer once")
