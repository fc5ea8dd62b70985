"""`hpskit score`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, new_table, progress_bar, show, step_progress
from hpskit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpskit.records import RankedImage
    from hpskit.scoring.files import ScoreFile
    from hpskit.scoring.scorer import PreferenceScorer


def score(
    prompt: Annotated[str | None, typer.Argument(help="The text that the images were made for.")] = None,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files to rank, or folders of them.", show_default=False)
    ] = None,
    model: options.Model = "mini",
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    antialias: options.Antialias = None,
    as_json: options.Json = False,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Score the rows of this .jsonl, .csv, .parquet or .tar file instead; 'x-{00..12}.tar' and "
            "'x-*.parquet' are several."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --pairs: the .jsonl, .csv or .parquet file to write, all columns kept.")
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            metavar="image=NAME,prompt=NAME", help="With --pairs: which column is what.  \\[default: by usual names]"
        ),
    ] = "",
    part: Annotated[
        str, typer.Option(metavar="I/N", help="With --pairs: only the I-th of N equal parts of the rows, as 2/8.")
    ] = "1/1",
    prefix: Annotated[
        str, typer.Option(help="With --pairs: begins the names of the columns that are added.", show_default=False)
    ] = "",
    cache: Annotated[
        Path | None,
        typer.Option(help="With --pairs: folder that keeps images brought from http://, s3:// … addresses."),
    ] = None,
    image_root: Annotated[
        Path | None,
        typer.Option(help="With --pairs: folder that relative image paths start from.  \\[default: that of the file]"),
    ] = None,
    on_error: Annotated[
        Literal["fail", "skip"],
        typer.Option(help="With --pairs: stop at a row that cannot be scored, or list it with its reason and go on."),
    ] = "fail",
) -> None:
    """Rank images by human preference for a prompt, or score a file of (image, prompt) rows.

    Scores are comparable among images of one prompt, by one scorer. The column `preferred` is the modelled chance that
    people like this image best of those listed, by what the scorer says of its scale. For the HPS models and mini one
    point is one unit of log-odds: 73 % against an image one point behind, 88 % against one two points behind. A scorer
    that is silent about this, as aesthetic is, gives no chance.

    \b
    hpskit score "a cat with two horns on its head" a.jpg b.png
    hpskit score "a red barn" renders/
    hpskit score --model hps-v2.1 --json "a red barn" *.png > result.json
    hpskit score --pairs items.jsonl --out scores.jsonl
    hpskit score --pairs 'data/test-*.parquet' --columns prompt=caption --out scores.parquet
    """
    load = options.scorer_loader(model, arch, precision, device, batch_size, antialias)
    if pairs is not None:
        if prompt is not None:
            raise InputError("--pairs", f"was given together with the prompt {prompt!r}", cure="use one or the other")
        if out is None:
            expected = "a .jsonl, .csv or .parquet file for the scores of --pairs"
            raise InputError("--out", "is missing", expected=expected)
        from hpskit.scoring.files import ScoreFile

        config = ScoreFile(
            items=pairs,
            out=out,
            image_root=image_root,
            on_error=on_error,
            columns=columns,
            part=part,
            prefix=prefix,
            cache=cache,
        )
        _score_file(load, config, as_json)
        return
    if any((out, image_root, on_error != "fail", columns, part != "1/1", prefix, cache)):
        cure = "for one prompt use --json and redirect it"
        raise InputError(
            "--out, --image-root, --on-error, --columns, --part, --prefix and --cache", "go with --pairs", cure=cure
        )
    _rank(load, prompt, images or [], as_json)


def _rank(load: Callable[[], PreferenceScorer], prompt: str | None, images: list[Path], as_json: bool) -> None:
    from hpskit.images.layout import images_of
    from hpskit.pixels import check_files

    if prompt is None:
        usage = 'usage: hpskit score "PROMPT" IMAGE …, or --pairs FILE --out FILE'
        raise InputError("prompt", "is missing", cure=usage)
    if _is_path(prompt):
        raise InputError("prompt", f"{prompt!r} is a file or folder", cure="the prompt comes first, then the images")
    if not images:
        raise InputError("images", "there are none", cure="name at least one after the prompt")
    if not prompt.strip():
        raise InputError("prompt", "is empty", expected="the text that the images were made for")
    files, notes = images_of(images)
    for note in notes:
        echo(f"note: {note}", err=True)
    check_files(files)
    ranking = (scorer := load()).rank(prompt, files, progress=True)
    if as_json:
        _print_json(scorer, prompt, ranking)
    else:
        _print_table(scorer, prompt, ranking)


def _is_path(text: str) -> bool:
    try:
        return Path(text).is_file() or ("/" in text and Path(text).is_dir())
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _print_json(scorer: PreferenceScorer, prompt: str, ranking: list[RankedImage]) -> None:
    from dataclasses import asdict

    info = scorer.info.to_json() | {
        "reads_prompt": scorer.reads_prompt,
        "log_odds_per_point": scorer.log_odds_per_point,
    }
    document = {"prompt": prompt, "scorer": info, "ranking": [asdict(line) for line in ranking]}
    typer.echo(json.dumps(document, indent=2, allow_nan=False))  # ASCII: what reads it may expect any encoding


def _print_table(scorer: PreferenceScorer, prompt: str, ranking: list[RankedImage]) -> None:
    from rich.text import Text

    preferred = ["preferred"] if scorer.log_odds_per_point is not None else []
    table = new_table(prompt, "rank", "image", "score", *preferred, words=["image"])
    for line in ranking:
        style = "bold green" if line.rank == 1 and len(ranking) > 1 else ""
        score = f"{line.score:.2f}" if abs(line.score) < 1e12 else f"{line.score:.4g}"
        probability = [] if line.probability is None else [f"{line.probability:.1%}"]
        table.add_row(str(line.rank), Text(line.image), score, *probability, style=style)
    note = "" if scorer.reads_prompt else " · does not read the prompt"
    show(table, dim=f"{scorer.info.identity}{note}")


def _score_file(
    load: Callable[[], PreferenceScorer],
    config: ScoreFile,
    as_json: bool,
) -> None:
    from hpskit.scoring.files import run

    with progress_bar() as bar:
        summary = run(config, load, step_progress(bar))
    _report(summary.rows, summary.skipped, summary.resumed, config.out, as_json)


def _report(rows: int, skipped: int, resumed: int, out: Path, as_json: bool) -> None:
    if as_json:
        value: dict[str, Any] = {"out": str(out), "rows": rows, "skipped": skipped, "resumed": resumed}
        echo_json(value, indent=None)
        return
    earlier = f", {resumed} of them by an earlier run" if resumed else ""
    echo(f"{out}: {rows - skipped} rows scored{earlier}")
    if skipped:
        echo(f"warning: {skipped} of {rows} rows skipped; each says why in {out} (its 'error')", err=True)
