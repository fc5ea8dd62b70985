"""Measure how many images a second the vision tower of HPS v2 scores on a GPU: eager, compiled, CUDA graphs, fp8.

    python benchmarks/gpu_throughput.py                                   # ViT-H-14, random weights, all ways
    python benchmarks/gpu_throughput.py --ways eager compile --batch 64 256

NOT RUN YET: this project has had no GPU. It refuses to run without one. Random weights are as fast as trained ones; the
images are on the device already, so decoding and copying are not in the figures. The scores of each way are compared
with those of eager bf16: the largest difference, and the rank correlation (Spearman). fp8 casts weights and activations
of linear layers tensor by tensor to float8 e4m3 (H100 and newer), by `torch._scaled_mm` alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

WAYS = ("eager", "compile", "graph", "fp8")
FLOP = {"ViT-H-14": 335e9, "ViT-B-32": 8.8e9}
"""Floating-point operations of the vision tower for one image."""


class Float8Linear(nn.Module):
    """A linear layer in float8 e4m3: one scale for the weights, one for each batch of activations."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = linear.weight.abs().amax().float() / 448
        self.weight = (linear.weight / self.scale).to(torch.float8_e4m3fn).t()
        self.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        """(…, in) bf16 -> (…, out) bf16."""
        rows = values.reshape(-1, values.shape[-1])
        scale = rows.abs().amax().float().clamp(min=1e-12) / 448
        quantised = (rows / scale).to(torch.float8_e4m3fn)
        out = torch._scaled_mm(
            quantised, self.weight, scale_a=scale, scale_b=self.scale, bias=self.bias, out_dtype=torch.bfloat16
        )
        return out.reshape(*values.shape[:-1], -1)


def in_float8(tower: nn.Module) -> nn.Module:
    """Replace the linear layers of the blocks, where nearly all of the work is."""
    for block in tower.transformer.resblocks:
        for name, layer in list(block.mlp.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(block.mlp, name, Float8Linear(layer))
    return tower


def made(way: str, architecture: str, batch: int) -> Callable[[Tensor], Tensor]:
    """The tower in one way, with the same weights each time: (N, 3, S, S) bf16 -> (N, D) bf16."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model(architecture, load_weights=False)
    tower = model.visual.to("cuda", torch.bfloat16).eval().requires_grad_(False)
    if way == "fp8":
        return torch.compile(in_float8(tower), mode="max-autotune")
    if way == "compile":
        return torch.compile(tower, mode="max-autotune-no-cudagraphs")
    if way == "eager":
        return tower
    size = model.visual.image_size[0]
    inputs = torch.zeros(batch, 3, size, size, device="cuda", dtype=torch.bfloat16)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # what is allocated at first use may not be recorded
        for _ in range(3):
            tower(inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = tower(inputs)

    def replay(pixels: Tensor) -> Tensor:
        inputs.copy_(pixels)
        graph.replay()
        return output

    return replay


def measured(run: Callable[[Tensor], Tensor], pixels: Tensor, seconds: float) -> float:
    """Images a second: the median of steps that take so long together, after ten steps to warm up."""
    for _ in range(10):
        run(pixels)
    times, spent = [], 0.0
    while spent < seconds:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(pixels)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
        spent += times[-1]
    return len(pixels) / statistics.median(times)


def compared(found: Tensor, eager: Tensor) -> dict[str, float]:
    """How far cosines with a fixed direction are from those of eager, and how alike their order is."""
    direction = torch.nn.functional.normalize(eager.float().mean(0), dim=0)
    ours, theirs = (torch.nn.functional.normalize(one.float(), dim=1) @ direction for one in (found, eager))
    ranks = [one.argsort().argsort().float() for one in (ours, theirs)]
    return {
        "largest difference": float((ours - theirs).abs().max()),
        "rank correlation": float(torch.corrcoef(torch.stack(ranks))[0, 1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-H-14", choices=sorted(FLOP))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--batch", nargs="+", type=int, default=[64, 256, 512])
    parser.add_argument("--seconds", type=float, default=10)
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: this machine has no GPU that torch can use; nothing was measured")
    name = torch.cuda.get_device_name()
    if "fp8" in chosen.ways and torch.cuda.get_device_capability() < (8, 9):
        sys.exit(f"error: {name} has no float8; leave fp8 out of --ways")
    with torch.inference_mode():
        for batch in chosen.batch:
            generator = torch.Generator("cuda").manual_seed(0)
            pixels = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.bfloat16, generator=generator)
            eager = made("eager", chosen.architecture, batch)(pixels).clone()
            for way in chosen.ways:
                run = made(way, chosen.architecture, batch)
                row = {"gpu": name, "torch": torch.__version__, "way": way, "batch": batch}
                speed = measured(run, pixels, chosen.seconds)
                row |= {"images/s": round(speed, 1), "TFLOP/s": round(speed * FLOP[chosen.architecture] / 1e12, 1)}
                row |= {"GB": round(torch.cuda.max_memory_allocated() / 1e9, 2), **compared(run(pixels), eager)}
                print(json.dumps(row), flush=True)
                torch.cuda.reset_peak_memory_stats()
                del run
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
