"""Find the image of a folder that fits a prompt best, by the embeddings of a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hpskit.errors import InputError, need
from hpskit.files import expand
from hpskit.images.layout import ENDINGS
from hpskit.images.repository import Repository, folder_sha256
from hpskit.pixels import open_image
from hpskit.schema import Strict

if TYPE_CHECKING:
    import torch

_BATCH = 32


class Retrieve(Strict):
    """Settings of the images to begin from, and of the share of one that is kept."""

    folder: str
    strength: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The a of sqrt(a) x latent + sqrt(1 - a) x noise: 0 is noise alone."""
    clip: str = "openai/clip-vit-large-patch14"
    """A CLIP of transformers, on the hub or in a folder, that embeds prompts and images."""
    revision: str = "main"


class Retriever:
    """An exact search over a folder. Its images are embedded when the first prompt comes."""

    def __init__(self, settings: Retrieve, place: str) -> None:
        """List the images.

        Raises:
            InputError: there are none.
            MissingExtraError: faiss is not installed.
        """
        need("faiss", f"{place}: retrieve", "generate")
        self.settings, self.folder = settings, expand(settings.folder)
        self.paths = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in ENDINGS)
        if not self.paths:
            expected = f"images ({', '.join(ENDINGS)})"
            raise InputError(f"{place}: retrieve", f"finds nothing in {self.folder}", expected=expected)
        self._index: Any = None
        self.clip = Repository(settings.clip, settings.revision, "config.json", f"{place}: retrieve")

    @property
    def info(self) -> dict[str, Any]:
        """The settings, with a hash of all images and the identity of the CLIP."""
        own = {"strength": self.settings.strength, "clip": self.clip.name, "revision": self.clip.identity}
        return {**own, "images": f"sha256:{folder_sha256(self.folder, self.paths)}"}

    def nearest(self, prompts: Sequence[str], device: str = "cpu") -> list[str]:
        """Return for each prompt the image with the largest cosine, from the folder, with `/`."""
        model, processor = self._clip
        model.to(device)
        if self._index is None:
            self._index = self._embedded(device)
        tokens = processor(text=list(prompts), padding=True, truncation=True, return_tensors="pt").to(device)
        _, found = self._index.search(_normalised(model.get_text_features(**tokens)), 1)
        return [self.paths[row].relative_to(self.folder).as_posix() for row in found[:, 0]]

    @cached_property
    def _clip(self) -> tuple[Any, Any]:
        from transformers import CLIPModel, CLIPProcessor

        source, arguments = self.clip.source, self.clip.arguments
        with self.clip.loading():
            model: Any = CLIPModel.from_pretrained(source, **arguments, use_safetensors=True)
            return model.eval().requires_grad_(False), CLIPProcessor.from_pretrained(source, **arguments)

    def _embedded(self, device: str) -> Any:
        """Embed all images for the search."""
        import faiss

        model, processor = self._clip
        index = faiss.IndexFlatIP(model.config.projection_dim)
        for start in range(0, len(self.paths), _BATCH):
            images = [open_image(path) for path in self.paths[start : start + _BATCH]]
            pixels = processor(images=images, return_tensors="pt").to(device)
            index.add(_normalised(model.get_image_features(**pixels)))
        return index


def _normalised(output: Any) -> Any:
    """Bring the embeddings of transformers' output to length 1, as a NumPy array (N, width)."""
    found: torch.Tensor = output.pooler_output
    return (found / found.norm(dim=-1, keepdim=True)).cpu().numpy()
