"""The figures of the benchmark's table."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.errors import InputError
from hpskit.stats import style_result


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


def test_importing_the_package_needs_numpy_only() -> None:
    code = "import sys, hpskit.stats; print(sorted({'scipy', 'krippendorff', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
