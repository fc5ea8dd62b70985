"""What the Inception network of FID, IS and KID sees in images: through torch-fidelity, with weights from this machine.

The network is that of the TensorFlow graph of 2015-12-05 as torch-fidelity converted it. Its file is looked for at

    --weights FILE                                     given by the caller
    $HPSKIT_HOME/originals/inception/FILE              put there by hand, or downloaded
    torch.hub's folder of checkpoints                  where torch-fidelity and torchmetrics put it

and downloaded to the second place if it is at none of them and `HF_HUB_OFFLINE` is not set.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import os
import tempfile
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpskit.errors import CheckpointError, HashMismatchError, MissingExtraError, NotCachedError, OutputError
from hpskit.files import expand, explain, publish, sha256_file
from hpskit.hub import home
from hpskit.models.checkpoint import read_tensors, weight_hash
from hpskit.models.network import choose_device
from hpskit.pixels import open_image

__all__ = ["FILE", "Features", "Inception", "find_weights", "kept_features", "need_torch_fidelity"]

FILE = "weights-inception-2015-12-05-6726825d.pth"
"""What torch-fidelity calls the file; its SHA-256 begins with the last part of the name."""
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
_PATIENCE = 20.0
"""Seconds without an answer after which a download is given up."""
_PART = 256
"""Images whose features are kept in one file: what a kill can cost."""
_BATCH = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What the network says of images."""

    pooled: Floats
    """(images, 2048): the last pooling layer, for FID and KID."""
    logits: Floats
    """(images, 1008): the classes, without bias, for IS."""

    def of(self, rows: NDArray[np.int64]) -> Features:
        """Of some of the images."""
        return Features(pooled=self.pooled[rows], logits=self.logits[rows])


def need_torch_fidelity() -> None:
    """See that torch-fidelity is there, before anything is computed.

    Raises:
        MissingExtraError: it is not.
    """
    try:
        import torch_fidelity  # noqa: F401
    except ImportError as error:
        cure = "run `pip install 'hpskit[metrics]'`"
        raise MissingExtraError(f"FID, IS and KID: need torch-fidelity, which is not installed; {cure}") from error


def find_weights(given: Path | None = None) -> Path:
    """The file of the network's weights, downloaded if need be; see the module.

    Raises:
        CheckpointError: there is no such file.
        NotCachedError: it is not here and cannot be downloaded.
        HashMismatchError: what arrived is not what was published; nothing was kept.
        OutputError: it cannot be stored.
    """
    if given is not None:
        path = expand(given)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; give the weights of torch-fidelity's Inception, {FILE}")
        return path
    own = home() / "originals" / "inception" / FILE
    for place in (own, Path(torch.hub.get_dir()) / "checkpoints" / FILE):
        if place.is_file():
            return place
    return _download(own)


def _download(target: Path) -> Path:
    from huggingface_hub import constants

    cure = f"download {URL} on a connected machine and put it at {target}, or pass the file to --weights"
    if constants.HF_HUB_OFFLINE:
        raise NotCachedError(f"{FILE}: is not on this machine and HF_HUB_OFFLINE is set; {cure}")
    try:
        with urllib.request.urlopen(URL, timeout=_PATIENCE) as answer:
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = explain(error) if isinstance(error, OSError) else repr(error)
        raise NotCachedError(f"{FILE}: is not on this machine and cannot be downloaded ({reason}); {cure}") from error
    found, expected = hashlib.sha256(data).hexdigest(), _published_prefix()
    if not found.startswith(expected):
        raise HashMismatchError(f"{URL}: SHA-256 is {found}, expected {expected}…; nothing was kept; run it again")
    with publish(target) as temporary:
        temporary.write_bytes(data)
    return target


def _published_prefix() -> str:
    return Path(FILE).stem.rpartition("-")[2]


