"""Prompts that are the same or nearly so: known answers, and all of them at any number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit.dataset.duplicates import SIMILARITY, SimilarTexts, words

SINGULAR = {"cats": "cat", "foxes": "fox", "axes": "axe", "cities": "city", "zombies": "zombie", "heroes": "hero"}
ARTICLES = {"a", "an", "the"}
WORDS = [*ARTICLES, *SINGULAR, *SINGULAR.values(), "red", "bus", "glass", "in"]
TEXTS = st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=12).map(" ".join)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A cat, sitting.", "a  CAT sitting", True),
        ("caf\u00e9", "cafe\u0301", True),  # composed and decomposed
        ("caf\u00e9", "cafe", True),
        ("\u00c9TUDE", "etude", True),
        ("Vi\u1ec7t", "viet", True),  # two marks on one letter
        ("stra\u00dfe", "strasse", True),
        ("\uff21 cat", "a cat", True),  # full width
        ("\u304b", "\u304c", False),  # ka and ga: a mark, and another letter
        ("\u0439", "\u0438", False),  # Cyrillic short i and i
        ("\u0915\u093f", "\u0915", False),  # an Indic vowel sign
        ("\uac00", "\uac01", False),  # Hangul
        ("long_hair, __eyes__", "long hair eyes", True),
        ("a cat", "cat a", False),
        ("!!!", "!!!", True),
        ("!!!", "???", False),
        ("\u732b\u304c\u5ea7\u308b", "\u732b \u304c \u5ea7 \u308b", True),
    ],
)
def test_what_is_the_same_prompt(one: str, other: str, same: bool) -> None:
    assert (words(one) == words(other)) is same
    assert words(one)


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("a cat on a mat", "the cat on the mat", True),
        ("a cat on a mat", "cats on a mat", True),
        ("chair", "the chairs", True),
        ("an astronaut riding a horse", "astronaut riding horses", True),
        ("a red cat", "a blue dog", False),
        ("a red cat", "a red dog", False),
        ("a red cat", "a red cat sitting", False),
        ("two glasses of water on a table", "two glasses of wine on a table", False),
        ("glass", "glasses", True),
        ("a movie", "movies", True),
        ("a moustache", "moustaches", True),
        ("an axe", "two axes", False),
        ("a shoe", "shoes", True),
        ("a hero", "heroes", True),
        ("a tie", "ties", True),
        ("the bus", "buses", True),
        ("a star", "a stare", False),
        ("a bus", "a bu", False),
        ("the", "a", False),  # nothing but articles
        ("the", "the", True),
        (
            "a portrait of an old sailor with a white beard smoking a pipe on deck",
            "a portrait of an old sailor with a grey beard smoking a pipe on deck",
            True,
        ),
    ],
)
def test_what_is_nearly_the_same_prompt(one: str, other: str, near: bool) -> None:
    for first, second in ((one, other), (other, one)):
        assert (SimilarTexts([words(first)]).like(words(second)) == [0]) is near


def stems(text: str) -> set[str]:
    return {SINGULAR.get(word, word) for word in text.split()}


def similar(one: str, other: str, limit: float) -> bool:
    a, b = stems(one), stems(other)
    return len(a & b) / len(a | b) >= limit - 1e-12 or (a - ARTICLES == b - ARTICLES != set())


@given(st.lists(TEXTS, max_size=12), TEXTS, st.sampled_from([0.3, 0.5, SIMILARITY, 0.9, 1.0]))
def test_all_similar_texts_are_found_and_no_others(texts: list[str], asked: str, limit: float) -> None:
    expected = [n for n, text in enumerate(texts) if similar(text, asked, limit)]
    assert SimilarTexts(texts, limit).like(asked) == expected


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_every_prompt_is_like_itself(prompts: list[str]) -> None:
    texts = [words(prompt) for prompt in prompts]
    found = SimilarTexts(texts)
    for number, text in enumerate(texts):
        assert number in found.like(text) or not text
