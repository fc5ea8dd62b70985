"""Recipes: every setting of a training run that decides what comes out, in one frozen record."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from hpskit.errors import InputError
from hpskit.files import expand, explain

__all__ = ["LINEAR_RECIPES", "RECIPES", "Loss", "Recipe", "Weighting", "hpsv2", "read_recipe", "tiny"]

Loss = Literal["pair", "soft-pair", "best-of-group", "margin", "davidson", "plackett-luce"]
Weighting = Literal["judgement", "group"]
Blocks = int | Literal["all"]

_LIMITS: Mapping[str, tuple[float, float]] = {
    "margin": (0, 1e6),
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
    "patience": (1, 10**6),
}
"""The smallest and largest number that makes sense."""
_OPEN = {"tie_share": (0, 1), "ema": (0, 1)}
"""Between two numbers, neither of them itself."""
_NONE = "none"
"""How files and options write None, which TOML does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What is trained, by which loss, how fast and how long. The defaults are those of HPS v2.

    What a run needs beside it (data, output folder, devices, workers) changes where it runs, not what comes out.
    """

    architecture: str = "ViT-H-14"
    """open_clip's name of the network, or `hpskit-tiny`."""
    weights: str | None = "clip-score"
    """What the run begins with: a name that `hpskit models` lists, or the path of a checkpoint; None draws weights
    by `seed`."""
    loss: Loss = "pair"
    """`pair`: the majority's choice in each pair, as the official code; `soft-pair`: the share of votes, each vote
    counted; `best-of-group`: the best image among all of its group; `margin`: hinge on differences of rank;
    `davidson`: wins, losses and ties of each pair; `plackett-luce`: each person's whole order."""
    margin: float = 1.0
    """Of the loss `margin`."""
    tie_share: float = 0.1
    """Of the loss `davidson`: how often two equally good images are called a tie, between 0 and 1."""
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
    patience: int | None = None
    """Stop after so many validations without a better one."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), hints[field.name])
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas: is {list(self.betas)}, expected two numbers of at least 0 and below 1")
        if self.warmup > self.steps:
            raise InputError(f"warmup: is {self.warmup}, expected at most steps, {self.steps}; set one of the two")
        if self.batch % self.accumulate:
            raise InputError(f"accumulate: is {self.accumulate}, expected a divisor of batch, {self.batch}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], place: str) -> Self:
        """The recipe with these fields; what is not given is as in HPS v2.

        Args:
            values: field -> value as TOML or JSON have them; None may be written "none", a tuple is a list, a whole
                number may stand for a float.
            place: named by errors, for example the file.

        Raises:
            InputError: there is no such field, or it cannot have that value.
        """
        try:
            return cls(**_typed(values))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recipe; see `from_dict`.

        Raises:
            InputError: the file cannot be read, is not TOML, or a setting is wrong.
        """
        path = expand(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({explain(error)}); check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not TOML ({error}); expected lines such as lr = 3.3e-6") from error
        return cls.from_dict(values, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON has it; the way back is `from_dict`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in _items(self)}

    def to_toml(self) -> str:
        """Every field on a line; the way back is `from_toml`."""
        return "".join(f"{name} = {_written(value)}\n" for name, value in _items(self))

    def with_settings(self, settings: Sequence[str]) -> Self:
        """A recipe that differs in some fields.

        Args:
            settings: such as `lr=1e-6`, `image_blocks=all`, `betas=[0.9, 0.99]`; values as in TOML, or bare words.

        Raises:
            InputError: not of the form name=value, no such field, or it cannot have that value.
        """
        changes: dict[str, Any] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise InputError(f"--set: is {setting!r}, expected NAME=VALUE, such as lr=1e-6")
            changes[name.strip()] = _parsed(text.strip())
        return type(self).from_dict({**self.to_dict(), **changes}, "--set" if settings else "recipe")


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


RECIPES: Mapping[str, Callable[[], Recipe]] = {"hpsv2": hpsv2, "tiny": tiny}
"""Named recipes for networks that are trained by gradient descent."""

LINEAR_RECIPES = ("mini",)
"""Names for `--recipe` that mean a linear fit on fixed features (`hpskit.training.mini_fit`) and have no `Recipe`."""


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
    names = (*RECIPES, *LINEAR_RECIPES)
    expected = f"expected one of {', '.join(names)} or a file .toml"
    raise InputError(f"--recipe: is {text!r}, {expected}{_nearest(text, names)}")


def _items(recipe: Recipe) -> list[tuple[str, Any]]:
    return [(field.name, getattr(recipe, field.name)) for field in dataclasses.fields(recipe)]


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
    return f"; did you mean {near[0]!r}?" if near else ""


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a file as the fields want them; what does not fit is left for the check of the recipe."""
    hints = typing.get_type_hints(Recipe)
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            hint = _nearest(name, tuple(hints)) or f"; expected one of {', '.join(hints)}"
            raise InputError(f"{name}: is no field of a recipe{hint}")
        kinds = typing.get_args(hints[name]) or (hints[name],)
        if value == _NONE and types.NoneType in kinds:
            typed[name] = None
        elif float in kinds and type(value) is int:
            typed[name] = float(value)
        else:
            typed[name] = tuple(value) if isinstance(value, list) else value
    return typed


def _check(name: str, value: Any, hint: Any) -> None:
    """See that a field has a value of its type and in its range."""
    if not _fits(value, hint):
        raise InputError(f"{name}: is {value!r}, expected {_named(hint)}")
    if value in ("", _NONE):
        raise InputError(f"{name}: is {value!r}, expected a name")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    low, high = _LIMITS.get(name, (-math.inf, math.inf))
    if not low <= value <= high:
        raise InputError(f"{name}: is {value!r}, expected a number from {low:g} to {high:g}")
    low, high = _OPEN.get(name, (-math.inf, math.inf))
    if not low < value < high:
        raise InputError(f"{name}: is {value!r}, expected a number between {low:g} and {high:g}, neither of them")


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if parts:
        return any(_fits(value, part) for part in parts)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint


def _named(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, parts)) if len(parts) < 3 else f"one of {', '.join(parts)}"
    if origin is tuple:
        return f"{len(parts)} numbers, such as [0.9, 0.98]"
    if parts:
        return " or ".join(_named(part) for part in parts)
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", types.NoneType: _NONE}
    return words[hint]


def _written(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = json.dumps(_NONE if value is None else value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # the one character that JSON leaves as it is and TOML forbids


def _parsed(text: str) -> Any:
    """A value of TOML, or the text itself."""
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return values["value"] if len(values) == 1 else text
