"""`hpskit study …`: what lies behind the scores of models."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpskit.cli.options import Device, Json, progress_bar, scorer_loader, step_progress

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["app"]

app = typer.Typer(
    help="What lies behind scores: colours, metrics of distributions, numbers of prompts.", no_args_is_help=True
)

Images = Annotated[
    list[str], typer.Argument(metavar="NAME=DIR…", help="Images of each model; DIR alone goes by its own name.")
]


@app.command()
def chrominance(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for the page, the plot and the figures.")],
    size: Annotated[
        int, typer.Option(help="Longest side in pixels that images are reduced to before measuring.")
    ] = 256,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the images.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Where in the chroma plane (CIELAB a*b*) the images of each model lie, and how far models are apart.

    Every image below a folder counts. OUT/chrominance.html is one file to read and to hand on, OUT/chrominance.svg
    the plot for a paper.

    \b
    hpskit study chrominance base=renders/base tuned=renders/tuned --out colours/
    """
    from hpskit.benchmark.studies.chrominance import Chrominance, run

    config = Chrominance(
        images=images, out=out, size=size, resamples=resamples, seed=seed, command=f"hpskit {shlex.join(sys.argv[1:])}"
    )
    with progress_bar() as bar:
        result = run(config, step_progress(bar))
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        _print_chrominance(result, out)


