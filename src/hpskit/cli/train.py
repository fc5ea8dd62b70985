"""`hpskit train` and `hpskit ablate`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, new_table, progress_bar, show, step_progress
from hpskit.errors import HpskitError, InputError, need, printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from hpskit.training.data import TrainConfig

_TensorBoard = Annotated[
    bool | None,
    typer.Option("--tensorboard/--no-tensorboard", help="Curves in OUT/tensorboard.  \\[default: if it is installed]"),
]


def _show_recipe(name: str | None) -> None:
    """Print a recipe as a file has it, and end."""
    if name is None:
        return
    from hpskit.training.mini import MiniRecipe
    from hpskit.training.recipes import read_recipe

    recipe = MiniRecipe() if name == "mini" else read_recipe(name)
    typer.echo(recipe.to_toml(), nl=False)
    raise typer.Exit


_Shown = Annotated[
    str | None,
    typer.Option(
        "--show-recipe",
        metavar="RECIPE",
        help="Print the fields of a recipe, a file to start from, and end.",
        callback=_show_recipe,
        is_eager=True,
    ),
]

_WIDE = 125
"""Columns of a terminal that has room for a whole bar and all figures."""
_TO_SPEAK = 5.0
"""Seconds for the first process to say why all end: a launcher ends the rest as soon as one has ended."""


def train(
    data: options.TrainingData,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Annotated[str, typer.Option(help="hpsv2, tiny, mini, or a file .toml; see docs/training.md.")] = "hpsv2",
    val: Annotated[
        str | None,
        typer.Option(help="Data that checkpoints are compared on: `hpskit data split` makes some; no test set."),
    ] = None,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    settings: options.Settings = None,
    _shown: _Shown = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, if there is one.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe, data, leaks, time, memory and disk; write nothing.")
    ] = False,
    drop_leaks: options.DropLeaks = False,
    compare_pixels: options.ComparePixels = False,
    on_broken: options.OnBroken = "fail",
    shard: Annotated[
        bool, typer.Option("--shard", help="Spread the weights over the processes instead of giving each a copy.")
    ] = False,
    workers: options.Workers = None,
    device: Annotated[str, typer.Option(help="auto, or cpu to leave GPUs alone.")] = "auto",
    tensorboard: _TensorBoard = None,
    as_json: options.Json = False,
) -> None:
    """Train a preference model; kill it at any moment, and --resume goes on as if nothing had been.

    OUT holds the log, a report, the checkpoints and the best weights, which `hpskit score --model` loads. On several
    GPUs, start the same by `torchrun --nproc-per-node 8 -m hpskit train …`; docs/training.md has more.

    \b
    hpskit data split HPDv2/train.json --out parts/
    hpskit train --recipe hpsv2 --data parts/train.parquet --val parts/validation.parquet --out runs/hps --dry-run
    """
    with _one_voice(out):
        if recipe == "mini":
            _fit(data, val, out, settings or [], data_format, image_root, dry_run, as_json)
            return
        from hpskit.training.data import TrainConfig
        from hpskit.training.recipes import read_recipe

        if val is None:
            cure = "`hpskit data split` makes one of your data"
            raise InputError("--val", f"is missing, the recipe {recipe} needs one", cure=cure)
        config = TrainConfig(
            recipe=read_recipe(recipe).with_settings(settings or []),
            data=tuple(data),
            validation=val,
            data_format=data_format,
            image_root=image_root,
            out=out,
            resume=resume,
            drop_leaks=drop_leaks,
            compare_pixels=compare_pixels,
            on_broken=on_broken,
            shard=shard,
            workers=workers,
            device=device,
            tensorboard=tensorboard,
            command=options.command_line(),
        )
        config.check()
        (_dry_run if dry_run else _train)(config, as_json)


def _is_main() -> bool:
    """Tell whether this is the first of the processes of a run."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def _one_voice(out: Path) -> Iterator[None]:
    """Let the first process speak, if it ends too: the launcher ends the others while they wait."""
    try:
        yield
    except HpskitError:
        if not _is_main():
            time.sleep(_TO_SPEAK)
        raise
    except KeyboardInterrupt as stop:
        if not _is_main():
            time.sleep(_TO_SPEAK)
            raise typer.Exit(1) from stop
        stop.add_note("; ".join([*stop.args, _way_on(out)]))
        raise


def _way_on(out: Path) -> str:
    if any((out / "checkpoints").glob("step-*")):
        return "the same command with --resume goes on behind the last checkpoint"
    resume = " with --resume" if (out / "config.json").exists() else ""
    return f"no checkpoint was saved yet, and the same command{resume} begins anew"


