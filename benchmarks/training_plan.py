"""What training with the recipe of HPS v2 would take on H100s: a plan, not a measurement; prints a table in Markdown.

    python benchmarks/training_plan.py [--update docs/notes/training.md]

Operations and what is kept for the gradient are counted on the network itself, step by step, on tensors without
content, so no weights and no GPU are needed. Time follows from them by the assumptions below, which the table states.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import logsigmoid, normalize
from torch.utils.flop_counter import FlopCounterMode

from hpskit.models.architecture import build
from hpskit.training.recipes import Recipe, hpsv2
from hpskit.training.student import Student

MARKERS = ("<!-- plan -->", "<!-- /plan -->")
PEAK = 989e12
"""Operations a second of an H100 SXM in bf16 and fp16, dense, by its data sheet."""
SHARE = 0.35
"""Assumed share of the peak; large transformers reach 0.3 to 0.5."""
WITHIN, BETWEEN = 450e9, 50e9
"""Bytes a second in one direction of a GPU: NVLink to the other seven, 400 Gbit/s to other machines."""
PRICE = 3.0
"""Assumed dollars for an hour of a GPU."""
GPUS = (1, 8, 64)
AT_ONCE = 16
"""Pairs that pass through a GPU at a time, as the authors had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What a step is made of."""

    operations: float
    """Of one pair, forward and backward."""
    copies: float
    """Bytes that wait for the backward pass however many pairs there are: weights in half precision."""
    kept: float
    """Bytes that wait for it of each pair."""
    parameters: int
    trained: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The plan for a number of GPUs."""

    gpus: int
    pairs: int
    """At a time on each."""
    compute: float
    """Seconds of a step."""
    exchange: float
    """Seconds in which gradients are exchanged, if nothing hides behind the computation."""
    memory: float
    """Bytes on each."""

    @property
    def seconds(self) -> float:
        return self.compute + self.exchange


def count(recipe: Recipe) -> Counted:
    """Of steps on tensors without content. The text tower reads all 77 tokens of each prompt, which is the most."""
    student, operations, few = run(recipe, 2)
    _, _, more = run(recipe, 4)
    kept = (more - few) / 2
    return Counted(
        operations=operations / 2,
        copies=few - 2 * kept,
        kept=kept,
        parameters=sum(p.numel() for p in student.parameters()),
        trained=sum(p.numel() for p in student.parameters() if p.requires_grad),
    )


def run(recipe: Recipe, pairs: int) -> tuple[Student, float, float]:
    """The network, the operations of a step, and the bytes that wait for its backward pass."""
    network = build(recipe.architecture)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    with FakeTensorMode():  # which knows of each tensor its shape, its type and that it is on a processor
        network.load_state_dict({name: torch.empty(shape) for name, shape in shapes.items()}, assign=True)
        network.attn_mask = torch.empty(network.attn_mask.shape)
        student = Student(network, recipe)
        size = student.preprocessing.size
        pixels = torch.empty(2 * pairs, 3, size, size)
        tokens = torch.empty(pairs, network.context_length, dtype=torch.long)
        own = {parameter.untyped_storage()._cdata for parameter in student.parameters()}
        seen: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:  # views of one tensor are kept once
                seen[storage._cdata] = storage.nbytes()
            return tensor

        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    images, prompts = network.encode_image(pixels), network.encode_text(tokens)
                scores = (normalize(images.float(), dim=-1) * normalize(prompts.float(), dim=-1).repeat(2, 1)).sum(-1)
                loss = -logsigmoid(network.logit_scale.exp() * (scores[:pairs] - scores[pairs:])).sum()
            loss.backward()
    return student, counter.get_total_flops(), sum(seen.values())


def plan(counted: Counted, recipe: Recipe, gpus: int) -> Row:
    """Time by share of the peak and width of the wires; memory in float32 but for what passes through."""
    pairs = min(AT_ONCE, recipe.batch // gpus)
    gradient = 4 * counted.trained
    wire = BETWEEN if gpus > 8 else WITHIN
    return Row(
        gpus=gpus,
        pairs=pairs,
        compute=counted.operations * recipe.batch / gpus / (PEAK * SHARE),
        exchange=2 * gradient * (gpus - 1) / gpus / wire,
        memory=4 * counted.parameters + 12 * counted.trained + counted.copies + pairs * counted.kept,
    )


def markdown(counted: Counted, rows: list[Row], recipe: Recipe) -> str:
    heads = "H100s | pairs at a time on each | compute, s/step | exchange, s/step | steps/s | memory of each | "
    heads += f"{recipe.steps:,} steps | cost | images/s to decode"
    lines = [f"| {heads} |", f"|{'---|' * 9}"]
    for row in rows:
        hours = recipe.steps * row.seconds / 3600
        cells = [
            f"{row.gpus}", f"{row.pairs}", f"{row.compute:.3f}", f"{row.exchange:.3f}", f"{1 / row.seconds:.1f}",
            f"{row.memory / 1e9:.0f} GB", f"{60 * hours:.0f} min", f"${hours * row.gpus * PRICE:.0f}",
            f"{2 * recipe.batch / row.seconds:,.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    trained, known, gb = counted.trained / 1e6, counted.parameters / 1e6, 1e9
    facts = (
        f"Counted: {counted.operations / 1e12:.2f} TFLOP and {counted.kept / gb:.2f} GB kept for the gradient of each "
        f"pair; {trained:,.0f} of {known:,.0f} million parameters are trained. "
        f"Assumed: {PEAK / 1e12:.0f} TFLOP/s of a GPU at its peak, {100 * SHARE:.0f} % of it reached; gradients "
        f"exchanged in float32 at {WITHIN / gb:.0f} GB/s within a machine of 8 and {BETWEEN / gb:.0f} GB/s between "
        f"machines, none of it hidden; ${PRICE:g} an hour. Not counted: validation, reading data, starting."
    )
    return "\n".join(lines) + "\n\n" + textwrap.fill(facts, 120) + "\n"


def update(page: Path, text: str) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKERS[0])
    _, found, after = rest.partition(MARKERS[1])
    if not found:
        raise SystemExit(f"error: {page}: has no {MARKERS[0]} … {MARKERS[1]} for the table")
    page.write_text(f"{before}{MARKERS[0]}\n{text}{MARKERS[1]}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--update", type=Path, help="replace the table of this page")
    options = parser.parse_args()
    recipe = hpsv2()
    counted = count(recipe)
    text = markdown(counted, [plan(counted, recipe, gpus) for gpus in GPUS], recipe)
    print(text)
    if options.update:
        update(options.update, text)


if __name__ == "__main__":
    main()
