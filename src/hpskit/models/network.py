"""What a network is built from, what it must offer so that a scorer can run it, and the arithmetic it runs in."""

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

__all__ = ["Arithmetic", "Blueprint", "Device", "Network", "Precision", "autocast", "choose_device", "choose_precision"]

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Arithmetic = Literal["fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Blueprint:
    """What every network of hpskit is built from; each takes of it what it needs."""

    architecture: str
    """open_clip's name of the network, or what the registry calls it."""
    weights: Weights
    precision: Arithmetic
    device: torch.device
    antialias: bool = True
    """Of the resizing of images; False is for HPS v2 alone."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the network has to know beside its weights."""

    @property
    def dtype(self) -> torch.dtype:
        """torch's type for `precision`."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def part(self, prefix: str) -> Blueprint:
        """For a network whose tensors are those that begin with `prefix`, which is left out of their names."""
        return replace(self, weights=self.weights.part(prefix))


class Network(Protocol):
    """A preference model on its device, frozen. Knows nothing of files, batches or caches.

    To give a score it encodes the images, encodes the prompts, and compares the two row by row. A network that does
    not read prompts returns (M, 0) for them.
    """

    preprocessing: Preprocessing
    device: torch.device
    scale: str
    """Unit of the score, in words."""
    reads_prompt: bool
    differentiable: bool
    """Whether gradients reach the pixels in this precision on this device."""

    @property
    def log_odds_per_point(self) -> float | None:
        """How the score says what people prefer: log-odds for each point by which an image is ahead of another. None
        if nothing says so: then it ranks, and gives no probability."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) float32 on `device` -> (N, D) float32."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, E) float32 on `device`."""
        ...

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, D) and (N, E) -> (N,) float32 scores on the documented scale."""
        ...


def autocast(device: torch.device, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """Products in `dtype` where torch thinks them safe; None leaves all arithmetic as it is."""
    import torch

    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def choose_device(device: str) -> torch.device:
    """The device for `auto` (cuda, else mps, else cpu) or for a name such as `cuda:1`.

    Raises:
        InputError: unknown name, or this machine does not have it.
    """
    import torch

    kind = device.partition(":")[0]
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", device):
        raise InputError(f"device: is {device!r}, expected one of {', '.join(get_args(Device))}, cuda:1 …")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    elif (kind == "cuda" and not cuda) or (kind == "mps" and not mps):
        raise InputError(f"device: is {device!r}, but torch finds none on this machine; use auto or cpu")
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> Arithmetic:
    """The arithmetic for `auto`: the fastest that the device has in hardware.

    On a CPU bf16 where the processor multiplies it (AVX512-BF16, AMX, Arm BF16), else fp32; on CUDA fp16, as the
    official code; elsewhere fp32.

    Raises:
        InputError: unknown name.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision: is {precision!r}, expected one of {', '.join(get_args(Precision))}")
    if precision == "auto":
        if device.type == "cpu":
            return "bf16" if cpu_multiplies_bf16() else "fp32"
        return "fp16" if device.type == "cuda" else "fp32"
    return precision  # type: ignore[return-value]  # checked against the same names above


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has instructions for bf16 products (emulated ones are slower than float32)."""
    import torch

    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell: be slow rather than wrong
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
