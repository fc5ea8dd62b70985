"""The contract of a network, what one is built from, and the device and arithmetic it runs in."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from hpskit.errors import InputError
from hpskit.pixels import Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hpskit.models.checkpoint import Weights

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Arithmetic = Literal["fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Blueprint:
    """Everything a network of hpskit may be built from; each takes what it needs."""

    architecture: str
    """open_clip's name of the network, or the registry's."""
    weights: Weights
    precision: Arithmetic
    device: torch.device
    antialias: bool = True
    """Antialiasing when images are resized; False is for HPS v2 alone."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further facts that the network needs beside its weights."""

    @property
    def dtype(self) -> torch.dtype:
        """torch's type for `precision`."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def part(self, prefix: str) -> Blueprint:
        """Return the blueprint of a part of the network: tensors that begin with `prefix`, without it."""
        return replace(self, weights=self.weights.part(prefix))


class Network(Protocol):
    """A preference model on its device, frozen. Knows nothing of files, batches or caches.

    A score takes three steps: encode the images, encode the prompts, compare the two row by row. hpskit's networks
    derive from this class and are built from a `Blueprint`. Networks of other people only need the same members, apart
    from `arithmetic` and `arrange`.
    """

    preprocessing: Preprocessing
    device: torch.device
    scale: str
    """Unit of the score, in words."""
    log_odds_per_point: float | None
    """Log-odds of being preferred, for each point by which an image is ahead of another. None if nobody knows: such
    scores rank, but give no probability."""
    reads_prompt: bool
    differentiable: bool
    """True if gradients reach the pixels in this precision on this device."""
    reading: str = ""
    """What else decides a score and is in neither weights nor preprocessing, such as a question; for the identity."""

    def __init__(self, plan: Blueprint) -> None:
        """Build the network without initialising it, and fill it with the weights.

        Raises:
            CheckpointError: the weights are those of another network.
        """

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, H, W) float32 on `device`, of one shape -> (N, D) float32.

        A network of hpskit that looks at an image while it reads the prompt may give the pixels on, as they are.
        """
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, E) float32 on `device`; (M, 0) if they are not read."""
        ...

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Images and prompts as encoded, N rows each -> (N,) float32 scores on the documented scale."""
        ...

    @classmethod
    def arithmetic(cls, precision: str, device: torch.device) -> Arithmetic:
        """Return the arithmetic that it computes in where `precision` is asked for: its label in every record."""
        return choose_precision(precision, device)

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn the tensors of the published files into those that the network is built from.

        Tensors that a score does not need are left out by name; whatever else does not fit is refused when the network
        is filled.

        Args:
            published: the tensors of each file, in the order of the model's sources.

        Raises:
            CheckpointError: a file is not of the expected layout.
        """
        (state,) = published
        return dict(state)


class ImageNetwork(Network):
    """Base of networks that do not read the prompt and encode an image as its score, (N, 1)."""

    reads_prompt = False

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, 0)."""
        import torch

        return torch.empty(len(prompts), 0, device=self.device)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:  # noqa: ARG002  # the contract has prompts
        """(N, 1) and anything -> (N,)."""
        return images[:, 0]


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Compute products in `dtype` where torch thinks that safe; None leaves all arithmetic as it is."""
    import torch

    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def choose_device(device: str) -> torch.device:
    """Return the device for `auto` (cuda, else mps, else cpu) or for a name such as `cuda:1`.

    Raises:
        InputError: the name is unknown, or this machine has no such device.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", device):
        raise InputError("device", f"is {device!r}", expected=f"one of {', '.join(get_args(Device))}, cuda:1 …")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name, there in present.items() if there)
    if not present[device.partition(":")[0]]:
        raise InputError("device", f"is {device!r}, but torch finds none on this machine", cure="use auto or cpu")
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> Arithmetic:
    """Return the arithmetic for `auto`, the fastest that the device has in hardware, or for a name.

    On a CPU `auto` is bf16 where the processor multiplies it (AVX512-BF16, AMX, Arm BF16), else fp32; on CUDA fp16, as
    in the official code; elsewhere fp32.

    Raises:
        InputError: the name is unknown.
    """
    if precision not in get_args(Precision):
        raise InputError("precision", f"is {precision!r}", expected=f"one of {', '.join(get_args(Precision))}")
    if precision == "auto":
        if device.type == "cpu":
            return "bf16" if cpu_multiplies_bf16() else "fp32"
        return "fp16" if device.type == "cuda" else "fp32"
    return precision  # type: ignore[return-value]  # checked against the same names above


def cpu_multiplies_bf16() -> bool:
    """Tell if this processor has instructions for bf16 products (emulated ones are slower than float32)."""
    import torch

    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell: be slow rather than wrong
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
