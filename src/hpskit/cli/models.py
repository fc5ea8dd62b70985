"""`hpskit models`: list, fetch and verify models; `hpskit export`, which writes one in the layout of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpskit.cli.options import Json, echo, echo_json

app = typer.Typer(help="List, fetch and verify models.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """Show the models that hpskit knows: licence, size, whether they are on this machine."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from hpskit.models.plugins import plugins
    from hpskit.models.registry import MODELS
    from hpskit.models.store import cached

    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "version": model.version,
            "architecture": model.architecture,
            "licence": model.licence,
            "size": path.stat().st_size if path else model.size,
            "state": "embedded" if model.embedded else "ready" if path else "not fetched",
            "path": str(path) if path else None,
            "source": ", ".join(map(str, model.sources)) or "in the wheel",
            "summary": model.summary,
        }
        for model in MODELS.values()
        for path in (cached(model),)
    ]
    rows += [
        dict.fromkeys(rows[0])
        | {"name": name, "state": "installed", "source": point.value, "summary": "a scorer of another package"}
        for name, point in plugins().items()
        if name not in MODELS
    ]
    if as_json:
        echo_json(rows)
        return
    console = Console()  # two lines for each model, so that it reads on a narrow terminal too
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        size = row["size"] or 0
        shown = "" if size < 500_000 else f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
        facts = " · ".join(fact for fact in (row["state"], shown, row["licence"]) if fact)
        console.print(Text.assemble((f"{row['name']:{width}}", "bold"), f"  {facts}"))
        network = "" if row["architecture"] in (None, "none", row["name"]) else f"{row['architecture']}: "
        console.print(Padding(Text(f"{network}{row['summary']}", style="dim"), (0, 0, 0, 2), expand=False))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A name from `hpskit models list`.")],
    to: Annotated[Path | None, typer.Option(help="Folder for a copy to carry to another machine.")] = None,
) -> None:
    """Download a model, verify it, and make it ready, so that scoring needs no network afterwards.

    The download can be interrupted and continued. HF_HOME, HPSKIT_HOME and HF_HUB_OFFLINE are respected.
    """
    from hpskit.models.registry import find
    from hpskit.models.store import fetch as fetch_model

    path = fetch_model(find(name), to)
    echo(f"{name}: ready at {path} ({path.stat().st_size / 1e6:,.0f} MB)")


@app.command()
def verify(
    name_or_path: Annotated[str, typer.Argument(help="A name from `hpskit models list`, or a checkpoint file.")],
    as_json: Json = False,
) -> None:
    """Read a model's file from end to end and compare it with the hash recorded when it was made."""
    from hpskit.models.store import verify as verify_model

    found = verify_model(name_or_path)
    if as_json:
        value = {
            "name": found.name,
            "path": str(found.weights.path),
            "weight_hash": found.weight_hash,
            "recorded": found.recorded,
        }
        echo_json(value)
        return
    verdict = "as recorded" if found.recorded else "nobody recorded a hash for this file to compare with"
    echo(f"{found.weights.path}: {found.weight_hash} ({verdict})")


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run, or a file of weights.")],
    to: Annotated[
        Literal["official", "huggingface", "onnx"],
        typer.Option(help="official: a .pt that the official package loads; huggingface: a folder with a model card."),
    ],
    out: Annotated[Path, typer.Option(help="File (official) or folder that is written; must not exist.")],
    checkpoint: Annotated[str, typer.Option(help="Checkpoint of a run: best, last, or the number of a step.")] = "best",
    arch: Annotated[
        str | None, typer.Option(help="open_clip architecture of a file that does not say it itself.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.  \\[default: that of the weights]")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights.  \\[default: that of the first weights, if known]")
    ] = None,
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="result.json of this model, for the model card; repeat for several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a trained model in the layout of the official package, of Hugging Face, or as ONNX.

    \b
    hpskit export runs/mine --to official --out mine.pt
    hpskit export runs/mine --to huggingface --out mine/ --licence Apache-2.0
    hpskit export runs/mine --to onnx --out mine-onnx/
    """
    from rich.console import Console

    from hpskit.training.export import Export
    from hpskit.training.export import export as write

    config = Export(
        source=source,
        layout=to,
        out=out,
        checkpoint=checkpoint,
        architecture=arch,
        name=name,
        licence=licence,
        evaluations=tuple(evaluation or ()),
    )
    with Console(stderr=True).status("Exporting …"):
        made = write(config)
    if as_json:
        value = {"out": str(made.out), "weight_hash": made.weight_hash, "step": made.step}
        echo_json({**value, "largest_difference": made.largest_difference})
        return
    step = "" if made.step is None else f", step {made.step:,}"
    echo(f"{made.out}: {made.weight_hash}{step}")
    if made.largest_difference is not None:
        echo(f"scores differ from torch's by at most {made.largest_difference:.1g} points")
