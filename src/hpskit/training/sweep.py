"""Ablations: the same training with other settings, one run for each point of a grid, and which setting is best.

    OUT/runs/lr=1e-06,image_blocks=10/    a run, as `hpskit train` makes it
    OUT/ablation.html, .md, .json         what they are worth; .json is written last

Killed and started again, finished runs are kept and an unfinished one goes on. Values can be added to a grid later.
One process at a time is at work in OUT, with those that it has started; they end when it ends.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import torch
from markupsafe import Markup

from hpskit import __version__
from hpskit.errors import DivergedError, InputError, shown
from hpskit.pages import charts
from hpskit.pages.page import page
from hpskit.stage import Progress, alone_in, check_free, publish
from hpskit.training.data import TrainConfig
from hpskit.training.recipes import Recipe
from hpskit.training.run_folder import RunFolder, best_validation, lines_of
from hpskit.training.trainer import train

Row = Mapping[str, Any]
"""A run in `ablation.json`."""

_FORMAT, _RECORD, _PRODUCTS = "hpskit ablation 1", "ablation.json", ("ablation.html", "ablation.md")
_LONGEST = 24
"""Characters of a label; of a longer one, such as a path, the end is shown."""
_OTHER_LOSS = frozenset({"loss", "margin", "tie_share", "rating", "rating_step", "weighting"})
"""Fields that change what the loss is, so that its values cannot be compared."""
_LOGARITHMIC = 10
"""Positive numbers that differ by this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    """One combination of settings."""

    settings: Mapping[str, Any]
    """Field of the recipe -> value."""
    recipe: Recipe

    @property
    def name(self) -> str:
        """The settings as a name for a folder."""
        text = ",".join(f"{field}={written(value)}" for field, value in self.settings.items())
        return re.sub(r"[^\w.+=,-]", "-", text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Fields that are varied, and all else that the runs have in common."""

    base: TrainConfig
    """Its `out` is the folder of the sweep."""
    points: tuple[SweepPoint, ...]
    jobs: int = 1
    """Runs at a time, each in a process of its own if there are several; GPUs are dealt out to them in turn."""

    @property
    def fields(self) -> dict[str, list[Any]]:
        """The values that each field takes."""
        settings = [point.settings for point in self.points]
        return {field: [*dict.fromkeys(values[field] for values in settings)] for field in settings[0]}

    def run(self, point: SweepPoint) -> TrainConfig:
        """Return the run of a point."""
        out = self.base.out / "runs" / point.name
        return replace(self.base, recipe=point.recipe, out=out, resume=True, tensorboard=False)

    def is_done(self, point: SweepPoint) -> bool:
        """Tell whether its run is complete and is the one that is wanted; another one is refused by the trainer."""
        folder = RunFolder(self.run(point).out)
        return folder.finished() is not None and folder.config().recipe == point.recipe


def parse_grid(recipe: Recipe, texts: Sequence[str]) -> tuple[SweepPoint, ...]:
    """Read the grid of `lr=1e-6,3.3e-6` and further fields.

    Raises:
        InputError: not of that form, no such field, a value that it cannot have, or one that is there twice.
    """
    written_values: dict[str, list[str]] = {}
    for text in texts or ("",):
        field, _, listed = text.partition("=")
        if not listed:
            raise InputError("--grid", f"is {shown(text)}", expected="NAME=VALUE,VALUE, such as lr=1e-6,3.3e-6")
        if field in written_values:
            cure = f"write all of its values after one {field}="
            raise InputError(f"--grid: {field}", "is there twice", cure=cure)
        written_values[field] = listed.split(",")
    points = []
    for combination in itertools.product(*written_values.values()):
        settings = [f"{field}={text}" for field, text in zip(written_values, combination, strict=True)]
        chosen = recipe.with_settings(settings, "--grid")
        points.append(SweepPoint(settings={field: getattr(chosen, field) for field in written_values}, recipe=chosen))
    if len({point.name for point in points}) < len(points):
        cure = "give each value once, and such that differ in letters or digits"
        raise InputError("--grid", "has two points of the same name", cure=cure)
    return tuple(points)


def ablate(
    sweep: Sweep,
    progress: Progress = lambda _name, _done, _total: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Train every point of the grid that is not trained yet, and compare all of them.

    A run that stops while it trains, because its loss is no longer finite, is part of the result, as it says something
    of its settings; started again, it is tried again from its last checkpoint.

    Returns:
        The content of `ablation.json`.

    Raises:
        InputError: recipe or data cannot be used.
        OutputError: a run there was made with other settings, another process is at work there, or something cannot be
            written.
    """
    check_free(sweep.base.out, _RECORD, _PRODUCTS, _FORMAT)
    with alone_in(sweep.base.out):
        done = [point for point in sweep.points if sweep.is_done(point)]
        todo = [point for point in sweep.points if point not in done]
        total, stopped = len(sweep.points), dict[str, str]()
        progress("runs", len(done), total)
        if done:  # all others are compared with it, and the trainer compares it with the data that are there
            train_point(sweep.run(done[0]))
        for number, (point, reason) in enumerate(train_all(sweep, todo, progress, warn), len(done) + 1):
            if reason:
                stopped[point.name] = reason
                warn(f"{point.name}: {reason}")
            progress("runs", number, total)
        return publish_result(sweep, stopped)


def train_all(
    sweep: Sweep, points: Sequence[SweepPoint], progress: Progress, warn: Callable[[str], None]
) -> Iterator[tuple[SweepPoint, str]]:
    """Give each point after its run, and why that stopped before its end; empty if it did not."""
    if sweep.jobs == 1 or len(points) < 2:
        for point in points:
            yield point, train_point(sweep.run(point), progress, warn)
        return
    with pool_of(sweep.jobs, visible_gpus() if sweep.base.device == "auto" else []) as pool:
        futures = [pool.submit(train_point, sweep.run(point)) for point in points]
        try:
            for point, future in zip(points, futures, strict=True):
                yield point, future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def train_point(
    planned: TrainConfig,
    progress: Progress = lambda _name, _done, _total: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> str:
    """Train one run; return why it stopped before its end."""
    name = planned.out.name

    def tell(what: str, done: int, total: int | None, _line: Mapping[str, Any]) -> None:
        if what == "training" and total is not None:
            progress(name, done, total)

    try:
        train(planned, tell, lambda text: warn(f"{name}: {text}"))
    except DivergedError as error:
        return str(error)
    return ""


def pool_of(jobs: int, gpus: Sequence[str]) -> ProcessPoolExecutor:
    """Start processes that each see one of the GPUs, dealt out in turn, and that end with this one."""
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for number in range(jobs):
        places.put(gpus[number % len(gpus)] if gpus else None)
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_worker, initargs=(places,))


def begin_worker(places: Any) -> None:
    """Take one of the GPUs, and end with the process that started this one, however that ends."""
    parent: Any = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    gpu = places.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def visible_gpus() -> list[str]:
    """List the GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def publish_result(sweep: Sweep, stopped: Mapping[str, str]) -> dict[str, Any]:
    """Compare the runs and write table, page and `ablation.json`."""
    folders = [RunFolder(sweep.run(point).out) for point in sweep.points]
    digests = [[facts.digest for facts in (*it.data, *it.validation)] for it in (f.config() for f in folders)]
    for folder, digest in zip(folders, digests, strict=True):
        if digest != digests[0]:
            cure = "the data have changed in between: remove the older run, it is trained again"
            raise InputError(folder.path, "was trained or validated on other data than the first run", cure=cure)
    rows = [row_of(p, folder, stopped.get(p.name)) for p, folder in zip(sweep.points, folders, strict=True)]
    judged = [row for row in rows if accuracy_of(row) >= 0]
    compare = losses_compare(sweep.fields)
    best = max(judged, key=lambda row: (row["accuracy"]["value"], -row["loss"] if compare else 0), default=None)
    first = folders[0].config().model_dump(mode="json")
    result = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": sweep.base.command,
        "recipe": sweep.base.recipe.model_dump(mode="json"),
        "fields": sweep.fields,
        "data": first["data"],
        "validation": first["validation"],
        "runs": rows,
        "best": best and best["name"],
    }
    page, table = ablation_page(result).encode(), ablation_table(result).encode()
    publish(sweep.base.out, _RECORD, result, dict(zip(_PRODUCTS, (page, table), strict=True)))
    return result


def row_of(point: SweepPoint, folder: RunFolder, stopped: str | None) -> dict[str, Any]:
    """Return the figures of a run."""
    log = folder.log()
    steps, best, finished = lines_of(log, "step"), best_validation(log), folder.finished()
    seconds = sum(line["seconds"] for line in steps)
    return {
        "name": point.name,
        "settings": dict(point.settings),
        "steps": steps[-1]["step"] if steps else 0,
        "best_step": best["step"] if best else None,
        **{name: best[name] if best else None for name in ("accuracy", "hpdv2", "loss")},
        "trained_parameters": folder.config().parameters["trained"],
        "images_per_second": sum(line["images"] for line in steps) / seconds if seconds else None,
        "weight_hash": finished.weight_hash if finished else None,
        "stopped": stopped,
    }


def accuracy_of(row: Row) -> float:
    """Return what runs are compared by, in percent; a stopped one is below all others, however good it was before."""
    return -1.0 if row["stopped"] or not row["accuracy"] else 100 * float(row["accuracy"]["value"])


def ranked(result: Mapping[str, Any]) -> list[Row]:
    """Sort the runs, the best first, those that stopped last."""
    return sorted(result["runs"], key=lambda row: (row["name"] != result["best"], -accuracy_of(row)))


def undecided(result: Mapping[str, Any]) -> int:
    """Count the other runs whose interval overlaps with that of the best."""
    ends = {row["name"]: row["accuracy"] for row in result["runs"] if accuracy_of(row) >= 0}
    best = ends.pop(result["best"], None)
    return sum(other["high"] >= best["low"] for other in ends.values()) if best else 0


def losses_compare(fields: Iterable[str]) -> bool:
    """Tell whether all runs have the same loss, so that its values can be compared."""
    return _OTHER_LOSS.isdisjoint(fields)


def written(value: Any) -> str:
    """Write a setting for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def ablation_table(result: Mapping[str, Any]) -> str:
    """Write a Markdown table with a row for each run; the best one is bold."""
    losses = ["loss"] if losses_compare(result["fields"]) else []
    heads = [*result["fields"], "accuracy, %", "95 % interval", "hpdv2, %"]
    heads += [*(f"validation {name}" for name in losses), "best step"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in result["runs"]:
        cells = [written(row["settings"][field]) for field in result["fields"]]
        if accuracy_of(row) < 0:
            cells += [f"stopped at step {row['steps']:,}", "", "", *("" for _ in losses), ""]
        else:
            value, low, high = (f"{100 * row['accuracy'][name]:.1f}" for name in ("value", "low", "high"))
            cells += [value, f"{low} to {high}", f"{100 * row['hpdv2']['value']:.1f}"]
            cells += [*(f"{row[name]:.4f}" for name in losses), f"{row['best_step']:,}"]
        if row["name"] == result["best"]:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ablation_page(result: Mapping[str, Any]) -> str:
    """Return the page of what `ablation.json` holds; one file that opens offline."""
    fields = {field: in_order(values) for field, values in result["fields"].items()}
    return page(
        "hpskit.training",
        "ablation.html",
        result=result,
        rows=ranked(result),
        fields=[*fields],
        best=next((row for row in result["runs"] if row["name"] == result["best"]), None),
        undecided=undecided(result),
        losses=losses_compare(fields),
        charts=[field_chart(result, fields, field) for field in fields],
        heat=field_map(result, fields) if len(fields) > 1 else None,
        stopped=[row for row in result["runs"] if row["stopped"]],
        report=lambda row: None if row["stopped"] else f"runs/{quote(row['name'])}/report.html",
        written=written,
    )


def is_number(value: Any) -> bool:
    """Tell a number from a word, or from true and false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def in_order(values: Sequence[Any]) -> list[Any]:
    """Sort numbers from small to large, then words as they were given."""
    return sorted(values, key=lambda value: (0, value) if is_number(value) else (1, values.index(value)))


def axis_of(field: str, values: Sequence[Any]) -> charts.Axis:
    """Make an axis with every value on it; words, and numbers among words, stand side by side."""
    texts = [written(value) for value in values]
    labels = [text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}" for text in texts]
    if not all(map(is_number, values)):
        return charts.category_axis(labels, title=field)
    logarithmic = values[0] > 0 and values[-1] >= _LOGARITHMIC * values[0]
    title = f"{field} (logarithmic)" if logarithmic else field
    return charts.value_axis(values, labels, title=title, logarithmic=logarithmic)


def field_chart(result: Mapping[str, Any], fields: Mapping[str, Sequence[Any]], field: str) -> tuple[Markup, Markup]:
    """Draw the accuracy over one field, and the legend.

    With two fields there is a line for each value of the other, else the best of all others. Numbers are joined where
    no run between them stopped; between words there is nothing.
    """
    values, numbers = fields[field], all(map(is_number, fields[field]))
    other = next((name for name in fields if name != field), None) if len(fields) == 2 else None
    series = []
    for place, value in enumerate(fields[other] if other else [None]):
        rows = [row for row in result["runs"] if other is None or row["settings"][other] == value]
        best = [max((r for r in rows if r["settings"][field] == v), key=accuracy_of) for v in values]
        places = values if numbers else range(len(values))
        points = [point_of(row, x, result["best"]) for row, x in zip(best, places, strict=True)]
        name = f"{other} {written(value)}" if other else "accuracy"
        series.append(charts.Series(name=name, colour=charts.colour_of(place), points=points, joined=numbers))
    judged = [row["accuracy"] for row in result["runs"] if accuracy_of(row) >= 0]
    ends = [100 * end for accuracy in judged for end in accuracy.values()]
    y = charts.axis_for(ends or [50.0], steps=4, title="validation accuracy, %")
    chart = charts.line_chart(f"Accuracy against {field}", charts.Frame(x=axis_of(field, values), y=y), series)
    return chart, charts.legend(series if other else [])


def point_of(row: Row, x: float, best: str | None) -> charts.Point:
    """Make the point of a run; one that stopped is a cross at the foot of the chart."""
    if accuracy_of(row) < 0:
        return charts.Point(x=x, y=None, title=f"{row['name']} stopped at step {row['steps']:,}")
    value, low, high = (100 * row["accuracy"][name] for name in ("value", "low", "high"))
    title = f"{row['name']}: {value:.1f} %"
    return charts.Point(x=x, y=value, low=low, high=high, title=title, ringed=row["name"] == best)


def field_map(result: Mapping[str, Any], fields: Mapping[str, Sequence[Any]]) -> Markup:
    """Draw the first field across and the second one down; a cell shows the best over all further ones."""
    (across, columns), (down, lines), *_ = fields.items()
    found = {}
    for row in sorted(result["runs"], key=accuracy_of):
        found[columns.index(row["settings"][across]), lines.index(row["settings"][down])] = row
    cells = []
    for (column, line), row in found.items():
        value: float | None = accuracy_of(row)
        text, title = f"{value:.1f}", f"{row['name']}: {value:.1f} %"
        if accuracy_of(row) < 0:
            value, text, title = None, "\N{MULTIPLICATION SIGN}", f"{row['name']} stopped"
        ringed = row["name"] == result["best"]
        cells.append(charts.Cell(column=column, row=line, value=value, text=text, title=title, ringed=ringed))
    x = charts.category_axis([written(value) for value in columns], title=across)
    y = charts.category_axis([written(value) for value in lines], title=down, downwards=True)
    return charts.heat_map(f"Validation accuracy, %, for each {across} and {down}", x, y, cells)
