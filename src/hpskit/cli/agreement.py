"""`hpskit agreement`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpskit.cli.options import Data, DataFormat, Json, Persons, command_line, echo, echo_json, interval, new_table, show

__all__ = ["agreement"]


def agreement(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json and report.html.")] = None,
    rule: Annotated[
        Literal["hpdv2", "imagereward", "ties-half"] | None,
        typer.Option(help="How ties are counted.  \\[default: that of the data set's paper, else ties-half]"),
    ] = None,
    persons: Persons = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the prompts.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap and of random halves.")] = 0,
    data_format: DataFormat = "auto",
    as_json: Json = False,
) -> None:
    """Tell how far the people of a data set agree with one another: the ceiling for every scorer.

    \b
    hpskit agreement --data HPDv2/test.json --out agreement/
    """
    from hpskit.evaluation.agreement import Agreement, run

    config = Agreement(
        data=data,
        out=out,
        data_format=data_format,
        rule=rule,
        persons=persons,
        resamples=resamples,
        seed=seed,
        command=command_line(),
    )
    result = run(config)
    if as_json:
        echo_json(result)
    else:
        _print(result, out)
    if result["judged_prompts"] == 1:
        echo("note: the judgements are of one prompt; intervals are over prompts, so there are none", err=True)
    for figure, reason in result["not_measured"].items():
        echo(f"note: {figure} is not measured: {reason}", err=True)


def _print(result: dict[str, Any], out: Path | None) -> None:
    from rich.text import Text

    data, rule = result["data"], result["settings"]["rule"]
    title = f"{data['name']}: {result['judged_groups']:,} groups, {data['judgements']:,} judgements"
    table = new_table(title, "people", rule, "interval", "people too", "published", words=["people"])
    both_ways = {row["key"]: row for row in result["two_way"]}
    for row in result["rules"][rule]:
        published = f"{row['published']:.1f} %" if row["published"] is not None else ""
        table.add_row(
            Text(row["name"]), f"{100 * row['value']:.1f} %", interval(row), interval(both_ways[row["key"]]), published
        )
    show(table, *_facts(result), dim=str(out / "report.html") if out is not None else "")


def _facts(result: dict[str, Any]) -> list[str]:
    lines = []
    if half := result["split_half"]:
        value = half["reliability"]
        reliability = "none: they contradict one another" if value is None else f"{value:.3f}"
        halves = f"correlation of the halves {half['correlation']:.3f}, {half['splits']} random splits"
        lines.append(f"split-half reliability {reliability} ({halves})")
    if result["krippendorff_alpha"] is not None:
        lines.append(f"Krippendorff's alpha, ordinal {result['krippendorff_alpha']:.3f}")
    gap = result["gap"] or []
    if len(gap) > 1:
        close, far = gap[0], gap[-1]
        parts = f"{_share(close)} of the closest pairs, {_share(far)} of the farthest"
        lines.append(f"one annotator is with the others on {parts}")
    if growth := result["growth"]:
        points = ", ".join(f"{point['annotators']}: {_share(point)}" for point in growth["points"])
        lines.append(f"mean of k people against {growth['held_out']} held out: {points}")
    return lines


def _share(row: dict[str, Any]) -> str:
    return f"{100 * row['value']:.1f} %"
