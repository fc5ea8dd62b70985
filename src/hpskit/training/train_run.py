"""What a training run is asked to do, and what follows from it: its batches, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.training.examples import Loader, OnBroken, Stream
from hpskit.training.material import Material, read_material
from hpskit.training.recipes import Recipe
from hpskit.training.student import Student

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["TrainRun", "open_material", "open_stream", "settings_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRun:
    """What to train on which data, and where to put it."""

    recipe: Recipe
    data: tuple[str, ...]
    """Data sets to learn from, each alone or with `:RATIO`, its share of the pairs; see
    `hpskit.dataset.reading.open_data`."""
    validation: str
    """Data set that checkpoints are compared on."""
    data_format: str = "auto"
    """Layout of all these data sets; see `hpskit.dataset.reading.open_data`."""
    image_root: Path | None = None
    """Folder that the image names of all of them start from; None is as their layout says."""
    out: Path
    """Folder of the run."""
    resume: bool = False
    """Go on with the run in `out` if there is one."""
    drop_leaks: bool = False
    """Leave training groups out that share prompts or images with the validation data; else they are an error."""
    compare_pixels: bool = False
    """Decode all images first, to find those that training and validation share, however they are stored."""
    on_broken: OnBroken = "fail"
    """What becomes of a group with an image that cannot be used."""
    shard: bool = False
    """Spread weights and optimiser over the processes instead of giving each a copy; the result is the same."""
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


def open_material(config: TrainRun, progress: Callable[[int], None] = lambda _: None) -> Material:
    """The data of a run; see `read_material`."""
    return read_material(
        config.data,
        config.validation,
        data_format=config.data_format,
        image_root=config.image_root,
        drop_leaks=config.drop_leaks,
        compare_pixels=config.compare_pixels,
        on_broken=config.on_broken,
        progress=progress,
    )


def open_stream(
    config: TrainRun,
    material: Material,
    student: Student,
    accelerator: Accelerator | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Stream:
    """What a process of a run learns from, in order.

    Args:
        config: of the run.
        material: its data.
        student: its network, of which the preprocessing counts.
        accelerator: says which process of how many this is; None is the only one.
        progress: is told how many groups have been read.

    Raises:
        InputError, RecordError: the data cannot be learned from.
    """
    loader = Loader(
        preprocessing=student.preprocessing,
        workers=config.workers,
        on_broken=config.on_broken,
        rating=config.recipe.rated,
        rank=accelerator.process_index if accelerator else 0,
        world=accelerator.num_processes if accelerator else 1,
    )
    return Stream(
        material.sources,
        loader,
        pairs=config.recipe.batch,
        seed=config.recipe.seed,
        without=material.without,
        progress=progress,
    )


def settings_of(config: TrainRun, material: Material, stream: Stream, student: Student) -> dict[str, Any]:
    """What `config.json` says of a run, beside its format."""
    settings = material.settings(config.recipe, stream, student)
    return {**settings, "on_broken": config.on_broken, "command": config.command}
