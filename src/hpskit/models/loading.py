"""From a name or a file to a network that is ready to score: the one loading path of hpskit."""

from __future__ import annotations

import os

from hpskit import __version__
from hpskit.errors import CheckpointError, HpskitError, InputError, shown
from hpskit.models.network import Blueprint, Network, choose_device, choose_precision
from hpskit.models.registry import DEFAULT_MODEL, NETWORKS, network_class
from hpskit.models.store import locate
from hpskit.records import ScorerInfo

DEFAULT_ARCHITECTURE = "ViT-H-14"
"""Architecture of a local checkpoint that nobody says otherwise of: the network of HPS v2."""


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
    choose_precision(precision, chosen_device)  # refuses what is none, before gigabytes are read
    located = locate(name_or_path)
    model, metadata = located.model, located.metadata
    own = model.architecture if model else metadata.get("architecture")
    if own and arch and own != arch:
        raise InputError("arch", f"is {arch!r}, but {located.name} is a {own}", cure="leave the option out")
    architecture = own or arch or DEFAULT_ARCHITECTURE
    kind = model.kind if model else metadata.get("kind", "mini" if architecture == "mini" else "hps")
    if kind not in NETWORKS:
        found, cure = f"is of kind {kind!r}, which hpskit {__version__} does not know", "use a newer hpskit"
        raise CheckpointError(located.weights.origin, found, expected=f"one of {', '.join(NETWORKS)}", cure=cure)
    if antialias is False and kind != "hps":
        why = "was fitted with antialiasing" if kind == "mini" else "resizes as its authors did"
        raise InputError("antialias", f"is False, but {located.name} {why}", cure="leave the option out")
    chosen_precision = network_class(kind).arithmetic(precision, chosen_device)
    plan = Blueprint(
        architecture=architecture,
        weights=located.weights,
        precision=chosen_precision,
        device=chosen_device,
        antialias=antialias is not False,
        settings={**metadata, **(model.settings if model else {})},
    )
    try:
        network = network_class(kind)(plan)
    except HpskitError:
        raise
    except Exception as error:  # of whatever somebody has written into the file beside its tensors
        found = f"cannot be used as {kind} ({type(error).__name__}: {shown(str(error))})"
        raise CheckpointError(located.weights.origin, found, cure="fetch it again, or ask its author") from error
    info = ScorerInfo(
        name=located.name,
        version=model.version if model else metadata.get("version", "local"),
        architecture=architecture,
        weight_hash=located.weight_hash,
        preprocessing=f"{network.preprocessing.name} {network.reading}".rstrip(),
        precision=chosen_precision,
        scale=network.scale,
        licence=model.licence if model else metadata.get("licence", "unknown"),
        package=f"hpskit {__version__}",
    )
    return network, info
