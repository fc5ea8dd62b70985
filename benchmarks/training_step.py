"""How long one training step takes and how much memory, for a network, a batch and a recipe; prints JSON.

    python benchmarks/training_step.py [--recipe hpsv2] [--set precision=bf16] […] [--pairs 4] [--steps 2] [--threads 2]

A process of its own trains made-up pixels with everything that a real step has: both towers, the recipe's loss, the
gradient in `accumulate` parts, AdamW on what the recipe trains, the clamp. Only reading data is left out. Weights are
drawn unless the recipe is given others: neither time nor memory depends on their values. `operations` counts the
products of matrices and attention, forward and backward, with torch's own counter.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from hpskit.models.network import autocast, choose_device
from hpskit.training.engine import cosine_lr
from hpskit.training.loader import Batch, Example
from hpskit.training.losses import objective
from hpskit.training.recipes import Recipe, read_recipe
from hpskit.training.student import Student

PROMPT = "a portrait of an old fisherman with a long white beard by the sea at sunset in soft light, oil on canvas"
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def made_up(pairs: int, size: int) -> Batch:
    """Pairs of noise, each with a prompt of its own."""
    generator = torch.Generator().manual_seed(0)
    groups = [
        Example(
            prompt=f"{PROMPT}, number {number}",
            place="noise",
            pixels=torch.randn(2, 3, size, size, generator=generator),
            ranks=np.array([[1.0, 2.0]]),
            votes=np.array([1.0]),
            weight=1.0,
        )
        for number in range(pairs)
    ]
    return Batch(examples=groups, size=size)


def step(
    student: Student, recipe: Recipe, optimizer: torch.optim.Optimizer, pairs: int, number: int
) -> dict[str, float]:
    """One step, part by part: its loss, seconds of its two halves, and of the processor, whoever else was using it."""
    for group in optimizer.param_groups:
        group["lr"] = cosine_lr(number, base_lr=recipe.lr, warmup=recipe.warmup, total=recipe.steps)
    device = student.network.logit_scale.device
    batch = made_up(pairs // recipe.accumulate, student.preprocessing.size)
    start, busy, total = time.perf_counter(), time.process_time(), 0.0
    for _ in range(recipe.accumulate):
        with autocast(device, PRECISIONS[recipe.precision]):
            scores = student.scores(batch)
        loss, _ = objective(recipe, scores, batch)
        (loss * recipe.loss_scale / pairs).backward()
        total += loss.item() / pairs
    between = time.perf_counter()
    optimizer.step()
    optimizer.zero_grad()
    student.clamp()
    return {
        "gradient_seconds": between - start,
        "optimizer_seconds": time.perf_counter() - between,
        "processor_seconds": time.process_time() - busy,
        "loss": total,
    }


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="hpsv2")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="as for hpskit train")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", action="store_true", help="count the operations of the first step, which slows it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = read_recipe(options.recipe).with_settings(["weights=none", *options.settings])
    begin = time.perf_counter()
    student = Student.build(recipe, device=choose_device(options.device))
    adam = {"lr": recipe.lr, "betas": recipe.betas, "eps": recipe.eps}
    optimizer = torch.optim.AdamW(student.parameter_groups(recipe), **adam)
    built = {"build_seconds": time.perf_counter() - begin, "built_gigabytes": peak_gigabytes()}
    figures, operations = [], None
    for number in range(options.steps):
        if options.count and number == 0:
            with FlopCounterMode(display=False) as counter:
                figures.append(step(student, recipe, optimizer, options.pairs, number))
            operations = counter.get_total_flops()
        else:
            figures.append(step(student, recipe, optimizer, options.pairs, number))
    result = {
        "recipe": recipe.model_dump(mode="json"),
        "pairs": options.pairs,
        "threads": options.threads,
        "device": options.device,
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in student.parameters()),
        "trained_parameters": sum(p.numel() for p in student.parameters() if p.requires_grad),
        "operations": operations,
        **built,
        "steps": figures,
        "peak_gigabytes": peak_gigabytes(),
    }
    if options.device.startswith("cuda"):
        result["peak_device_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
