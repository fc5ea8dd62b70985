"""Both towers of a CLIP as ONNX, checked against torch before they are published.

    image.onnx    pixels (N, 3, S, S) float32, preprocessed -> features (N, D) float32 of unit length
    text.onnx     tokens (M, context) int64 -> features (M, D) float32 of unit length
    model.json    what a program needs to use them, and how far their scores are from torch's; written last

A score is 100 x the product of the two features. Weights lie beside each file (`image.onnx.data`), because a large
network does not fit into one of ONNX.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hpskit import __version__
from hpskit.errors import MissingExtraError, OutputError
from hpskit.files import publish_folder, publish_json, sha256_file
from hpskit.models.clip import build, fill, image_size, tokenizer
from hpskit.models.store import Located
from hpskit.pixels import Preprocessing

__all__ = ["write_onnx"]

_FORMAT = "hpskit onnx 1"
_TOLERANCE = 0.01
"""Points of a score: a tenth of what decides between close models."""
_EXAMPLES = ("a cat", "two dogs on a hill, oil painting", "", "a very long prompt, " * 40)


class _Images(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return normalize(self.network.encode_image(pixels), dim=-1)


class _Prompts(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        return normalize(self.network.encode_text(tokens), dim=-1)


def write_onnx(located: Located, architecture: str, out: Path) -> float:
    """Write a folder with both towers, and give back the largest difference of a score to torch, in points.

    Args:
        located: weights of a CLIP.
        architecture: open_clip's name of it.
        out: the folder; it must not exist.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        OutputError: it cannot be written, or its scores are not those of torch.
    """
    _check_installed()
    network = build(architecture)
    fill(network, located.weights, torch.float32, torch.device("cpu"))
    network.eval().requires_grad_(False)
    size = image_size(network)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(len(_EXAMPLES), 3, size, size, generator=generator)
    tokens = tokenizer(architecture)([*_EXAMPLES])
    with publish_folder(out) as folder:
        towers = (("image", _Images(network), "pixels", pixels), ("text", _Prompts(network), "tokens", tokens))
        features = [_tower(folder, *tower) for tower in towers]
        (torch_images, images), (torch_prompts, prompts) = features
        difference = float((100 * (images @ prompts.T - torch_images @ torch_prompts.T)).abs().max())
        if not difference <= _TOLERANCE:  # NaN too
            found = f"scores differ from torch's by up to {difference:.3g} points, expected at most {_TOLERANCE}"
            raise OutputError(f"{out}: {found}; nothing was written; report the architecture, {architecture}")
        publish_json(folder / "model.json", _description(located, architecture, folder, size, difference))
    return difference


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        cure = "install it: pip install 'hpskit[onnx]'"
        raise MissingExtraError(f"ONNX: needs {error.name}, which is not installed; {cure}") from error


def _tower(folder: Path, name: str, tower: nn.Module, argument: str, example: Tensor) -> tuple[Tensor, Tensor]:
    """Write one tower; its features of the example by torch, and by ONNX, which gets other numbers of rows too."""
    path = folder / f"{name}.onnx"
    tower.eval()
    with _quiet():
        torch.onnx.export(
            tower,
            (example[:2],),
            path,
            dynamo=True,
            external_data=True,
            verbose=False,
            input_names=[argument],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
        )
    with torch.inference_mode():
        expected = tower(example)
    parts = (example[:1], example[1:])
    return expected, torch.cat([_run(path, part) for part in parts])


def _run(path: Path, example: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    return torch.from_numpy(features)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints what it does and warns of itself; what counts is checked afterwards."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _description(located: Located, architecture: str, folder: Path, size: int, difference: float) -> dict[str, Any]:
    from importlib.metadata import version

    seen = Preprocessing(size=size)
    return {
        "format": _FORMAT,
        "name": located.name,
        "architecture": architecture,
        "weight_hash": located.weight_hash,
        "score": "100 x the product of the features of image and prompt",
        "preprocessing": {
            "size": size,
            "resize": "RGB from 0 to 1; longest side to size, bicubic, antialiased, not rounded; centred on zeros",
            "normalise": "(value - mean) / std, the zeros too",
            "mean": seen.mean,
            "std": seen.std,
        },
        "tokenizer": _tokenizer(architecture),
        "largest_difference": {"points": difference, "images": len(_EXAMPLES), "prompts": len(_EXAMPLES)},
        "files": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
        "package": f"hpskit {__version__}",
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
    }


def _tokenizer(architecture: str) -> dict[str, Any]:
    """The class of `open_clip.tokenizer` and how to make it, for an open_clip that does not know this network."""
    text = open_clip.get_model_config(architecture)["text_cfg"]
    made = tokenizer(architecture)
    arguments = {"context_length": made.context_length, **text.get("tokenizer_kwargs", {})}
    for field, argument in (("hf_tokenizer_name", "tokenizer_name"), ("tokenizer_mode", "tokenizer_mode")):
        if field in text:
            arguments[argument] = text[field]
    return {"class": type(made).__name__, "arguments": arguments}
