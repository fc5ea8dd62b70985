"""The prompts that a model was trained and chosen on, as hashes beside its weights, if its makers wrote them down.

`WEIGHTS.training.json` stands beside `WEIGHTS.safetensors` (or `.pt`). It lets an evaluation say that it asks a model
about what the model has seen, without carrying the data. Nothing is known of a model without such a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hpskit.errors import CheckpointError
from hpskit.files import expand, publish_json, read_json
from hpskit.models.registry import MODELS
from hpskit.models.store import cached, is_path
from hpskit.schema import Strict, parse

_CURE = "write it again with the weights, or delete it"

Hashes = Annotated[frozenset[str], Field(strict=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class HeldOut(Strict):
    """Accuracy of a model on prompts that its fit had not seen, with its 95 % interval."""

    rule: str
    """Named rule of the accuracy, a key of `hpskit.stats.rules.ACCURACY_RULES`."""
    value: Share
    low: Share
    high: Share
    source: str
    """The way in which prompts were held out, in a few words."""


class TrainingRecord(Strict):
    """The prompts that a model was fitted to, and what it is worth on others."""

    format: Literal["hpskit training record 1"] = "hpskit training record 1"
    weight_hash: str
    """Weight hash of the weights that the record speaks of."""
    data: str = "its training data"
    """Name of the training data, in words."""
    prompts: Hashes
    """`prompt_hash` of each training prompt."""
    held_out: HeldOut | None = None
    """None if its makers did not measure it."""
    chosen_on: Hashes = frozenset()
    """`prompt_hash` of each prompt by which this checkpoint was chosen among others; empty if none was, or if its
    makers did not write them down."""

    def overlap(self, prompts: Iterable[str]) -> int:
        """Count the training prompts among these, each as often as it comes."""
        return sum(prompt_hash(prompt) in self.prompts for prompt in prompts)

    def choice_overlap(self, prompts: Iterable[str]) -> int:
        """Count the prompts that the checkpoint was chosen on among these, each as often as it comes."""
        return sum(prompt_hash(prompt) in self.chosen_on for prompt in prompts)


def prompt_hash(prompt: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a prompt in lower case with single spaces."""
    plain = " ".join(prompt.casefold().split())
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def record_path(weights: Path) -> Path:
    """Return the path of the record of a file of weights."""
    return weights.with_suffix(".training.json")


def read_record(name_or_path: str | os.PathLike[str], weight_hash: str) -> TrainingRecord | None:
    """Read the record of a model, or return None if its makers left none.

    Args:
        name_or_path: what `load_scorer` was given.
        weight_hash: that of the weights that were loaded.

    Raises:
        InputError: the record is damaged.
        CheckpointError: the record speaks of other weights.
    """
    if is_path(name_or_path):
        weights: Path | None = expand(name_or_path)
    else:
        model = MODELS.get(str(name_or_path))
        weights = cached(model) if model else None
    if weights is None or not (path := record_path(weights)).is_file():
        return None
    record = parse(TrainingRecord, read_json(path), path, cure=_CURE)
    if record.weight_hash != weight_hash:
        found = f"speaks of the weights {record.weight_hash!r}"
        raise CheckpointError(path, found, expected=repr(weight_hash), cure=_CURE)
    return record


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
        weight_hash: that of the weights.
        data: name of the training data, in words.
        prompts: those that the model was fitted to, as they are.
        held_out: see `TrainingRecord`.
        chosen_on: the prompts by which this checkpoint was chosen among others, as they are.

    Returns:
        The path of the record.
    """
    path = record_path(weights)
    value = {
        "format": TrainingRecord.model_fields["format"].default,
        "weight_hash": weight_hash,
        "data": data,
        "prompts": sorted(set(map(prompt_hash, prompts))),
        "held_out": held_out.model_dump() if held_out else None,
    }
    if chosen := sorted(set(map(prompt_hash, chosen_on))):
        value["chosen_on"] = chosen
    publish_json(path, value)
    return path
