"""The promises of everything that makes images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from pydantic import AfterValidator, Field, StringConstraints

from hpskit.schema import Expected, Strict

if TYPE_CHECKING:
    from PIL import Image


def _of_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except TypeError as error:
        raise ValueError from error
    return value


Options = Annotated[dict[str, Any], AfterValidator(_of_json), Expected("values that JSON has, so no date, nan or inf")]
"""Settings that are handed on as they are, and written into the ledger."""


class GeneratorSettings(Strict):
    """Settings that a table `[[generator]]` has for every kind of generator; each kind adds its own."""

    kind: str
    name: Annotated[
        str,
        StringConstraints(pattern=r"^\w([\w .+-]{0,78}[\w+-])?$"),
        Expected("letters, digits, blanks and . + - _, 80 at most and no blank or . last, as a folder gets that name"),
    ]
    """Folder of its images."""
    images: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many for each prompt."""
    batch: Annotated[int, Field(ge=1, le=1024)] = 4
    """How many at once; it changes no image by more than one grey level."""

    def own(self) -> dict[str, Any]:
        """Return the settings that the kind adds, which decide what an image shows."""
        return self.model_dump(mode="json", exclude=set(GeneratorSettings.model_fields))


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorInfo:
    """Identity of a generator. The same info, prompt and seed stand for the same image."""

    name: str
    """For example `painter`."""
    version: str
    """Changes whenever the same prompt, seed and settings give another image."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything that can be set, as JSON holds it, defaults included."""
    package: str
    """`hpskit` and its version."""

    def to_json(self) -> dict[str, Any]:
        """All fields, ready for `json.dumps`."""
        return {**asdict(self), "settings": dict(self.settings)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result for one prompt, where there is more to say than an image, or no image."""

    image: Image.Image | bytes | None = None
    """An RGB image, or the bytes of an image file, which are kept as they are; None if there is none."""
    reason: str = ""
    """Why there is none, in one word: `nan`, `timeout`, `exit`."""
    said: str = ""
    """What the program or the server said about it."""
    final: bool = False
    """True if trying again cannot help, because the prompt or the image was refused."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What to keep beside the image, as JSON holds it: `truncated_tokens`, `usage`, `revised_prompt`."""


@runtime_checkable
class Generator(Protocol):
    """Makes images for prompts; knows nothing about files, HTTP or benchmarks."""

    @property
    def info(self) -> GeneratorInfo:
        """Identity of the generator."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Image.Image | Outcome]:
        """N prompts and N seeds -> N RGB images, or what became of them.

        An image depends on its own prompt and seed and on `info`, and on nothing else: not on the other prompts of
        the call, the time or the machine. Where that cannot be had (a server without seeds), the class says so.

        Raises:
            HpskitError: no image can be made at all, now or later: wrong settings, a key that is refused.
        """
        ...
