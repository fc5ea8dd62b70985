"""`hpskit compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, new_table, progress_bar, show, step_progress

_A, _B = "First folder", "Second folder"


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of images to compare with.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder that may be better.", show_default=False)],
    prompts: Annotated[
        str, typer.Option(help="Prompts of the images: JSON, JSONL, CSV or TSV file, folder, or name of a suite.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for compare.html, compare.json, contact.jpg and the scores.")],
    scorer: options.Scorers = None,
    name_a: Annotated[
        str, typer.Option(help="What to call A.  \\[default: the folder's name]", rich_help_panel=_A)
    ] = "",
    name_b: Annotated[
        str, typer.Option(help="What to call B.  \\[default: the folder's name]", rich_help_panel=_B)
    ] = "",
    manifest_a: Annotated[
        Path | None, typer.Option(help="Which image of A has which prompt; see docs/benchmark.md.", rich_help_panel=_A)
    ] = None,
    manifest_b: Annotated[Path | None, typer.Option(help="Likewise of B.", rich_help_panel=_B)] = None,
    match: options.Match = "auto",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Compare the prompts that have an image in both.")
    ] = False,
    allow_outside: options.AllowOutside = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples, and random sign flips.")] = 10_000,
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    antialias: options.Antialias = None,
    paper: options.PaperFormats = None,
    as_json: options.Json = False,
) -> None:
    """Is B better than A? Two folders of images for the same prompts, compared prompt by prompt.

    Tells the mean difference with its interval, the share of prompts that B wins, two tests, the smallest difference
    that this number of prompts can detect, and shows the pairs that differ most. Kill it and start it again: it
    continues.

    \b
    hpskit compare before/ after/ --prompts prompts.jsonl --scorer mini --out compared/
    """
    from hpskit.benchmark.compare import Compare, run
    from hpskit.benchmark.result import Resampling

    config = Compare(
        first=first,
        second=second,
        prompts=prompts,
        out=out,
        manifests=(manifest_a, manifest_b),
        match=match,
        names=(name_a, name_b),
        allow_missing=allow_missing,
        allow_outside=allow_outside,
        resampling=Resampling(resamples=resamples),
        paper=tuple(paper or ()),
        command=options.command_line(),
    )
    load = options.candidates_loader(scorer, arch, precision, device, batch_size, antialias)
    with progress_bar() as bar:
        summary = run(config, load, step_progress(bar))
    if as_json:
        echo_json(summary.result)
    else:
        _print(summary.result, out)


def _print(result: dict[str, Any], out: Path) -> None:
    from rich.text import Text

    from hpskit.pages.format import p_figure

    title = f"{result['second']['name']} against {result['first']['name']}: {result['compared']:,} prompts"
    columns = ("difference", "interval", "wins", "p", "sign p", "can detect")
    table = new_table(title, "scorer", *columns, words=["scorer"])
    table.collapse_padding = True
    for scorer in result["scorers"]:
        table.add_row(Text(scorer["label"]), *_figures(scorer["difference"], scorer["difference"]["permutation_p"]))
        for row in scorer["categories"]:
            if row["difference"]:
                table.add_row(Text(f" {row['name']}", style="dim"), *_figures(row["difference"], row["holm_p"]))
    several = len(result["scorers"]) > 1
    lines = [
        f"{scorer['label']}: {scorer['verdict']}" if several else scorer["verdict"] for scorer in result["scorers"]
    ]
    if result["agreement"]:
        corrected = result["agreement"]["holm_p"]
        figures = ", ".join(f"{label} {p_figure(p_value)}" for label, p_value in corrected.items())
        lines.append(result["agreement"]["sentence"])
        lines.append(f"p corrected for {len(corrected)} scorers (Holm): {figures}")
    show(table, *lines, dim=str(out / "compare.html"))
    for note in result["notes"]:
        echo(f"note: {note}", err=True)


def _figures(difference: dict[str, Any], p_value: float) -> tuple[str, ...]:
    from hpskit.pages.format import between, decimals, number, p_figure, percent, signed

    digits = decimals(difference["low"], difference["high"])
    return (
        signed(difference["value"], digits),
        between(difference["low"], difference["high"], digits, sign=True),
        percent(difference["win_rate"]),
        p_figure(p_value),
        p_figure(difference["sign_p"]),
        number(difference["detectable"], digits),
    )
