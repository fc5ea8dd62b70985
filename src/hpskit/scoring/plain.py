"""Anybody's scorer, made a scorer of hpskit: an object with a method `score(images, prompts)`, and nothing else if its
author has nothing else to say."""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from hpskit.errors import HpskitError, InputError, ModelError
from hpskit.records import ScorerInfo
from hpskit.scoring.preference import PreferenceScorer
from hpskit.scoring.streaming import Prepared

__all__ = ["Plain", "PlainScorer"]


class Plain(Protocol):
    """What an author has to write. It may also say `log_odds_per_point` (else None) and `reads_prompt` (else True)."""

    def score(self, images: Any, prompts: Any, /) -> Any:
        """A list of N decoded images, upright and in mode RGB, and a list of N prompts -> N numbers, higher is better,
        in whatever holds numbers: a list, an array, a tensor."""
        ...


class PlainScorer(PreferenceScorer):
    """Gives a plain scorer files, batches, ranks and clear errors, and calls it in one thread at a time."""

    def __init__(self, plain: Plain, info: ScorerInfo, *, batch_size: int | None = None) -> None:
        """Use `load_scorer`; this is for objects that a program has made itself.

        Raises:
            ModelError: what it says of itself is not what it may be.
        """
        factor, reads_prompt = getattr(plain, "log_odds_per_point", None), getattr(plain, "reads_prompt", True)
        if factor is not None and not _is_factor(factor):
            expected = "a number of at least 0, or None if differences of scores say nothing of probabilities"
            raise ModelError(f"{info.name}: log_odds_per_point is {factor!r}, expected {expected}")
        if not isinstance(reads_prompt, bool):
            raise ModelError(f"{info.name}: reads_prompt is {reads_prompt!r}, expected True or False")
        super().__init__(
            info, log_odds_per_point=factor, reads_prompt=reads_prompt, batch_size=batch_size, preprocessing=None
        )
        self._plain = plain
        self._scoring = threading.Lock()  # its author was not asked to think of threads

    def score_prepared(self, images: Sequence[Prepared], prompts: Sequence[str]) -> Tensor:
        """N decoded images and N prompts -> (N,) float32 on the CPU.

        Raises:
            ModelError: it did not return N numbers.
        """
        with self._scoring, torch.no_grad():
            try:
                found = self._plain.score(list(images), list(prompts))
            except HpskitError:
                raise
            except Exception as error:  # of somebody's code, which may raise anything
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}, line {last.lineno}"
                what = f"score raised {type(error).__name__} ({error}) in {where}"
                raise ModelError(f"{self.info.name}: {what}; mend it there") from error
        try:
            values = [float(value) for value in found]
        except (TypeError, ValueError, RuntimeError) as error:
            self._fail(f"a {type(found).__name__} that does not hold numbers ({error})", len(images))
        if len(values) != len(images):
            self._fail(f"{len(values)} numbers", len(images))
        return torch.tensor(values, dtype=torch.float32)

    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool) -> Tensor:
        if grad:
            raise InputError(f"grad: is True, but {self.info.name} has no gradient; score without it")
        return self.score([*images], prompts).to(images.device)

    def _fail(self, found: str, count: int) -> NoReturn:
        raise ModelError(f"{self.info.name}: score returned {found} for {count} images, expected one number for each")


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
