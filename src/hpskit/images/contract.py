"""The promises of everything that makes images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Generator", "GeneratorInfo"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorInfo:
    """Who made an image. The same info, prompt and seed stand for the same image."""

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


@runtime_checkable
class Generator(Protocol):
    """Makes images for prompts; knows nothing about files, HTTP or benchmarks."""

    @property
    def info(self) -> GeneratorInfo:
        """Who makes these images."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """N prompts and N seeds -> N RGB images.

        An image depends on its own prompt and seed and on `info`, and on nothing else: not on the other prompts of
        the call, the time or the machine.
        """
        ...
