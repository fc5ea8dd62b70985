"""Recipes: every setting of a training run that decides what comes out, in one frozen record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from hpskit.errors import InputError
from hpskit.training.mini_recipe import MiniRecipe
from hpskit.training.settings import Settings, nearest

__all__ = ["LINEAR_RECIPES", "RECIPES", "Loss", "Recipe", "Weighting", "hpsv2", "mini", "read_recipe", "tiny"]

Loss = Literal["pair", "soft-pair", "best-of-group", "margin", "davidson", "plackett-luce", "rating"]
Weighting = Literal["judgement", "group"]
Blocks = int | Literal["all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(Settings):
    """What is trained, by which loss, how fast and how long. The defaults are those of HPS v2.

    What a run needs beside it (data, output folder, devices, workers) changes where it runs, not what comes out.
    """

    LIMITS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "margin": (0, 1e6),
        "rating_step": (1e-6, 1e6),
        "loss_scale": (1e-6, 1e6),
        "lr": (1e-12, 10),
        "weight_decay": (0, 10),
        "eps": (1e-30, 1),
        "warmup": (0, 10**9),
        "steps": (1, 10**9),
        "batch": (1, 10**7),
        "accumulate": (1, 10**6),
        "image_blocks": (0, 10_000),
        "text_blocks": (0, 10_000),
        "max_logit_scale": (1, 1e6),
        "clip": (1e-12, 1e12),
        "seed": (0, 2**63 - 1),
        "validate_every": (1, 10**9),
        "save_every": (1, 10**9),
        "keep": (1, 10**6),
        "keep_every": (1, 10**9),
        "patience": (1, 10**6),
    }
    BETWEEN: ClassVar[Mapping[str, tuple[float, float]]] = {"tie_share": (0, 1), "ema": (0, 1)}
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "architecture": "model arch network",
        "weights": "base pretrained init checkpoint",
        "lr": "learning_rate base_lr",
        "weight_decay": "wd",
        "betas": "beta1 beta2",
        "eps": "epsilon adam_epsilon",
        "warmup": "warmup_steps",
        "steps": "epochs iterations max_steps",
        "batch": "batch_size pairs",
        "accumulate": "grad_accum accum_freq gradient_accumulation_steps",
        "image_blocks": "lock_image_unlocked_groups",
        "text_blocks": "lock_text_unlocked_layers",
        "precision": "fp16 bf16 amp dtype mixed_precision",
        "clip": "grad_clip clip_grad_norm max_grad_norm",
        "ema": "ema_decay",
        "seed": "random_seed",
        "validate_every": "val_every eval_steps eval_every",
        "save_every": "save_steps",
        "keep": "save_total_limit",
        "patience": "early_stopping",
    }

    architecture: str = "ViT-H-14"
    """open_clip's name of the network, or `hpskit-tiny`."""
    weights: str | None = "clip-score"
    """What the run begins with: a name that `hpskit models` lists, or the path of a checkpoint; None draws weights
    by `seed`."""
    loss: Loss = "pair"
    """`pair`: the majority's choice in each pair, as the official code; `soft-pair`: the share of votes, each vote
    counted; `best-of-group`: the best image among all of its group; `margin`: hinge on differences of rank;
    `davidson`: wins, losses and ties of each pair; `plackett-luce`: each person's whole order; `rating`: the squared
    difference between scores and ratings, both as seen from the mean of their group."""
    margin: float = 1.0
    """Of the loss `margin`."""
    tie_share: float = 0.1
    """Of the loss `davidson`: how often two equally good images are called a tie, between 0 and 1."""
    rating: str = "overall_rating"
    """Of the loss `rating`: the field of each group, among its others (`meta`), that holds a number or null for each of
    its images; a higher one is better."""
    rating_step: float = 1.0
    """Of the loss `rating`: what one step of the ratings is worth, in log-odds; 1 means that of two images a step apart
    73 % of people prefer the better one. logit_scale grows or shrinks towards it."""
    weighting: Weighting = "judgement"
    """`judgement`: every judgement counts once, so that a group with many weighs more; `group`: every group of images
    counts once, however many images and judgements it has."""
    loss_scale: float = 1.0
    """The mean loss of a batch is multiplied by this before its gradient is taken. Only `eps` and `clip` feel it."""
    lr: float = 3.3e-6
    """The highest learning rate."""
    weight_decay: float = 0.35
    """AdamW's, on matrices; biases, norms, other parameters of one dimension and logit_scale have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's, each at least 0 and below 1."""
    eps: float = 1e-6
    """AdamW's."""
    warmup: int = 500
    """Steps in which the learning rate rises; a cosine follows."""
    steps: int = 4_000
    """Steps of the optimiser."""
    batch: int = 128
    """Pairs in a step, over all devices."""
    accumulate: int = 1
    """Parts that a device's share of a batch is taken in, one after the other: less memory, the same result."""
    image_blocks: Blocks = 20
    """How much of the image tower is trained, counted from its end as `lock_image_tower(unlocked_groups=…)` counts:
    1 is the projection, 2 adds the last block with the norm behind it, each further one a block, the last one the
    embeddings. So 20 trains 19 blocks. 0 freezes the tower, `all` trains the whole of it."""
    text_blocks: Blocks = 11
    """How many blocks of the text tower are trained, counted from its end as the official `lock_text_tower` does:
    final norm and projection come with the first, the embeddings never. 0 freezes the tower, `all` trains the whole of
    it with its embeddings."""
    max_logit_scale: float = 100.0
    """After each step logit_scale is brought back between 1 and this."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp16"
    """Of products; parameters, their sums and the optimiser stay float32."""
    gradient_checkpointing: bool = False
    """Keep only what enters a block and compute the rest again: a third more work, a fraction of the memory."""
    clip: float | None = None
    """The largest norm of the gradient; a longer one is shortened to it."""
    ema: float | None = None
    """Decay of the moving average of the weights, which is then what is validated and exported; between 0 and 1."""
    seed: int = 16
    """Decides weights that are drawn, and the order of the data."""
    validate_every: int = 200
    """Steps between two validations."""
    save_every: int = 200
    """Steps between two checkpoints."""
    keep: int = 2
    """How many of the last checkpoints are kept, beside the best one."""
    keep_every: int | None = None
    """Checkpoints of multiples of so many steps are never removed; a multiple of `save_every`."""
    patience: int | None = None
    """Stop after so many validations without a better one."""

    @property
    def rated(self) -> str | None:
        """The field of ratings that the loss needs; None if it needs none."""
        return self.rating if self.loss == "rating" else None

    def _check_together(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas: is {list(self.betas)}, expected two numbers of at least 0 and below 1")
        if self.warmup > self.steps:
            raise InputError(f"warmup: is {self.warmup}, expected at most steps, {self.steps}; set one of the two")
        if self.batch % self.accumulate:
            raise InputError(f"accumulate: is {self.accumulate}, expected a divisor of batch, {self.batch}")
        if self.keep_every is not None and self.keep_every % self.save_every:
            raise InputError(f"keep_every: is {self.keep_every}, expected a multiple of save_every, {self.save_every}")


def hpsv2() -> Recipe:
    """The published recipe of HPS v2. Sources: the official repository at 866735e; arXiv 2306.09341.

    In the comments: S was read in the official code or script, N only in notes on the paper.
    """
    return Recipe(
        architecture="ViT-H-14",  # S
        weights="clip-score",  # S: laion2B-s32B-b79K
        loss="pair",  # S: HPSLoss
        loss_scale=16,  # S: the official code sums over the 16 pairs of a GPU, and DDP takes the mean over GPUs
        lr=3.3e-6,  # S
        weight_decay=0.35,  # S
        betas=(0.9, 0.98),  # S: defaults for networks named ViT
        eps=1e-6,  # S: likewise
        warmup=500,  # S
        steps=4_000,  # N: the released script has 100
        batch=128,  # S: 16 pairs on each of 8 GPUs
        image_blocks=20,  # S: --lock-image-unlocked-groups, N: found by Bayesian optimisation, as the next
        text_blocks=11,  # S: --lock-text-unlocked-layers
        max_logit_scale=100,  # S
        precision="fp16",  # S: amp
        clip=None,  # S
        seed=16,  # S
    )


def tiny() -> Recipe:
    """A small network from random weights, trained in about a minute on one CPU: to try the machinery, not to judge."""
    return Recipe(
        architecture="hpskit-tiny",
        weights=None,
        loss="pair",
        lr=7e-4,
        weight_decay=0.1,
        warmup=20,
        steps=200,
        batch=64,
        image_blocks="all",
        text_blocks="all",
        precision="fp32",
        clip=1.0,
        validate_every=50,
        save_every=50,
    )


def mini() -> MiniRecipe:
    """The linear layer of the embedded model, as in `runs/mini.sh`; docs/mini.md says how it was chosen and how good it
    is."""
    return MiniRecipe()


RECIPES: Mapping[str, Callable[[], Recipe]] = {"hpsv2": hpsv2, "tiny": tiny}
"""Named recipes for networks that are trained by gradient descent."""

LINEAR_RECIPES: Mapping[str, Callable[[], MiniRecipe]] = {"mini": mini}
"""Named recipes for a linear fit on fixed features, by `hpskit.training.mini_fit`."""


def read_recipe(name_or_path: str | os.PathLike[str]) -> Recipe:
    """The recipe of a name in `RECIPES`, or of a TOML file.

    Raises:
        InputError: it is neither, or the file is wrong.
    """
    text = os.fspath(name_or_path)
    if text in RECIPES:
        return RECIPES[text]()
    if text.endswith(".toml"):
        return Recipe.from_toml(text)
    if text in LINEAR_RECIPES:
        cure = f"expected one of {', '.join(RECIPES)} or a file .toml"
        raise InputError(f"--recipe: {text} is a linear fit, which `hpskit train` alone makes; {cure}")
    names = (*RECIPES, *LINEAR_RECIPES)
    expected = f"expected one of {', '.join(names)} or a file .toml"
    raise InputError(f"--recipe: is {text!r}, {expected}{nearest(text, names)}")
