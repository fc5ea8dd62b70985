"""`hpskit cluster …`: scoring and generating on many machines."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hpskit.cli.images import Generators, Out, Prompts, RetryFailed, Seed, tell
from hpskit.cli.options import (
    Antialias,
    Arch,
    BatchSize,
    Cluster,
    Device,
    Json,
    Model,
    Precision,
    Processes,
    echo,
    echo_json,
    progress_bar,
    step_progress,
)

app = typer.Typer(help="Score and generate on many machines, each input exactly once.", no_args_is_help=True)


@app.command()
def score(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            help="Folder, .jsonl, .csv, .parquet or .tar file, 'x-{00..12}.tar' or 'x-*.parquet', at a path or an "
            "address such as s3://…; of a folder of images NAME.txt is the prompt. Repeat for several.",
        ),
    ],
    output: Annotated[str, typer.Option(help="Folder or address for the parquet files of the output.")],
    model: Model = "mini",
    columns: Annotated[
        str, typer.Option(metavar="image=NAME,prompt=NAME", help="Which column is what.  \\[default: by usual names]")
    ] = "",
    id_column: Annotated[
        str, typer.Option("--id", metavar="COLUMN", help="What a row is called.  \\[default: SHARD:NUMBER]")
    ] = "",
    engine: Annotated[
        Literal["ray", "plain"], typer.Option(help="Ray, or this process alone, as one of those that Slurm starts.")
    ] = "ray",
    workers: Processes = None,
    address: Cluster = "",
    part: Annotated[
        str, typer.Option(metavar="I/N", help="With --engine plain: only every N-th shard from the I-th on, as 2/8.")
    ] = "1/1",
    block_rows: Annotated[int, typer.Option(min=1, help="Rows that are scored and written at a time, at most.")] = 512,
    arch: Arch = None,
    precision: Precision = "auto",
    device: Device = "auto",
    batch_size: BatchSize = None,
    antialias: Antialias = None,
    as_json: Json = False,
) -> None:
    """Score every row of shards; killed, the same command goes on, and no row is lost or there twice.

    OUTPUT/outcome=scores holds the scores, OUTPUT/outcome=errors the rows that have none with the reason, both as
    parquet with a folder for each shard. At the end all rows are counted.

    \b
    hpskit cluster score --input shards/ --output scores/
    hpskit cluster score --input 's3://bucket/x-{000..127}.tar' --output s3://bucket/scores --address auto
    hpskit cluster score --input shards/ --output scores/ --engine plain --part 2/8
    """
    from dataclasses import asdict

    from hpskit.errors import need

    for module in ("fsspec", "ray") if engine == "ray" else ("fsspec",):
        need(module, "hpskit cluster", "cluster", instead=", or add --engine plain" if module == "ray" else "")
    from hpskit.cluster.score import ScoreShards, run
    from hpskit.cluster.scoring import Loading
    from hpskit.pages.format import counted

    scorer = Loading(
        model=model, arch=arch, precision=precision, device=device, batch_size=batch_size, antialias=antialias
    )
    config = ScoreShards(
        inputs=inputs,
        output=output,
        scorer=scorer,
        columns=columns,
        id=id_column,
        engine=engine,
        workers=workers,
        address=address,
        part=part,
        rows=block_rows,
    )
    with progress_bar() as bar:
        done = run(config, step_progress(bar))
    if as_json:
        echo_json({"output": output, **asdict(done)})
    elif done.left:
        echo(f"{output}: part {part} is done; {done.left:,} of {done.shards:,} shards are left to other parts")
    else:
        scores, shards = counted(done.rows - done.errors, "row"), counted(done.shards, "shard")
        echo(f"{output}: {scores} of {shards} scored, each once")
    if done.errors:
        echo(f"warning: no score for {counted(done.errors, 'row')}; outcome=errors says why", err=True)


@app.command()
def generate(
    prompts: Prompts,
    generators: Generators,
    out: Out,
    seed: Seed = 0,
    retry_failed: RetryFailed = "",
    workers: Processes = None,
    address: Cluster = "",
    as_json: Json = False,
) -> None:
    """Run `hpskit images generate` in many processes of Ray, on a folder that all machines share.

    \b
    hpskit cluster generate --prompts prompts.jsonl --generators gen.toml --out images/ --address auto
    """
    from hpskit.errors import need

    need("ray", "hpskit cluster", "cluster")
    from hpskit.cluster.generate import generate as place
    from hpskit.images.plan import read_generators
    from hpskit.images.run import GenerateRun
    from hpskit.prompts.suites import open_suite

    run = GenerateRun(
        suite=open_suite(prompts, option="--prompts"),
        generators=read_generators(generators),
        out=out,
        seed=seed,
        retry_failed=retry_failed.removeprefix("reason="),
    )
    tell(place(run, workers=workers, address=address), out, as_json)
