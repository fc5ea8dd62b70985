"""What a run would need, before anything is spent: time, memory, disk. Writes nothing.

Two real steps are run on the real data with random weights, which take as long as others. Where they would take more
than a minute, two small ones are, and what they took is scaled up; where the memory is not there, nothing is measured.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hpskit.errors import NotCachedError, OutputError
from hpskit.models.clip import build, check_names, tokenizer
from hpskit.models.registry import find
from hpskit.models.store import cached, is_path, locate
from hpskit.pages import duration
from hpskit.training.batch import Batch
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.devices import accelerator_for, peak_memory, require_accelerate
from hpskit.training.engine import Engine
from hpskit.training.log import log_lines
from hpskit.training.material import Material
from hpskit.training.parts import split
from hpskit.training.past_run import best_checkpoint
from hpskit.training.recipes import Recipe
from hpskit.training.run_folder import RunFolder
from hpskit.training.student import Student
from hpskit.training.train_run import TrainRun, open_material, open_stream, settings_of

__all__ = ["Estimate", "Measured", "Size", "Standing", "check_room", "estimate", "size_of"]

_BUDGET_SECONDS = 60.0
_FLOAT_BYTES = 4
_FORWARD_SHARE = 1 / 3
"""Of a step, a forward pass alone: the backward pass takes twice as long."""
_MARGIN = 1.25
"""Of what is free for what is known, so that there is room for what passes through the network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Tensors of a run, in bytes."""

    parameters: int
    trained: int
    memory: int
    """Weights, gradients, AdamW's two averages and a moving average, in float32: all but what passes through."""
    checkpoint: int
    """One checkpoint on disk."""
    disk: int
    """All that stand there at once, while one more is written, and the final weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What real steps took."""

    pairs: int
    """In the step that was measured."""
    seconds: float
    """For a whole step."""
    peak: int
    """Bytes, for a whole step: of the GPU, or of the process where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far the run is that would go on."""

    step: int
    """Of the last checkpoint; 0 if there is none."""
    best_step: int | None
    """Of the best one so far."""
    steps_left: int
    finished: bool
    """Whether there is nothing to do at all."""

    def line(self, steps: int) -> str:
        """In words; `steps` are those of the recipe."""
        best = "" if self.best_step is None else f", the best so far is step {self.best_step:,}"
        if self.finished:
            return f"resume: the run is finished after step {self.step:,}{best}; there is nothing to do"
        if not self.steps_left:
            return f"resume: all is learned after step {self.step:,}{best}; the result is to be written"
        if not self.step:
            return "resume: the run has no checkpoint yet and begins anew"
        return f"resume: goes on behind step {self.step:,} of {steps:,}{best}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a run would need."""

    recipe: Recipe
    size: Size
    data: tuple[str, ...]
    """Facts about the data, a line each."""
    warnings: tuple[str, ...]
    weights: str
    """Whether the first weights are here, in words."""
    validation_pairs: int
    processes: int
    measured: Measured | None
    unmeasured: str
    """Why nothing was measured, in words."""
    free_disk: int
    standing: Standing | None
    """None for a new run."""

    @property
    def steps_left(self) -> int:
        """Of the recipe's, those that are still to be done."""
        return self.standing.steps_left if self.standing else self.recipe.steps

    @property
    def seconds(self) -> float | None:
        """Of all that is left of the run, with its validations; None if nothing was measured."""
        left, every = self.steps_left, self.recipe.validate_every
        if not left:
            return 0.0
        if self.measured is None:
            return None
        validations = -(-self.recipe.steps // every) - (self.recipe.steps - left) // every
        validation = self.validation_pairs / self.recipe.batch * _FORWARD_SHARE * self.measured.seconds
        return left * self.measured.seconds + validations * validation

    def to_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "parameters": {"all": self.size.parameters, "trained": self.size.trained},
            "bytes": {"memory": self.size.memory, "checkpoint": self.size.checkpoint, "disk": self.size.disk},
            "free_disk": self.free_disk,
            "resume": asdict(self.standing) if self.standing else None,
            "data": list(self.data),
            "warnings": list(self.warnings),
            "weights": self.weights,
            "processes": self.processes,
            "measured": asdict(self.measured) if self.measured else None,
            "unmeasured": self.unmeasured or None,
            "seconds": self.seconds,
        }

    def lines(self) -> list[str]:
        """For people."""
        recipe, size = self.recipe, self.size
        share = f"{size.trained / 1e6:,.1f} of {size.parameters / 1e6:,.1f} million parameters are trained"
        plan = f"{recipe.steps:,} steps of {recipe.batch:,} pairs, loss {recipe.loss}, lr {recipe.lr:g}"
        at_once = f"{size.disk / 1e9:.1f} GB of checkpoints at once, {self.free_disk / 1e9:,.0f} GB are free"
        return [
            f"{recipe.architecture}: {share}; {plan}",
            *self.data,
            f"training and validation share no prompt and no image; first weights: {self.weights}",
            *([self.standing.line(recipe.steps)] if self.standing else []),
            *self._time(),
            f"disk: {at_once}",
        ]

    def _time(self) -> list[str]:
        known = f"weights and optimiser take {self.size.memory / 1e9:.1f} GB"
        if self.measured is None:
            return [f"memory: {known}, and what passes through the network comes on top", self.unmeasured]
        found = self.measured
        small = found.pairs < self.recipe.batch
        basis = f" at most (scaled up from {found.pairs} pairs)" if small else ""
        where = f" on {self.processes} processes" if self.processes > 1 else ""
        rest = f"for the {self.steps_left:,} steps that are left" if self.standing else "in all"
        return [
            f"time: {found.seconds:.2f} s a step{basis}{where}; about {duration(self.seconds or 0.0)} {rest}",
            f"memory: {found.peak / 1e9:.1f} GB at the peak, of which {known}",
        ]


