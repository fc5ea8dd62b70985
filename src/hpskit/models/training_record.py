"""What a model was trained and chosen on, as far as its makers wrote it down: hashes of prompts, beside the weights.

`WEIGHTS.training.json` stands beside `WEIGHTS.safetensors` (or `.pt`). It lets an evaluation say that it asks a model
about what the model has seen, without carrying the data. A model without such a file is one of which nothing is known.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpskit.errors import CheckpointError
from hpskit.files import expand, publish_json, read_json
from hpskit.models.registry import MODELS
from hpskit.models.store import cached, is_path

__all__ = ["HeldOut", "TrainingRecord", "prompt_hash", "read_record", "record_path", "write_record"]

_FORMAT = "hpskit training record 1"
_HASH_DIGITS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """How good a model was on prompts that its fit had not seen."""

    rule: str
    """Named rule of the accuracy, a key of `hpskit.stats.ACCURACY_RULES`."""
    value: float
    """0 to 1."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    source: str
    """How the prompts were held out, in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """The prompts that a model was fitted to, and what it is worth on others."""

    weight_hash: str
    """Of the weights that the record speaks of."""
    data: str
    """Name of the training data, in words."""
    prompts: frozenset[str]
    """`prompt_hash` of each training prompt."""
    held_out: HeldOut | None
    """None if its makers did not measure it."""
    chosen_on: frozenset[str] = frozenset()
    """`prompt_hash` of each prompt by which this checkpoint was chosen among others; empty if none was, or if its
    makers did not write them down."""

    def overlap(self, prompts: Iterable[str]) -> int:
        """How many of these prompts, each counted as often as it comes, are training prompts."""
        return sum(prompt_hash(prompt) in self.prompts for prompt in prompts)

    def choice_overlap(self, prompts: Iterable[str]) -> int:
        """How many of these prompts, each counted as often as it comes, are among those that it was chosen on."""
        return sum(prompt_hash(prompt) in self.chosen_on for prompt in prompts)


def prompt_hash(prompt: str) -> str:
    """The first 16 hex digits of the SHA-256 of a prompt in lower case with single spaces."""
    plain = " ".join(prompt.casefold().split())
    return hashlib.sha256(plain.encode()).hexdigest()[:_HASH_DIGITS]


def record_path(weights: Path) -> Path:
    """Where the record of a file of weights stands."""
    return weights.with_suffix(".training.json")


def read_record(name_or_path: str | os.PathLike[str], weight_hash: str) -> TrainingRecord | None:
    """The record of a model, or None if its makers left none.

    Args:
        name_or_path: what `load_scorer` was given.
        weight_hash: of the weights that were loaded.

    Raises:
        CheckpointError: the record is damaged, or speaks of other weights.
    """
    weights = _weights(name_or_path)
    if weights is None or not record_path(weights).is_file():
        return None
    path = record_path(weights)
    value = read_json(path)
    cure = "write it again with the weights, or delete it"
    if not isinstance(value, dict) or value.get("format") != _FORMAT or not isinstance(value.get("prompts"), list):
        raise CheckpointError(f"{path}: is not a training record ({_FORMAT!r} with a list of prompts); {cure}")
    if value.get("weight_hash") != weight_hash:
        found = f"speaks of {value.get('weight_hash')!r}, the weights are {weight_hash!r}"
        raise CheckpointError(f"{path}: {found}; {cure}")
    chosen_on = value.get("chosen_on", [])
    if not isinstance(chosen_on, list):
        raise CheckpointError(f"{path}: chosen_on is {chosen_on!r}, expected a list of hashes of prompts; {cure}")
    return TrainingRecord(
        weight_hash=weight_hash,
        data=str(value.get("data", "its training data")),
        prompts=frozenset(map(str, value["prompts"])),
        held_out=_held_out(path, value.get("held_out")),
        chosen_on=frozenset(map(str, chosen_on)),
    )


def _held_out(path: Path, value: Any) -> HeldOut | None:
    if value is None:
        return None
    numbers, words = ("value", "low", "high"), ("rule", "source")
    sound = isinstance(value, dict) and set(value) == {*numbers, *words}
    if not sound or not all(isinstance(value[name], str) for name in words):
        raise CheckpointError(f"{path}: held_out is {value!r}, expected {', '.join((*words, *numbers))}, or null")
    if not all(isinstance(value[name], int | float) and 0 <= value[name] <= 1 for name in numbers):
        raise CheckpointError(f"{path}: held_out is {value!r}, expected value, low and high from 0 to 1")
    return HeldOut(**value)


def write_record(
    weights: Path,
    *,
    weight_hash: str,
    data: str,
    prompts: Iterable[str],
    held_out: HeldOut | None = None,
    chosen_on: Iterable[str] = (),
) -> Path:
    """Write the record beside a file of weights.

    Args:
        weights: the file.
        weight_hash: of the weights.
        data: name of the training data, in words.
        prompts: those that the model was fitted to, as they are.
        held_out: see `TrainingRecord`.
        chosen_on: the prompts by which this checkpoint was chosen among others, as they are.

    Returns:
        The path of the record.
    """
    path = record_path(weights)
    chosen = _hashes(chosen_on)
    value = {
        "format": _FORMAT,
        "weight_hash": weight_hash,
        "data": data,
        "prompts": _hashes(prompts),
        "held_out": asdict(held_out) if held_out else None,
        **({"chosen_on": chosen} if chosen else {}),
    }
    publish_json(path, value)
    return path


def _hashes(prompts: Iterable[str]) -> list[str]:
    return sorted({prompt_hash(prompt) for prompt in prompts})


def _weights(name_or_path: str | os.PathLike[str]) -> Path | None:
    if is_path(name_or_path):
        return expand(name_or_path)
    model = MODELS.get(str(name_or_path))
    return cached(model) if model else None
