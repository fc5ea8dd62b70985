"""The same training with other settings, one run for each point of a grid: a table, plots, and which setting is best.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.errors import DivergedError, InputError
from hpskit.files import alone_in, publish, publish_json
from hpskit.training.ablation_page import ablation_page, ablation_table, losses_compare
from hpskit.training.examples import OnBroken
from hpskit.training.past_run import PastRun, best_validation, lines_of, open_run
from hpskit.training.recipes import Recipe
from hpskit.training.run_folder import RunFolder
from hpskit.training.trainer import TrainRun, train

__all__ = ["Ablation", "Grid", "Point", "ablate", "parse_grid"]

Progress = Callable[[str, int, int], None]
"""Is told the name of a run, its steps done and its steps in all."""

_FORMAT = "hpskit ablation 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One combination of settings."""

    settings: Mapping[str, Any]
    """Field of the recipe -> value."""
    recipe: Recipe

    @property
    def name(self) -> str:
        """The settings as a name for a folder."""
        text = ",".join(f"{field}={_short(value)}" for field, value in self.settings.items())
        return re.sub(r"[^\w.+=,-]", "-", text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Fields of a recipe, the values that each takes, and all their combinations."""

    fields: Mapping[str, tuple[Any, ...]]
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """What is varied, around which recipe, on which data."""

    recipe: Recipe
    """All that the grid does not say."""
    grid: Grid
    data: tuple[str, ...]
    """As in `TrainRun`."""
    validation: str
    data_format: str = "auto"
    """As in `TrainRun`."""
    image_root: Path | None = None
    """As in `TrainRun`."""
    out: Path
    jobs: int = 1
    """Runs at a time, each in a process of its own if there are several; GPUs are dealt out to them in turn."""
    drop_leaks: bool = False
    """As in `TrainRun`."""
    compare_pixels: bool = False
    """As in `TrainRun`."""
    on_broken: OnBroken = "fail"
    """As in `TrainRun`."""
    workers: int | None = None
    """As in `TrainRun`, of each run."""
    device: str = "auto"
    """As in `TrainRun`."""
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"--jobs: is {self.jobs}, expected at least 1")

    def run(self, point: Point) -> TrainRun:
        """The run of a point."""
        return TrainRun(
            recipe=point.recipe,
            data=self.data,
            validation=self.validation,
            data_format=self.data_format,
            image_root=self.image_root,
            out=self.out / "runs" / point.name,
            resume=True,
            drop_leaks=self.drop_leaks,
            compare_pixels=self.compare_pixels,
            on_broken=self.on_broken,
            workers=self.workers,
            device=self.device,
            tensorboard=False,
            command=self.command,
        )

    def is_done(self, point: Point) -> bool:
        """Whether its run is complete and is the one that is wanted; another one is refused by the trainer."""
        planned = self.run(point)
        if RunFolder(planned.out).finished() is None:
            return False
        return bool(open_run(planned.out).config["recipe"] == point.recipe.to_dict())


def parse_grid(recipe: Recipe, texts: Sequence[str]) -> Grid:
    """The grid of `lr=1e-6,3.3e-6` and further fields.

    Args:
        recipe: what the grid varies.
        texts: a field of the recipe and its values each.

    Raises:
        InputError: not of that form, no such field, a value that it cannot have, or one that is there twice.
    """
    written: dict[str, list[str]] = {}
    for text in texts:
        field, equals, listed = text.partition("=")
        if not equals or not listed:
            raise InputError(f"--grid: is {text!r}, expected NAME=VALUE,VALUE, such as lr=1e-6,3.3e-6")
        if field in written:
            raise InputError(f"--grid: {field} is there twice; write all of its values after one {field}=")
        written[field] = listed.split(",")
    if not written:
        raise InputError("--grid: is empty, expected NAME=VALUE,VALUE, such as lr=1e-6,3.3e-6")
    fields = {field: tuple(_value(recipe, field, value) for value in values) for field, values in written.items()}
    for field, found in fields.items():
        if twice := [value for value in found if found.count(value) > 1]:
            raise InputError(f"--grid: {field} has the value {_short(twice[0])} twice; leave one out")
    points = tuple(_points(recipe, written, fields))
    if len({point.name for point in points}) < len(points):
        raise InputError("--grid: two points have the same name; use values that differ in letters or digits")
    return Grid(fields=fields, points=points)


def _value(recipe: Recipe, field: str, text: str) -> Any:
    if field == "betas":
        raise InputError("--grid: betas has commas in its values and cannot be varied here; use `hpskit train --set`")
    return getattr(recipe.with_settings([f"{field}={text}"], "--grid"), field)


def _points(recipe: Recipe, written: Mapping[str, Sequence[str]], fields: Mapping[str, Any]) -> Iterator[Point]:
    for texts in itertools.product(*written.values()):
        settings = [f"{field}={text}" for field, text in zip(written, texts, strict=True)]
        chosen = recipe.with_settings(settings, "--grid")
        yield Point(settings={field: getattr(chosen, field) for field in fields}, recipe=chosen)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def ablate(
    config: Ablation,
    progress: Progress = lambda _name, _done, _total: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Train every point of the grid that is not trained yet, and compare all of them.

    A run that stops while it trains, because its loss is no longer finite, is part of the result, as it says something
    of its settings; started again, it is tried again from its last checkpoint.

    Args:
        config: what and where.
        progress: is told how far each run is.
        warn: is told what seems to go wrong, after the name of the run.

    Returns:
        What `ablation.json` holds.

    Raises:
        InputError: recipe or data cannot be used.
        OutputError: a run there was made with other settings, another process is at work there, or something cannot be
            written.
    """
    with alone_in(config.out):
        return _publish(config, _train_rest(config, progress, warn))


def _train_rest(config: Ablation, progress: Progress, warn: Callable[[str], None]) -> dict[str, str]:
    """Train what is not trained yet; gives why runs stopped before their end."""
    done = [point for point in config.grid.points if config.is_done(point)]
    todo = [point for point in config.grid.points if point not in done]
    total = len(config.grid.points)
    progress("runs", len(done), total)
    if done:  # all others are compared with it, and the trainer compares it with the data that are there
        _train_one(config.run(done[0]))
    stopped: dict[str, str] = {}
    for number, (point, reason) in enumerate(_train_all(config, todo, progress, warn), len(done) + 1):
        if reason:
            stopped[point.name] = reason
            warn(f"{point.name}: {reason}")
        progress("runs", number, total)
    return stopped


def _train_all(
    config: Ablation, points: Sequence[Point], progress: Progress, warn: Callable[[str], None]
) -> Iterator[tuple[Point, str]]:
    """Each point after its run, and why that stopped before its end; empty if it did not."""
    if config.jobs == 1 or len(points) < 2:
        for point in points:
            yield point, _train_one(config.run(point), progress, warn)
        return
    with _pool(config.jobs, _devices() if config.device == "auto" else []) as pool:
        futures = [pool.submit(_train_one, config.run(point)) for point in points]
        try:
            for point, future in zip(points, futures, strict=True):
                yield point, future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train_one(
    planned: TrainRun,
    progress: Progress = lambda _name, _done, _total: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> str:
    name = planned.out.name

    def tell(what: str, done: int, total: int | None, _line: Mapping[str, Any]) -> None:
        if what == "training" and total is not None:
            progress(name, done, total)

    try:
        train(planned, tell, lambda text: warn(f"{name}: {text}"))
    except DivergedError as error:
        return str(error)
    return ""


def _pool(jobs: int, devices: Sequence[str]) -> ProcessPoolExecutor:
    """Processes that each see one of the devices, dealt out in turn."""
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for number in range(jobs):
        places.put(devices[number % len(devices)] if devices else None)
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(places,))


def _begin_worker(places: Any) -> None:
    """Take one of the GPUs, and end with the process that started this one, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    device = places.get()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _devices() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _publish(config: Ablation, stopped: Mapping[str, str]) -> dict[str, Any]:
    runs = [(point, open_run(config.run(point).out)) for point in config.grid.points]
    _check_same_data(runs)
    rows = [_row(point, run, stopped.get(point.name)) for point, run in runs]
    judged = [row for row in rows if row["accuracy"] and not row["stopped"]]
    compare = losses_compare(config.grid.fields)
    best = max(judged, key=lambda row: (row["accuracy"]["value"], -row["loss"] if compare else 0), default=None)
    result = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "recipe": config.recipe.to_dict(),
        "fields": {field: list(values) for field, values in config.grid.fields.items()},
        "data": runs[0][1].config["data"],
        "validation": runs[0][1].config["validation"],
        "runs": rows,
        "best": best and best["name"],
    }
    for name, text in (("ablation.html", ablation_page(result)), ("ablation.md", ablation_table(result))):
        with publish(config.out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    publish_json(config.out / "ablation.json", result)
    return result


def _check_same_data(runs: Sequence[tuple[Point, PastRun]]) -> None:
    def contents(run: PastRun) -> list[tuple[str, str | None]]:
        entries = [entry for part in ("data", "validation") for entry in run.config[part]]
        return [(entry["digest"], entry.get("images")) for entry in entries]

    (_, first), *others = runs
    for _, other in others:
        if not _equal(contents(first), contents(other)):
            cure = "the data have changed in between: remove the older run, it is trained again"
            raise InputError(f"{other.folder.path}: was trained or validated on other data than {first.name}; {cure}")


def _equal(first: Sequence[tuple[str, str | None]], second: Sequence[tuple[str, str | None]]) -> bool:
    """Whether judgements and contents of images are the same; older runs do not say what their images were."""
    return len(first) == len(second) and all(
        digest == other_digest and (images == other_images or None in (images, other_images))
        for (digest, images), (other_digest, other_images) in zip(first, second, strict=True)
    )


def _row(point: Point, run: PastRun, stopped: str | None) -> dict[str, Any]:
    steps, best = lines_of(run.log, "step"), best_validation(run.log)
    seconds = sum(line["seconds"] for line in steps)
    finished = run.folder.finished()
    return {
        "name": point.name,
        "settings": dict(point.settings),
        "steps": steps[-1]["step"] if steps else 0,
        "best_step": best["step"] if best else None,
        "accuracy": best["accuracy"] if best else None,
        "hpdv2": best["hpdv2"] if best else None,
        "loss": best["loss"] if best else None,
        "trained_parameters": run.config["parameters"]["trained"],
        "images_per_second": sum(line["images"] for line in steps) / seconds if seconds else None,
        "weight_hash": finished["weight_hash"] if finished else None,
        "stopped": stopped,
    }
