"""From data sets to batches: mixed by ratio, shuffled, decoded ahead, and resumed at any of them.

The sequence of global batches depends on the data, the ratios and the seed alone. Processes of a run take every
`world`-th group of each batch; threads decode ahead and change nothing. Threads, because Pillow and torch let go of
Python's lock while they decode and resize: an image costs 4.4 ms of processor there and 6.8 ms in processes, which
have to send the pixels back (512x512 JPEG, two workers, median of three runs).
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hpskit.dataset.group import Group, compared_pairs
from hpskit.dataset.reading import DataSet
from hpskit.errors import BrokenImageError, InputError, RecordError
from hpskit.pixels import Preprocessing
from hpskit.training.batch import Batch, Decoded, collate, decode
from hpskit.training.catalogue import Catalogue
from hpskit.training.order import Plan, Position

__all__ = ["Batch", "Loader", "OnBroken", "Source", "Stream", "batches"]

OnBroken = Literal["fail", "drop"]
"""A group with an image that cannot be used ends the training, or is left out and counted."""
_Reader: TypeAlias = Callable[[], tuple[DataSet, Group]]

_MOST_WORKERS = 8
_AHEAD = 2
"""Batches that are decoded before they are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A data set, and how much of the training it makes up."""

    data: DataSet
    ratio: float | None = None
    """Share of the pairs, in proportion to the ratios of the others. None for all: as if they were one data set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loader:
    """How a process decodes its part of the groups, in threads or when a batch is asked for."""

    preprocessing: Preprocessing
    """Of the network that is trained."""
    workers: int | None = None
    """Threads that decode; 0 decodes when a batch is asked for; None is one for each processor, at most eight."""
    on_broken: OnBroken = "fail"
    """What becomes of a group with an image that cannot be used."""
    rating: str | None = None
    """Field with the ratings of a group, see `batch.ratings_of`; None if they are not asked for."""
    rank: int = 0
    """Number of this process."""
    world: int = 1
    """How many processes there are; each gets every `world`-th group."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise InputError(f"workers: is {self.workers}, expected 0 or more threads")
        if not 0 <= self.rank < self.world:
            raise InputError(f"rank: is {self.rank} of {self.world} processes, expected 0 to {self.world - 1}")

    def batches(self, planned: Iterator[list[_Reader]]) -> Iterator[Batch]:
        """A batch for each list of groups, in order."""
        workers = min(_MOST_WORKERS, os.cpu_count() or 1) if self.workers is None else self.workers
        if not workers:
            for readers in planned:
                yield self._batch(map(self._decoded, readers))
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="hpskit-decode") as pool:
            queue = deque[list[Future[Decoded | str]]]()
            try:
                for readers in planned:
                    queue.append([pool.submit(self._decoded, reader) for reader in readers])
                    if len(queue) > _AHEAD:
                        yield self._batch(future.result() for future in queue.popleft())
                while queue:
                    yield self._batch(future.result() for future in queue.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _decoded(self, reader: _Reader) -> Decoded | str:
        """A group, or why it was left out."""
        data, group = reader()
        try:
            return decode(data, group, self.preprocessing, self.rating)
        except RecordError as error:
            if self.on_broken == "drop":
                return str(error)
            if isinstance(error, BrokenImageError):
                error.args = (f"{error}, then --resume goes on; --resume --on-broken drop does without its group",)
            raise

    def _batch(self, outcomes: Iterable[Decoded | str]) -> Batch:
        decoded, broken = list[Decoded](), list[str]()
        for outcome in outcomes:
            if isinstance(outcome, str):
                broken.append(outcome)
            else:
                decoded.append(outcome)
        return collate(decoded, broken, size=self.preprocessing.size)


class Stream:
    """Batches without end. Iterating goes on where the last iteration stopped."""

    def __init__(
        self,
        sources: Sequence[Source],
        loader: Loader,
        *,
        pairs: int,
        seed: int,
        without: Collection[str] = (),
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """
        Args:
            sources: at least one.
            loader: decodes this process's part.
            pairs: in a batch of all processes together, at least; pairs in groups of two fill it exactly.
            seed: of the order.
            without: `place` of groups to leave out, for example of those that `check_leaks` found.
            progress: is told how many groups of a data set have been read at the start.

        Raises:
            InputError: a number is out of range, or a data set has no compared pair.
            RecordError: a row of a data set is broken, or has no ratings.
        """
        if not sources:
            raise InputError("data: is empty, expected at least one data set")
        given = [source.ratio for source in sources if source.ratio is not None]
        if given and len(given) < len(sources):
            raise InputError(f"ratio: given for {len(given)} of {len(sources)} data sets; give it for all or for none")
        self._catalogues = [
            Catalogue(source.data, without=without, rating=loader.rating, progress=progress) for source in sources
        ]
        sizes = [float(catalogue.deck.pairs.sum()) for catalogue in self._catalogues]
        self._plan = Plan([c.deck for c in self._catalogues], given or sizes, pairs=pairs, seed=seed)
        self._position = self._plan.start
        self._loader = loader

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 over prompts, names of images and judgements, of each data set."""
        return tuple(catalogue.digest for catalogue in self._catalogues)

    @property
    def pairs(self) -> tuple[int, ...]:
        """Compared pairs in each data set."""
        return tuple(int(catalogue.deck.pairs.sum()) for catalogue in self._catalogues)

    @property
    def groups(self) -> tuple[int, ...]:
        """Groups with a compared pair in each data set."""
        return tuple(len(catalogue) for catalogue in self._catalogues)

    def __iter__(self) -> Iterator[Batch]:
        """This process's part of every batch.

        Raises:
            RecordError: an image cannot be used (with `on_broken="fail"`); file and row are named.
            InputError: a batch has fewer groups than there are processes.
        """
        positions = deque[Position]()

        def groups() -> Iterator[list[_Reader]]:
            for drawn, position in self._plan.follow(self._position):
                positions.append(position)
                yield [self._reader(*entry) for entry in drawn[self._loader.rank :: self._loader.world]]

        for batch in self._loader.batches(groups()):
            self._position = positions.popleft()
            yield batch

    def _reader(self, source: int, number: int) -> _Reader:
        catalogue = self._catalogues[source]
        return lambda: (catalogue.data, catalogue.group(number))

    def position(self) -> dict[str, Any]:
        """Where the batch that was handed out last ends, for `restore`; JSON."""
        return {**self._position.to_json(), **self._identity()}

    def restore(self, position: dict[str, Any]) -> None:
        """Go on behind the batch after which `position` was asked for, in whatever process.

        Raises:
            InputError: it is a position in other data, or with another seed, batch or ratio.
        """
        for name, value in self._identity().items():
            if position.get(name) != value:
                cure = "resume with what the run was started with, or start a new one"
                raise InputError(f"position: {name} was {position.get(name)}, is {value}; {cure}")
        batches, groups, pairs = (position.get(name) for name in ("batches", "groups", "pairs"))
        if not (type(batches) is int and isinstance(groups, list) and isinstance(pairs, list)):
            raise InputError(f"position: is {position}, expected batches, and groups and pairs of each data set")
        self._position = Position(batches=batches, groups=tuple(groups), pairs=tuple(pairs))

    def _identity(self) -> dict[str, Any]:
        return {
            "data": list(self.digests),
            "ratios": list(self._plan.ratios),
            "seed": self._plan.seed,
            "batch": self._plan.pairs,
        }


def batches(data: DataSet, loader: Loader, *, pairs: int, without: Collection[str] = ()) -> Iterator[Batch]:
    """Every group once in which somebody compared two images, in the order of the file: for validation.

    A batch has at least so many `pairs`, but the last one. What all processes get is each group once; some may get a
    batch more than others. Groups at the places `without` are left out.
    """
    judged = ((group, compared_pairs(group)) for group in data if group.place not in without)
    # A published order counts, whatever the single judgements beside it leave out.
    used = ((group, size) for group, size in judged if size or group.rank is not None)
    mine = itertools.islice(used, loader.rank, None, loader.world)
    yield from loader.batches(_filled(data, mine, pairs))


def _filled(data: DataSet, groups: Iterable[tuple[Group, int]], pairs: int) -> Iterator[list[_Reader]]:
    batch, held = list[_Reader](), 0
    for group, size in groups:
        batch.append(functools.partial(_known, data, group))
        held += size
        if held >= pairs:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _known(data: DataSet, group: Group) -> tuple[DataSet, Group]:
    return data, group
