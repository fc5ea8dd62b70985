"""`hpskit data`: what is in a data set, turning it into another layout, bringing one here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hpskit.cli.options import Json, progress_bar

if TYPE_CHECKING:
    from hpskit.dataset.inspection import Inspection

__all__ = ["app"]

app = typer.Typer(help="Inspect, convert and fetch data sets of human preference.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="PATH", help="A file, a folder, FOLDER/SPLIT, or a fetched name as ymhao/HPDv2.")
]
LayoutName = Annotated[
    Literal["auto", "hpdv2-test", "hpdv2-train", "imagereward", "pickapic", "hpdv3", "rankings", "pairs", "parquet"],
    typer.Option("--format", help="Layout of the data set; auto knows it by the fields of its first rows."),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that image names start from.  [default: test, train or images beside the file, or its own]"
    ),
]


@app.command()
def inspect(
    path: Source,
    layout: LayoutName = "auto",
    image_root: ImageRoot = None,
    images: Annotated[bool, typer.Option(help="Look for the image files.")] = True,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image; find equal ones.")] = False,
    show: Annotated[int, typer.Option(min=0, help="Findings of each kind to list; all are counted.")] = 5,
    as_json: Json = False,
) -> None:
    """Show what is in a data set: groups, images, pairs, annotators, ties; and what is wrong with it.

    All rows are read whatever is wrong with some. Exit status: 0 sound, 1 problems were found, 2 it cannot be read.
    """
    from hpskit.dataset.inspection import inspect as inspect_data
    from hpskit.dataset.reading import open_data

    data = open_data(path, format=layout, image_root=image_root)
    with _progress() as progress:
        found = inspect_data(data, images=images, decode=decode, shown=show, progress=progress)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if not found.sound:
        raise typer.Exit(1)


@app.command()
def convert(
    path: Source,
    to: Annotated[
        Literal["hpdv2", "hpdv2-train", "jsonl", "pairs", "parquet"],
        typer.Option(help="hpdv2 is test.json, jsonl is rankings.jsonl; jsonl and parquet keep everything."),
    ],
    out: Annotated[Path, typer.Option(help="A new folder; for parquet a file.")],
    layout: LayoutName = "auto",
    image_root: ImageRoot = None,
    images: Annotated[bool, typer.Option(help="Copy the images, or embed them in a parquet file.")] = True,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Leave out what the target has no place for, and say what it was.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a data set in another layout, whole or not at all.

    \b
    hpskit data convert hpdv2/test.json --to parquet --out test.parquet
    hpskit data convert test.parquet --to jsonl --out test/
    """
    from hpskit.dataset.converting import convert as convert_data
    from hpskit.dataset.reading import open_data

    data = open_data(path, format=layout, image_root=image_root)
    with _progress() as progress:
        done = convert_data(
            data,
            to,
            out,
            images=images,
            allow_loss=allow_loss,
            progress=lambda groups: progress("converting", groups, None),
        )
    if as_json:
        value = {"out": str(done.out), "groups": done.groups, "images": done.images, "lost": dict(done.lost)}
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    for what, groups in done.lost.items():
        typer.echo(f"warning: left out of {groups:,} groups: {what}", err=True)
    typer.echo(f"{done.out}: {done.groups:,} groups, {done.images:,} images")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set of the hub: ymhao/HPDv2, zhwang/HPDv2, or any with --file.")],
    split: Annotated[str | None, typer.Option(help="test or train of ymhao/HPDv2.  [default: test]")] = None,
    file: Annotated[list[str] | None, typer.Option(help="A path in the repository; may be repeated.")] = None,
    images: Annotated[bool, typer.Option(help="Bring the archives of images too, and unpack them.")] = True,
    to: Annotated[
        Path | None, typer.Option(help="Folder to put it in.  [default: where PATH finds it by name]")
    ] = None,
) -> None:
    """Download a data set and unpack its images, so that its name can be given as PATH.

    The download can be interrupted and continued. HF_HOME, HPSKIT_HOME and HF_HUB_OFFLINE are respected.
    """
    from hpskit.dataset.fetching import fetch as fetch_data

    with _progress() as progress:
        folder = fetch_data(
            name,
            split=split,
            files=file or (),
            images=images,
            to=to,
            progress=lambda what, done: progress(f"unpacking {what}", done, None),
        )
    typer.echo(f"{name}: ready in {folder}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on standard error that follows several stages one after another."""
    with progress_bar() as bar:
        task = bar.add_task("", total=None, visible=False)

        def update(stage: str, done: int, total: int | None) -> None:
            bar.update(task, description=stage, completed=done, total=total, visible=True)

        yield update


def _print(found: Inspection) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=Text(found.path), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("what")
    table.add_column("how many", overflow="fold")
    for what, text in _lines(found):
        table.add_row(what, Text(text))
    console.print(table)
    for kinds, style in ((found.problems, "bold red"), (found.remarks, "yellow")):
        for kind, count in kinds.items():
            console.print(Text(f" {kind}: {count:,}", style=style), soft_wrap=True)
            for line in found.listed.get(kind, []):
                console.print(Text(f"   {line}"), soft_wrap=True)
            if hidden := count - len(found.listed.get(kind, [])):
                console.print(Text(f"   … and {hidden:,} more (--show)", style="dim"))
    for text in found.not_checked:
        console.print(Text(f" not checked: {text}", style="dim"), soft_wrap=True)
    console.print(Text(" sound" if found.sound else " not sound", style="bold green" if found.sound else "bold red"))


def _lines(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "format", found.format
    yield "groups", f"{found.groups:,}" + _more(found.unjudged_groups, "not judged by anybody")
    yield "images in a group", _counts(found.group_sizes)
    yield "distinct prompts", f"{found.prompts:,}"
    yield "distinct images", f"{found.images:,}" + _more(found.embedded_images, "embedded")
    yield "pairs", f"{found.pairs:,}"
    yield "judgements", f"{found.votes:,}" + _more(found.partial_votes, "of them partial")
    yield "judgements of a group", _counts(found.votes_per_group)
    anonymous = _more(found.anonymous_votes, "judgements by nobody named")
    yield "annotators", (f"{found.annotators:,}" if found.annotators else "not named") + anonymous
    yield "comparisons", f"{found.comparisons:,}" + _more(found.tied, "ties")
    if found.first_preferred is not None:
        yield "the first is preferred in", f"{found.first_preferred:.1%} of {found.decided:,} without ties"
    yield "published orders", f"{found.published_orders:,}"
    for what, counts in (("sources", found.sources), ("categories", found.categories)):
        yield what, _counts(counts) if counts else "not named"


def _more(count: int, what: str) -> str:
    return f" ({count:,} {what})" if count else ""


def _counts(counts: dict[int, int] | dict[str, int]) -> str:
    """The first dozen, each with how often it is there."""
    items = [*counts.items()]
    rest = f", and {len(items) - 12:,} more" if len(items) > 12 else ""
    return ", ".join(f"{key}: {count:,}" for key, count in items[:12]) + rest
