"""In which order the groups of several data sets are learned: a pure function of their sizes, the ratios and a seed.

Every process of a run computes the same plan and takes its part of each batch, so that the sequence of batches does
not depend on how many processes or workers there are. A plan goes on from any position without what came before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.errors import InputError

__all__ = ["Deck", "Plan", "Position", "epoch_order"]

_WINDOW = 256 << 20
"""Bytes of images that are mixed with one another where images can only be read in blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deck:
    """The groups of one data set, as far as their order depends on them."""

    pairs: NDArray[np.int64]
    """(groups,): compared pairs of each, at least 1."""
    starts: NDArray[np.int64]
    """(blocks + 1,): the number of the first group of each block, and the number of groups. A block is read at once."""
    sizes: NDArray[np.int64]
    """(blocks,): bytes of each block in memory, 0 if nothing need be read in blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a plan has been followed."""

    batches: int
    groups: tuple[int, ...]
    """Groups drawn from each data set, all epochs together."""
    pairs: tuple[int, ...]
    """Pairs drawn from each data set, which keep the ratio."""

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        return {"batches": self.batches, "groups": list(self.groups), "pairs": list(self.pairs)}


def epoch_order(deck: Deck, *, seed: int, source: int, epoch: int) -> NDArray[np.int64]:
    """(groups,): the numbers of all groups of a data set in the order of one epoch.

    The blocks are shuffled, then cut into windows of as many as fit into `_WINDOW` bytes, at least one, and the groups
    of a window are shuffled. So each block is read once in an epoch, and what is in memory is bounded. Data whose
    images are files of their own are one block of no bytes: every order of them is equally likely.
    """
    # Raw words of the bit generator, sorted: NumPy promises their sequence for all releases, but not permutation()'s.
    words = np.random.PCG64(np.random.SeedSequence([seed, source, epoch]))
    blocks = _shuffled(words, len(deck.sizes))
    order = np.concatenate([np.arange(deck.starts[b], deck.starts[b + 1]) for b in blocks])
    counts = np.diff(deck.starts)[blocks]
    ends = np.cumsum(counts)[_window_ends(deck.sizes[blocks])]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        order[start:end] = order[start:end][_shuffled(words, end - start)]
    return order


def _shuffled(words: np.random.PCG64, size: int) -> NDArray[np.int64]:
    return np.argsort(words.random_raw(size), kind="stable")


def _window_ends(sizes: NDArray[np.int64]) -> list[int]:
    """The number of the last block of each window."""
    ends, held = list[int](), 0
    for block, size in enumerate(sizes.tolist()):
        if block and held + size > _WINDOW:
            ends.append(block - 1)
            held = 0
        held += size
    return [*ends, len(sizes) - 1]


class Plan:
    """Which groups make up each batch.

    The next group is of the data set that is furthest behind its share of the pairs, so that the ratio is kept within
    one group at any moment. A batch ends with the group that fills it: pairs in groups of two fill it exactly.
    """

    def __init__(self, decks: Sequence[Deck], ratios: Sequence[float], *, pairs: int, seed: int) -> None:
        """
        Args:
            decks: one for each data set, none empty.
            ratios: share of the pairs of each, above 0; they need not sum to one.
            pairs: in a batch, at least.
            seed: 0 or more.

        Raises:
            InputError: a number is out of range.
        """
        for name, value, least in (("pairs", pairs, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"{name}: is {value}, expected at least {least}")
        for ratio in ratios:
            if not 0 < ratio < np.inf:
                raise InputError(f"ratio: is {ratio}, expected a number above 0; leave out a data set to skip it")
        self.decks, self.ratios, self.pairs, self.seed = tuple(decks), tuple(ratios), pairs, seed
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    @property
    def start(self) -> Position:
        """Before the first batch."""
        return Position(batches=0, groups=(0,) * len(self.decks), pairs=(0,) * len(self.decks))

    def follow(self, position: Position) -> Iterator[tuple[list[tuple[int, int]], Position]]:
        """Endless batches from there: (number of the data set, number of the group) of each, and the position after."""
        groups, pairs, batches = [*position.groups], [*position.pairs], position.batches
        while True:
            batch, held = list[tuple[int, int]](), 0
            while held < self.pairs:
                source = min(range(len(self.decks)), key=lambda n: pairs[n] / self.ratios[n])
                group = self._draw(source, groups[source])
                size = int(self.decks[source].pairs[group])
                batch.append((source, group))
                groups[source] += 1
                pairs[source] += size
                held += size
            batches += 1
            yield batch, Position(batches=batches, groups=tuple(groups), pairs=tuple(pairs))

    def _draw(self, source: int, drawn: int) -> int:
        epoch, place = divmod(drawn, len(self.decks[source].pairs))
        held = self._orders.get(source)
        if held is None or held[0] != epoch:
            order = epoch_order(self.decks[source], seed=self.seed, source=source, epoch=epoch)
            held = self._orders[source] = (epoch, order)
        return int(held[1][place])
