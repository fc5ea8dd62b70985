"""`hpskit benchmark`: prompts, run, leaderboard, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, new_table, progress_bar, show, step_progress
from hpskit.errors import InputError, printable, shown

if TYPE_CHECKING:
    from hpskit.benchmark.run import Summary
    from hpskit.benchmark.verify import Verification
    from hpskit.records import ScorerInfo
    from hpskit.scoring.scorer import PreferenceScorer

app = typer.Typer(
    no_args_is_help=True,
    help="""Compare text-to-image models on a suite of prompts.

    \b
    1. hpskit benchmark prompts --suite hpsv2 --out suite/        what to render, and what to call the images
    2. hpskit benchmark run --images renders/ --name "My model" --out result.json
    3. hpskit benchmark leaderboard result*.json --out leaderboard/
    """,
)

Suite = Annotated[
    str, typer.Option(help="hpsv2, drawbench, partiprompts, or a file or folder of prompts; see docs/benchmark.md.")
]


@app.command("prompts")
def prompts(
    out: Annotated[Path, typer.Option(help="Folder for prompts.jsonl.")],
    suite: Suite = "hpsv2",
    as_json: options.Json = False,
) -> None:
    """Write the prompts of a suite as prompts.jsonl: what to render, and the name that each image must have.

    \b
    hpskit benchmark prompts --suite hpsv2 --out suite/
    """
    from hpskit.prompts.suites import open_suite, write_prompts

    found = open_suite(suite)
    path = write_prompts(found, out)
    sizes = {name: sum(prompt.category == name for prompt in found.prompts) for name in found.categories}
    if as_json:
        facts = {"suite": found.name, "sha256": found.sha256, "prompts": len(found.prompts), "path": str(path)}
        echo_json({**facts, "categories": sizes})
        return
    parts = ", ".join(f"{name} {size}" for name, size in sizes.items() if name)
    echo(f"{found.name}: {len(found.prompts):,} prompts{f' ({parts})' if parts else ''}, {path}")


@app.command("run")
def run(
    images: Annotated[Path, typer.Option(help="Folder with the images, CATEGORY/00000.jpg and so on.")],
    name: Annotated[str, typer.Option(help="Name of the model, as tables are to call it.")],
    out: Annotated[Path, typer.Option(help="The result file (.json); scorers are added to one that exists.")],
    suite: Suite = "hpsv2",
    scorer: options.Scorers = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Instead of numbered names: a table with columns image (a path that starts from --images) and number "
            "(category) or prompt."
        ),
    ] = None,
    match: options.Match = "auto",
    meta: Annotated[
        Path | None, typer.Option(help="A JSON object with the settings of the images: size, steps, guidance, seed …")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score what is there; the result is marked as incomplete.")
    ] = False,
    allow_identical: Annotated[
        bool, typer.Option("--allow-identical", help="Accept one image under several prompts.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace scores of a scorer that is another one now, under the same label."),
    ] = False,
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    antialias: options.Antialias = None,
    as_json: options.Json = False,
) -> None:
    """Score a model's images for a suite of prompts: the paper's figures, intervals, and every score in one file.

    Every image must be there, readable, and of one prompt of the suite. Kill it and start it again: it continues.

    \b
    hpskit benchmark run --images renders/ --name "My model" --scorer hps-v2.1 --out result.json
    """
    from hpskit.benchmark.run import BenchmarkRun
    from hpskit.benchmark.run import run as run_benchmark

    config = BenchmarkRun(
        suite=suite,
        images=images,
        name=name,
        out=out,
        manifest=manifest,
        match=match,
        allow_missing=allow_missing,
        allow_identical=allow_identical,
        replace=replace,
        meta=_meta(meta),
        command=options.command_line(),
    )
    load = options.candidates_loader(scorer, arch, precision, device, batch_size, antialias)
    with progress_bar() as bar:
        summary = run_benchmark(config, load, step_progress(bar))
    if as_json:
        echo_json(summary.result.model_dump(mode="json", exclude={"prompts"}))
    else:
        _print_result(summary)
    _warn(summary)


@app.command("leaderboard")
def leaderboard(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT…", help="Result files of one suite, one per model.")],
    out: Annotated[Path, typer.Option(help="Folder for leaderboard.html, .md and .json.")],
    title: Annotated[str, typer.Option(help="Of the page.  \\[default: names the suite]", show_default=False)] = "",
    scorer: options.Labels = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Where the images of a model are now, if not where its result says; repeat for several.",
        ),
    ] = None,
    allow_outside: options.AllowOutside = False,
    published: Annotated[
        bool, typer.Option("--published", help="Show the authors' table beside HPS v2.0 and v2.1 on hpsv2.")
    ] = False,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap resamples of the prompts, and flips of the permutation test.")
    ] = 10_000,
    paper: options.PaperFormats = None,
    as_json: options.Json = False,
) -> None:
    """Compare models by their results: ranks with intervals, paired differences, and a page to look into.

    OUT/leaderboard.html is one file to read and to hand on, OUT/leaderboard.md a table for a README, and
    OUT/leaderboard.json has every figure. --paper adds tables and charts for papers.

    \b
    hpskit benchmark leaderboard ours.json sdxl.json --out leaderboard/
    """
    from hpskit.benchmark.leaderboard import Leaderboard
    from hpskit.benchmark.leaderboard import run as run_leaderboard
    from hpskit.benchmark.result import Resampling

    config = Leaderboard(
        results=tuple(results),
        out=out,
        title=title,
        scorers=tuple(scorer or ()),
        images=dict(_placed(words) for words in images or ()),
        allow_outside=allow_outside,
        published=published,
        paper=tuple(paper or ()),
        resampling=Resampling(resamples=resamples),
        command=options.command_line(),
    )
    board = run_leaderboard(config)
    if as_json:
        echo_json(board)
    else:
        _print_board(board, out)
    for note in board["notes"]:
        echo(f"note: {note}", err=True)


@app.command("verify")
def verify(
    result: Annotated[Path, typer.Argument(help="The result file.")],
    images: Annotated[Path, typer.Option(help="Folder with the images that it speaks of.")],
    suite: Annotated[
        str | None, typer.Option(help="The prompts that it should be of.  \\[default: the suite that it names]")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Which image belongs to which prompt, if the result was made with a manifest.")
    ] = None,
    match: options.Match = "auto",
    scorer: Annotated[
        list[str] | None,
        typer.Option("--scorer", "-s", help="Checkpoint file or FILE.py:NAME of a scorer that has no name of its own."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Points by which a score may differ.  \\[default: 0.001; 0.1 below fp32]"),
    ] = None,
    arch: options.Arch = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    as_json: options.Json = False,
) -> None:
    """Check somebody's result: its prompts, the hash of every image, every score, and the figures.

    Exit status 0: everything is as the result says; 1: something is not, or a scorer is not here to check it.

    \b
    hpskit benchmark verify result.json --images renders/
    """
    from hpskit.benchmark.verify import verify as verify_result

    def load(info: ScorerInfo) -> PreferenceScorer:
        name = _name_of(info, scorer or [])
        named = name == info.name
        architecture = None if named or ".py:" in name else arch or info.architecture
        precision = info.precision if info.precision in ("fp32", "bf16", "fp16") and ".py:" not in name else "auto"
        antialias = False if "no_antialias" in info.preprocessing else None
        return options.scorer_loader(name, architecture, precision, device, batch_size, antialias)()

    with progress_bar() as bar:
        done = verify_result(
            result,
            images,
            load,
            suite=suite,
            manifest=manifest,
            match=match,
            tolerance=tolerance,
            progress=step_progress(bar),
        )
    if as_json:
        echo_json(done.to_json())
    else:
        _print_checks(done)
    if not done.passed:
        raise typer.Exit(1)


def _name_of(info: ScorerInfo, files: list[str]) -> str:
    """Find what to load for an identity: what the user named of its name, else a model that hpskit knows.

    A result may come from anybody: no file and no code is opened because it says so.
    """
    from hpskit.models.registry import find

    for file in files:
        if file.rpartition(":")[2] == info.name or Path(file).stem == info.name:
            return file
    if info.version == "local" or find(info.name).version != info.version:
        raise InputError(repr(info.name), "is not a model of hpskit", cure="give the file with --scorer")
    return info.name


def _meta(path: Path | None) -> dict[str, Any]:
    from hpskit.files import read_json

    if path is None:
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(path, f"is {type(value).__name__}", expected="a JSON object with settings, {…}")
    return value


def _print_result(summary: Summary) -> None:
    from rich.text import Text

    result = summary.result
    for scorer in result.scorers:
        blind = " (does not read the prompt)" if scorer.reads_prompt is False else ""
        title = f"{result.name}: {result.suite.name}, scored by {scorer.label}{blind}"
        table = new_table(title, "", "score", "95 % interval", "deviation of groups", "prompts", words=[""])
        parts = [part.model_dump() for part in scorer.categories]
        for part in parts:
            if part["name"]:
                table.add_row(Text(part["name"]), *_figures(part))
        if len(parts) > 1:
            table.add_section()
        average = {**scorer.average.model_dump(), "deviation": parts[0]["deviation"] if len(parts) == 1 else None}
        table.add_row(Text("average", style="bold"), *_figures(average))
        show(table, dim=str(result.path) if scorer is result.scorers[-1] else "")


def _figures(part: dict[str, Any]) -> tuple[str, str, str, str]:
    from hpskit.pages.format import between, number
    from hpskit.stats.model_scores import GROUP_SIZE

    if part["value"] is None:
        return "none", "", "", "0"
    groups = part["prompts"] > GROUP_SIZE  # one group has no deviation from others
    deviation = f"{part['deviation']:.4f}" if groups and part["deviation"] is not None else ""
    value = part.get("mean", part["value"])
    return number(value), between(part["low"], part["high"]), deviation, f"{part['prompts']:,}"


def _warn(summary: Summary) -> None:
    result = summary.result
    if summary.resumed:
        echo(f"note: {summary.resumed:,} scores of earlier runs were used again", err=True)
    if not result.complete:
        count = sum(not row.images for row in result.prompts)
        what = f"{count:,} prompts have no image" if count else "some prompts have fewer images than others"
        echo(f"warning: incomplete: {what}; the figures are of what is there and are marked so", err=True)
    if summary.identical:
        count = sum(map(len, summary.identical))
        what = f"{count} images are the same to the byte as one of another prompt"
        echo(f"warning: {what}, for example {', '.join(summary.identical[0][:3])}", err=True)
    for note in summary.found.notes:
        echo(f"note: {note}", err=True)
    if others := summary.found.other_folders:
        echo(f"note: not part of the suite and not looked into: {', '.join(others)}", err=True)


def _print_checks(done: Verification) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    words = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("not checked", "yellow")}
    for check in done.checks:
        word, style = words[check.passed]
        console.print(
            Text.assemble((f"{word:12}", style), (f"{check.what}: ", "bold"), printable(check.detail)), soft_wrap=True
        )
    console.print(Text(f"{done.name}: {done.result} {done.verdict}"), soft_wrap=True)


def _placed(words: str) -> tuple[str, Path]:
    from hpskit.files import expand

    name, equals, folder = words.partition("=")
    if not (name and equals and folder):
        raise InputError("--images", f"is {shown(words)}", expected="NAME=DIR, such as 'My model=renders/mine'")
    return name, expand(folder)


def _print_board(board: dict[str, Any], out: Path) -> None:
    from rich.text import Text

    from hpskit.benchmark.leaderboard_page import incomplete, rank_range
    from hpskit.pages.format import between, counted, number, percent

    for scorer in board["scorers"]:
        title = f"{board['suite']['name']}, {counted(board['suite']['prompts'], 'prompt')}, by {scorer['label']}"
        if scorer["reads_prompt"] is False:
            title += ", which does not read the prompt"
        level = f"{100 * board['settings']['level']:g} % interval"
        table = new_table(title, "rank", "model", "average", level, "wins", words=["model"])
        whole, digits = scorer["scopes"][0], scorer["digits"]
        for row in whole["models"]:
            lacking = incomplete(row, whole, board["models"])
            name = Text.assemble(row["name"], (f" ({lacking})" if lacking else "", "yellow"))
            wins = "" if row["win_rate"] is None else percent(row["win_rate"])
            ends = between(row["low"], row["high"], digits)
            table.add_row(rank_range(row["rank"]), name, number(row["value"], digits), ends, wins)
        if scorer["published"]:
            table.add_section()
        for row in scorer["published"]:
            table.add_row("", Text(f"{row['name']} (published)", style="dim"), number(row["average"], digits), "", "")
        show(table, dim=str(out / "leaderboard.html") if scorer is board["scorers"][-1] else "")
