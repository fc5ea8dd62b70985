"""A reward that counts less where scorers with another network disagree with it.

What a network alone sees in an image is often its own mistake, and an optimiser finds it; what others see too is rarely
one (GARDO, arXiv 2512.24138, which stops trusting images whose rank by the proxy is above that by two others). Here the
proxy is taken back by a share of how far it is ahead of them, with a gradient, so that it is worth more to please all.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hpskit.errors import InputError
from hpskit.reward.mixing import FLOOR, Advantages, Calibration, Mixture, advantages
from hpskit.reward.reward import Reward

__all__ = ["Gate"]


class Gate(Mixture):
    """One scorer as the reward, held back by others. Safe to use from several threads."""

    def __init__(
        self,
        proxy: Reward,
        auxiliaries: Mapping[str, Reward],
        *,
        calibration: Calibration | str | os.PathLike[str],
        margin: float = 0.0,
        strength: float = 0.5,
    ) -> None:
        """Put others beside a scorer.

        Args:
            proxy: the scorer to train on.
            auxiliaries: name -> a scorer with another network; one at least, two are better.
            calibration: of the proxy, under its own name, and of the auxiliaries under theirs.
            margin: lead of the proxy, in deviations within a prompt, that is not held against it.
            strength: share of a larger lead that is taken off it, above 0 to 1. At 1 a lead is worth nothing.

        Raises:
            InputError: there is no auxiliary, an option is impossible, or the calibration does not fit.
        """
        if not 0 < strength <= 1:
            raise InputError("strength", f"is {strength}", expected="above 0 to 1")
        if not auxiliaries or proxy.name in auxiliaries:
            raise InputError("auxiliaries", f"are {', '.join(auxiliaries) or 'none'}", expected="other scorers, named")
        everyone = {proxy.name: proxy, **auxiliaries}
        super().__init__({name: (reward, 1.0) for name, reward in everyone.items()}, calibration=calibration)
        self.proxy, self.margin, self.strength = proxy.name, margin, strength

    def total(self, components: Mapping[str, Tensor]) -> Tensor:
        """(B,) float32, in deviations within a prompt of the reference: the proxy, less its lead beyond the margin."""
        assert self.calibration is not None
        references = self.calibration.scorers
        z = {name: (scores - references[name].mean) / references[name].deviation for name, scores in components.items()}
        own = z.pop(self.proxy)
        lead = own - torch.stack([*z.values()]).mean(dim=0)
        return own - self.strength * (lead - self.margin).relu()

    def advantages(
        self, images: Any, prompts: Sequence[str], *, group_ids: Sequence[Hashable], **options: Any
    ) -> Advantages:
        """Advantages by the gated reward; its share is 1, and `components` are the scores of all scorers."""
        found = self.components(images, prompts, **options)
        gated = advantages({"gate": self.total(found)}, {"gate": 1.0}, group_ids=group_ids, floors={"gate": FLOOR})
        return Advantages(
            values=gated.values, components=found, shares=gated.shares, without_difference=gated.without_difference
        )
