"""A training run as one HTML page that opens offline: curves, validation, recipe, data, warnings. Pure: no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpskit.pages import duration, environment
from hpskit.training.curves import POINTS, panels
from hpskit.training.past_run import best_validation, left_out, lines_of
from hpskit.training.watch import recovery

__all__ = ["report_page"]

_COLUMNS = ("name", "format", "groups", "pairs", "ratio")
"""Of what is known of a data set, in this order; a column that none of them has is left out."""


def report_page(name: str, config: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> str:
    """The page of a run, finished or not.

    Args:
        name: what to call the run.
        config: what `config.json` holds.
        log: what `log.jsonl` holds.
    """
    steps, validations = lines_of(log, "step"), lines_of(log, "validation")
    best = best_validation(log)
    template = environment("hpskit.training").get_template("run.html")
    return str(
        template.render(
            result={"package": config["package"]},
            config=config,
            recipe=config["recipe"],
            setting=_setting,
            run={"name": name, **_run(steps, log)},
            best=best,
            validations=validations,
            warnings=_warnings(config, log),
            panels=panels(steps, validations, best["step"] if best else None) if steps else [],
            data=[("Training", _sets(config.get("data"))), ("Validation", _sets(config.get("validation")))],
            left_out=left_out(config),
            columns=_columns,
            fact=_fact,
        )
    )


def _warnings(config: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was said, and what has become better since."""
    steps = config["recipe"]["steps"]
    return [{**line, "later": recovery(line, log, steps)} for line in lines_of(log, "warning")]


def _state(log: Sequence[Mapping[str, Any]]) -> str:
    """Where the run stands; empty if it has come to its end."""
    last = next((line for line in reversed(log) if line["kind"] in ("start", "end")), None)
    if last is None or last["kind"] == "start":
        return "under way when this page was written"
    return f"stopped after step {last['step']:,}" if last["reason"] == "stopped" else ""


def _run(steps: Sequence[Mapping[str, Any]], log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = sum(line["seconds"] for line in steps)
    return {
        "steps": steps[-1]["step"] if steps else 0,
        "state": _state(log),
        "duration": duration(seconds) if seconds else "",
        "stretch": math.ceil(len(steps) / POINTS),
        "dropped": sum(line.get("dropped", 0) for line in steps),
        "resumed": max(0, len([line for line in log if line["kind"] == "start"]) - 1),
    }


def _sets(found: Any) -> list[Mapping[str, Any]]:
    """The data sets of a part of the configuration, which may be one or several."""
    if not found:
        return []
    return [found] if isinstance(found, Mapping) else list(found)


def _setting(value: Any) -> str:
    """As a recipe's file has it, without the quotes."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in _COLUMNS if any(row.get(name) is not None for row in rows)]


def _fact(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
