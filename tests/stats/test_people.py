"""Agreement of people: by hand, by loops, of people whose agreement is known, and what must hold for any votes."""

from __future__ import annotations

import itertools
import math

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpskit.stats.accuracy import Accuracy
from hpskit.stats.agreement import agreement_by_gap, annotator_agreement, krippendorff_alpha, leave_one_out_agreement

NAN = math.nan
PEOPLE_RULES = ["ties-half", "hpdv2", "imagereward"]

Votes = list[list[list[float]]]


@st.composite
def group(draw: st.DrawFn, missing: bool = True) -> list[list[float]]:
    """Up to four judgements of two to four images, with ties and, if wanted, unranked images."""
    images, judgements = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    rank = st.integers(1, images).map(float)
    row = st.lists(rank | st.just(NAN) if missing else rank, min_size=images, max_size=images)
    return draw(st.lists(row, min_size=judgements, max_size=judgements))


DECIDED = [[1.0, 2.0], [1.0, 2.0]]
"""Something to compare under every rule."""
some_votes = st.lists(group(), max_size=6).map(lambda groups: [*groups, DECIDED])


def credit(rule: str, mine: float, theirs: float) -> float | None:
    """Differences of rank, second less first: above 0 the first image is preferred."""
    if rule == "imagereward" and theirs == 0:
        return None
    if rule == "hpdv2":  # a tie on either side is correct
        return float(mine * theirs >= 0)
    if rule == "imagereward":
        return float(mine * theirs > 0)
    return 1 - abs(np.sign(mine) - np.sign(theirs)) / 2


def by_loops(votes: Votes, rule: str, against: str) -> float:
    """Mean over groups of the mean credit of everyone against another, or against the mean of others or of all."""
    found = []
    for rows in votes:
        gained = []
        for i, j in itertools.combinations(range(len(rows[0])), 2):
            ahead = [row[j] - row[i] for row in rows]
            for me, mine in enumerate(ahead):
                others = [ahead[k] for k in range(len(rows)) if k != me and not math.isnan(ahead[k])]
                if math.isnan(mine) or not others:
                    continue
                targets = others if against == "another" else [sum(others) + mine * (against == "all")]
                gained += [credit(rule, mine, target) for target in targets]
        gained = [value for value in gained if value is not None]
        found += [np.mean(gained)] if gained else []
    return float(np.mean(found))


def measure(votes: Votes, rule: str, against: str) -> Accuracy:
    arrays = [np.array(rows) for rows in votes]
    if against == "another":
        return annotator_agreement(arrays, rule=rule)
    return leave_one_out_agreement(arrays, inclusive=against == "all", rule=rule)


@settings(max_examples=150)
@given(st.sampled_from(PEOPLE_RULES), st.sampled_from(["another", "others", "all"]), some_votes)
def test_agreement_is_what_loops_say(rule: str, against: str, votes: Votes) -> None:
    assert measure(votes, rule, against).value == pytest.approx(by_loops(votes, rule, against), abs=1e-12)


@pytest.fixture(scope="module")
def people() -> list[np.ndarray]:
    """Ten people who rank 300 groups of nine images by a worth that all share, and an error of their own."""
    rng = np.random.default_rng(0)
    seen = rng.normal(0, 1, (300, 1, 9)) + ERROR * rng.normal(0, 1, (300, 10, 9))
    return [*(seen.argsort(axis=-1).argsort(axis=-1) + 1.0)]


ERROR = 0.54
"""With which two people agree as often as in the paper."""


def test_ceilings_are_those_of_a_known_population(people: list[np.ndarray]) -> None:
    """Differences of worth, as two people see them, are normal and correlate by r: they agree with 1/2 + asin(r) / pi.
    Mean ranks are not quite mean worths."""
    for found, others, tolerance in (
        (annotator_agreement(people), 1, 0.003),
        (leave_one_out_agreement(people), 9, 0.006),
    ):
        r = 1 / math.sqrt((1 + ERROR**2) * (1 + ERROR**2 / others))
        assert found.value == pytest.approx(0.5 + math.asin(r) / math.pi, abs=tolerance)
    assert annotator_agreement(people).value == pytest.approx(0.781, abs=0.003), "the paper's figure"


def test_alpha_is_the_published_figure() -> None:
    """Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section C and E: 4 observers, 12 units."""
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    assert krippendorff_alpha([observers]) == pytest.approx(0.815, abs=0.0005)
    halves = [[row[:6] for row in observers], [row[6:] for row in observers]]
    assert krippendorff_alpha(halves) == pytest.approx(krippendorff_alpha([observers]))


def test_alpha_is_what_the_library_says() -> None:
    rng = np.random.default_rng(0)
    votes = [rng.integers(1, 6, size=(rng.integers(2, 7), 5)).astype(float) for _ in range(60)]
    for rows in votes:
        rows[rng.random(rows.shape) < 0.2] = NAN
    values = [1, 2, 3, 4, 5]
    counts = [[np.count_nonzero(rows[:, i] == value) for value in values] for rows in votes for i in range(5)]
    expected = krippendorff.alpha(
        value_counts=np.array(counts), value_domain=values, level_of_measurement="ordinal", dtype=np.float64
    )
    assert krippendorff_alpha(votes) == pytest.approx(expected, abs=1e-12)


def gaps_by_loops(votes: Votes, bins: int) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for rows in votes:
        images = len(rows[0])
        for (i, j), me in itertools.product(itertools.combinations(range(images), 2), range(len(rows))):
            mine = rows[me][j] - rows[me][i]
            others = [rows[k][j] - rows[k][i] for k in range(len(rows)) if k != me]
            others = [other for other in others if not math.isnan(other)]
            if math.isnan(mine) or not others or sum(others) == 0:
                continue
            gap = abs(sum(others)) / len(others) / (images - 1)
            found.setdefault(math.ceil(round(gap * bins, 9)) - 1, []).append(credit("ties-half", mine, sum(others)))
    return found


@given(votes=some_votes, bins=st.integers(1, 5))
def test_gaps_are_what_loops_say(votes: Votes, bins: int) -> None:
    found = agreement_by_gap([np.array(rows) for rows in votes], bins=bins)
    expected = gaps_by_loops(votes, bins)
    assert [round(point.low * bins) for point in found] == sorted(expected)
    for point in found:
        credits_there = expected[round(point.low * bins)]
        assert point.people.value == pytest.approx(np.mean(credits_there))
        assert point.people.pairs == len(credits_there)
        assert point.scores is None


def test_people_agree_where_others_see_a_gap(people: list[np.ndarray]) -> None:
    """And someone who takes part in the data as a scorer is on the same comparisons as they are."""
    points = agreement_by_gap(people, scores=[-rows.mean(axis=0) for rows in people], bins=5)
    agreement = [point.people.value for point in points]
    assert agreement == sorted(agreement)
    assert agreement[0] == pytest.approx(0.65, abs=0.03)
    assert agreement[-1] > 0.97
    assert all(point.scores is not None and point.scores.pairs == point.people.pairs for point in points)
    assert points[1].scores is not None
    assert points[1].scores.value > points[1].people.value
    whole = sum(point.people.pairs for point in points)
    assert whole == leave_one_out_agreement(people, rule="imagereward").pairs
