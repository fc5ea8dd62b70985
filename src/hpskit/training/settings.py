"""Settings in a frozen record: read from TOML, JSON and NAME=VALUE, checked by type and range, and written again."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
import typing
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from hpskit.errors import InputError
from hpskit.files import expand, explain

__all__ = ["Settings", "nearest"]

_NONE = "none"
"""How files and options write None, which TOML does not have."""
_SHOWN = 60
"""Characters of a wrong value that an error repeats."""
_CONTROL = frozenset({"Cc", "Cs"})
"""Unicode's categories of control characters and of halves of characters, which no name has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The base of recipes. A field is a number, a text, one of some words or a tuple of numbers, and may be None."""

    KIND: ClassVar[str] = "a recipe"
    """What errors call it."""
    EXAMPLE: ClassVar[str] = "lr=1e-6"
    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """The smallest and the largest number that makes sense."""
    BETWEEN: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Likewise, neither of them itself."""
    MAY_BE_EMPTY: ClassVar[frozenset[str]] = frozenset()
    """Texts."""
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}
    """Field -> what other programs call it, in words."""

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            self._check(field, hints[field.name])
        self._check_together()

    def _check_together(self) -> None:
        """See that the fields go with one another; each by itself is right."""

    def _check(self, field: dataclasses.Field[Any], hint: Any) -> None:
        """See that a field has a value of its type and in its range."""
        name, value = field.name, getattr(self, field.name)
        if not _fits(value, hint):
            raise InputError(f"{name}: is {_shown(value)}, expected {_named(hint, field.default)}")
        if isinstance(value, str) and not self._is_text(name, value, hint):
            raise InputError(f"{name}: is {_shown(value)}, expected a name")
        if not isinstance(value, int | float) or isinstance(value, bool):
            return
        low, high = self.LIMITS.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            raise InputError(f"{name}: is {_shown(value)}, expected a number from {low:g} to {high:g}")
        low, high = self.BETWEEN.get(name, (-math.inf, math.inf))
        if not low < value < high:
            raise InputError(f"{name}: is {_shown(value)}, expected a number between {low:g} and {high:g}")

    def _is_text(self, name: str, value: str, hint: Any) -> bool:
        """Whether a text can stand in a file and be read again as itself."""
        if any(unicodedata.category(character) in _CONTROL for character in value):
            return False
        return value != _NONE or types.NoneType not in _kinds(hint) if value else name in self.MAY_BE_EMPTY

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], place: str) -> Self:
        """The settings with these fields; what is not given is the default.

        Args:
            values: field -> value as TOML or JSON have them; None may be written "none", a tuple is a list, a whole
                number may stand for a float.
            place: named by errors, for example the file.

        Raises:
            InputError: there is no such field, or it cannot have that value.
        """
        hints = _hints(cls)
        for name in values:
            if name not in hints:
                raise InputError(f"{place}: {cls._unknown(name, tuple(hints))}")
        try:
            return cls(**{name: _converted(value, hints[name]) for name, value in values.items()})
        except InputError as error:
            raise InputError(f"{place}: {error}") from error

    @classmethod
    def _unknown(cls, name: str, known: Sequence[str]) -> str:
        meant = {word: field for field in known for word in (field, *cls.ELSEWHERE.get(field, "").split())}
        near = difflib.get_close_matches(name.lower().replace("-", "_"), meant, n=1)
        hint = f"did you mean {meant[near[0]]!r}?" if near else f"expected one of {', '.join(known)}"
        return f"{name if name.isidentifier() else _shown(name)}: is no field of {cls.KIND}; {hint}"

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read settings from a file; see `from_dict`.

        Raises:
            InputError: the file cannot be read, is not TOML, or a setting is wrong.
        """
        path = expand(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({explain(error)}); check the path") from error
        except (ValueError, RecursionError) as error:  # tomllib's own, of characters, of digits, of levels
            raise InputError(f"{path}: is not TOML ({error}); expected lines such as {_spaced(cls.EXAMPLE)}") from error
        if headings := [name for name, value in values.items() if isinstance(value, dict)]:
            cure = f"write all fields without a heading, such as {_spaced(cls.EXAMPLE)}"
            raise InputError(f"{path}: {_shown(headings[0])} is a table, and {cls.KIND} has none; {cure}")
        return cls.from_dict(values, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON has it; the way back is `from_dict`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._items()}

    def to_toml(self) -> str:
        """Every field on a line; the way back is `from_toml`."""
        return "".join(f"{name} = {_written(value)}\n" for name, value in self._items())

    def with_settings(self, settings: Sequence[str], option: str = "--set") -> Self:
        """The same with some fields changed.

        Args:
            settings: such as `lr=1e-6`, `image_blocks=all`, `betas=[0.9, 0.99]`; values as in TOML, or bare words.
            option: named by errors.

        Raises:
            InputError: not of the form NAME=VALUE, no such field, one that is there twice, or it cannot have that
                value.
        """
        hints, changes = _hints(type(self)), dict[str, Any]()
        for setting in settings:
            name, equals, text = (part.strip() for part in setting.partition("="))
            if not name or not equals:
                raise InputError(f"{option}: is {_shown(setting)}, expected NAME=VALUE, such as {self.EXAMPLE}")
            if name in changes:
                raise InputError(f"{option}: {name} is there twice; leave one out")
            changes[name] = _parsed(text, hints.get(name, str))
        return self.from_dict({**self.to_dict(), **changes}, option if settings else "recipe")

    def _items(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of an error about a name that is not known."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _hints(settings: type[Settings]) -> dict[str, Any]:
    hints = typing.get_type_hints(settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def _kinds(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) or (hint,)


def _converted(value: Any, hint: Any) -> Any:
    """A value of a file as its field wants it; what does not fit is left for the check of the field."""
    if value == _NONE and types.NoneType in _kinds(hint):
        return None
    if isinstance(value, list):
        return tuple(_converted(part, float) for part in value)
    if float in _kinds(hint) and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return value
    return value


def _parsed(text: str, hint: Any) -> Any:
    """A value of TOML, or the text itself."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = values["value"] if len(values) == 1 else text
    return text if str in _kinds(hint) and not isinstance(value, str) else value


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        any_length = parts[-1] is Ellipsis
        right = isinstance(value, tuple) and (bool(value) if any_length else len(value) == len(parts))
        return right and all(_fits(part, parts[0]) for part in value)
    if parts:
        return any(_fits(value, part) for part in parts)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _named(hint: Any, default: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, parts)) if len(parts) < 3 else f"one of {', '.join(parts)}"
    if origin is tuple:
        return f"{'numbers' if parts[-1] is Ellipsis else f'{len(parts)} numbers'}, such as {_written(default)}"
    if parts:
        return " or ".join(_named(part, default) for part in parts)
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", types.NoneType: _NONE}
    return words[hint]


def _shown(value: Any) -> str:
    """A wrong value, on one line and not too long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no whole number of more than 4,300 digits
        return "too long to be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _spaced(example: str) -> str:
    return " = ".join(example.split("=", 1))


def _written(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(_NONE if value is None else value, ensure_ascii=False)
