"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hpskit
from hpskit import stats

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


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["models", "fetch", "--help"], ["--version"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom hpskit.cli import app\n"
        f"try:\n    app({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pyarrow', 'open_clip'} & set(sys.modules), 'slow import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hpskit" in done.stdout
