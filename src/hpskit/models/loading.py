"""From a name or a file to a network that is ready to score: the one loading path of hpskit."""

from __future__ import annotations

import os

from hpskit import __version__
from hpskit.errors import InputError
from hpskit.models.network import Network, choose_device, choose_precision
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
    """Find, check and load a model; see `hpskit.load_scorer` for the arguments."""
    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device)
    located = locate(name_or_path)
    architecture = _architecture(located, arch)
    network: Network
    if architecture == "mini":
        from hpskit.models.mini import MiniNetwork

        if antialias is False:
            raise InputError("antialias: is False, but mini was fitted with antialiasing; leave the option out")
        network = MiniNetwork(weights=located.weights, precision=chosen_precision, device=chosen_device)
    else:
        from hpskit.models.clip import ClipNetwork

        network = ClipNetwork(
            architecture=architecture,
            weights=located.weights,
            precision=chosen_precision,
            device=chosen_device,
            antialias=antialias is not False,
        )
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
