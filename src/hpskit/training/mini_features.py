"""What mini sees of images and of spoilt copies of them: computed once, kept in files, continued after a kill."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hpskit.errors import OutputError
from hpskit.files import AppendLog, publish
from hpskit.models.mini import MiniNetwork
from hpskit.pixels import to_tensor
from hpskit.training.mini_data import Material

__all__ = ["COPIES", "Table", "tabulate"]

_BATCH = 16
_IN_A_FILE = 64
"""Images; what a kill loses. Whole batches, so that a run that was killed has the same ones."""

Spoil = Callable[[Image.Image, float, np.random.Generator], Image.Image]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Features of all images and of one copy of each, spoilt at random strength, for each kind of damage."""

    plain: Tensor
    """(images, F) float32."""
    copies: Mapping[str, Tensor]
    """Kind of damage -> (images, F)."""


def blurred(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    """By 1.5 to 6.5 pixels."""
    return image.filter(ImageFilter.GaussianBlur(1.5 + 5 * strength))


def noisy(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """By a deviation of 15 to 75 levels."""
    values = np.asarray(image, dtype=np.float64) + rng.normal(0, 15 + 60 * strength, (image.height, image.width, 3))
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    """To a JPEG of quality 18 down to 4."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(18 - 14 * strength))
    return Image.open(buffer).convert("RGB")


def washed_out(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """To a saturation of 0.7 down to 0 and a contrast of 0.65 down to 0.2, up to 30 levels brighter."""
    grey = ImageEnhance.Color(image).enhance(0.7 - 0.7 * strength)
    flat = np.asarray(ImageEnhance.Contrast(grey).enhance(0.65 - 0.45 * strength), dtype=np.float64)
    return Image.fromarray((flat + rng.uniform(0, 30)).round().clip(0, 255).astype(np.uint8))


COPIES: Mapping[str, Spoil] = {spoil.__name__: spoil for spoil in (blurred, noisy, compressed, washed_out)}
"""Name -> what it does to an image at a strength from 0 to 1."""


def tabulate(
    network: MiniNetwork, material: Material, *, folder: Path, log: AppendLog, progress: Callable[[int, int], None]
) -> Table:
    """Compute all features, or read those that an earlier run has left.

    Args:
        network: in float32.
        material: whose images they are.
        folder: for the files.
        log: says which files are whole, and how far the random numbers were after each.
        progress: called with images done and images in all, every copy an image of its own.

    Raises:
        RecordError: an image cannot be used.
        OutputError: a file cannot be written, or is damaged.
    """
    rng = np.random.default_rng(0)
    made = {line["features"]: line["rng"] for line in log.lines if "features" in line}
    parts: dict[str, list[Tensor]] = {kind: [] for kind in ("plain", *COPIES)}
    total, done = len(material.images) * len(parts), 0
    for kind, tensors in parts.items():
        images: Iterator[Image.Image] | None = None
        for first in range(0, len(material.images), _IN_A_FILE):
            path = folder / f"{kind}-{first:05}.safetensors"
            if path.name in made and path.is_file():
                tensors.append(_read(path))
                rng.bit_generator.state = made[path.name]
            else:
                images = images or material.opened(first)
                tensors.append(_features(network, _spoilt(itertools.islice(images, _IN_A_FILE), kind, rng)))
                _write(tensors[-1], path)
                log.append({"features": path.name, "rng": rng.bit_generator.state})
            done += len(tensors[-1])
            progress(done, total)
    table = {kind: torch.cat(tensors) for kind, tensors in parts.items()}
    return Table(plain=table.pop("plain"), copies=table)


def _spoilt(images: Iterator[Image.Image], kind: str, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Copies of one kind; `plain` are the images themselves."""
    for image in images:
        yield image if kind == "plain" else COPIES[kind](image, rng.uniform(), rng)


def _features(network: MiniNetwork, images: Iterator[Image.Image]) -> Tensor:
    """(N, F) float32."""
    pixels = (network.preprocessing(to_tensor(image)) for image in images)
    parts = []
    with torch.no_grad():
        while batch := list(itertools.islice(pixels, _BATCH)):
            parts.append(network.model.features(torch.stack(batch)))
    return torch.cat(parts)


def _write(features: Tensor, path: Path) -> None:
    with publish(path) as temporary:
        try:
            save_file({"features": features}, temporary)
        except SafetensorError as error:  # a full disk arrives as this, not as OSError
            raise OSError(str(error)) from error


def _read(path: Path) -> Tensor:
    try:
        return load_file(path)["features"]
    except (SafetensorError, KeyError, OSError) as error:
        raise OutputError(f"{path}: is damaged ({error}); delete the file and run the same command again") from error
