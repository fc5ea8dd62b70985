"""One option, one default: in every command that has it, and in Python."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from hpskit.benchmark.compare import Compare
from hpskit.benchmark.leaderboard import Leaderboard
from hpskit.benchmark.result import Resampling
from hpskit.benchmark.run import BenchmarkRun
from hpskit.benchmark.studies.chrominance import Chrominance
from hpskit.benchmark.studies.distribution_metrics import Metrics
from hpskit.benchmark.studies.prompt_number import PromptNumber
from hpskit.benchmark.studies.resolution import Resolution
from hpskit.cli import app
from hpskit.cluster.score import ScoreShards
from hpskit.cluster.scoring import Loading
from hpskit.evaluation.agreement import Agreement
from hpskit.evaluation.run import Evaluation
from hpskit.scoring.files import ScoreFile
from hpskit.scoring.scorer import load_scorer
from hpskit.training.export import Export
from hpskit.training.sweep import Sweep
from hpskit.training.trainer import TrainConfig

DIFFERENT = {
    "compare_pixels": "split decodes once, for parts that stay; train would at every start",
    "engine": "shards are scored by Ray unless told otherwise; a service is one process",
    "images": "a switch of `data`, folders elsewhere",
    "name": "that of an annotation project is its folder's",
    "open_": "`annotate demo` opens its page; a server does not",
    "port": "a scoring server and an annotation server may run side by side",
    "out": "`annotate demo` needs no word",
    "reason": "why people are paused by hand, or a panel took them back",
    "resamples": "10,000 for figures; a study draws whole samples of images or prompts, 1,000 times",
    "to": "models are exported to one layout, people's choices to another",
    "suite": "verify takes the suite that the result names",
}
"""Names whose default differs from command to command, and why."""
IN_PYTHON = {
    "score": (ScoreFile, load_scorer),
    "evaluate": (Evaluation, load_scorer),
    "agreement": (Agreement,),
    "compare": (Compare, Resampling, load_scorer),
    "cluster score": (ScoreShards, Loading),
    "train": (TrainConfig,),
    "ablate": (TrainConfig, Sweep),
    "export": (Export,),
    "benchmark run": (BenchmarkRun, load_scorer),
    "benchmark leaderboard": (Leaderboard, Resampling),
    "study chrominance": (Chrominance,),
    "study metrics": (Metrics,),
    "study prompts": (PromptNumber,),
    "study resolution": (Resolution, load_scorer),
}


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from commands(inner, f"{name} {word}".strip())
    else:
        yield name, command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_in_all_commands() -> None:
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, command in COMMANDS.items():
        for option in command.params:
            if not option.required:
                found[option.name][repr(option.default)].append(name)
    assert {name: dict(defaults) for name, defaults in found.items() if len(defaults) > 1}.keys() == DIFFERENT.keys()


@pytest.mark.parametrize("name", IN_PYTHON)
def test_and_in_python(name: str) -> None:
    functions: tuple[Callable[..., Any], ...] = IN_PYTHON[name]
    parameters = {key: value for function in functions for key, value in inspect.signature(function).parameters.items()}
    defaults = {option.name: option.default for option in COMMANDS[name].params if not option.required}
    both = {key: value.default for key, value in parameters.items() if key in defaults}
    assert both
    for key, value in both.items():
        if isinstance(value, bool | int | float | str | tuple | None):  # else it is required, or an empty mapping
            assert (defaults[key] or None) == (value or None), key  # nothing is "", () or None
