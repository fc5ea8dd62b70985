"""`hpskit study …`: what lies behind the scores of models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, new_table, progress_bar, show, step_progress

app = typer.Typer(
    help="What lies behind scores: colours, metrics of distributions, numbers of prompts, resolution.",
    no_args_is_help=True,
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
    as_json: options.Json = False,
) -> None:
    """Show where in the chroma plane (CIELAB a*b*) the images of each model lie, and how far models are apart.

    Every image below a folder counts. OUT/chrominance.html is one file to read and to hand on, OUT/chrominance.svg
    the plot for a paper.

    \b
    hpskit study chrominance base=renders/base tuned=renders/tuned --out colours/
    """
    from hpskit.benchmark.result import Resampling
    from hpskit.benchmark.studies.chrominance import Chrominance, run

    resampling = Resampling(resamples=resamples)
    config = Chrominance(images=images, out=out, size=size, resampling=resampling, command=options.command_line())
    with progress_bar() as bar:
        result = run(config, step_progress(bar))
    if as_json:
        echo_json(result)
    else:
        _print_chrominance(result, out)


def _print_chrominance(result: dict[str, Any], out: Path) -> None:
    from rich.text import Text

    from hpskit.pages.format import between, digits_for, number, p_words

    table = new_table("", "model", "images", "mean chroma", "interval", "saturation", "vivid", words=["model"])
    for model in result["models"]:
        chroma = model["chroma"]
        table.add_row(
            Text(model["name"]),
            f"{model['images']:,}",
            f"{chroma['value']:.1f}",
            between(chroma["low"], chroma["high"], 1),
            f"{100 * model['saturation']['value']:.1f} %",
            f"{100 * model['vivid']['value']:.1f} %",
        )
    lines = []
    for pair in result["pairs"]:
        far = pair["wasserstein"]
        digits = digits_for([far["value"], far["chance"]], least=1, most=3)
        value, chance = number(far["value"], digits), number(far["chance"], digits)
        ends = f"({between(far['low'], far['high'], digits)}), by chance {chance}, {p_words(far['p_adjusted'])}"
        lines.append(f"{pair['first']} and {pair['second']}: {value} Lab units {ends}")
    show(table, *lines, dim=str(out / "chrominance.html"))


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
    device: options.Device = "auto",
    as_json: options.Json = False,
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
        command=options.command_line(),
    )
    with progress_bar() as bar:
        result = run(config, options.scorer_loader(clip, None, "fp32", device, None, None), step_progress(bar))
    if as_json:
        echo_json(result)
    else:
        _print_metrics(result, METRICS, out)
    _warn_of_metrics(result)


def _print_metrics(result: dict[str, Any], labels: Mapping[str, str], out: Path) -> None:
    from rich.text import Text

    from hpskit.pages.format import number, signed

    clip = ["CLIPScore"] if result["settings"]["clip"] else []
    table = new_table("", "model", "images", "FID", "KID x 1000", "IS", *clip, words=["model"])
    halves = {"name": "two halves of the reference", "inception_score": None, "clip_score": None}
    for row in [*result["models"], halves | result["two_halves_of_the_reference"]]:
        score = row["inception_score"]
        table.add_row(
            Text(row["name"]),
            f"{row['images']:,}",
            number(row["fid"]),
            f"{number(1000 * row['kid']['value'])} ± {1000 * row['kid']['deviation']:.2f}",
            f"{score['value']:.2f} ± {score['deviation']:.2f}" if score else "",
            *(number(row["clip_score"]["value"]) if row["clip_score"] else "" for _ in clip),
        )
    lines = []
    for row in result["agreement"]:
        rho = "undefined" if row["spearman"] is None else signed(row["spearman"])
        both = f"{row['scorer']} and {labels[row['metric']]}"
        lines.append(f"{both}: Spearman {rho} over {result['agreement_models']} models")
    show(table, *lines, dim=str(out / "metrics.html"))


def _warn_of_metrics(result: dict[str, Any]) -> None:
    least = min(row["images"] for row in [result["reference"], *result["models"]])
    if least < result["few_images"]:
        what = f"the smallest set has {least:,} images, and FID is far too high below {result['few_images']:,}"
        echo(f"warning: {what}; compare only FIDs of equal numbers of images, and trust KID rather", err=True)
    if not result["settings"]["published_weights"]:
        what = "the weights of Inception are not the published ones"
        echo(f"warning: {what}; the figures can be compared with one another only", err=True)


@app.command("prompts")
def prompt_number(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="result.json of each model, of one suite.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, the plot and the figures.")],
    resolution: Annotated[float, typer.Option(help="Difference of two models that is to be found, in points.")] = 0.1,
    scorer: options.Labels = None,
    resamples: Annotated[int, typer.Option(min=100, help="Draws of prompts for each number of them.")] = 1000,
    as_json: options.Json = False,
) -> None:
    """Find how many prompts it takes to tell models apart: errors and the chance of a wrong order, by number of
    prompts.

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
        command=options.command_line(),
    )
    result = run(config)
    if as_json:
        echo_json(result)
    else:
        _print_prompt_number(result, out)
    for study in result["scorers"]:
        for note in study["notes"]:
            echo(f"note: by {study['label']}: {note}", err=True)


