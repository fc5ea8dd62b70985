"""The models that hpskit knows by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from hpskit.errors import UnknownModelError

__all__ = ["DEFAULT_MODEL", "MODELS", "Model", "find"]

DEFAULT_MODEL = "mini"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Where the weights of a named model come from and what they are."""

    name: str
    version: str
    architecture: str
    """open_clip's name of the network, or `mini`."""
    licence: str
    summary: str
    size: int
    """Bytes on disk, approximately for files on the hub."""
    repository: str | None = None
    """Repository on the Hugging Face hub; None for a model inside the wheel."""
    file: str = ""
    """Name in that repository, or of the file inside the wheel."""

    @property
    def embedded(self) -> Path | None:
        """The weights inside the wheel, if that is where they are."""
        return None if self.repository else Path(__file__).with_name(self.file)


MODELS = {
    model.name: model
    for model in (
        Model(
            name="mini",
            version="1.0",
            architecture="mini",
            licence="Apache-2.0",
            summary="embedded, fast, does not read the prompt; for trying things and for small machines",
            size=6_400_000,
            file="mini.safetensors",
        ),
        Model(
            name="hps-v2.0",
            version="2.0",
            architecture="ViT-H-14",
            licence="Apache-2.0",
            summary="the model of the paper (arXiv 2306.09341)",
            size=3_900_000_000,
            repository="xswu/HPSv2",
            file="HPS_v2_compressed.pt",
        ),
        Model(
            name="hps-v2.1",
            version="2.1",
            architecture="ViT-H-14",
            licence="Apache-2.0",
            summary="trained on better data by the same authors; the usual choice",
            size=3_900_000_000,
            repository="xswu/HPSv2",
            file="HPS_v2.1_compressed.pt",
        ),
    )
}


def find(name: str) -> Model:
    """The model of that name.

    Raises:
        UnknownModelError: there is none; the message suggests the nearest name.
    """
    if name in MODELS:
        return MODELS[name]
    near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join(MODELS)
    raise UnknownModelError(f"model: {name!r} is neither a known name nor a file; {hint}Known: {known}")