def size_of(recipe: Recipe) -> Size:
    """How large the tensors of a run are; nothing is allocated.

    Raises:
        InputError, CheckpointError: the architecture does not exist or does not go with the recipe.
    """
    tokenizer(recipe.architecture)  # which refuses a name that open_clip does not know
    student = Student(build(recipe.architecture), recipe)
    parameters = sum(p.numel() for p in student.parameters())
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    average = trained if recipe.ema is not None else 0
    checkpoint = _FLOAT_BYTES * (parameters + 2 * trained + average)
    return Size(
        parameters=parameters,
        trained=trained,
        memory=_FLOAT_BYTES * (parameters + 3 * trained + average),
        checkpoint=checkpoint,
        disk=_checkpoints_at_once(recipe) * checkpoint + _FLOAT_BYTES * parameters,
    )


def check_room(recipe: Recipe, out: Path) -> tuple[Size, int]:
    """See that the disk has room for the checkpoints of a run, those that are there already counted.

    Returns:
        The size of the run, and the bytes that are free.

    Raises:
        OutputError: it has not.
        InputError, CheckpointError: see `size_of`.
    """
    size, free = size_of(recipe), _free_disk(out)
    needed = size.disk - _taken(RunFolder(out).checkpoints)
    if free < needed:
        found = f"{free / 1e9:.1f} GB are free, checkpoints need {needed / 1e9:.1f} GB"
        raise OutputError(f"{out}: {found}; make room, choose another disk, or --set keep=1")
    return size, free


def estimate(config: TrainRun, progress: Callable[[str], None] = lambda _: None) -> Estimate:
    """Do all checks of a run, and measure what it would need.

    Args:
        config: as for `train`.
        progress: is told what is being done.

    Raises:
        InputError, ModelError, OutputError: what `train` would raise; or the disk has not enough room.
    """
    require_accelerate()
    recipe = config.recipe
    RunFolder(config.out).check_free(config.resume)
    size, free = check_room(recipe, config.out)
    progress("comparing training and validation")
    material = open_material(config)
    progress("describing the data")
    described = material.describe(recipe)
    weights = _weights(recipe)
    standing, lost = _standing(config, material)
    unmeasured, measured, processes = _unmeasurable(config, size), None, 1
    if standing and not standing.steps_left:
        unmeasured = "time: next to none"
    if not unmeasured:
        progress("measuring")
        measured, processes = _measure(config, material, size)
    return Estimate(
        recipe=recipe,
        size=size,
        data=tuple(line for found in described for line in found.lines()),
        warnings=(*material.omissions(), *(line for found in described for line in found.warnings()), *lost),
        weights=weights,
        validation_pairs=described[-1].pairs,
        processes=processes,
        measured=measured,
        unmeasured=unmeasured,
        free_disk=free,
        standing=standing,
    )


