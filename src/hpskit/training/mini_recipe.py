"""The settings of `mini()`, the linear fit that makes the embedded model, in one frozen record."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from hpskit.errors import InputError

__all__ = ["MiniRecipe", "mini"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MiniRecipe:
    """What decides the weights and the figures, beside the data. The defaults are those of the embedded model."""

    version: str = "local"
    """Of the weights; part of their identity."""
    licence: str = "Apache-2.0 (network), unknown (data)"
    """Of the weights."""
    data_name: str = ""
    """What the record of training calls the data; empty is the name of their folder and file."""
    penalties: tuple[float, ...] = (1.0, 0.3, 0.1)
    """Of the squared weights, from large to small; one is chosen by cross-validation inside every training fold."""
    shrinkage: float = 0.5
    """How far the votes of a pair move towards the average votes for its two generators, 0 to 1; 0 if these are not
    known."""
    cross_weight: float = 0.5
    """Weight of all pairs of images of different prompts, judged by the averages of their generators; 1 is the weight
    of all pairs that people compared. There are none if the generators are not known."""
    copy_weight: float = 0.3
    """Weight of all pairs of an image and a spoilt copy of it, likewise."""
    folds: int = 10
    """Parts of the prompts, each held out once; as many as there are prompts if they are fewer."""
    repeats: int = 3
    """How often they are parted anew."""

    def __post_init__(self) -> None:
        if not self.version or not self.licence:
            raise InputError("version, licence: one is empty, expected a word or two; leave it out for the default")
        if not self.penalties or any(not 0 < penalty < math.inf for penalty in self.penalties):
            raise InputError(f"penalties: is {list(self.penalties)}, expected numbers above 0, such as [1.0, 0.3, 0.1]")
        if list(self.penalties) != sorted(set(self.penalties), reverse=True):
            raise InputError(f"penalties: is {list(self.penalties)}, expected each once, from large to small")
        for name, high in (("shrinkage", 1), ("cross_weight", 100), ("copy_weight", 100)):
            if not 0 <= getattr(self, name) <= high:
                raise InputError(f"{name}: is {getattr(self, name)!r}, expected a number from 0 to {high}")
        for name, low, most in (("folds", 2, 1000), ("repeats", 1, 100)):
            if not low <= getattr(self, name) <= most:
                raise InputError(f"{name}: is {getattr(self, name)!r}, expected a whole number from {low} to {most}")

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON has it."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    def with_settings(self, settings: Sequence[str]) -> Self:
        """A recipe that differs in some fields.

        Args:
            settings: such as `repeats=1` or `penalties=[3, 1]`; values as in TOML, or bare words.

        Raises:
            InputError: not of the form name=value, no such field, or it cannot have that value.
        """
        changes: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise InputError(f"--set: is {setting!r}, expected NAME=VALUE, such as repeats=1")
            changes[name.strip()] = self._value(name.strip(), text.strip())
        try:
            return dataclasses.replace(self, **changes)
        except InputError as error:
            raise InputError(f"--set: {error}") from error

    def _value(self, name: str, text: str) -> Any:
        """What stands behind NAME=, in the type of that field."""
        known = [field.name for field in dataclasses.fields(self)]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
            raise InputError(f"--set: {name!r} is no field of the recipe mini; {hint}")
        match getattr(self, name), _parsed(text):
            case str(), _:
                return text.strip("\"'")
            case int(), int(value) if not isinstance(value, bool):
                return value
            case float(), (int() | float()) as value if not isinstance(value, bool):
                return float(value)
            case tuple(), list(values) if all(type(value) in (int, float) for value in values):
                return tuple(map(float, values))
            case int(), _:
                expected = "a whole number"
            case float(), _:
                expected = "a number"
            case _:
                expected = "a list of numbers, such as [1.0, 0.3, 0.1]"
        raise InputError(f"--set: {name} is {text!r}, expected {expected}")


def mini() -> MiniRecipe:
    """The recipe of the embedded model, of which docs/mini.md says how it was chosen and how good it is."""
    return MiniRecipe()


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}").get("value")
    except tomllib.TOMLDecodeError:
        return text