def _print_chrominance(result: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from hpskit.pages.format import digits_for, number, p_words

    console = Console()
    table = _table("images", "mean chroma", "interval", "saturation", "vivid")
    for model in result["models"]:
        chroma = model["chroma"]
        table.add_row(
            Text(model["name"]),
            f"{model['images']:,}",
            f"{chroma['value']:.1f}",
            f"{chroma['low']:.1f} to {chroma['high']:.1f}",
            f"{100 * model['saturation']['value']:.1f} %",
            f"{100 * model['vivid']['value']:.1f} %",
        )
    console.print(table)
    for pair in result["pairs"]:
        far = pair["wasserstein"]
        digits = digits_for([far["value"], far["chance"]], least=1, most=3)
        value, low, high, chance = (number(far[name], digits) for name in ("value", "low", "high", "chance"))
        line = f"{pair['first']} and {pair['second']}: {value} Lab units ({low} to {high})"
        console.print(Text(f" {line}, by chance {chance}, {p_words(far['p_adjusted'])}"), soft_wrap=True)
    console.print(Text(f" {out / 'chrominance.html'}", style="dim"), soft_wrap=True)


@app.command()
def metrics(
    images: Annotated[
        list[str],
        typer.Argument(metavar="NAME=DIR… [result.json…]", help="Images of each model, and results of the benchmark."),
    ],
    reference: Annotated[Path, typer.Option(help="Folder of images that FID and KID compare with.")],
    out: Annotated[Path, typer.Option(help="Folder for the page and the figures.")],
    prompts: Annotated[
        str | None, typer.Option(help="Suite that the images were made for, in its layout: adds CLIPScore.")
    ] = None,
    clip: Annotated[str, typer.Option(help="Scorer of CLIPScore, such as clip-score:ViT-B-32:openai.")] = "clip-score",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the Inception network, if not the published ones.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """FID, IS, KID and CLIPScore of each model, and whether they order models as preference scores do.

    Needs the extra `metrics`, see docs/studies.md. Killed and started again it continues.

    \b
    hpskit study metrics --reference coco/ a=renders/a b=renders/b c=renders/c result-*.json --out metrics/
    """
    from hpskit.benchmark.studies.distribution_metrics import METRICS, Metrics, run

    config = Metrics(
        images=images,
        reference=reference,
        out=out,
        prompts=prompts,
        clip=clip,
        weights=weights,
        device=device,
        command=f"hpskit {shlex.join(sys.argv[1:])}",
    )
    with progress_bar() as bar:
        result = run(config, scorer_loader(clip, None, "fp32", device, None, None), step_progress(bar))
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        _print_metrics(result, METRICS, out)
    _warn_of_metrics(result)


def _print_metrics(result: dict[str, Any], labels: dict[str, str], out: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from hpskit.pages.format import number, signed

    console = Console()
    clip = bool(result["settings"]["clip"])
    table = _table("images", "FID", "KID x 1000", "IS", *(["CLIPScore"] if clip else []))
    halves = {"name": "two halves of the reference", "inception_score": None, "clip_score": None}
    for row in [*result["models"], halves | result["two_halves_of_the_reference"]]:
        score = row["inception_score"]
        figures = [
            f"{row['images']:,}",
            number(row["fid"]),
            f"{number(1000 * row['kid']['value'])} ± {1000 * row['kid']['deviation']:.2f}",
            f"{score['value']:.2f} ± {score['deviation']:.2f}" if score else "",
        ]
        if clip:
            figures.append(number(row["clip_score"]["value"]) if row["clip_score"] else "")
        table.add_row(Text(row["name"]), *figures)
    console.print(table)
    for row in result["agreement"]:
        rho = "undefined" if row["spearman"] is None else signed(row["spearman"])
        line = f"{row['scorer']} and {labels[row['metric']]}: Spearman {rho} over {result['agreement_models']} models"
        console.print(Text(f" {line}"), soft_wrap=True)
    console.print(Text(f" {out / 'metrics.html'}", style="dim"), soft_wrap=True)


def _warn_of_metrics(result: dict[str, Any]) -> None:
    least = min(row["images"] for row in [result["reference"], *result["models"]])
    if least < result["few_images"]:
        what = f"the smallest set has {least:,} images, and FID is far too high below {result['few_images']:,}"
        typer.echo(f"warning: {what}; compare only FIDs of equal numbers of images, and trust KID rather", err=True)
    if not result["settings"]["published_weights"]:
        what = "the weights of Inception are not the published ones"
        typer.echo(f"warning: {what}; the figures can be compared with one another only", err=True)


@app.command("prompts")
def prompt_number(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="result.json of each model, of one suite.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, the plot and the figures.")],
    resolution: Annotated[float, typer.Option(help="Difference of two models that is to be found, in points.")] = 0.1,
    scorer: Annotated[
        list[str] | None,
        typer.Option("--scorer", "-s", help="Label of a scorer in the results; repeat for several.  \\[default: all]"),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Draws of prompts for each number of them.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    as_json: Json = False,
) -> None:
    """How many prompts it takes to tell models apart: errors and the chance of a wrong order, by number of prompts.

    \b
    hpskit study prompts result-*.json --resolution 0.1 --out prompts/
    """
    from hpskit.benchmark.studies.prompt_number import PromptNumber, run

    config = PromptNumber(
        results=tuple(results),
        out=out,
        scorers=tuple(scorer or ()),
        resolution=resolution,
        resamples=resamples,
        seed=seed,
        command=f"hpskit {shlex.join(sys.argv[1:])}",
    )
    result = run(config)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        _print_prompt_number(result, out)
    for study in result["scorers"]:
        for note in study["notes"]:
            typer.echo(f"note: by {study['label']}: {note}", err=True)


def _print_prompt_number(result: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from hpskit.pages.format import counted

    console = Console()
    for scorer in result["scorers"]:
        every = scorer["scopes"][0]
        title = f"How many prompts: {result['suite']['name']}, by {scorer['label']}"
        console.print(_curve_table(title, every["curve"]))
        needed, points = every["needed"], f"{result['settings']['resolution']:g} points"
        line = f"{scorer['label']}: to find a difference of {points} use {counted(needed['largest'], 'prompt')}"
        console.print(Text(f" {line} ({needed['typical']:,} for a typical pair)", style="bold"), soft_wrap=True)
        if needed["at_least"]:
            fewer = f"fewer than {needed['largest']} cannot reach 5 % in a two-sided permutation test"
            console.print(Text(f"   at least: {fewer}, whatever the scores"), soft_wrap=True)
        for part in scorer["scopes"][1:]:
            console.print(Text(f"   {part['category']} alone: {part['needed']['largest']:,}"), soft_wrap=True)
    console.print(Text(f" {out / 'prompts.html'}", style="dim"), soft_wrap=True)


def _curve_table(title: str, curve: list[dict[str, Any]]) -> Table:
    from hpskit.benchmark.studies.prompt_number import decimals
    from hpskit.pages.format import number

    columns = {"standard_error": "mean ±", "difference_error": "difference ±", "detectable": "can detect"}
    digits = decimals(curve)
    table = _table(*columns.values(), "wrong order", "closest pair", first="prompts", title=title)
    for point in curve:
        figures = [number(point[name], digits) for name in columns]
        chances = [f"{100 * point[name]:.1f} %" for name in ("wrong_order", "worst_pair")]
        table.add_row(f"{point['prompts']:,}", *figures, *chances)
    return table


def _table(*columns: str, first: str = "model", title: str = "") -> Table:
    """One row for each model, or whatever comes first; figures to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first, justify="right" if first == "prompts" else "left")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