class Inception:
    """The network, loaded once."""

    def __init__(self, weights: Path, device: str = "auto") -> None:
        """`weights` as `find_weights` gives them.

        Raises:
            CheckpointError: the file is not of that network, or holds anything but tensors.
            InputError: the device is unknown or not there.
        """
        state = read_tensors(weights)
        self.weight_hash = weight_hash((name, state[name]) for name in sorted(state))
        self.published = sha256_file(weights).startswith(_published_prefix())
        self._device = choose_device(device)
        self._network = _network(weights, state).to(self._device)

    @property
    def identity(self) -> str:
        """What must be equal before two features may be compared."""
        import torch_fidelity

        return f"inception-v3-compat, torch-fidelity {torch_fidelity.__version__}, {self.weight_hash}"

    def __call__(self, images: Sequence[Tensor]) -> Features:
        """Images (3, H, W) uint8 of any sizes; those of one size are computed together."""
        pooled, logits = np.empty((len(images), 2048), np.float32), np.empty((len(images), 1008), np.float32)
        for size in {image.shape for image in images}:
            rows = [number for number, image in enumerate(images) if image.shape == size]
            with torch.inference_mode():
                found = self._network(torch.stack([images[row] for row in rows]).to(self._device))
            pooled[rows], logits[rows] = (part.cpu().numpy() for part in found)
        return Features(pooled=pooled, logits=logits)


def _network(path: Path, state: dict[str, Tensor]) -> Any:
    """torch-fidelity's own. It unpickles whatever file it is given, so it is given one that was written here."""
    from torch_fidelity.utils import create_feature_extractor

    with tempfile.TemporaryDirectory(prefix="hpskit-inception-") as folder:
        safe = Path(folder) / "weights.pth"
        torch.save(state, safe)
        try:
            return create_feature_extractor(
                "inception-v3-compat",
                ["2048", "logits_unbiased"],
                cuda=False,
                feature_extractor_weights_path=str(safe),
                verbose=False,
            )
        except (RuntimeError, AttributeError, TypeError) as error:  # tensors of other names or shapes
            reason = str(error).strip().splitlines()[-1].strip()
            cure = f"give the weights of torch-fidelity's Inception, {FILE}"
            raise CheckpointError(f"{path}: is of another network ({reason}); {cure}") from error


def kept_features(
    files: Sequence[Path], inception: Inception, store: Path, tick: Callable[[int], object]
) -> tuple[Features, list[str]]:
    """Features of image files, those of earlier runs from disk, and the SHA-256 of each file.

    They are kept in parts of 256 images, each named by what is in the images and by the network: a part is computed
    once, however often a run is killed, and never taken for another.

    Args:
        files: images.
        inception: the network.
        store: folder of the parts.
        tick: called with the number of images done.

    Raises:
        ImageError: an image is missing or broken.
        OutputError: a part cannot be written, or is damaged.
    """
    parts, digests = [], []
    for start in range(0, len(files), _PART):
        own = files[start : start + _PART]
        hashes = [sha256_file(file) for file in own]
        key = hashlib.sha256("\n".join([inception.identity, *hashes]).encode()).hexdigest()[:32]
        parts.append(_part(own, inception, store / f"{key}.npz"))
        digests += hashes
        tick(len(digests))
    return _joined(parts), digests


def _part(files: Sequence[Path], inception: Inception, place: Path) -> Features:
    if place.exists():
        try:
            with place.open("rb") as handle, np.load(handle) as arrays:
                return Features(pooled=arrays["pooled"], logits=arrays["logits"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise OutputError(f"{place}: is damaged ({error}); delete it and run the same command again") from error
    found = _joined([inception(batch) for batch in _decoded(files)])
    with publish(place) as temporary, temporary.open("wb") as writer:
        np.savez(writer, pooled=found.pooled, logits=found.logits)
    return found


def _joined(parts: Sequence[Features]) -> Features:
    return Features(
        pooled=np.concatenate([part.pooled for part in parts]), logits=np.concatenate([part.logits for part in parts])
    )


def _decoded(files: Sequence[Path]) -> Iterator[list[Tensor]]:
    """Batches of images (3, H, W) uint8, in order; the next one is decoded meanwhile."""

    def pixels(path: Path) -> Tensor:
        return torch.from_numpy(np.array(open_image(path))).permute(2, 0, 1)

    waiting = iter(files)
    queue: deque[list[Future[Tensor]]] = deque()
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hpskit-decode")
    try:
        while batch := list(itertools.islice(waiting, _BATCH)):
            queue.append([pool.submit(pixels, path) for path in batch])
            if len(queue) > 1:
                yield [future.result() for future in queue.popleft()]
        while queue:
            yield [future.result() for future in queue.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
