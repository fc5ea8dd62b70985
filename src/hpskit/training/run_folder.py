"""The folder of a run: settings, log, checkpoints, result. What is read back is what was written, or an error.

config.json           recipe, data, first weights, versions
log.jsonl             a line for each step and validation, each with a hash of itself and all before it
checkpoints/          a folder for each, there whole or not at all:
  step-000200/          model.safetensors: the network as it is validated; `hpskit score --model` reads it
                        training.safetensors: AdamW's state, and the weights behind a moving average
                        state.json: the rest that the next step depends on, and hashes of the other two
model.safetensors     the best checkpoint's weights
model.training.json   hashes of the prompts, so that an evaluation can say what the model has seen and was chosen on
report.html           see `hpskit.training.report`
summary.json          written last: it says that the rest is complete
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import Field
from torch import Tensor

from hpskit.errors import CheckpointError, InputError, OutputError, need, shown
from hpskit.files import explain, publish, publish_folder, publish_json, read_json
from hpskit.models.checkpoint import file_hash, read_tensors, write_tensors
from hpskit.schema import Strict, parse
from hpskit.stage import check_same_run
from hpskit.training.recipes import Recipe

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

M = TypeVar("M", bound=Strict)

Line = Mapping[str, Any]
"""A line of the log: `kind`, `step` (steps done), and the fields of its kind."""

_STEP = re.compile(r"step-(\d{6,})")
_WEIGHTS, _TRAINING = "model.safetensors", "training.safetensors"
_NO_LOG = "bring the file again, or begin in another folder"
_POLICY = {"save_every", "keep", "keep_every"}
"""Fields of the recipe that decide which checkpoints are there, and not what is learned."""
_CURVES = {
    "step": ("loss", "accuracy", "lr", "logit_scale", "gradient_norm"),
    "validation": ("loss", "accuracy", "hpdv2"),
}


class DataFacts(Strict):
    """A data set, as far as the run uses it."""

    name: str
    path: str
    format: str
    groups: int
    pairs: int
    digest: str
    """SHA-256 over prompts, names of images, judgements and weights."""
    ratio: float | None = None
    """Its share of the pairs that are learned from, if that was given."""


class FirstWeights(Strict):
    """The weights that a run begins with."""

    name: str
    weight_hash: str
    licence: str


class RunConfig(Strict):
    """Settings that a run was started with; the content of `config.json`."""

    format: Literal["hpskit training run 1"] = "hpskit training run 1"
    recipe: Recipe
    data: Annotated[tuple[DataFacts, ...], Field(strict=False)]
    validation: Annotated[tuple[DataFacts, ...], Field(strict=False)]
    left_out: Annotated[tuple[str, ...], Field(strict=False)]
    """Sentences on the groups that the run does not use, and why."""
    base: FirstWeights | None
    """None if they were drawn."""
    parameters: dict[str, int]
    """`trained` and `all`."""
    preprocessing: str
    package: str
    versions: dict[str, str]
    on_broken: str
    command: str

    def decisive(self) -> dict[str, Any]:
        """Return what decides the result, by a flat name."""
        flat = {f"recipe.{name}": value for name, value in self.recipe.model_dump(mode="json", exclude=_POLICY).items()}
        for number, facts in enumerate(self.data, 1):
            flat |= {f"data {number}: digest": facts.digest, f"data {number}: ratio": facts.ratio}
        flat |= {f"validation {number}: digest": facts.digest for number, facts in enumerate(self.validation, 1)}
        return {**flat, "first weights": self.base and self.base.weight_hash}


class TrainState(Strict):
    """All but tensors that the next step depends on; the content of `state.json`."""

    format: Literal["hpskit training state 3"] = "hpskit training state 3"
    step: int = 0
    """Steps done."""
    log: str = ""
    """`check` of the last line of the log."""
    best: int | None = None
    """The best step so far."""
    validation: dict[str, Any] | None = None
    """Figures of the best step."""
    worse: int = 0
    """Validations since then."""
    position: dict[str, list[int]] = Field(default_factory=dict)
    """In the data, see `DataLoader.state_dict`."""
    random: list[dict[str, str]] = Field(default_factory=list)
    """Random numbers of each process."""
    scaler: dict[str, Any] | None = None
    """Scale of the loss, with fp16."""
    hashes: dict[str, str] = Field(default_factory=dict)
    """File of tensors -> its hash."""

    digest: str = ""
    """SHA-256 of all other fields."""

    def digest_of(self) -> str:
        """Compute the digest."""
        text = json.dumps(self.model_dump(exclude={"digest"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def changed(self, **fields: Any) -> Self:
        """Return the same state with other fields."""
        return self.model_copy(update=fields)

    def standing(self, recipe: Recipe) -> str:
        """Say where a run stands that goes on."""
        if not self.step:
            return "resume: the run has no checkpoint yet and begins anew"
        best = "" if self.best is None else f", the best so far is step {self.best:,}"
        return f"resume: goes on behind step {self.step:,} of {recipe.steps:,}{best}"


class Summary(Strict):
    """Result of a finished run; the content of `summary.json`."""

    steps: int
    """Steps done; fewer than the recipe's if patience ran out."""
    best_step: int
    validation: dict[str, Any]
    """Figures of the best step, see `validate`."""
    weight_hash: str
    """Hash of its weights."""


