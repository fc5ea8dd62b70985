"""`hpskit serve`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from hpskit.cli.options import Arch, Cluster, Device, Precision, Processes, echo
from hpskit.errors import InputError, need


def serve(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Name, checkpoint file or FILE.py:NAME; repeat for several, the first is the default.  "
            "\\[default: mini]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every network of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any that is free.")] = 8200,
    arch: Arch = None,
    precision: Precision = "auto",
    device: Device = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images at a time; a GPU always has as many.  \\[default: 8 on a CPU, else 16]"),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.001, help="GB of weights in memory at a time.  \\[default: all models]")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="File of hashed keys; only whoever has a key is let in.", show_default=False)
    ] = None,
    new_key: Annotated[
        str, typer.Option(metavar="NAME", help="Make a key, add its hash to --keys, print it once, and end.")
    ] = "",
    wire: Annotated[
        list[str] | None,
        typer.Option(help="Speak the protocol of others, too: unirl, flow-factory or pickle; repeat for several."),
    ] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Bring images from http(s) addresses, public ones alone.")
    ] = False,
    queue: Annotated[
        int, typer.Option(min=1, help="Images that may wait; what comes then is refused with 429.")
    ] = 1024,
    log: Annotated[bool, typer.Option("--log/--no-log", help="A line of JSON on standard error per request.")] = True,
    engine: Annotated[
        Literal["process", "ray"],
        typer.Option(help="This process, or Ray Serve: as many processes as the load needs; see docs/cluster.md."),
    ] = "process",
    workers: Processes = None,
    address: Cluster = "",
) -> None:
    """Serve scorers over HTTP until SIGTERM or Ctrl-C; then what was let in is answered first.

    POST /v1/score, /v1/rank and /v1/compare take files or base64; / is a page on which images are dropped. /health,
    /ready and /metrics are for whoever operates it.

    \b
    hpskit serve --model mini
    hpskit serve --model hps-v2.1 --model pickscore --memory 8 --keys keys.txt --host 0.0.0.0
    hpskit serve --keys keys.txt --new-key trainer-1
    hpskit serve --wire unirl --wire pickle
    """
    for module in ("fastapi", "httpx", "prometheus_client", "python_multipart", "uvicorn"):
        need(module, "hpskit serve", "serve")
    if engine == "ray":
        for module in ("ray", "grpc_reflection"):
            need(module, "hpskit serve --engine ray", "ray-serve")
    elif workers or address:
        option = "--workers" if workers else "--address"
        raise InputError(option, "goes with --engine ray", cure="leave it out: one process serves")
    if new_key:
        from hpskit.serving.app import new_key as make

        if keys is None:
            raise InputError("--keys", "is missing", expected="the file that the hash is added to")
        echo(make(keys, new_key))
        return
    from hpskit.serving.batching import Limits

    if engine == "ray":
        from hpskit.cluster.serve import run as run_on_ray

        run = partial(run_on_ray, workers=workers, address=address)
    else:
        from hpskit.serving.running import run as run_here

        run = partial(run_here, log=log)
    run(
        models or ["mini"],
        host=host,
        port=port,
        arch=arch,
        precision=precision,
        device=device,
        batch_size=batch_size,
        memory=memory,
        keys=keys,
        wires=wire or (),
        urls=allow_urls,
        limits=Limits(images=queue),
        said=lambda text: echo(text, err=text.startswith("note")),
    )
