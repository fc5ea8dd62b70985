"""One step of training, on one device or many: loss, gradient, AdamW, moving average. Knows nothing of files.

Devices and processes are accelerate's. Weights, gradients and AdamW's state in shards are FSDP's, torch's own: each
process holds a part of every tensor, and a block is put together when it computes. Not by accelerate's plugin, which
needs GPUs: this is tested on CPUs.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from hpskit.errors import DivergedError, InputError, listed, need
from hpskit.training.loader import Batch
from hpskit.training.losses import objective
from hpskit.training.recipes import Recipe
from hpskit.training.student import Student

if TYPE_CHECKING:
    from accelerate import Accelerator

NEW_RUN = "the last checkpoint is untouched; lower lr, set clip=1, or use precision=bf16 or fp32, in a new run"
"""The cure of what is not a number."""

_PREFIX = "network."
"""Prefix of the names of a student's tensors; without it they are open_clip's."""

T = TypeVar("T")


def accelerator_for(recipe: Recipe, device: str = "auto", *, shard: bool = False) -> Accelerator:
    """Take the devices of this run, as `torchrun` or `accelerate launch` have arranged them.

    Args:
        recipe: its precision is used.
        device: `auto`, or `cpu` to leave GPUs alone.
        shard: weights are to be in shards.

    Raises:
        MissingExtraError: accelerate is not installed.
        InputError: the devices cannot do the precision, or cannot be used as they were started.
    """
    need("accelerate", "training", "train")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if device not in ("auto", "cpu"):
        cure = "choose GPUs by CUDA_VISIBLE_DEVICES"
        raise InputError("--device", f"is {device!r}", expected="auto or cpu", cure=cure)
    no_fp16 = "use --set precision=bf16 or precision=fp32"
    if recipe.precision == "fp16" and not (device == "auto" and torch.cuda.is_available()):
        raise InputError("precision", "is 'fp16', which needs a GPU to train in, and this run has none", cure=no_fp16)
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):  # which would take over what `Engine` does
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            cure = "leave --use_fsdp and its like out; `hpskit train --shard` puts weights in shards"
            raise InputError("devices", f"accelerate launch was asked for {name}, which is not used here", cure=cure)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if shard and started == 1:
        raise InputError("--shard", "has one process to share the weights", cure="start several by torchrun")
    if shard and recipe.precision == "fp16":
        raise InputError("--shard", "goes with bf16 and fp32, but precision is 'fp16'", cure=no_fp16)
    AcceleratorState._reset_state()  # else a second run of this process could have no other precision
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    precision = "no" if recipe.precision == "fp32" else recipe.precision
    accelerator = Accelerator(cpu=device == "cpu" or not has_gpu, mixed_precision=precision)
    if accelerator.num_processes != started:  # each would train on its own, in the same folder
        found = f"{started} processes were started, accelerate knows of {accelerator.num_processes}"
        raise InputError("devices", found, cure="start them by torchrun, one for each GPU")
    return accelerator


def from_main(value: T) -> T:
    """Return the first process's value on all of them; each must ask."""
    from accelerate.utils import broadcast_object_list

    said: T = broadcast_object_list([value])[0]
    return said


def gathered(items: list[T]) -> list[T]:
    """Join the items of all processes, on all of them; each must ask."""
    from accelerate.utils import gather_object

    found: list[T] = gather_object(items)
    return found


def summed(mine: Sequence[float]) -> list[float]:
    """Sum numbers over all processes, each by itself."""
    return [sum(column) for column in zip(*gathered([mine]), strict=True)]


def peak_memory() -> int:
    """Return the bytes at the worst moment of this process: of its GPU, or of the process where there is none."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        import psutil  # accelerate brings it

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def random_state() -> dict[str, str]:
    """Return the state of torch's generators on the CPU and on this process's GPU; JSON."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return {name: bytes(value.tolist()).hex() for name, value in state.items()}


def set_random_state(state: Mapping[str, str]) -> None:
    """Go on with the state that `random_state` gave."""
    found = {name: torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8) for name, text in state.items()}
    torch.set_rng_state(found["cpu"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])


def cosine_lr(step: int, *, base_lr: float, warmup: int, total: int) -> float:
    """Return the learning rate of a step, from 0: a rise over `warmup` steps, then half a cosine down towards 0.

    The first step has base_lr / warmup, not 0. The steps `warmup - 1` and `warmup` both have base_lr. The last step,
    `total - 1`, is one short of 0.

    Source: `cosine_lr` of the official training code.
    """
    if step < warmup:
        return base_lr * (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) * base_lr


