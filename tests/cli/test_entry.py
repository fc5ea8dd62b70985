"""The entry point: Ctrl-C at any moment, and paths that may not be read, are one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from conftest import Cli
from hpskit.stage import Ledger

STOPS = {"signal": "os.kill(os.getpid(), signal.SIGINT)", "error": "raise ImportError('init') from KeyboardInterrupt()"}
"""Ctrl-C as Python code sees it, and what a module in C makes of it while it is imported."""


@pytest.mark.parametrize(
    ("module", "how"), [("typer", "signal"), ("numpy", "error"), ("torch", "signal"), ("torch", "error")]
)
def test_an_interrupt_during_imports_is_one_line(module: str, how: str, cli_python: Cli, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    done = cli_python(f"""
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            {STOPS[how]}

sys.meta_path.insert(0, Finder())
sys.argv = ["hpskit", "score", "a cat", {str(tmp_path / "a.png")!r}]
from hpskit.__main__ import main
main()
""")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_an_interrupted_job_says_how_it_goes_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a cat", "image": "a.png"}\n')
    monkeypatch.setattr(Ledger, "put", interrupt)
    done = cli("score", "--pairs", "pairs.jsonl", "--out", "scores.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, "interrupted; the same command goes on with what is done\n")


def test_no_box_is_drawn_about_permissions(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run as root, whom nothing is refused: the operating system is asked what it would be asked."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    done = cli("score", "a cat", tmp_path / "a.png")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be read (Permission denied); change its permissions" in done.stderr
