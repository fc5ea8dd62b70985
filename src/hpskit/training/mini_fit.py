"""`mini()` as a stage: a small judged data set in; a linear layer on the embedded network out, and how good it is.

OUT/mini.safetensors     the weights, for `hpskit score --model`
OUT/mini.training.json   the record of their training prompts, with the cross-validated accuracy
OUT/figures.json         every figure
OUT/manifest.json        hashes of all of them, written last: it says that the rest is complete

Before that, `OUT/work.jsonl` and `OUT/features/` hold what is done; the same command continues there after a kill. They
go when all is done.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hpskit import __version__
from hpskit.dataset.reading import open_data
from hpskit.errors import OutputError
from hpskit.files import AppendLog, publish_json, read_json, sha256_file
from hpskit.models.checkpoint import write_tensors
from hpskit.models.loading import load_network
from hpskit.models.mini import MiniNetwork
from hpskit.models.training_record import HeldOut as HeldOutAccuracy
from hpskit.models.training_record import write_record
from hpskit.stats.blocks import Floats
from hpskit.training.mini_data import Material, read_material
from hpskit.training.mini_features import COPIES, Table, tabulate
from hpskit.training.mini_figures import judge
from hpskit.training.mini_linear import HeldOut, Layer, fit_layer, folds, hold_out
from hpskit.training.mini_recipe import MiniRecipe

__all__ = ["MiniFit", "Summary", "plan", "run"]

_FORMAT = "hpskit mini fit 1"
_FEATURE_BYTES = 20_992 * 4
_WEIGHTS = "mini.safetensors"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniFit:
    """What is fitted to, how, and where to put it."""

    data: str | os.PathLike[str]
    """File, folder or name of a data set with judgements; see `hpskit.dataset.reading.open_data`."""
    out: Path
    """Folder for the results."""
    recipe: MiniRecipe = field(default_factory=MiniRecipe)
    data_format: str = "auto"
    image_root: Path | None = None
    """Folder that image names start from; None is what the data set's layout says."""
    command: str = ""
    """How to make this again; stands in the figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a finished run has made."""

    out: Path
    weights: Path
    figures: dict[str, Any]

    def lines(self) -> list[str]:
        """For people."""
        figures = self.figures
        value, low, high = figures["accuracy"]
        seen = f"{figures['prompts']:,} prompts, {figures['images']:,} images"
        lines = [
            f"{seen}; generators {figures['generators']}",
            f"held-out prompts: accuracy {value:.3f} (95 % {low:.3f} to {high:.3f}, rule {figures['rule']})",
            f"log loss of votes: {figures['log_loss']:.3f} (0.693 is a coin)",
        ]
        if figures["annotator_vs_others"]:
            value, low, high = figures["annotator_vs_others"]
            lines.append(f"people, one against the others: {value:.3f} (95 % {low:.3f} to {high:.3f})")
        if figures["groups_left_out"]:
            lines.append(f"groups left out, because they come twice: {figures['groups_left_out']:,}")
        penalties = figures["recipe"]["penalties"]
        for end, word in ((penalties[0], "larger"), (penalties[-1], "smaller")):
            if figures["final_penalty"] == end:
                lines.append(f"penalty {end:g} was chosen, the end of the list; try {word} ones by --set penalties=[…]")
        return [*lines, str(self.weights)]


def plan(config: MiniFit) -> list[str]:
    """What a run would do, in lines for people, after every check that needs no image decoded; writes nothing.

    Raises:
        InputError: the data cannot be fitted to.
        OutputError: the folder holds something else.
    """
    material = _material(config)
    if _finished(config, _header(config, material)) is not None:
        return [f"{config.out}: is done already"]
    size = len(material.images) * (1 + len(COPIES)) * _FEATURE_BYTES // 10**6
    return [
        *_facts(material),
        f"{config.recipe.repeats} x {min(config.recipe.folds, material.prompts)} folds by prompt, then a fit to all",
        f"about {size:,} MB on disk until it is done",
    ]


def run(config: MiniFit, progress: Progress = lambda _step, _done, _total: None) -> Summary:
    """Cross-validate, fit to everything, and publish; continue where a killed run stopped.

    Args:
        config: what and where.
        progress: called with the step, how much of it is done, and of how much.

    Raises:
        InputError: the data cannot be fitted to, or the fit does not converge.
        RecordError: a row or an image cannot be used.
        OutputError: the output cannot be written, or belongs to another run.
    """
    material = _material(config)
    header = _header(config, material)
    if (finished := _finished(config, header)) is not None:
        _clear(config.out)
        return finished
    network = _network()
    blocks = network.model.widths
    with AppendLog(config.out / "work.jsonl") as log:
        _begin(log, header)
        features = partial(progress, "features")
        table = tabulate(network, material, folder=config.out / "features", log=log, progress=features)
        held = _cross_validate(config.recipe, material, table, blocks, log, progress)
        layer = fit_layer(table, material, blocks, config.recipe)
        figures = _figures(config, material, held, layer)
        state, metadata = _state(network, table, layer), _metadata(config.recipe, network)
        digest = write_tensors(state, config.out / _WEIGHTS, metadata)
        summary = _publish(config, material, figures | {"weight_hash": digest}, header)
    _clear(config.out)  # after the log was closed: Windows removes no open file
    return summary


def _material(config: MiniFit) -> Material:
    return read_material(open_data(config.data, format=config.data_format, image_root=config.image_root))


def _network() -> MiniNetwork:
    """The embedded one, whose convolutions stay as they are."""
    network, _ = load_network("mini", precision="fp32", device="cpu")
    assert isinstance(network, MiniNetwork)
    return network


