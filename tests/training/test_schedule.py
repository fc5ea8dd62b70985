"""The learning rate: the official one at every step that was written down, and the shape in between."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.errors import InputError
from hpskit.training.schedule import cosine_lr


def test_it_is_the_official_schedule(shared: Path) -> None:
    case = json.loads((shared / "parity/losses.json").read_text())["cosine_lr"]
    for step, expected in case["steps"].items():
        found = cosine_lr(int(step), base_lr=case["base_lr"], warmup=case["warmup"], total=case["total"])
        assert found == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 60), st.data())
def test_it_rises_then_falls_and_never_stands_at_zero(total: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, total))
    rates = [cosine_lr(step, base_lr=2.0, warmup=warmup, total=total) for step in range(total)]
    assert all(0 < rate <= 2 for rate in rates)
    assert max(rates) == 2
    assert all(one < other for one, other in itertools.pairwise(rates[:warmup]))
    assert all(one > other for one, other in itertools.pairwise(rates[warmup:]))


@pytest.mark.parametrize(
    ("step", "warmup", "message"), [(10, 2, "step: is 10, expected 0 to 9"), (-1, 2, "step: is -1"), (0, 11, "warmup:")]
)
def test_impossible_numbers_are_refused(step: int, warmup: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cosine_lr(step, base_lr=1.0, warmup=warmup, total=10)
