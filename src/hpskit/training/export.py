"""A trained network in the layouts of others: the official package, Hugging Face and open_clip, ONNX.

Weights keep their types and values in the first two, and so their weight hash: scores of an exported model have the
identity of the run's. A folder of ONNX holds

    image.onnx    pixels (N, 3, S, S) float32, preprocessed -> features (N, D) float32 of unit length
    text.onnx     tokens (M, context) int64 -> features (M, D) float32 of unit length
    model.json    what a program needs to use them, and how far their scores are from torch's; written last

A score is 100 x the product of the two features. Weights lie beside each file (`image.onnx.data`), because a large
network does not fit into one of ONNX.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hpskit import __version__
from hpskit.errors import InputError, OutputError, need
from hpskit.files import expand, publish, publish_folder, publish_json, read_json, sha256_file
from hpskit.models.architecture import build, fill, image_size, tokenizer
from hpskit.models.checkpoint import check_names, file_hash, write_tensors
from hpskit.models.registry import MODELS, OPEN_CLIP_SAFE_FILE
from hpskit.models.store import Located, locate
from hpskit.models.training_record import record_path
from hpskit.pages.page import environment
from hpskit.pixels import Preprocessing
from hpskit.training.run_folder import RunFolder, lines_of

Layout = Literal["official", "huggingface", "onnx"]

_TOLERANCE = 0.01
"""Points of a score that ONNX may differ from torch: a tenth of what decides between close models."""
_EXAMPLES = ("a cat", "two dogs on a hill, oil painting", "", "a very long prompt, " * 40)


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Settings of an export: weights, target and layout."""

    source: Path
    """The folder of a run, or a file of weights."""
    layout: Layout
    out: Path
    """A file for `official`, a folder for the others; it must not exist."""
    checkpoint: str = "best"
    """Checkpoint of a run: `best`, `last`, or the number of a step."""
    architecture: str | None = None
    """open_clip's name, for a file that does not say it itself."""
    name: str | None = None
    """Name of the model; None keeps it."""
    licence: str | None = None
    """Licence of the weights; None says what is known of the weights that the run began with."""
    evaluations: tuple[Path, ...] = ()
    """`result.json` of `hpskit evaluate` with this model, for the model card."""

    def __post_init__(self) -> None:
        if self.layout not in get_args(Layout):
            raise InputError("--to", f"is {self.layout!r}", expected=f"one of {', '.join(get_args(Layout))}")
        if self.evaluations and self.layout != "huggingface":
            raise InputError("--evaluation", f"is for a model card, which {self.layout} has not", cure="leave it out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """Files that an export has made."""

    out: Path
    weight_hash: str
    step: int | None
    """None if the source was a file."""
    largest_difference: float | None = None
    """Points between scores of ONNX and torch; None for the other layouts, which hold the same numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """The model that is exported."""

    located: Located
    architecture: str
    network: Any
    """open_clip's, without weights."""
    run: RunFolder | None
    step: int | None

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor under open_clip's names."""
        return dict(self.located.weights.tensors())

    def copy_record(self, target: Path) -> None:
        """Let the record of what the model has seen go with it.

        A run keeps it beside its final weights. Another checkpoint of the run has seen the same prompts, and nobody has
        measured it.
        """
        digest = self.located.weight_hash
        source = record_path(self.run.model if self.run else self.located.weights.origin)
        if self.run and source.is_file() and (record := read_json(source)).get("weight_hash") != digest:
            publish_json(record_path(target), {**record, "weight_hash": digest, "held_out": None})
        elif source.is_file():
            shutil.copyfile(source, record_path(target))


def export(config: Export) -> Exported:
    """Write a trained network in another layout, whole or not at all.

    Raises:
        InputError: the source is no run and no file of weights, or an evaluation is of another model.
        CheckpointError: the weights are not those of a CLIP of that architecture.
        MissingExtraError: ONNX is wanted but not installed.
        OutputError: something stands at `out`, it cannot be written, or what was written is not what it should be.
    """
    subject = find_subject(config)
    if config.out.exists():
        raise OutputError(config.out, "exists", expected="a new name", cure="remove it or choose another")
    writers: Mapping[str, Callable[[Subject, Export], float | None]]
    writers = {"official": write_official, "huggingface": write_huggingface, "onnx": write_onnx}
    difference = writers[config.layout](subject, config)
    digest = subject.located.weight_hash
    return Exported(out=config.out, weight_hash=digest, step=subject.step, largest_difference=difference)


def find_subject(config: Export) -> Subject:
    """Find the weights, and see that they are those of a CLIP; see `export`."""
    source, run, step = expand(config.source), None, None
    if source.is_dir():
        run = RunFolder(source)
        run.config()  # which says that this is no run
        source, step = run.weights(config.checkpoint)
    located = locate(source)
    own = located.metadata.get("architecture")
    if own and config.architecture and own != config.architecture:
        found = f"is {config.architecture!r}, but {source} is a {own}"
        raise InputError("--arch", found, cure="leave the option out")
    architecture = own or config.architecture
    if architecture is None:
        raise InputError(source, "does not say what network it is of", cure="give open_clip's name by --arch")
    if (kind := located.metadata.get("kind", "hps")) != "hps":
        cure = "it needs no export, copy the file"
        raise InputError(source, f"is a model of the kind {kind!r}", expected="a CLIP", cure=cure)
    network = build(architecture)
    check_names(network, located.weights, architecture)
    return Subject(located=located, architecture=architecture, network=network, run=run, step=step)


def write_official(subject: Subject, config: Export) -> None:
    """Write a pickle with the key `state_dict`, as `hpsv2.score(…, cp=…)` reads it."""
    out = config.out
    if out.suffix != ".pt":
        raise InputError("--out", f"is {out}", expected="a file that ends in .pt, as the official ones do")
    with publish(out) as temporary:
        torch.save({"state_dict": subject.tensors()}, temporary)
    found = file_hash(out)
    if found != subject.located.weight_hash:
        out.unlink()
        raise OutputError(
            out, f"is {found} when read back", expected=subject.located.weight_hash, cure="check the disk"
        )
    subject.copy_record(out)


def write_huggingface(subject: Subject, config: Export) -> None:
    """Write weights, open_clip's configuration and a model card into one folder."""
    size, metadata = image_size(subject.network), subject.located.metadata
    seen = Preprocessing(size=size)
    described = {
        "kind": "hps",
        "architecture": subject.architecture,
        "name": config.name or subject.located.name,
        "licence": config.licence or metadata.get("licence", "unknown"),
        "version": metadata.get("version", "local"),
    }
    preprocessing = {  # the one of open_clip that is nearest to that of hpskit
        "size": size,
        "mode": "RGB",
        "mean": seen.mean,
        "std": seen.std,
        "interpolation": seen.interpolation,
        "resize_mode": "longest",
        "fill_color": 0,
    }
    model = open_clip.get_model_config(subject.architecture)
    card = model_card(subject, described, [evaluated(path, subject.located) for path in config.evaluations])
    with publish_folder(config.out) as folder:
        weights = folder / OPEN_CLIP_SAFE_FILE
        write_tensors(subject.tensors(), weights, described)
        subject.copy_record(weights)
        publish_json(folder / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": preprocessing})
        (folder / "README.md").write_text(card, encoding="utf-8")


def model_card(subject: Subject, described: Mapping[str, str], evaluations: list[dict[str, Any]]) -> str:
    """Write Markdown with the header that Hugging Face reads: what is known from the run, and nothing else."""
    run = subject.run.config() if subject.run else None
    log = lines_of(subject.run.log(), "validation") if subject.run else []
    model = MODELS.get(run.base.name) if run and run.base else None
    template = environment("hpskit.training").get_template("card.md")
    return template.render(
        **described,
        licensed=described["licence"] not in ("unknown", "not stated"),
        weight_hash=subject.located.weight_hash,
        size=image_size(subject.network),
        logit_scale=math.exp(float(subject.tensors()["logit_scale"])),
        step=subject.step,
        package=f"hpskit {__version__}",
        run=run,
        repository=model.sources[0].repository if model and model.sources else None,
        validation=next((line for line in log if line["step"] == subject.step), None),
        evaluated=evaluations,
    )


def evaluated(path: Path, located: Located) -> dict[str, Any]:
    """Return the accuracy of a model in a `result.json` of `hpskit evaluate`."""
    result = read_json(path)
    if not isinstance(result, Mapping) or "scorers" not in result or "rules" not in result:
        cure = "give the result.json of `hpskit evaluate`"
        raise InputError(path, "is not the result of an evaluation", cure=cure)
    found = [row for row in result["scorers"] if row["info"]["weight_hash"] == located.weight_hash]
    if not found:
        cure = "evaluate the model that is exported"
        raise InputError(path, f"has no scorer with the weights {located.weight_hash[:19]}…", cure=cure)
    rule, data = result["settings"]["rule"], result["data"]
    counts = {"groups": data["groups"], "seen": found[0]["training"]["seen"]}
    return {"data": data["name"], "rule": rule, **found[0]["accuracy"][rule], **counts}


class Tower(nn.Module):
    """One tower of a CLIP, with features of unit length."""

    def __init__(self, encode: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.encode, self.network = encode, network

    def forward(self, inputs: Tensor) -> Tensor:
        return normalize(self.encode(inputs), dim=-1)


def write_onnx(subject: Subject, config: Export) -> float:
    """Write a folder with both towers; return the largest difference of a score to torch, in points."""
    for module in ("onnx", "onnxruntime", "onnxscript"):
        need(module, "ONNX", "onnx")
    network = subject.network
    fill(network, subject.located.weights, torch.float32, torch.device("cpu"))
    network.eval().requires_grad_(False)
    size = image_size(network)
    pixels = torch.randn(len(_EXAMPLES), 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer(subject.architecture)([*_EXAMPLES])
    with publish_folder(config.out) as folder:
        images, onnx_images = export_tower(
            Tower(network.encode_image, network), folder / "image.onnx", "pixels", pixels
        )
        prompts, onnx_prompts = export_tower(
            Tower(network.encode_text, network), folder / "text.onnx", "tokens", tokens
        )
        difference = float((100 * (onnx_images @ onnx_prompts.T - images @ prompts.T)).abs().max())
        if not difference <= _TOLERANCE:  # NaN too
            found = f"has scores that differ from torch's by up to {difference:.3g} points, so it was not written"
            cure = f"report the architecture, {subject.architecture}"
            raise OutputError(config.out, found, expected=f"at most {_TOLERANCE}", cure=cure)
        publish_json(folder / "model.json", onnx_description(subject, folder, size, difference))
    return difference


def export_tower(tower: Tower, path: Path, argument: str, example: Tensor) -> tuple[Tensor, Tensor]:
    """Write one tower; return its features of the example by torch, and by ONNX, which gets other numbers of rows."""
    import onnxruntime

    tower.eval()
    with quiet():
        torch.onnx.export(
            tower,
            (example[:2],),
            path,
            dynamo=True,
            external_data=True,
            verbose=False,
            input_names=[argument],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [torch.from_numpy(session.run(None, {argument: part.numpy()})[0]) for part in (example[:1], example[1:])]
    with torch.inference_mode():
        return tower(example), torch.cat(parts)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter, which prints what it does and warns of itself; what counts is checked afterwards."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def onnx_description(subject: Subject, folder: Path, size: int, difference: float) -> dict[str, Any]:
    """Return what a program without hpskit needs: the content of `model.json`."""
    seen = Preprocessing(size=size)
    text = open_clip.get_model_config(subject.architecture)["text_cfg"]
    reader = tokenizer(subject.architecture)
    arguments = {"context_length": reader.context_length, **text.get("tokenizer_kwargs", {})}
    for field, argument in (("hf_tokenizer_name", "tokenizer_name"), ("tokenizer_mode", "tokenizer_mode")):
        if field in text:
            arguments[argument] = text[field]
    return {
        "format": "hpskit onnx 1",
        "name": subject.located.name,
        "architecture": subject.architecture,
        "weight_hash": subject.located.weight_hash,
        "score": "100 x the product of the features of image and prompt",
        "preprocessing": {
            "size": size,
            "resize": "RGB from 0 to 1; longest side to size, bicubic, antialiased, not rounded; centred on zeros",
            "normalise": "(value - mean) / std, the zeros too",
            "mean": seen.mean,
            "std": seen.std,
        },
        "tokenizer": {"class": type(reader).__name__, "arguments": arguments},  # of `open_clip.tokenizer`
        "largest_difference": {"points": difference, "images": len(_EXAMPLES), "prompts": len(_EXAMPLES)},
        "files": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
        "package": f"hpskit {__version__}",
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
    }
