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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpskit.dataset.group import Group, compared_pairs, orders
from hpskit.dataset.reading import DataSet
from hpskit.errors import ImageError, InputError, RecordError
from hpskit.pixels import Preprocessing, to_tensor
from hpskit.training.data import OnBroken, PreferenceDataset, own_weight, ratings_of

__all__ = ["Batch", "DataLoader", "Decoder", "Example", "Sampler", "collate", "epoch_order", "validation_batches"]

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
    pixels: Tensor
    """(images, 3, S, S) float32, preprocessed."""
    ranks: NDArray[np.float64]
    """(judgements, images): distinct rows; 1 is best, NaN was not ranked."""
    votes: NDArray[np.float64]
    """(judgements,)"""
    weight: float
    ratings: NDArray[np.float64] | None = None
    """(images,), NaN was not rated; None if the loss needs none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Groups of one step. Indices of images count through the batch."""

    prompts: list[str]
    """(groups,)"""
    pixels: Tensor
    """(images, 3, S, S) float32, preprocessed; each image of a group once, whatever it was compared with."""
    group: Tensor
    """(images,) int64: the number of the group, in order."""
    first: Tensor
    """(pairs,) int64: the image of each compared pair that its group names first."""
    second: Tensor
    """(pairs,) int64: the other one."""
    share: Tensor
    """(pairs,) float32: share of the votes for the first, 0 to 1; a tie counts one half to each."""
    votes: Tensor
    """(pairs,) float32: number of people."""
    weight: Tensor
    """(groups,) float32: how much the group counts beside the others, see `own_weight`."""
    ranks: list[Tensor]
    """For each group (judgements, images) float32: its distinct judgements; 1 is best, NaN was not ranked."""
    judged: list[Tensor]
    """For each group (judgements,) float32: votes of each."""
    ratings: Tensor
    """(images,) float32: the higher the better; NaN was not rated, or the loss needs no ratings."""
    places: list[str]
    """(groups,): file and row of each."""
    dropped: int = 0
    """Groups that were left out because of a broken image."""

    @property
    def sizes(self) -> Tensor:
        """(groups,) int64: images of each."""
        return torch.bincount(self.group, minlength=len(self.prompts))

    def split(self, parts: int) -> list[Batch]:
        """Divide whole groups in order, about equally many in each part, so that a step needs the memory of one part.

        With fewer groups some parts are empty: processes that hold shards must all run the network equally often.
        """
        edges = [len(self.prompts) * part // parts for part in range(parts + 1)]
        return [self] if parts == 1 else [self._between(start, end) for start, end in itertools.pairwise(edges)]

    def _between(self, start: int, end: int) -> Batch:
        images = (self.group >= start) & (self.group < end)
        offset = int((self.group < start).sum())
        pairs = images[self.first]
        return replace(
            self,
            prompts=self.prompts[start:end],
            pixels=self.pixels[images],
            group=self.group[images] - start,
            first=self.first[pairs] - offset,
            second=self.second[pairs] - offset,
            share=self.share[pairs],
            votes=self.votes[pairs],
            weight=self.weight[start:end],
            ranks=self.ranks[start:end],
            judged=self.judged[start:end],
            ratings=self.ratings[images],
            places=self.places[start:end],
            dropped=0,
        )


def collate(examples: Sequence[Example], *, size: int, dropped: int = 0) -> Batch:
    """Make one batch of decoded groups, in order; without any it is an empty batch.

    Args:
        examples: each has a compared pair.
        size: height and width of the images.
        dropped: how many others were left out.
    """
    sizes = torch.tensor([len(example.pixels) for example in examples], dtype=torch.int64)
    starts = (sizes.cumsum(0) - sizes).tolist()
    pairs = [compare(example.ranks, example.votes) for example in examples]
    ratings = [np.full(len(e.pixels), np.nan) if e.ratings is None else e.ratings for e in examples]

    def column(parts: Sequence[NDArray[Any]], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(dtype) if parts else torch.empty(0, dtype=dtype)

    return Batch(
        prompts=[example.prompt for example in examples],
        pixels=torch.cat([example.pixels for example in examples]) if examples else torch.empty(0, 3, size, size),
        group=torch.repeat_interleave(torch.arange(len(examples)), sizes),
        first=column([first + start for (first, *_), start in zip(pairs, starts, strict=True)], torch.int64),
        second=column([second + start for (_, second, *_), start in zip(pairs, starts, strict=True)], torch.int64),
        share=column([share for *_, share, _ in pairs], torch.float32),
        votes=column([votes for *_, votes in pairs], torch.float32),
        weight=torch.tensor([example.weight for example in examples], dtype=torch.float32),
        ranks=[torch.from_numpy(example.ranks).float() for example in examples],
        judged=[torch.from_numpy(example.votes).float() for example in examples],
        ratings=column(ratings, torch.float32),
        places=[example.place for example in examples],
        dropped=dropped,
    )


def compare(ranks: NDArray[np.float64], votes: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
    """Return every pair of images that somebody compared, (pairs,) each: first, second, share of the first, votes.

    Args:
        ranks: (judgements, images), NaN was not ranked.
        votes: (judgements,).
    """
    first, second = np.triu_indices(ranks.shape[1], 1)
    ahead = ranks[:, second] - ranks[:, first]
    total = votes @ ~np.isnan(ahead)
    share = votes @ ((ahead > 0) + 0.5 * (ahead == 0)) / np.maximum(total, 1)
    seen = total > 0
    return first[seen], second[seen], share[seen], total[seen]


Reader = Callable[[], tuple[DataSet, Group]]
"""Reads a group and its data set."""


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
        return collate(examples, size=self.preprocessing.size, dropped=len(found) - len(examples))

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
                image = data.image(group, name)
                try:
                    pixels.append(self.preprocessing(to_tensor(image)))
                except ImageError as error:
                    inner = error.within(f"{group.place}: image {name!r}")
                    cure = "mend it and --resume, or --resume --on-broken drop to do without its group"
                    raise RecordError(inner.place, inner.found, expected=inner.expected, cure=cure) from error
                finally:
                    if not isinstance(image, Path):
                        image.close()
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


class Blocks(Protocol):
    """The part of a data set that its order depends on; a `PreferenceDataset` has it."""

    @property
    def pairs(self) -> NDArray[np.int64]:
        """(groups,): compared pairs of each, at least 1."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """(blocks + 1,): number of the first group of each block, and the number of groups. A block is read at once."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(blocks,): bytes of each block in memory, 0 if nothing need be read in blocks."""


def epoch_order(data: Blocks, *, seed: int, source: int, epoch: int) -> NDArray[np.int64]:
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


class Sampler:
    """Decides which groups make up each batch: a pure function of the data sets, the ratios and a seed.

    The next group is of the data set that is furthest behind its share of the pairs, so that the ratio is kept within
    one group at any moment. A batch ends with the group that fills it: pairs in groups of two fill it exactly. Every
    process of a run draws the same batches and takes its part of each.
    """

    def __init__(self, datasets: Sequence[Blocks], ratios: Sequence[float], *, pairs: int, seed: int) -> None:
        """
        Args:
            datasets: none empty.
            ratios: share of the pairs of each, above 0; they need not sum to one.
            pairs: in a batch, at least.
            seed: 0 or more.
        """
        self.datasets, self.ratios, self.pairs, self.seed = tuple(datasets), tuple(ratios), pairs, seed
        self.state: dict[str, list[int]] = {"groups": [0] * len(ratios), "pairs": [0] * len(ratios)}
        """Groups and pairs drawn from each data set, all epochs together; JSON."""
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def __iter__(self) -> Iterator[tuple[list[tuple[int, int]], dict[str, list[int]]]]:
        """Give endless batches from `state` on: (number of the data set, number of the group) of each, and the state
        after the batch."""
        groups, pairs = [*self.state["groups"]], [*self.state["pairs"]]
        while True:
            batch, held = list[tuple[int, int]](), 0
            while held < self.pairs:
                source = min(range(len(self.datasets)), key=lambda n: pairs[n] / self.ratios[n])
                group = self._draw(source, groups[source])
                size = int(self.datasets[source].pairs[group])
                batch.append((source, group))
                groups[source] += 1
                pairs[source] += size
                held += size
            yield batch, {"groups": [*groups], "pairs": [*pairs]}

    def _draw(self, source: int, drawn: int) -> int:
        epoch, place = divmod(drawn, len(self.datasets[source].pairs))
        held = self._orders.get(source)
        if held is None or held[0] != epoch:
            order = epoch_order(self.datasets[source], seed=self.seed, source=source, epoch=epoch)
            held = self._orders[source] = (epoch, order)
        return int(held[1][place])


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
        self.datasets = tuple(datasets)
        self.sampler = Sampler(datasets, shares, pairs=pairs, seed=seed)
        self._decoder = decoder

    def __iter__(self) -> Iterator[Batch]:
        """Give this process's part of every batch.

        Raises:
            RecordError: an image cannot be used (with `on_broken="fail"`); file and row are named.
        """
        states = deque[dict[str, list[int]]]()

        def planned() -> Iterator[list[Reader]]:
            for batch, state in self.sampler:
                states.append(state)
                yield [partial(self._read, *entry) for entry in batch[self._decoder.rank :: self._decoder.world]]

        for batch in self._decoder.batches(planned()):
            self.sampler.state = states.popleft()
            yield batch

    def _read(self, source: int, number: int) -> tuple[DataSet, Group]:
        dataset = self.datasets[source]
        return dataset.data, dataset[number]

    def state_dict(self) -> dict[str, Any]:
        """Return where the last batch that was handed out ends; JSON."""
        return dict(self.sampler.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the batch after which `state_dict` was asked for, in whatever process.

        Raises:
            InputError: it is the position in other data sets.
        """
        if not all(len(state.get(name, ())) == len(self.datasets) for name in ("groups", "pairs")):
            raise InputError("position", f"is {state}", expected=f"groups and pairs of {len(self.datasets)} data sets")
        self.sampler.state = {name: [*state[name]] for name in ("groups", "pairs")}


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
