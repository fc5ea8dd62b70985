"""Weights, gradients and AdamW's state in shards: each process holds a part of every tensor (FSDP, torch's own).

A block is put together when it computes and taken apart again, so a device needs memory for its shards and for one
block. What is learned is the same. Not by accelerate's plugin, which needs GPUs: this is tested on CPUs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from hpskit.errors import InputError
from hpskit.training.student import Student

__all__ = ["clip_gradients", "shard"]


def shard(student: Student, device: torch.device) -> None:
    """Spread the tensors of a student over all processes, in place, each along its first dimension.

    logit_scale, which has no dimension, stays whole on every device, and nobody sums its gradient but the caller.

    Args:
        student: the same on every process.
        device: of this process.

    Raises:
        InputError: torch is too old.
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise InputError(f"--shard: torch {torch.__version__} cannot leave logit_scale whole; install a newer torch")
    mesh = init_device_mesh(device.type, (get_world_size(),))
    whole = {parameter for parameter in student.parameters() if parameter.ndim == 0}
    for parameter in whole:
        parameter.data = parameter.data.to(device)
    for block in [*_blocks(student)]:
        fully_shard(block, mesh=mesh)
    # Also after a forward pass that no backward pass follows, or a validation would leave its weights to the next step.
    fully_shard(student, mesh=mesh, reshard_after_forward=True, ignored_params=whole)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost members of lists of modules: the blocks of a transformer, whatever its library calls them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            yield from (member for member in child if any(p.ndim for p in member.parameters()))
        else:
            yield from _blocks(child)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Bring the norm of all gradients together, in shards or whole, down to `limit`, in place.

    Returns:
        0-d: what it was; the same on every process.
    """
    from torch.distributed import all_reduce
    from torch.distributed.tensor import DTensor

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parts = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    squares = get_total_norm(parts).to(whole[0].device) ** 2  # on the CPU if nothing in shards is trained
    all_reduce(squares)
    total = (squares + get_total_norm(whole) ** 2).sqrt()
    factor = torch.clamp(limit / (total + 1e-6), max=1.0)  # as torch's clip_grad_norm_
    for gradient in (*parts, *whole):
        gradient.mul_(factor)
    return total
