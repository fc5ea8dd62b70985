"""`hpskit images …`: images of generators for prompts, made or brought in, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpskit.cli.options import Json, Match, echo, echo_json, new_table, progress_bar, show, step_progress

if TYPE_CHECKING:
    from hpskit.images.run import Made

app = typer.Typer(help="Images of generators for prompts: make them, bring them in, check them.", no_args_is_help=True)

Prompts = Annotated[str, typer.Option(help="Suite: file or folder of prompts, or a name; see docs/benchmark.md.")]
Out = Annotated[Path, typer.Option(help="Folder of the run, with a folder for each generator.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides the seed of every image.")]
Generators = Annotated[Path, typer.Option(help="TOML file with a table \\[\\[generator]] for each.")]
RetryFailed = Annotated[
    str, typer.Option(metavar="REASON", help="Try images again that failed for this reason; `all` for any.")
]


@app.command()
def generate(
    prompts: Prompts,
    generators: Generators,
    out: Out,
    seed: Seed = 0,
    retry_failed: RetryFailed = "",
    as_json: Json = False,
) -> None:
    """Make the images of every generator for every prompt; killed, the same command goes on.

    Every image is there whole or has the reason why not. Several processes may work on one folder. OUT/GENERATOR is
    what `hpskit benchmark run --images` reads. Exit status 3 while images are missing.

    \b
    hpskit images generate --prompts prompts.jsonl --generators gen.toml --out images/
    hpskit images generate --prompts prompts.jsonl --generators gen.toml --out images/ --retry-failed timeout
    """
    import signal
    import sys

    from hpskit.images.plan import read_generators
    from hpskit.images.run import GenerateRun
    from hpskit.images.run import generate as make
    from hpskit.prompts.suites import open_suite

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that programs of `command` end too
    suite, settings = open_suite(prompts, option="--prompts"), read_generators(generators)
    with progress_bar() as bar:
        run = GenerateRun(
            suite=suite,
            generators=settings,
            out=out,
            seed=seed,
            retry_failed=retry_failed.removeprefix("reason="),
            progress=step_progress(bar),
        )
        made = make(run)
    tell(made, out, as_json)


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Images that somebody else made for the prompts.")],
    name: Annotated[str, typer.Option("--as", help="Name of their generator.")],
    prompts: Prompts,
    out: Out,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Table that says which image belongs to which prompt; paths start from --images."),
    ] = None,
    match: Match = "auto",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Bring what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Bring images that somebody else made into the folder of a run, byte for byte.

    \b
    hpskit images import renders/ --as my-model --prompts prompts.jsonl --out images/
    """
    from hpskit.images.layout import find_images
    from hpskit.images.run import import_images
    from hpskit.prompts.suites import open_suite

    suite = open_suite(prompts, option="--prompts")
    images = find_images(suite, folder, manifest=manifest, match=match, allow_missing=allow_missing)
    echo(*(f"note: {note}" for note in images.notes), err=True)
    with progress_bar() as bar:
        made = import_images(suite, images, name, out, progress=step_progress(bar))
    tell(made, out, as_json)


@app.command()
def check(
    images: Annotated[Path, typer.Argument(help="Folder that `generate` or `import` wrote.")],
    out: Annotated[Path | None, typer.Option(help="A page, .html, with a contact sheet and the faults.")] = None,
    as_json: Json = False,
) -> None:
    """Look for images that are broken, blank, alike, of another size, changed, or a picture for all occasions.

    Exit status 1 if anything was found.

    \b
    hpskit images check images/ --out images.html
    """
    from hpskit.images.check import KINDS, check_images, check_page
    from hpskit.pages.page import check_page_free

    if out is not None:
        check_page_free(out)
    with progress_bar() as bar:
        found = check_images(images, step_progress(bar))
    if out is not None:
        check_page(images, found, out)
    faults = [
        {"kind": f.kind, "file": f.row.get("file"), "prompt": f.row["prompt"], "said": f.said} for f in found["faults"]
    ]
    if as_json:
        echo_json({**{name: found[name] for name in ("images", "missing", "generators")}, "faults": faults})
    else:
        table = new_table("", "fault", "images", "the first", words=["fault", "the first"])
        for kind in KINDS:
            if own := [fault for fault in faults if fault["kind"] == kind]:
                table.add_row(kind, f"{len(own):,}", f"{own[0]['file'] or own[0]['prompt'][:60]} {own[0]['said']}")
        if faults:
            show(table, dim=str(out or images))
        else:
            echo(f"{found['images']:,} images: nothing is wrong with them")
    if faults:
        raise typer.Exit(1)


def tell(made: Made, out: Path, as_json: bool) -> None:
    if as_json:
        echo_json({"states": made.states, "missing": made.missing})
    else:
        table = new_table("", "generator", "state", "images", "the first said", words=["state", "the first said"])
        for name, states in made.states.items():
            for state, count in states.items():
                table.add_row(name, state, f"{count:,}", made.said.get((name, state), ""))
        show(table, dim=str(out))
    if made.missing:
        reasons = _reasons(made.states)
        echo(f"missing: {made.missing:,} images; run the same command again{reasons}", err=True)
        raise typer.Exit(3)


def _reasons(states: Mapping[str, Mapping[str, int]]) -> str:
    """Say how failed images are tried again, if there are any."""
    found = {state.partition(": ")[2] for own in states.values() for state in own if state.startswith("failed: ")}
    return f", with --retry-failed {min(found)} for those that failed so" if found else ""
