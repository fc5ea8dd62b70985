"""The public names, and what importing them costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import hpskit
from hpskit import stats
from hpskit.cli import app

PUBLIC = {"HpskitError", "PreferenceScorer", "RankedImage", "Scorer", "ScorerInfo", "__version__", "load_scorer"}


def test_the_public_names_are_these() -> None:
    assert set(hpskit.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(hpskit, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'scorer_load'"):
        hpskit.scorer_load  # noqa: B018


FIGURES = ", ".join(f"hpskit.stats.{path.stem}" for path in Path(stats.__path__[0]).glob("[!_]*.py"))


@pytest.mark.parametrize("module", ["hpskit", "hpskit.cli", "hpskit.errors", "hpskit.models.registry", FIGURES])
def test_importing_needs_no_torch(module: str) -> None:
    slow = {"torch", "pyarrow", "open_clip", "krippendorff", *(["scipy"] if module == FIGURES else [])}
    code = f"import sys, {module}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COUNTED = """
import contextlib, io, json, sys

sys.modules |= dict.fromkeys({without})  # as if these were not installed
sys.argv = ["hpskit", *{arguments}]
output, errors = io.StringIO(), io.StringIO()
from hpskit.cli import main
code = 0
with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
print(json.dumps([code, output.getvalue(), errors.getvalue(), sorted(sys.modules)]))
"""
HELPED = """
import json, sys
from hpskit.cli import app
for words in {}:
    try:
        app(words)
    except SystemExit as end:
        assert not end.code
print(json.dumps(sorted(sys.modules)))
"""
TORCH = {"torch", "open_clip", "timm", "accelerate", "diffusers", "transformers"}


def counted(tmp_path: Path, arguments: list[str], without: tuple[str, ...] = ()) -> tuple[int, str, str, set[str]]:
    """Run a command in a process; give its status, its outputs and the modules that it has imported."""
    code = COUNTED.format(without=without, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    status, output, errors, modules = json.loads(done.stdout)
    return status, output, errors, set(modules)


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


def test_help_of_every_command_is_light(tmp_path: Path) -> None:
    """Modules are counted, not seconds. One process asks for all: what one of them imports, all have."""
    every = [[*words, "--help"] for words in commands(typer.main.get_command(app))]
    assert len(every) > 40
    done = subprocess.run([sys.executable, "-c", HELPED.format(every)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert not modules & {*TORCH, "numpy", "scipy", "pyarrow", "PIL", "jinja2", "sqlite3"}
    assert {name for name in modules if name.startswith("hpskit.") and not name.startswith("hpskit.cli")} <= {
        "hpskit.errors"
    }
    *_, alone = counted(tmp_path, ["--help"])
    assert len(alone) < 370  # 332 with typer and rich; NumPy alone brings a hundred


@pytest.mark.parametrize(
    "words",
    [
        "score cat nope.png",
        "score --pairs nope.jsonl --out s.jsonl",
        "evaluate --data nope.json --out r",
        "agreement --data nope.json",
        "compare nope nope2 --prompts nope.jsonl --out c",
        "train --data nope.json --val nope.json --out r",
        "train --recipe mini --data nope.json --out r",
        "train --recipe nope.toml --data nope.json --val nope.json --out r",
        "ablate --data nope.json --val nope.json --grid lr=1,2 --out r",
        "data inspect nope.json",
        "data split nope.json --out r",
        "images check nope --out r.html",
        "images generate --prompts nope.jsonl --generators nope.toml --out r",
        "annotate init r --images nope",
        "benchmark run --suite nope.jsonl --images nope --name n --out r.json",
        "benchmark leaderboard nope.json --out r",
        "benchmark verify nope.json --images nope",
        "prompts select nope.jsonl --n 3 --out r.jsonl",
        "study chrominance a=nope --out r",
        "study metrics a=nope --reference nope --out r",
        "models verify nope.pt",
    ],
)
def test_a_wrong_path_is_answered_before_torch_is_imported(words: str, tmp_path: Path) -> None:
    status, output, errors, modules = counted(tmp_path, words.split())
    assert (status, output, errors.count("\n")) == (2, "", 1), errors
    assert "nope" in errors
    assert not modules & TORCH
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        ("train --data nope.json --val nope.json --out r", "accelerate", "train"),
        ("train --recipe mini --data nope.json --out r", "sklearn", "train"),
        ("study metrics a=nope --reference nope --out r", "torch_fidelity", "metrics"),
        ("annotate init r --images nope", "sqlalchemy", "annotate"),
        ("serve --model nope", "uvicorn", "serve"),
    ],
)
def test_a_missing_extra_is_answered_without_torch(words: str, module: str, extra: str, tmp_path: Path) -> None:
    status, output, errors, modules = counted(tmp_path, words.split(), (module,))
    assert (status, output, errors.count("\n")) == (2, "", 1), errors
    assert f"pip install 'hpskit[{extra}]'" in errors
    assert not (modules - {module}) & TORCH