def _train(config: TrainConfig, as_json: bool) -> None:
    from hpskit.training.trainer import train as run

    with _bar() as bar:
        summary = run(config, _show(bar), _warn)
    if not _is_main():
        return
    model = config.out / "model.safetensors"
    if as_json:
        echo_json({"out": str(config.out), "model": str(model), **summary.model_dump()})
        return
    echo(f"{summary.steps:,} steps; best at step {summary.best_step:,}: {_accuracy(summary.validation)}")
    echo(str(model), str(config.out / "report.html"))


def _dry_run(config: TrainConfig, as_json: bool) -> None:
    from rich.console import Console

    from hpskit.training.trainer import dry_run

    with Console(stderr=True, quiet=not _is_main()).status("Checking …") as status:
        found = dry_run(config, lambda what: status.update(f"{what} …"))
    if not _is_main():
        return
    for text in found["warnings"]:
        _warn(text)
    if as_json:
        echo_json(found)
        return
    for line in _plan(config, found):
        echo(line)
    echo("dry run: nothing was written")


def _plan(config: TrainConfig, found: Mapping[str, Any]) -> Iterator[str]:
    """Put what a dry run has found into words."""
    from hpskit.pages.format import duration

    recipe, sizes, bytes_, measured = config.recipe, found["parameters"], found["bytes"], found["measured"]
    share = f"{sizes['trained'] / 1e6:,.1f} of {sizes['all'] / 1e6:,.1f} million parameters are trained"
    plan = f"{recipe.steps:,} steps of {recipe.batch:,} pairs, loss {recipe.loss}, lr {recipe.lr:g}"
    yield f"{recipe.architecture}: {share}; {plan}"
    yield from found["data"]
    yield f"training and validation share no prompt and no image; first weights: {found['weights']}"
    if found["resume"]:
        yield found["resume"]
    known = f"weights and optimiser take {bytes_['memory'] / 1e9:.1f} GB"
    if measured:
        where = f" on {found['processes']} processes" if found["processes"] > 1 else ""
        yield f"time: {measured['seconds']:.2f} s a step{where}; about {duration(found['seconds'])} without validations"
        yield f"memory: {measured['peak'] / 1e9:.1f} GB at the peak, of which {known}"
    else:
        yield f"time: not measured; {found['unmeasured']}"
        yield f"memory: {known}, and what passes through the network comes on top"
    yield f"disk: {bytes_['disk'] / 1e9:.1f} GB of checkpoints at once"


