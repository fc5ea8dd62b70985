"""The Inception network of FID, IS and KID: torch-fidelity's, with weights from this machine.

The network is that of the TensorFlow graph of 2015-12-05 as torch-fidelity converted it. Its file is looked for at

    --weights FILE                                     given by the caller
    $HPSKIT_HOME/originals/inception/FILE              put there by hand, or downloaded
    torch.hub's folder of checkpoints                  where torch-fidelity and torchmetrics put it

and downloaded to the second place if it is at none of them and `HF_HUB_OFFLINE` is not set.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import tempfile
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpskit.errors import CheckpointError, HashMismatchError, MissingExtraError, NotCachedError
from hpskit.files import expand, explain, publish, sha256_file
from hpskit.hub import home
from hpskit.models.checkpoint import read_tensors, weight_hash
from hpskit.models.network import choose_device
from hpskit.pixels import Encoded, open_image

__all__ = ["FILE", "Inception", "find_weights", "need_torch_fidelity"]

FILE = "weights-inception-2015-12-05-6726825d.pth"
"""Name that torch-fidelity gives the file; its SHA-256 begins with the last part of it."""
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
_PATIENCE = 20.0
"""Seconds without an answer after which a download is given up."""


def need_torch_fidelity() -> None:
    """See that torch-fidelity is there, before anything is computed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import torch_fidelity  # noqa: F401
    except ImportError as error:
        cure = "run `pip install 'hpskit[metrics]'`"
        raise MissingExtraError("FID, IS and KID", "need torch-fidelity, which is not installed", cure=cure) from error


def find_weights(given: Path | None = None) -> Path:
    """Find the file of the network's weights, and download it if need be; see the module.

    Raises:
        CheckpointError: there is no such file.
        NotCachedError: it is not here and cannot be downloaded.
        HashMismatchError: what arrived is not what was published; nothing was kept.
        OutputError: it cannot be stored.
    """
    from huggingface_hub import constants

    if given is not None:
        if not expand(given).is_file():
            raise CheckpointError(given, "is not there", cure=f"give torch-fidelity's Inception, {FILE}")
        return expand(given)
    own = home() / "originals" / "inception" / FILE
    for place in (own, Path(torch.hub.get_dir()) / "checkpoints" / FILE):
        if place.is_file():
            return place
    cure = f"download {URL} on a connected machine and put it at {own}, or pass the file to --weights"
    if constants.HF_HUB_OFFLINE:
        raise NotCachedError(FILE, "is not on this machine and HF_HUB_OFFLINE is set", cure=cure)
    try:
        with urllib.request.urlopen(URL, timeout=_PATIENCE) as answer:
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = explain(error) if isinstance(error, OSError) else repr(error)
        raise NotCachedError(FILE, f"is not on this machine and cannot be downloaded ({reason})", cure=cure) from error
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(_published()):
        again = "run it again; nothing was kept"
        raise HashMismatchError(URL, f"has SHA-256 {found}", expected=f"{_published()}…", cure=again)
    with publish(own) as temporary:
        temporary.write_bytes(data)
    return own


def _published() -> str:
    """First digits of the SHA-256 of the published file."""
    return Path(FILE).stem.rpartition("-")[2]


class Inception:
    """The network, loaded once."""

    def __init__(self, weights: Path, device: str = "auto") -> None:
        """Load the network with weights that `find_weights` gave.

        Raises:
            CheckpointError: the file is not of that network, or holds anything but tensors.
            InputError: the device is unknown or not there.
        """
        import torch_fidelity
        from torch_fidelity.utils import create_feature_extractor

        state = read_tensors(weights)
        digest = weight_hash((name, state[name]) for name in sorted(state))
        self.identity = f"inception-v3-compat, torch-fidelity {torch_fidelity.__version__}, {digest}"
        """What must be equal before two features may be compared."""
        self.published = sha256_file(weights).startswith(_published())
        self._device = choose_device(device)
        with tempfile.TemporaryDirectory(prefix="hpskit-inception-") as folder:
            safe = Path(folder) / "weights.pth"  # torch-fidelity unpickles whatever file it is given
            torch.save(state, safe)
            options: dict[str, Any] = {"feature_extractor_weights_path": str(safe), "cuda": False, "verbose": False}
            try:
                network = create_feature_extractor("inception-v3-compat", ["2048", "logits_unbiased"], **options)
            except (RuntimeError, AttributeError, TypeError) as error:  # tensors of other names or shapes
                reason = str(error).strip().splitlines()[-1].strip()
                cure = f"give torch-fidelity's Inception, {FILE}"
                raise CheckpointError(weights, f"is of another network ({reason})", cure=cure) from error
        self._network = network.to(self._device)

    def features(self, images: Sequence[Encoded], pool: Executor) -> list[str]:
        """Compute the features of images as texts for a ledger; those of one size are computed together.

        Raises:
            ImageError: an image is broken.
        """

        def pixels(image: Encoded) -> Tensor:
            return torch.from_numpy(np.array(open_image(image))).permute(2, 0, 1)

        tensors = list(pool.map(pixels, images))
        found = [""] * len(tensors)
        for size in {tensor.shape for tensor in tensors}:
            rows = [number for number, tensor in enumerate(tensors) if tensor.shape == size]
            with torch.inference_mode():
                parts = self._network(torch.stack([tensors[row] for row in rows]).to(self._device))
            for row, own in zip(rows, torch.cat(parts, dim=1).cpu().numpy(), strict=True):
                found[row] = base64.b64encode(own.tobytes()).decode()
        return found

    @staticmethod
    def tensor(texts: Sequence[str]) -> Tensor:
        """(images, 3056): the last pooling layer (2048) and the logits of the classes without bias (1008)."""
        return torch.from_numpy(np.stack([np.frombuffer(base64.b64decode(text), np.float32) for text in texts]))
