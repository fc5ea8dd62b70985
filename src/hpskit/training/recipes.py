"""Recipes: every setting of a training run that decides its result, in one frozen record."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator

from hpskit.errors import InputError, shown
from hpskit.files import expand, read_toml
from hpskit.schema import Expected, Strict, nearest, parse

Loss = Literal["pair", "soft-pair", "best-of-group", "margin", "davidson", "plackett-luce", "rating"]
Weighting = Literal["judgement", "group"]
Share = Annotated[float, Field(gt=0, lt=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]


_CHARACTERS, _A_NAME = StringConstraints(pattern=r"\A\P{Cc}+\z"), Expected("a name")
Name = Annotated[str, _CHARACTERS, _A_NAME]
"""A text that can stand in a file and be read again as itself."""
Blocks = Annotated[
    Annotated[int, Field(ge=0, le=10_000)] | Literal["all"], Expected("a whole number from 0 to 10,000, or all")
]


class Settings(Strict):
    """Base of recipes: fields that are read from TOML and NAME=VALUE, and written as TOML."""

    @model_validator(mode="before")
    @classmethod
    def none_is_a_word(cls, values: Any) -> Any:
        """Take the word "none" for None, which TOML lacks, where a field may be None."""
        if not isinstance(values, Mapping):
            return values
        optional = {name for name, field in cls.model_fields.items() if type(None) in get_args(field.annotation)}
        return {name: None if name in optional and value == "none" else value for name, value in values.items()}

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read settings from a file; a field that is not given has its default.

        Raises:
            InputError: the file cannot be read, is not TOML, or a setting is wrong.
        """
        path = expand(path)
        return parse(cls, read_toml(path), path)

    def to_toml(self) -> str:
        """Write every field on a line; the way back is `from_toml`."""
        return "".join(f"{name} = {toml_of(value)}\n" for name, value in self.model_dump().items())

    def with_settings(self, settings: Sequence[str], option: str = "--set") -> Self:
        """Return the same settings with some fields changed.

        Args:
            settings: such as `lr=1e-6`, `image_blocks=all`, `betas=[0.9, 0.99]`; values as in TOML, or bare words.
            option: named by errors.

        Raises:
            InputError: not of the form NAME=VALUE, no such field, a field given twice, or a wrong value.
        """
        changes = dict[str, Any]()
        for setting in settings:
            name, equals, text = (part.strip() for part in setting.partition("="))
            if not name or not equals:
                raise InputError(option, f"is {shown(setting)}", expected="NAME=VALUE, such as lr=1e-6")
            if name in changes:
                raise InputError(f"{option}: {name}", "is given twice", cure="leave one out")
            field = type(self).model_fields.get(name)
            is_text = field is not None and str in (field.annotation, *get_args(field.annotation))
            changes[name] = value_of(text, is_text=is_text)
        return parse(type(self), {**self.model_dump(), **changes}, option)


def value_of(text: str, *, is_text: bool) -> Any:
    """Read a value as TOML has it, or take the text itself."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = values["value"] if len(values) == 1 else text
    return text if is_text and not isinstance(value, str) else value


def toml_of(value: Any) -> str:
    """Write a value as TOML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_of, value))}]"
    return json.dumps("none" if value is None else value, ensure_ascii=False)