def _fit(
    data: list[str],
    val: str | None,
    out: Path,
    settings: list[str],
    data_format: str,
    image_root: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fit the linear recipe, which needs neither a validation set nor devices."""
    from hpskit.dataset.reading import open_data

    if val is not None:
        cure = "leave it out: the recipe mini cross-validates by prompt on its own data"
        raise InputError("--val", "is given with the recipe mini", cure=cure)
    if len(data) > 1:
        raise InputError("--data", f"names {len(data)} data sets", expected="one for the recipe mini")
    need("sklearn", "--recipe mini", "train")
    judged = open_data(data[0], format=data_format, image_root=image_root)  # before the import of torch
    from hpskit.training.mini import MiniRecipe, lines, plan, run

    recipe = MiniRecipe().with_settings(settings)
    if dry_run:
        echo(*plan(judged, recipe))
        return
    with progress_bar() as bar:
        figures = run(judged, out, recipe, options.command_line(), step_progress(bar))
    if as_json:
        echo_json(figures)
    else:
        echo(*lines(figures), str(out / "mini.safetensors"))


def _warn(text: str) -> None:
    if _is_main():
        echo(f"warning: {text}", err=True)


def _accuracy(validation: Mapping[str, Any]) -> str:
    span = {name: 100 * value for name, value in validation["accuracy"].items()}
    return f"accuracy {span['value']:.1f} % ({span['low']:.1f} to {span['high']:.1f}), loss {validation['loss']:.4f}"


def _outlook(line: Mapping[str, Any]) -> str:
    from hpskit.pages.format import duration

    memory = f"{line['peak_bytes'] / 1e9:.1f} GB at the peak"
    left = duration(line["seconds_left"])
    return f"{line['seconds_per_step']:.2g} s a step, {left} to go without validations; {memory}"


def _bar() -> Progress:
    """Make a bar that shows what is being done, and the figures of the last step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from hpskit.stage import progress_bar as make

    console = Console(stderr=True, quiet=not _is_main())
    return make(
        TextColumn("{task.description}"),
        BarColumn(40 if console.width >= _WIDE else 8),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _show(bar: Progress) -> Callable[[str, int, int | None, Mapping[str, Any]], None]:
    """Let steps move the bar; other figures are a line above it, which is there without a terminal too."""
    said = {"validation": _accuracy, "estimate": _outlook}
    narrow = bar.console.width < _WIDE
    task = bar.add_task("starting", total=None, figures="")

    def progress(what: str, done: int, total: int | None, line: Mapping[str, Any]) -> None:
        kind = line.get("kind")
        if kind == "resume":
            bar.console.print(printable(line["text"]), markup=False, highlight=False, soft_wrap=True)
        elif kind in said and _is_main():
            bar.console.print(f"step {done:,}: {said[kind](line)}", highlight=False, soft_wrap=True)
        elif kind == "step":
            bar.update(task, figures=_figures(line, short=narrow))
        bar.update(task, description=what, completed=done, total=total)

    return progress


def _figures(line: Mapping[str, Any], *, short: bool) -> str:
    """Write the figures of a step; in a narrow window without the speed."""
    speed = line["images"] / line["seconds"] if line["seconds"] else 0.0
    accuracy = "" if line["accuracy"] is None else f"accuracy {100 * line['accuracy']:.0f} %  "
    text = f"loss {line['loss']:.4f}  {accuracy}lr {line['lr']:.2g}"
    return text if short else f"{text}  {speed:,.0f} images/s"


def ablate(
    data: options.TrainingData,
    val: Annotated[str, typer.Option(help="Data that the runs are compared on.")],
    grid: Annotated[list[str], typer.Option(help="Field of the recipe and its values, such as lr=1e-6,3.3e-6.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, ablation.html, ablation.md and ablation.json.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=A,B…", help="Further fields of the grid.", show_default=False)
    ] = None,
    recipe: Annotated[str, typer.Option(help="hpsv2, tiny, or a file .toml.")] = "hpsv2",
    settings: options.Settings = None,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; GPUs are dealt out to them in turn.")] = 1,
    drop_leaks: options.DropLeaks = False,
    compare_pixels: options.ComparePixels = False,
    on_broken: options.OnBroken = "fail",
    workers: options.Workers = None,
    device: Annotated[Literal["auto", "cpu"], typer.Option(help="auto is a GPU if there is one.")] = "auto",
    as_json: options.Json = False,
) -> None:
    """Train with every combination of some settings, and show which is best.

    Killed and started again it continues; values can be added to the grid later.

    \b
    hpskit ablate --data train.json --val test.json --grid lr=1e-6,3.3e-6,1e-5 image_blocks=10,20,32 --out ablation/
    """
    from hpskit.training.data import TrainConfig
    from hpskit.training.recipes import read_recipe

    base = TrainConfig(
        recipe=read_recipe(recipe).with_settings(settings or []),
        data=tuple(data),
        validation=val,
        data_format=data_format,
        image_root=image_root,
        out=out,
        drop_leaks=drop_leaks,
        compare_pixels=compare_pixels,
        on_broken=on_broken,
        workers=workers,
        device=device,
        command=options.command_line(),
    )
    base.check()
    from hpskit.stage import goes_on
    from hpskit.training.sweep import Sweep, parse_grid
    from hpskit.training.sweep import ablate as run

    sweep = Sweep(base=base, points=parse_grid(base.recipe, [*grid, *(more or [])]), jobs=jobs)
    with goes_on(), progress_bar() as bar:
        result = run(sweep, step_progress(bar), lambda text: echo(f"warning: {text}", err=True))
    if as_json:
        echo_json(result)
        return
    _print_runs(result, out)


def _print_runs(result: dict[str, Any], out: Path) -> None:
    from hpskit.pages.format import counted
    from hpskit.training.sweep import accuracy_of, ranked, undecided, written

    table = new_table("", *result["fields"], "accuracy", "interval", "best step", "")
    for row in ranked(result):
        cells = ["stopped", "", f"at {row['steps']:,}"]
        if accuracy_of(row) >= 0:
            value, low, high = (f"{100 * row['accuracy'][name]:.1f}" for name in ("value", "low", "high"))
            cells = [f"{value} %", f"{low} to {high}", f"{row['best_step']:,}"]
        best = row["name"] == result["best"]
        cells = [*map(written, row["settings"].values()), *cells, "best" * best]
        table.add_row(*cells, style="bold" if best else None)
    others = undecided(result)
    text = f"the order is not decided: intervals of {counted(others, 'other run')} overlap with that of the best"
    show(table, *([text] if others else []), dim=str(out / "ablation.html"))
