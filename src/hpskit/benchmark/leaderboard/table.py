"""A leaderboard as Markdown, to stand in a README."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hpskit.pages import counted, number, percent

__all__ = ["incomplete", "leaderboard_table"]


def leaderboard_table(board: Mapping[str, Any]) -> str:
    """One table for each scorer, ending in a newline.

    Args:
        board: what `leaderboard.json` holds; see `hpskit.benchmark.leaderboard.run`.
    """
    suite, settings = board["suite"], board["settings"]
    lines = [f"# {_text(board['title'])}", "", f"{_text(suite['name'])}, {counted(suite['prompts'], 'prompt')}."]
    for scorer in board["scorers"]:
        lines += ["", f"## By {_text(scorer['label'])}", ""]
        if scorer["reads_prompt"] is False:
            lines += [f"{_text(scorer['label'])} does not read the prompt: it judges looks only.", ""]
        lines += _board(scorer, board["models"], settings["level"])
    if board["notes"]:
        lines += ["", *(f"- {_text(note)}" for note in board["notes"])]
    how = f"{settings['resamples']:,} bootstrap resamples of prompts"
    explained = (
        f"Intervals: {100 * settings['level']:g} %, {how}. A rank is among the models that have every prompt, by all "
        "of them, and a range where the data do not decide: all ranges of a table hold at once. Wins: share of prompts "
        "on which the model beats another, averaged over the others."
    )
    return "\n".join([*lines, "", explained, "", f"{board['package']}; every figure is in `leaderboard.json`.", ""])


def incomplete(row: Mapping[str, Any], scope: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """What to say beside the name of a model in a table; empty if nothing is missing."""
    if row["prompts"] < scope["prompts"]:
        return f"incomplete: average over {row['prompts']:,} of {counted(scope['prompts'], 'prompt')}"
    model = next(model for model in models if model["name"] == row["name"])
    return "" if model["complete"] or model["missing"] else "incomplete: some prompts have fewer images"


def _board(scorer: Mapping[str, Any], models: Sequence[Mapping[str, Any]], level: float) -> list[str]:
    whole, *parts = scorer["scopes"]
    interval = f"{100 * level:g} % interval"
    head = ["rank", "model", "average", interval, "wins", *(_text(part["category"]) for part in parts)]
    rows = []
    for n, row in enumerate(whole["models"]):
        lacking = incomplete(row, whole, models)
        name = _text(row["name"]) + (f" ({lacking})" if lacking else "")
        means = [_figure(part["models"][n]["value"]) for part in parts]
        rows.append([_rank(row["rank"]), name, _figure(row["value"]), _range(row), _share(row["win_rate"]), *means])
    rows += [
        ["published", _text(row["name"]), _figure(row["average"]), "", "", *_published(row, parts)]
        for row in scorer["published"]
    ]
    rule = ["---:", "---", *["---:"] * (len(head) - 2)]
    table = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
    return [*table, "", f"Scorer: {_text(scorer['info']['identity'])}."]


def _published(row: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_figure(row["categories"][part["category"]]) for part in parts]


def _rank(rank: Mapping[str, int] | None) -> str:
    if rank is None:
        return ""
    return f"{rank['low']}" if rank["low"] == rank["high"] else f"{rank['low']}-{rank['high']}"


def _range(row: Mapping[str, float | None]) -> str:
    return "" if row["low"] is None else f"{_figure(row['low'])} to {_figure(row['high'])}"


def _figure(value: float | None) -> str:
    return "" if value is None else number(value)


def _share(value: float | None) -> str:
    return "" if value is None else percent(value)


def _text(text: str) -> str:
    """On one line, with nothing that Markdown or HTML would take for its own."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", flat).replace("&", "&amp;")
