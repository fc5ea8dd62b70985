"""`hpskit evaluate` and `hpskit agreement`: scorers against people, and people against one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hpskit.cli import options
from hpskit.cli.options import echo, echo_json, interval, new_table, progress_bar, show, step_progress

_Rule = Annotated[
    str | None,
    typer.Option(
        help="Named accuracy of headline and differences.  \\[default: that of the data set's paper, else ties-half]"
    ),
]
_TieThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Rule pickapic: a pair whose two probabilities differ by no more is tied.  \\[default: 0, equal scores]",
    ),
]
_OnError = Annotated[
    Literal["fail", "skip"],
    typer.Option(help="Stop if an image cannot be used, or leave its group out for every scorer and list it."),
]


def evaluate(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder for result.json, report.html and the scores.")],
    scorer: options.Scorers = None,
    rule: _Rule = None,
    tie_threshold: _TieThreshold = None,
    persons: options.Persons = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the prompts.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    data_format: options.DataFormat = "auto",
    image_root: options.ImageRoot = None,
    allow_outside: options.AllowOutside = False,
    on_error: _OnError = "fail",
    arch: options.Arch = None,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    batch_size: options.BatchSize = None,
    antialias: options.Antialias = None,
    paper: options.PaperFormats = None,
    as_json: options.Json = False,
) -> None:
    """Tell how well scorers predict what people preferred: accuracy, interval, human ceiling, comparison.

    Every figure stands in OUT/result.json; OUT/report.html is one file to read and to hand on. Kill it and start it
    again: it continues. Run it again with another --scorer: only that one is scored.

    \b
    hpskit evaluate --data HPDv2/test.json --scorer mini --scorer hps-v2.1 --out report/
    """
    from hpskit.evaluation.run import Evaluation, run

    config = Evaluation(
        data=data,
        out=out,
        data_format=data_format,
        image_root=image_root,
        allow_outside=allow_outside,
        on_error=on_error,
        rule=rule,
        tie_threshold=tie_threshold,
        persons=persons,
        resamples=resamples,
        seed=seed,
        paper=tuple(paper or ()),
        command=options.command_line(),
    )
    load = options.candidates_loader(scorer, arch, precision, device, batch_size, antialias)
    with progress_bar() as bar:
        summary = run(config, load, step_progress(bar))
    if as_json:
        echo_json(summary.result)
    else:
        _print(summary.result, out)
    _warn(summary.result)


def _print(result: dict[str, Any], out: Path) -> None:
    from rich.text import Text

    data, rule = result["data"], result["settings"]["rule"]
    title = f"{data['name']}: {data['groups']:,} groups, {data['prompts']:,} prompts, {result['pairs']:,} pairs"
    level = f"{100 * result['settings']['level']:g} % interval"
    table = new_table(title, "scorer", rule, level, "tau-b", "published", words=["scorer"])
    for scorer in result["scorers"]:
        name = Text(scorer["label"])
        name.append(" seen in training" if scorer["training"]["seen"] else "", style="yellow")
        name.append(" chosen on this" if scorer["training"]["chosen_on"] else "", style="cyan")
        tau = scorer["kendall_tau_b"]
        table.add_row(
            name, *_figures(scorer["accuracy"][rule], scorer["published"], f"{tau['value']:.3f}" if tau else "")
        )
        held_out = scorer["training"]["held_out"]
        if scorer["training"]["seen"] and held_out and held_out["rule"] == rule:
            table.add_row(Text(f"  held out: {held_out['source']}", style="dim"), *_figures(held_out, None))
    table.add_section()
    for row in result["people"]:
        who = row["name"] if row["rule"] == rule else f"{row['name']} ({row['rule']})"
        table.add_row(Text(who), *_figures(row, row["published"]))
    lines = (*_differences(result), *_with_people(result), *_thresholds(result), _ties(result))
    show(table, *lines, dim=str(out / "report.html"))


def _figures(row: dict[str, Any], published: float | None, tau: str = "") -> tuple[str, ...]:
    quoted = f"{published:.1f} %" if published is not None else ""
    return f"{100 * row['value']:.1f} %", interval(row), tau, quoted


def _differences(result: dict[str, Any]) -> list[str]:
    lines = []
    for d in result["differences"]:
        line = f"{d['first']} - {d['second']}: {100 * d['value']:+.1f} points"
        if d["low"] is not None:
            line += f" ({100 * d['low']:+.1f} to {100 * d['high']:+.1f}, p = {d['p_value']:.2g})"
        lines.append(line)
    return lines


def _with_people(result: dict[str, Any]) -> list[str]:
    """Write the intervals that resample people too, of the accuracy against the mean of the single judgements."""
    rows = [(s["label"], s["two_way"]) for s in result["scorers"] if s["two_way"] and s["two_way"]["low"] is not None]
    figures = ", ".join(f"{label} {100 * row['value']:.1f} % ({interval(row)})" for label, row in rows)
    return [f"against single judgements, people resampled too: {figures}"] if rows else []


def _thresholds(result: dict[str, Any]) -> list[str]:
    """Write the tie thresholds of the accuracies, where the rule has them."""
    if result["settings"]["rule"] != "pickapic":
        return []
    lines = [f"tie threshold {result['settings']['tie_threshold'] or 0:g}"]
    for scorer in result["scorers"]:
        if fitted := scorer["pickapic"]["cross_fitted"]:
            at = ", ".join(f"{threshold:g}" for threshold in fitted["tie_thresholds"])
            value = f"{100 * fitted['value']:.1f} % ({interval(fitted)})"
            lines.append(f"{scorer['label']} with thresholds chosen on other prompts ({at}): {value}")
    return lines


def _ties(result: dict[str, Any]) -> str:
    """Write what the rule counts, ties above all: published figures differ by ten points for want of this."""
    rule, pairs = result["settings"]["rule"], result["pairs"]
    counted = result["scorers"][0]["accuracy"][rule]["pairs"]
    left = f" {pairs - counted:,} of {pairs:,} pairs are left out." if counted < pairs and rule != "top-1" else ""
    return f"{rule}: {result['rules'][rule]}{left}"


def _warn(result: dict[str, Any]) -> None:
    data = result["data"]
    if data["prompts"] == 1:
        echo("note: the data have one prompt; intervals are over prompts, so there are none", err=True)
    for scorer in result["scorers"]:
        training = scorer["training"]
        if training["seen"]:
            share = f"{training['seen']} of {training['groups']} groups have prompts of its training data"
            cure = "its accuracy here is memory, not prediction; do not report it"
            echo(f"warning: {scorer['label']} was trained on this: {share} ({training['data']}); {cure}", err=True)
        if training["chosen_on"]:
            share = f"{training['chosen_on']} of {training['groups']} groups have prompts of its validation data"
            cure = "it looks a little better here than it is; judge it on data that chose nothing"
            echo(f"note: the checkpoint of {scorer['label']} was chosen on this: {share}; {cure}", err=True)
    if data["duplicates"]:
        count = sum(len(places) - 1 for places in data["duplicates"])
        what = "they count, as in the official figure; intervals draw prompts, so they do not narrow them"
        echo(f"note: groups that repeat another: {count}; {what}", err=True)
    if data["skipped"]:
        first = data["skipped"][0]
        what = f"the first is {first['place']}: {first['reason']}"
        echo(f"warning: groups left out for every scorer: {len(data['skipped'])}; {what}", err=True)


def agreement(
    data: options.Data,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json and report.html.")] = None,
    rule: Annotated[
        Literal["hpdv2", "imagereward", "ties-half"] | None,
        typer.Option(help="How ties are counted.  \\[default: that of the data set's paper, else ties-half]"),
    ] = None,
    persons: options.Persons = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the prompts.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap and of random halves.")] = 0,
    data_format: options.DataFormat = "auto",
    as_json: options.Json = False,
) -> None:
    """Tell how far the people of a data set agree with one another: the ceiling for every scorer.

    \b
    hpskit agreement --data HPDv2/test.json --out agreement/
    """
    from hpskit.evaluation.agreement import Agreement, run

    config = Agreement(
        data=data,
        out=out,
        data_format=data_format,
        rule=rule,
        persons=persons,
        resamples=resamples,
        seed=seed,
        command=options.command_line(),
    )
    result = run(config)
    if as_json:
        echo_json(result)
    else:
        _print_agreement(result, out)
    if result["judged_prompts"] == 1:
        echo("note: the judgements are of one prompt; intervals are over prompts, so there are none", err=True)
    for figure, reason in result["not_measured"].items():
        echo(f"note: {figure} is not measured: {reason}", err=True)


def _print_agreement(result: dict[str, Any], out: Path | None) -> None:
    from rich.text import Text

    data, rule = result["data"], result["settings"]["rule"]
    title = f"{data['name']}: {result['judged_groups']:,} groups, {data['judgements']:,} judgements"
    table = new_table(title, "people", rule, "interval", "people too", "published", words=["people"])
    both_ways = {row["key"]: row for row in result["two_way"]}
    for row in result["rules"][rule]:
        published = f"{row['published']:.1f} %" if row["published"] is not None else ""
        table.add_row(
            Text(row["name"]), f"{100 * row['value']:.1f} %", interval(row), interval(both_ways[row["key"]]), published
        )
    show(table, *_facts(result), dim=str(out / "report.html") if out is not None else "")


def _facts(result: dict[str, Any]) -> list[str]:
    lines = []
    if half := result["split_half"]:
        value = half["reliability"]
        reliability = "none: they contradict one another" if value is None else f"{value:.3f}"
        halves = f"correlation of the halves {half['correlation']:.3f}, {half['splits']} random splits"
        lines.append(f"split-half reliability {reliability} ({halves})")
    if result["krippendorff_alpha"] is not None:
        lines.append(f"Krippendorff's alpha, ordinal {result['krippendorff_alpha']:.3f}")
    gap = result["gap"] or []
    if len(gap) > 1:
        close, far = gap[0], gap[-1]
        parts = f"{_share(close)} of the closest pairs, {_share(far)} of the farthest"
        lines.append(f"one annotator is with the others on {parts}")
    if growth := result["growth"]:
        points = ", ".join(f"{point['annotators']}: {_share(point)}" for point in growth["points"])
        lines.append(f"mean of k people against {growth['held_out']} held out: {points}")
    return lines


def _share(row: dict[str, Any]) -> str:
    return f"{100 * row['value']:.1f} %"
