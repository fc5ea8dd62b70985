"""From a name or a file to a network that is ready to score: the one loading path of hpskit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from hpskit import __version__
from hpskit.errors import CheckpointError, InputError
from hpskit.models.network import Network, choose_device, choose_precision
from hpskit.models.plugins import load_plugin, plugins
from hpskit.models.registry import DEFAULT_MODEL, MODELS
from hpskit.models.store import Located, is_path, locate
from hpskit.records import ScorerInfo

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import torch

__all__ = ["DEFAULT_ARCHITECTURE", "load_network"]

DEFAULT_ARCHITECTURE = "ViT-H-14"
"""What a local checkpoint is taken for if nobody says otherwise: the network of HPS v2."""


def load_network(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    arch: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    antialias: bool | None = None,
) -> tuple[Network, ScorerInfo]:
    """Find, check and load a model; see `hpskit.load_scorer` for the arguments."""
    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device)
    if (point := _plugin(name_or_path)) is not None:
        if arch is not None or antialias is not None:
            raise InputError(
                f"arch and antialias: are not for {point.name}, a scorer of another package; leave them out"
            )
        return load_plugin(point, chosen_precision, chosen_device)
    located = locate(name_or_path)
    architecture = _architecture(located, arch)
    kind = _kind(located, architecture)
    if kind == "mini" and precision == "auto" and chosen_device.type == "cpu":
        chosen_precision = "fp32"  # quick enough, and bf16 turns round one pair in a hundred, all close (docs/mini.md)
    if antialias is False and kind != "hps":
        why = "was fitted with antialiasing" if kind == "mini" else "resizes as its authors did"
        raise InputError(f"antialias: is False, but {located.name} {why}; leave the option out")
    network = _build(kind, located, architecture, chosen_precision, chosen_device, antialias is not False)
    info = ScorerInfo(
        name=located.name,
        version=located.model.version if located.model else located.metadata.get("version", "local"),
        architecture=architecture,
        weight_hash=located.weight_hash,
        preprocessing=network.preprocessing.name,
        precision=chosen_precision,
        scale=network.scale,
        licence=located.model.licence if located.model else located.metadata.get("licence", "unknown"),
        package=f"hpskit {__version__}",
    )
    return network, info


def _plugin(name_or_path: str | os.PathLike[str]) -> EntryPoint | None:
    """The scorer of another package that is meant; hpskit's own names and files come first."""
    if is_path(name_or_path) or str(name_or_path).partition(":")[0] in MODELS:
        return None
    return plugins().get(str(name_or_path))


def _architecture(located: Located, arch: str | None) -> str:
    """The network's name: the model's own if it states one, else what the caller says, else ViT-H-14."""
    own = located.model.architecture if located.model else located.metadata.get("architecture")
    if own and arch and own != arch:
        raise InputError(f"arch: is {arch!r}, but {located.name} is a {own}; leave the option out")
    return own or arch or DEFAULT_ARCHITECTURE


def _kind(located: Located, architecture: str) -> str:
    """How the weights become a score; a local checkpoint that does not say is one of HPS v2."""
    if located.model:
        return located.model.kind
    return located.metadata.get("kind", "mini" if architecture == "mini" else "hps")


def _build(
    kind: str,
    located: Located,
    architecture: str,
    precision: Literal["fp32", "bf16", "fp16"],
    device: torch.device,
    antialias: bool,
) -> Network:
    """Each kind of network from its module, which is imported only if it is wanted."""
    weights = located.weights
    settings = {**located.metadata, **(located.model.settings if located.model else {})}
    match kind:
        case "mini":
            from hpskit.models.mini import MiniNetwork

            return MiniNetwork(weights=weights, precision=precision, device=device)
        case "random":
            from hpskit.models.baselines.chance import ChanceNetwork

            return ChanceNetwork(seed=int(settings.get("seed", "0")), device=device)
        case "imagereward":
            from hpskit.models.baselines.imagereward import ImageRewardNetwork

            return ImageRewardNetwork(weights=weights, precision=precision, device=device)
        case "aesthetic":
            from hpskit.models.baselines.aesthetic import AestheticNetwork

            return AestheticNetwork(architecture=architecture, weights=weights, precision=precision, device=device)
        case "pickscore":
            from hpskit.models.baselines.pickscore import PickScoreNetwork

            return PickScoreNetwork(architecture=architecture, weights=weights, precision=precision, device=device)
        case "clip-score":
            from hpskit.models.baselines.clip_score import ClipScoreNetwork

            return ClipScoreNetwork(
                architecture=architecture, weights=weights, precision=precision, device=device, settings=settings
            )
        case "hps":
            from hpskit.models.clip import ClipNetwork

            return ClipNetwork(
                architecture=architecture, weights=weights, precision=precision, device=device, antialias=antialias
            )
    raise CheckpointError(f"{weights.origin}: is of kind {kind!r}, which hpskit {__version__} does not know")
