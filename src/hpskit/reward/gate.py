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
from hpskit.reward.sighting import members


class Gate(Mixture):
    """One scorer as the reward, held back by others. Safe to use from several threads."""

    _needs_correlation = False

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

    def __call__(
        self, images: Any, prompts: str | Sequence[str], *, group_ids: Sequence[Hashable] | None = None, **options: Any
    ) -> Tensor:
        """(B,) float32, in deviations within a prompt of the reference: the proxy, less its lead beyond the margin.

        With `group_ids` the lead is that over the other images of the group. Without them, and for an image that is
        alone in its group, it is over the reference images of all prompts together: a prompt that the proxy likes
        better than the others do is then held back as a whole.
        """
        return self._held_back(self.components(images, prompts, group_ids=group_ids, **options), group_ids)

    def total(self, components: Mapping[str, Tensor]) -> Tensor:
        """Hold back what `components` gave; see `__call__` without `group_ids`."""
        return self._held_back(components, None)

    def _held_back(self, components: Mapping[str, Tensor], group_ids: Sequence[Hashable] | None) -> Tensor:
        assert self.calibration is not None
        references = self.calibration.scorers
        z = {name: (scores - references[name].mean) / references[name].deviation for name, scores in components.items()}
        own = z.pop(self.proxy)
        lead = own - torch.stack([*z.values()]).mean(dim=0)
        usual = torch.zeros_like(lead.detach())
        for ks in () if group_ids is None else members(group_ids).values():
            usual[ks] = lead.detach()[ks].mean() if len(ks) > 1 else 0.0
        return own - self.strength * (lead - usual - self.margin).relu()

    def advantages(
        self, images: Any, prompts: Sequence[str], *, group_ids: Sequence[Hashable], **options: Any
    ) -> Advantages:
        """Advantages by the gated reward; its share is 1, and `components` are the scores of all scorers."""
        found = self.components(images, prompts, group_ids=group_ids, **options)
        held = {"gate": self._held_back(found, group_ids)}
        gated = advantages(held, {"gate": 1.0}, group_ids=group_ids, floors={"gate": FLOOR})
        return Advantages(
            values=gated.values, components=found, shares=gated.shares, without_difference=gated.without_difference
        )
