"""`hpskit benchmark leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hpskit.cli.options import AllowOutside, Json, PaperFormats, command_line, echo, echo_json, new_table, show

__all__ = ["leaderboard"]


def leaderboard(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="Result files of one suite, one per model.")],
    out: Annotated[Path, typer.Option(help="Folder for leaderboard.html, .md and .json.")],
    title: Annotated[str, typer.Option(help="Of the page.  \\[default: names the suite]", show_default=False)] = "",
    scorer: Annotated[
        list[str] | None,
        typer.Option("--scorer", "-s", help="Label of a scorer in the results; repeat for several.  \\[default: all]"),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Where the images of a model are now, if not where its result says; repeat for several.",
        ),
    ] = None,
    allow_outside: AllowOutside = False,
    published: Annotated[
        bool, typer.Option("--published", help="Show the authors' table beside HPS v2.0 and v2.1 on hpsv2.")
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap resamples of the prompts, and flips of the permutation test.")
    ] = 10_000,
    paper: PaperFormats = None,
    as_json: Json = False,
) -> None:
    """Compare models by their results: ranks with intervals, paired differences, and a page to look into.

    OUT/leaderboard.html is one file to read and to hand on, OUT/leaderboard.md a table for a README, and
    OUT/leaderboard.json has every figure. --paper adds tables and charts for papers.

    \b
    hpskit benchmark leaderboard ours.json sdxl.json --out leaderboard/
    """
    from hpskit.benchmark.leaderboard import Leaderboard, run
    from hpskit.benchmark.result import Resampling

    config = Leaderboard(
        results=tuple(results),
        out=out,
        title=title,
        scorers=tuple(scorer or ()),
        images=dict(_placed(words) for words in images or ()),
        allow_outside=allow_outside,
        published=published,
        paper=tuple(paper or ()),
        resampling=Resampling(resamples=resamples),
        command=command_line(),
    )
    board = run(config)
    if as_json:
        echo_json(board)
    else:
        _print(board, out)
    for note in board["notes"]:
        echo(f"note: {note}", err=True)


def _placed(words: str) -> tuple[str, Path]:
    from hpskit.errors import InputError, shown
    from hpskit.files import expand

    name, equals, folder = words.partition("=")
    if not (name and equals and folder):
        raise InputError("--images", f"is {shown(words)}", expected="NAME=DIR, such as 'My model=renders/mine'")
    return name, expand(folder)


def _print(board: dict[str, Any], out: Path) -> None:
    from rich.text import Text

    from hpskit.benchmark.leaderboard_page import incomplete, rank_range
    from hpskit.pages.format import between, counted, number, percent

    for scorer in board["scorers"]:
        title = f"{board['suite']['name']}, {counted(board['suite']['prompts'], 'prompt')}, by {scorer['label']}"
        if scorer["reads_prompt"] is False:
            title += ", which does not read the prompt"
        level = f"{100 * board['settings']['level']:g} % interval"
        table = new_table(title, "rank", "model", "average", level, "wins", words=["model"])
        whole, digits = scorer["scopes"][0], scorer["digits"]
        for row in whole["models"]:
            lacking = incomplete(row, whole, board["models"])
            name = Text.assemble(row["name"], (f" ({lacking})" if lacking else "", "yellow"))
            wins = "" if row["win_rate"] is None else percent(row["win_rate"])
            ends = between(row["low"], row["high"], digits)
            table.add_row(rank_range(row["rank"]), name, number(row["value"], digits), ends, wins)
        if scorer["published"]:
            table.add_section()
        for row in scorer["published"]:
            table.add_row("", Text(f"{row['name']} (published)", style="dim"), number(row["average"], digits), "", "")
        show(table, dim=str(out / "leaderboard.html") if scorer is board["scorers"][-1] else "")
