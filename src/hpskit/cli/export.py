"""`hpskit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hpskit.cli.options import Json, echo, echo_json

__all__ = ["export"]


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
