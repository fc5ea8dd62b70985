"""Find prompts that say nearly the same: MinHash over character n-grams, every edge verified, no chains.

Prompts are equal if they are after `normal`. They are near-duplicates if the Jaccard similarity of their sets of
character 5-grams reaches a limit, and if they agree in every word that makes another picture of them: numbers, colours,
negations, sides (`guard`). Candidates come from MinHash (Broder 1997) with locality-sensitive hashing; a candidate
counts only when its exact similarity is known. A cluster is a leader, the first of its prompts, with those that are
like the leader itself: connected components would chain `a` to `z` through everything between.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from hpskit.errors import InputError, need

SIMILARITY = 0.8
"""Share of common character 5-grams (Jaccard) from which two prompts are near-duplicates."""
GRAM = 5
_SLOTS, _BANDS = 64, 16
"""Size of a signature, and the parts of it of which one must be equal: 99.98 % of pairs at 0.8 have one."""
_BLOCK = 8_192
"""Texts that are compared with the leaders at once, and then with one another."""
_AT_ONCE = 2_000
"""Texts whose hashes, or pairs whose contents, are in memory at once."""
_PAD = " " * (GRAM - 1)
"""Margin of a text, so that the shortest has some too."""

_SEPARATORS = [
    *range(33),
    *range(0x2000, 0x2070),
    *range(0x3000, 0x3040),
    *map(ord, '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'),
]
_PLAIN = str.maketrans(dict.fromkeys(_SEPARATORS, " ") | {ord(sign): "" for sign in "'\u2019"})
_DIGITS = re.compile(r"\d+")
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_GUARDED = (
    "dozen hundred thousand single double triple couple pair trio several many few both half "
    "red orange yellow green blue purple violet pink brown black white grey gold golden silver cyan magenta teal "
    "turquoise beige crimson scarlet indigo maroon "
    "no not without with never none nobody nothing neither nor dont doesnt isnt arent cant wont except "
    "left right above below under over inside outside behind front top bottom up down before after "
    "man woman men women boy girl boys girls male female he she his her day night"
)
_GUARD = {word: word for word in _GUARDED.split()}
_GUARD |= {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_GUARD |= {"gray": "grey"}
GUARDED = frozenset(_GUARD)
"""Words that `guard` looks for."""


def normal(text: str) -> str:
    """Return a text without case, punctuation and repeated blanks; one of nothing else is itself."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().translate(_PLAIN).split()) or text.strip()


