"""`hpskit models`: list, fetch and verify models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hpskit.cli.options import Json, echo, echo_json

__all__ = ["app"]

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