class RunFolder:
    """One run on disk, begun, stopped or finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.log_file = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.safetensors"
        self.report = path / "report.html"
        self.summary_file = path / "summary.json"

    @property
    def name(self) -> str:
        """Name of the run."""
        return Path(os.path.realpath(self.path)).name

    def check_free(self, resume: bool) -> None:
        """See that a run may write here.

        Raises:
            OutputError: another run is here and shall not go on, or something else is.
        """
        if self.config_file.is_file():
            if not resume:
                cure = "--resume goes on with it; or choose another folder"
                raise OutputError(self.path, "holds a run already", cure=cure)
        elif self.path.exists():  # a run that was killed while it wrote its first file leaves a half-written one
            first = ".config.json."
            if not self.path.is_dir() or any(not found.name.startswith(first) for found in self.path.iterdir()):
                raise OutputError(self.path, "is not empty and not a run", cure="choose another folder")

    def begin(self, config: RunConfig) -> None:
        """Write down what a new run is started with, or see that a started one goes on with the same.

        Which checkpoints are saved and kept may change, and what becomes of broken images.

        Raises:
            OutputError: it would go on with something else; or it cannot be written.
        """
        if not self.config_file.is_file():
            publish_json(self.config_file, config.model_dump(mode="json"))
            return
        cure = "put back what the run wrote there, or choose another folder"
        before = read_back(RunConfig, self.config_file, OutputError, cure).decisive()
        cure = "resume with what the run was started with, or start a new one in another folder"
        check_same_run(self.path, before, dict.fromkeys(before) | config.decisive(), cure=cure)

    def config(self) -> RunConfig:
        """Read what the run was started with.

        Raises:
            InputError: this is not the folder of a training run.
        """
        if not self.config_file.is_file():
            expected = "the folder that `hpskit train --out` made"
            raise InputError(self.path, "holds no config.json", expected=expected)
        return parse(RunConfig, read_json(self.config_file), self.config_file)

    def log(self) -> list[dict[str, Any]]:
        """Read the log of a run that may still be going on; a line that is being written is left out.

        Raises:
            InputError: a line is not as it was written, or one before it was changed, moved or removed.
        """
        data = self.log_file.read_bytes() if self.log_file.is_file() else b""
        lines, check = list[dict[str, Any]](), ""
        for number, text in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
            try:
                line = json.loads(text)
                check = check_of(line, check)
            except (ValueError, AttributeError, RecursionError):
                line = {}
            if line.get("check") != check:
                place, expected = f"{self.log_file}: line {number}", "the line that the run wrote there"
                raise InputError(place, f"is {shown(text)}", expected=expected, cure=_NO_LOG)
            lines.append(line)
        return lines

    def finished(self) -> Summary | None:
        """Return the summary of a run that is complete, else None.

        Raises:
            OutputError: it is damaged, or the weights that it speaks of are gone.
        """
        if not self.summary_file.is_file():
            return None
        cure = f"delete {self.summary_file}, and --resume makes it again from the checkpoints"
        summary = read_back(Summary, self.summary_file, OutputError, cure)
        if not self.model.is_file():
            raise OutputError(self.model, "is not there, but the run is finished", cure=cure)
        return summary

    def steps(self) -> list[int]:
        """List the steps whose checkpoints are there, in order."""
        found = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
        return sorted(int(match[1]) for path in found if (match := _STEP.fullmatch(path.name)))

    def checkpoint(self, step: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.checkpoints / f"step-{step:06d}"

    def weights(self, checkpoint: str = "best") -> tuple[Path, int]:
        """Find the weights after some step, and that step.

        Args:
            checkpoint: `best` by validation, `last`, or the number of a step.

        Raises:
            InputError: there is no such checkpoint.
            CheckpointError, OutputError: the file that says which is the best is damaged.
        """
        steps = self.steps()
        step = int(checkpoint) if checkpoint.isdecimal() else max(steps, default=None)
        if checkpoint == "best" and step is not None:
            summary = self.finished()
            step = summary.best_step if summary else self.state(step).best
        if step not in steps or not (checkpoint.isdecimal() or checkpoint in ("best", "last")):
            expected = ", ".join(["best", "last", *map(str, steps)]) if steps else "one, but none was saved yet"
            raise InputError(self.path, f"has no checkpoint {checkpoint!r}", expected=expected)
        return self.checkpoint(step) / _WEIGHTS, step

    def state(self, step: int) -> TrainState:
        """Read the state of a checkpoint, without a look at its tensors.

        Raises:
            CheckpointError: it is not what was written.
        """
        path = self.checkpoint(step) / "state.json"
        state = read_back(TrainState, path, CheckpointError, without(path.parent))
        if state.digest != state.digest_of():
            raise CheckpointError(path, "is not as it was written", cure=without(path.parent))
        if state.step != step:
            raise CheckpointError(path, f"is the state of step {state.step}", cure=without(path.parent))
        return state

    def load(self, step: int) -> tuple[TrainState, dict[str, Tensor], dict[str, Tensor]]:
        """Read a checkpoint, every byte of it: state, weights and the tensors of training, memory-mapped.

        Raises:
            CheckpointError: it is not what was written.
        """
        state, folder = self.state(step), self.checkpoint(step)
        for path in (folder / _WEIGHTS, folder / _TRAINING):
            try:
                found = file_hash(path)
            except CheckpointError as error:
                raise CheckpointError(path, f"cannot be read ({error.found})", cure=without(folder)) from error
            if found != state.hashes.get(path.name):
                raise CheckpointError(path, "is not as it was written", cure=without(folder))
        return state, read_tensors(folder / _WEIGHTS), read_tensors(folder / _TRAINING)

    def save(
        self,
        state: TrainState,
        weights: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        metadata: Mapping[str, str],
    ) -> None:
        """Publish a checkpoint: weights as they are validated, with metadata, and what the next step needs besides.

        Raises:
            OutputError: it cannot be written; what was there before is still there.
        """
        with publish_folder(self.checkpoint(state.step)) as folder:
            hashes = {
                _WEIGHTS: write_tensors(weights, folder / _WEIGHTS, metadata),
                _TRAINING: write_tensors(training, folder / _TRAINING, {}),
            }
            state = state.changed(hashes=hashes)
            publish_json(folder / "state.json", state.changed(digest=state.digest_of()).model_dump())

    def tidy(self, recipe: Recipe, best: int | None) -> None:
        """Remove checkpoints that need not be kept, and what killed processes have left.

        Raises:
            OutputError: the folder cannot be written.
        """
        for left in self.checkpoints.glob(".step-*.tmp"):  # of any step: a run that goes on may save at others
            shutil.rmtree(left, ignore_errors=True)
        steps = self.steps()
        kept = {*steps[-recipe.keep :], best}
        if recipe.keep_every is not None:
            kept |= {step for step in steps if step % recipe.keep_every == 0}
        for step in (step for step in steps if step not in kept):
            path = self.checkpoint(step)
            doomed = path.with_name(f".{path.name}.old.tmp")  # so that a kill halfway leaves nothing like a checkpoint
            try:
                path.rename(doomed)
                shutil.rmtree(doomed)
            except OSError as error:
                found = f"is an old checkpoint that cannot be removed ({explain(error)})"
                raise OutputError(path, found, cure="remove it") from error


def without(folder: Path) -> str:
    """Return the cure of a checkpoint that is not what was written."""
    return f"delete {folder} and all later checkpoints, and --resume goes on from the one before, if there is one"


def read_back(model: type[M], path: Path, error: type[OutputError | CheckpointError], cure: str) -> M:
    """Read what a run wrote; `error` is raised if it is something else."""
    try:
        return parse(model, read_json(path), path)
    except InputError as wrong:
        raise error(wrong.place, wrong.found, expected=wrong.expected, cure=cure) from wrong


def check_of(line: Line, before: str) -> str:
    """Return the `check` of a line of the log, which holds the one `before` it too.

    Raises:
        ValueError: a figure is not finite.
    """
    fields = {name: value for name, value in line.items() if name != "check"}
    return hashlib.sha256((before + json.dumps(fields, allow_nan=False)).encode()).hexdigest()[:16]


def lines_of(log: Iterable[Line], kind: str) -> list[Line]:
    """Pick the lines of one kind."""
    return [line for line in log if line["kind"] == kind]


def best_validation(log: Iterable[Line]) -> Line | None:
    """Find the validation that the best checkpoint is of: the highest accuracy; of equals the lowest loss, the first.

    None if there was none.
    """
    found = lines_of(log, "validation")
    return min(found, key=lambda line: (-line["accuracy"]["value"], line["loss"]), default=None)


class RunLog:
    """Writes the lines of a run; a line is on the disk when `write` returns. No step is there twice."""

    def __init__(self, folder: RunFolder, state: TrainState, trackers: Iterable[GeneralTracker] = ()) -> None:
        """Open the log and take back lines of later steps; `trackers` get the curves and are closed with it."""
        self.lines = [line for line in folder.log() if line["step"] <= state.step]
        """Lines that earlier parts of the run have written, up to that step."""
        if state.log and state.log not in {line["check"] for line in self.lines}:
            found = f"has lost its last lines from before the checkpoint of step {state.step:,}"
            raise InputError(folder.log_file, found, cure=_NO_LOG)
        self.check: str = self.lines[-1]["check"] if self.lines else ""
        """`check` of the last line."""
        self._folder, self._trackers = folder, trackers
        with publish(folder.log_file) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
        self._handle = folder.log_file.open("ab")

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Add a line and return it.

        Raises:
            OutputError: it cannot be written.
        """
        line = {"kind": kind, "step": step, **values}
        line["check"] = self.check = check_of(line, self.check)
        with writing(self._folder.log_file):
            self._handle.write(json.dumps(line).encode() + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())
        drawn = {f"{kind}/{name}": line[name] for name in _CURVES.get(kind, ()) if line[name] is not None}
        numbers = {name: float(v["value"] if isinstance(v, Mapping) else v) for name, v in drawn.items()}
        with writing(self._folder.path / "tensorboard"):
            for tracker in self._trackers if numbers else ():
                tracker.log(numbers, step=step)
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a flush that failed in `write` has been reported there
            self._handle.close()
        with writing(self._folder.path / "tensorboard"):
            for tracker in self._trackers:
                tracker.finish()


def open_trackers(folder: RunFolder, *, after: int, wanted: bool | None) -> list[GeneralTracker]:
    """Open TensorBoard behind the step `after`; `wanted` None is if it is installed.

    Raises:
        MissingExtraError: it is asked for but not installed.
        OutputError: the folder cannot be written.
    """
    from accelerate.tracking import TensorBoardTracker

    if wanted is False or (wanted is None and find_spec("tensorboard") is None):
        return []
    need("tensorboard", "--tensorboard", "train")
    with writing(folder.path / "tensorboard"):
        tracker = TensorBoardTracker("tensorboard", folder.path, purge_step=after + 1)
        tracker.start()
    return [tracker]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an operating system error into one that names the file."""
    try:
        yield
    except OSError as error:
        cure = "what was written before is safe; make room and run the same command with --resume"
        raise OutputError(path, f"cannot be written ({explain(error)})", cure=cure) from error
