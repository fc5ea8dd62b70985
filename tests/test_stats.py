"""Known answers from the official code, and what must hold for any input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.errors import InputError
from hpskit.stats import accuracy_hpdv2, style_result


def test_accuracy_matches_the_official_inversion_score(shared: Path) -> None:
    cases = json.loads((shared / "parity/losses.json").read_text())["inversion_score"]
    assert cases
    for case in cases:
        scores = -np.array(case["predicted_rank"], dtype=float)
        assert accuracy_hpdv2([scores], [case["human_rank"]]) == pytest.approx(case["value"], abs=1e-12)


def test_accuracy_by_hand() -> None:
    assert accuracy_hpdv2([[3, 2, 1]], [[1, 2, 3]]) == 1
    assert accuracy_hpdv2([[3, 1, 2]], [[1, 2, 3]]) == pytest.approx(2 / 3)
    assert accuracy_hpdv2([[3, 2, 1], [1, 2]], [[1, 2, 3], [1, 2]]) == 0.5  # mean over prompts, not over pairs
    assert accuracy_hpdv2([[1, 2]], [[1, 1]]) == 1  # people tied: correct either way
    assert accuracy_hpdv2([[1, 1]], [[2, 1]]) == 0  # an undecided scorer is ranked as the images stand


@given(st.permutations(range(7)), st.permutations(range(7)), st.floats(0.1, 10), st.floats(-5, 5))
def test_accuracy_invariants(scores: list[int], ranks: list[int], factor: float, shift: float) -> None:
    values = np.array(scores, dtype=float)
    accuracy = accuracy_hpdv2([values], [ranks])
    assert 0 <= accuracy <= 1
    assert accuracy_hpdv2([factor * values + shift], [ranks]) == pytest.approx(accuracy)
    assert accuracy_hpdv2([-values], [ranks]) == pytest.approx(1 - accuracy)
    order = np.argsort(ranks)
    assert accuracy_hpdv2([values[order]], [np.array(ranks)[order]]) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("scores", "ranks", "message"),
    [
        ([], [], "0 prompts"),
        ([[1, 2]], [], "1 prompts for 0"),
        ([[1, 2, 3]], [[1, 2]], "prompt 0"),
        ([[1]], [[1]], "n > 1"),
    ],
)
def test_accuracy_refuses_what_it_cannot_measure(scores: list[list[int]], ranks: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        accuracy_hpdv2(scores, ranks)


def test_style_result_by_hand() -> None:
    result = style_result([1, 3, 5, 7], group_size=2)  # group means 2 and 6
    assert (result.mean, result.deviation) == (4, 2)
    uneven = style_result([0, 0, 9], group_size=2)  # group means 0 and 9: the mean is over groups
    assert (uneven.mean, uneven.deviation) == (4.5, 4.5)
    with pytest.raises(InputError, match="at least one score"):
        style_result([])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=300))
def test_style_result_invariants(scores: list[float]) -> None:
    result = style_result(scores)
    assert min(scores) - 1e-9 <= result.mean <= max(scores) + 1e-9
    assert result.deviation >= 0
    assert style_result([s + 1 for s in scores]).mean == pytest.approx(result.mean + 1)
