"""A training run from data to weights: resumable at any moment, watched, logged, on one device or many."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from types import FrameType
from typing import Any

import torch

from hpskit import __version__
from hpskit.errors import OutputError
from hpskit.files import publish, publish_json
from hpskit.models.architecture import build, tokenizer
from hpskit.models.checkpoint import check_names
from hpskit.models.registry import find
from hpskit.models.store import cached, is_path, locate
from hpskit.models.training_record import HeldOut, write_record
from hpskit.stage import alone_in, check_space
from hpskit.training.data import TrainConfig, TrainingData, read_data
from hpskit.training.engine import (
    Engine,
    accelerator_for,
    from_main,
    gathered,
    peak_memory,
    random_state,
    set_random_state,
)
from hpskit.training.loader import Batch, DataLoader, Decoder
from hpskit.training.recipes import Recipe
from hpskit.training.report import publish_report
from hpskit.training.run_folder import FirstWeights, RunConfig, RunFolder, RunLog, Summary, TrainState, open_trackers
from hpskit.training.student import Student
from hpskit.training.validation import validate
from hpskit.training.watch import Watch

Progress = Callable[[str, int, int | None, Mapping[str, Any]], None]
"""Told what is being done, how much of it is done, how much there is (None: unknown), and the last line of the log."""
Warn = Callable[[str], None]
"""Told in a sentence what seems to go wrong; each thing once."""

_MEASURED = 3
"""Steps after which a run says what it will take; the first of them is slower than the others and does not count."""
_ECHO = 1.0
"""Seconds. A signal sooner after the first is the same one: a terminal and a launcher both pass Ctrl-C on."""


def train(config: TrainConfig, progress: Progress = lambda *_: None, warn: Warn = lambda _: None) -> Summary:
    """Train, or go on training, until the recipe's steps are done or its patience is at an end.

    Every process of a distributed run calls this. If one of them fails, its launcher ends the others.

    Raises:
        InputError: recipe or data cannot be used, training and validation share prompts or images, or the loss is
            not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM has asked for an end; the step under way was finished and saved.
        OutputError: the folder holds another run, or cannot be written; the last checkpoint stays.
        ModelError: the first weights cannot be had or do not fit.
    """
    return Trainer(config, progress, warn).run()


class Trainer:
    """A run that is under way in this process."""

    def __init__(
        self,
        config: TrainConfig,
        progress: Progress = lambda *_: None,
        warn: Warn = lambda _: None,
        *,
        data: TrainingData | None = None,
    ) -> None:
        """Check folder, disk, data and first weights; see `train`. `data` is theirs if they were read before."""
        recipe = config.recipe
        self.config, self.recipe, self.progress, self.warn = config, recipe, progress, warn
        self.accelerator = accelerator_for(recipe, config.device, shard=config.shard)
        self.is_main = self.accelerator.is_main_process
        self.folder = RunFolder(config.out)
        self.folder.check_free(config.resume)
        if self.is_main and not self.folder.summary_file.is_file():
            check_room(recipe, self.folder)
        self.data = data or read_data(config, recipe.rated, self._reading)
        torch.manual_seed(recipe.seed + self.accelerator.process_index)  # of what a network drops
        self.student = Student.build(recipe)
        self.decoder = Decoder(
            preprocessing=self.student.preprocessing,
            workers=config.workers,
            on_broken=config.on_broken,
            rating=recipe.rated,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        self.loader = DataLoader(
            self.data.train, self.decoder, ratios=self.data.ratios, pairs=recipe.batch, seed=recipe.seed
        )
        self.state = TrainState()
        self.log: RunLog | None = None
        """The first process's; None elsewhere."""

    def _reading(self, what: str, groups: int) -> None:
        self.progress(what, groups, None, {})

    def run_config(self) -> RunConfig:
        """Return what `config.json` says of this run."""
        return RunConfig(
            recipe=self.recipe,
            **self.data.facts(),
            base=first_weights(self.recipe),
            parameters=self.student.counts(),
            preprocessing=self.student.preprocessing.name,
            package=f"hpskit {__version__}",
            versions={name: version(name) for name in ("torch", "open_clip_torch", "accelerate", "numpy", "pillow")},
            on_broken=self.config.on_broken,
            command=self.config.command,
        )

    def run(self) -> Summary:
        """Go from the last checkpoint, or from the beginning, to the end; see `train`."""
        if self.is_main:
            _, warnings = self.data.describe(self.recipe.architecture, self._reading)
            for text in warnings:
                self.warn(text)
        config = self.run_config()
        with contextlib.ExitStack() as stack:
            if self.is_main:
                stack.enter_context(alone_in(self.folder.path))
                self.folder.begin(config)
            mine, main = config.decisive(), from_main(config.decisive())
            if mine != main:
                changed = ", ".join(name for name in mine if mine[name] != main.get(name))
                raise OutputError(self.folder.path, f"is of a run with another {changed} than this process")
            summary = from_main(self.folder.finished() if self.is_main else None)
            if summary is not None:
                return summary
            self.engine = Engine(self.recipe, self.accelerator, self.student, sharded=self.config.shard)
            self.watch = Watch(self.recipe, self.engine.logit_scale)
            self._restore()
            if self.is_main:
                self.log = stack.enter_context(self._open_log())
            self._loop(config)
            self._write("end", time=time.time(), reason=self._reason())
            if self.is_main:
                self._publish()
        summary = from_main(self.folder.finished() if self.is_main else None)
        assert summary is not None
        return summary

    def _restore(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        step = from_main(max(self.folder.steps(), default=0))
        if not step:
            return
        self.state, weights, training = self.folder.load(step)
        self.loader.load_state_dict(self.state.position)
        self.engine.restore(weights, training)
        set_random_state(self.state.random[self.accelerator.process_index % len(self.state.random)])
        if self.accelerator.scaler is not None and self.state.scaler:
            self.accelerator.scaler.load_state_dict(self.state.scaler)

    def _open_log(self) -> RunLog:
        step = self.state.step
        if step:
            self.folder.tidy(self.recipe, self.state.best)
        trackers = open_trackers(self.folder, after=step, wanted=self.config.tensorboard)
        log = RunLog(self.folder, self.state, trackers)
        self.watch.replay(log.lines)
        log.write("start", step, {"time": time.time(), "processes": self.accelerator.num_processes})
        if log.lines:
            text = self.state.standing(self.recipe)
            self.progress("resuming", step, self.recipe.steps, {"kind": "resume", "text": text})
        return log

    def _loop(self, config: RunConfig) -> None:
        batches, paces = iter(self.loader), list[float]()
        with stop_signals() as asked:
            while not self._reason():
                self._step(batches, paces)
                improved = self._due(self.recipe.validate_every) and self._validate()
                stopped = any(gathered([asked()]))
                if improved or stopped or self._reason() or self._due(self.recipe.save_every):
                    self._save(config)
                if stopped and not self._reason():
                    self._write("end", time=time.time(), reason="stopped")
                    if self.is_main:
                        publish_report(self.folder)
                    raise KeyboardInterrupt(f"{self.folder.path}: stopped and saved after step {self.state.step}")

    def _reason(self) -> str:
        """Say why no step is left; empty if one is."""
        if self.state.step >= self.recipe.steps:
            return "all steps done"
        return "patience" if self.recipe.patience is not None and self.state.worse >= self.recipe.patience else ""

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.recipe.steps

    def _step(self, batches: Iterator[Batch], paces: list[float]) -> None:
        began = time.perf_counter()
        figures = self.engine.step(next(batches), self.state.step)
        self.state = self.state.changed(step=self.state.step + 1)
        seconds = time.perf_counter() - began
        line = self._write("step", **figures, seconds=round(seconds, 4))
        if self.log is None:
            return
        self._tell(self.watch.step(line))
        left = self.recipe.steps - self.state.step
        if len(paces) < _MEASURED:
            paces.append(seconds)
            if len(paces) == _MEASURED and left:
                pace = sum(paces[1:]) / (_MEASURED - 1)
                memory, left_over = peak_memory(), round(pace * left, 1)
                self._write("estimate", seconds_per_step=round(pace, 4), seconds_left=left_over, peak_bytes=memory)

    def _write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Log a line, in the first process."""
        if self.log is None:
            return {}
        line = self.log.write(kind, self.state.step, values)
        self.progress("training", self.state.step, self.recipe.steps, line)
        return line

    def _tell(self, found: Iterable[tuple[str, str]]) -> None:
        for name, text in found:
            self._write("warning", name=name, text=text)
            self.warn(f"step {self.state.step}: {text}")

    def _validate(self) -> bool:
        """Validate, and tell whether this is the best step so far."""
        state = self.state
        self.progress("validating", state.step, self.recipe.steps, {})
        held_out = self.data.validation
        found, credit = validate(self.engine, held_out.data, self.decoder, held_out.without)
        figures = from_main(found)  # machines may differ in the last digit
        better, worth = state.validation, (figures["accuracy"]["value"], -figures["loss"])
        improved = better is None or worth > (better["accuracy"]["value"], -better["loss"])
        changes = {"best": state.step, "validation": figures, "worse": 0} if improved else {"worse": state.worse + 1}
        self.state = state.changed(**changes)
        line = self._write("validation", **figures)
        if self.log is not None:
            self._tell(self.watch.validation(line, credit))
        return improved

    def _save(self, config: RunConfig) -> None:
        """Save a checkpoint; every process may hold a part of the weights, the first one writes."""
        random = gathered([random_state()])
        weights, training = self.engine.weights(), self.engine.training_state()
        if self.log is None:
            return
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
        position, log = self.loader.state_dict(), self.log.check
        self.state = self.state.changed(position=position, random=random, scaler=scaler, log=log)
        metadata = {
            "kind": "hps",
            "architecture": self.recipe.architecture,
            "name": self.folder.name,
            "version": f"step {self.state.step}",
            "licence": config.base.licence if config.base else "unknown",
        }
        self.folder.save(self.state, weights, training, metadata)
        self.folder.tidy(self.recipe, self.state.best)
        publish_report(self.folder)

    def _publish(self) -> None:
        """Publish the best weights with their training record, and say that the run is complete."""
        best, figures = self.state.best, self.state.validation
        assert best is not None
        assert figures is not None
        state, *_ = self.folder.load(best)
        source, _ = self.folder.weights(str(best))
        with publish(self.folder.model) as temporary:
            shutil.copyfile(source, temporary)
        chosen = f"{self.data.validation.data.name}, on which the checkpoint was chosen too"
        digest = state.hashes[source.name]
        write_record(
            self.folder.model,
            weight_hash=digest,
            data=", ".join(dataset.data.name for dataset in self.data.train),
            prompts=set().union(*(dataset.prompts() for dataset in self.data.train)),
            held_out=HeldOut(rule="ties-half", **figures["accuracy"], source=chosen),
            chosen_on=self.data.validation.prompts(),
        )
        publish_report(self.folder)
        summary = Summary(steps=self.state.step, best_step=best, validation=figures, weight_hash=digest)
        publish_json(self.folder.summary_file, summary.model_dump())


def first_weights(recipe: Recipe) -> FirstWeights | None:
    """Return the identity of the weights that a run begins with; None if they are drawn."""
    if recipe.weights is None:
        return None
    located = locate(recipe.weights)
    licence = located.model.licence if located.model else located.metadata.get("licence", "unknown")
    return FirstWeights(name=located.name, weight_hash=located.weight_hash, licence=licence)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM ask for an end instead of making one; a second one does.

    Yields what tells whether somebody has asked. In a thread that is not the main one signals do what they did.
    """
    asked = list[float]()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked and time.monotonic() - asked[0] > _ECHO:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM) if is_main}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sizes_of(recipe: Recipe) -> dict[str, int]:
    """Work out how large the tensors of a run are; nothing is allocated.

    Returns:
        `all` and `trained` parameters; bytes of `memory` (weights, gradients, AdamW's two averages and a moving
        average, in float32: all but what passes through), of a `checkpoint`, and of `disk` (all checkpoints that stand
        there at once, while one more is written, and the final weights).

    Raises:
        InputError, CheckpointError: the architecture does not exist or does not go with the recipe.
    """
    tokenizer(recipe.architecture)  # which refuses a name that open_clip does not know
    student = Student(build(recipe.architecture), recipe)
    parameters, trained = student.counts()["all"], student.counts()["trained"]
    average = trained if recipe.ema is not None else 0
    checkpoint = 4 * (parameters + 2 * trained + average)
    # the last ones, the best one, one more while it is written, and those that stay for good
    at_once = recipe.keep + 2 + (recipe.steps // recipe.keep_every if recipe.keep_every else 0)
    memory, disk = 4 * (parameters + 3 * trained + average), at_once * checkpoint + 4 * parameters
    return {"all": parameters, "trained": trained, "memory": memory, "checkpoint": checkpoint, "disk": disk}


def check_room(recipe: Recipe, folder: RunFolder) -> dict[str, int]:
    """See that the disk has room for the checkpoints of a run, less those that are there; see `sizes_of`."""
    sizes = sizes_of(recipe)
    taken = sum(path.stat().st_size for path in folder.checkpoints.rglob("*") if path.is_file())
    check_space(folder.path, sizes["disk"] - taken, "checkpoints (--set keep=1 takes less)")
    return sizes


def dry_run(config: TrainConfig, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Do all checks of a run and time one step with random weights; write nothing.

    Returns:
        Sizes, a description of the data, warnings, and the measured step; JSON.

    Raises:
        InputError, ModelError, OutputError: what `train` would raise.
    """
    recipe, folder = config.recipe, RunFolder(config.out)
    folder.check_free(config.resume)
    sizes = check_room(recipe, folder)
    weights = weights_at_hand(recipe)
    progress("checking the data")
    data = read_data(config, recipe.rated)
    described, warnings = data.describe(recipe.architecture)
    last = max(folder.steps(), default=0)
    processes, measured, unmeasured = 1, None, unmeasurable(config, sizes["memory"])
    if not unmeasured:
        progress("timing a step")
        drawn = replace(config, recipe=recipe.model_copy(update={"weights": None}))
        trainer = Trainer(drawn, data=data)
        processes, measured = trainer.accelerator.num_processes, time_step(trainer)
    return {
        "parameters": {name: sizes[name] for name in ("all", "trained")},
        "bytes": {name: sizes[name] for name in ("memory", "checkpoint", "disk")},
        "resume": folder.state(last).standing(recipe) if last else None,
        "data": described,
        "warnings": warnings,
        "weights": weights,
        "processes": processes,
        "measured": measured,
        "unmeasured": unmeasured or None,
        "seconds": (recipe.steps - last) * measured["seconds"] if measured else None,
    }


def unmeasurable(config: TrainConfig, memory: int) -> str:
    """Say why no step that takes so much memory can be run on this machine; empty if one can."""
    on_gpu = config.device == "auto" and torch.cuda.is_available()
    if config.recipe.precision == "fp16" and not on_gpu:
        return "precision fp16 needs a GPU, which is not here (--set precision=bf16 does without)"
    import psutil  # accelerate brings it

    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    if free < memory:
        return f"a step needs {memory / 1e9:.1f} GB of memory at least, {free / 1e9:.1f} GB are free here"
    return ""


def time_step(trainer: Trainer) -> dict[str, Any]:
    """Time one step of a run, after a small one in which memory is taken and libraries are loaded."""
    engine = Engine(trainer.recipe, trainer.accelerator, trainer.student, sharded=trainer.config.shard)
    batch = next(iter(trainer.loader))
    engine.step(batch.split(max(1, len(batch.examples)))[0], 0)
    began = time.perf_counter()
    figures = engine.step(batch, 0)
    return {"pairs": figures["pairs"], "seconds": time.perf_counter() - began, "peak": peak_memory()}


def weights_at_hand(recipe: Recipe) -> str:
    """Say whether the first weights are here, after a look whether they fit."""
    if recipe.weights is None:
        return f"drawn by seed {recipe.seed}"
    if not is_path(recipe.weights) and cached(find(recipe.weights)) is None:
        return f"{recipe.weights} is not on this machine yet (`hpskit models fetch {recipe.weights}`)"
    located = locate(recipe.weights)
    check_names(build(recipe.architecture), located.weights, recipe.architecture)
    return f"{located.name}, {located.weight_hash[:19]}…, on this machine"
