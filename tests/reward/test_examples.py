"""The examples of runs/ raise the reward and end with the page of the watch."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import reward_ascent
import reward_grpo
from tiny_pipeline import write_pipeline


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("pipeline"))


def told(
    example: ModuleType,
    words: list[object],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> float:
    """Run an example on few images; return by how much the reward rose."""
    monkeypatch.setattr(reward_ascent, "COUNT", 3)
    monkeypatch.setattr(reward_grpo, "GROUP", 4)
    monkeypatch.setattr(sys, "argv", ["example", str(out), *map(str, words)])
    example.main()
    first, last = re.findall(r"-?\d+\.\d+", capsys.readouterr().out)[:2]
    page = (out / "watch.html").read_text()
    assert "<svg" in page
    assert (out / "watch.jsonl").read_text().count("\n") >= 16
    return float(last) - float(first)


def test_pixels(
    photograph_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image", photograph_files[0], "--steps", 8]
    assert told(reward_ascent, words, tmp_path / "out", monkeypatch, capsys) > 0.5


def test_latents(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--pipeline", pipeline, "--steps", 8]
    assert told(reward_ascent, words, tmp_path / "out", monkeypatch, capsys) > 0.05


def test_grpo(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--pipeline", pipeline, "--steps", 10]
    assert told(reward_grpo, words, tmp_path / "out", monkeypatch, capsys) > 0