def guard(text: str) -> tuple[str, ...]:
    """Return the words of a normal text that make another picture, in order: numbers (as digits), colours, negations,
    sides, and persons. Texts that differ in them are no duplicates, however alike they are."""
    telling = [word for word in text.split() if word in _GUARD or not word.isalpha()]
    return tuple(part for word in telling for part in ([_GUARD[word]] if word in _GUARD else _DIGITS.findall(word)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Clusters:
    """Result of `TextIndex.clusters`."""

    leader: NDArray[np.int64]
    """(texts,): number of the text that leads each; a leader leads itself."""
    similarity: NDArray[np.float32]
    """(texts,): with the leader, verified; 1 for itself and for equal texts."""

    def largest(self, count: int) -> list[tuple[int, int]]:
        """Return (leader, size) of the largest clusters of two or more, the largest first."""
        leaders, sizes = np.unique(self.leader, return_counts=True)
        order = np.argsort(-sizes, kind="stable")[:count]
        return [(int(leaders[n]), int(sizes[n])) for n in order if sizes[n] > 1]


class TextIndex:
    """Texts by their signatures, to ask which are like one another."""

    def __init__(self, texts: Iterable[str], *, limit: float = SIMILARITY) -> None:
        """Index texts: about 1 kB of memory for each that is different.

        Args:
            texts: prompts; they are compared as `normal` makes them.
            limit: least Jaccard similarity of near-duplicates, 0.5 to 1; below that too few candidates are found.

        Raises:
            InputError: the limit is out of range.
            MissingExtraError: rensa is not installed.
        """
        if not 0.5 <= limit <= 1:
            raise InputError("similarity", f"is {limit}", expected="0.5 to 1")
        self.limit = limit
        numbers: dict[str, int] = {}
        self._of = np.fromiter((numbers.setdefault(normal(text), len(numbers)) for text in texts), np.int64)
        """Number of each text among the different ones."""
        self._texts = [*numbers]
        del numbers
        self._order, self._keys = np.empty((_BANDS, 0), np.int32), np.empty((_BANDS, 0), np.uint64)
        if self._texts:
            keys = band_keys(signatures(self._texts), self._texts)
            self._order = np.argsort(keys, axis=1).astype(np.int32)
            self._keys = np.take_along_axis(keys, self._order, axis=1)

    def clusters(self) -> Clusters:
        """Give every text its leader: one before it that it is like, of those that have no leader themselves.

        Blocks of texts are compared with the leaders so far, and what is left of a block within itself; so a cluster
        of everything is no slower than none.
        """
        if not self._texts:
            return Clusters(leader=np.empty(0, np.int64), similarity=np.empty(0, np.float32))
        shared, buckets = self._shared_buckets()
        contents = gram_rows([self._texts[number] for number in shared])
        leader, alike = np.arange(len(shared)), np.zeros(len(shared), np.float32)
        leaders = np.empty(0, np.int64)
        start, size = 0, 256
        while start < len(shared):
            block = np.arange(start, min(start + size, len(shared)))
            for others in (leaders, block):
                left = block[leader[block] == block]
                for one, other, share in alike_pairs(buckets, contents, left, others, self.limit):
                    if leader[other] == other and share > alike[one]:
                        leader[one], alike[one] = other, share
            leaders = np.concatenate([leaders, block[leader[block] == block]])
            start, size = start + size, min(2 * size, _BLOCK)
        of_all, alike_all = np.arange(len(self._texts)), np.ones(len(self._texts), np.float32)
        led = leader != np.arange(len(shared))
        of_all[shared[led]], alike_all[shared[led]] = shared[leader[led]], alike[led]
        _, first = np.unique(self._of, return_index=True)  # the first text of each different one
        return Clusters(leader=first[of_all[self._of]], similarity=alike_all[self._of])

    def _shared_buckets(self) -> tuple[NDArray[np.int64], csr_matrix]:
        """Return the texts that share a bucket with another, in order, and a matrix of these texts x buckets."""
        owners, names, after = [], [], 0
        for keys, order in zip(self._keys, self._order, strict=True):
            same = keys[1:] == keys[:-1]
            shared = np.append(same, False) | np.append(False, same)
            number = np.cumsum(np.append(True, ~same))[shared] + after
            after = int(number[-1]) if len(number) else after
            owners.append(order[shared])
            names.append(number)
        texts, row = np.unique(np.concatenate(owners), return_inverse=True)
        different, column = np.unique(np.concatenate(names), return_inverse=True)
        return texts, csr_matrix((np.ones(len(row), np.int8), (row, column)), shape=(len(texts), len(different)))


def alike_pairs(
    buckets: csr_matrix, contents: csr_matrix, ones: NDArray[np.int64], others: NDArray[np.int64], limit: float
) -> list[tuple[int, int, float]]:
    """Return (one, other, similarity) of all pairs that share a bucket and reach the limit, where the other is the
    earlier; in order."""
    candidates = (buckets[ones] @ buckets[others].T).tocoo()
    one, other = ones[candidates.row], others[candidates.col]
    sizes = np.diff(contents.indptr)
    fits = np.minimum(sizes[one], sizes[other]) >= limit * np.maximum(sizes[one], sizes[other])
    fits &= other < one
    one, other = one[fits], other[fits]
    share = np.empty(len(one))
    for start in range(0, len(one), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        common = np.diff(contents[one[part]].multiply(contents[other[part]]).indptr)
        share[part] = common / (sizes[one[part]] + sizes[other[part]] - common)
    near = np.flatnonzero(share >= limit)
    near = near[np.lexsort((other[near], one[near]))]
    return list(zip(one[near].tolist(), other[near].tolist(), share[near].tolist(), strict=True))


def gram_rows(texts: Sequence[str]) -> csr_matrix:
    """Return the sets of 5-grams of normal texts as rows of a sparse matrix; hashes to 31 bits are the columns."""
    parts = [np.empty(0, np.int32)]
    ends = [np.zeros(1, np.int64)]
    for start in range(0, len(texts), _AT_ONCE):
        hashes, inner = gram_hashes(texts[start : start + _AT_ONCE])
        parts.append((hashes >> np.uint64(33)).astype(np.int32))
        ends.append(inner[1:].astype(np.int64) + ends[-1][-1])
    columns = np.concatenate(parts)
    parts.clear()
    ones = np.ones(len(columns), np.int8)
    rows = csr_matrix((ones, columns, np.concatenate(ends)), shape=(len(texts), 2**31 - 1))
    rows.sum_duplicates()
    return rows


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the MinHash signatures of normal texts, (texts, 64).

    Raises:
        MissingExtraError: rensa is not installed.
    """
    need("rensa", "duplicates", "prompts")
    from rensa import RMinHash

    found = np.empty((len(texts), _SLOTS), np.uint32)
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        digests = RMinHash.digest_matrix_from_flat_token_hashes(*gram_hashes(part), _SLOTS, 1)
        flat = itertools.chain.from_iterable(digests.to_rows())
        found[start : start + len(part)] = np.fromiter(flat, np.uint32, len(part) * _SLOTS).reshape(-1, _SLOTS)
    return found


def gram_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hash all 5-grams of some texts.

    Returns:
        The hashes of one text after the other, and where those of each begin, with the end of all.
    """
    joined = _PAD.join(["", *texts, ""])  # the blanks between two texts are the margin of both
    codes: NDArray[Any] = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    hashes = np.zeros(len(codes) - GRAM + 1, np.uint64)
    for place in range(GRAM):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += codes[place : len(codes) - GRAM + 1 + place]
    hashes ^= hashes >> np.uint64(31)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(29)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + GRAM - 1
    return hashes, np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)


def band_keys(found: NDArray[np.uint32], texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return a key for each band of each signature, (bands, texts); texts of different `guard` share none."""
    guards = np.fromiter((zlib.crc32(" ".join(guard(text)).encode()) for text in texts), np.uint64, len(texts))
    keys = np.empty((_BANDS, len(texts)), np.uint64)
    rows = _SLOTS // _BANDS
    for band in range(_BANDS):
        key = guards + np.uint64(band)
        for slot in range(rows):
            key = key * np.uint64(0x9E3779B97F4A7C15) + found[:, band * rows + slot]
            key ^= key >> np.uint64(32)
        keys[band] = key
    return keys
