"""From a name or a file to a network that is ready to score: the one loading path of hpskit."""

from __future__ import annotations

import os

from hpskit import __version__
from hpskit.errors import CheckpointError, InputError
from hpskit.models.network import Blueprint, Network, choose_device, choose_precision
from hpskit.models.registry import DEFAULT_MODEL
from hpskit.models.store import Located, locate
from hpskit.records import ScorerInfo

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
    """Find, check and load a model of hpskit; see `hpskit.load_scorer` for the arguments."""
    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device)
    located = locate(name_or_path)
    architecture = _architecture(located, arch)
    kind = _kind(located, architecture)
    if kind == "mini" and precision == "auto" and chosen_device.type == "cpu":
        chosen_precision = "fp32"  # quick enough, and bf16 turns round one pair in a hundred, all close (docs/mini.md)
    if antialias is False and kind != "hps":
        why = "was fitted with antialiasing" if kind == "mini" else "resizes as its authors did"
        raise InputError(f"antialias: is False, but {located.name} {why}; leave the option out")
    plan = Blueprint(
        architecture=architecture,
        weights=located.weights,
        precision=chosen_precision,
        device=chosen_device,
        antialias=antialias is not False,
        settings={**located.metadata, **(located.model.settings if located.model else {})},
    )
    network = _build(kind, plan)
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


def _build(kind: str, plan: Blueprint) -> Network:
    """Each kind of network from its module, which is imported only if it is wanted."""
    match kind:
        case "mini":
            from hpskit.models.mini import MiniNetwork

            return MiniNetwork(plan)
        case "random":
            from hpskit.models.baselines.chance import ChanceNetwork

            return ChanceNetwork(plan)
        case "imagereward":
            from hpskit.models.baselines.imagereward import ImageRewardNetwork

            return ImageRewardNetwork(plan)
        case "aesthetic":
            from hpskit.models.baselines.aesthetic import AestheticNetwork

            return AestheticNetwork(plan)
        case "pickscore":
            from hpskit.models.baselines.pickscore import PickScoreNetwork

            return PickScoreNetwork(plan)
        case "clip-score":
            from hpskit.models.baselines.clip_score import ClipScoreNetwork

            return ClipScoreNetwork(plan)
        case "hps":
            from hpskit.models.clip import ClipNetwork

            return ClipNetwork(plan)
    raise CheckpointError(f"{plan.weights.origin}: is of kind {kind!r}, which hpskit {__version__} does not know")
