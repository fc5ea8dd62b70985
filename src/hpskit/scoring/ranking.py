"""The order that a scorer gives to the images of a prompt, as a notebook and a terminal show it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from hpskit.errors import ImageError, printable
from hpskit.pages.format import number, percent
from hpskit.pixels import thumbnail
from hpskit.records import RankedImage


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


def ranked(labels: Sequence[str], scores: Sequence[float], log_odds_per_point: float | None) -> list[RankedImage]:
    """Order images of one prompt by their scores, best first; see `PreferenceScorer.rank`."""
    probabilities: list[float | None] = [None] * len(scores)
    if log_odds_per_point is not None and scores:
        chances = np.exp((np.asarray(scores) - max(scores)) * log_odds_per_point)
        probabilities = (chances / chances.sum()).tolist()
    return [
        RankedImage(
            rank=1 + sum(other > scores[i] for other in scores),
            image=labels[i],
            score=scores[i],
            probability=probabilities[i],
        )
        for i in sorted(range(len(scores)), key=lambda i: -scores[i])
    ]


def win_probability(first: float, second: float, log_odds_per_point: float) -> float:
    """Modelled probability, 0 to 1, that people prefer the image with the first score; see `PreferenceScorer`."""
    ahead = (first - second) * log_odds_per_point
    return math.exp(min(ahead, 0.0)) / (1 + math.exp(-abs(ahead)))


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