def shard(student: Student, device: torch.device) -> set[str]:
    """Spread the tensors of a student over all processes, in place, each along its first dimension.

    Those that have no dimension, such as logit_scale, get one. Returns their names.
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    scalars = {name for name, parameter in student.named_parameters() if not parameter.ndim}
    for name in scalars:
        owner, _, own = name.rpartition(".")
        value = student.get_parameter(name)
        setattr(student.get_submodule(owner), own, nn.Parameter(value.detach().reshape(1), value.requires_grad))
    mesh = init_device_mesh(device.type, (get_world_size(),))
    for block in [*transformer_blocks(student)]:
        fully_shard(block, mesh=mesh)
    # Also after a forward pass that no backward pass follows, or a validation would leave its weights to the next step.
    fully_shard(student, mesh=mesh, reshard_after_forward=True)
    return scalars


def transformer_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Give the outermost members of lists of modules, whatever their library calls them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            yield from (member for member in child if any(True for _ in member.parameters()))
        else:
            yield from transformer_blocks(child)


def whole(tensor: Tensor) -> Tensor:
    """Put a tensor together that may be in shards; then each process must ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Engine:
    """A student on its devices with its optimiser.

    The loss is normalised over the batch of all devices together, so that its course does not depend on their number,
    nor on the parts that a device takes its share in.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, student: Student, *, sharded: bool = False) -> None:
        from accelerate.utils import AutocastKwargs

        self.recipe, self.accelerator, self.student, self.sharded = recipe, accelerator, student, sharded
        self._casts = AutocastKwargs(cache_enabled=not sharded)  # a cache would keep every block that is taken apart
        self._scalars = shard(student, accelerator.device) if sharded else set()
        self.model: Any = student if sharded else accelerator.prepare(student)
        groups = student.parameter_groups(recipe)
        names = {id(parameter): name for name, parameter in student.named_parameters()}
        self._group_names = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
        self.optimizer = accelerator.prepare(
            torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)
        )
        self._average: dict[str, Tensor] = {}
        if recipe.ema is not None:
            self._average = {name: p.detach().clone() for name, p in self._trained()}

    @property
    def logit_scale(self) -> float:
        """Factor of the cosines, as it is now."""
        return float(whole(self.student.network.logit_scale.detach()).exp())

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.student.named_parameters() if p.requires_grad)

    def step(self, batch: Batch, number: int) -> dict[str, Any]:
        """Learn one batch.

        Raises:
            DivergedError: the loss or the gradient is not finite, and the weights are those of before the step.
            InputError: every group of the batch was left out.
        """
        recipe = self.recipe
        lr = cosine_lr(number, base_lr=recipe.lr, warmup=recipe.warmup, total=recipe.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        equal = torch.zeros(len(batch.pixels), device=self.accelerator.device)
        chance, weight = objective(recipe, equal, batch)  # the weight does not depend on the scores
        counts = (float(chance), float(weight), len(batch.pairs[0]), len(batch.pixels), batch.dropped)
        chance_sum, weight_sum, pairs, images, dropped = summed(counts)
        if not weight_sum:
            cure = "`hpskit data inspect --decode` lists broken images"
            raise InputError(f"step {number + 1}", f"has lost all {dropped:.0f} groups of its batch", cure=cure)
        loss, correct, decided = self._gradient(batch, weight_sum)
        self._check_finite("loss", loss, batch, number)
        limit = math.inf if recipe.clip is None else recipe.clip
        norm = float(whole(self.accelerator.clip_grad_norm_(self.model.parameters(), limit)))
        if self.accelerator.scaler is None:  # with one, an overflow is nothing but a step that is left out
            self._check_finite("gradient", norm, batch, number)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.student.clamp()
        self._check_finite("logit_scale after it", self.logit_scale, batch, number)
        with torch.no_grad():
            for name, parameter in self._trained() if recipe.ema is not None else ():
                self._average[name].lerp_(parameter, 1 - (recipe.ema or 0))
        return {
            "loss": loss / weight_sum,
            "chance": chance_sum / weight_sum,
            "accuracy": correct / decided if decided else None,
            "lr": lr,
            "logit_scale": self.logit_scale,
            "gradient_norm": norm if math.isfinite(norm) else None,
            "pairs": int(pairs),
            "images": int(images),
            "dropped": int(dropped),
            "skipped": bool(self.accelerator.optimizer_step_was_skipped),
        }

    def _gradient(self, batch: Batch, weight: float) -> list[float]:
        """Leave the gradient in the parameters; return loss, correct and decided pairs, each summed over devices."""
        parts = batch.split(self.recipe.accumulate)
        factor = self.recipe.loss_scale * self.accelerator.num_processes / weight  # DDP takes the mean over devices
        loss, correct, decided = 0.0, 0.0, 0
        for part in parts:
            with contextlib.nullcontext() if part is parts[-1] else self.accelerator.no_sync(self.model):
                scores = self._logits(self.model, part)
                part_loss, _ = objective(self.recipe, scores, part)
                self.accelerator.backward(part_loss * factor)
            loss += float(part_loss.detach())
            first, second, share, _ = (column.to(scores.device) for column in part.pairs)
            agreement = torch.sign(scores.detach()[first] - scores.detach()[second]) * torch.sign(share - 0.5)
            correct += float(((1 + agreement) / 2)[share != 0.5].sum())  # a tied score is one half
            decided += int((share != 0.5).sum())
        return summed((loss, correct, decided))

    def _logits(self, network: Any, batch: Batch) -> Tensor:
        with self.accelerator.autocast(self._casts):
            logits: Tensor = network(*self.student.inputs(batch))
        return logits

    def _check_finite(self, what: str, value: float, batch: Batch, number: int) -> None:
        if math.isfinite(value):  # on one device as on all: the values have been summed
            return
        rows = listed(gathered([example.place for example in batch.examples]), 3)
        raise DivergedError(f"step {number + 1}: the {what}", f"is {value} on the rows {rows}", cure=NEW_RUN)

    @torch.no_grad()
    def scores(self, batch: Batch | None) -> Tensor:
        """Compute the logits of a batch, (N,), by the network as it is, on its device, without a gradient.

        None is an empty batch: with shards every device must ask, also one that has nothing to score.
        """
        network = self.model if self.sharded else self.student  # DDP would wait for the other devices
        network.eval()
        logits = self._logits(network, batch or Batch(examples=[], size=self.student.preprocessing.size))
        network.train()
        return logits

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the moving average in place of the weights, where the recipe has one."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._trained() if self._average else ():
            before = parameter.detach().clone()
            parameter.detach().copy_(self._average[name])  # in place, because shards have more than one name
            self._average[name].copy_(before)

    def weights(self) -> dict[str, Tensor]:
        """Return every tensor of the network under open_clip's names, on the CPU, averaged if the recipe has it.

        With shards every device must ask; the first one gets them.
        """
        with self.averaged():  # which puts back in place what these tensors may share their memory with
            return {name: t.clone() if _PREFIX + name in self._average else t for name, t in self._whole().items()}

    def _whole(self) -> dict[str, Tensor]:
        """Return the tensors of the network as they are now."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        state = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
        return {name.removeprefix(_PREFIX): self._published(name, tensor) for name, tensor in tensors.items()}

    def _published(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor as a file has it, without the dimension that shards need."""
        return (tensor.reshape(()) if name in self._scalars else tensor).cpu().contiguous()

    def training_state(self) -> dict[str, Tensor]:
        """Return AdamW's tensors as `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME`.

        Where a moving average stands in `weights()`, what is trained comes as `weights/NAME`.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found: Any = {}
        if self.optimizer.state:  # before the first step, which fp16 may put off, asking would make one
            found = get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=options)
        tensors = {
            f"{kind}/{name.removeprefix(_PREFIX)}": self._published(name, tensor)
            for name, kinds in found.get("state", {}).items()  # other processes than the first get nothing
            for kind, tensor in kinds.items()
        }
        if self._average:
            tensors |= {f"weights/{name}": t for name, t in self._whole().items() if _PREFIX + name in self._average}
        return tensors

    def restore(self, weights: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        """Take back what `weights()` and `training_state()` gave."""
        from torch.distributed.checkpoint import state_dict

        options = state_dict.StateDictOptions(full_state_dict=True)
        kinds: dict[str, dict[str, Any]] = {}
        for key, tensor in (*training.items(), *((f"averaged/{name}", tensor) for name, tensor in weights.items())):
            kind, _, name = key.partition("/")
            in_shards = _PREFIX + name in self._scalars and kind != "step"
            kinds.setdefault(kind, {})[_PREFIX + name] = tensor.reshape(1) if in_shards else tensor
        raw, averaged = kinds.pop("weights", {}), kinds.pop("averaged")
        state_dict.set_model_state_dict(self.model, averaged, options=options)
        if raw:
            self._average = {name: p.detach().clone() for name, p in self._trained()}
            state_dict.set_model_state_dict(self.model, {**averaged, **raw}, options=options)
        if kinds:
            named = {name for tensors in kinds.values() for name in tensors}
            state = {name: {kind: tensors[name].clone() for kind, tensors in kinds.items()} for name in named}
            groups = zip(self.optimizer.param_groups, self._group_names, strict=True)
            optimizer: Any = {"state": state, "param_groups": [{**group, "params": names} for group, names in groups]}
            state_dict.set_optimizer_state_dict(self.model, self.optimizer.optimizer, optimizer, options=options)