class Recipe(Settings):
    """The network, its loss, how fast and how long it is trained. The defaults are those of HPS v2.

    Sources of the defaults: the official repository at 866735e; arXiv 2306.09341. In the comments: S was read in the
    official code or script, N only in notes on the paper. Data, output folder, devices and workers are no part of a
    recipe: they change where a run takes place, not its result.
    """

    architecture: Name = "ViT-H-14"  # S
    """open_clip's name of the network, or `hpskit-tiny`."""
    weights: Annotated[str | None, _CHARACTERS, _A_NAME] = "clip-score"  # S: laion2B-s32B-b79K
    """First weights: a name that `hpskit models` lists, or the path of a checkpoint; None draws them by `seed`."""
    loss: Loss = "pair"  # S: HPSLoss
    """`pair`: the majority's choice in each pair, as the official code; `soft-pair`: the share of votes, each vote
    counted; `best-of-group`: the best image among all of its group; `margin`: hinge on differences of rank;
    `davidson`: wins, losses and ties of each pair; `plackett-luce`: each person's whole order; `rating`: the squared
    difference between scores and ratings, both measured from the mean of their group."""
    margin: float = Field(default=1.0, ge=0, le=1e6)
    """For the loss `margin`, in units of score x rank."""
    tie_share: Share = 0.1
    """For the loss `davidson`: how often two equally good images are called a tie, between 0 and 1."""
    rating: Name = "overall_rating"
    """For the loss `rating`: the field of each group, among its others (`meta`), that holds a number or null for each
    of its images; a higher one is better."""
    rating_step: float = Field(default=1.0, ge=1e-6, le=1e6)
    """For the loss `rating`: log-odds that one step of the ratings is worth. With 1, 73 % of people prefer the better
    one of two images a step apart. logit_scale grows or shrinks towards it."""
    weighting: Weighting = "judgement"
    """`judgement`: every judgement counts once, so that a group with many weighs more; `group`: every group of images
    counts once, however many images and judgements it has."""
    loss_scale: float = Field(default=1.0, ge=1e-6, le=1e6)
    """Factor of the mean loss of a batch before its gradient is taken. Only `eps` and `clip` feel it."""
    lr: float = Field(default=3.3e-6, ge=1e-12, le=10)  # S
    """The highest learning rate."""
    weight_decay: float = Field(default=0.35, ge=0, le=10)  # S
    """AdamW's, on matrices; biases, norms, other parameters of one dimension and logit_scale have none."""
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.98)  # S: defaults for networks named ViT, as eps
    """AdamW's, each at least 0 and below 1."""
    eps: float = Field(default=1e-6, ge=1e-30, le=1)  # S
    """AdamW's."""
    warmup: int = Field(default=500, ge=0, le=10**9)  # S
    """Steps in which the learning rate rises; a cosine follows."""
    steps: Count = 4_000  # N: the released script has 100
    """Steps of the optimiser."""
    batch: int = Field(default=128, ge=1, le=10**7)  # S: 16 pairs on each of 8 GPUs
    """Pairs in a step, over all devices."""
    accumulate: int = Field(default=1, ge=1, le=10**6)
    """Parts of a device's share of a batch, taken one after the other: less memory, the same result."""
    image_blocks: Blocks = 20  # S: --lock-image-unlocked-groups; N: found by Bayesian optimisation, as the next
    """Trained part of the image tower, counted from its end as `lock_image_tower(unlocked_groups=…)` counts: 1 is the
    projection, 2 adds the last block with the norm behind it, each further one a block, the last one the embeddings.
    So 20 trains 19 blocks. 0 freezes the tower, `all` trains the whole of it."""
    text_blocks: Blocks = 11  # S: --lock-text-unlocked-layers
    """Trained blocks of the text tower, counted from its end as the official `lock_text_tower` does: final norm and
    projection come with the first, the embeddings never. 0 freezes the tower, `all` trains the whole of it with its
    embeddings."""
    max_logit_scale: float = Field(default=100.0, ge=1, le=1e6)  # S
    """After each step logit_scale is brought back between 1 and this."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp16"  # S: amp
    """Arithmetic of products; parameters, their sums and the optimiser stay float32."""
    gradient_checkpointing: bool = False
    """Keep only what enters a block and compute the rest again: a third more work, a fraction of the memory."""
    clip: float | None = Field(default=None, ge=1e-12, le=1e12)  # S
    """The largest norm of the gradient; a longer one is shortened to it."""
    ema: Share | None = None
    """Decay of a moving average of the weights, which is then validated and exported; between 0 and 1."""
    seed: int = Field(default=16, ge=0, le=2**63 - 1)  # S
    """Decides weights that are drawn, and the order of the data."""
    validate_every: Count = 200
    """Steps between two validations."""
    save_every: Count = 200
    """Steps between two checkpoints."""
    keep: int = Field(default=2, ge=1, le=10**6)
    """How many of the last checkpoints are kept, beside the best one."""
    keep_every: Count | None = None
    """Checkpoints of multiples of so many steps are never removed; a multiple of `save_every`."""
    patience: int | None = Field(default=None, ge=1, le=10**6)
    """Stop after so many validations without a better one."""

    @property
    def rated(self) -> str | None:
        """The field of ratings that the loss needs; None if it needs none."""
        return self.rating if self.loss == "rating" else None

    @model_validator(mode="after")
    def fields_fit(self) -> Self:
        """Refuse fields that contradict one another."""
        if self.warmup > self.steps:
            expected = f"at most steps, {self.steps}"
            raise InputError("warmup", f"is {self.warmup}", expected=expected, cure="set one of the two")
        if self.batch % self.accumulate:
            raise InputError("accumulate", f"is {self.accumulate}", expected=f"a divisor of batch, {self.batch}")
        if self.keep_every is not None and self.keep_every % self.save_every:
            expected = f"a multiple of save_every, {self.save_every}"
            raise InputError("keep_every", f"is {self.keep_every}", expected=expected)
        return self


def hpsv2() -> Recipe:
    """Return the published recipe of HPS v2: the defaults of every field.

    The official code sums the loss over the 16 pairs of a GPU, and DDP takes the mean over GPUs: hence `loss_scale`.
    """
    return Recipe(loss_scale=16)


def tiny() -> Recipe:
    """Return a recipe for a small network from random weights, about a minute on one CPU: to try the machinery."""
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


RECIPES: Mapping[str, Callable[[], Recipe]] = {"hpsv2": hpsv2, "tiny": tiny}
"""Named recipes; `mini`, a linear fit that `hpskit train` alone makes, is in `hpskit.training.mini`."""


def read_recipe(name_or_path: str | os.PathLike[str]) -> Recipe:
    """Return the recipe of a name in `RECIPES`, or of a TOML file.

    Raises:
        InputError: it is neither, or the file is wrong.
    """
    text = os.fspath(name_or_path)
    if text in RECIPES:
        return RECIPES[text]()
    if text.endswith(".toml"):
        return Recipe.from_toml(text)
    guess = nearest(text, RECIPES)
    cure = f"did you mean {guess!r}?" if guess else ""
    if text == "mini":
        cure = "mini is a linear fit, which `hpskit train` alone makes"
    raise InputError("--recipe", f"is {shown(text)}", expected=f"{', '.join(RECIPES)} or a file .toml", cure=cure)
