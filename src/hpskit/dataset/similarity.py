"""Which prompts say almost the same: the share of words that they have in common."""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Sequence

__all__ = ["SIMILARITY", "SimilarTexts", "words"]

SIMILARITY = 0.8
"""Share of common words (Jaccard) from which two prompts are near-duplicates: one word of ten may differ."""

# Chinese, Japanese and Korean characters are words of their own, because there are no spaces between words.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+")
_ROUNDING = 1e-9


def words(prompt: str) -> str:
    """The words of a prompt with single spaces, without case, punctuation and forms of the same character.

    A prompt without any word, such as one of punctuation or pictures, is itself.
    """
    plain = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join(_WORD.findall(plain)) or " ".join(plain.split())


class SimilarTexts:
    """Finds all sets of words that have enough in common with a given one. Exact, at any size.

    Two sets whose Jaccard similarity is at least t have a word in common among the rarest n - ceil(t n) + 1 words of
    each (n its size), so only those are indexed (Bayardo, Ma & Srikant 2007, Scaling Up All Pairs Similarity Search).
    Memory: about 4 bytes for each word of each text.
    """

    def __init__(self, texts: Sequence[str], similarity: float = SIMILARITY) -> None:
        """
        Args:
            texts: as `words` makes them; order and repetition of words do not matter.
            similarity: least Jaccard similarity, above 0 to 1.
        """
        self.similarity = similarity
        frequency = Counter(word for text in texts for word in set(text.split()))
        self._ranks = {word: rank for rank, word in enumerate(sorted(frequency, key=lambda w: (frequency[w], w)))}
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
        return sorted(number for number in candidates if self._is_similar(own, size, number))

    def _sorted(self, text: str) -> tuple[list[int], int]:
        """Ranks of the known words of a text, the rarest first, and how many different words it has."""
        different = set(text.split())
        return sorted(self._ranks[word] for word in different if word in self._ranks), len(different)

    def _prefix(self, size: int) -> int:
        return size - math.ceil(self.similarity * size - _ROUNDING) + 1

    def _is_similar(self, own: set[int], size: int, number: int) -> bool:
        start, end = self._ends[number : number + 2]
        needed = self.similarity / (1 + self.similarity) * (size + end - start) - _ROUNDING
        if min(size, end - start) < needed:
            return False
        return len(own.intersection(self._words[start:end])) >= needed
