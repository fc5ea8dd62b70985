"""`hpskit data`: inspect, convert, split and fetch data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, new_table, progress_bar, show, step_progress
from hpskit.errors import listed

if TYPE_CHECKING:
    from hpskit.dataset.fetch import Wanted

app = typer.Typer(help="Inspect, convert, split and fetch data sets of human preference.", no_args_is_help=True)

Source = Annotated[
    str, typer.Argument(metavar="PATH", help="A file, a folder, FOLDER/SPLIT, or a fetched name as ymhao/HPDv2.")
]


@app.command()
def inspect(
    path: Source,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    images: Annotated[bool, typer.Option(help="Look for the image files.")] = True,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image; find equal ones.")] = False,
    show: Annotated[int, typer.Option(min=0, help="Findings of each kind to list; all are counted.")] = 5,
    as_json: options.Json = False,
) -> None:
    """Show what is in a data set: groups, images, pairs, annotators, ties; and what is wrong with it.

    All rows are read whatever is wrong with some. Exit status: 0 sound, 1 problems were found, 2 it cannot be read.
    """
    from hpskit.dataset.inspect import inspect as inspect_data
    from hpskit.dataset.reading import open_data

    data = open_data(path, format=data_format, image_root=image_root)
    with progress_bar() as bar:
        found = inspect_data(data, images=images, decode=decode, show=show, progress=step_progress(bar))
    facts = found.to_json()
    if as_json:
        echo_json(facts)
    else:
        _print(facts)
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
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    allow_outside: options.AllowOutside = False,
    images: Annotated[bool, typer.Option(help="Copy the images, or embed them in a parquet file.")] = True,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Leave out what the target has no place for, and say what it was.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Write a data set in another layout, whole or not at all.

    \b
    hpskit data convert hpdv2/test.json --to parquet --out test.parquet
    hpskit data convert test.parquet --to jsonl --out test/
    """
    from hpskit.dataset.convert import convert as convert_data
    from hpskit.dataset.reading import open_data

    data = open_data(path, format=data_format, image_root=image_root, allow_outside=allow_outside)
    with progress_bar() as bar:
        progress = step_progress(bar)
        done = convert_data(
            data, to, out, images=images, allow_loss=allow_loss, progress=lambda n: progress("converting", n, None)
        )
    if as_json:
        value = {"out": str(done.out), "groups": done.groups, "images": done.images, "lost": dict(done.lost)}
        echo_json(value, indent=None)
        return
    for what, groups in done.lost.items():
        echo(f"warning: left out of {groups:,} groups: {what}", err=True)
    echo(f"{done.out}: {done.groups:,} groups, {done.images:,} images")


@app.command()
def split(
    path: Source,
    out: Annotated[Path, typer.Option(help="A new folder for train.parquet and validation.parquet.")],
    share: Annotated[float, typer.Option(help="Share of the groups that is held out, above 0 and below 1.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other parts.")] = 0,
    similarity: Annotated[
        float, typer.Option(help="Share of common words from which prompts are near-duplicates.")
    ] = 0.8,
    compare_pixels: Annotated[
        bool, typer.Option(help="Decode all images and compare what they look like; else compare files.")
    ] = True,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    allow_outside: options.AllowOutside = False,
    as_json: options.Json = False,
) -> None:
    """Divide a data set so that the parts share no prompt, no near-duplicate of one, and no image.

    Images stay where they are, unless the data set carries them in its rows.
    """
    from hpskit.dataset.reading import open_data
    from hpskit.dataset.split import split as split_data
    from hpskit.dataset.split import write_split

    data = open_data(path, format=data_format, image_root=image_root, allow_outside=allow_outside)
    with progress_bar() as bar:
        progress = step_progress(bar)
        parts = split_data(
            data, share=share, seed=seed, similarity=similarity, pixels=compare_pixels, progress=progress
        )
        write_split(data, parts, out)
    if as_json:
        echo_json({"out": str(out), **parts.to_json()}, indent=None)
        return
    if parts.unread_images:
        echo(f"warning: {parts.unread_images:,} images cannot be read and were compared with none", err=True)
    echo(f"{out}/train.parquet: {parts.train:,} groups")
    echo(f"{out}/validation.parquet: {parts.validation:,} groups")
    echo(f"{parts.components:,} sets of groups share nothing; the largest has {parts.largest:,} groups")


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="A data set of the hub: one that docs/data.md lists, or any with --file.")
    ],
    split: Annotated[
        str | None, typer.Option(help="test, train, validation …: see docs/data.md; the first there if not given.")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(help="A path in the repository or a pattern, instead of a split; repeatable.")
    ] = None,
    generator: Annotated[
        list[str] | None, typer.Option(help="Images of a generator too (zhwang/HPDv2); repeatable; '*' for all.")
    ] = None,
    images: Annotated[bool, typer.Option(help="Bring the archives of images too, and unpack them.")] = True,
    to: Annotated[
        Path | None, typer.Option(help="Folder to put it in.  \\[default: where PATH finds it by name]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be downloaded, and its size.")] = False,
) -> None:
    """Download a data set and unpack its images, so that its name can be given as PATH.

    The download can be interrupted and continued. HF_HOME, HPSKIT_HOME and HF_HUB_OFFLINE are respected.

    \b
    hpskit data fetch ymhao/HPDv2 --split train --dry-run
    hpskit data fetch THUDM/ImageRewardDB
    """
    from hpskit.dataset.fetch import Wanted, folder_of
    from hpskit.dataset.fetch import fetch as fetch_data

    wanted = Wanted(name=name, split=split, files=tuple(file or ()), generators=tuple(generator or ()), images=images)
    if dry_run:
        _print_plan(wanted, to or folder_of(name))
        return
    with progress_bar() as bar:
        progress = step_progress(bar)
        folder = fetch_data(wanted, to, lambda what, done: progress(f"unpacking {what}", done, None))
    echo(f"{name}: ready in {folder}")


