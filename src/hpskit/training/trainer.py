"""A training run from data to weights: resumable at any moment, watched, logged, on one device or many."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from hpskit.errors import BrokenImageError
from hpskit.files import alone_in
from hpskit.training.checkpoints import Checkpoint, Checkpoints
from hpskit.training.devices import accelerator_for, peak_memory, random_state, set_random_state
from hpskit.training.engine import Engine
from hpskit.training.estimate import Standing, check_room
from hpskit.training.examples import Batch
from hpskit.training.log import RunLog, tensorboard, wandb
from hpskit.training.material import Material
from hpskit.training.past_run import best_checkpoint
from hpskit.training.processes import StopSignals, any_of, first_says, together, wait_until_seen
from hpskit.training.recipes import Recipe
from hpskit.training.result import Summary, publish_report, publish_result, summary_of
from hpskit.training.run_folder import RunFolder
from hpskit.training.student import Student
from hpskit.training.train_run import TrainRun, open_material, open_stream, settings_of
from hpskit.training.validation import validate
from hpskit.training.watch import Watch

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Progress", "Summary", "TrainRun", "train"]

Progress = Callable[[str, int, int | None, Mapping[str, Any]], None]
"""Is told what is being done, how much of it is done, of how much (None: not known), and the last line of the log."""


_MEASURED = 3
"""Steps after which a run says what it will take; the first of them is slower than the others and does not count."""


def train(
    config: TrainRun,
    progress: Progress = lambda _what, _done, _total, _line: None,
    warn: Callable[[str], None] = lambda _text: None,
) -> Summary:
    """Train, or go on training, until the recipe's steps are done or its patience is at an end.

    Every process of a distributed run calls this.

    Args:
        config: what and where.
        progress: is told how far the run is.
        warn: is told in a sentence what seems to go wrong; each thing once.

    Raises:
        InputError: recipe or data cannot be used, training and validation share prompts or images, or the loss is
            not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM has asked for an end; the step under way was finished and saved.
        OutputError: the folder holds another run, or cannot be written; the last checkpoint stays.
        ModelError: the first weights cannot be had or do not fit.
    """
    accelerator = accelerator_for(config.recipe, config.device, shard=config.shard)
    folder = RunFolder(config.out)
    with together(accelerator):
        folder.check_free(config.resume)
        if accelerator.is_main_process and not folder.summary.is_file():
            check_room(config.recipe, config.out)
        material = open_material(config, lambda done: progress("comparing with validation", done, None, {}))
    with together(accelerator):
        if accelerator.is_main_process:
            _tell_of(material, config.recipe, progress, warn)
    run = _Run(config, folder, material, accelerator, progress, warn)
    with contextlib.ExitStack() as stack:
        with together(accelerator):
            if accelerator.is_main_process:
                stack.enter_context(alone_in(folder.path))
        run.begin()
        found = _finished(accelerator, folder)
        if found is None:
            run.go()
            run.finish()
            found = _finished(accelerator, folder)
    assert found is not None
    return summary_of(folder, found)


def _finished(accelerator: Accelerator, folder: RunFolder) -> dict[str, Any] | None:
    """The summary of a finished run, on every process as the first one sees it."""
    with together(accelerator):
        found = folder.finished() if accelerator.is_main_process else None
    return first_says(accelerator, found)


def _tell_of(material: Material, recipe: Recipe, progress: Progress, warn: Callable[[str], None]) -> None:
    for text in material.omissions():
        warn(text)
    for found in material.describe(recipe, lambda done: progress("describing", done, None, {})):
        for text in found.warnings():
            warn(text)


class _Run:
    """A run that is under way."""

    def __init__(
        self,
        config: TrainRun,
        folder: RunFolder,
        material: Material,
        accelerator: Accelerator,
        progress: Progress,
        warn: Callable[[str], None],
    ) -> None:
        self.config, self.recipe, self.folder = config, config.recipe, folder
        self.material, self.accelerator = material, accelerator
        self.progress, self.warn = progress, warn
        torch.manual_seed(self.recipe.seed + accelerator.process_index)  # of what a network drops
        with together(accelerator):
            self.student = Student.build(self.recipe)
            self.stream = open_stream(
                config, material, self.student, accelerator, lambda done: progress("reading", done, None, {})
            )
            self.settings = settings_of(config, material, self.stream, self.student)
        self.checkpoints = Checkpoints(folder.checkpoints, self.recipe.keep, self.recipe.keep_every)
        self.step, self.worse = 0, 0
        self.replaced: list[str] = []
        """What is to be said of images that were mended."""
        self.best: int | None = None
        self.validated: dict[str, Any] | None = None
        """The figures of the best step."""
        self.paces: list[float] = []
        """Seconds of the first steps of this process."""

    def begin(self) -> None:
        """Write down what this run is, or see that it is the one that is in the folder."""
        with together(self.accelerator):
            if self.accelerator.is_main_process:
                self.replaced = self.folder.begin(self.settings, self.material.listing())
        with together(self.accelerator):
            if not self.accelerator.is_main_process:
                wait_until_seen(self.folder.config)
                self.folder.check_same(self.settings)

    def go(self) -> None:
        """From the last checkpoint, or from the beginning, to the end."""
        self.engine = Engine(self.recipe, self.accelerator, self.student, sharded=self.config.shard)
        self.watch = Watch(self.recipe, self.engine.logit_scale)
        lost = self._restore()
        with contextlib.ExitStack() as stack:
            with together(self.accelerator):
                log = self._open_log(stack, lost) if self.accelerator.is_main_process else None
            try:
                self._loop(log)
            except BrokenImageError as error:  # which `RunFolder.begin` looks for when its image was mended
                if log is not None:
                    line = {"name": "broken image", "text": str(error), "image": error.image}
                    log.write("warning", self.step, line)
                    publish_report(self.folder)
                raise
            with together(self.accelerator):
                if log is not None:
                    self._end(log, "all steps done" if self.step == self.recipe.steps else "patience")
                stack.close()  # here, because a full disk may be found by the curves only now

    def _open_log(self, stack: contextlib.ExitStack, lost: str | None) -> RunLog:
        """The log with its curves; `lost` is to be said of the best checkpoint."""
        log = stack.enter_context(RunLog(self.folder.log, after=self.step))
        if self.step:
            self.checkpoints.tidy(self.best)
        log.sinks += tensorboard(self.folder.path / "tensorboard", after=self.step, wanted=self.config.tensorboard)
        if self.config.wandb:
            log.sinks += wandb(self.folder.path, self.settings)
        self.watch.replay(log.lines)
        log.write("start", self.step, {"time": time.time(), "processes": self.accelerator.num_processes})
        if log.lines:
            left = 0 if self._done() else self.recipe.steps - self.step
            standing = Standing(step=self.step, best_step=self.best, steps_left=left, finished=False)
            line = {"kind": "resume", "text": standing.line(self.recipe.steps)}
            self.progress("resuming", self.step, self.recipe.steps, line)
        found = (("log", log.gap(self.step)), ("best", lost), *(("replaced image", text) for text in self.replaced))
        self._tell(log, [(name, text) for name, text in found if text is not None])
        return log

    def _restore(self) -> str | None:
        """Go back to the last checkpoint; gives what is to be said of the best one."""
        step = first_says(self.accelerator, max(self.checkpoints.steps(), default=0))
        if not step:
            return None
        with together(self.accelerator):
            wait_until_seen(self.checkpoints.path(step))
            last = self.checkpoints.load(step)
            self.stream.restore(last.state["position"])
            best = best_checkpoint(self.folder, last.state)
        self.best, self.validated, lost = first_says(self.accelerator, best)
        self.engine.restore(last.weights, last.training)
        state = last.state
        self.step, self.worse = last.step, state["worse"]
        set_random_state(state["random"][self.accelerator.process_index % len(state["random"])])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        return lost

    def _loop(self, log: RunLog | None) -> None:
        batches = iter(self.stream)
        with StopSignals() as signals:
            while not self._done():
                self._step(batches, log)
                improved = self._validate(log) if self._due(self.recipe.validate_every) else False
                stopped = any_of(self.accelerator, signals.asked)
                if improved or self._due(self.recipe.save_every) or self._done() or stopped:
                    self._save()
                if stopped and not self._done():
                    self._end(log, "stopped")
                    raise KeyboardInterrupt(f"{self.folder.path}: stopped and saved after step {self.step}")
        if self.best is None:  # the checkpoints that were validated were deleted by hand, or the log that says so
            self._validate(log)

    def _step(self, batches: Iterator[Batch], log: RunLog | None) -> None:
        began = time.perf_counter()
        with together(self.accelerator):
            batch = next(batches)
        figures = self.engine.step(batch, self.step)
        self.step += 1
        seconds = time.perf_counter() - began
        with together(self.accelerator):
            if log is not None:
                line = log.write("step", self.step, {**asdict(figures), "seconds": round(seconds, 4)})
                self.progress("training", self.step, self.recipe.steps, line)
                self._tell(log, self.watch.step(line))
                if len(self.paces) < _MEASURED:
                    self.paces.append(seconds)
                    self._foretell(log)

    def _foretell(self, log: RunLog) -> None:
        """Say once what the rest of the run takes, validations not counted, by its first steps."""
        left = self.recipe.steps - self.step
        if len(self.paces) == _MEASURED and left:
            pace = sum(self.paces[1:]) / (_MEASURED - 1)
            figures = {"seconds_per_step": round(pace, 4), "seconds_left": round(pace * left, 1)}
            line = log.write("estimate", self.step, {**figures, "peak_bytes": peak_memory()})
            self.progress("training", self.step, self.recipe.steps, line)

    def _end(self, log: RunLog | None, reason: str) -> None:
        if log is not None:
            log.write("end", self.step, {"time": time.time(), "reason": reason})
            if reason == "stopped":
                publish_report(self.folder)

    def _done(self) -> bool:
        out_of_patience = self.recipe.patience is not None and self.worse >= self.recipe.patience
        return self.step >= self.recipe.steps or out_of_patience

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.recipe.steps

    def _tell(self, log: RunLog, found: Iterable[tuple[str, str]]) -> None:
        for name, text in found:
            log.write("warning", self.step, {"name": name, "text": text})
            self.warn(f"step {self.step}: {text}")

    def _validate(self, log: RunLog | None) -> bool:
        """Whether this is the best step so far."""
        self.progress("validating", self.step, self.recipe.steps, {})
        config, material = self.config, self.material
        found = validate(self.engine, material.validation, config.workers, config.on_broken, material.incomplete)
        figures = first_says(self.accelerator, found.to_json())  # machines may differ in the last digit
        improved = self.validated is None or _worth(figures) > _worth(self.validated)
        self.worse = 0 if improved else self.worse + 1
        if improved:
            self.best, self.validated = self.step, figures
        with together(self.accelerator):
            if log is not None:
                line = log.write("validation", self.step, figures)
                self.progress("training", self.step, self.recipe.steps, line)
                self._tell(log, self.watch.validation(line, found.credit))
        return improved

    def _save(self) -> None:
        """Every process takes part, because each may hold a part of the weights; the first one writes."""
        random = [random_state()]
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            random = gather_object(random)
        weights, training = self.engine.weights(), self.engine.training_state()
        scaler = self.accelerator.scaler
        state = {
            "worse": self.worse,
            "best": self.best,
            "validation": self.validated,
            "position": self.stream.position(),
            "random": random,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }
        with together(self.accelerator):
            if self.accelerator.is_main_process:
                checkpoint = Checkpoint(step=self.step, weights=weights, training=training, state=state)
                self.checkpoints.save(checkpoint, self._metadata())
                publish_report(self.folder)

    def _metadata(self) -> dict[str, str]:
        base = self.settings["base"]
        return {
            "kind": "hps",
            "architecture": self.recipe.architecture,
            "name": self.folder.name,
            "version": f"step {self.step}",
            "licence": base["licence"] if base else "unknown",
        }

    def finish(self) -> None:
        """Publish the best weights with their training record, and say that the run is complete."""
        with together(self.accelerator):
            if self.accelerator.is_main_process:
                assert self.best is not None
                assert self.validated is not None
                publish_result(
                    self.folder,
                    self.checkpoints,
                    self.material,
                    steps=self.step,
                    best=self.best,
                    validation=self.validated,
                )


def _worth(figures: Mapping[str, Any]) -> tuple[float, float]:
    """Of a validation: the highest is the best."""
    return figures["accuracy"]["value"], -figures["loss"]
