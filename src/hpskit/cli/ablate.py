"""`hpskit ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpskit.cli.options import (
    ComparePixels,
    DataFormat,
    DropLeaks,
    ImageRoot,
    Json,
    OnBroken,
    Settings,
    TrainingData,
    Workers,
    command_line,
    echo,
    echo_json,
    new_table,
    progress_bar,
    show,
    step_progress,
)

__all__ = ["ablate"]


def ablate(
    data: TrainingData,
    val: Annotated[str, typer.Option(help="Data that the runs are compared on.")],
    grid: Annotated[list[str], typer.Option(help="Field of the recipe and its values, such as lr=1e-6,3.3e-6.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, ablation.html, ablation.md and ablation.json.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=A,B…", help="Further fields of the grid.", show_default=False)
    ] = None,
    recipe: Annotated[str, typer.Option(help="hpsv2, tiny, or a file .toml.")] = "hpsv2",
    settings: Settings = None,
    data_format: DataFormat = "auto",
    image_root: ImageRoot = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; GPUs are dealt out to them in turn.")] = 1,
    drop_leaks: DropLeaks = False,
    compare_pixels: ComparePixels = False,
    on_broken: OnBroken = "fail",
    workers: Workers = None,
    device: Annotated[Literal["auto", "cpu"], typer.Option(help="auto is a GPU if there is one.")] = "auto",
    as_json: Json = False,
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
        command=command_line(),
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
    _print(result, out)


def _print(result: dict[str, Any], out: Path) -> None:
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
