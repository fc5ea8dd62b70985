"""A few of the damaged inputs of benchmarks/fuzz.py, which break no promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fuzz

SEED = 0


def test_damaged_inputs_break_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPSKIT_HOME", "")
    monkeypatch.setenv("COLUMNS", "")
    threads = torch.get_num_threads()
    found = fuzz.ready(tmp_path, runs=False)
    quick = {"images", "rows", "data sets", "suites", "settings"}
    numbers = [number for number in range(100) if fuzz.kind_of(number, SEED) in quick]
    answers = [fuzz.try_input(number, SEED, found) for number in numbers]
    torch.set_num_threads(threads)
    assert not [fuzz.told(answer) for answer in answers if answer["problems"]]
