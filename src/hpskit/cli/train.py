"""`hpskit train`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hpskit.cli.options import Json, progress_bar, step_progress
from hpskit.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress

    from hpskit.training.trainer import TrainRun

__all__ = ["train"]

_DataSets = Annotated[
    list[str], typer.Option(help="Data set to learn from, or SET:RATIO, its share of the pairs; repeat for several.")
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a field of the recipe, such as lr=1e-6; repeat for more."),
]
_TensorBoard = Annotated[
    bool | None,
    typer.Option("--tensorboard/--no-tensorboard", help="Curves in OUT/tensorboard.  [default: if it is installed]"),
]


def train(
    data: _DataSets,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Annotated[str, typer.Option(help="hpsv2, tiny, mini, or a file .toml; see docs/training.md.")] = "hpsv2",
    val: Annotated[str | None, typer.Option(help="Data set that checkpoints are compared on.")] = None,
    settings: _Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, if there is one.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe, data, leaks, time, memory and disk; write nothing.")
    ] = False,
    drop_leaks: Annotated[
        bool, typer.Option("--drop-leaks", help="Leave out training groups that validation shares something with.")
    ] = False,
    on_broken: Annotated[
        Literal["fail", "drop"],
        typer.Option(help="Stop at an image that cannot be used, or leave its group out and count it in the log."),
    ] = "fail",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Threads that decode.  [default: one for each processor, at most 8]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, or cpu to leave GPUs alone.")] = "auto",
    tensorboard: _TensorBoard = None,
    wandb: Annotated[bool, typer.Option("--wandb", help="Curves in Weights & Biases.")] = False,
    as_json: Json = False,
) -> None:
    """Train a preference model; kill it at any moment, and --resume goes on as if nothing had been.

    OUT holds the log, a report, the checkpoints and the best weights, which `hpskit score --model` loads. On several
    GPUs, start the same by `torchrun --nproc-per-node 8 -m hpskit train …` or `accelerate launch`.

    \b
    hpskit train --recipe hpsv2 --data HPDv2/train.json --val HPDv2/test.json --out runs/hps --dry-run
    """
    from hpskit.training.recipes import LINEAR_RECIPES

    if recipe in LINEAR_RECIPES:
        _fit(data, val, out, settings or [], dry_run, as_json)
        return
    from hpskit.training.recipes import read_recipe
    from hpskit.training.trainer import TrainRun

    if val is None:
        raise InputError(
            f"--val: is missing, the recipe {recipe} needs one; `hpskit data split` makes one of your data"
        )
    config = TrainRun(
        recipe=read_recipe(recipe).with_settings(settings or []),
        data=tuple(data),
        validation=val,
        out=out,
        resume=resume,
        drop_leaks=drop_leaks,
        on_broken=on_broken,
        workers=workers,
        device=device,
        tensorboard=tensorboard,
        wandb=wandb,
        command=_command(),
    )
    (_estimate if dry_run else _train)(config, as_json)


def _command() -> str:
    return f"hpskit {shlex.join(sys.argv[1:])}"


def _speaks() -> bool:
    """Of several processes the first one alone."""
    return os.environ.get("RANK", "0") == "0"


def _train(config: TrainRun, as_json: bool) -> None:
    from hpskit.training.trainer import train as run

    with _bar() as bar:
        summary = run(config, _show(bar), _warn)
    if not _speaks():
        return
    if as_json:
        value = {"out": str(summary.out), "model": str(summary.model), "steps": summary.steps}
        found = {"best_step": summary.best_step, "weight_hash": summary.weight_hash, "validation": summary.validation}
        typer.echo(json.dumps({**value, **found}, indent=2))
        return
    typer.echo(f"{summary.steps:,} steps; best at step {summary.best_step:,}: {_accuracy(summary.validation)}")
    typer.echo(f"{summary.model}\n{summary.out / 'report.html'}")


def _estimate(config: TrainRun, as_json: bool) -> None:
    from rich.console import Console

    from hpskit.training.estimate import estimate

    with Console(stderr=True, quiet=not _speaks()).status("Checking …") as status:
        found = estimate(config, lambda what: status.update(f"{what} …"))
    if not _speaks():
        return
    for text in found.warnings:
        _warn(text)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    for line in found.lines():
        typer.echo(line)
    typer.echo("dry run: nothing was written")


def _fit(data: list[str], val: str | None, out: Path, settings: list[str], dry_run: bool, as_json: bool) -> None:
    """The linear recipes, which need neither a validation set nor devices."""
    from hpskit.training.mini_fit import MiniFit, plan, run
    from hpskit.training.mini_recipe import mini

    if val is not None:
        raise InputError("--val: is given, but the recipe mini cross-validates by prompt on its own data; leave it out")
    if len(data) > 1:
        raise InputError(f"--data: names {len(data)} data sets, expected one for the recipe mini")
    config = MiniFit(data=data[0], out=out, recipe=mini().with_settings(settings), command=_command())
    if dry_run:
        for line in plan(config):
            typer.echo(line)
        return
    with progress_bar() as bar:
        summary = run(config, step_progress(bar))
    if as_json:
        typer.echo(json.dumps(summary.figures, indent=2, ensure_ascii=False))
        return
    for line in summary.lines():
        typer.echo(line)


def _warn(text: str) -> None:
    if _speaks():
        typer.echo(f"warning: {text}", err=True)


def _accuracy(validation: Mapping[str, Any]) -> str:
    span = {name: 100 * value for name, value in validation["accuracy"].items()}
    return f"accuracy {span['value']:.1f} % ({span['low']:.1f} to {span['high']:.1f}), loss {validation['loss']:.4f}"


def _bar() -> Progress:
    """What is being done, and the figures of the last step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=not _speaks())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not (console.is_terminal and _speaks()))


def _show(bar: Progress) -> Callable[[str, int, int | None, Mapping[str, Any]], None]:
    """Steps move the bar; a validation is a line above it, which is there without a terminal too."""
    task = bar.add_task("starting", total=None, figures="")

    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        if line.get("kind") == "validation":
            if _speaks():
                bar.console.print(f"step {done:,}: {_accuracy(line)}", highlight=False, soft_wrap=True)
        elif line:
            bar.update(task, figures=_figures(line))
        bar.update(task, description=what, completed=done, total=total)

    return progress


def _figures(line: Mapping[str, Any]) -> str:
    speed = line["images"] / line["seconds"] if line["seconds"] else 0.0
    accuracy = "" if line["accuracy"] is None else f"accuracy {100 * line['accuracy']:.0f} %  "
    return f"loss {line['loss']:.4f}  {accuracy}lr {line['lr']:.2g}  {speed:,.0f} images/s"
