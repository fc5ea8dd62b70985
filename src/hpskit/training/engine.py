"""One step of training, on one device or many: loss, gradient, AdamW, moving average. Knows nothing of files."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpskit.errors import DivergedError, InputError
from hpskit.training.batch import Batch, collate
from hpskit.training.objective import objective
from hpskit.training.parts import split
from hpskit.training.processes import together
from hpskit.training.recipes import Recipe
from hpskit.training.schedule import cosine_lr
from hpskit.training.sharding import clip_gradients, shard
from hpskit.training.student import Student

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["NEW_RUN", "Engine", "Figures", "correct_pairs"]

_PREFIX = "network."
"""Of the names of a student's tensors; without it they are open_clip's."""
_SHOWN_PLACES = 3
NEW_RUN = "the last checkpoint is untouched; lower lr, set clip=1, or use precision=bf16 or fp32, in a new run"
"""The cure of what is not a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What a step is known by, over all devices."""

    loss: float
    """Mean of the batch before the step, by the weights of the recipe."""
    chance: float
    """What the loss would be if all scores were equal: ln 2 for decided pairs."""
    accuracy: float | None
    """Share of the batch's pairs that the scores order as people do before the step, a tied score one half; pairs
    that people tied are left out. None if they tied all."""
    lr: float
    logit_scale: float
    """After the step."""
    gradient_norm: float | None
    """Before it is clipped; None if fp16 overflowed."""
    pairs: int
    images: int
    dropped: int
    """Groups that were left out because of a broken image."""
    skipped: bool
    """Whether fp16 overflowed, so that the weights stayed as they were and the scale of the loss was halved."""


def correct_pairs(scores: Tensor, batch: Batch) -> tuple[float, int]:
    """Pairs that the scores order as people do, a tied score one half, and pairs that people did not tie."""
    share = batch.share.to(scores.device)
    ahead = scores[batch.first.to(scores.device)] - scores[batch.second.to(scores.device)]
    decided = share != 0.5
    right = (1 + torch.sign(ahead) * torch.sign(share - 0.5)) / 2
    return float(right[decided].sum()), int(decided.sum())


def _named(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """As torch's functions for states want them, of whose types they are not sure."""
    return {_PREFIX + name: tensor for name, tensor in weights.items()}


