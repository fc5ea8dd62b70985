"""The model card of an exported model: what is known from its run, and nothing else. Pure: no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpskit.models.registry import MODELS
from hpskit.pages import environment
from hpskit.training.past_run import PastRun, left_out, lines_of
from hpskit.training.recipes import Recipe

__all__ = ["Evaluated", "ModelFacts", "model_card"]

_UNKNOWN = ("unknown", "not stated")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What is known of a model without its run."""

    name: str
    architecture: str
    """open_clip's name."""
    licence: str
    """`unknown` or `not stated` if nobody said."""
    weight_hash: str
    size: int
    """Side of an image in pixels."""
    logit_scale: float
    """1 to 100."""
    step: int | None
    """Of the run; None without one."""
    package: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """An accuracy of the model on some data, measured by `hpskit evaluate`."""

    data: str
    rule: str
    value: float
    """0 to 1, as are the ends of its interval."""
    low: float | None
    """None if there was one prompt."""
    high: float | None
    groups: int
    seen: int
    """Groups with a prompt that the model was trained on."""


def model_card(facts: ModelFacts, run: PastRun | None, evaluated: Sequence[Evaluated]) -> str:
    """Markdown with the header that Hugging Face reads.

    Args:
        facts: of the model.
        run: that it comes from; None if it is not known.
        evaluated: further figures.
    """
    config = run.config if run else None
    found = [line for line in lines_of(run.log, "validation") if line["step"] == facts.step] if run else []
    return str(
        environment("hpskit.training")
        .get_template("card.md")
        .render(
            facts=facts,
            licensed=facts.licence not in _UNKNOWN,
            run=config,
            recipe=Recipe.from_dict(config["recipe"], "config.json").to_toml() if config else None,
            base=_base(config),
            left_out=left_out(config) if config else [],
            validation=found[0] if found else None,
            evaluated=evaluated,
            percent=_percent,
        )
    )


def _base(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The weights that the run began with, and their repository if they have one."""
    if config is None or not config.get("base"):
        return None
    model = MODELS.get(config["base"]["name"])
    return {**config["base"], "repository": model.sources[0].repository if model and model.sources else None}


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
