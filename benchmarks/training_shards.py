"""What `--shard` saves and costs: memory of a process and seconds of a step, with and without it; prints JSON.

    python benchmarks/training_shards.py [--architecture ViT-B-32] [--processes 2] [--pairs 4] [--steps 3]

Processes of one machine without GPUs train made-up pixels through the trainer's own engine, all blocks, in fp32, from
drawn weights. The peak is that of the process that needs most, with Python, its libraries and the activations. Over
the memory of one machine shards travel as fast as it copies; between GPUs they take longer, and time here says nothing
about them.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import torch

from hpskit.training.engine import Engine, accelerator_for
from hpskit.training.recipes import tiny
from hpskit.training.student import Student
from training_step import made_up, peak_gigabytes

ALONE = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""The second, or glibc would keep the memory of blocks that were taken apart again, up to 32 MB each, to itself."""


def work(options: argparse.Namespace) -> None:
    """One of the processes; the first one prints."""
    torch.set_num_threads(1)
    settings = (f"architecture={options.architecture}", f"batch={options.pairs}", "precision=fp32", "steps=100")
    recipe = tiny().with_settings(settings)
    accelerator = accelerator_for(recipe, "cpu", shard=options.shard)
    engine = Engine(recipe, accelerator, Student.build(recipe), sharded=options.shard)
    batch = made_up(options.pairs // accelerator.num_processes, engine.student.preprocessing.size)
    seconds = []
    for number in range(options.steps):
        began = time.perf_counter()
        loss = engine.step(batch, number)["loss"]
        seconds.append(time.perf_counter() - began)
    peaks = accelerator.gather(torch.tensor([peak_gigabytes()]))
    if accelerator.is_main_process:
        print(json.dumps({"peak_gigabytes": float(peaks.max()), "seconds": min(seconds[1:]), "last_loss": loss}))


def run(options: argparse.Namespace, *more: str) -> Any:
    """The figures of all processes together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(options.processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    given = [f"--{name}={getattr(options, name)}" for name in ("architecture", "pairs", "steps")]
    children = [
        subprocess.Popen(
            [sys.executable, __file__, *given, *more],
            env={**os.environ, **world, **ALONE, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(options.processes)
    ]
    said = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("a process has failed; its message is above")
    return json.loads(said[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=4, help="of all processes together")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--shard", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "RANK" in os.environ:
        work(options)
        return 0
    whole, shards = run(options), run(options, "--shard")
    ratios = {name: shards[name] / whole[name] for name in ("peak_gigabytes", "seconds")}
    print(json.dumps({**vars(options), "torch": torch.__version__, "whole": whole, "shards": shards, "ratios": ratios}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
