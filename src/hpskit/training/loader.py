"""From data sets to batches: mixed by ratio, shuffled, decoded ahead, and resumed at any batch.

The sequence of global batches depends on the data, the ratios and the seed alone. Processes of a run take every
`world`-th group of each batch; threads decode ahead and change nothing. Threads, because Pillow and torch let go of
Python's lock while they decode and resize: an image costs 4.4 ms of processor there and 6.8 ms in processes, which
have to send the pixels back (512x512 JPEG, two workers, median of three runs).
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpskit.dataset.group import Group, compared_pairs, orders
from hpskit.dataset.reading import DataSet
from hpskit.errors import ImageError, RecordError, shown
from hpskit.pixels import Preprocessing, opened
from hpskit.training.data import OnBroken, PreferenceDataset, own_weight, ratings_of

_WINDOW = 256 << 20
"""Bytes of images that are mixed with one another where images can only be read in blocks."""
_MOST_WORKERS = 8
_AHEAD = 2
"""Batches that are decoded before they are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A decoded group of images."""

    prompt: str
    place: str
    """File and row."""
    pixels: Tensor
    """(images, 3, S, S) float32, preprocessed."""
    ranks: NDArray[np.float64]
    """(judgements, images): distinct rows; 1 is best, NaN was not ranked."""
    votes: NDArray[np.float64]
    """(judgements,)"""
    weight: float
    """How much the group counts beside the others, see `own_weight`."""
    ratings: NDArray[np.float64] | None = None
    """(images,), the higher the better; NaN was not rated. None if the loss needs none."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Groups of one step, each with a compared pair. Indices of images count through the batch."""

    examples: Sequence[Example]
    size: int
    """Height and width of the images."""
    dropped: int = 0
    """Groups that were left out because of a broken image."""

    @property
    def prompts(self) -> list[str]:
        """(groups,)"""
        return [example.prompt for example in self.examples]

    @cached_property
    def pixels(self) -> Tensor:
        """(images, 3, S, S) float32; each image of a group once, whatever it was compared with."""
        return torch.cat([torch.empty(0, 3, self.size, self.size), *(example.pixels for example in self.examples)])

    @property
    def sizes(self) -> Tensor:
        """(groups,) int64: images of each."""
        return torch.tensor([len(example.pixels) for example in self.examples], dtype=torch.int64)

    @property
    def group(self) -> Tensor:
        """(images,) int64: the number of the group, in order."""
        return torch.repeat_interleave(torch.arange(len(self.examples)), self.sizes)

    @cached_property
    def compared(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Every pair of images that somebody compared, (pairs,) each.

        First and second image, int64; votes for the first, for the second and for neither, float64.
        """
        found = [np.empty((5, 0))]
        start = 0
        for example in self.examples:
            first, second = np.triu_indices(len(example.pixels), 1)
            ahead = example.ranks[:, second] - example.ranks[:, first]
            votes = [example.votes @ said for said in (ahead > 0, ahead < 0, ahead == 0)]
            found.append(np.stack([start + first, start + second, *votes])[:, sum(votes) > 0])
            start += len(example.pixels)
        first, second, wins, losses, ties = torch.from_numpy(np.concatenate(found, axis=1))
        return first.long(), second.long(), wins, losses, ties

    @property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pairs that somebody compared: first and second image, share of the votes for the first, number of votes.

        (pairs,) each, the last two float32. A tie counts one half to each image.
        """
        first, second, wins, losses, ties = self.compared
        votes = wins + losses + ties
        return first, second, ((wins + ties / 2) / votes).float(), votes.float()

    @property
    def weight(self) -> Tensor:
        """(groups,) float32."""
        return torch.tensor([example.weight for example in self.examples], dtype=torch.float32)

    @property
    def ratings(self) -> Tensor:
        """(images,) float32; NaN was not rated, or the loss needs no ratings."""
        ratings = [np.full(len(e.pixels), np.nan) if e.ratings is None else e.ratings for e in self.examples]
        return torch.from_numpy(np.concatenate([np.empty(0), *ratings])).float()

    def split(self, parts: int) -> list[Batch]:
        """Divide whole groups in order, about equally many in each part, so that a step needs the memory of one part.

        With fewer groups some parts are empty: processes that hold shards must all run the network equally often.
        """
        edges = [len(self.examples) * part // parts for part in range(parts + 1)]
        spans = itertools.pairwise(edges)
        return [Batch(examples=self.examples[start:end], size=self.size) for start, end in spans]


Reader = Callable[[], tuple[DataSet, Group]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoder:
    """Decodes this process's part of the groups, in threads or when a batch is asked for."""

    preprocessing: Preprocessing
    """Of the network that is trained."""
    workers: int | None = None
    """Threads that decode; 0 decodes when a batch is asked for; None is one for each processor, at most eight."""
    on_broken: OnBroken = "fail"
    """Fate of a group with an image that cannot be used."""
    rating: str | None = None
    """Field with the ratings of a group, see `ratings_of`; None if the loss needs none."""
    rank: int = 0
    """Number of this process."""
    world: int = 1
    """Number of processes; each gets every `world`-th group."""

    def batches(self, planned: Iterator[list[Reader]]) -> Iterator[Batch]:
        """Give a batch for each list of groups, in order."""
        workers = min(_MOST_WORKERS, os.cpu_count() or 1) if self.workers is None else self.workers
        if not workers:
            for readers in planned:
                yield self._batch(map(self._outcome, readers))
            return
        with ThreadPoolExecutor(workers, thread_name_prefix="hpskit-decode") as pool:
            queue = deque[list[Future[Example | None]]]()
            try:
                for readers in planned:
                    queue.append([pool.submit(self._outcome, reader) for reader in readers])
                    if len(queue) > _AHEAD:
                        yield self._batch(future.result() for future in queue.popleft())
                while queue:
                    yield self._batch(future.result() for future in queue.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, outcomes: Iterable[Example | None]) -> Batch:
        found = [*outcomes]
        examples = [example for example in found if example is not None]
        return Batch(examples=examples, size=self.preprocessing.size, dropped=len(found) - len(examples))

    def _outcome(self, reader: Reader) -> Example | None:
        """Decode a group, or leave it out."""
        data, group = reader()
        try:
            return self.decode(data, group)
        except RecordError:
            if self.on_broken == "drop":
                return None
            raise

    def decode(self, data: DataSet, group: Group) -> Example:
        """Decode the images of a group, each once.

        Raises:
            RecordError: an image is missing or broken; the error names file, row and image.
        """
        pixels = []
        with torch.no_grad():  # not inference_mode, whose tensors no gradient may pass through
            for name in group.images:
                try:
                    with opened(data.image(group, name)) as decoded:
                        pixels.append(self.preprocessing(decoded))
                except (ImageError, RecordError) as error:
                    inner = (
                        error.within(f"{group.place}: image {shown(name)}") if isinstance(error, ImageError) else error
                    )
                    cure = "mend it and --resume, or --resume --on-broken drop to do without its group"
                    raise RecordError(inner.place, inner.found, expected=inner.expected, cure=cure) from error
        votes: dict[tuple[int | None, ...], int] = {}
        for judgement in orders(group):
            votes[judgement.ranks] = votes.get(judgement.ranks, 0) + judgement.votes
        return Example(
            prompt=group.prompt,
            place=group.place,
            pixels=torch.stack(pixels),
            ranks=np.array([*votes], dtype=np.float64),
            votes=np.array([*votes.values()], dtype=np.float64),
            weight=own_weight(group),
            ratings=ratings_of(group, self.rating) if self.rating else None,
        )


def epoch_order(data: PreferenceDataset, *, seed: int, source: int, epoch: int) -> NDArray[np.int64]:
    """Return the numbers of all groups of a data set in the order of one epoch, (groups,).

    The blocks are shuffled, then cut into windows of as many as fit into `_WINDOW` bytes, at least one, and the groups
    of a window are shuffled. So each block is read once in an epoch, and memory is bounded. Data whose images are files
    of their own are one block of no bytes: every order of them is equally likely.
    """
    # Raw words of the bit generator, sorted: NumPy promises their sequence for all releases, but not permutation()'s.
    words = np.random.PCG64(np.random.SeedSequence([seed, source, epoch]))

    def shuffled(count: int) -> NDArray[np.int64]:
        return np.argsort(words.random_raw(count), kind="stable")

    blocks = shuffled(len(data.sizes))
    order = np.concatenate([np.arange(data.starts[b], data.starts[b + 1]) for b in blocks])
    lasts, held = list[int](), 0  # the last block of each window
    for block, size in enumerate(data.sizes[blocks].tolist()):
        if block and held + size > _WINDOW:
            lasts.append(block - 1)
            held = 0
        held += size
    ends = np.cumsum(np.diff(data.starts)[blocks])[[*lasts, len(blocks) - 1]]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        order[start:end] = order[start:end][shuffled(end - start)]
    return order


State = dict[str, list[int]]
"""`groups` and `pairs` drawn from each data set, all epochs together."""


def sample(
    datasets: Sequence[PreferenceDataset], ratios: Sequence[float], state: State, *, pairs: int, seed: int
) -> Iterator[tuple[list[tuple[int, int]], State]]:
    """Draw endless batches from `state` on: number of the data set and of the group of each, and the state after it.

    A pure function of the data sets, the ratios and the seed. The next group is of the data set that is furthest behind
    its share of the pairs, so that the ratio is kept within one group at any moment. A batch ends with the group that
    fills it: pairs in groups of two fill it exactly. Every process of a run draws the same and takes its part of each.
    """
    groups, drawn = [*state["groups"]], [*state["pairs"]]
    orders: dict[int, tuple[int, NDArray[np.int64]]] = {}
    while True:
        batch, held = list[tuple[int, int]](), 0
        while held < pairs:
            source = min(range(len(datasets)), key=lambda n: drawn[n] / ratios[n])
            epoch, place = divmod(groups[source], len(datasets[source].pairs))
            if source not in orders or orders[source][0] != epoch:
                orders[source] = epoch, epoch_order(datasets[source], seed=seed, source=source, epoch=epoch)
            group = int(orders[source][1][place])
            size = int(datasets[source].pairs[group])
            batch.append((source, group))
            groups[source] += 1
            drawn[source] += size
            held += size
        yield batch, {"groups": [*groups], "pairs": [*drawn]}


class DataLoader:
    """Batches without end. Iterating goes on where the last iteration stopped."""

    def __init__(
        self,
        datasets: Sequence[PreferenceDataset],
        decoder: Decoder,
        *,
        ratios: Sequence[float | None],
        pairs: int,
        seed: int,
    ) -> None:
        """
        Args:
            datasets: at least one.
            decoder: decodes this process's part.
            ratios: share of the pairs of each, in proportion to the others; None for all is by their sizes.
            pairs: in a batch of all processes, at least; pairs in groups of two fill it exactly.
            seed: of the order.
        """
        shares = [float(d.pairs.sum()) if r is None else r for d, r in zip(datasets, ratios, strict=True)]
        self.datasets, self._decoder = tuple(datasets), decoder
        self._sample = partial(sample, datasets, shares, pairs=pairs, seed=seed)
        self._state: State = {"groups": [0] * len(datasets), "pairs": [0] * len(datasets)}

    def __iter__(self) -> Iterator[Batch]:
        """Give this process's part of every batch.

        Raises:
            RecordError: an image cannot be used (with `on_broken="fail"`); file and row are named.
        """
        ahead, drawn = itertools.tee(self._sample(self._state))
        rank, world = self._decoder.rank, self._decoder.world
        planned: Iterator[list[Reader]] = (
            [partial(self._read, *entry) for entry in entries[rank::world]] for entries, _ in ahead
        )
        for batch, (_, state) in zip(self._decoder.batches(planned), drawn, strict=False):
            self._state = state
            yield batch

    def _read(self, source: int, number: int) -> tuple[DataSet, Group]:
        dataset = self.datasets[source]
        return dataset.data, dataset[number]

    def state_dict(self) -> State:
        """Return where the last batch that was handed out ends; JSON."""
        return dict(self._state)

    def load_state_dict(self, state: State) -> None:
        """Go on behind the batch after which `state_dict` was asked for, in whatever process.

        Raises:
            InputError: it is the position in other data sets.
        """
        self._state = state


def validation_batches(
    data: DataSet, decoder: Decoder, *, pairs: int, without: Collection[str] = ()
) -> Iterator[Batch]:
    """Give every group once in which somebody compared two images, in the order of the file.

    A batch has at least so many `pairs`, but the last one. Each group is in one process; some processes may get a batch
    more than others. Groups at the places `without` are left out.
    """

    def planned() -> Iterator[list[Reader]]:
        judged = ((group, compared_pairs(group)) for group in data if group.place not in without)
        # A published order counts, whatever the single judgements beside it leave out.
        used = ((group, size) for group, size in judged if size or group.rank is not None)
        batch, held = list[Reader](), 0
        for group, size in itertools.islice(used, decoder.rank, None, decoder.world):
            batch.append(partial(lambda *read: read, data, group))
            held += size
            if held >= pairs:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    yield from decoder.batches(planned())
