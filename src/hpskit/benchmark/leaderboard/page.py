"""A leaderboard as one HTML page that opens offline: style, script, scores and small pictures are inside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.leaderboard.pictures import Pictures
from hpskit.benchmark.result import Result
from hpskit.pages import environment

__all__ = ["leaderboard_page"]

_DIGITS = 5
"""Significant digits of figures in the page; `leaderboard.json` has all of them."""


def leaderboard_page(board: Mapping[str, Any], results: Sequence[Result], pictures: Pictures) -> str:
    """The page.

    Args:
        board: what `leaderboard.json` holds; see `hpskit.benchmark.leaderboard.run`.
        results: those that it was made from: the page holds their scores by prompt.
        pictures: what it can show.
    """
    from markupsafe import Markup

    text = json.dumps(_data(board, results, pictures), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    inert = Markup(text.replace("<", "\\u003c"))  # noqa: S704  # in a script element only `<` can mean something
    return environment("hpskit.benchmark.leaderboard").get_template("leaderboard.html").render(result=board, data=inert)


def _data(board: Mapping[str, Any], results: Sequence[Result], pictures: Pictures) -> dict[str, Any]:
    """What the script reads; see the head of `leaderboard.js`."""
    rows = results[0].prompts
    categories = [one["name"] for one in board["suite"]["categories"]]
    by_name = {result.name: result for result in results}
    return {
        **{name: board[name] for name in ("title", "command", "package", "suite", "settings", "notes")},
        "prompts": [row.prompt for row in rows],
        "category": [categories.index(row.category) for row in rows],
        "number": [row.number for row in rows],
        "models": [_model(model, by_name[model["name"]], pictures) for model in board["models"]],
        "boards": [_board(scorer, by_name) for scorer in board["scorers"]],
        "agreement": [_short(row) for row in board["agreement"]],
    }


def _model(model: Mapping[str, Any], result: Result, pictures: Pictures) -> dict[str, Any]:
    name = model["name"]
    small = {row: picture for (owner, row), picture in pictures.thumbnails.items() if owner == name}
    several = max(len(row.images) for row in result.prompts)
    return {**model, "small": small, "link": pictures.links[name], "several": several}


def _board(scorer: Mapping[str, Any], results: Mapping[str, Result]) -> dict[str, Any]:
    scores = np.stack([results[name].scores(scorer["label"]) for name in scorer["models"]])
    digits = _digits(scores)
    return {
        **{name: scorer[name] for name in ("label", "info", "reads_prompt", "models", "published")},
        "digits": digits,
        "scores": [[None if np.isnan(score) else round(score, digits) for score in row.tolist()] for row in scores],
        "scopes": [_scope(scope, scorer["models"]) for scope in scorer["scopes"]],
    }


def _digits(scores: NDArray[np.float64]) -> int:
    """Decimals that show a hundredth of the scores' spread, at least 2."""
    deviation = float(np.nanstd(scores))
    return max(2, 2 - math.floor(math.log10(deviation))) if deviation > 0 else 2


_DIFFERENCE = (
    "value",
    "low",
    "high",
    "win_rate",
    "win_low",
    "win_high",
    "holm_p",
    "prompts",
    "detectable",
    "wins",
    "losses",
)


def _scope(scope: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A difference is a list, for there are many: places of the two models, then `_DIFFERENCE`."""
    place = {name: n for n, name in enumerate(names)}
    return {
        "category": scope["category"],
        "prompts": scope["prompts"],
        "models": [_short(row) for row in scope["models"]],
        "differences": [
            [place[row["first"]], place[row["second"]], *(_short(row[name]) for name in _DIFFERENCE)]
            for row in scope["differences"]
        ],
    }


def _short(value: Any) -> Any:
    """The same with fewer digits."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _short(part) for key, part in value.items()}
    return value
