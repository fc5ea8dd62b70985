"""Options that several commands have, tables, and progress bars."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
import typer.core

from hpskit.errors import InputError, printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from hpskit.scoring.contract import Candidate
    from hpskit.scoring.scorer import PreferenceScorer

_PANEL = "Model"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name (see `hpskit models list`), checkpoint file, or FILE.py:NAME, a scorer of your own, which is run.",
        rich_help_panel=_PANEL,
    ),
]
Scorers = Annotated[
    list[str] | None,
    typer.Option(
        "--scorer",
        "-s",
        help="Name (see `hpskit models list`), checkpoint file or FILE.py:NAME; repeat for several.  \\[default: mini]",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--scorer", "-s", help="Label of a scorer in the results; repeat for several.  \\[default: all]"),
]
Arch = Annotated[
    str | None,
    typer.Option(help="open_clip architecture of a local checkpoint.  \\[default: ViT-H-14]", rich_help_panel=_PANEL),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(help="Arithmetic of the network; auto: see docs/scoring.md.", rich_help_panel=_PANEL),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …, or mps.", rich_help_panel=_PANEL)]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images per step; changes no score in fp32.  \\[default: 8 on a CPU, else 64]",
        rich_help_panel=_PANEL,
    ),
]
Antialias = Annotated[
    bool | None,
    typer.Option(
        "--antialias/--no-antialias",
        help="Resize as the official code does today, or as it did when the published tables were computed.",
        show_default="antialias",
        rich_help_panel=_PANEL,
    ),
]
Data = Annotated[str, typer.Option(help="Data set of people's choices: file, folder or name on the hub.")]
DataFormat = Annotated[
    str,
    typer.Option(
        "--format",
        "--columns",
        help="Layout of the data; or the columns of a table of choices, such as first=img_a,second=img_b,winner=label: "
        "see docs/data.md.",
    ),
]
ImageRoot = Annotated[
    Path | None, typer.Option(help="Folder that relative image paths start from.  \\[default: as the layout says]")
]
AllowOutside = Annotated[
    bool,
    typer.Option("--allow-outside", help="Take images from outside the data's own folder too: see docs/data.md."),
]
TrainingData = Annotated[
    list[str], typer.Option(help="Data set to learn from, or SET:RATIO, its share of the pairs; repeat for several.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a field of the recipe, such as lr=1e-6; repeat for more."),
]
DropLeaks = Annotated[
    bool, typer.Option("--drop-leaks", help="Leave out training groups that validation shares something with.")
]
ComparePixels = Annotated[
    bool, typer.Option("--compare-pixels", help="Decode all images first, to find the same ones saved in another way.")
]
OnBroken = Annotated[
    Literal["fail", "drop"],
    typer.Option(help="Stop at an image that cannot be used, or leave its group out and count it in the log."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Threads of a process that decode.  \\[default: one for each processor, at most 8]"),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes of Ray, at most.  \\[default: one for each GPU or free processor]",
    ),
]
Cluster = Annotated[
    str,
    typer.Option(
        metavar="auto|HOST:PORT",
        help="Cluster of Ray to join.  \\[default: start one on this machine]",
        show_default=False,
    ),
]
Match = Annotated[
    Literal["auto", "number", "order"],
    typer.Option(
        help="How names of images are read: numbers from wherever they start, numbers from 0, or sorted, one a prompt."
    ),
]
Persons = Annotated[
    bool,
    typer.Option(
        "--persons/--judgements",
        help="Names of annotators are persons, the same in all groups; or only number the judgements of a group.",
    ),
]
_Usage = cast(type[Exception], typer.BadParameter.__base__)
"""Error of a wrong option; typer brings a copy of click, or takes the one that is installed."""
_LINE = 10_000
"""Characters of a line that a command prints."""
PaperFormats = Annotated[
    list[str] | None,
    typer.Option(
        "--paper",
        metavar="FORMAT",
        help="Write for papers, too: latex, csv, md, svg or pdf; repeat, or part by commas.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


class WithRecipe(typer.core.TyperCommand):
    """A command with a recipe: who gives a field of it like an option is told where it goes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; see `InputError`."""
        try:
            return super().parse_args(ctx, args)
        except _Usage as error:
            from hpskit.training.recipes import Recipe

            option = str(getattr(error, "option_name", ""))
            field = option.removeprefix("--").replace("-", "_")
            if field not in Recipe.model_fields:
                raise
            cure = f"give it by --set {field}=…"
            raise InputError(option, "is no option but a field of the recipe", cure=cure) from error


def new_table(title: str, *columns: str, words: Collection[str] = ()) -> Table:
    """Make the table of a result: figures to the right on one line; `words` are columns that fold to the left.

    Cells may hold text of strangers: see `printable`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    class Printable(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            texts = [cell.copy() if isinstance(cell, Text) else Text(str(cell)) for cell in cells]
            for text in texts:
                text.plain = printable(text.plain)
            super().add_row(*texts, **options)

    heading = Text(printable(title)) if title else None
    table = Printable(title=heading, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        if column in words:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def show(table: Table, *lines: str, dim: str = "") -> None:
    """Print a table, then lines below it, the last one dim; long lines are left to the terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    console.print(table)
    for line in lines:
        console.print(Text(f" {printable(line)}"), soft_wrap=True)
    if dim:
        console.print(Text(f" {printable(dim)}", style="dim"), soft_wrap=True)


def interval(row: Mapping[str, Any]) -> str:
    """Write the interval of a share, in percent; empty if it has none."""
    return f"{100 * row['low']:.1f} to {100 * row['high']:.1f}" if row["low"] is not None else ""


def echo(*lines: str, err: bool = False) -> None:
    """Print lines on standard output or error, whatever text of strangers is in them: see `printable`."""
    for line in lines:
        typer.echo(printable(line, _LINE), err=err)


def echo_json(value: object, *, indent: int | None = 2) -> None:
    """Print one JSON document; what could steer a terminal is written as JSON escapes it."""
    unicode = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    lines = json.dumps(value, indent=indent, ensure_ascii=not unicode).split("\n")
    for line in lines:
        escaped = (c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        typer.echo(line if line.isprintable() else "".join(escaped))


def command_line() -> str:
    """Write the command that is running, for results to carry; without secrets."""
    return printable(f"hpskit {shlex.join(sys.argv[1:])}", _LINE)


def progress_bar() -> Progress:
    """Make the bar of a command; see `hpskit.stage.progress_bar`."""
    from hpskit.stage import progress_bar as make

    return make()


def scorer_loader(
    model: str, arch: str | None, precision: str, device: str, batch_size: int | None, antialias: bool | None
) -> Callable[[], PreferenceScorer]:
    """Return a function that loads the scorer of these options, with a note on standard error while it does."""

    def load() -> PreferenceScorer:
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status(Text(f"Loading {printable(model)} …")):
            from hpskit.scoring.scorer import load_scorer

            return load_scorer(
                model, arch=arch, precision=precision, device=device, batch_size=batch_size, antialias=antialias
            )

    return load


def candidates_loader(
    names: list[str] | None,
    arch: str | None,
    precision: str,
    device: str,
    batch_size: int | None,
    antialias: bool | None,
) -> Callable[[], list[Candidate]]:
    """Return a function that loads the scorers that a command names; `arch` is for those that are files."""

    def load() -> list[Candidate]:
        from hpskit.models.store import is_path
        from hpskit.models.training_record import read_record
        from hpskit.scoring.contract import Candidate

        wanted = names or ["mini"]
        loaded = [
            scorer_loader(name, arch if is_path(name) else None, precision, device, batch_size, antialias)()
            for name in wanted
        ]
        own = [scorer.info.name for scorer in loaded]
        return [
            Candidate(
                label=scorer.info.name if own.count(scorer.info.name) == 1 else name,
                scorer=scorer,
                training=read_record(name, scorer.info.weight_hash),
            )
            for name, scorer in zip(wanted, loaded, strict=True)
        ]

    return load


def step_progress(bar: Progress) -> Callable[[str, int, int | None], None]:
    """Return a `hpskit.stage.Progress` that draws on `bar`; each step has a line of its own, also without a total.

    Where there is no terminal, the bar speaks from time to time, and of a run that goes on at once.
    """
    tasks: dict[str, TaskID] = {}

    def progress(step: str, done: int, total: int | None) -> None:
        if step not in tasks:
            tasks[step] = bar.add_task(printable(step), total=total)
            if bar.disable and step == "continuing":
                typer.echo(f"{step}: {done:,}" + (f" of {total:,}" if total else ""), err=True)
        bar.update(tasks[step], completed=done, total=total)

    return progress
