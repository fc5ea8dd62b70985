"""Which prompts say almost the same: the share of words that they have in common, plurals and articles aside."""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["SIMILARITY", "SimilarTexts", "words"]

SIMILARITY = 0.8
"""Share of common words (Jaccard) from which two prompts are near-duplicates: one word of ten may differ."""

# Chinese, Japanese and Korean characters are words of their own, because there are no spaces between words.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
# Vowel signs and points belong to the letter before: of Hebrew, Arabic, the scripts of India, Thai, Burmese and Khmer.
_SIGNS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0df3"
    "\u0e31-\u0e3a\u0e47-\u0e4e\u102b-\u103e\u17b4-\u17d3"
)
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}_])\w)(?:(?![{_CJK}_])[\w{_SIGNS}])*")  # long_hair: two words
# Of Latin letters alone: marks on kana, Hangul and Indic letters make other letters of them.
_ACCENTS = re.compile(r"([a-z\u00df-\u024f\u1e00-\u1eff])[\u0300-\u036f]+")
_ARTICLES = ("a", "an", "the")
_WITH_E = ("se", "xe", "che", "she", "oe")
"""Endings whose e may be of the word or of the plural: `axes` and `boxes`, `shoes` and `heroes`."""
_ROUNDING = 1e-9


def words(prompt: str) -> str:
    """The words of a prompt with single spaces, without case, accents, punctuation and forms of the same character.

    A prompt without any word, such as one of punctuation or pictures, is itself.
    """
    plain = prompt.casefold() if prompt.isascii() else _folded(prompt)
    return " ".join(_WORD.findall(plain)) or " ".join(plain.split())


def _folded(prompt: str) -> str:
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", prompt).casefold())
    return unicodedata.normalize("NFKC", _ACCENTS.sub(r"\1", apart))


def _stems(text: str) -> set[str]:
    return {_stem(word) for word in text.split()}


def _stem(word: str) -> str:
    """A word without what looks like the ending of an English plural or verb; `glass`, `bus` and `this` have none.

    What is left need be no word (`hous`), only the same for one and several.
    """
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "isu":
        word = word[:-1]
    if len(word) > 3 and word.endswith("ie"):  # cities, zombies
        return f"{word[:-2]}y"
    return word[:-1] if len(word) > 3 and word.endswith(_WITH_E) else word


class SimilarTexts:
    """Finds all texts that have enough words in common with a given one. Exact, at any size.

    Words are compared without the -s of plurals. Two texts are similar if the Jaccard similarity of their sets of words
    reaches a limit; or if these are the same but for the articles, because in a short prompt one article more or less
    is a large share of the words (`a chair`, `chairs`).

    Two sets whose Jaccard similarity is at least t have a word in common among the rarest n - ceil(t n) + 1 words of
    each (n its size), so only those are indexed (Bayardo, Ma & Srikant 2007, Scaling Up All Pairs Similarity Search).
    Articles count as the most frequent words, so that sets which differ in them alone have their rarest word in common.
    Memory: about 4 bytes for each word of each text.
    """

    def __init__(self, texts: Sequence[str], similarity: float = SIMILARITY) -> None:
        """
        Args:
            texts: as `words` makes them; order and repetition of words do not matter.
            similarity: least Jaccard similarity, above 0 to 1.
        """
        self.similarity = similarity
        frequency = Counter(word for text in texts for word in _stems(text))
        others = sorted(frequency.keys() - set(_ARTICLES), key=lambda word: (frequency[word], word))
        self._ranks = {word: rank for rank, word in enumerate([*others, *_ARTICLES])}
        self._articles = len(others)
        self._words, self._ends = array("i"), array("q", [0])
        self._with: dict[int, array[int]] = {}
        for number, text in enumerate(texts):
            known, _ = self._sorted(text)
            self._words.extend(known)
            self._ends.append(len(self._words))
            for rank in known[: self._prefix(len(known))]:
                self._with.setdefault(rank, array("i")).append(number)

    def like(self, text: str) -> list[int]:
        """The numbers of all texts that are similar to this one, in order."""
        known, size = self._sorted(text)
        prefix = known[: max(0, self._prefix(size) - (size - len(known)))]  # unknown words are the rarest
        candidates = {number for rank in prefix for number in self._with.get(rank, ())}
        own = set(known)
        bare = self._bare(known) if len(known) == size else []
        return sorted(
            number for number in candidates if self._is_similar(own, size, number) or self._is_same(bare, number)
        )

    def _sorted(self, text: str) -> tuple[list[int], int]:
        """Ranks of the known words of a text, the rarest first, and how many different words it has."""
        different = _stems(text)
        return sorted(self._ranks[word] for word in different if word in self._ranks), len(different)

    def _prefix(self, size: int) -> int:
        return size - math.ceil(self.similarity * size - _ROUNDING) + 1

    def _is_similar(self, own: set[int], size: int, number: int) -> bool:
        start, end = self._ends[number : number + 2]
        needed = self.similarity / (1 + self.similarity) * (size + end - start) - _ROUNDING
        if min(size, end - start) < needed:
            return False
        return len(own.intersection(self._words[start:end])) >= needed

    def _is_same(self, bare: list[int], number: int) -> bool:
        """Whether a text has these words, articles aside; no text has none."""
        start, end = self._ends[number : number + 2]
        if not bare or bare[0] != self._words[start] or end - start - len(bare) not in range(len(_ARTICLES) + 1):
            return False
        return bare == self._bare(self._words[start:end])

    def _bare(self, ranks: Iterable[int]) -> list[int]:
        return [rank for rank in ranks if rank < self._articles]
