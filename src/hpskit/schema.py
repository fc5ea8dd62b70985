"""One schema for everything that people write or bring: strict pydantic models, and errors that name the field.

A model derives from `Strict`, is checked once, by `parse`, and never again. Validators raise our own errors.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from hpskit.errors import InputError, shown


class Strict(BaseModel):
    """Base of what is read from files of people's: frozen, no unknown field, no value taken for another type.

    Lists of JSON and TOML become tuples where a field says `Annotated[tuple[…], Field(strict=False)]`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Expected:
    """Say in words what a field should be: `Annotated[str, StringConstraints(…), Expected("a text that is no blank")]`.

    Whatever is wrong inside the field, the error names the field, its whole value and these words.
    """

    def __init__(self, words: str) -> None:
        self.words = words

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = handler(source)
        return core_schema.custom_error_schema(inner, custom_error_type="expected", custom_error_message=self.words)


M = TypeVar("M", bound=BaseModel)


def parse(
    model: type[M],
    value: object,
    place: str | os.PathLike[str],
    *,
    error: type[InputError] = InputError,
    cure: str = "correct it",
) -> M:
    """Make a model of what was read, usually the dict that JSON or TOML gave.

    `place` is file and row, for errors; `cure` is what the reader can do if nothing better is known.

    Raises:
        InputError: (or `error`) the first wrong field, with its value and what was expected; of an unknown field the
            nearest right name.
    """
    try:
        return model.model_validate(value)
    except ValidationError as wrong:
        raise _explain(wrong, model, os.fspath(place), error, cure) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that `name` was probably meant to be; empty if none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), "")


def _explain(
    wrong: ValidationError, model: type[BaseModel], place: str, kind: type[InputError], cure: str
) -> InputError:
    """Turn the first complaint of pydantic into an error of ours."""
    first = wrong.errors(include_url=False)[0]
    path = _dotted(first["loc"])
    where = f"{place}: {path}" if path else place
    match first["type"]:
        case "extra_forbidden":
            known = _fields_at(model, first["loc"][:-1])
            guess = nearest(str(first["loc"][-1]), known)
            help_ = f"did you mean {guess!r}?" if guess else f"the fields are {', '.join(sorted(known))}"
            return kind(where, "is no field", cure=help_)
        case "missing":
            return kind(where, "is missing", expected="a value", cure="add it")
        case "model_type" | "model_attributes_type" | "dict_type" | "dataclass_type":
            return kind(where, f"is {shown(first['input'])}", expected="an object {…}", cure=cure)
        case "too_short" | "too_long":
            limit = first["ctx"].get("min_length", first["ctx"].get("max_length"))
            bound = "at least" if first["type"] == "too_short" else "at most"
            return kind(where, f"has {first['ctx']['actual_length']} entries", expected=f"{bound} {limit}", cure=cure)
        case "value_error" if isinstance(ours := first.get("ctx", {}).get("error"), InputError):
            inner = ours.within(where)
            return kind(inner.place, inner.found, expected=inner.expected, cure=inner.cure or cure)
    expected = (
        first["msg"].removeprefix("Input should be ").removeprefix("Value error, ").replace("a valid tuple", "a list")
    )
    return kind(where, f"is {shown(first['input'])}", expected=expected, cure=cure)


def _dotted(location: Iterable[int | str]) -> str:
    """Write a path as people do: `prompts[3].images`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """Names that the model at this path has; of the whole model if the path leads to none."""
    found: Any = model
    for part in location:
        if isinstance(part, str) and isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[part].annotation if part in found.model_fields else found
            found = _model_in(found)
    at = found if isinstance(found, type) and issubclass(found, BaseModel) else model
    return [field.alias or name for name, field in at.model_fields.items()]


def _model_in(annotation: Any) -> Any:
    """Find the model inside `tuple[Model, …]`, `Model | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model_in(part)) is not None), None)
