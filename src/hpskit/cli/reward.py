"""`hpskit reward …`."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, progress_bar, step_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpskit.reward.sighting import Sighting

app = typer.Typer(no_args_is_help=True, help="The score as a reward: a common scale, the watch on a training, audits.")


@app.command("watch")
def watch(
    log: Annotated[Path, typer.Argument(help="Log of a watch, JSON lines.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Page to write.  \\[default: the log's name with .html]", show_default=False)
    ] = None,
) -> None:
    """Draw the log of a watch on reward hacking, and say when it alarmed; exit status 1 if it did.

    \b
    hpskit reward watch watch.jsonl
    """
    from hpskit.reward.sighting import read_log

    _draw(log.name, read_log(log), log.with_suffix(".html") if out is None else out)


@app.command("calibrate")
def calibrate(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for calibration.json and the scores; that of evaluate will do.")],
    scorer: options.Scorers = None,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
) -> None:
    """Score reference images, and write the means and deviations that bring scorers to a common scale.

    \b
    hpskit reward calibrate --data HPDv2/test.json --scorer hps-v2.1 --scorer pickscore --out report/
    """
    from hpskit.dataset.reading import open_data
    from hpskit.reward.calibrate import run

    opened = open_data(data, format=data_format, image_root=image_root)
    with progress_bar() as bar:
        load = options.candidates_loader(scorer, arch, precision, device, batch_size, None)
        found = run(opened, out, load, step_progress(bar))
    for name, reference in found.scorers.items():
        echo(f"{name}: mean {reference.mean:.4g}, deviation within a prompt {reference.deviation:.4g}")
    echo(str(out / "calibration.json"))


@app.command("audit")
def audit(
    run: Annotated[Path, typer.Argument(help="Table of images, prompts and rewards by step, or its folder.")],
    model: options.Model = "mini",
    held_out: Annotated[
        str | None, typer.Option(help="A scorer that the run has not seen, as --model takes it.", show_default=False)
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="reward=NAME,step=NAME,…", help="Which column is what.  \\[default: by usual names]")
    ] = "",
    out: Annotated[Path, typer.Option(help="Page of the watch to write.")] = Path("audit.html"),
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
) -> None:
    """Find how the rewards of a run were made, and the first hacked step; exit status 1 if there is one.

    \b
    hpskit reward audit runs/42/ --model hps-v2.1 --held-out imagereward
    """
    from hpskit.models.loading import load_network
    from hpskit.pages.page import check_page_free
    from hpskit.reward.audit import run as look

    check_page_free(out)
    other = options.scorer_loader(held_out, None, precision, device, None, None)() if held_out else None
    with progress_bar() as bar:
        network = partial(load_network, model, arch=arch, precision=precision, device=device)
        found = look(run, network, columns=columns, held_out=other, progress=step_progress(bar))
    echo(f"{found.images:,} images: {found.verdict}")
    _draw(run.name, found.lines, out)


def _draw(name: str, lines: Sequence[Sighting], out: Path) -> None:
    """Publish the page of a watch and say when it alarmed; exit with status 1 if it did."""
    from hpskit.pages.page import publish_page
    from hpskit.reward.sighting import compared_from, episodes
    from hpskit.reward.watch_page import watch_page

    publish_page(out, watch_page(name, lines))
    begun = episodes(lines)
    for one in begun:
        echo(f"alarm at step {one.step:,}: {one.why()}")
    if back := [after.step for before, after in pairwise(lines) if after.step <= before.step]:
        echo(f"note: the steps go back to {back[0]:,}: a training that was resumed, or two in one log", err=True)
    if not begun:
        never = f"nothing was compared: the reference was not complete in {len(lines):,} steps"
        echo(never if compared_from(lines) is None else f"no alarm in {len(lines):,} steps")
    echo(str(out))
    if begun:
        raise typer.Exit(1)
