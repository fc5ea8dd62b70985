"""The devices and processes of a run, as they were started, and their random numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from hpskit.errors import InputError, MissingExtraError
from hpskit.training.recipes import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["accelerator_for", "peak_memory", "random_state", "require_accelerate", "set_random_state"]


def require_accelerate() -> None:
    """Raise a MissingExtraError that says how to install accelerate, if it is not there."""
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        cure = "install it: pip install 'hpskit[train]'"
        raise MissingExtraError(f"training: needs accelerate, which is not installed; {cure}") from error


def accelerator_for(recipe: Recipe, device: str = "auto", *, shard: bool = False) -> Accelerator:
    """The devices of this run, as `torchrun` or `accelerate launch` have arranged them.

    Args:
        recipe: its precision is used.
        device: `auto`, or `cpu` to leave GPUs alone.
        shard: weights are to be in shards.

    Raises:
        MissingExtraError: accelerate is not installed.
        InputError: the devices cannot do the precision, or cannot be used as they were started.
    """
    require_accelerate()
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device not in ("auto", "cpu"):
        cure = "choose GPUs by CUDA_VISIBLE_DEVICES"
        raise InputError(f"--device: is {device!r}, expected auto or cpu; {cure}")
    on_gpu = device == "auto" and torch.cuda.is_available()
    if recipe.precision == "fp16" and not on_gpu:
        cure = "use --set precision=bf16 or precision=fp32"
        raise InputError(f"precision: is 'fp16', which needs a GPU to train in, and this run has none; {cure}")
    AcceleratorState._reset_state()  # else a second run of this process could have no other precision
    precision = "no" if recipe.precision == "fp32" else recipe.precision
    _check_plugins()
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if shard and started == 1:
        raise InputError("--shard: there is one process to share the weights; start several by torchrun")
    if shard and recipe.precision == "fp16":
        cure = "use --set precision=bf16 or precision=fp32"
        raise InputError(f"--shard: goes with bf16 and fp32, but precision is 'fp16'; {cure}")
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    accelerator = Accelerator(cpu=device == "cpu" or not has_gpu, mixed_precision=precision)
    if accelerator.num_processes != started:  # each would train on its own, in the same folder
        found = f"{started} processes were started, accelerate knows of {accelerator.num_processes}"
        raise InputError(f"devices: {found}; start them by torchrun, one for each GPU")
    return accelerator


def _check_plugins() -> None:
    """Those of accelerate would take over what `Engine` does."""
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            cure = "leave --use_fsdp and its like out; `hpskit train --shard` puts weights in shards"
            raise InputError(f"devices: accelerate launch was asked for {name}, which is not used here; {cure}")


def peak_memory() -> int:
    """Bytes at the worst moment of this process so far: of its GPU, or of the process where there is none."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        import psutil  # accelerate brings it

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def random_state() -> dict[str, str]:
    """Of torch's generators on the CPU and on this process's GPU, as JSON has it."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return {name: bytes(value.tolist()).hex() for name, value in state.items()}


def set_random_state(state: Mapping[str, str]) -> None:
    """Go on with what `random_state` gave."""
    found = {name: torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8) for name, text in state.items()}
    torch.set_rng_state(found["cpu"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])