def _standing(config: TrainRun, material: Material) -> tuple[Standing | None, list[str]]:
    """How far the run in the folder is, after all that `train` would look at before it goes on; and warnings."""
    folder, recipe = RunFolder(config.out), config.recipe
    if not folder.config.is_file():
        return None, []
    if recipe.weights is not None and not is_path(recipe.weights) and cached(find(recipe.weights)) is None:
        cure = f"`hpskit models fetch {recipe.weights}` brings them"
        raise NotCachedError(f"{recipe.weights}: the run began with these weights, which are not here; {cure}")
    student = Student(build(recipe.architecture), recipe)
    stream = open_stream(config, material, student)
    replaced = folder.check_same(settings_of(config, material, stream, student), material.listing())
    if (found := folder.finished()) is not None:
        return Standing(step=found["steps"], best_step=found["best_step"], steps_left=0, finished=True), []
    if folder.log.exists():
        log_lines(folder.log)
    last = Checkpoints(folder.checkpoints, recipe.keep).last()
    if last is None:
        return Standing(step=0, best_step=None, steps_left=recipe.steps, finished=False), replaced
    stream.restore(dict(last.state["position"]))
    best, _, lost = best_checkpoint(folder, last.state)
    ended = recipe.patience is not None and last.state["worse"] >= recipe.patience
    left = 0 if ended else recipe.steps - last.step
    return Standing(step=last.step, best_step=best, steps_left=left, finished=False), [
        *replaced,
        *([lost] if lost else []),
    ]


def _checkpoints_at_once(recipe: Recipe) -> int:
    """The last ones, the best one, one more while it is written, and those that stay for good."""
    return recipe.keep + 2 + (recipe.steps // recipe.keep_every if recipe.keep_every else 0)


def _taken(folder: Path) -> int:
    """Bytes of the files below a folder, which need not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _free_disk(path: Path) -> int:
    """Of the disk that a folder is or would be on."""
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _weights(recipe: Recipe) -> str:
    """Whether the first weights are here, after a look whether they fit."""
    if recipe.weights is None:
        return f"drawn by seed {recipe.seed}"
    if not is_path(recipe.weights):
        model = find(recipe.weights)
        if cached(model) is None:
            size = f", {model.size / 1e9:.1f} GB" if model.size else ""
            return f"{model.name} is not on this machine yet (`hpskit models fetch {model.name}`{size})"
    located = locate(recipe.weights)
    check_names(build(recipe.architecture), located.weights, recipe.architecture)
    return f"{located.name}, {located.weight_hash[:19]}…, on this machine"


def _unmeasurable(config: TrainRun, size: Size) -> str:
    """Why no step can be run here; empty if one can."""
    on_gpu = config.device == "auto" and torch.cuda.is_available()
    if config.recipe.precision == "fp16" and not on_gpu:
        return "time: not measured; precision fp16 needs a GPU, which is not here (--set precision=bf16 does without)"
    free = torch.cuda.mem_get_info()[0] if on_gpu else _free_memory()
    if free < _MARGIN * size.memory:
        needed = f"{_MARGIN * size.memory / 1e9:.1f} GB at least"
        return f"time: not measured; that needs {needed} of memory, {free / 1e9:.1f} GB are free here"
    return ""


def _free_memory() -> int:
    import psutil  # accelerate brings it

    return int(psutil.virtual_memory().available)


def _measure(config: TrainRun, material: Material, size: Size) -> tuple[Measured, int]:
    """The second of two steps, and over how many processes."""
    recipe = replace(config.recipe, weights=None)
    accelerator = accelerator_for(recipe, config.device, shard=config.shard)
    student = Student.build(recipe)
    stream = open_stream(config, material, student, accelerator)
    engine = Engine(recipe, accelerator, student, sharded=config.shard)
    batches = iter(stream)
    batch = next(batches)
    parts = split(batch, len(batch.prompts))
    pairs, seconds = _two_steps(engine, itertools.repeat(parts[0]))
    if 2 * seconds * len(parts) > _BUDGET_SECONDS:
        at_once = -(-len(parts) // recipe.accumulate)
        peak = size.memory + max(0, peak_memory() - size.memory) * at_once
        return Measured(pairs=pairs, seconds=seconds * len(parts), peak=peak), accelerator.num_processes
    pairs, seconds = _two_steps(engine, itertools.chain([batch], batches))
    return Measured(pairs=pairs, seconds=seconds, peak=peak_memory()), accelerator.num_processes


def _two_steps(engine: Engine, batches: Iterator[Batch]) -> tuple[int, float]:
    """Pairs and seconds of the second: in the first, memory is taken and libraries are loaded."""
    for _ in range(2):
        began = time.perf_counter()
        pairs = engine.step(next(batches), 0).pairs
        seconds = time.perf_counter() - began
    return pairs, seconds
