"""The learning rate of each step."""

from __future__ import annotations

import math

from hpskit.errors import InputError

__all__ = ["cosine_lr"]


def cosine_lr(step: int, *, base_lr: float, warmup: int, total: int) -> float:
    """The learning rate of a step: a straight rise over `warmup` steps, then half a cosine down towards 0.

    The first step has base_lr / warmup, not 0. The steps `warmup - 1` and `warmup` both have base_lr. The last step,
    `total - 1`, is one short of 0.

    Args:
        step: counted from 0, less than `total`.
        base_lr: the highest rate.
        warmup: steps of the rise, 0 to `total`.
        total: steps of the whole run.

    Raises:
        InputError: a number is outside of its range.

    Source: `cosine_lr` of the official training code.
    """
    if not 0 <= warmup <= total:
        raise InputError(f"warmup: is {warmup}, expected 0 to {total}, the steps of the run")
    if not 0 <= step < total:
        raise InputError(f"step: is {step}, expected 0 to {total - 1}, in a run of {total} steps")
    if step < warmup:
        return base_lr * (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) * base_lr
