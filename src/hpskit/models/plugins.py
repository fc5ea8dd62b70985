"""Scorers of other packages: entry points of the group `hpskit.scorers`, found by their names.

An entry point names a function `load(*, precision, device)` that returns a network and its `ScorerInfo`. Nothing of
another package is imported before its name is asked for. docs/baselines.md has an example.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Literal

from hpskit.errors import ModelError
from hpskit.records import ScorerInfo

if TYPE_CHECKING:
    import torch

    from hpskit.models.network import Network

__all__ = ["GROUP", "load_plugin", "plugins"]

GROUP = "hpskit.scorers"
_NETWORK = (
    "preprocessing",
    "device",
    "scale",
    "log_odds_per_point",
    "reads_prompt",
    "differentiable",
    "encode_images",
    "encode_prompts",
    "compare",
)


def plugins() -> dict[str, EntryPoint]:
    """Name -> entry point of every scorer that an installed package offers; nothing is imported.

    Raises:
        ModelError: two packages offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            cure = "uninstall one of them"
            raise ModelError(f"{point.name}: is offered by {_package(other)} and by {_package(point)}; {cure}")
    return found


def load_plugin(
    point: EntryPoint, precision: Literal["fp32", "bf16", "fp16"], device: torch.device
) -> tuple[Network, ScorerInfo]:
    """Import what an entry point names, call it, and see that it returns what it has to.

    Raises:
        ModelError: it cannot be imported, or returns something else. Errors of the function itself pass through.
    """
    place = f"{point.name}: {point.value} of {_package(point)}"
    try:
        load = point.load()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{place} cannot be imported ({error}); install that package again") from error
    made = load(precision=precision, device=device)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], ScorerInfo)):
        raise ModelError(f"{place} returned a {type(made).__name__}, expected (network, ScorerInfo)")
    if missing := [name for name in _NETWORK if not hasattr(made[0], name)]:
        raise ModelError(f"{place} returned a network without {', '.join(missing)}; see hpskit.models.network.Network")
    return made


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unnamed package"