def _print_plan(wanted: Wanted, folder: Path) -> None:
    from hpskit.dataset.fetch import plan

    parts = plan(wanted)
    for part in parts:
        several = f" … {PurePosixPath(part.files[-1].path).name} ({len(part.files)} parts)" if part.files[1:] else ""
        target = f" -> {part.target}/" if part.archive else ""
        here = "  is here" if part.is_in(folder) else ""
        echo(f"{_bytes(part.size):>9}  {part.files[0].path}{several}{target}{here}")
    missing = sum(part.size for part in parts if not part.is_in(folder))
    echo(f"{_bytes(missing):>9}  to download to {folder}")


def _bytes(size: int) -> str:
    scale, unit = next(((s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= s), (1, "B"))
    return f"{size / scale:.1f} {unit}" if unit == "GB" else f"{size / scale:.0f} {unit}"


def _print(facts: dict[str, Any]) -> None:
    table = new_table(facts["path"], "what", "how many", words=("what", "how many"))
    for row in _lines(facts):
        table.add_row(*row)
    show(table, *_findings(facts), "sound" if facts["sound"] else "not sound")


def _findings(facts: dict[str, Any]) -> Iterator[str]:
    for kind, count in (facts["problems"] | facts["remarks"]).items():
        yield f"{kind}: {count:,}"
        first = facts["listed"].get(kind, [])
        yield from (f"  {line}" for line in first)
        if count > len(first):
            yield f"  … and {count - len(first):,} more (--show)"
    yield from (f"not checked: {text}" for text in facts["not_checked"])


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def some(name: str, besides: str = "", words: str = "") -> str:
        """Write a number, and in brackets another one if it is not 0."""
        return f"{facts[name]:,}" + (f" ({facts[besides]:,} {words})" if besides and facts[besides] else "")

    def counts(name: str) -> str:
        """Write the first dozen, each with how often it is there."""
        return listed((f"{key}: {count:,}" for key, count in facts[name].items()), 12) or "not named"

    yield "format", facts["format"]
    yield "groups", some("groups", "unjudged_groups", "not judged by anybody")
    yield "images in a group", counts("group_sizes")
    yield "distinct prompts", some("prompts")
    yield "distinct images", some("images", "embedded_images", "embedded")
    yield "pairs", some("pairs")
    yield "judgements", some("votes", "partial_votes", "of them partial")
    yield "judgements of a group", counts("votes_per_group")
    annotators = some("annotators", "anonymous_votes", "judgements by nobody named")
    yield "annotators", annotators if facts["annotators"] else annotators.replace("0", "not named", 1)
    yield "comparisons", some("comparisons", "tied", "ties")
    if facts["first_preferred"] is not None:
        yield "the first is preferred in", f"{facts['first_preferred']:.1%} of {facts['decided']:,} without ties"
    yield "published orders", some("published_orders")
    yield "sources", counts("sources")
    yield "categories", counts("categories")