def _print_prompt_number(result: dict[str, Any], out: Path) -> None:
    from hpskit.benchmark.studies.prompt_number import decimals
    from hpskit.pages.format import counted, number

    columns = {"standard_error": "mean ±", "difference_error": "difference ±", "detectable": "can detect"}
    resolution = f"{result['settings']['resolution']:g} points"
    for scorer in result["scorers"]:
        every, *parts = scorer["scopes"]
        title = f"How many prompts: {result['suite']['name']}, by {scorer['label']}"
        table = new_table(title, "prompts", *columns.values(), "wrong order", "closest pair")
        for point in every["curve"]:
            figures = [number(point[name], decimals(every["curve"])) for name in columns]
            chances = [f"{100 * point[name]:.1f} %" for name in ("wrong_order", "worst_pair")]
            table.add_row(f"{point['prompts']:,}", *figures, *chances)
        needed = every["needed"]
        use = f"use {counted(needed['largest'], 'prompt')} ({needed['typical']:,} for a typical pair)"
        lines = [f"{scorer['label']}: to find a difference of {resolution} {use}"]
        if needed["at_least"]:
            fewer = f"fewer than {needed['largest']} cannot reach 5 % in a two-sided permutation test"
            lines.append(f"  at least: {fewer}, whatever the scores")
        lines += [f"  {part['category']} alone: {part['needed']['largest']:,}" for part in parts]
        show(table, *lines, dim=str(out / "prompts.html") if scorer is result["scorers"][-1] else "")


@app.command()
def resolution(
    out: Annotated[Path, typer.Option(help="Folder for the page, the plot, the figures and the scores.")],
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=DIR…]", help="Images of each model, in the suite's layout.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="Suite that the images were made for.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set of people's choices, instead of both.")] = None,
    sizes: Annotated[str, typer.Option(help="Pixels of the short side, with commas.")] = "128,256,512",
    details: Annotated[
        str | None, typer.Option(help="Short sides of the detail test, or none.  \\[default: 32 to the largest size]")
    ] = None,
    rendered: Annotated[bool, typer.Option("--rendered", help="Each DIR holds a folder for each size.")] = False,
    scorer: options.Scorers = None,
    threshold: Annotated[
        float, typer.Option(help="Change that does not matter, in deviations among images of a prompt.")
    ] = 0.1,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="Enlarge images that are smaller than the largest size.")
    ] = False,
    filter: Annotated[str, typer.Option(help="lanczos, bicubic, bilinear or box.")] = "lanczos",  # noqa: A002
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the prompts.")] = 10_000,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    antialias: options.Antialias = None,
    as_json: options.Json = False,
) -> None:
    """Show how scores, ranks of models and agreement with people depend on the size of images, and which detail counts.

    Killed and started again it continues; scorers and sizes that are added later are scored alone.

    \b
    hpskit study resolution --data HPDv2/test.json --sizes 128,256,512 --out sizes/
    hpskit study resolution a=renders/a b=renders/b --prompts suite.jsonl --sizes 256,512,1024 --out sizes/
    """
    from hpskit.benchmark.result import Resampling
    from hpskit.benchmark.studies.resolution import Resolution, run

    config = Resolution(
        out=out,
        images=images or (),
        prompts=prompts,
        data=data,
        data_format=data_format,
        image_root=image_root,
        sizes=sizes,
        details=details,
        rendered=rendered,
        filter=filter,
        enlarge=enlarge,
        threshold=threshold,
        resampling=Resampling(resamples=resamples),
        command=options.command_line(),
    )
    load = options.candidates_loader(scorer, arch, precision, device, batch_size, antialias)
    with progress_bar() as bar:
        result = run(config, load, step_progress(bar))
    if as_json:
        echo_json(result)
    else:
        _print_resolution(result, out)


def _print_resolution(result: dict[str, Any], out: Path) -> None:
    from hpskit.pages.format import between, counted, digits_for, number

    used = f"{counted(result['images']['used'], 'image')} of {counted(result['images']['prompts'], 'prompt')}"
    for scorer in result["scorers"]:
        digits = digits_for([scorer["threshold"]], most=4)
        people = ["accuracy, %"] if scorer["sizes"][0]["accuracy"] else []
        title = f"{scorer['label']}: {used}; alike below a change of {number(scorer['threshold'], digits)} points"
        table = new_table(title, "short side", "mean", "abs. change", "interval", "verdict", *people)
        for rows, name in ((scorer["sizes"], "size"), (scorer["details"], "detail")):
            for row in rows:
                moved = row["change"]
                table.add_row(
                    f"{name} {row['short_side']}",
                    number(row["mean"]["value"], digits),
                    number(moved["value"], digits),
                    between(moved["low"], moved["high"], digits),
                    row["verdict"],
                    *(number(100 * row["accuracy"]["value"], 1) for _ in people),
                )
            table.add_section()
        show(table, dim=str(out / "resolution.html") if scorer is result["scorers"][-1] else "")
