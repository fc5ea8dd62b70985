"""A trained network in the layouts of others: the official package, Hugging Face and open_clip, ONNX.

Weights keep their types and values in the first two, and so their weight hash: scores of an exported model have the
identity of the run's.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hpskit import __version__
from hpskit.errors import InputError, OutputError
from hpskit.files import expand, publish, publish_folder, publish_json, read_json
from hpskit.models.checkpoint import file_hash, write_tensors
from hpskit.models.clip import build, check_names, image_size
from hpskit.models.registry import OPEN_CLIP_SAFE_FILE
from hpskit.models.store import Located, locate
from hpskit.models.training_record import record_path
from hpskit.pixels import Preprocessing
from hpskit.training.card import Evaluated, ModelFacts, model_card
from hpskit.training.past_run import PastRun, open_run

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Export", "Exported", "Layout", "export"]

Layout = Literal["official", "huggingface", "onnx"]

_OPEN_CLIP_CONFIG = "open_clip_config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Which weights go where, in which layout."""

    source: Path
    """The folder of a run, or a file of weights."""
    layout: Layout
    out: Path
    """A file for `official`, a folder for the others; it must not exist."""
    checkpoint: str = "best"
    """Of a run: `best`, `last`, or the number of a step."""
    architecture: str | None = None
    """open_clip's name, for a file that does not say it itself."""
    name: str | None = None
    """What to call the model; None keeps its name."""
    licence: str | None = None
    """Under which the weights are given; None says what is known of the weights that the run began with."""
    evaluations: tuple[Path, ...] = ()
    """`result.json` of `hpskit evaluate` with this model, for the model card."""

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise InputError(f"--to: is {self.layout!r}, expected one of {', '.join(get_args(Layout))}")
        if self.evaluations and self.layout != "huggingface":
            raise InputError(f"--evaluation: is for a model card, which {self.layout} has not; leave it out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was made."""

    out: Path
    weight_hash: str
    step: int | None
    """Of the run; None if the source was a file."""
    largest_difference: float | None = None
    """Of a score, between ONNX and torch; None for the other layouts, which hold the same numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subject:
    located: Located
    architecture: str
    name: str
    licence: str
    run: PastRun | None
    step: int | None


def export(config: Export) -> Exported:
    """Write a trained network in another layout, whole or not at all.

    Raises:
        InputError: the source is no run and no file of weights, or an evaluation is of another model.
        CheckpointError: the weights are not those of a CLIP of that architecture.
        MissingExtraError: ONNX is wanted but not installed.
        OutputError: something stands at `out`, it cannot be written, or what was written is not what it should be.
    """
    subject = _subject(config)
    network = build(subject.architecture)
    check_names(network, subject.located.weights, subject.architecture)
    if config.out.exists():
        raise OutputError(f"{config.out}: exists, expected a new name; remove it or choose another")
    match config.layout:
        case "official":
            _official(subject, config.out)
        case "huggingface":
            _huggingface(subject, config, image_size(network))
        case "onnx":
            from hpskit.training.onnx_export import write_onnx  # needs an extra

            return _exported(subject, config.out, write_onnx(subject.located, subject.architecture, config.out))
    return _exported(subject, config.out)


def _exported(subject: _Subject, out: Path, difference: float | None = None) -> Exported:
    return Exported(out=out, weight_hash=subject.located.weight_hash, step=subject.step, largest_difference=difference)


def _subject(config: Export) -> _Subject:
    source = expand(config.source)
    run, step = None, None
    if source.is_dir():
        run = open_run(source)
        source, step = run.weights(config.checkpoint)
    located = locate(source)
    own = located.metadata.get("architecture")
    if own and config.architecture and own != config.architecture:
        raise InputError(f"--arch: is {config.architecture!r}, but {source} is a {own}; leave the option out")
    architecture = own or config.architecture
    if architecture is None:
        raise InputError(f"{source}: does not say what network it is of; give open_clip's name by --arch")
    if (kind := located.metadata.get("kind", "hps")) != "hps":
        raise InputError(
            f"{source}: is a model of the kind {kind!r}, expected a CLIP; it needs no export, copy the file"
        )
    return _Subject(
        located=located,
        architecture=architecture,
        name=config.name or located.name,
        licence=config.licence or located.metadata.get("licence", "unknown"),
        run=run,
        step=step,
    )


def _state(located: Located) -> dict[str, Tensor]:
    return dict(located.weights.tensors())


def _official(subject: _Subject, out: Path) -> None:
    """A pickle with the key `state_dict`, as `hpsv2.score(…, cp=…)` reads it."""
    import torch

    if out.suffix != ".pt":
        raise InputError(f"--out: is {out}, expected a file that ends in .pt, as the official ones do")
    with publish(out, sweep=True) as temporary:
        torch.save({"state_dict": _state(subject.located)}, temporary)
    found = file_hash(out)
    if found != subject.located.weight_hash:
        out.unlink()
        raise OutputError(f"{out}: read back it is {found}, expected {subject.located.weight_hash}; check the disk")
    _copy_record(subject, out)


def _huggingface(subject: _Subject, config: Export, size: int) -> None:
    """Weights, open_clip's configuration and a model card in one folder."""
    evaluated = [figure for path in config.evaluations for figure in _figures(path, subject.located.weight_hash)]
    metadata = {"kind": "hps", "architecture": subject.architecture, "name": subject.name, "licence": subject.licence}
    metadata["version"] = subject.located.metadata.get("version", "local")
    facts = ModelFacts(
        name=subject.name,
        architecture=subject.architecture,
        licence=subject.licence,
        weight_hash=subject.located.weight_hash,
        size=size,
        logit_scale=_logit_scale(subject.located),
        step=subject.step,
        package=f"hpskit {__version__}",
    )
    with publish_folder(config.out) as folder:
        weights = folder / OPEN_CLIP_SAFE_FILE
        write_tensors(_state(subject.located), weights, metadata)
        _copy_record(subject, weights)
        publish_json(folder / _OPEN_CLIP_CONFIG, _open_clip_config(subject.architecture, size))
        (folder / "README.md").write_text(model_card(facts, subject.run, evaluated), encoding="utf-8")


def _open_clip_config(architecture: str, size: int) -> dict[str, Any]:
    """What open_clip reads beside weights: the network, and the preprocessing nearest to that of hpskit."""
    import open_clip

    seen = Preprocessing(size=size)
    return {
        "model_cfg": open_clip.get_model_config(architecture),
        "preprocess_cfg": {
            "size": size,
            "mode": "RGB",
            "mean": seen.mean,
            "std": seen.std,
            "interpolation": seen.interpolation,
            "resize_mode": "longest",
            "fill_color": 0,
        },
    }


def _logit_scale(located: Located) -> float:
    return math.exp(float(next(tensor for name, tensor in located.weights.tensors() if name == "logit_scale")))


def _copy_record(subject: _Subject, target: Path) -> None:
    """What the model has seen goes with it. A run keeps it beside its final weights, which are those of one step."""
    source = record_path(subject.located.weights.origin)
    if subject.run is not None:
        source = record_path(subject.run.folder.model)
        if source.is_file() and (record := read_json(source)).get("weight_hash") != subject.located.weight_hash:
            # another checkpoint of the run: it has seen the same prompts, and nobody has measured it
            publish_json(record_path(target), {**record, "weight_hash": subject.located.weight_hash, "held_out": None})
            return
    if source.is_file():
        shutil.copyfile(source, record_path(target))


def _figures(path: Path, weight_hash: str) -> list[Evaluated]:
    """The accuracies of a model in a `result.json` of `hpskit evaluate`.

    Raises:
        InputError: it is no such file, or of other weights.
    """
    result = read_json(path)
    if not isinstance(result, Mapping) or "scorers" not in result or "rules" not in result:
        raise InputError(f"{path}: is not the result of an evaluation; give the result.json of `hpskit evaluate`")
    found = [row for row in result["scorers"] if row["info"]["weight_hash"] == weight_hash]
    if not found:
        cure = "evaluate the model that is exported"
        raise InputError(f"{path}: has no scorer with the weights {weight_hash[:19]}…; {cure}")
    rule = result["settings"]["rule"]
    figure = found[0]["accuracy"][rule]
    return [
        Evaluated(
            data=result["data"]["name"],
            rule=rule,
            value=figure["value"],
            low=figure["low"],
            high=figure["high"],
            groups=result["data"]["groups"],
            seen=found[0]["training"]["seen"],
        )
    ]
