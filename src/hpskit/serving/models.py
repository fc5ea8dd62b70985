"""The scorers that a server holds, within a budget of memory."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hpskit.errors import InputError, ModelError
from hpskit.pixels import Preprocessing
from hpskit.records import ScorerInfo
from hpskit.schema import nearest
from hpskit.scoring.scorer import PreferenceScorer
from hpskit.web import RefusedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The part of a scorer that stays while its weights come and go."""

    info: ScorerInfo
    preprocessing: Preprocessing | None
    reads_prompt: bool
    log_odds_per_point: float | None
    batch_size: int
    at_once: int
    """Images of a round, which takes as long with one of them as with all."""
    seconds: float
    """Of a round, when the server began."""
    equal: bool
    """Whether place and company in a step change no bit: of a network by a trial, else as the scorer states."""
    size: int
    """Bytes of its weights; 0 if they are not torch's."""


class Models:
    """Scorers by name. Loaded and used by one thread alone, so that two never load at once."""

    def __init__(
        self, names: Sequence[str], load: Callable[[str], PreferenceScorer], *, budget: int | None = None
    ) -> None:
        """Load every scorer once, so that whatever is wrong shows now; those beyond the budget are let go again.

        Args:
            names: what `load` takes; the first is the default.
            load: loads a scorer, batch-invariant.
            budget: bytes of weights that may be in memory at a time; None is no bound.

        Raises:
            InputError: two scorers have one name, or one alone is larger than the budget.
            ModelError: see `hpskit.load_scorer`.
        """
        self._load, self._budget = load, budget
        self._sources: dict[str, str] = {}
        self._held: dict[str, PreferenceScorer] = {}
        """Those in memory, the latest used last."""
        self.facts: dict[str, Facts] = {}
        for source in names:
            if budget is not None:
                self._held.clear()  # how large the next is, is not known yet
            scorer = load(source)
            name = scorer.info.name
            if name in self.facts:
                raise InputError("--model", f"names two scorers {name!r}", cure="name each once, or rename a file")
            size, here = size_of(scorer)
            if budget is not None and size > budget:
                found = f"has {size / 1e9:.2f} GB of weights"
                raise InputError(name, found, expected=f"at most {budget / 1e9:g} GB", cure="raise --memory")
            self._sources[name] = source
            at_once = images_at_once(scorer, here=here)
            seconds, equal = try_out(scorer, at_once)
            self.facts[name] = Facts(
                info=scorer.info,
                preprocessing=scorer.preprocessing,
                reads_prompt=scorer.reads_prompt,
                log_odds_per_point=scorer.log_odds_per_point,
                batch_size=scorer.batch_size,
                at_once=at_once,
                seconds=seconds,
                equal=equal,
                size=size,
            )
            self._keep(name, scorer)
            del scorer  # else it would be there beside the next

    @property
    def default(self) -> str:
        """The name of the first."""
        return next(iter(self.facts))

    @property
    def loaded(self) -> list[str]:
        """Names of those in memory."""
        return list(self._held)

    def named(self, name: str) -> str:
        """Return a name that is served; the default for an empty one.

        Raises:
            RefusedError: there is no such scorer; 404.
        """
        if name and name not in self.facts:
            guess = nearest(name, self.facts)
            cure = f"did you mean {guess!r}?" if guess else ""
            expected = f"one of {', '.join(self.facts)}"
            raise RefusedError(404, "model", f"is {name[:200]!r}", expected=expected, cure=cure)
        return name or self.default

    def get(self, name: str) -> PreferenceScorer:
        """Return a scorer, loaded again if it was let go.

        Raises:
            ModelError: it cannot be loaded any more, or its file holds another model now.
        """
        scorer = self._held.pop(name, None)
        if scorer is None:
            self._make_room(self.facts[name].size)
            scorer = self._load(self._sources[name])
            if scorer.info != self.facts[name].info:
                cure = "start the server again"
                raise ModelError(name, "is another model than when the server began", cure=cure)
        self._keep(name, scorer)
        return scorer

    def _keep(self, name: str, scorer: PreferenceScorer) -> None:
        self._make_room(self.facts[name].size)
        self._held[name] = scorer

    def _make_room(self, size: int) -> None:
        while self._budget is not None and self._held:
            if size + sum(self.facts[name].size for name in self._held) <= self._budget:
                break
            del self._held[next(iter(self._held))]


def size_of(scorer: PreferenceScorer) -> tuple[int, bool]:
    """Bytes of the tensors in the networks that a scorer holds, and whether all of them are on the CPU."""
    from torch import nn

    found: dict[int, Any] = {}

    def look(thing: Any, depth: int) -> None:
        if isinstance(thing, nn.Module):
            found.update((id(tensor), tensor) for tensor in (*thing.parameters(), *thing.buffers()))
            for module in thing.modules():  # packed weights are plain attributes
                for value in vars(module).values():
                    if hasattr(value, "element_size") and callable(getattr(value, "numel", None)):
                        found[id(value)] = value
        elif depth and hasattr(thing, "__dict__"):
            for value in vars(thing).values():
                look(value, depth - 1)

    look(scorer, 2)
    size = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    return size, all(tensor.device.type == "cpu" for tensor in found.values())


def images_at_once(scorer: PreferenceScorer, *, here: bool) -> int:
    """Images that take as long as one; `here` is whether the CPU computes. See `hpskit.load_scorer`."""
    if scorer.preprocessing is None:  # asked image by image, or a judge, which is asked about all at once
        return 1 if scorer.batch_invariant else scorer.batch_size
    return min(scorer.batch_size, os.cpu_count() or 1) if here else scorer.batch_size  # a step elsewhere is filled up


def try_out(scorer: PreferenceScorer, at_once: int) -> tuple[float, bool]:
    """Score images of noise: the seconds of a round, and whether company and place in a step change any bit.

    Whatever is no network is asked about one image, as each may cost money, and about bits it is believed.
    """
    import numpy as np
    import torch
    from PIL import Image

    from hpskit.scoring.streaming import prepare

    draw, count = np.random.default_rng(0), 1 if scorer.preprocessing is None else min(scorer.batch_size, 4)
    images, prompts = [], [f"noise {number}" for number in range(count)]
    for _ in prompts:
        ready = prepare(Image.fromarray(draw.integers(0, 256, (64, 64, 3), np.uint8)), [scorer.preprocessing])
        assert isinstance(ready, dict)
        images.append(ready[scorer.preprocessing])
    begun = time.perf_counter()
    together = scorer.score_prepared(images, prompts)
    if scorer.preprocessing is None:
        return time.perf_counter() - begun, scorer.batch_invariant
    begun = time.perf_counter()
    turned = scorer.score_prepared(images[::-1], prompts[::-1])
    seconds = (time.perf_counter() - begun) / math.ceil(count / at_once)
    alone = torch.cat([scorer.score_prepared([image], [text]) for image, text in zip(images, prompts, strict=True)])
    return seconds, torch.equal(together, turned.flip(0)) and torch.equal(together, alone)
