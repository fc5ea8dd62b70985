"""The score as a reward for training generators: adapters for trainers, mixing, a gate, and a watch on reward hacking.

reward     one scorer as a reward: images or video, with or without a gradient
mixing     several rewards as one, on a common scale
calibrate  the statistics of reference images that make a scale common
gate       a reward that counts less where scorers with another network disagree
adapters   any of them as the callable that a trainer expects
signs      what hacking does to pixels
watch      says when a rising reward is no longer better images
audit      tells of a run that is over how its rewards were made, and when it was hacked
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpskit.reward.adapters import (
        as_callable,
        as_ddpo,
        as_flow_factory,
        as_flow_grpo,
        as_loss,
        as_mixgrpo,
        as_paths,
        as_unirl,
        as_verl_omni,
        as_video,
    )
    from hpskit.reward.gate import Gate
    from hpskit.reward.mixing import Advantages, Calibration, Mixture, advantages
    from hpskit.reward.reward import Reward
    from hpskit.reward.sighting import Sighting
    from hpskit.reward.watch import Watch

__all__ = [
    "Advantages",
    "Calibration",
    "Gate",
    "Mixture",
    "Reward",
    "Sighting",
    "Watch",
    "advantages",
    "as_callable",
    "as_ddpo",
    "as_flow_factory",
    "as_flow_grpo",
    "as_loss",
    "as_mixgrpo",
    "as_paths",
    "as_unirl",
    "as_verl_omni",
    "as_video",
]

_HOMES = {"Gate": "gate", "Reward": "reward", "Sighting": "sighting", "Watch": "watch"}
_HOMES |= dict.fromkeys(("Advantages", "Calibration", "Mixture", "advantages"), "mixing")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'hpskit.reward' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hpskit.reward.{_HOMES.get(name, 'adapters')}"), name)
