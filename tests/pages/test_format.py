"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.pages import format as figures

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("write", "cases"),
    [
        (figures.number, {1.005: "1.00", -2.5: f"{MINUS}2.50", -0.001: "0.00"}),
        (figures.signed, {0.414: "+0.41", -0.414: f"{MINUS}0.41", 0.0: "0.00", -0.001: "0.00", 0.001: "0.00"}),
        (figures.p_words, {0.0002: "p < 0.001", 0.0123: "p = 0.012", 0.5: "p = 0.50", 1: "p = 1.00"}),
        (figures.p_figure, {0.0002: "< 0.001", 0.001953: "0.0020", 0.05: "0.050"}),
        (figures.percent, {0: "0 %", 0.925: "93 %", 0.924999: "92 %", 0.145: "14 %", 1: "100 %"}),
        (figures.points, {0.8333: "83.3", None: "", 1.0: "100.0"}),
        (figures.duration, {50: "50 s", 720: "12 min", 12240: "3.4 h"}),
        (figures.thousands, {999: "999", 1234567: "1,234,567"}),
    ],
)
def test_how_figures_are_written(write: Callable[[object], str], cases: dict[object, str]) -> None:
    assert {value: write(value) for value in cases} == cases


def test_what_has_more_than_one_part() -> None:
    assert [figures.counted(count, "prompt") for count in (0, 1, 3200)] == ["0 prompts", "1 prompt", "3,200 prompts"]
    assert figures.between(-1, 2.345) == f"{MINUS}1.00 to 2.35"
    assert figures.between(-1, 2.345, 1, sign=True) == f"{MINUS}1.0 to +2.3"
    assert figures.between(None, None) == ""
    assert figures.percent(0.12345, 1) == "12.3 %"
    assert figures.p_figure(0.0002, 1e-4) == "0.00020"
    assert figures.p_figure(0.0002, 5e-4) == "< 0.0005"


def test_shares_of_a_whole_are_100_together_by_the_largest_remainder() -> None:
    cases = {0.925: (93, 7), 0.075: (7, 93), 0.5: (50, 50), 0.005: (0, 100), 1 / 3: (33, 67), 0.996: (100, 0)}
    assert {share: (figures.whole(share), figures.whole(1 - share)) for share in cases} == cases


@given(st.integers(1, 5000), st.data())
def test_whichever_way_round_two_models_stand_their_wins_are_100(prompts: int, data: st.DataObject) -> None:
    halves = data.draw(st.integers(0, 2 * prompts))  # a tie is half a win
    share = halves / (2 * prompts)
    assert figures.whole(share) + figures.whole(1 - share) == 100
    assert abs(figures.whole(share) - 100 * share) < 0.5 + 1e-6


def test_digits_for_two_figures_of_the_smallest() -> None:
    cases = {(0.47, 0.026): 3, (0.0, 0.0017, -4.0): 4, (6.4, 1.9): 2, (): 2, (0.0,): 2, (1e-12,): 6}
    assert {values: figures.digits_for(values) for values in cases} == cases
    assert figures.digits_for([6.4, 1.9], 1, 3) == 1
    assert figures.digits_for([0.08, 0.00034], 1, 3) == 3
