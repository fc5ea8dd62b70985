"""What the known answers of the baselines were computed with: weights, images and prompts that anyone can make again.

The published weights cannot be shipped. A tensor of a stand-in depends on its name and shape alone, so its scores
mean nothing, but any difference in architecture, names, tokens, preprocessing or scale shows in them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PROMPTS = (
    "a temple with a red roof beside a lake",
    "Café, naïve & “quoted” — 3 dahlias!!  in  the rain",
    "a very long prompt " + "with many words that nobody will ever read to the end " * 8,
)

SMALL_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "head_width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
"""open_clip's configuration of a CLIP of the same make that is loaded in a moment."""

SMALL_BLIP = {"width": 128, "depth": 2, "heads": 2, "patch": 32}
"""Image tower and text encoder of an ImageReward of the same make."""

_WORDS = "a the in and of to with that very long prompt many words will ever read end red roof lake temple rain".split()  # noqa: SIM905


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 tensor that `name` has in a stand-in."""
    if not shape:
        return torch.tensor(4.5)  # logit_scale
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = generator.standard_normal(size=shape, dtype=np.float32)
    if len(shape) > 1:
        values *= (shape[-1] if shape[0] == 1 else math.prod(shape[1:])) ** -0.5
    elif name.endswith("weight"):  # of a norm
        values = 1 + values / 10
    else:
        values /= 50
    return torch.from_numpy(values)


def state(shapes: Mapping[str, Iterable[int]]) -> dict[str, torch.Tensor]:
    return {name: tensor(name, tuple(shape)) for name, shape in shapes.items()}


def fill(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Overwrite the parameters of a model in place; return its state dict."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(tensor(name, tuple(value.shape)))
    return model.state_dict()


def vocabulary(size: int) -> str:
    """A vocab.txt of BERT's form with `size` entries: single characters, a few words, and unused ones."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    marks = "!\"#$%&'()*+,-./:;?“”—"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *marks, *_WORDS]
    words = [*dict.fromkeys([*words, *(f"##{letter}" for letter in letters), "##ing", "##s"])]
    return "".join(f"{word}\n" for word in [*words, *(f"[unused{n}]" for n in range(size - len(words)))])


def pictures(folder: Path) -> list[Path]:
    """Two photographs that scikit-learn ships and pieces of them: tall, narrow, small, and with odd margins."""
    from sklearn.datasets import load_sample_images

    temple, flower = (Image.fromarray(array) for array in load_sample_images().images)
    images = {
        "temple": temple,
        "flower": flower,
        "tall": flower.crop((200, 0, 384, 427)),
        "strip": temple.transpose(Image.Transpose.ROTATE_90).crop((40, 0, 300, 640)),
        "small": temple.crop((100, 100, 251, 201)),
        "odd": temple.crop((3, 5, 458, 328)),
    }
    paths = []
    for name, image in images.items():
        paths.append(folder / f"{name}.png")
        image.save(paths[-1])
    return paths
