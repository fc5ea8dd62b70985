"""`hpskit prompts …`: from raw prompts to a clean, balanced set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpskit.cli.options import Json, echo, echo_json, new_table, progress_bar, show, step_progress
from hpskit.errors import InputError

app = typer.Typer(help="From raw prompts to a clean, balanced set of them.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(help="A .jsonl file; NAME.manifest.json beside it says how it was made.")]


@app.command("import")
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE…", help="PATH or NAME=PATH: .parquet, .jsonl, .json, .csv, .tsv or .txt."),
    ],
    out: Out,
    column: Annotated[
        str, typer.Option(help="Column of prompts.  \\[default: prompt, caption or text]", show_default=False)
    ] = "",
    on_broken: Annotated[
        Literal["fail", "drop"], typer.Option(help="Stop at a row that cannot be used, or list it in the manifest.")
    ] = "fail",
    as_json: Json = False,
) -> None:
    """Bring prompts of all sources into one file: DiffusionDB, COCO captions, Pick-a-Pic, or any table or list.

    Each prompt keeps its source, its own id (else its row), and the source's scores of safety. Two prompts of one id
    are an error.

    \b
    hpskit prompts import diffusiondb=metadata.parquet coco=captions_val2017.json --out raw.jsonl
    hpskit prompts import wishes.csv --column wish --out raw.jsonl
    """
    from hpskit.prompts.sources import import_prompts

    with progress_bar() as bar:
        done = import_prompts(sources, out, column=column, drop=on_broken == "drop", progress=step_progress(bar))
    if as_json:
        echo_json(done)
        return
    for name, facts in done["sources"].items():
        echo(f"{name}: {facts['prompts']:,} prompts")
    if done["left_out"]:
        echo(f"warning: rows left out: {len(done['left_out']):,}; the first: {done['left_out'][0]}", err=True)


@app.command()
def clean(
    raw: Annotated[Path, typer.Argument(help="What `hpskit prompts import` wrote.")],
    out: Out,
    cleaner: Annotated[
        Literal["rules", "llm"], typer.Option("--with", help="What cleans: rules, or a language model (--llm).")
    ] = "rules",
    llm: Annotated[Path | None, typer.Option(help="TOML file: model, base_url, prices, budget …")] = None,
    tokens: Annotated[int, typer.Option(min=3, help="Most tokens, as the scorer counts them.")] = 77,
    language: Annotated[
        float, typer.Option(min=0, max=1, help="Certainty from which another language than English rejects.")
    ] = 0.8,
    nsfw: Annotated[float, typer.Option(min=0, help="Score of the source from which a prompt is rejected.")] = 0.4,
    similarity: Annotated[
        float, typer.Option(min=0.5, max=1, help="Share of common 5-grams from which prompts are near-duplicates.")
    ] = 0.8,
    as_json: Json = False,
) -> None:
    """Take out of prompts what only a generator reads, and find those that should not be used. Nothing gets lost.

    A language model is any server of OpenAI's chat completions; each answer is kept as soon as it is there, and checked
    against the prompt.

    Every line of the result has the raw prompt, each change with its rule and place, a state (kept, review, rejected)
    and the reasons for it. Prompts that differ in a number, a colour, a negation or a side are no duplicates.

    \b
    hpskit prompts clean raw.jsonl --out clean.jsonl
    hpskit prompts clean raw.jsonl --with llm --llm llm.toml --out clean.jsonl
    hpskit prompts report clean.jsonl --out clean.html
    """
    from hpskit.prompts.llm import read_llm_settings
    from hpskit.prompts.run import Filters, clean_file

    if (cleaner == "llm") != (llm is not None):
        raise InputError("--llm", "is given" if llm else "is missing", expected="--with llm and --llm FILE, or neither")
    settings = Filters(tokens=tokens, language=language, nsfw=nsfw, similarity=similarity)
    model = read_llm_settings(llm) if llm else None
    with progress_bar() as bar:
        done = clean_file(raw, out, settings, model, step_progress(bar))
    if as_json:
        echo_json(done)
        return
    counts, total = done["counts"], sum(done["counts"]["states"].values())
    table = new_table("", "what", "prompts", "share", words=["what"])
    for name, of in (("states", "{}"), ("reasons", "  because of {}"), ("changed", "changed: {}")):
        for what, count in counts[name].items():
            table.add_row(of.format(what), f"{count:,}", f"{100 * count / total:.1f} %")
    show(table, dim=str(out))


@app.command()
def select(
    prompts: Annotated[Path, typer.Argument(help="What `hpskit prompts clean` wrote.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")],
    out: Out,
    per_style: Annotated[bool, typer.Option("--per-style", help="The same number of each of the four styles.")] = False,
    certainty: Annotated[
        float, typer.Option(min=0, max=1, help="Least probability of its style, with --per-style.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other prompts.")] = 0,
    as_json: Json = False,
) -> None:
    """Choose kept prompts, balanced by style, source and length and unlike one another, as a suite of the benchmark.

    \b
    hpskit prompts select clean.jsonl --n 3200 --per-style --out prompts.jsonl
    hpskit benchmark run --suite prompts.jsonl --images renders/ --name "Mine" --out mine.json
    """
    from hpskit.prompts.select import select_prompts

    done = select_prompts(prompts, out, n=n, per_style=per_style, certainty=certainty, seed=seed)
    if as_json:
        echo_json(done)
    else:
        _print_selection(done, out)


@app.command()
def report(
    prompts: Annotated[Path, typer.Argument(metavar="FILE", help="What `clean` or `select` wrote.")],
    out: Annotated[Path, typer.Option(help="The page, an .html file.")],
) -> None:
    """Show a file of prompts as one page that opens offline.

    Lengths, styles, sources, near-duplicates; of a clean file also examples of every change and of every reason.

    \b
    hpskit prompts report clean.jsonl --out clean.html
    """
    from hpskit.prompts.report import report as write_report

    found = write_report(prompts, out)
    echo(f"{out}: " + ", ".join(f"{count:,} {state}" for state, count in found["states"].items()))


def _print_selection(done: Mapping[str, Any], out: Path) -> None:
    table = new_table("", "what", "of", "chosen", "share", words=["what"])
    for name, counts in done["before"].items():
        for what, count in counts.items():
            chosen = done["after"][name].get(what, 0)
            table.add_row(f"{name} {what}", f"{count:,}", f"{chosen:,}", f"{100 * chosen / done['run']['n']:.1f} %")
    show(table, dim=str(out))