class Engine:
    """A student on its devices with its optimiser.

    The loss is normalised over the batch of all devices together, so that its course does not depend on their number,
    nor on the parts that a device takes its share in.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, student: Student, *, sharded: bool = False) -> None:
        """
        Args:
            recipe: how it is trained.
            accelerator: of `devices.accelerator_for`.
            student: the network with its first weights; it moves to the device.
            sharded: spread it over the processes, of which there are several; else each has it whole.
        """
        self.recipe, self.accelerator, self.student, self.sharded = recipe, accelerator, student, sharded
        from accelerate.utils import AutocastKwargs

        self._casts = AutocastKwargs(cache_enabled=not sharded)  # a cache would keep every block that is taken apart
        self.model: Any = student
        if sharded:
            shard(student, accelerator.device)
        else:
            self.model = accelerator.prepare(student)
        groups = student.parameter_groups(recipe)
        names = {id(parameter): name for name, parameter in student.named_parameters()}
        self._group_names = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
        # What is in shards and logit_scale cannot be multiplied in one kernel (`foreach`, torch's choice on GPUs).
        optimizer = torch.optim.AdamW(
            groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, foreach=False if sharded else None
        )
        self.optimizer = accelerator.prepare(optimizer)
        self._average: dict[str, Tensor] = {}
        if recipe.ema is not None:
            self._average = {name: p.detach().clone() for name, p in self._trained()}

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by, as it is now."""
        return float(self.student.network.logit_scale.detach().exp())

    def _trained(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, p) for name, p in self.student.named_parameters() if p.requires_grad)

    def step(self, batch: Batch, number: int) -> Figures:
        """Learn one batch.

        Args:
            batch: this device's part.
            number: of the step, from 0.

        Raises:
            DivergedError: the loss or the gradient is not finite, and the weights are those of before the step.
            InputError: every group of the batch was left out.
        """
        lr = cosine_lr(number, base_lr=self.recipe.lr, warmup=self.recipe.warmup, total=self.recipe.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        equal = torch.zeros(len(batch.pixels), device=self.accelerator.device)
        chance, weight = objective(self.recipe, equal, batch)  # the weight does not depend on the scores
        counts = (float(chance), float(weight), len(batch.first), len(batch.pixels), batch.dropped)
        chance_sum, weight_sum, pairs, images, dropped = self._summed(*counts)
        if not weight_sum:
            found = f"step {number + 1}: all {dropped:.0f} groups of the batch were left out"
            with together(self.accelerator):
                raise InputError(f"{found}; `hpskit data inspect --decode` lists broken images")
        loss, correct, decided = self._gradient(batch, weight_sum, number)
        norm = self._clipped(batch, number)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.student.clamp()
        self._check_finite("logit_scale after it", self.logit_scale, batch, number)
        self._follow()
        return Figures(
            loss=loss / weight_sum,
            chance=chance_sum / weight_sum,
            accuracy=correct / decided if decided else None,
            lr=lr,
            logit_scale=self.logit_scale,
            gradient_norm=norm if math.isfinite(norm) else None,
            pairs=int(pairs),
            images=int(images),
            dropped=int(dropped),
            skipped=bool(self.accelerator.optimizer_step_was_skipped),
        )

    def _gradient(self, batch: Batch, weight: float, number: int) -> tuple[float, float, float]:
        """Sum of the losses, correct and decided pairs, of all devices; the gradient is left in the parameters."""
        parts = split(batch, self.recipe.accumulate)
        factor = self.recipe.loss_scale * self.accelerator.num_processes / weight  # DDP takes the mean over devices
        loss, correct, decided = 0.0, 0.0, 0
        for part in parts:
            last = part is parts[-1]
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                scores = self._logits(self.model, part)
                part_loss, _ = objective(self.recipe, scores, part)
                self.accelerator.backward(part_loss * factor)
            loss += float(part_loss.detach())
            right, compared = correct_pairs(scores.detach(), part)
            correct, decided = correct + right, decided + compared
        if self.sharded:
            self._average_whole_gradients()
        total = self._summed(loss, correct, decided)
        self._check_finite("loss", total[0], batch, number)
        return total[0], total[1], total[2]

    def _logits(self, network: Any, batch: Batch) -> Tensor:
        with self.accelerator.autocast(self._casts):
            logits: Tensor = network(*self.student.inputs(batch))
        return logits

    def _average_whole_gradients(self) -> None:
        """Of logit_scale, which is in no shard: what torch does for the others."""
        for _, parameter in self._trained():
            if parameter.ndim == 0 and parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def _clipped(self, batch: Batch, number: int) -> float:
        limit = float("inf") if self.recipe.clip is None else self.recipe.clip
        clip = clip_gradients if self.sharded else self.accelerator.clip_grad_norm_
        norm = float(clip(self.model.parameters(), limit))
        if self.accelerator.scaler is None:  # with one, an overflow is nothing but a step that is left out
            self._check_finite("gradient", norm, batch, number)
        return norm

    def _check_finite(self, what: str, value: float, batch: Batch, number: int) -> None:
        if math.isfinite(value):  # on one device as on all: the values have been summed
            return
        places = batch.places
        if self.accelerator.num_processes > 1:
            from accelerate.utils import gather_object

            places = gather_object(places)
        more = f" and {len(places) - _SHOWN_PLACES} more" if len(places) > _SHOWN_PLACES else ""
        rows = ", ".join(places[:_SHOWN_PLACES]) + more
        with together(self.accelerator):
            raise DivergedError(f"step {number + 1}: the {what} is {value} on the rows {rows}; {NEW_RUN}")

    def _summed(self, *values: float) -> list[float]:
        """Numbers summed over all devices."""
        if self.accelerator.num_processes == 1:
            return [*values]
        mine = torch.tensor(values, dtype=torch.float32, device=self.accelerator.device)
        total: list[float] = self.accelerator.reduce(mine, reduction="sum").tolist()
        return total

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the moving average follow the weights."""
        for name, parameter in self._trained() if self._average else ():
            assert self.recipe.ema is not None
            self._average[name].lerp_(parameter, 1 - self.recipe.ema)

    @torch.no_grad()
    def scores(self, batch: Batch | None) -> Tensor:
        """(N,) logits of a batch by the network as it is, on its device, without a gradient.

        None is a batch of nothing: with shards every device must ask, also one that has nothing to score.
        """
        batch = batch or collate([], [], size=self.student.preprocessing.size)
        network = self.model if self.sharded else self.student  # DDP would wait for the other devices
        network.eval()
        logits = self._logits(network, batch)
        network.train()
        return logits

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """With the moving average in place of the weights, where the recipe has one."""
        with torch.no_grad():
            self._exchange()
            try:
                yield
            finally:
                self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self._trained() if self._average else ():
            before = parameter.detach().clone()
            parameter.detach().copy_(self._average[name])  # in place, because shards have more than one name
            self._average[name].copy_(before)

    def weights(self) -> dict[str, Tensor]:
        """Every tensor of the network under open_clip's names, on the CPU: those of the moving average if there is one.
        With shards every device must ask; the first one gets them."""
        with self.averaged():  # which puts back in place what these tensors may share their memory with
            return {name: t.clone() if _PREFIX + name in self._average else t for name, t in self._whole().items()}

    def _whole(self) -> dict[str, Tensor]:
        """The tensors of the network as they are now."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        state = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        tensors = {name.removeprefix(_PREFIX): t for name, t in state.items() if isinstance(t, Tensor)}
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def training_state(self) -> dict[str, Tensor]:
        """AdamW's tensors as `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME`; and `weights/NAME` of what is trained,
        if a moving average stands in `weights()`."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found: Any = {}
        if self.optimizer.state:  # before the first step, which fp16 may put off, asking would make one
            found = get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=options)
        tensors = {
            f"{kind}/{name.removeprefix(_PREFIX)}": tensor
            for name, kinds in found.get("state", {}).items()  # other processes than the first get nothing
            for kind, tensor in kinds.items()
        }
        if self._average:
            trained = {name.removeprefix(_PREFIX) for name, _ in self._trained()}
            tensors |= {f"weights/{name}": tensor for name, tensor in self._whole().items() if name in trained}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    def restore(self, weights: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        """Take back what `weights()` and `training_state()` gave."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_model_state_dict,
            set_optimizer_state_dict,
        )

        options = StateDictOptions(full_state_dict=True)
        state: dict[str, dict[str, Tensor]] = {}
        raw: dict[str, Tensor] = {}
        for key, tensor in training.items():
            kind, _, name = key.partition("/")
            if kind == "weights":
                raw[name] = tensor
            else:
                state.setdefault(_PREFIX + name, {})[kind] = tensor.clone()
        set_model_state_dict(self.model, _named(weights), options=options)
        if raw:
            self._average = {name: p.detach().clone() for name, p in self._trained()}
            set_model_state_dict(self.model, _named({**weights, **raw}), options=options)
        if not state:
            return
        groups = [
            {**group, "params": names}
            for group, names in zip(self.optimizer.param_groups, self._group_names, strict=True)
        ]
        optimizer: Any = {"state": state, "param_groups": groups}
        set_optimizer_state_dict(self.model, self.optimizer.optimizer, optimizer, options=options)