def _header(config: MiniFit, material: Material) -> dict[str, Any]:
    """What must be equal for two runs to be parts of one."""
    return {
        "package": f"hpskit {__version__}",
        "data_sha256": material.digest,
        **{f"recipe.{name}": value for name, value in config.recipe.model_dump(mode="json").items()},
    }


def _facts(material: Material) -> list[str]:
    pairs = f"{len(material.pairs.share):,} pairs of {len(material.images):,} images"
    lines = [
        f"{material.data.name}: {material.prompts:,} prompts, {len(material.groups):,} groups, {pairs}",
        f"generators: {material.how}",
    ]
    if material.repeated:
        lines.append(f"left out, because they come twice: {', '.join(material.repeated)}")
    return lines


def _begin(log: AppendLog, header: Mapping[str, Any]) -> None:
    if not log.lines:
        log.append(header)
        return
    cure = f"finish that run, or delete {log.path.parent} to start anew"
    _same(log.path, log.lines[0], header, cure)


def _same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any], cure: str) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise OutputError(f"{path}: {name} is {found.get(name)!r}, this run has {value!r}; {cure}")


def _finished(config: MiniFit, header: Mapping[str, Any]) -> Summary | None:
    """The summary of an earlier complete run of the same thing."""
    path = config.out / "manifest.json"
    if not path.exists():
        left = {entry.name for entry in config.out.iterdir()} if config.out.is_dir() else set()
        if left and "work.jsonl" not in left:
            raise OutputError(f"{config.out}: is not empty and no fit of mini; choose another --out")
        return None
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != f"{_FORMAT} manifest":
        raise OutputError(f"{path}: was not made by this command; choose another --out")
    _same(path, manifest["run"], header, "choose another --out")
    for name, digest in manifest["files"].items():
        if not (config.out / name).is_file() or sha256_file(config.out / name) != digest:
            raise OutputError(f"{config.out / name}: has changed since it was made; choose another --out")
    figures = read_json(config.out / "figures.json")
    return Summary(out=config.out, weights=config.out / _WEIGHTS, figures=figures)


def _clear(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(out / "features", ignore_errors=True)
    (out / "work.jsonl").unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """What the cross-validation has found, (images,) for each repeat."""

    scores: list[Floats]
    copies: dict[str, list[Floats]]
    penalties: list[float]


def _cross_validate(
    recipe: MiniRecipe, material: Material, table: Table, blocks: Sequence[int], log: AppendLog, progress: Progress
) -> _Held:
    """Every fold of every repeat; those that the log has are not done again."""
    done = {tuple(line["fold"]): line for line in log.lines if "fold" in line}
    held = _Held(scores=[], copies={kind: [] for kind in table.copies}, penalties=[])
    for repeat in range(recipe.repeats):
        for arrays in (held.scores, *held.copies.values()):
            arrays.append(np.zeros(len(material.images)))
        parts = folds(material.prompts, recipe.folds, repeat)
        for number, prompts in enumerate(parts):
            line = done.get((repeat, number))
            if line is None:
                line = {"fold": [repeat, number], **_fold(hold_out(table, material, prompts, blocks, recipe))}
                log.append(line)
            rows = material.images_of(prompts)
            held.scores[-1][rows] = line["scores"]
            for kind, arrays in held.copies.items():
                arrays[-1][rows] = line["copies"][kind]
            held.penalties.append(line["penalty"])
            progress("cross-validation", len(held.penalties), recipe.repeats * len(parts))
    return held


def _fold(held: HeldOut) -> dict[str, Any]:
    copies = {kind: scores.tolist() for kind, scores in held.copies.items()}
    return {"penalty": held.penalty, "scores": held.scores.tolist(), "copies": copies}


def _figures(config: MiniFit, material: Material, held: _Held, layer: Layer) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "data": material.data.name,
        "recipe": config.recipe.model_dump(mode="json"),
        "prompts": material.prompts,
        "groups": len(material.groups),
        "images": len(material.images),
        "groups_left_out": len(material.repeated),
        "generators": material.how,
        **judge(material, held.scores, held.copies),
        "penalties": sorted(held.penalties),
        "final_penalty": layer.penalty,
    }


def _publish(config: MiniFit, material: Material, figures: dict[str, Any], header: Mapping[str, Any]) -> Summary:
    """The record and the figures of weights that are there already; the manifest last."""
    weights = config.out / _WEIGHTS
    value, low, high = figures["accuracy"]
    record = write_record(
        weights,
        weight_hash=figures["weight_hash"],
        data=f"{material.prompts} prompts of {config.recipe.data_name or material.data.name}",
        prompts=[group.prompt for group in material.groups],
        held_out=HeldOutAccuracy(
            rule=figures["rule"], value=value, low=low, high=high, source="cross-validation by prompt"
        ),
    )
    publish_json(config.out / "figures.json", figures)
    files = {path.name: sha256_file(path) for path in (weights, record, config.out / "figures.json")}
    publish_json(config.out / "manifest.json", {"format": f"{_FORMAT} manifest", "run": dict(header), "files": files})
    return Summary(out=config.out, weights=weights, figures=figures)


def _state(network: MiniNetwork, table: Table, layer: Layer) -> dict[str, Tensor]:
    """The network with the new layer: convolutions in float16, as they came, the layer in float32."""
    state = {name: tensor.half().contiguous() for name, tensor in network.model.state_dict().items()}
    return {**state, "centre": table.plain.mean(dim=0), "weight": layer.weight}


def _metadata(recipe: MiniRecipe, network: MiniNetwork) -> dict[str, str]:
    seen = network.preprocessing
    return {
        "name": "mini",
        "version": recipe.version,
        "architecture": "mini",
        "licence": recipe.licence,
        "resize": seen.resize,
        "size": str(seen.size),
        "mean": ",".join(map(str, seen.mean)),
        "std": ",".join(map(str, seen.std)),
    }
