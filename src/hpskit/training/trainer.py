"""A training run from data to weights: resumable at any moment, watched, logged, on one device or many."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hpskit.files import publish, publish_json, read_json
from hpskit.models.training_record import HeldOut, write_record
from hpskit.training.checkpoints import Checkpoint, Checkpoints
from hpskit.training.devices import accelerator_for, random_state, set_random_state
from hpskit.training.engine import Engine
from hpskit.training.examples import OnBroken, Stream
from hpskit.training.log import RunLog, log_lines, tensorboard, wandb
from hpskit.training.material import Material, read_material
from hpskit.training.recipes import Recipe
from hpskit.training.report import report_page
from hpskit.training.run_folder import RunFolder
from hpskit.training.student import Student
from hpskit.training.validation import validate
from hpskit.training.watch import Watch

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Progress", "Summary", "TrainRun", "train"]

Progress = Callable[[str, int, int | None, Mapping[str, Any]], None]
"""Is told what is being done, how much of it is done, of how much (None: not known), and the last line of the log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRun:
    """What to train on which data, and where to put it."""

    recipe: Recipe
    data: tuple[str, ...]
    """Data sets to learn from, each alone or with `:RATIO`, its share of the pairs; see
    `hpskit.dataset.reading.open_data`."""
    validation: str
    """Data set that checkpoints are compared on."""
    out: Path
    """Folder of the run."""
    resume: bool = False
    """Go on with the run in `out` if there is one."""
    drop_leaks: bool = False
    """Leave training groups out that share prompts or images with the validation data; else they are an error."""
    on_broken: OnBroken = "fail"
    """What becomes of a group with an image that cannot be used."""
    workers: int | None = None
    """Threads of each process that decode; None is one for each processor, at most eight."""
    device: str = "auto"
    """`auto` is a GPU if there is one; `cpu`."""
    tensorboard: bool | None = None
    """Curves for TensorBoard; None is if it is installed."""
    wandb: bool = False
    """Curves for Weights & Biases."""
    command: str = ""
    """How to make this again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has made."""

    out: Path
    model: Path
    """The weights of the best checkpoint."""
    steps: int
    """Steps done; fewer than the recipe's if patience ran out."""
    best_step: int
    validation: Mapping[str, Any]
    """Of the best step; see `Validation.to_json`."""
    weight_hash: str


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
        OutputError: the folder holds another run, or cannot be written; the last checkpoint stays.
        ModelError: the first weights cannot be had or do not fit.
    """
    accelerator = accelerator_for(config.recipe, config.device)
    folder = RunFolder(config.out)
    folder.check_free(config.resume)
    material = read_material(
        config.data,
        config.validation,
        drop_leaks=config.drop_leaks,
        progress=lambda done: progress("comparing with validation", done, None, {}),
    )
    if accelerator.is_main_process:
        if material.without:
            warn(f"{len(material.without):,} training groups are left out: they share prompts or images with --val")
        for found in material.describe(lambda done: progress("describing", done, None, {})):
            for text in found.warnings():
                warn(text)
    run = _Run(config, folder, material, accelerator, progress, warn)
    if folder.finished() is None:
        run.go()
        run.finish()
    return _summary(folder)


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
        torch.manual_seed(self.recipe.seed)
        self.student = Student.build(self.recipe)
        self.stream = Stream(
            material.sources,
            preprocessing=self.student.preprocessing,
            pairs=self.recipe.batch,
            seed=self.recipe.seed,
            workers=config.workers,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            on_broken=config.on_broken,
            without=material.without,
            progress=lambda done: progress("reading", done, None, {}),
        )
        settings = material.settings(self.recipe, self.stream, self.student)
        self.settings = {**settings, "on_broken": config.on_broken, "command": config.command}
        accelerator.wait_for_everyone()  # all have seen the folder as it was
        if accelerator.is_main_process:
            folder.begin(self.settings)
        self.checkpoints = Checkpoints(folder.checkpoints, self.recipe.keep)
        self.step, self.worse = 0, 0
        self.best: int | None = None
        self.best_score = [-1.0, 0.0]
        self.validated: dict[str, Any] | None = None
        """The figures of the best step."""

    @property
    def _name(self) -> str:
        return self.folder.path.resolve().name

    def go(self) -> None:
        """From the last checkpoint, or from the beginning, to the end."""
        self.engine = Engine(self.recipe, self.accelerator, self.student)
        self.watch = Watch(self.recipe, self.engine.logit_scale)
        self._restore()
        if not self.accelerator.is_main_process:
            self._loop(None)
            return
        sinks = tensorboard(self.folder.path / "tensorboard", after=self.step, wanted=self.config.tensorboard)
        if self.config.wandb:
            sinks += wandb(self.folder.path, self.settings)
        with RunLog(self.folder.log, after=self.step, sinks=sinks) as log:
            self.watch.replay(log.lines)
            log.write("start", self.step, {"time": time.time(), "processes": self.accelerator.num_processes})
            self._loop(log)
            reason = "all steps done" if self.step == self.recipe.steps else "patience"
            log.write("end", self.step, {"time": time.time(), "reason": reason})

    def _restore(self) -> None:
        last = self.checkpoints.last()
        if last is None:
            return
        state = last.state
        if self.accelerator.is_main_process:
            self.checkpoints.tidy(state["best"])
        self.engine.restore(last.weights, last.training)
        self.stream.restore(state["position"])
        self.step, self.worse, self.best = last.step, state["worse"], state["best"]
        self.best_score, self.validated = state["best_score"], state["validation"]
        set_random_state(state["random"][self.accelerator.process_index % len(state["random"])])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _loop(self, log: RunLog | None) -> None:
        batches = iter(self.stream)
        while not self._done():
            began = time.perf_counter()
            figures = self.engine.step(next(batches), self.step)
            self.step += 1
            seconds = time.perf_counter() - began
            if log is not None:
                line = log.write("step", self.step, {**asdict(figures), "seconds": round(seconds, 4)})
                self.progress("training", self.step, self.recipe.steps, line)
                self._tell(log, self.watch.step(line))
            improved = self._validate(log) if self._due(self.recipe.validate_every) else False
            if improved or self._due(self.recipe.save_every) or self._done():
                self._save()

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
        found = validate(self.engine, self.material.validation, self.config.workers, self.config.on_broken)
        score = [found.accuracy.value, -found.loss]
        improved = score > self.best_score
        self.worse = 0 if improved else self.worse + 1
        if improved:
            self.best, self.best_score, self.validated = self.step, score, found.to_json()
        if log is not None:
            line = log.write("validation", self.step, found.to_json())
            self.progress("training", self.step, self.recipe.steps, line)
            self._tell(log, self.watch.validation(found.credit))
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
            "best_score": self.best_score,
            "validation": self.validated,
            "position": self.stream.position(),
            "random": random,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }
        if self.accelerator.is_main_process:
            checkpoint = Checkpoint(step=self.step, weights=weights, training=training, state=state)
            self.checkpoints.save(checkpoint, self._metadata())
        self.accelerator.wait_for_everyone()

    def _metadata(self) -> dict[str, str]:
        base = self.settings["base"]
        return {
            "kind": "hps",
            "architecture": self.recipe.architecture,
            "name": self._name,
            "version": f"step {self.step}",
            "licence": base["licence"] if base else "unknown",
        }

    def finish(self) -> None:
        """Publish the best weights with their training record, and say that the run is complete."""
        if self.accelerator.is_main_process:
            assert self.best is not None
            assert self.validated is not None
            with publish(self.folder.model, sweep=True) as temporary:
                shutil.copyfile(self.checkpoints.model(self.best), temporary)
            digest = self.checkpoints.load(self.best).state["weight_hash"]
            data = ", ".join(source.data.name for source in self.material.sources)
            held_out = HeldOut(
                rule="ties-half",
                **self.validated["accuracy"],
                source=f"{self.material.validation.name}, on which the checkpoint was chosen too",
            )
            write_record(
                self.folder.model,
                weight_hash=digest,
                data=data,
                prompts=self.material.prompts(),
                held_out=held_out,
            )
            summary = {
                "steps": self.step,
                "best_step": self.best,
                "validation": self.validated,
                "weight_hash": digest,
            }
            page = report_page(self._name, read_json(self.folder.config), log_lines(self.folder.log))
            with publish(self.folder.report) as temporary:
                temporary.write_text(page, encoding="utf-8")
            publish_json(self.folder.summary, summary)
        self.accelerator.wait_for_everyone()


def _summary(folder: RunFolder) -> Summary:
    value = folder.finished()
    assert value is not None
    return Summary(
        out=folder.path,
        model=folder.model,
        steps=value["steps"],
        best_step=value["best_step"],
        validation=value["validation"],
        weight_hash=value["weight_hash"],
    )
